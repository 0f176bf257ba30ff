"""From a request to what is asked of the authorizer, and upstream's words when it says no."""

from __future__ import annotations

from netlab.api import fields
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.http import Request
from netlab.apiserver.route import Target, split
from netlab.errors import ApiError

_MANY = {"get": "list", "head": "list", "post": "create", "delete": "deletecollection"}
_ONE = {"get": "get", "head": "get", "post": "create", "put": "update", "patch": "patch", "delete": "delete"}


def attributes(request: Request, asked: Target | None) -> Attributes:
    """Return what a request asks for (upstream's RequestInfo)."""
    method = request.method.lower()
    if asked is None:
        return _unserved(request, method) or Attributes(request.user, method, path=request.path)
    resource, name = asked.resource, asked.name
    selected: tuple[tuple[str, str], ...] = ()
    if asked.verb in ("list", "watch", "deletecollection"):
        selected = _selected(request)
        name = name or dict(selected).get("metadata.name", "")
    namespace = asked.name if resource.plural == "namespaces" and not resource.group else asked.namespace
    return Attributes(request.user, asked.verb or method, resource.group, resource.version, resource.plural,
                      asked.subresource, namespace, name, fields=selected)


def _selected(request: Request) -> tuple[tuple[str, str], ...]:
    text = request.arg("fieldSelector")
    if not text:
        return ()
    try:
        found = fields.parse(text)
    except ValueError:
        return ()  # the verb will say so
    return tuple((field, value) for field, operator, value in found.requirements if operator == "=")


def _unserved(request: Request, method: str) -> Attributes | None:
    """Read a path that has a resource's form though no such resource is served: refused as one, not as a page."""
    parts = split(request.path)
    if parts is None:
        return None
    group, version, rest = parts
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2:
            rest = rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    verb = (_ONE if name else _MANY).get(method, method)
    return Attributes(request.user, verb, group, version, rest[0], rest[2] if len(rest) > 2 else "", namespace, name)


def refused(asked: Attributes, reason: str) -> ApiError:
    """Return the 403 for what is not allowed."""
    who = f'User "{asked.user.name}" cannot {asked.verb}'
    if not asked.resource:
        message = f'forbidden: {who} path "{asked.path}"'
    else:
        plural = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
        what = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        place = f' in the namespace "{asked.namespace}"' if asked.namespace else " at the cluster scope"
        subject = f'{plural} "{asked.name}"' if asked.name else plural
        message = f'{subject} is forbidden: {who} resource "{what}" in API group "{asked.group}"{place}'
    message += f": {reason}" if reason else ""
    pairs = (("name", asked.name), ("group", asked.group), ("kind", asked.resource))
    return ApiError(403, "Forbidden", message, details={name: value for name, value in pairs if value})


