"""metadata.managedFields of every write that is no server-side apply."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.api.patch import apply
from netlab.apiserver.call import Call


def track(call: Call, old: Object | None, new: Object, *, subresource: str = "") -> Object:
    """Return `new` with its managedFields brought up to date for this request's manager.

    A client that sends an empty list asks to forget who owns what, as upstream. A new object is compared with an empty
    one: nobody owns what Go writes of that, too.
    """
    resource = call.endpoint.resource
    return apply.track(call.endpoint.nothing if old is None else old, new, manager=call.manager(),
                       operation="Update", api_version=resource.api_version, kind=resource.kind,
                       subresource=subresource, now=call.time())
