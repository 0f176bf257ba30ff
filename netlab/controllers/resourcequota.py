"""ResourceQuota controller: counts what each namespace uses, for the quotas' status (pkg/controller/resourcequota).

The API server books every write as it admits it; deletions, failed writes and new quotas are what is put right here.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from netlab.api import kinds, meta, quantity, quota
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.client.informer import Informer
from netlab.controllers import discovery
from netlab.controllers.base import Context, Controller
from netlab.errors import ApiError, NetlabError

_WATCHED = ("pods", "services", "persistentvolumeclaims", "configmaps", "secrets", "replicationcontrollers")
_AGAIN, _UNKNOWN = 300.0, 30.0
"""Seconds until the next look; the second where a quota counts what the API server does not have (yet)."""
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
        self._monitored: dict[Resource, Informer] = {}
        self._own: dict[Resource, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; what quotas count besides `_WATCHED` is watched as they come to count it."""
        self._stop = stop
        try:
            await super().run(stop)
        finally:
            for task in self._own.values():
                task.cancel()
            await asyncio.gather(*self._own.values(), return_exceptions=True)

    def _monitor(self, counted: set[Resource], known: list[Resource]) -> None:
        """Hear of deletions of what is counted, and no more of what the API server has no more."""
        for row in set(self._own) - set(known):
            self._own.pop(row).cancel()
            del self._monitored[row]
        for row in counted - set(self._monitored):
            informer = self.context.existing(row.group_resource)
            if informer is None:
                informer = Informer(self.client, row, transform=_outline)
                self._own[row] = asyncio.ensure_future(informer.run(self._stop))
            informer.add_handler(self._used_changed)
            self._monitored[row] = informer

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
        resources, unknown = await self._resources(found)
        again = _UNKNOWN if unknown else _AGAIN
        used = {name: str(amount) for name, amount in (await self._count(found, resources)).items() if name in hard}
        wanted = {"hard": hard, "used": {name: used.get(name, "0") for name in hard}}
        state = found.get("status") or {}
        if state.get("hard") == wanted["hard"] and _same(state.get("used") or {}, wanted["used"]):
            return again
        try:
            await self.client.update("resourcequotas", {**found, "status": wanted}, subresource="status")
        except ApiError as error:
            if error.code == 409:
                await asyncio.sleep(_SETTLE)  # the API server books: look again when it has
                return 0.0
            if error.code != 404:
                raise
        return again

    async def _count(self, found: Object, resources: list[Resource]) -> quota.Usage:
        namespace = found["metadata"]["namespace"]
        total: quota.Usage = {}
        for resource in resources:
            try:
                items, _ = await self.client.list(resource, namespace)
            except NetlabError:
                continue  # went meanwhile: nothing of it is used
            for obj in items:
                if quota.concerns(found, resource, obj):
                    for name, amount in quota.used(resource, obj).items():
                        total[name] = total.get(name, quantity.ZERO) + amount
        return total

    async def _resources(self, found: Object) -> tuple[list[Resource], set[str]]:
        """Return the resources whose objects a quota counts, and the names of those that are not there."""
        names = quota.names(found)
        wanted = [kinds.resource(plural) for plural in ("pods", "services", "persistentvolumeclaims")]
        wanted += [kinds.resource(name) for name in names if name in (
            "configmaps", "secrets", "replicationcontrollers", "resourcequotas")]
        counted = {name.removeprefix("count/") for name in names if name.startswith("count/")}
        counted -= {row.group_resource for row in wanted}
        if counted:
            known = [row for row in await discovery.resources(self.client, "list", "watch") if row.namespaced]
            others = {row for row in known if row.group_resource in counted}
            self._monitor({row for row in others if row.group_resource not in _WATCHED}, known)
            wanted += others
            counted -= {row.group_resource for row in others}
        return wanted, counted


def _outline(obj: Object) -> Object:
    return {"metadata": {name: obj["metadata"].get(name) for name in ("name", "namespace", "uid", "resourceVersion")}}


def _same(one: Object, other: Object) -> bool:
    return set(one) == set(other) and all(quantity.parse(one[name]) == quantity.parse(other[name]) for name in one)
