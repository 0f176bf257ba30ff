"""GET of one object."""

from __future__ import annotations

from netlab.apiserver import render, status
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.store import KeyValue


async def get(call: Call) -> Reply:
    """Answer the object.

    Raises:
        ApiError: 404.
    """
    wanted = call.request.arg("resourceVersion")
    if wanted and not (wanted.isascii() and wanted.isdigit()):
        raise status.bad_request(f"resourceVersion: Invalid value: \"{wanted}\": strconv.ParseUint: parsing "
                                 f'"{wanted}": invalid syntax')
    store = call.endpoint.folder.store
    if wanted and not await store.reach(int(wanted)):
        raise status.too_large_resource_version(int(wanted), store.revision)
    return render.one(call, await current(call))


async def current(call: Call) -> KeyValue:
    """Return the object that the path names.

    Raises:
        ApiError: 404.
    """
    folder = call.endpoint.folder
    kv = await folder.store.get(folder.key(call.namespace, call.name))
    if kv is None:
        raise status.not_found(call.endpoint.resource, call.name)
    await call.endpoint.ready((kv,))
    return kv
