"""How server-side apply sees custom resources: which lists are sets or maps, which structures have one owner."""

from __future__ import annotations

from netlab.api.patch.shape import LEAF, METADATA, UNTYPED, Form, Shape
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
        found = _object(schema)
        return Shape("leaf", form="map", inner=found) if schema.get("x-kubernetes-map-type") == "atomic" else found
    if kind == "array":
        return _list(schema)
    if schema.get(INT_OR_STRING):
        return LEAF
    if not kind and schema.get(PRESERVE):
        return UNTYPED
    return Shape("leaf", form=_form(kind, schema.get("format", "")))


def _form(kind: str, form: str) -> Form:
    if kind == "string":  # one with a format is any scalar, but for bytes
        return "string" if form in ("", "byte") else "scalar"
    return "numeric" if kind in ("integer", "number") else "boolean" if kind == "boolean" else "scalar"


def _object(schema: Schema) -> Shape:
    extra = schema.get("additionalProperties")
    if extra not in (None, False):
        return Shape("map", item=shape(extra) if isinstance(extra, dict) else UNTYPED, form="map")
    children = {name: shape(part) for name, part in (schema.get("properties") or {}).items()}
    if schema.get(EMBEDDED):
        children |= {"metadata": METADATA, "apiVersion": LEAF, "kind": LEAF}
    if not children:
        return Shape("untyped", form="map")
    return Shape("struct", children=children, item=UNTYPED if schema.get(PRESERVE) else None, form="map")


def _list(schema: Schema) -> Shape:
    items = schema.get("items") or {}
    style, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or ()
    inner = shape(items)
    if style == "map" and keys:
        inner.defaults = {name: part["default"] for name, part in (items.get("properties") or {}).items()
                          if "default" in part}
        return Shape("keyed", item=inner, keys=tuple(sorted(keys)), form="list")
    if style == "set":
        return Shape("set", item=inner if inner.kind == "leaf" else LEAF, form="list")
    return Shape("leaf", item=inner, form="list")
