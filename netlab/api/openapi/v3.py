"""OpenAPI version 3: an index, and one document per group version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from netlab.api.kinds import Resource
from netlab.api.openapi import descriptions
from netlab.api.openapi.paths import PATCH_TYPES, QUERY, Operation, Path, definitions, paths
from netlab.api.openapi.schemas import closure, definition, reference
from netlab.api.schema import DATA, table

CONTENT_TYPE = "application/json"
_PATH_PARAMETER = {"in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}


def groups(resources: Sequence[Resource]) -> dict[str, str]:
    """Return the hash of each document by its place in the index: {"api/v1": HASH, "apis/apps/v1": HASH}."""
    return dict(_groups(tuple(resources)))


@lru_cache(maxsize=4)
def _groups(resources: tuple[Resource, ...]) -> Mapping[str, str]:
    # a document is made of these and nothing else, so their hash changes with it and the document need not be built
    base = hashlib.sha256(DATA.read_bytes() + str(descriptions.source()).encode()).digest()
    found: dict[str, list[Resource]] = {}
    for resource in resources:
        found.setdefault(resource.root.removeprefix("/"), []).append(resource)
    return {place: hashlib.sha256(base + repr(rows).encode()).hexdigest().upper() for place, rows in found.items()}


def index(resources: Sequence[Resource]) -> bytes:
    """Return the index, /openapi/v3."""
    return json.dumps({"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}?hash={digest}"}
                                 for place, digest in groups(resources).items()}}).encode()


def document(resources: Sequence[Resource], api_version: str) -> bytes:
    """Return the document of one group version, e.g. "apps/v1".

    Raises:
        KeyError: no resource is of that group version.
    """
    rows = tuple(resource for resource in resources if resource.api_version == api_version)
    if not rows:
        raise KeyError(api_version)
    return _document(rows)


@lru_cache(maxsize=64)
def _document(rows: tuple[Resource, ...]) -> bytes:
    found = list(paths(rows))
    names = definitions(found)
    names |= {struct.name for row in rows if (struct := table().kind(row.api_version, row.kind)) is not None}
    return json.dumps({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": f"v{table().kubernetes}.0"},
        "paths": {path.path: _path(path) for path in found},
        "components": {"schemas": {name: definition(name, 3) for name in closure(names)}},
    }, separators=(",", ":")).encode()


def _path(path: Path) -> dict[str, Any]:
    node: dict[str, Any] = {operation.method: _operation(operation) for operation in path.operations}
    node["parameters"] = [{"name": name, **_PATH_PARAMETER} for name in path.parameters]
    return node


def _operation(operation: Operation) -> dict[str, Any]:
    node: dict[str, Any] = {
        "tags": [operation.tag], "operationId": operation.id,
        "parameters": [{"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}
                       for name, kind in QUERY[operation.action]],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    }
    if operation.answer:
        node["responses"]["200"]["content"] = _content(operation.answer, ("application/json",))
    if operation.body:
        types = PATCH_TYPES if operation.action == "patch" else ("*/*",)
        node["requestBody"] = {"content": _content(operation.body, types), "required": operation.action != "delete"}
    return node


def _content(name: str, types: Sequence[str]) -> dict[str, Any]:
    return {one: {"schema": reference(name, 3)} for one in types}
