"""Which endpoints this node may use for a Service port (kubernetes: pkg/proxy/topology.go, KEP-1669, KEP-4444)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from netlab.proxy.endpoints import Endpoint
from netlab.proxy.services import ServicePort

ZONE_LABEL = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class Choice:
    """The endpoints of a Service port that this node uses.

    `cluster` and `local` are for the two traffic policies, () where the Service does not use that policy. `reachable`
    is both together, each endpoint once. `any` tells whether the Service has an endpoint anywhere in the cluster.
    """

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    reachable: tuple[Endpoint, ...] = ()
    any: bool = False


def choose(endpoints: Sequence[Endpoint], port: ServicePort, *, node: str, zone: str) -> Choice:
    """Sort out the endpoints of a port. They come and stay sorted by text.

    Ready ones count; where none is ready, those that still serve while they terminate, for each policy by itself.
    Hints narrow the cluster policy only.
    """
    if not endpoints:
        return Choice()
    cluster = _usable(endpoints, _hinted(endpoints, node, zone)) if port.uses_cluster_endpoints else ()
    if not port.uses_local_endpoints:
        return Choice(cluster, (), cluster, bool(cluster))
    local = _usable([each for each in endpoints if each.node == node], None)
    reachable = {each.text: each for each in (*cluster, *local)}
    usable_somewhere = any(each.ready or (each.serving and each.terminating) for each in endpoints)
    return Choice(cluster, local, tuple(reachable[text] for text in sorted(reachable)), usable_somewhere)


def _usable(endpoints: Sequence[Endpoint], hinted: Callable[[Endpoint], bool] | None) -> tuple[Endpoint, ...]:
    ready = [each for each in endpoints if each.ready and (hinted is None or hinted(each))]
    return tuple(ready or [each for each in endpoints if each.serving and each.terminating])


def _hinted(endpoints: Sequence[Endpoint], node: str, zone: str) -> Callable[[Endpoint], bool] | None:
    """Return the test that hints ask for: same node, else same zone, else None.

    Hints count only when every ready endpoint has one and one of them means us: a half-hinted Service is one whose
    controller has not caught up, and obeying it could leave nothing to choose from.
    """
    ready = [each for each in endpoints if each.ready]
    if not ready or not (ready[0].node_hints or ready[0].zone_hints):
        return None
    if all(each.node_hints for each in ready) and any(node in each.node_hints for each in ready):
        return lambda each: node in each.node_hints
    if all(each.zone_hints for each in ready) and any(zone in each.zone_hints for each in ready):
        return lambda each: zone in each.zone_hints
    return None
