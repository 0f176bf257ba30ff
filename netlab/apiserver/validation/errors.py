"""One thing that is wrong with one field, worded as k8s.io/apimachinery/pkg/util/validation/field does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from netlab.api.kinds import Resource
from netlab.errors import ApiError


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


def duplicate(field: str, value: Any) -> FieldError:
    """Another entry has this value already."""
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {shown(value)}")


def without_value(field: str, detail: str) -> FieldError:
    """The field's value, which would say nothing, is wrong."""
    return FieldError("FieldValueInvalid", field, f"Invalid value: {detail}")


def not_supported(field: str, value: Any, supported: Iterable[str], *, in_order: bool = False) -> FieldError:
    """The value is none of the known ones, which are told in their order or sorted."""
    words = ", ".join(f'"{word}"' for word in (supported if in_order else sorted(supported)))
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


def not_found(field: str, value: Any) -> FieldError:
    """The value refers to nothing."""
    return FieldError("FieldValueNotFound", field, f"Not found: {shown(value)}")


def too_long(field: str, limit: int) -> FieldError:
    """The text has too many bytes."""
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def too_many(field: str, count: int, limit: int) -> FieldError:
    """The list has too many entries."""
    return FieldError("FieldValueTooMany", field, f"Too many: {count}: must have at most {limit} items")


def shown(value: Any) -> str:
    """Return a value as the texts show it: quoted when it is text, JSON when it is a structure."""
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return orjson.dumps(value).decode()
    if isinstance(value, str):
        return orjson.dumps(value).decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


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
