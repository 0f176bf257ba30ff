"""namespaces/…/finalize: the namespace controller's word that nothing is left inside."""

from __future__ import annotations

from dataclasses import replace

from netlab.api.meta import Object
from netlab.apiserver import render, status
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.verbs.update import copy_of, rewrite


async def update(call: Call) -> Reply:
    """Set spec.finalizers; the last one gone takes a namespace that waits for it along.

    Raises:
        ApiError: 400, 404, 409.
    """
    wanted = await call.read_object()
    if wanted["metadata"].get("name", call.name) != call.name:
        raise status.bad_request(f"the name of the object ({wanted['metadata']['name']}) does not match the name on "
                                 "the "
                                 f"URL ({call.name})")

    async def change(old: Object) -> tuple[Object, bool]:
        new: Object = copy_of(old)
        new.setdefault("spec", {})["finalizers"] = (wanted.get("spec") or {}).get("finalizers") or []
        new["metadata"]["resourceVersion"] = wanted["metadata"].get("resourceVersion", "")
        if wanted["metadata"].get("uid"):
            new["metadata"]["uid"] = wanted["metadata"]["uid"]
        return new, False

    kv, obj = await rewrite(replace(call, target=replace(call.target, subresource="finalize")), change)
    return render.one(call, kv) if kv is not None else render.one_object(call, obj)
