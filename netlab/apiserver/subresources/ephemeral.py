"""pods/…/ephemeralcontainers and pods/…/resize: the two ways to change a Pod's containers while it runs."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid_object
from netlab.apiserver.validation.pods import pod_spec
from netlab.apiserver.verbs import patch as patches
from netlab.apiserver.verbs.update import Change, copy_of, modify


def narrowed(call: Call, change: Change) -> Change:
    """Return a change that takes over only what the subresource is about, from what `change` makes."""
    part = "ephemeralContainers" if call.target.subresource == "ephemeralcontainers" else "resources"

    async def only(old: Object) -> tuple[Object, bool]:
        wanted, tracked = await change(old)
        new: Object = copy_of(old)
        new["metadata"]["resourceVersion"] = wanted["metadata"].get("resourceVersion", "")
        if part == "ephemeralContainers":
            errors = _take_ephemeral(new["spec"], wanted.get("spec") or {}, old["spec"])
        else:
            errors = _take_resources(new["spec"], wanted.get("spec") or {})
        pod_defaults.pod_spec(new["spec"], host_ports=True)
        errors += pod_spec(new["spec"], "spec", is_pod=True)
        if errors:
            raise invalid_object(call.endpoint.resource, call.name, errors)
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


def _take_ephemeral(spec: Object, wanted: Object, before: Object) -> list[FieldError]:
    old = {container["name"]: container for container in before.get("ephemeralContainers") or []}
    new = {container.get("name", ""): container for container in wanted.get("ephemeralContainers") or []}
    for name, container in old.items():
        if name not in new:
            return [forbidden("spec.ephemeralContainers", f"existing ephemeral containers {name!r} may not be removed"
                              .replace("'", '"'))]
        if new[name] != container:
            return [forbidden("spec.ephemeralContainers", f"existing ephemeral containers {name!r} may not be changed"
                              .replace("'", '"'))]
    spec["ephemeralContainers"] = wanted.get("ephemeralContainers") or []
    return []


def _take_resources(spec: Object, wanted: Object) -> list[FieldError]:
    for part in ("containers", "initContainers"):
        by_name = {container.get("name"): container for container in wanted.get(part) or []}
        for container in spec.get(part) or []:
            if container["name"] in by_name:
                container["resources"] = by_name[container["name"]].get("resources") or {}
    return []
