"""From a method and a path to what is asked: which resource, which object, which verb (upstream's RequestInfo)."""

from __future__ import annotations

from dataclasses import dataclass

from netlab.api.kinds import Resource
from netlab.apiserver.catalog import Catalog
from netlab.apiserver.http import Request

_ON_ONE = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_ON_MANY = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request of the resource API means.

    `verb` is one of get, list, watch, create, update, patch, delete, deletecollection, or "" when the method means
    nothing there; `namespace` is "" for cluster-scoped resources and for a list over all namespaces; `rest` is what
    follows the subresource (for proxies).
    """

    resource: Resource
    verb: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


def split(path: str) -> tuple[str, str, list[str]] | None:
    """Return (group, version, the parts behind them) of a path in the resource API, None for any other path."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        return "", parts[1], parts[2:]
    if parts[0] == "apis" and len(parts) > 3:
        return parts[1], parts[2], parts[3:]
    return None


def target(request: Request, catalog: Catalog) -> Target | None:
    """Return what the request asks of the resource API, or None where its path names no resource."""
    parts = split(request.path)
    if parts is None:
        return None
    group, version, rest = parts
    watching = rest[0] == "watch" and len(rest) > 1  # the old spelling: /api/v1/watch/pods
    if watching:
        rest = rest[1:]
    namespace = ""
    inner = catalog.find(group, version, rest[2]) if rest[0] == "namespaces" and len(rest) > 2 else None
    if inner is not None and inner.namespaced:
        namespace, rest = rest[1], rest[2:]
        if not namespace:
            return None
    resource = catalog.find(group, version, rest[0])
    if resource is None:
        return None
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if len(rest) > 3 and subresource != "proxy":
        return None
    verb = (_ON_ONE if name else _ON_MANY).get(request.method, "")
    if verb == "create" and name and not subresource:
        verb = ""
    if (verb == "list" and (watching or request.flag("watch"))) or (watching and verb == "get"):
        verb = "watch"
    return Target(resource, verb, namespace, name, subresource, "/".join(rest[3:]))
