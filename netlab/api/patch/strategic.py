"""Strategic merge patch: a merge patch that knows which lists are merged by which key.

The directives: `$patch: replace|delete` in a map or an item of a list, `$retainKeys`, `$deleteFromPrimitiveList/FIELD`,
`$setElementOrder/FIELD`. Rules, order and error texts are those of apimachinery/pkg/util/strategicpatch/patch.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from netlab.api.meta import Object
from netlab.api.schema import Field, Struct, field_struct
from netlab.errors import ApiError

DIRECTIVE, RETAIN = "$patch", "$retainKeys"
DELETE_FROM, ORDER = "$deleteFromPrimitiveList/", "$setElementOrder/"
_Key: TypeAlias = Callable[[Any], Any]


def apply(target: Object, patch: Object, struct: Struct | None) -> Object:
    """Return the target with the patch merged in.

    Args:
        target: the object as it is.
        patch: part of an object, with directives.
        struct: the object's schema; without one, lists are replaced as in a JSON merge patch.

    Raises:
        ApiError: 400 if the patch is malformed, 422 if it does not fit.
    """
    if not isinstance(patch, dict):
        raise _bad("invalid JSON document")
    return _merge_map(target, patch, struct)


def _bad(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def _unfit(message: str) -> ApiError:
    return ApiError(422, "Invalid", "the server rejected our request due to an error in our request",
                    details={"causes": [{"field": "patch", "message": message}]})


def _merge_map(original: Object, patch: Object, struct: Struct | None) -> Object:
    if DIRECTIVE in patch:
        if patch[DIRECTIVE] == "replace":
            replaced: Object = _clean({key: value for key, value in patch.items() if key != DIRECTIVE})
            return replaced
        if patch[DIRECTIVE] == "delete":
            return {}
        raise _unfit(f"unknown patch type: {patch[DIRECTIVE]} in map: {_go(patch)}")
    merged, todo = dict(original), dict(patch)
    if RETAIN in todo:
        merged = _retain(merged, todo)
    for key in [key for key in todo if key.startswith(ORDER)]:
        _merge_ordered(merged, todo, key, struct)
    for key, value in todo.items():
        if key.startswith(DELETE_FROM):
            _delete_from(merged, key, value)
            continue
        if value is None:
            merged.pop(key, None)
            continue
        before, field = merged.get(key), struct.fields.get(key) if struct is not None else None
        if isinstance(before, dict) and isinstance(value, dict):
            replace = field is not None and "replace" in field.patch_strategy
            merged[key] = _clean(value) if replace else _merge_map(before, value, _inner(field))
        elif isinstance(before, list) and isinstance(value, list):
            merged[key] = _merge_list(before, value, field)
        else:
            merged[key] = _clean(value)
    return merged


def _inner(field: Field | None) -> Struct | None:
    """Return the schema of a map that is a field's value; the values of a free map have none of their own here."""
    return field_struct(field) if field is not None and field.type.code == "struct" else None


def _retain(original: Object, patch: Object) -> Object:
    """Drop what `$retainKeys` does not name; takes the directive out of the patch."""
    keys = patch.pop(RETAIN)
    if not isinstance(keys, list):
        raise _bad("invalid patch format of retainKeys")
    for key, value in patch.items():
        if value is not None and key not in keys and not key.startswith((DELETE_FROM, ORDER)):
            raise _bad("invalid patch format of retainKeys")
    return {key: value for key, value in original.items() if key in keys}


def _delete_from(merged: Object, key: str, unwanted: Any) -> None:
    field = key.removeprefix(DELETE_FROM)
    before = merged.get(field)
    if not isinstance(unwanted, list) or not field:
        raise _bad("invalid patch format of primitive list")
    if isinstance(before, list):
        doomed = set(map(_hashable, unwanted))
        merged[field] = [item for item in before if _hashable(item) not in doomed]


def _merge_list(original: list[Any], patch: list[Any], field: Field | None) -> list[Any]:
    if field is None or "merge" not in field.patch_strategy:
        return list(_clean(patch))
    if not original and not patch:
        return original
    maps = _holds_maps(original, patch)
    if not maps:
        return _in_order(list(dict.fromkeys([*original, *patch])), patch, original, lambda item: item)
    if not field.merge_key:
        raise _unfit(f"cannot merge lists without merge key for {field.name}")
    key = _key_of(field.merge_key)
    wanted, doomed, replace = [], set(), False
    for item in patch:
        match item.get(DIRECTIVE):
            case None:
                wanted.append(item)
            case "delete":
                doomed.add(_hashable(key(item)))
            case "replace":
                replace = True
            case "merge":
                raise _unfit("merging lists cannot yet be specified in the patch")
            case other:
                raise _unfit(f"unknown patch type: {other} in map: {_go(item)}")
    if replace:
        return list(_clean(wanted))
    before = [item for item in original if _hashable(item.get(field.merge_key)) not in doomed]
    struct, places = field_struct(field), _ranks([item.get(field.merge_key) for item in before])
    for item in wanted:
        at = places.setdefault(_hashable(key(item)), len(before))
        if at < len(before):
            before[at] = _merge_map(before[at], item, struct)
        else:
            before.append(_clean(item))
    return _in_order(before, [key(item) for item in wanted], [key(item) for item in original], key)


def _merge_ordered(merged: Object, todo: Object, directive: str, struct: Struct | None) -> None:
    """Merge the list that a `$setElementOrder` is about, and put it in that order; both leave `todo`."""
    order, name = todo.pop(directive), directive.removeprefix(ORDER)
    if not isinstance(order, list):
        raise _bad("invalid patch format of setElementOrder list")
    field = struct.fields.get(name) if struct is not None else None
    before, changes = merged.get(name), todo.get(name)
    for value in (before, changes):
        if value is not None and not isinstance(value, list):
            raise _bad("invalid patch format of setElementOrder list")
    if changes is None and name in todo:  # the list is deleted: let the null do it
        return
    key: _Key = _key_of(field.merge_key) if field is not None and field.merge_key else lambda item: item
    wanted = [key(item) for item in order]
    _check_order(changes or [], order, wanted, key)
    todo.pop(name, None)
    if before is None and changes is None:
        return
    result: list[Any]
    server = [key(item) for item in before or ()]
    if before is not None and changes is not None:
        result = _merge_list(before, changes, field)
        server = _as_left(server, changes, key)
    else:
        result = before if before is not None else list(_clean(changes))
    merged[name] = _in_order(result, wanted, server, key)


def _as_left(server: list[Any], changes: list[Any], key: _Key) -> list[Any]:
    """Return the order that upstream goes by after it merged a list in place.

    Its deletions make room in the old list, and what is new fills that room: so a new item counts as one of the old
    that stood last, as far as there is room.
    """
    items = [item for item in changes if isinstance(item, dict)]
    gone = {_hashable(key(item)) for item in items if item.get(DIRECTIVE) == "delete"}
    left = [name for name in server if _hashable(name) not in gone]
    known = set(map(_hashable, left))
    new = [name for item in items if DIRECTIVE not in item and _hashable(name := key(item)) not in known]
    return (left + new)[:len(server)]


def _check_order(changes: list[Any], order: list[Any], wanted: list[Any], key: _Key) -> None:
    """A list in the patch must be a part of its `$setElementOrder`, in the same order."""
    at = 0
    for item in changes:
        if isinstance(item, dict) and item.get(DIRECTIVE) == "delete":
            continue
        name = key(item)
        while at < len(wanted) and wanted[at] != name:
            at += 1
        if at == len(wanted):
            raise _unfit(f"The order in patch list:\n{_go(changes)}\n doesn't match $setElementOrder list:\n"
                         f"{_go(order)}\n")
        at += 1


def _in_order(items: Sequence[Any], wanted: Sequence[Any], server: Sequence[Any], key: _Key) -> list[Any]:
    """Order a merged list: what the patch names as the patch says, the rest as it was, each before what it preceded.

    Args:
        items: the merged list.
        wanted: keys in the order of the patch.
        server: keys in the order of the list before.
        key: tells the key of an item.
    """
    rank = _ranks(wanted)
    place = _ranks(server)
    mine = sorted((item for item in items if _hashable(key(item)) in rank), key=lambda item: rank[_hashable(key(item))])
    others = sorted((item for item in items if _hashable(key(item)) not in rank),
                    key=lambda item: place.get(_hashable(key(item)), len(place)))
    result: list[Any] = []
    left = 0
    for item in mine:
        at = place.get(_hashable(key(item)))
        while left < len(others) and at is not None and place.get(_hashable(key(others[left])), at) < at:
            result.append(others[left])
            left += 1
        result.append(item)
    return result + others[left:]


def _ranks(keys: Sequence[Any]) -> dict[Any, int]:
    ranks: dict[Any, int] = {}
    for at, key in enumerate(keys):
        ranks.setdefault(_hashable(key), at)
    return ranks


def _hashable(key: Any) -> Any:
    return repr(key) if isinstance(key, (dict, list)) else (type(key) is bool, key)


def _key_of(merge_key: str) -> _Key:
    def key(item: Any) -> Any:
        if not isinstance(item, dict) or merge_key not in item:
            raise _unfit(f"map: {_go(item)} does not contain declared merge key: {merge_key}")
        return item[merge_key]

    return key


def _holds_maps(original: list[Any], patch: list[Any]) -> bool:
    """Tell whether the items are maps. Lists of lists, and mixtures, can't be merged."""
    kinds = {type(item) if isinstance(item, (dict, list)) else str for item in (*original, *patch)}
    if list in kinds:
        raise _unfit("lists of lists are not supported")
    if len(kinds) > 1:
        raise _unfit("list element types are not identical")
    return dict in kinds


def shown(patch: Object) -> str:
    """Return a patch as Go prints it where what it makes is no object of the kind."""
    return _go(patch)


def _go(value: Any) -> str:
    """Return a value as Go's %v prints it in the error texts."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_go(inner)}" for key, inner in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _clean(value: Any) -> Any:
    """Return a value of the patch that has nothing to merge with, without directives and nulls."""
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items()
                if inner is not None and key != DIRECTIVE and key != RETAIN and not key.startswith((DELETE_FROM, ORDER))
                and not (isinstance(inner, dict) and inner.get(DIRECTIVE) == "delete")}
    if isinstance(value, list):
        return [_clean(item) for item in value if not (isinstance(item, dict) and DIRECTIVE in item)]
    return value
