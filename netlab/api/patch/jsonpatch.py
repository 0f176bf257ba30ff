"""JSON patch, RFC 6902, with the limits and error texts of the API server (evanphx/json-patch v4)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from netlab.errors import ApiError

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 << 20


_NAMES = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII).fullmatch


class _DoesNotApplyError(Exception):
    """An operation does not fit the document; the text says why."""


def apply(target: Any, operations: Any) -> Any:
    """Return the target after all operations, or none of them.

    Raises:
        ApiError: 400 if `operations` is no JSON patch, 413 if it has too many, 422 if one does not apply.
    """
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        wrong = operations if not isinstance(operations, list) else next(
            one for one in operations if not isinstance(one, dict))
        name, goal = _NAMES.get(type(wrong), "null"), "Patch" if wrong is operations else "Operation"
        raise ApiError(400, "BadRequest", f"json: cannot unmarshal {name} into Go value of type jsonpatch.{goal}")
    if len(operations) > MAX_OPERATIONS:
        raise ApiError(413, "RequestEntityTooLarge", "Request entity too large: The allowed maximum operations in a "
                       f"JSON patch is {MAX_OPERATIONS}, got {len(operations)}")
    copied, target = 0, _copied(target)
    try:
        for operation in operations:
            kind = operation.get("op")
            step = _STEPS.get(kind) if isinstance(kind, str) else None
            if step is None:
                raise _DoesNotApplyError(f"Unexpected kind: {kind or 'unknown'}")
            target, size = step(target, operation)
            copied += size
            if copied > MAX_COPIED_BYTES:
                raise _DoesNotApplyError("Unable to complete the copy, the accumulated size increase of copy is "
                                         f"{copied}, exceeding the limit {MAX_COPIED_BYTES}")
    except _DoesNotApplyError as error:
        raise ApiError(422, "Invalid", "the server rejected our request due to an error in our request",
                       details={"causes": [{"field": "patch", "message": str(error)}]}) from error
    return target


def _pointer(operation: Mapping[str, Any], member: str = "path") -> tuple[str, list[str]]:
    """Return a JSON pointer (RFC 6901) as text and in parts."""
    text = operation.get(member)
    if not isinstance(text, str):
        missing = "operation, missing from field: " if member == "from" else ""
        raise _DoesNotApplyError(f"{operation['op']} operation failed to decode {member}: {missing}missing value")
    return text, [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _missing(verb: str, what: str, where: str) -> _DoesNotApplyError:
    return _DoesNotApplyError(f"{verb} operation does not apply: doc is missing {what}: {where}: missing value")


def _container(node: Any, parts: list[str]) -> Any:
    """Return the dict or list that the last part of a pointer is in; None if there is none."""
    if not parts:
        return None
    for part in parts[:-1]:
        try:
            node = _get(node, part)
        except _DoesNotApplyError:
            return None
    return node if isinstance(node, (dict, list)) else None


def _index(items: list[Any], part: str, *, insert: bool = False) -> int:
    """Return the place that a part of a pointer names in a list; -1 is the last, as upstream allows."""
    if not _NUMBER(part):
        proper = f"value was not a proper array index: '{part}': " if insert else ""
        raise _DoesNotApplyError(f'{proper}strconv.Atoi: parsing "{part}": invalid syntax')
    index, size = int(part), len(items) + insert
    if not -size <= index < size:
        raise _DoesNotApplyError(f"Unable to access invalid index: {index}: invalid index referenced")
    return index + size if index < 0 else index


def _get(container: Any, part: str) -> Any:
    """Return a member; None if a dict has it not."""
    if isinstance(container, dict):
        return container.get(part)
    if isinstance(container, list):
        return container[_index(container, part)]
    raise _DoesNotApplyError("no container")


def _insert(container: Any, part: str, value: Any) -> None:
    if isinstance(container, dict):
        container[part] = value
    else:
        container.insert(len(container) if part == "-" else _index(container, part, insert=True), value)


def _delete(container: Any, part: str) -> None:
    if isinstance(container, dict):
        if part not in container:
            raise _DoesNotApplyError(f"Unable to remove nonexistent key: {part}: missing value")
        del container[part]
    else:
        del container[_index(container, part)]


def _copied(value: Any) -> Any:
    """Return a copy, so that the operations can change it in place: by copies of its parts they would be quadratic."""
    return json.loads(json.dumps(value)) if isinstance(value, (dict, list)) else value


@contextmanager
def _said(prefix: str) -> Iterator[None]:
    """Say where it went wrong before what went wrong."""
    try:
        yield
    except _DoesNotApplyError as error:
        raise _DoesNotApplyError(f"{prefix}: {error}") from None


def _add(target: Any, operation: Mapping[str, Any]) -> tuple[Any, int]:
    text, parts = _pointer(operation)
    container = _container(target, parts)
    if container is None:
        raise _missing("add", "path", f'"{text}"')
    with _said(f"error in add for path: '{text}'"):
        _insert(container, parts[-1], _copied(operation.get("value")))
    return target, 0


def _remove(target: Any, operation: Mapping[str, Any]) -> tuple[Any, int]:
    text, parts = _pointer(operation)
    container = _container(target, parts)
    if container is None:
        raise _missing("remove", "path", f'"{text}"')
    with _said(f"error in remove for path: '{text}'"):
        _delete(container, parts[-1])
    return target, 0


def _replace(target: Any, operation: Mapping[str, Any]) -> tuple[Any, int]:
    text, parts = _pointer(operation)
    if not text:
        return _copied(operation.get("value")), 0
    container = _container(target, parts)
    if container is None:
        raise _missing("replace", "path", text)
    try:
        at: Any = parts[-1] if isinstance(container, dict) else _index(container, parts[-1])
    except _DoesNotApplyError:
        raise _missing("replace", "key", text) from None
    container[at] = _copied(operation.get("value"))
    return target, 0


def _move(target: Any, operation: Mapping[str, Any]) -> tuple[Any, int]:
    source, parts = _pointer(operation, "from")
    container = _container(target, parts)
    if container is None:
        raise _missing("move", "from path", source)
    with _said(f"error in move for path: '{parts[-1]}'"):
        value = _get(container, parts[-1])
        _delete(container, parts[-1])
    text, parts = _pointer(operation)
    container = _container(target, parts)
    if container is None:
        raise _missing("move", "destination path", text)
    with _said(f"error in move for path: '{text}'"):
        _insert(container, parts[-1], value)
    return target, 0


def _copy(target: Any, operation: Mapping[str, Any]) -> tuple[Any, int]:
    source, parts = _pointer(operation, "from")
    container = _container(target, parts)
    if container is None:
        raise _missing("copy", "from path", source)
    with _said(f"error in copy for from: '{source}'"):
        value = _get(container, parts[-1])
    text, parts = _pointer(operation)
    container = _container(target, parts)
    if container is None:
        raise _missing("copy", "destination path", text)
    encoded = json.dumps(value)
    with _said("error while adding value during copy"):
        _insert(container, parts[-1], json.loads(encoded))
    return target, len(encoded)


def _test(target: Any, operation: Mapping[str, Any]) -> tuple[Any, int]:
    text, parts = _pointer(operation)
    if text:
        container = _container(target, parts)
        if container is None:
            raise _DoesNotApplyError(f"test operation does not apply: is missing path: {text}: missing value")
        with _said(f"error in test for path: '{text}'"):
            actual = _get(container, parts[-1])
    else:
        actual = target
    if not _equal(actual, operation.get("value")):
        raise _DoesNotApplyError(f"testing value {text} failed: test failed")
    return target, 0


def _equal(left: Any, right: Any) -> bool:
    """Compare as JSON does: true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


_STEPS: Mapping[str, Callable[[Any, Mapping[str, Any]], tuple[Any, int]]] = {
    "add": _add, "remove": _remove, "replace": _replace, "move": _move, "copy": _copy, "test": _test}
