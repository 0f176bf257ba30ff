"""What the API server writes in its own name, by the same steps that everybody's writes take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.patch import merge as patches
from netlab.apiserver import status
from netlab.apiserver.call import Call
from netlab.apiserver.http import Request, User
from netlab.apiserver.route import Target
from netlab.apiserver.verbs.create import store_new
from netlab.apiserver.verbs.update import copy_of, rewrite
from netlab.errors import ApiError
from netlab.store import KeyExists, KeyValue

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

__all__ = ["copy_of", "create", "merge", "put"]

_SELF = User("system:apiserver", ("system:masters", "system:authenticated"))


async def create(api: Api, group: str, plural: str, namespace: str, obj: Object) -> KeyValue | None:
    """Create unless it is there; return what is there already.

    Raises:
        ApiError: the store or a check refused it.
    """
    call = _call(api, group, plural, namespace, "", "create")
    folder = call.endpoint.folder
    existing = await api.store.get(folder.key(namespace, obj["metadata"]["name"]))
    if existing is not None:
        return existing
    try:
        await store_new(call, obj, dry_run=False)
    except KeyExists:
        return await api.store.get(folder.key(namespace, obj["metadata"]["name"]))
    except ApiError as error:
        if error.code != 409:
            raise
    return None


async def put(api: Api, group: str, plural: str, wanted: Object, parts: tuple[str, ...]) -> None:
    """Create, or make these parts of what is there the wanted ones.

    Raises:
        ApiError: the store or a check refused it.
    """
    metadata = wanted["metadata"]
    existing = await create(api, group, plural, metadata["namespace"], copy_of(wanted))
    if existing is None:
        return
    call = _call(api, group, plural, metadata["namespace"], metadata["name"], "update")
    before = call.endpoint.view(existing)
    if all(before.get(part) == wanted[part] for part in parts):
        return

    async def change(old: Object) -> tuple[Object, bool]:
        new: Object = copy_of(old)
        new |= {part: wanted[part] for part in parts}
        return new, False

    await rewrite(call, change, dry_run=False)


async def merge(api: Api, plural: str, namespace: str, name: str, patch: Object, *, uid: str = "", group: str = "",
                subresource: str = "") -> None:
    """Merge a patch into an object (of core/v1 unless a group is told), if it still has that uid.

    Raises:
        ApiError: it is gone, or the store or a check refused it.
    """
    call = _call(api, group, plural, namespace, name, "patch", subresource)

    async def change(old: Object) -> tuple[Object, bool]:
        if uid and meta.uid(old) != uid:
            raise status.not_found(call.endpoint.resource, name)
        return patches.apply(copy_of(old), patch), False

    await rewrite(call, change, dry_run=False)


def _call(api: Api, group: str, plural: str, namespace: str, name: str, verb: str,
          subresource: str = "") -> Call:
    async def nothing() -> bytes:
        return b""

    headers: dict[str, Any] = {"User-Agent": "kube-apiserver/netlab"}
    request = Request("POST", "/", {}, headers, nothing, user=_SELF)
    endpoint = api.endpoints[(group, "v1", plural)]
    return Call(api, request, Target(endpoint.resource, verb, namespace, name, subresource), endpoint, api.clock())
