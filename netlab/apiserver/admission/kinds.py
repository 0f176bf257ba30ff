"""The types of whole objects in expressions: built-in kinds by the schema table, custom ones by their schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from netlab.api import schema
from netlab.api.kinds import Resource
from netlab.apiserver.catalog import Catalog
from netlab.apiserver.cel import types
from netlab.apiserver.cel.types import Type, list_of, map_of
from netlab.apiserver.crd.declared import declared

_PLAIN = {"string": types.STRING, "boolean": types.BOOL, "double": types.DOUBLE, "float": types.DOUBLE,
          "byte": types.BYTES, "time": types.TIMESTAMP, "micro-time": types.TIMESTAMP,
          **dict.fromkeys(("int32", "int64", "uint32", "uint64"), types.INT)}


def kind(catalog: Catalog, row: Resource) -> Type | None:
    """Return the type of a resource's objects, None where there is no schema."""
    found = catalog.schema(row)
    if found is not None:
        return declared(found, root=True)
    struct = schema.table().kind(row.api_version, row.kind)
    return _struct(struct.name) if struct is not None else None


@cache
def _struct(name: str) -> Type:
    @cache
    def fields() -> Mapping[str, Type]:
        return {key: _type(one.type) for key, one in schema.table().struct(name).fields.items()}
    return Type(name.rpartition(".")[2], fields=fields)


def _type(found: schema.Type) -> Type:
    if found.code == "struct":
        return _struct(found.struct)
    if found.item is not None:
        inner = _type(found.item)
        return list_of(inner) if found.code == "list" else map_of(types.STRING, inner)
    return _PLAIN.get(found.code, types.DYN)
