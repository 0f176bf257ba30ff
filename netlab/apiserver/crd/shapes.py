"""How server-side apply sees custom resources: which lists are sets or maps, which structures have one owner."""

from __future__ import annotations

from netlab.api.patch.shape import LEAF, METADATA, UNTYPED, Shape
from netlab.apiserver.crd.structural import EMBEDDED, INT_OR_STRING, PRESERVE, Schema


def root(schema: Schema) -> Shape:
    """Return the shape of a kind's objects."""
    found = shape(schema)
    if found.kind != "struct":
        found = Shape("struct", children={}, item=UNTYPED)
    return Shape("struct", children={**found.children, "metadata": METADATA, "apiVersion": LEAF, "kind": LEAF},
                 item=found.item)


def shape(schema: Schema) -> Shape:
    """Return the shape of the values that a schema describes."""
    kind = schema.get("type", "")
    if kind == "object":
        return _object(schema)
    if kind == "array":
        return _list(schema)
    return UNTYPED if not kind and schema.get(PRESERVE) and not schema.get(INT_OR_STRING) else LEAF


def _object(schema: Schema) -> Shape:
    if schema.get("x-kubernetes-map-type") == "atomic":
        return LEAF
    extra = schema.get("additionalProperties")
    if extra not in (None, False):
        return Shape("map", item=shape(extra) if isinstance(extra, dict) else UNTYPED)
    children = {name: shape(part) for name, part in (schema.get("properties") or {}).items()}
    if schema.get(EMBEDDED):
        children |= {"metadata": METADATA, "apiVersion": LEAF, "kind": LEAF}
    if not children:
        return UNTYPED
    return Shape("struct", children=children, item=UNTYPED if schema.get(PRESERVE) else None)


def _list(schema: Schema) -> Shape:
    items = schema.get("items") or {}
    style, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or ()
    if style == "map" and keys:
        inner = shape(items)
        inner.defaults = {name: part["default"] for name, part in (items.get("properties") or {}).items()
                          if "default" in part}
        return Shape("keyed", item=inner, keys=tuple(sorted(keys)))
    return Shape("set", item=LEAF) if style == "set" else LEAF
