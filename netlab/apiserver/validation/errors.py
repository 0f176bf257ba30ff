"""One thing that is wrong with one field, worded as k8s.io/apimachinery/pkg/util/validation/field does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.errors import ApiError

_NIL = object()
_HTML = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}
"""Go writes JSON so that it may stand in a page."""
_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """`reason` is FieldValueInvalid and its kin; `body` is the sentence without the field's path."""

    reason: str
    field: str
    body: str

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"


def required(field: str, detail: str = "") -> FieldError:
    """The field is not there."""
    return FieldError("FieldValueRequired", field, f"Required value: {detail}" if detail else "Required value")


def invalid(field: str, value: Any, detail: str) -> FieldError:
    """The field's value is wrong."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {shown(value)}: {detail}")


def wrong(field: str, value: Any, complaints: Iterable[str]) -> Iterator[FieldError]:
    """Yield one error for each complaint about a value (what a form of `names` says)."""
    for said in complaints:
        yield invalid(field, value, said)


def duplicate(field: str, value: Any, detail: str = "") -> FieldError:
    """Another entry has this value already."""
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {shown(value)}{_more(detail)}")


def type_invalid(field: str, value: Any, detail: str) -> FieldError:
    """The field's value is of another type or format."""
    return FieldError("FieldValueTypeInvalid", field, f"Invalid value: {shown(value)}: {detail}")


def without_value(field: str, detail: str) -> FieldError:
    """The field's value, which would say nothing, is wrong."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {detail}")


def not_supported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    """The value is none of the known ones, which are told in order of the alphabet."""
    return unsupported(field, value, sorted(supported))


def unsupported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    """The value is none of the known ones, which are told in this order (upstream's own is not always sorted)."""
    words = ", ".join(quoted(word) for word in supported)
    return FieldError("FieldValueNotSupported", field, f"Unsupported value: {shown(value)}: supported values: {words}")


def each_once(field: str, values: Sequence[str], allowed: Collection[str]) -> Iterator[FieldError]:
    """Yield which of a list's values are not allowed, and which are there a second time."""
    seen: set[str] = set()
    for at, value in enumerate(values):
        if value not in allowed:
            yield not_supported(f"{field}[{at}]", value, allowed)
        if value in seen:
            yield duplicate(f"{field}[{at}]", value)
        seen.add(value)


def forbidden(field: str, detail: str) -> FieldError:
    """The field may not be set, or not be changed."""
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")


def not_found(field: str, value: Any, detail: str = "") -> FieldError:
    """The value refers to nothing."""
    return FieldError("FieldValueNotFound", field, f"Not found: {shown(value)}{_more(detail)}")


def too_long(field: str, limit: int) -> FieldError:
    """The text has too many bytes."""
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def too_many(field: str, count: int, limit: int) -> FieldError:
    """The list has too many entries."""
    return FieldError("FieldValueTooMany", field, f"Too many: {count}: must have at most {limit} items")


def listed(value: Any) -> Any:
    """Return a list or map for texts: upstream shows one that is not there without quotes, unlike a single value."""
    return _NIL if value is None else value


def shown(value: Any) -> str:
    """Return a value as the texts show it: quoted when it is text (or nothing), JSON when it is a structure."""
    if value is _NIL:
        return "null"
    if value is None:
        return '"null"'
    if isinstance(value, (dict, list)):
        return orjson.dumps(value).decode().translate(_HTML)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def quoted(text: str) -> str:
    """Return a text as Go's %q writes it: what can be printed stays, the rest is escaped."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return f'"{"".join(_ESCAPES.get(sign) or (sign if sign.isprintable() else _code(ord(sign))) for sign in text)}"'


def _code(number: int) -> str:
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def as_struct(value: Object, parts: Mapping[str, Any]) -> Object:
    """Return a structure as texts show it that come from Go's own form of it: every field, by its Go name.

    Args:
        value: as on the wire.
        parts: the structure's fields in Go's order (Go name → what stands there when the field is absent); the wire
            has the same names with a small first letter.
    """
    return {name: value.get(name[0].lower() + name[1:], absent) for name, absent in parts.items()}


def _more(detail: str) -> str:
    return f": {detail}" if detail else ""


def invalid_object(resource: Resource, name: str, errors: Sequence[FieldError]) -> ApiError:
    """Return the 422 for an object with these errors (each once, in order)."""
    unique = list(dict.fromkeys(errors))
    texts = [str(error) for error in unique]
    said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details: dict[str, Any] = {"name": name} if name else {}
    details |= {"group": resource.group} if resource.group else {}
    details |= {"kind": resource.kind, "causes": [
        {"reason": error.reason, "message": error.body, "field": error.field} for error in unique]}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {said}', details=details)
