"""The OpenAPI documents of a group version whose kinds are all custom: their paths, and their schemas as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from netlab.api.kinds import Resource
from netlab.api.openapi.paths import PATCH_TYPES, QUERY
from netlab.api.openapi.schemas import closure, definition, reference
from netlab.api.schema import table


@dataclass(frozen=True)
class Kept:
    """A document, and what it was made of. `schemas` are by kind."""

    rows: tuple[Resource, ...]
    schemas: Mapping[str, Mapping[str, Any]]
    body: bytes
    digest: str


_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_OPTIONS = f"{_META}DeleteOptions"
_STATUS = f"{_META}Status"
_CUSTOM_PATCHES = tuple(kind for kind in PATCH_TYPES if "strategic" not in kind)
_ACTIONS = {"get": "get", "put": "put", "patch": "patch", "delete": "delete"}


def v3(rows: Sequence[Resource], schemas: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the document. `schemas` are by kind."""
    names = {row.kind: ".".join([*reversed(row.group.split(".")), row.version, row.kind]) for row in rows}
    components: dict[str, Any] = {name: definition(name, 3) for name in closure(
        (f"{_META}ObjectMeta", f"{_META}ListMeta", _OPTIONS, _STATUS))}
    paths: dict[str, Any] = {}
    for row in rows:
        components[names[row.kind]] = _schema(row, schemas.get(row.kind) or {"type": "object"})
        listed = row.list_kind or f"{row.kind}List"
        components[f"{names[row.kind]}List"] = _list(row, listed, names[row.kind])
        paths |= _paths(row, names[row.kind])
    return orjson.dumps({"openapi": "3.0.0", "info": {"title": "Kubernetes CRD Swagger",
                                                      "version": f"v{table().kubernetes}.0"},
                         "paths": paths, "components": {"schemas": components}})


def v2(rows: Sequence[Resource], schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI v2 definitions of the kinds of a group version, by name; `schemas` are by kind."""
    found: dict[str, Any] = {}
    for row in rows:
        name = ".".join([*reversed(row.group.split(".")), row.version, row.kind])
        schema = _schema(row, schemas.get(row.kind) or {"type": "object"})
        schema["properties"]["metadata"] = reference(f"{_META}ObjectMeta", 2)
        found[name] = schema
    return found


def _schema(row: Resource, schema: Mapping[str, Any]) -> dict[str, Any]:
    envelope = {"apiVersion": {"type": "string"}, "kind": {"type": "string"},
                "metadata": {"allOf": [reference(f"{_META}ObjectMeta", 3)]}}
    return {**schema, "type": "object", "properties": {**(schema.get("properties") or {}), **envelope},
            "x-kubernetes-group-version-kind": [_gvk(row)]}


def _list(row: Resource, kind: str, item: str) -> dict[str, Any]:
    return {"type": "object", "required": ["items"], "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"},
        "metadata": {"allOf": [reference(f"{_META}ListMeta", 3)]},
        "items": {"type": "array", "items": {"allOf": [reference(item, 3)]}}},
        "x-kubernetes-group-version-kind": [_gvk(row) | {"kind": kind}]}


def _gvk(row: Resource) -> dict[str, str]:
    return {"group": row.group, "version": row.version, "kind": row.kind}


def _paths(row: Resource, name: str) -> dict[str, Any]:
    base = row.root + ("/namespaces/{namespace}" if row.namespaced else "") + f"/{row.plural}"
    inside = [{"name": "namespace", "in": "path", "required": True, "schema": {"type": "string"}}] \
        if row.namespaced else []
    one = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}, *inside]
    found: dict[str, Any] = {
        base: {"parameters": inside, "get": _operation(row, "list", f"{name}List"),
               "post": _operation(row, "post", name), "delete": _operation(row, "deletecollection", _STATUS)},
        f"{base}/{{name}}": {"parameters": one, **{method: _operation(row, action, name)
                                                   for method, action in _ACTIONS.items()}}}
    if row.namespaced:
        found[f"{row.root}/{row.plural}"] = {"get": _operation(row, "list", f"{name}List")}
    if "status" in row.subresources:
        found[f"{base}/{{name}}/status"] = {"parameters": one, **{method: _operation(row, action, name)
                                                                  for method, action in _ACTIONS.items()
                                                                  if method != "delete"}}
    return found


def _operation(row: Resource, action: str, answer: str) -> dict[str, Any]:
    node: dict[str, Any] = {
        "parameters": [{"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}
                       for name, kind in QUERY[action]],
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference(answer, 3)}}}},
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": _gvk(row)}
    if action in ("post", "put", "patch"):
        kinds = _CUSTOM_PATCHES if action == "patch" else ("application/json",)
        body = f"{_META}Patch" if action == "patch" else answer
        schema = {"type": "object"} if action == "patch" else reference(body, 3)
        node["requestBody"] = {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}
    return node
