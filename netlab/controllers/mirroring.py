"""EndpointSlice mirroring: Endpoints that somebody wrote by hand, as slices.

kube-proxy and DNS read only slices, so a Service without a selector and its own Endpoints would lead nowhere. Rules:
k8s:pkg/controller/endpointslicemirroring.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import ClassVar

import orjson

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller, all_of
from netlab.controllers.endpointslice import RESOURCE
from netlab.controllers.endpointslices import MANAGED_BY, SERVICE_NAME, TRIGGER, Plan
from netlab.errors import ApiError

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_LIMIT = 1000  # addresses of one subset that are mirrored


def mirrored(endpoints: Object, service: Object | None) -> bool:
    """Tell whether these Endpoints are to be mirrored: hand-written, for a Service without a selector."""
    return (service is not None and not service["spec"].get("selector") and not meta.deleting(endpoints)
            and meta.labels(endpoints).get(SKIP) != "true" and _LEADER not in meta.annotations(endpoints))


def wanted(endpoints: Object) -> list[Object]:
    """Return the slices that say what the Endpoints say, without names: one for each subset and address family."""
    found: dict[bytes, Object] = {}
    for subset in endpoints.get("subsets") or []:
        ports = [{"name": row.get("name") or "", "port": row["port"], "protocol": row.get("protocol") or "TCP"}
                 | ({"appProtocol": row["appProtocol"]} if row.get("appProtocol") else {})
                 for row in subset.get("ports") or []]
        addresses = [(row, True) for row in subset.get("addresses") or []]
        addresses += [(row, False) for row in subset.get("notReadyAddresses") or []]
        for row, ready in addresses[:_LIMIT]:
            kind = f"IPv{ipaddress.ip_address(row['ip']).version}"
            made = found.setdefault(_identity(kind, ports), _slice(endpoints, kind, ports))
            one: Object = {"addresses": [row["ip"]], "conditions": {"ready": ready}}
            one |= {part: row[part] for part in ("hostname", "nodeName", "targetRef") if row.get(part)}
            made["endpoints"].append(one)
    return list(found.values())


def decide(endpoints: Object, existing: Sequence[Object]) -> Plan:
    """Return what to write so that the slices say what the Endpoints say."""
    old: dict[bytes, Object] = {}
    doubles = [row for row in sorted(existing, key=meta.name)
               if old.setdefault(_identity(row["addressType"], row.get("ports") or []), row) is not row]
    create, update = [], []
    for row in wanted(endpoints):
        there = old.pop(_identity(row["addressType"], row["ports"]), None)
        if there is None:
            create.append(row)
        elif (there.get("endpoints") or []) != row["endpoints"] or meta.labels(there) != meta.labels(row):
            head = {**there["metadata"], "labels": meta.labels(row), "annotations": meta.annotations(row)}
            update.append({**row, "metadata": head})
    return Plan(tuple(create), tuple(update), (*doubles, *old.values()))


def _slice(endpoints: Object, kind: str, ports: list[Object]) -> Object:
    tags = {k: v for k, v in meta.labels(endpoints).items() if k not in (SERVICE_NAME, MANAGED_BY)}
    notes = {k: v for k, v in meta.annotations(endpoints).items() if k not in (
        TRIGGER, "kubectl.kubernetes.io/last-applied-configuration")}
    head: Object = {"generateName": f"{meta.name(endpoints)}-", "namespace": meta.namespace(endpoints),
                    "labels": tags | {SERVICE_NAME: meta.name(endpoints), MANAGED_BY: MANAGER},
                    "ownerReferences": [meta.owner_reference({"apiVersion": "v1", "kind": "Endpoints", **endpoints})]}
    if notes:
        head["annotations"] = notes
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": head, "addressType": kind,
            "endpoints": [], "ports": ports}


def _identity(kind: str, ports: Sequence[Object]) -> bytes:
    rows = sorted((row.get("name") or "", row.get("protocol") or "TCP", row.get("port") or 0) for row in ports)
    return orjson.dumps([kind, rows])


def _of_endpoints(obj: Object) -> list[str]:
    tags = meta.labels(obj)
    return [f"{meta.namespace(obj)}/{tags.get(SERVICE_NAME)}"] if tags.get(MANAGED_BY) == MANAGER else []


class EndpointSliceMirroring(Controller):
    """The loop; its keys are Endpoints."""

    name: ClassVar[str] = "endpointslice-mirroring-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.endpoints = self.source("endpoints", self.enqueue)
        self.services = self.source("services", self._service_changed)
        self.slices = self.source(RESOURCE, self._slice_changed)
        self.slices.add_index("endpoints", _of_endpoints)

    def _service_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or old["spec"].get("selector") != new["spec"].get("selector"):
            self.queue.add(key)

    def _slice_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            for key in _of_endpoints(obj or {}):
                self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        """Write the slices of one hand-written Endpoints object."""
        endpoints, existing = self.endpoints.get(key), self.slices.by_index("endpoints", key)
        if endpoints is None or not mirrored(endpoints, self.services.get(key)):
            await all_of(existing, self._delete)
            return None
        plan = decide(endpoints, existing)

        async def create(obj: Object) -> None:
            self.wrote(key, self.slices, await self.client.create(RESOURCE, obj))

        async def update(obj: Object) -> None:
            self.wrote(key, self.slices, await self.client.update(RESOURCE, obj))

        await all_of(plan.update, update)
        await all_of(plan.create, create)
        await all_of(plan.delete, self._delete)
        return None

    async def _delete(self, obj: Object) -> None:
        try:
            await self.client.delete(RESOURCE, meta.name(obj), meta.namespace(obj), uid=meta.uid(obj))
        except ApiError as error:
            if error.code not in (404, 409):
                raise
