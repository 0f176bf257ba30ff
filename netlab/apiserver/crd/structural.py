"""What a structural schema does to objects: unknown fields go, defaults come.

A structural schema gives every field a type outside of allOf, anyOf, oneOf and not, so that pruning and defaulting look
at nothing else. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api.meta import Object

Schema = Mapping[str, Any]
PRESERVE, EMBEDDED, INT_OR_STRING = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource",
                                     "x-kubernetes-int-or-string")
_EXACT = 1e15
_ENVELOPE = ("kind", "apiVersion", "metadata")


def prune(obj: Object, schema: Schema) -> tuple[Object, tuple[str, ...]]:
    """Return the object without fields that the schema does not have, and their paths; metadata is not looked at."""
    dropped: list[str] = []
    return _pruned(obj, schema, "", dropped, root=True), tuple(dropped)


def _pruned(value: Any, schema: Schema, path: str, dropped: list[str], *, root: bool = False) -> Any:
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        whole = root or schema.get(EMBEDDED)
        kept: Object = {}
        for name, inner in value.items():
            if whole and name in _ENVELOPE:
                kept[name] = inner
            elif name in properties:
                kept[name] = _pruned(inner, properties[name], f"{path}{name}.", dropped)
            elif extra not in (None, False):
                kept[name] = inner if extra is True else _pruned(inner, extra, f"{path}{name}.", dropped)
            elif schema.get(PRESERVE):
                kept[name] = inner
            else:
                dropped.append(f"{path}{name}")
        return kept
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [_pruned(item, schema["items"], f"{path[:-1]}[{at}].", dropped) for at, item in enumerate(value)]
    return value


def as_written(value: Any) -> Any:
    """Return a value whose numbers without a fraction are integers, as they are once Go has written them."""
    if isinstance(value, dict):
        return {name: as_written(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_written(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value


def embedded(value: Any, schema: Schema, path: str = "") -> Iterator[tuple[str, Object]]:
    """Yield the objects in an object that have metadata, each with its path (and a dot)."""
    if isinstance(value, dict):
        if path and schema.get(EMBEDDED) and isinstance(value.get("metadata"), dict):
            yield path, value
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            if isinstance(part := properties.get(name, extra), dict):
                yield from embedded(inner, part, f"{path}{name}.")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for at, item in enumerate(value):
            yield from embedded(item, schema["items"], f"{path[:-1]}[{at}].")


def default(value: Any, schema: Schema) -> None:
    """Fill in what the schema has defaults for, in place; a null where null is not allowed counts as absent."""
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in properties.items():
            if "default" in inner and (name not in value or _is_stray_null(value[name], inner)):
                value[name] = _copy(inner["default"])
        for name, inner in value.items():
            part = properties.get(name, extra)
            if isinstance(part, dict):
                if "default" in part and _is_stray_null(inner, part):
                    value[name] = _copy(part["default"])
                default(value[name], part)
    elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for at, item in enumerate(value):
            if "default" in items and _is_stray_null(item, items):
                value[at] = _copy(items["default"])
            default(value[at], items)


def drop_nulls(value: Any, schema: Schema) -> None:
    """Take away nulls that the schema does not allow and has no default for, in place (those of lists stay)."""
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in list(value.items()):
            part = properties.get(name, extra)
            if not isinstance(part, dict):
                continue
            if "default" not in part and _is_stray_null(inner, part):
                del value[name]
            else:
                drop_nulls(inner, part)
    elif isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        for item in value:
            drop_nulls(item, items)


def _is_stray_null(value: Any, schema: Schema) -> bool:
    return value is None and not schema.get("nullable")


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield every part of a schema that describes values (not those inside of allOf and its kin) with its path."""
    yield path, schema
    for name, inner in (schema.get("properties") or {}).items():
        yield from walk(inner, f"{path}.properties[{name}]")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from walk(schema[part], f"{path}.{part}")
