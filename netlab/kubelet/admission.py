"""Whether this node can take a Pod that somebody has bound to it; pure.

After k8s:pkg/kubelet/lifecycle/predicate.go: what the scheduler checks as well, for Pods that did not go through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from netlab.api import placement, quantity
from netlab.api.meta import Object
from netlab.kubelet import spec


def refuse(pod: Object, others: Iterable[Object], node: Object | None,
           allocatable: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (reason, message) when the Pod can't be had, else None.

    Args:
        pod: the newcomer; a static Pod is always taken.
        others: the Pods that are here and not at their end.
        node: this node's object, None while it is unknown.
        allocatable: what the node gives to Pods.
    """
    if spec.is_static(pod):
        return None
    present = list(others)
    limit = int(allocatable.get("pods", "110"))
    if len(present) >= limit:
        return "OutOfpods", (f"Pod was rejected: Node didn't have enough resource: pods, requested: 1, "
                             f"used: {len(present)}, capacity: {limit}")
    for resource in ("cpu", "memory"):
        measure = _milli if resource == "cpu" else _value
        wish, capacity = requests(pod, resource, measure), measure(allocatable.get(resource, "0"))
        used = sum(requests(other, resource, measure) for other in present)
        if wish and wish + used > capacity:
            return f"OutOf{resource}", (f"Pod was rejected: Node didn't have enough resource: {resource}, requested: "
                                        f"{wish}, used: {used}, capacity: {capacity}")
    if node is not None and not placement.node_affinity_allows(spec.spec(pod), node):
        return "NodeAffinity", ("Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node "
                                "affinity/selector")
    taken = {port for other in present for port in host_ports(other)}
    if any(port in taken for port in host_ports(pod)):
        return "NodePorts", ("Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the "
                             "requested pod ports")
    return None


def requests(pod: Object, resource: str, measure: Callable[[str], int]) -> int:
    """Return what a Pod requests: its containers and sidecars together, or its largest init container."""
    def one(wanted: Object) -> int:
        text = ((wanted.get("resources") or {}).get("requests") or {}).get(resource)
        return measure(text) if text else 0

    inits = spec.init_containers(pod)
    together = sum(one(c) for c in spec.containers(pod)) + sum(one(c) for c in inits if spec.is_sidecar(c))
    largest = max((one(c) for c in inits if not spec.is_sidecar(c)), default=0)
    overhead = (spec.spec(pod).get("overhead") or {}).get(resource)
    return max(together, largest) + (measure(overhead) if overhead else 0)


def host_ports(pod: Object) -> set[tuple[str, int]]:
    """Return the (protocol, port) of the node that a Pod takes for itself."""
    return {(str(port.get("protocol") or "TCP"), int(port["hostPort"]))
            for wanted in (*spec.containers(pod), *(c for c in spec.init_containers(pod) if spec.is_sidecar(c)))
            for port in wanted.get("ports") or [] if port.get("hostPort")}


def _milli(text: str) -> int:
    return quantity.parse(text).milli()


def _value(text: str) -> int:
    return quantity.parse(text).value()
