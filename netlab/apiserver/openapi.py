"""/openapi/v2 and /openapi/v3, the OpenID discovery documents, and the list of paths at the root."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from netlab.api.openapi import v2, v3
from netlab.apiserver import status
from netlab.apiserver.crd import documents
from netlab.apiserver.http import Reply, Request
from netlab.apiserver.negotiate import media_types

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

_V2_ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def page(api: Api, request: Request) -> Reply:
    """Answer a document.

    Raises:
        ApiError: 404.
    """
    path = request.path.strip("/")
    if path == "openapi/v2":
        return _v2(api, request)
    if path == "openapi/v3":
        return _tagged(request, _index(api), "application/json")
    if path.startswith("openapi/v3/"):
        return _v3(api, request, path.removeprefix("openapi/v3/"))
    if path == ".well-known/openid-configuration":
        issuer = api.tokens.issuers[0]
        return Reply(orjson.dumps({
            "issuer": issuer, "jwks_uri": f"https://{api.options.advertise}:{api.port}/openid/v1/jwks",
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key.algorithm for key in api.tokens.verifiers()})}))
    if path == "openid/v1/jwks":
        keys = [key.jwk() for key in api.tokens.verifiers()]
        return Reply(orjson.dumps({"keys": keys}), content_type="application/jwk-set+json")
    raise status.no_such_path()


def paths(api: Api) -> list[str]:
    """Return the paths that GET / lists."""
    found = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"]
    for group, version in api.catalog.group_versions():
        if group:
            found += [f"/apis/{group}", f"/apis/{group}/{version}"]
    found += ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]
    return sorted(set(found))


def _v2(api: Api, request: Request) -> Reply:
    for kind, _ in media_types(request.headers.get("Accept", "")) or (("application/json", ()),):
        if kind == _V2_ASKED:
            body = v2.protobuf(api.catalog.builtin) + v2.more(_custom_definitions(api))
            return _tagged(request, body, v2.CONTENT_TYPE)
        if kind in ("application/json", "*/*", "application/*"):
            body, added = v2.encode_json(api.catalog.builtin), _custom_definitions(api)
            if added:
                whole = orjson.loads(body)
                body = orjson.dumps(whole | {"definitions": whole["definitions"] | added})
            return _tagged(request, body, "application/json")
    raise status.not_acceptable(("application/json", _V2_ASKED))


def _custom_definitions(api: Api) -> dict[str, Any]:
    """Return the OpenAPI v2 definitions of every custom kind."""
    found: dict[str, Any] = {}
    for rows in api.catalog.group_versions().values():
        schemas = {row.kind: schema for row in rows if (schema := api.catalog.schema(row)) is not None}
        if schemas:
            found |= documents.v2(rows, schemas)
    return found


def _documents(api: Api) -> dict[str, str]:
    """Return the hash of every document by its place in the index."""
    found = dict(v3.groups(api.catalog.builtin))
    versions = dict.fromkeys(row.api_version for row in api.catalog.custom)
    for gone in [version for version in api.documents if version not in versions]:
        del api.documents[gone]
    for version in versions:
        found[f"apis/{version}"] = _custom(api, version)[1]
    return found


def _index(api: Api) -> bytes:
    return orjson.dumps({"paths": {place: {"serverRelativeURL": f"/openapi/v3/{place}?hash={digest}"}
                                   for place, digest in _documents(api).items()}})


def _custom(api: Api, version: str) -> tuple[bytes, str]:
    """Return the document of a group version of custom resources and its hash, (b"", "") for another.

    It is kept for as long as the version's schemas stay: a definition that comes or goes concerns its group alone.
    """
    group, _, name = version.partition("/")
    rows = api.catalog.group_versions().get((group, name), [])
    schemas = {row.kind: schema for row in rows if (schema := api.catalog.schema(row)) is not None}
    if not schemas:
        return b"", ""
    kept = api.documents.get(version)
    if kept is None or kept.rows != tuple(rows) or kept.schemas.keys() != schemas.keys() or any(
            kept.schemas[kind] is not schema for kind, schema in schemas.items()):
        body = documents.v3(rows, schemas)
        kept = api.documents[version] = documents.Kept(tuple(rows), schemas, body, sha256(body).hexdigest().upper())
    return kept.body, kept.digest


def _v3(api: Api, request: Request, name: str) -> Reply:
    known = _documents(api)
    if name not in known:
        raise status.no_such_path()
    asked = request.arg("hash")
    if asked and asked != known[name]:
        return Reply(b"", 301, headers={"Location": f"/openapi/v3/{quote(name)}?hash={quote(known[name])}"})
    version = name.removeprefix("apis/").removeprefix("api/")
    reply = _tagged(request, _custom(api, version)[0] or v3.document(api.catalog.builtin, version), "application/json")
    if asked:
        reply.headers["Expires"] = "Thu, 31 Dec 2099 23:59:59 GMT"
    return reply


def _tagged(request: Request, body: bytes, content_type: str) -> Reply:
    tag = f'"{sha256(body).hexdigest().upper()}"'
    headers = {"ETag": tag, "Vary": "Accept"}
    if request.headers.get("If-None-Match", "") == tag:
        return Reply(b"", 304, content_type, headers)
    return Reply(body, 200, content_type, headers)
