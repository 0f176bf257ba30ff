"""The OpenAPI documents of a group version whose kinds are all custom: their paths, and their schemas as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from netlab.api.kinds import Resource
from netlab.api.openapi.paths import PATCH_TYPES, QUERY
from netlab.api.openapi.schemas import closure, definition, reference
from netlab.api.schema import table
from netlab.apiserver.crd.structural import EMBEDDED, PRESERVE


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
_ANY = "io.k8s.api.core.v1.ConfigMap"
"""Of this kind, as good as any, is read what every kind says of apiVersion, kind and metadata."""
_ACTIONS = {"get": "get", "put": "put", "patch": "patch", "delete": "delete"}


def v3(rows: Sequence[Resource], schemas: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return the document. `schemas` are by kind."""
    names = {row.kind: ".".join([*reversed(row.group.split(".")), row.version, row.kind]) for row in rows}
    components: dict[str, Any] = {name: definition(name, 3) for name in closure(
        (f"{_META}ObjectMeta", f"{_META}ListMeta", _OPTIONS, _STATUS))}
    paths: dict[str, Any] = {}
    for row in rows:
        components[names[row.kind]] = _schema(row, schemas.get(row.kind) or {"type": "object"}, 3)
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
        given = schemas.get(row.kind) or {"type": "object"}
        # Where unknown fields are kept, a word about any would make kubectl refuse all others.
        found[name] = {"type": "object", "x-kubernetes-group-version-kind": [_gvk(row)]} if given.get(PRESERVE) \
            else _schema(row, _for_kubectl(given), 2)
    return found


def _for_kubectl(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without what OpenAPI v2 does not have, and without what makes old kubectls refuse good objects.

    k8s:staging/src/k8s.io/apiextensions-apiserver/pkg/controller/openapi/v2/conversion.go
    """
    doomed = {"allOf", "anyOf", "oneOf", "not", "nullable"}
    if schema.get("nullable"):
        doomed |= {"type", "items", "properties"}
    if schema.get(PRESERVE):
        doomed |= {"items", "properties"} | ({"type"} if schema.get("type") == "object" else set())
    if schema.get("type") == "array" and ("items" in doomed or "items" not in schema):
        doomed.add("type")
    found = {name: value for name, value in schema.items() if name not in doomed}
    properties, values = found.get("properties"), found.get("additionalProperties")
    if properties:
        found["properties"] = {name: _for_kubectl(inner) for name, inner in properties.items()}
        needed = [name for name in found.pop("required", ()) if not (properties.get(name) or {}).get("nullable")]
        found |= {"required": needed} if needed else {}
    if isinstance(values, Mapping):
        found["additionalProperties"] = _for_kubectl(values)
        if values.get("nullable"):
            found.pop("required", None)
    if isinstance(found.get("items"), Mapping):
        found["items"] = _for_kubectl(found["items"])
    return found


def _enveloped(schema: Mapping[str, Any], envelope: Mapping[str, Any], version: Literal[2, 3]) -> dict[str, Any]:
    """Return a schema whose embedded resources say what every object has; in v2 only where nothing unknown is kept."""
    found = dict(schema)
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), Mapping):
            found[name] = _enveloped(found[name], envelope, version)
    if found.get("properties"):
        found["properties"] = {name: _enveloped(inner, envelope, version)
                               for name, inner in found["properties"].items()}
    if found.get(EMBEDDED) and not (version == 2 and found.get(PRESERVE)):
        found["properties"] = {**found.get("properties", {}), **envelope}
        found["required"] = list(dict.fromkeys((*found.get("required", ()), "kind", "apiVersion")))
    return found


def _schema(row: Resource, schema: Mapping[str, Any], version: Literal[2, 3]) -> dict[str, Any]:
    envelope = _envelope(version)
    whole = _enveloped(schema, envelope, version)
    return {**whole, "type": "object", "properties": {**whole.get("properties", {}), **envelope},
            "x-kubernetes-group-version-kind": [_gvk(row)]}


def _envelope(version: Literal[2, 3]) -> dict[str, Any]:
    properties = definition(_ANY, version)["properties"]
    return {name: properties[name] for name in ("apiVersion", "kind", "metadata")}


def _list(row: Resource, kind: str, item: str) -> dict[str, Any]:
    return {"type": "object", "required": ["items"], "properties": {
        **_envelope(3), "metadata": {"allOf": [reference(f"{_META}ListMeta", 3)]},
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
