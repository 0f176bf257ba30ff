"""Node IPAM: give each node its part of the cluster's Pod network (k8s:pkg/controller/nodeipam/ipam)."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def free(cluster: Network, prefix: int, used: Iterable[Network], start: int = 0) -> tuple[Network, int] | None:
    """Return the first free subnet of `prefix` bits at or after number `start`, and its number; None if all are used.

    Numbers go round, so a network that was given back is not at once given out again.
    """
    count = 1 << (prefix - cluster.prefixlen)
    step = 1 << (cluster.max_prefixlen - prefix)
    base = int(cluster.network_address)
    taken: set[int] = set()
    for network in used:
        if network.version == cluster.version and network.overlaps(cluster):
            first = max(0, (int(network.network_address) - base) // step)
            last = min(count - 1, (int(network.broadcast_address) - base) // step)
            taken.update(range(first, last + 1))
    for offset in range(min(count, len(taken) + 1)):
        number = (start + offset) % count
        if number not in taken:
            return ipaddress.ip_network((base + number * step, prefix)), number
    return None


def cidrs(node: Object) -> list[str]:
    """Return spec.podCIDRs."""
    spec = node.get("spec", {})
    return list(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else []))


class NodeIpam(Controller):
    """The loop; one worker, since all nodes draw from the same networks."""

    name: ClassVar[str] = "node-ipam-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._clusters = [ipaddress.ip_network(text) for text in self.options.cluster_cidrs]
        self._next = [0] * len(self._clusters)
        self.nodes = self.source("nodes", self._changed)
        self.recorder = context.recorder("cidrAllocator")

    def _changed(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and not cidrs(new):
            self.queue.add(key)
        elif new is None:  # its network is free again: somebody may be waiting for one
            for node in self.nodes.all():
                if not cidrs(node):
                    self.queue.add(meta.name(node))

    async def reconcile(self, key: str) -> float | None:
        """Give one node a network of each family."""
        node = self.nodes.get(key)
        if node is None or cidrs(node) or meta.deleting(node):
            return None
        used = [ipaddress.ip_network(text) for other in self.nodes.all() for text in cidrs(other)]
        given: list[str] = []
        for position, cluster in enumerate(self._clusters):
            found = free(cluster, self.options.node_masks[cluster.version], used, self._next[position])
            if found is None:
                self.recorder.event(node, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
                return None
            given.append(str(found[0]))
            self._next[position] = found[1] + 1
        made = await self.client.patch("nodes", key, {"metadata": {"uid": meta.uid(node)},
                                                      "spec": {"podCIDR": given[0], "podCIDRs": given}})
        log.info("node %s gets %s", key, ", ".join(given))
        await self.nodes.reach(meta.revision(made))
        return None
