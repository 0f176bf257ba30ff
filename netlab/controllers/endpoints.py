"""Endpoints: the older, single list of the Pods behind each Service (k8s:pkg/controller/endpoint)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import ClassVar

import orjson

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.base import Context
from netlab.controllers.endpointslices import HEADLESS, TRIGGER, addresses, belongs, families, target_port
from netlab.controllers.pods import is_ready, node_of
from netlab.controllers.services import ServiceController
from netlab.errors import ApiError

_CAPACITY = 1000
_OVER = "endpoints.kubernetes.io/over-capacity"
_MANAGED_BY = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}


def subsets(service: Object, pods: Iterable[Object]) -> tuple[list[Object], bool]:
    """Return (subsets, whether some were left out): one subset for each set of ports, addresses in order."""
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    rows: list[tuple[Object, Object | None, bool]] = []
    pods = [pod for pod in pods if belongs(pod) and (anyway or not meta.deleting(pod))]
    family = families(service, pods)[0]
    for pod in pods:
        ip = next((text for text in addresses(pod) if f"IPv{ipaddress.ip_address(text).version}" == family), "")
        if not ip:
            continue
        address: Object = {"ip": ip, "targetRef": {"kind": "Pod", "namespace": meta.namespace(pod),
                                                   "name": meta.name(pod), "uid": meta.uid(pod)}}
        if node_of(pod):
            address["nodeName"] = node_of(pod)
        if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == meta.name(service):
            address["hostname"] = pod["spec"]["hostname"]
        ready = anyway or is_ready(pod)
        ports = service["spec"].get("ports") or []
        if not ports and service["spec"].get("clusterIP") == "None":
            rows.append((address, None, ready))
        for port in ports:
            number = target_port(port, pod)
            if number is not None:
                row: Object = {"name": port["name"]} if port.get("name") else {}
                row |= {"port": number, "protocol": port.get("protocol") or "TCP"}
                if port.get("appProtocol"):
                    row["appProtocol"] = port["appProtocol"]
                rows.append((address, row, ready))
    rows.sort(key=lambda entry: (not entry[2], ipaddress.ip_address(entry[0]["ip"])))
    kept = list(dict.fromkeys(entry[0]["targetRef"]["uid"] for entry in rows))
    over = len(kept) > _CAPACITY
    allowed = set(kept[:_CAPACITY])
    return _repacked([entry for entry in rows if entry[0]["targetRef"]["uid"] in allowed]), over


def _repacked(rows: Iterable[tuple[Object, Object | None, bool]]) -> list[Object]:
    """Group by address, then by the ports an address has (k8s:pkg/api/v1/endpoints/util.go, RepackSubsets)."""
    by_address: dict[str, tuple[Object, bool, list[Object]]] = {}
    for address, port, ready in rows:
        entry = by_address.setdefault(address["targetRef"]["uid"], (address, ready, []))
        if port is not None and port not in entry[2]:
            entry[2].append(port)
    groups: dict[bytes, Object] = {}
    for address, ready, ports in by_address.values():
        ports.sort(key=lambda port: (port.get("name", ""), port["protocol"], port["port"]))
        group = groups.setdefault(orjson.dumps(ports), {"ports": ports} if ports else {})
        group.setdefault("addresses" if ready else "notReadyAddresses", []).append(address)
    order = ("addresses", "notReadyAddresses", "ports")
    return [{part: group[part] for part in order if part in group} for _, group in sorted(groups.items())]


class EndpointsController(ServiceController):
    """The loop for Endpoints; its keys are Services."""

    name: ClassVar[str] = "endpoints-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.endpoints = self.source("endpoints", self._endpoints_changed)
        self.recorder = context.recorder("endpoint-controller")

    def _endpoints_changed(self, key: str, old: Object | None, _new: Object | None) -> None:
        if old is not None:
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        """Write the Endpoints of one Service; those without a selector are somebody else's."""
        service, current = self.services.get(key), self.endpoints.get(key)
        if service is None:
            if current is not None and _MANAGED_BY.items() <= meta.labels(current).items():
                await self._delete(current)
            return None
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName" \
                or meta.deleting(service):
            return None
        found, over = subsets(service, self.selected(service))
        tags = {k: v for k, v in meta.labels(service).items() if k != HEADLESS} | _MANAGED_BY
        if service["spec"].get("clusterIP") == "None":
            tags[HEADLESS] = ""
        notes = dict(meta.annotations(current or {}))
        trigger = self.trigger(key)
        if trigger:
            notes[TRIGGER] = trigger
        notes.pop(_OVER, None)
        if over:
            notes[_OVER] = "truncated"
        if current is not None and (current.get("subsets") or []) == found and meta.labels(current) == tags \
                and (_OVER in meta.annotations(current)) == over:
            return None
        body: Object = {"apiVersion": "v1", "kind": "Endpoints",
                        "metadata": {**(current or {}).get("metadata", {}), "name": meta.name(service),
                                     "namespace": meta.namespace(service), "labels": tags, "annotations": notes}}
        if found:
            body["subsets"] = found
        try:
            made = await (self.client.create("endpoints", body) if current is None
                          else self.client.update("endpoints", body))
        except ApiError as error:
            if error.reason not in ("Conflict", "AlreadyExists", "NotFound"):
                self.recorder.event(service, "Warning", "FailedToUpdateEndpoint",
                                    f"Failed to update endpoint {key}: {error}")
            raise
        self.wrote(key, self.endpoints, made)
        return None

    async def _delete(self, obj: Object) -> None:
        try:
            await self.client.delete("endpoints", meta.name(obj), meta.namespace(obj), uid=meta.uid(obj))
        except ApiError as error:
            if error.code not in (404, 409):
                raise
