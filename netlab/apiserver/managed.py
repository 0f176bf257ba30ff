"""metadata.managedFields of every write that is no server-side apply."""

from __future__ import annotations

import orjson

from netlab.api.meta import Object
from netlab.api.patch import apply
from netlab.api.patch.fieldset import Set
from netlab.apiserver.call import Call
from netlab.apiserver.validation.remembered import digest

_METADATA = "f:metadata"
_REPLICAS = 64
"""Pods whose fields are remembered; as JSON, which takes a tenth of the room."""
_USUAL = 16 * 1024
_replicas: dict[bytes, bytes] = {}


def track(call: Call, old: Object | None, new: Object, *, subresource: str = "") -> Object:
    """Return `new` with its managedFields brought up to date for this request's manager.

    A client that sends an empty list asks to forget who owns what, as upstream. A new object is compared with an empty
    one: nobody owns what Go writes of that, too.
    """
    resource = call.endpoint.resource
    if old is None and resource.group_resource == "pods" and not new["metadata"].get("managedFields"):
        return _replica(call, new)
    return apply.track(call.endpoint.nothing if old is None else old, new, manager=call.manager(),
                       operation="Update", api_version=resource.api_version, kind=resource.kind,
                       subresource=subresource, now=call.time(),
                       ignored=call.endpoint.strategy.resets(subresource))


def _replica(call: Call, pod: Object) -> Object:
    """Return a new Pod with its managedFields. What is owned of two whose specs are alike is alike but for metadata."""
    resource, nothing = call.endpoint.resource, call.endpoint.nothing

    def owned(parts: Object) -> Set:
        return apply.owned_by_creator(nothing if "spec" in parts else {}, parts, api_version=resource.api_version,
                                      kind=resource.kind)

    metadata = {name: value for name, value in pod["metadata"].items() if name != "managedFields"}
    own = owned({"metadata": metadata}).get(_METADATA)
    key = digest(own is None, {name: value for name, value in pod.items() if name not in ("metadata", "status")})
    text = _replicas.get(key)
    if text is None:
        fields = owned(pod | {"metadata": metadata})
        text = orjson.dumps(fields | ({} if own is None else {_METADATA: None}))
        if len(text) <= _USUAL:
            if len(_replicas) >= _REPLICAS:
                del _replicas[next(iter(_replicas))]
            _replicas[key] = text
    else:
        fields = orjson.loads(text) | ({} if own is None else {_METADATA: own})
    if fields:
        manager = apply.Manager(call.manager(), "Update", resource.api_version, "")
        metadata["managedFields"] = [apply.entry(manager, apply.Owned(fields, resource.api_version, call.time()))]
    return pod | {"metadata": metadata}
