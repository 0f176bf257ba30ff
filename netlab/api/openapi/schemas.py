"""The definitions of the documents: the table's structs as JSON schema, in the two spellings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from netlab.api.openapi import descriptions
from netlab.api.schema import SCALARS, Field, Struct, Type, table

Version: TypeAlias = Literal[2, 3]
_PLACE = {2: "#/definitions/", 3: "#/components/schemas/"}
_SIMPLE: dict[str, dict[str, Any]] = {
    "string": {"type": "string"}, "boolean": {"type": "boolean"}, "byte": {"type": "string", "format": "byte"},
    "int32": {"type": "integer", "format": "int32"}, "int64": {"type": "integer", "format": "int64"},
    "uint32": {"type": "integer", "format": "int64"}, "uint64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"}, "float": {"type": "number", "format": "float"},
    "object": {"type": "object"}, "raw": {"type": "object"}, "any": {},
    "time": {"type": "string", "format": "date-time"}, "micro-time": {"type": "string", "format": "date-time"},
}
_SPECIAL: dict[tuple[int, str], dict[str, Any]] = {
    (2, "quantity"): {"type": "string"}, (3, "quantity"): {"oneOf": [{"type": "string"}, {"type": "number"}]},
    (2, "int-or-string"): {"type": "string", "format": "int-or-string"},
    (3, "int-or-string"): {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}


def reference(name: str, version: Version) -> dict[str, Any]:
    """Return the $ref to a definition."""
    return {"$ref": _PLACE[version] + name}


def closure(names: Iterable[str]) -> list[str]:
    """Return the names of all definitions that these need, themselves included, sorted."""
    todo, found = list(names), set[str]()
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        if name not in SCALARS:
            todo += filter(None, (_named(field.type) for field in table().struct(name).fields.values()))
    return sorted(found)


def _named(kind: Type) -> str:
    while kind.item is not None:
        kind = kind.item
    return kind.reference


def definition(name: str, version: Version) -> dict[str, Any]:
    """Return one definition."""
    said = descriptions.of_struct(name)
    node: dict[str, Any] = {"description": said} if said else {}
    if name in SCALARS:
        return node | (_SPECIAL.get((version, SCALARS[name])) or _SIMPLE[SCALARS[name]])
    return node | _struct(table().struct(name), version)


def _struct(struct: Struct, version: Version) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "object"}
    if struct.fields:
        node["properties"] = {name: _property(struct, field, version) for name, field in struct.fields.items()}
    if required := [name for name, field in struct.fields.items() if field.required]:
        node["required"] = required
    if struct.kinds:
        node["x-kubernetes-group-version-kind"] = [
            {"group": group, "kind": kind, "version": version_} for group, version_, kind in struct.kinds]
    if struct.map_type:
        node["x-kubernetes-map-type"] = struct.map_type
    return node


def _property(struct: Struct, field: Field, version: Version) -> dict[str, Any]:
    said = descriptions.of_field(struct.name, field.name)
    node = _type(field.type, version)
    if "$ref" in node and version == 3:  # beside a $ref nothing else counts there
        node = {"allOf": [node]}
    if said:
        node = {"description": said} | node
    extra = {"enum": list(field.enum), "default": field.default, "x-kubernetes-list-type": field.list_type,
             "x-kubernetes-list-map-keys": list(field.list_keys), "x-kubernetes-map-type": field.map_type,
             "x-kubernetes-patch-merge-key": field.merge_key,
             "x-kubernetes-patch-strategy": ",".join(field.patch_strategy)}
    return node | {key: value for key, value in extra.items() if value}


def _type(kind: Type, version: Version) -> dict[str, Any]:
    if kind.reference:
        return reference(kind.reference, version)
    if kind.item is not None:
        inner = _type(kind.item, version)
        if version == 3 and "$ref" in inner:
            inner = {"allOf": [inner]}
        return ({"type": "array", "items": inner} if kind.code == "list"
                else {"type": "object", "additionalProperties": inner})
    return dict(_SIMPLE[kind.code])
