"""What Go's decoder makes of null: no value in a field, the zero value in a list or map; free parts keep theirs."""

from __future__ import annotations

from typing import Any

import orjson

from netlab.api.meta import Object
from netlab.api.schema import Struct, Type, struct_of

_ZERO: dict[str, Any] = {"string": "", "boolean": False, "int32": 0, "int64": 0, "uint32": 0, "uint64": 0, "double": 0,
                         "float": 0, "byte": "", "quantity": "0", "int-or-string": 0}


def has_null(value: Any) -> bool:
    """Tell whether there is a null anywhere in a JSON value."""
    if isinstance(value, dict):
        return any(part is None or (isinstance(part, (dict, list)) and has_null(part)) for part in value.values())
    if isinstance(value, list):
        return any(part is None or (isinstance(part, (dict, list)) and has_null(part)) for part in value)
    return value is None


def tidy(metadata: Any) -> None:
    """Drop in place the empty lists and maps of a metadata, which Go does not write out.

    managedFields stays: an empty list of them is a request to forget them.
    """
    if isinstance(metadata, dict):
        for name in ("labels", "annotations", "finalizers", "ownerReferences"):
            if name in metadata and not metadata[name]:
                del metadata[name]


def settled(obj: Object, shape: Struct | None) -> Object:
    """Return the object without nulls; `shape` None (a kind without a table) only drops those of the top level."""
    if b"null" not in orjson.dumps(obj, option=orjson.OPT_NON_STR_KEYS) or not has_null(obj):  # the first is quicker
        return obj
    if shape is None:
        return {name: value for name, value in obj.items() if value is not None}
    return _struct(obj, shape)


def _struct(obj: Object, shape: Struct) -> Object:
    kept: Object = {}
    for name, value in obj.items():
        if value is None:
            continue
        field = shape.fields.get(name)
        kept[name] = value if field is None else _value(value, field.type)
    return kept


def _value(value: Any, kind: Type) -> Any:
    if value is None:
        return _zero(kind)
    if kind.code == "struct" and isinstance(value, dict):
        shape = struct_of(kind)
        return value if shape is None else _struct(value, shape)
    if kind.item is not None and isinstance(value, list):
        return [_value(item, kind.item) for item in value]
    if kind.item is not None and isinstance(value, dict):
        return {name: _value(item, kind.item) for name, item in value.items()}
    return value


def _zero(kind: Type) -> Any:
    if kind.code in ("struct", "map", "object"):
        return {}
    return [] if kind.code == "list" else _ZERO.get(kind.code)
