"""OpenAPI version 2 (Swagger), as JSON and as the protobuf message that kubectl asks for.

The message is gnostic's openapi.v2.Document (OpenAPIv2.proto of github.com/google/gnostic-models): `_FIELDS` has the
numbers of what the document uses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from netlab.api.kinds import Resource
from netlab.api.openapi.paths import PATCH_TYPES, QUERY, Operation, Path, definitions, paths
from netlab.api.openapi.schemas import closure, definition, reference
from netlab.api.pack import chunk, varint
from netlab.api.schema import table

ACCEPT = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""What clients ask for, and the type of the answer: an `@` there is no valid media type, as kubectl 1.20 says."""


def document(resources: Sequence[Resource]) -> dict[str, Any]:
    """Return the whole document."""
    found = list(paths(resources))
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": f"v{table().kubernetes}.0"},
        "paths": {path.path: _path(path) for path in found},
        "definitions": {name: definition(name, 2) for name in closure(definitions(found))},
    }


def encode_json(resources: Sequence[Resource]) -> bytes:
    """Return the document as JSON."""
    return _json(tuple(resources))


def protobuf(resources: Sequence[Resource]) -> bytes:
    """Return the document as protobuf."""
    return _protobuf(tuple(resources))


def more(definitions: dict[str, Any]) -> bytes:
    """Return what is appended to a document in protobuf for more definitions: a message that comes twice is merged."""
    return chunk(9, _named_schemas(definitions)) if definitions else b""


@lru_cache(maxsize=2)
def _json(resources: tuple[Resource, ...]) -> bytes:
    return json.dumps(document(resources), separators=(",", ":")).encode()


@lru_cache(maxsize=2)
def _protobuf(resources: tuple[Resource, ...]) -> bytes:
    whole = document(resources)
    info = _text(1, whole["info"]["title"]) + _text(2, whole["info"]["version"])
    routes = b"".join(chunk(2, _text(1, path) + chunk(2, _path_item(node))) for path, node in whole["paths"].items())
    return (_text(1, whole["swagger"]) + chunk(2, info) + chunk(8, routes)
            + chunk(9, _named_schemas(whole["definitions"])))


def _path(path: Path) -> dict[str, Any]:
    node: dict[str, Any] = {operation.method: _operation(operation) for operation in path.operations}
    node["parameters"] = [{"name": name, "in": "path", "required": True, "type": "string", "uniqueItems": True}
                          for name in path.parameters]
    return node


def _operation(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [{"name": name, "in": "query", "type": kind, "uniqueItems": True}
                                        for name, kind in QUERY[operation.action]]
    if operation.body:
        parameters.insert(0, {"name": "body", "in": "body", "schema": reference(operation.body, 2)}
                          | ({"required": True} if operation.action != "delete" else {}))
    answer: dict[str, Any] = {"description": "OK"}
    if operation.answer:
        answer["schema"] = reference(operation.answer, 2)
    return {
        "tags": [operation.tag], "operationId": operation.id,
        "consumes": list(PATCH_TYPES) if operation.action == "patch" else ["*/*"], "produces": ["application/json"],
        "parameters": parameters, "responses": {"200": answer}, "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    }


# -- protobuf ---------------------------------------------------------------------------------------------------------

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _text(number: int, text: str) -> bytes:
    return chunk(number, text.encode())


def _flag(number: int) -> bytes:
    return varint(number << 3) + b"\1"


def _extensions(number: int, node: dict[str, Any]) -> bytes:
    """Return the x-… members as repeated NamedAny {1: name, 2: Any {2: YAML}}; JSON is YAML."""
    return b"".join(chunk(number, _text(1, name) + chunk(2, _text(2, json.dumps(value))))
                    for name, value in node.items() if name.startswith("x-"))


def _path_item(node: dict[str, Any]) -> bytes:
    parts = [chunk(number, _operation_item(node[method])) for method, number in _METHODS.items() if method in node]
    return b"".join(parts) + b"".join(chunk(9, _parameter(one)) for one in node["parameters"])


def _operation_item(node: dict[str, Any]) -> bytes:
    out = b"".join(_text(1, tag) for tag in node["tags"]) + _text(5, node["operationId"])
    out += b"".join(_text(6, one) for one in node["produces"]) + b"".join(_text(7, one) for one in node["consumes"])
    out += b"".join(chunk(8, _parameter(one)) for one in node["parameters"])
    for code, answer in node["responses"].items():
        response = _text(1, answer["description"])
        if "schema" in answer:
            response += chunk(2, chunk(1, _schema(answer["schema"])))
        out += chunk(9, chunk(1, _text(1, code) + chunk(2, chunk(1, response))))
    return out + _extensions(13, node)


def _parameter(node: dict[str, Any]) -> bytes:
    """Return a ParametersItem {1: Parameter {1: body, 2: non-body {3: query, 4: path}}}."""
    required = _flag(4 if node["in"] == "body" else 1) if node.get("required") else b""
    if node["in"] == "body":
        return chunk(1, chunk(1, _text(2, node["name"]) + _text(3, "body") + required
                                + chunk(5, _schema(node["schema"]))))
    place, kind, unique = (3, 6, 20) if node["in"] == "query" else (4, 5, 19)
    item = required + _text(2, node["in"]) + _text(4, node["name"]) + _text(kind, node["type"]) + _flag(unique)
    return chunk(1, chunk(2, chunk(place, item)))


def _named_schemas(nodes: dict[str, Any]) -> bytes:
    return b"".join(chunk(1, _text(1, name) + chunk(2, _schema(node))) for name, node in nodes.items())


def _schema(node: dict[str, Any]) -> bytes:
    out = b"".join(_text(number, node[key]) for key, number in (("$ref", 1), ("format", 2), ("description", 4))
                   if key in node)
    if "default" in node:
        out += chunk(5, _text(2, json.dumps(node["default"])))
    out += b"".join(_text(19, name) for name in node.get("required", ()))
    out += b"".join(chunk(20, _text(2, json.dumps(value))) for value in node.get("enum", ()))
    if "additionalProperties" in node:
        values = node["additionalProperties"]
        if isinstance(values, dict):
            out += chunk(21, chunk(1, _schema(values)))
        elif values:
            out += chunk(21, _flag(2))
    if "type" in node:
        out += chunk(22, _text(1, node["type"]))
    if "items" in node:
        out += chunk(23, chunk(1, _schema(node["items"])))
    if "properties" in node:
        out += chunk(25, _named_schemas(node["properties"]))
    return out + _extensions(31, node)
