"""ResourceQuota controller: counts what each namespace uses, for the quotas' status (pkg/controller/resourcequota).

The API server books every write as it admits it; deletions, failed writes and new quotas are what is put right here.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from netlab.api import kinds, meta, quantity, quota
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.controllers import discovery
from netlab.controllers.base import Context, Controller
from netlab.errors import ApiError, NetlabError

_WATCHED = ("pods", "services", "persistentvolumeclaims", "configmaps", "secrets", "replicationcontrollers")
_AGAIN = 300.0
_SETTLE = 0.2


class ResourceQuotas(Controller):
    """The loop; its keys are ResourceQuotas."""

    name: ClassVar[str] = "resourcequota-controller"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.quotas = self.source("resourcequotas", self.enqueue)
        for resource in _WATCHED:
            self.source(resource, self._used_changed)

    def _used_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        """Count a namespace anew when something went, or when a Pod ended."""
        ended = old is not None and new is not None and (new.get("status") or {}).get("phase") in (
            "Failed", "Succeeded") and (old.get("status") or {}).get("phase") != (new.get("status") or {}).get("phase")
        if new is None or ended:
            namespace, _ = meta.split_key(key)
            for found in self.quotas.all():
                if found["metadata"].get("namespace") == namespace:
                    self.queue.add(meta.key(found))

    async def reconcile(self, key: str) -> float | None:
        """Bring one quota's status up to date."""
        found = self.quotas.get(key)
        if found is None or meta.deleting(found):
            return None
        hard = (found.get("spec") or {}).get("hard") or {}
        used = {name: str(amount) for name, amount in (await self._count(found)).items() if name in hard}
        wanted = {"hard": hard, "used": {name: used.get(name, "0") for name in hard}}
        state = found.get("status") or {}
        if state.get("hard") == wanted["hard"] and _same(state.get("used") or {}, wanted["used"]):
            return _AGAIN
        try:
            await self.client.update("resourcequotas", {**found, "status": wanted}, subresource="status")
        except ApiError as error:
            if error.code == 409:
                await asyncio.sleep(_SETTLE)  # the API server books: look again when it has
                return 0.0
            if error.code != 404:
                raise
        return _AGAIN

    async def _count(self, found: Object) -> quota.Usage:
        namespace = found["metadata"]["namespace"]
        total: quota.Usage = {}
        for resource in await self._resources(found):
            try:
                items, _ = await self.client.list(resource, namespace)
            except NetlabError:
                continue  # went meanwhile: nothing of it is used
            for obj in items:
                if quota.concerns(found, resource, obj):
                    for name, amount in quota.used(resource, obj).items():
                        total[name] = total.get(name, quantity.ZERO) + amount
        return total

    async def _resources(self, found: Object) -> list[Resource]:
        """Return the resources whose objects a quota counts."""
        names = quota.names(found)
        wanted = [kinds.resource(plural) for plural in ("pods", "services", "persistentvolumeclaims")]
        wanted += [kinds.resource(name) for name in names if name in (
            "configmaps", "secrets", "replicationcontrollers", "resourcequotas")]
        counted = {name.removeprefix("count/") for name in names if name.startswith("count/")}
        counted -= {row.group_resource for row in wanted}
        if counted:
            wanted += [row for row in await discovery.resources(self.client, "list")
                       if row.group_resource in counted and row.namespaced]
        return wanted


def _same(one: Object, other: Object) -> bool:
    return set(one) == set(other) and all(quantity.parse(one[name]) == quantity.parse(other[name]) for name in one)
