"""JSON patch, RFC 6902, with the limits and error texts of the API server (evanphx/json-patch v4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from netlab.errors import ApiError

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 << 20


class _DoesNotApplyError(Exception):
    """An operation does not fit the document; the text says why."""


def apply(target: Any, operations: Any) -> Any:
    """Return the target after all operations, or none of them.

    Raises:
        ApiError: 400 if `operations` is no JSON patch, 413 if it has too many, 422 if one does not apply.
    """
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise ApiError(400, "BadRequest", "error decoding patch: json: cannot unmarshal object into Go value of type "
                                          "jsonpatch.Patch")
    if len(operations) > MAX_OPERATIONS:
        raise ApiError(413, "RequestEntityTooLarge", "Request entity too large: The allowed maximum operations in a "
                       f"JSON patch is {MAX_OPERATIONS}, got {len(operations)}")
    copied = 0
    try:
        for operation in operations:
            kind = operation.get("op")
            step = _STEPS.get(kind) if isinstance(kind, str) else None
            if step is None:
                raise _DoesNotApplyError(f"Unexpected kind: {kind or 'unknown'}")
            if kind == "copy":
                copied += len(json.dumps(_at(target, _pointer(operation, "from"), "copy")))
                if copied > MAX_COPIED_BYTES:
                    raise _DoesNotApplyError("Unable to complete the copy, the accumulated size increase of copy is "
                                             f"{copied}, exceeding the limit {MAX_COPIED_BYTES}")
            target = step(target, operation)
    except _DoesNotApplyError as error:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request",
                       details={"causes": [{"message": str(error)}]}) from error
    return target


def _missing(verb: str, path: str) -> _DoesNotApplyError:
    return _DoesNotApplyError(f'{verb} operation does not apply: doc is missing path: "{path}": missing value')


def _pointer(operation: Mapping[str, Any], member: str = "path") -> list[str]:
    """Return the parts of a JSON pointer (RFC 6901)."""
    text = operation.get(member)
    if not isinstance(text, str):
        raise _DoesNotApplyError(f"{operation.get('op')} operation: operation missing {member} field: missing value")
    if not text:
        return []
    if not text.startswith("/"):
        raise _missing(operation["op"], text)
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _text(parts: list[str]) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def _index(items: list[Any], part: str, *, insert: bool = False) -> int:
    """Return the place that a part of a pointer names in a list; -1 is the last, as upstream allows."""
    last = len(items) if insert else len(items) - 1
    if insert and part == "-":
        return last
    digits = part.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 9:
        raise _DoesNotApplyError(f"Unable to access invalid index: {part}: invalid index referenced")
    index = int(part)
    if index < 0:
        index += last + 1
    if not 0 <= index <= last:
        raise _DoesNotApplyError(f"Unable to access invalid index: {part}: invalid index referenced")
    return index


def _child(node: Any, part: str) -> Any:
    if isinstance(node, dict):
        if part not in node:
            raise KeyError(part)
        return node[part]
    if isinstance(node, list):
        return node[_index(node, part)]
    raise KeyError(part)


def _at(node: Any, parts: list[str], verb: str) -> Any:
    try:
        for part in parts:
            node = _child(node, part)
    except KeyError:
        raise _missing(verb, _text(parts)) from None
    return node


def _change(node: Any, parts: list[str], verb: str, leaf: Callable[[Any, str], Any], path: str) -> Any:
    """Return `node` with `leaf` applied to a copy of the container that the last part of the path is in."""
    if len(parts) == 1:
        if not isinstance(node, (dict, list)):
            raise _missing(verb, path)
        return leaf(node.copy(), parts[0])
    try:
        child = _child(node, parts[0])
    except KeyError:
        raise _missing(verb, path) from None
    changed = _change(child, parts[1:], verb, leaf, path)
    copy = node.copy()
    copy[parts[0] if isinstance(copy, dict) else _index(copy, parts[0])] = changed
    return copy


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise _DoesNotApplyError(f"{operation['op']} operation: operation missing value field: missing value")
    return operation["value"]


def _put(target: Any, parts: list[str], value: Any, verb: str) -> Any:
    def leaf(container: Any, part: str) -> Any:
        if isinstance(container, dict):
            container[part] = value
        else:
            container.insert(_index(container, part, insert=True), value)
        return container

    return _change(target, parts, verb, leaf, _text(parts)) if parts else value


def _take(target: Any, parts: list[str], verb: str) -> Any:
    path = _text(parts)

    def leaf(container: Any, part: str) -> Any:
        if isinstance(container, dict):
            if part not in container:
                raise _DoesNotApplyError(f"error in {verb} for path: '{path}': Unable to remove nonexistent key: "
                                         f"{part}: missing value")
            del container[part]
        else:
            del container[_index(container, part)]
        return container

    if not parts:
        raise _DoesNotApplyError(f"{verb} operation does not apply: the whole document can't be removed")
    return _change(target, parts, verb, leaf, path)


def _add(target: Any, operation: Mapping[str, Any]) -> Any:
    return _put(target, _pointer(operation), _value(operation), "add")


def _remove(target: Any, operation: Mapping[str, Any]) -> Any:
    return _take(target, _pointer(operation), "remove")


def _replace(target: Any, operation: Mapping[str, Any]) -> Any:
    parts, value = _pointer(operation), _value(operation)
    path = _text(parts)

    def leaf(container: Any, part: str) -> Any:
        if isinstance(container, dict):
            if part not in container:
                raise _DoesNotApplyError(f"replace operation does not apply: doc is missing key: {path}: missing value")
            container[part] = value
        else:
            container[_index(container, part)] = value
        return container

    return _change(target, parts, "replace", leaf, path) if parts else value


def _move(target: Any, operation: Mapping[str, Any]) -> Any:
    source, parts = _pointer(operation, "from"), _pointer(operation)
    value = _at(target, source, "move")
    return _put(_take(target, source, "move"), parts, value, "move")


def _copy(target: Any, operation: Mapping[str, Any]) -> Any:
    return _put(target, _pointer(operation), _at(target, _pointer(operation, "from"), "copy"), "copy")


def _test(target: Any, operation: Mapping[str, Any]) -> Any:
    parts, wanted = _pointer(operation), operation.get("value")
    try:
        actual = _at(target, parts, "test")
    except _DoesNotApplyError:
        if wanted is not None:
            raise
        actual = None
    if not _equal(actual, wanted):
        raise _DoesNotApplyError(f"testing value {_text(parts)} failed: test failed")
    return target


def _equal(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


_STEPS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "add": _add, "remove": _remove, "replace": _replace, "move": _move, "copy": _copy, "test": _test}
