"""EndpointSlice: list the Pods behind each Service, for kube-proxy, DNS and ingress."""

from __future__ import annotations

import logging
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers import endpointslices as slices
from netlab.controllers import topology
from netlab.controllers.base import Context, all_of
from netlab.controllers.services import ServiceController
from netlab.errors import ApiError

log = logging.getLogger(__name__)

RESOURCE = "endpointslices.discovery.k8s.io"


def _of_service(obj: Object) -> list[str]:
    tags = meta.labels(obj)
    if tags.get(slices.MANAGED_BY) != slices.MANAGER or not tags.get(slices.SERVICE_NAME):
        return []
    return [f"{meta.namespace(obj)}/{tags[slices.SERVICE_NAME]}"]


class EndpointSlices(ServiceController):
    """The loop for EndpointSlices; its keys are Services."""

    name: ClassVar[str] = "endpointslice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.slices = self.source(RESOURCE, self._slice_changed)
        self.slices.add_index("service", _of_service)
        self.nodes = self.source("nodes", self._node_changed)
        self.recorder = context.recorder("endpoint-slice-controller")

    def _slice_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        """Undo what others do to our slices."""
        for obj in (old, new):
            for key in _of_service(obj or {}):
                self.queue.add(key)

    def _node_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        moved = old is not None and meta.labels(old).get(slices.ZONE) != meta.labels(new or {}).get(slices.ZONE)
        if not moved and topology.weight(old) == topology.weight(new):
            return
        for service in self.services.all():
            if moved or topology.wanted(service):
                self.queue.add(meta.key(service))

    async def reconcile(self, key: str) -> float | None:
        """Write the slices of one Service."""
        service = self.services.get(key)
        existing = self.slices.by_index("service", key)
        if service is None:  # the slices go with their owner, by garbage collection
            return None
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            await all_of(existing, self._delete)
            return None
        if meta.deleting(service):
            return None
        zones = {meta.name(node): meta.labels(node)[slices.ZONE] for node in self.nodes.all()
                 if slices.ZONE in meta.labels(node)}
        trigger = self.trigger(key)
        shares = topology.shares(self.nodes.all()) if topology.wanted(service) else {}
        plan = slices.decide(service, self.selected(service), zones, existing, trigger=trigger, shares=shares,
                             limit=self.options.max_endpoints_per_slice)
        for kind, reason, message in plan.notes:
            self.recorder.event(service, kind, reason, message)

        async def create(obj: Object) -> None:
            self.wrote(key, self.slices, await self.client.create(RESOURCE, obj))

        async def update(obj: Object) -> None:
            self.wrote(key, self.slices, await self.client.update(RESOURCE, obj))

        try:
            await all_of(plan.update, update)
            await all_of(plan.create, create)
            await all_of(plan.delete, self._delete)
        except ApiError as error:
            if error.reason not in ("Conflict", "NotFound"):
                self.recorder.event(service, "Warning", "FailedToUpdateEndpointSlices",
                                    f"Error updating Endpoint Slices for Service {key}: {error}")
            raise
        return None

    async def _delete(self, obj: Object) -> None:
        try:
            await self.client.delete(RESOURCE, meta.name(obj), meta.namespace(obj), uid=meta.uid(obj))
        except ApiError as error:
            if error.code not in (404, 409):
                raise
