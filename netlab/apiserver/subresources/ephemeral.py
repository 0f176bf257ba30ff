"""pods/…/ephemeralcontainers and pods/…/resize: the two ways to change a Pod's containers while it runs."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.verbs import patch as patches
from netlab.apiserver.verbs.update import Change, copy_of, modify


def narrowed(call: Call, change: Change) -> Change:
    """Return a change that takes over only what the subresource is about, from what `change` makes."""
    part = call.target.subresource

    async def only(old: Object) -> tuple[Object, bool]:
        wanted, tracked = await change(old)
        new: Object = copy_of(old)
        new["metadata"]["resourceVersion"] = wanted["metadata"].get("resourceVersion", "")
        asked = wanted.get("spec") or {}
        if part == "ephemeralcontainers":
            new["spec"]["ephemeralContainers"] = asked.get("ephemeralContainers") or []
        else:
            _take_sizes(new["spec"], asked)
        return new, tracked

    return only


async def update(call: Call) -> Reply:
    """PUT of the Pod: only the subresource's part counts.

    Raises:
        ApiError: 400, 404, 409, 422.
    """
    wanted = await call.read_object()

    async def change(_old: Object) -> tuple[Object, bool]:
        return copy_of(wanted), False

    return await modify(call, narrowed(call, change))


async def patch(call: Call) -> Reply:
    """PATCH of the Pod: only the subresource's part counts.

    Raises:
        ApiError: 400, 404, 409, 415, 422.
    """
    kind, body = await patches.read(call)
    return await modify(call, narrowed(call, patches.patcher(call, kind, body, await call.request.body())))


def _take_sizes(spec: Object, wanted: Object) -> None:
    """Put what is asked for, and only that, into the spec; other containers than there are stay for the checks."""
    for part in ("containers", "initContainers"):
        had, asked = spec.get(part) or [], wanted.get(part) or []
        if [one.get("name") for one in had] != [one.get("name") for one in asked]:
            spec[part] = asked
            continue
        for container, new in zip(had, asked, strict=True):
            for name in ("resources", "resizePolicy"):
                if name in new:
                    container[name] = new[name]
                else:
                    container.pop(name, None)
    if "resources" in wanted:
        spec["resources"] = wanted["resources"]
    else:
        spec.pop("resources", None)
