"""Discovery: which groups, versions and resources there are; aggregated (v2, v2beta1) and per group (v1)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from netlab.api.kinds import Resource
from netlab.api.protobuf import CONTENT_TYPE
from netlab.apiserver import negotiate, status
from netlab.apiserver.aggregator.keeper import Aggregator, aggregated
from netlab.apiserver.aggregator.proxy import Backend
from netlab.apiserver.catalog import Catalog
from netlab.apiserver.http import Reply, Request
from netlab.apiserver.negotiate import media_types
from netlab.apiserver.subresources.kinds import SUBRESOURCES, kind_of

_PROXY_VERBS = ("create", "delete", "get", "patch", "update")
_V2 = "{};g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"


def _verbs(subresource: str) -> list[str]:
    return list(_PROXY_VERBS if subresource == "proxy" else SUBRESOURCES[subresource][1])


def _aggregated(rows: list[Resource]) -> list[dict[str, Any]]:
    resources = []
    for row in sorted(rows, key=lambda row: row.plural):
        entry: dict[str, Any] = {
            "resource": row.plural, "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
            "scope": "Namespaced" if row.namespaced else "Cluster", "singularResource": row.singular,
            "verbs": list(row.verbs)}
        if row.short_names:
            entry["shortNames"] = list(row.short_names)
        if row.categories:
            entry["categories"] = list(row.categories)
        if row.subresources:
            entry["subresources"] = []
            for name in sorted(row.subresources):
                group, version, kind = kind_of(row, name)
                entry["subresources"].append({"subresource": name, "responseKind": {
                    "group": group, "version": version, "kind": kind}, "verbs": _verbs(name)})
        resources.append(entry)
    return resources


class Discovery:
    """The documents of one server; the aggregated ones are kept until the catalog changes."""

    def __init__(self, catalog: Catalog, others: Aggregator) -> None:
        self._catalog, self._others = catalog, others
        self._kept: dict[tuple[bool, str, tuple[int, int]], tuple[bytes, str]] = {}

    def page(self, request: Request, *, address: str) -> Reply | None:
        """Answer a discovery path, or return None when it is none, or of a group or version that is not served.

        `address` is host:port of this server.
        """
        return _page(self, request, address)

    def nothing(self, path: str) -> Reply:
        """Answer a path that leads nowhere: text, unless it is below a version that has other built-in resources.

        Raises:
            ApiError: 404, in the latter case.
        """
        group, version = ([*path.strip("/").split("/"), "", ""])[1:3] if path.startswith("/apis/") else ("", "v1")
        rows = self._catalog.group_versions().get((group, version), ())
        if path.startswith(("/api/v1/", "/apis/")) and any(self._catalog.schema(row) is None for row in rows):
            raise status.no_such_path()
        return Reply(b"404 page not found\n", 404, "text/plain; charset=utf-8", {"X-Content-Type-Options": "nosniff"})

    def groups(self) -> dict[str, list[str]]:
        """Return the versions of every group, the preferred one first."""
        found: dict[str, list[str]] = {}
        for group, version in self._catalog.group_versions():
            found.setdefault(group, []).append(version)
        for group, version in self._others.served():
            if version not in found.setdefault(group, []):
                found[group].append(version)
        return found

    @property
    def catalog(self) -> Catalog:
        """Return what is served."""
        return self._catalog

    def aggregate(self, core: bool, version: str) -> tuple[bytes, str]:
        """Return an aggregated document and its ETag."""
        key = (core, version, (self._catalog.generation, self._others.generation))
        if key not in self._kept:
            self._kept = {old: made for old, made in self._kept.items() if old[2] == key[2]}
            self._kept[key] = _aggregate(self._catalog, {} if core else self._others.served(), core, version)
        return self._kept[key]


def _aggregate(catalog: Catalog, others: Mapping[tuple[str, str], Backend], core: bool,
               version: str) -> tuple[bytes, str]:
    items: dict[str, dict[str, Any]] = {}
    for (group, group_version), rows in catalog.group_versions().items():
        if (group == "") == core and (group, group_version) not in others:
            item = items.setdefault(group, {"metadata": {"name": group} if group else {}, "versions": []})
            item["versions"].append({"version": group_version, "resources": _aggregated(rows), "freshness": "Current"})
    for (group, group_version), backend in others.items():
        item = items.setdefault(group, {"metadata": {"name": group}, "versions": []})
        item["versions"].append({"version": group_version, "resources": aggregated(backend.listed),
                                 "freshness": "Current" if backend.available else "Stale"})
    body = orjson.dumps({"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}",
                         "metadata": {}, "items": list(items.values())})
    return body, f'"{hashlib.sha256(body).hexdigest().upper()}"'


def _aggregated_version(header: str, packed: bool) -> str:
    """Return v2 or v2beta1 when the client prefers it to the plain lists, else "". In protobuf there is v2 only."""
    for kind, pairs in media_types(header):
        if kind not in ((CONTENT_TYPE,) if packed else ("application/json", "*/*", "application/*")):
            continue
        parameters = dict(pairs)
        if parameters.get("as") == "APIGroupDiscoveryList" and parameters.get("g") == "apidiscovery.k8s.io" \
                and parameters.get("v") in (("v2",) if packed else ("v2", "v2beta1")):
            return parameters["v"]
        if "as" not in parameters:
            return ""
    return ""


def _index(served: Discovery, request: Request, *, core: bool, address: str) -> Reply:
    """Answer /api (core) or /apis in the form that the client asks for."""
    accepted = request.headers.get("Accept", "")
    packed = negotiate.only_protobuf(accepted)
    version = _aggregated_version(accepted, packed)
    if version:
        body, tag = served.aggregate(core, version)
        kind = _V2.format(CONTENT_TYPE if packed else "application/json", version)
        headers = {"ETag": tag, "Vary": "Accept"}
        if request.headers.get("If-None-Match", "") == tag:
            return Reply(b"", 304, kind, headers)
        return Reply(negotiate.packed(orjson.loads(body)) if packed else body, content_type=kind, headers=headers)
    if core:
        return _json({"kind": "APIVersions", "versions": ["v1"],
                      "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
    return _json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
        _group(name, versions) for name, versions in served.groups().items() if name]})


def _page(served: Discovery, request: Request, address: str) -> Reply | None:
    catalog = served.catalog
    parts = request.path.strip("/").split("/")
    if parts == ["api"]:
        return _index(served, request, core=True, address=address)
    if parts == ["apis"]:
        return _index(served, request, core=False, address=address)
    if parts[0] == "api" and len(parts) == 2:
        return _resources(catalog, "", parts[1])
    if parts[0] == "apis" and len(parts) == 2:
        versions = served.groups().get(parts[1])
        if versions is None:
            return None
        return _json({"kind": "APIGroup", "apiVersion": "v1"} | _group(parts[1], versions))
    if parts[0] == "apis" and len(parts) == 3:
        return _resources(catalog, parts[1], parts[2])
    return None


def _group(name: str, versions: Sequence[str]) -> dict[str, Any]:
    found = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": found, "preferredVersion": found[0]}


def _resources(catalog: Catalog, group: str, version: str) -> Reply | None:
    rows = catalog.group_versions().get((group, version))
    if rows is None:
        return None
    entries: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: row.plural):
        entry: dict[str, Any] = {"name": row.plural, "singularName": row.singular, "namespaced": row.namespaced,
                                 "kind": row.kind, "verbs": list(row.verbs)}
        if row.short_names:
            entry["shortNames"] = list(row.short_names)
        if row.categories:
            entry["categories"] = list(row.categories)
        if "list" in row.verbs:
            stored = row.stored or row.api_version
            named = f"{stored if '/' in stored else f'/{stored}'}/{row.kind}"
            entry["storageVersionHash"] = base64.b64encode(hashlib.sha256(named.encode()).digest()[:8]).decode()
        entries.append(entry)
        for name in sorted(row.subresources):
            own_group, own_version, kind = kind_of(row, name)
            entries.append({"name": f"{row.plural}/{name}", "singularName": "", "namespaced": row.namespaced,
                            "kind": kind, "verbs": _verbs(name)}
                           | ({"group": own_group, "version": own_version}
                              if (own_group, own_version) != (row.group, row.version) else {}))
    return _json({"kind": "APIResourceList", "apiVersion": "v1",
                  "groupVersion": f"{group}/{version}" if group else version, "resources": entries})


def _json(value: Any) -> Reply:
    return Reply(orjson.dumps(value))
