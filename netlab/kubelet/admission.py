"""Whether this node can take a Pod that somebody has bound to it; pure.

After k8s:pkg/kubelet/lifecycle/predicate.go: what the scheduler checks as well, for Pods that did not go through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netlab.api import placement, quantity
from netlab.api.meta import Object
from netlab.kubelet import spec


@dataclass(frozen=True)
class Demand:
    """What one Pod takes of a node: thousandths of a CPU, bytes of memory, and (protocol, port) of the node."""

    cpu: int
    memory: int
    ports: frozenset[tuple[str, int]]


def demand(pod: Object) -> Demand:
    """Return what a Pod requests: its containers and sidecars together, or its largest init container.

    Raises:
        ValueError: an amount is no quantity (only a static Pod can say such a thing).
    """
    return Demand(_request(pod, "cpu", lambda q: q.milli()), _request(pod, "memory", lambda q: q.value()), frozenset(
        (str(port.get("protocol") or "TCP"), int(port["hostPort"]))
        for wanted in (*spec.containers(pod), *(c for c in spec.init_containers(pod) if spec.is_sidecar(c)))
        for port in wanted.get("ports") or [] if port.get("hostPort")))


def refuse(pod: Object, others: Iterable[Demand], node: Object | None,
           allocatable: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (reason, message) when the Pod can't be had, else None.

    Args:
        pod: the newcomer; a static Pod is always taken.
        others: what the Pods that are here and not at their end take.
        node: this node's object, None while it is unknown.
        allocatable: what the node gives to Pods.
    """
    if spec.is_static(pod):
        return None
    wish, present = demand(pod), list(others)
    used = Demand(sum(d.cpu for d in present), sum(d.memory for d in present),
                  frozenset(port for d in present for port in d.ports))
    cpu, memory = quantity.parse(allocatable.get("cpu", "0")), quantity.parse(allocatable.get("memory", "0"))
    for resource, wants, takes, has in (
            ("pods", 1, len(present), int(allocatable.get("pods", "110"))), ("cpu", wish.cpu, used.cpu, cpu.milli()),
            ("memory", wish.memory, used.memory, memory.value())):
        if wants and wants + takes > has:
            return f"OutOf{resource}", (f"Pod was rejected: Node didn't have enough resource: {resource}, requested: "
                                        f"{wants}, used: {takes}, capacity: {has}")
    if node is not None and not placement.node_affinity_allows(spec.spec(pod), node):
        return "NodeAffinity", ("Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node "
                                "affinity/selector")
    if wish.ports & used.ports:
        return "NodePorts", ("Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the "
                             "requested pod ports")
    return None


def _request(pod: Object, resource: str, measure: Callable[[quantity.Quantity], int]) -> int:
    def one(wanted: Object) -> int:
        text = ((wanted.get("resources") or {}).get("requests") or {}).get(resource)
        return measure(quantity.parse(text)) if text else 0

    inits = spec.init_containers(pod)
    together = sum(one(c) for c in spec.containers(pod)) + sum(one(c) for c in inits if spec.is_sidecar(c))
    largest = max((one(c) for c in inits if not spec.is_sidecar(c)), default=0)
    overhead = (spec.spec(pod).get("overhead") or {}).get(resource)
    return max(together, largest) + (measure(quantity.parse(overhead)) if overhead else 0)
