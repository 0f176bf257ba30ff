"""Zone hints by the share of CPU that each zone has, the annotation topology-mode: Auto (KEP-2433). Pure.

https://kubernetes.io/docs/concepts/services-networking/topology-aware-routing/; upstream's is
k8s:staging/src/k8s.io/endpointslice/topologycache.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.quantity import parse
from netlab.controllers.pods import condition

ZONE = "topology.kubernetes.io/zone"
_ANNOTATIONS = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
_CONTROL_PLANES = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_OVERLOAD = 0.2
"""How much more than its share an endpoint may have to carry."""

ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"


@dataclass(frozen=True)
class Hints:
    """The zone that each endpoint serves, by the endpoint's key; none, and the reason `why`, where it can't be."""

    zones: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


def wanted(service: Object) -> bool:
    """Tell whether a Service asks for hints by zone shares; the older annotation wins where both are there."""
    notes = meta.annotations(service)
    value = next((notes[name] for name in _ANNOTATIONS if name in notes), "")
    return value in ("Auto", "auto")


def shares(nodes: Iterable[Object]) -> dict[str, float]:
    """Return the part of the allocatable CPU that each zone has; {} where less than two zones, or not all, are known.

    Nodes that are not ready, and control planes, are left out.
    """
    cpu: dict[str, float] = {}
    for zone, amount in filter(None, map(weight, nodes)):
        if not zone or not amount:
            return {}
        cpu[zone] = cpu.get(zone, 0.0) + amount
    total = sum(cpu.values())
    return {zone: amount / total for zone, amount in cpu.items()} if len(cpu) > 1 else {}


def weight(node: Object | None) -> tuple[str, float] | None:
    """Return the zone and the CPU that a node counts for; None where it does not count."""
    tags = meta.labels(node or {})
    if node is None or any(name in tags for name in _CONTROL_PLANES) or (
            condition(node, "Ready") or {}).get("status") != "True":
        return None
    return tags.get(ZONE, ""), float(parse((node["status"].get("allocatable") or {}).get("cpu", 0)).amount)


def decide(endpoints: Sequence[tuple[str, str]], ratios: Mapping[str, float], current: Mapping[str, str]) -> Hints:
    """Return the zone that each ready endpoint is to serve.

    Each begins with its own; then zones with more than their share give to those with less. What is there already
    stays while nobody has to carry too much by it, so that a small change does not move everybody's traffic.

    Args:
        endpoints: (key, zone) of the ready endpoints, in a stable order.
        ratios: each zone's share of the CPU.
        current: the hints that are there, by key.
    """
    if not ratios:
        return Hints(why="Insufficient Node information: allocatable CPU or zone not specified on one or more nodes")
    counts = f"({len(endpoints)} endpoints, {len(ratios)} zones)"
    if len(ratios) > len(endpoints):
        return Hints(why=f"Insufficient number of endpoints {counts}")
    least = {zone: math.ceil(ratio * len(endpoints) / (1 + _OVERLOAD)) for zone, ratio in ratios.items()}
    spare = len(endpoints) - sum(least.values())
    if spare < 0:
        return Hints(why="Unable to allocate minimum required endpoints to each zone without exceeding overload "
                         f"threshold {counts}")
    if not all(zone for _, zone in endpoints):
        return Hints(why="One or more endpoints do not have a zone specified")
    kept = {key: current.get(key, "") for key, _ in endpoints}
    taken = Counter(kept.values())
    if set(current) == set(kept) and all(zone in least and number <= least[zone] + spare
                                         for zone, number in taken.items()):
        return Hints(kept)
    desired = {zone: max(ratio * len(endpoints), float(least[zone])) for zone, ratio in ratios.items()}
    return Hints(_moved(dict(endpoints), desired))


def _moved(zones: dict[str, str], desired: Mapping[str, float]) -> dict[str, str]:
    have = Counter(zones.values())
    gives = {zone: have[zone] - wish for zone, wish in desired.items() if have[zone] > wish}
    takes = {zone: wish - have[zone] for zone, wish in desired.items() if have[zone] < wish}
    while gives and takes:
        giver, taker = max(gives, key=gives.__getitem__), max(takes, key=takes.__getitem__)
        if max(gives[giver], takes[taker]) < 1 or min(gives[giver], takes[taker]) < 0.5:
            break
        gives[giver] -= 1
        takes[taker] -= 1
        zones[next(key for key, zone in zones.items() if zone == giver)] = taker
    return zones
