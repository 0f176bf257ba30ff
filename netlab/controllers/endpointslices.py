"""Which EndpointSlices a Service should have: pure (k8s:staging/src/k8s.io/endpointslice/reconciler.go)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers import topology
from netlab.controllers.pods import is_over, is_ready, node_of

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
ZONE = topology.ZONE


@dataclass(frozen=True)
class Plan:
    """Slices to write: `create` have no name yet, `update` and `delete` are existing ones.

    `notes` are the Events to tell about zone hints: (type, reason, message).
    """

    create: tuple[Object, ...] = ()
    update: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()
    notes: tuple[tuple[str, str, str], ...] = ()


def families(service: Object, pods: Iterable[Object]) -> list[str]:
    """Return the address types ("IPv4", "IPv6") of a Service's slices."""
    found = list(service["spec"].get("ipFamilies") or [])
    if not found:  # not defaulted by the API server: guess from the Service's address, then from the Pods'
        texts = [service["spec"].get("clusterIP", "")] + [ip for pod in pods for ip in addresses(pod)]
        found = sorted({f"IPv{ipaddress.ip_address(text).version}" for text in texts if text not in ("", "None")})
    return found or ["IPv4"]


def addresses(pod: Object) -> list[str]:
    """Return the Pod's addresses, the first being the main one."""
    status = pod.get("status", {})
    found = [row["ip"] for row in status.get("podIPs") or [] if row.get("ip")]
    return found or ([status["podIP"]] if status.get("podIP") else [])


def ports(service: Object, pod: Object) -> list[Object]:
    """Return the Service's ports as they are on this Pod; a named target port it does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or []:
        number = target_port(port, pod)
        if number is not None:
            row: Object = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
            if port.get("appProtocol"):
                row["appProtocol"] = port["appProtocol"]
            found.append(row)
    return found


def target_port(port: Object, pod: Object) -> int | None:
    """Return the number of a Service port's target on this Pod, None if it names a port the Pod lacks."""
    target = port.get("targetPort")
    if target is None or target == 0:
        return int(port["port"])
    if isinstance(target, int):
        return target
    protocol = port.get("protocol") or "TCP"
    sidecars = [row for row in pod["spec"].get("initContainers") or [] if row.get("restartPolicy") == "Always"]
    for container in [*(pod["spec"].get("containers") or []), *sidecars]:
        for row in container.get("ports") or []:
            if row.get("name") == target and (row.get("protocol") or "TCP") == protocol:
                return int(row["containerPort"])
    return None


def belongs(pod: Object) -> bool:
    """Tell whether a Pod is an endpoint at all, ready or not: it has an address and has not ended."""
    return not is_over(pod) and bool(addresses(pod))


def endpoint(service: Object, pod: Object, ip: str, zone: str) -> Object:
    """Return the endpoint of one Pod."""
    serving, going = is_ready(pod), meta.deleting(pod)
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    row: Object = {"addresses": [ip],
                   "conditions": {"ready": anyway or (serving and not going), "serving": serving, "terminating": going},
                   "targetRef": {"kind": "Pod", "namespace": meta.namespace(pod), "name": meta.name(pod),
                                 "uid": meta.uid(pod)}}
    if node_of(pod):
        row["nodeName"] = node_of(pod)
    if zone:
        row["zone"] = zone
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == meta.name(service):
        row["hostname"] = pod["spec"]["hostname"]
    hints = _hints(service, row)
    if hints:
        row["hints"] = hints
    return row


def labels(service: Object) -> dict[str, str]:
    """Return the labels of a Service's slices: its own and the controller's."""
    found = {k: v for k, v in meta.labels(service).items() if k not in (SERVICE_NAME, MANAGED_BY, HEADLESS)}
    if service["spec"].get("clusterIP") == "None":
        found[HEADLESS] = ""
    return found | {SERVICE_NAME: meta.name(service), MANAGED_BY: MANAGER}


def decide(service: Object, pods: Iterable[Object], zones: Mapping[str, str], existing: Sequence[Object], *,
           limit: int, trigger: str = "", shares: Mapping[str, float] | None = None) -> Plan:
    """Return what to write so that the slices list exactly the Service's endpoints, with as few writes as possible.

    Args:
        service: a Service with a selector.
        pods: the Pods that it selects.
        zones: the zone of each node that has one.
        existing: the slices it has from us.
        limit: endpoints per slice.
        trigger: when the oldest change that this answers happened, for the annotation; "" for unknown.
        shares: each zone's part of the cluster's CPU, for the annotation topology-mode.
    """
    pods = [pod for pod in pods if belongs(pod)]
    plan = Plan()
    kinds = families(service, pods)
    for kind in kinds:
        wanted: dict[bytes, tuple[list[Object], dict[str, Object]]] = {}
        for pod in pods:
            row = ports(service, pod)
            for ip in addresses(pod):
                if f"IPv{ipaddress.ip_address(ip).version}" == kind:
                    made = endpoint(service, pod, ip, zones.get(node_of(pod), ""))
                    wanted.setdefault(_shape(row), (row, {}))[1][_identity(made)] = made
                    break
        if not wanted:
            wanted[_shape(None)] = ([], {})
        mine = [row for row in existing if row.get("addressType") == kind]
        notes = _zone_hints(service, kind, [made for _, rows in wanted.values() for made in rows.values()], mine,
                            shares or {})
        part = _family(service, kind, wanted, mine, limit, trigger)
        plan = Plan(plan.create + part.create, plan.update + part.update, plan.delete + part.delete,
                    plan.notes + notes)
    return Plan(plan.create, plan.update,
                plan.delete + tuple(row for row in existing if row.get("addressType") not in kinds), plan.notes)


def _zone_hints(service: Object, kind: str, endpoints: Sequence[Object], existing: Sequence[Object],
                shares: Mapping[str, float]) -> tuple[tuple[str, str, str], ...]:
    """Put the hints of topology-mode into new endpoints; return the Events that tell of a change."""
    before = {_identity(row): row["hints"]["forZones"][0]["name"] for part in existing
              for row in part.get("endpoints") or [] if (row.get("hints") or {}).get("forZones")}
    if not topology.wanted(service):
        gone = bool(before) and not service["spec"].get("trafficDistribution")
        return ((("Warning", "TopologyAwareHintsDisabled", f"{topology.DISABLED}, addressType: {kind}"),)
                if gone else ())
    ready = [row for row in endpoints if row["conditions"]["ready"]]
    hints = topology.decide([(_identity(row), row.get("zone", "")) for row in ready], shares, before)
    for row in ready:
        if hints.zones:
            row["hints"] = {"forZones": [{"name": hints.zones[_identity(row)]}]}
    if hints.why:
        return (("Warning", "TopologyAwareHintsDisabled", f"{hints.why}, addressType: {kind}"),)
    return () if before else (("Normal", "TopologyAwareHintsEnabled", f"{topology.ENABLED}, addressType: {kind}"),)


def _family(service: Object, kind: str, wanted: Mapping[bytes, tuple[list[Object], dict[str, Object]]],
            existing: Sequence[Object], limit: int, trigger: str) -> Plan:
    create, update, delete = [], [], []
    tags = labels(service)
    for shape, (row, endpoints) in wanted.items():
        left = dict(endpoints)
        placed: list[tuple[Object, list[Object], bool]] = []
        for old in sorted((part for part in existing if _shape(part.get("ports")) == shape), key=meta.name):
            before = old.get("endpoints") or []
            kept = [left.pop(_identity(part)) for part in before if _identity(part) in left]
            placed.append((old, kept, kept != before or meta.labels(old) != tags))
        rest = list(left.values())
        for touched in (True, False):  # fill what is written anyway, before another slice
            for position, (old, kept, changed) in enumerate(placed):
                if rest and changed is touched and kept and len(kept) < limit:
                    taken, rest = rest[:limit - len(kept)], rest[limit - len(kept):]
                    placed[position] = (old, kept + taken, True)
        for position, (old, kept, _) in enumerate(placed):
            if rest and not kept:
                placed[position] = (old, rest[:limit], True)
                rest = rest[limit:]
        filled = [entry for entry in placed if entry[1]]
        empty = [entry for entry in placed if not entry[1]]
        if not filled and not rest and empty:  # a Service without endpoints keeps one slice that says so
            filled, empty = empty[:1], empty[1:]
        update += [_slice(service, kind, row, kept, trigger, old) for old, kept, changed in filled if changed]
        delete += [old for old, _, _ in empty]
        while rest or not filled:
            made = _slice(service, kind, row, rest[:limit], trigger, None)
            filled.append((made, [], True))
            create.append(made)
            rest = rest[limit:]
    delete += [part for part in existing if _shape(part.get("ports")) not in wanted]
    if delete and create and len(delete) <= len(create):  # reuse a slice of other ports rather than lose its name
        reused = [_renamed(made, old) for made, old in zip(create, delete, strict=False)]
        update, create, delete = update + reused, create[len(delete):], []
    return Plan(tuple(create), tuple(update), tuple(delete))


def _slice(service: Object, kind: str, row: list[Object], endpoints: list[Object], trigger: str,
           old: Object | None) -> Object:
    notes = dict(meta.annotations(old)) if old else {}
    notes.pop(TRIGGER, None)
    if trigger:
        notes[TRIGGER] = trigger
    head = dict(old["metadata"]) if old else {
        "generateName": f"{meta.name(service)}-", "namespace": meta.namespace(service),
        "ownerReferences": [meta.owner_reference({"apiVersion": "v1", "kind": "Service", **service})]}
    head["labels"] = labels(service)
    head.pop("annotations", None)
    if notes:
        head["annotations"] = notes
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": head, "addressType": kind,
            "endpoints": endpoints, "ports": row}


def _renamed(made: Object, old: Object) -> Object:
    head = {**old["metadata"], "labels": made["metadata"]["labels"]}
    return {**made, "metadata": head}


def _hints(service: Object, row: Object) -> Object:
    """Return the hints of spec.trafficDistribution (KEP-2433, KEP-3015): each endpoint serves its own zone or node."""
    wish = service["spec"].get("trafficDistribution")
    hints: Object = {}
    if topology.wanted(service):  # which wins
        return hints
    if wish in ("PreferClose", "PreferSameZone", "PreferSameNode") and row["conditions"]["ready"]:
        if row.get("zone"):
            hints["forZones"] = [{"name": row["zone"]}]
        if wish == "PreferSameNode" and row.get("nodeName"):
            hints["forNodes"] = [{"name": row["nodeName"]}]
    return hints


def _identity(row: Object) -> str:
    return f"{(row.get('targetRef') or {}).get('uid', '')}/{','.join(row['addresses'])}"


def _shape(row: Sequence[Object] | None) -> bytes:
    rows = [{k: v for k, v in port.items() if v is not None} | {"name": port.get("name") or ""} for port in row or []]
    return orjson.dumps(sorted(rows, key=lambda port: (port["name"], port.get("protocol", ""), port.get("port", 0))),
                        option=orjson.OPT_SORT_KEYS)
