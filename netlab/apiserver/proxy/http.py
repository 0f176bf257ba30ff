"""pods/…/proxy and services/…/proxy: a plain HTTP request to the Pod, from where the API server is."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import quote

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply, Response


async def pod(call: Call) -> Response:
    """Pass the request to `[scheme:]name[:port]` of a Pod.

    Raises:
        ApiError: 404, 503 the Pod has no address.
    """
    scheme, name, port = split(call.name)
    obj = await _named(call, "pods", name)
    address = (obj.get("status") or {}).get("podIP", "")
    if not address:
        raise status.bad_request("address not allowed")
    number = _port_of_pod(obj, port)
    return await _forward(call, scheme, address, number)


async def service(call: Call) -> Response:
    """Pass the request to a ready endpoint of `[scheme:]name[:port]`.

    Raises:
        ApiError: 404, 503 no endpoint is ready.
    """
    scheme, name, port = split(call.name)
    obj = await _named(call, "services", name)
    ports = (obj.get("spec") or {}).get("ports") or []
    if port.isascii() and port.isdigit():
        chosen = [entry.get("name", "") for entry in ports if entry.get("port") == int(port)]
    else:
        only = not port and len(ports) == 1
        chosen = [entry.get("name", "") for entry in ports if only or entry.get("name", "") == port]
    if not chosen:
        raise status.unavailable(f'no service port "{port}" found for service "{name}"')
    endpoints = await call.api.lookup("endpoints", call.namespace, name)
    ready: list[tuple[str, int]] = []
    for subset in (endpoints or {}).get("subsets") or []:
        number: Any = next((entry["port"] for entry in subset.get("ports") or []
                            if entry.get("name", "") == chosen[0]), None)
        if number:
            ready += [(entry["ip"], number) for entry in subset.get("addresses") or []]
    if not ready:
        raise status.unavailable(f'no endpoints available for service "{name}"')
    address, number = random.choice(ready)
    return await _forward(call, scheme, address, number)


def split(text: str) -> tuple[str, str, str]:
    """Return (scheme, name, port) of `name`, `name:port` or `scheme:name:port`.

    Raises:
        ApiError: 400.
    """
    parts = text.split(":")
    if len(parts) == 1:
        return "http", parts[0], ""
    if len(parts) == 2:
        return "http", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[0] or "http", parts[1], parts[2]
    raise status.bad_request(f'invalid service request "{text}"')


async def _named(call: Call, plural: str, name: str) -> Object:
    obj = await call.api.lookup(plural, call.namespace, name)
    if obj is None:
        raise status.not_found(call.endpoint.resource, name)
    return obj


def _port_of_pod(obj: Object, port: str) -> int:
    ports = [entry for container in (obj.get("spec") or {}).get("containers") or []
             for entry in container.get("ports") or []]
    if port.isascii() and port.isdigit():
        return int(port)
    for entry in ports:
        if entry.get("name") == port or not port:
            return int(entry["containerPort"])
    return 80


async def _forward(call: Call, scheme: str, address: str, port: int) -> Response:
    host = f"[{address}]" if ":" in address else address
    query = f"?{call.request.raw_query}" if call.request.raw_query else ""
    path = quote(call.target.rest, safe="/:@!$&'()*+,;=")
    if path and call.request.path.endswith("/"):
        path += "/"  # it makes a difference to where relative links lead
    if not path and not call.request.path.endswith("/") and call.request.method in ("GET", "HEAD"):
        return Reply(status=301, headers={"Location": f"{call.request.path}/{query}"})  # so that relative links work
    return await call.api.kubelets.forward(call.request, f"{scheme}://{host}:{port}/{path}{query}", known=False,
                                           prefix=prefix_of(call))


def prefix_of(call: Call) -> str:
    """Return the path of the proxy: what stands before the path that is asked of the other server."""
    return call.request.path.removesuffix("/").removesuffix(call.target.rest.strip("/")).rstrip("/")
