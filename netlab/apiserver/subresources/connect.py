"""exec, attach, portforward and proxy: connections, which admission is asked about before they are made."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.admission.base import Attempt
from netlab.apiserver.call import Call
from netlab.apiserver.subresources.kinds import kind_of

_STREAMS = ("stdin", "stdout", "stderr", "tty")


async def admit(call: Call) -> None:
    """Ask whether a connection may be made.

    Raises:
        ApiError: refused.
    """
    resource, subresource = call.endpoint.resource, call.target.subresource
    _, _, kind = kind_of(resource, subresource)
    await call.api.admission.admit(Attempt(call, "CONNECT", {"kind": kind, "apiVersion": "v1"} | _asked(call), None,
                                           resource, call.namespace, call.name, subresource))


def _asked(call: Call) -> Object:
    """Return the fields of the options that a query is; Go leaves out what is false or empty."""
    request, subresource = call.request, call.target.subresource
    if subresource == "proxy":
        return {"path": call.target.rest} if call.target.rest else {}
    if subresource == "portforward":
        ports = [int(port) for text in request.query.get("ports", []) for port in text.split(",") if port.isdecimal()]
        return {"ports": ports} if ports else {}
    found: Object = {name: True for name in _STREAMS if request.flag(name)}
    if request.arg("container"):
        found["container"] = request.arg("container")
    if request.query.get("command"):
        found["command"] = request.query["command"]
    return found
