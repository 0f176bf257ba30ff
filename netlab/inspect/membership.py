"""Which of the nodes that run on a machine are of the cluster whose objects are known? Pure.

Several clusters may share a machine (two of kind's, or labs), and their nodes may even have the same names and
addresses; Pods' uids tell them apart then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from netlab.api.meta import Object


@dataclass(frozen=True)
class Here:
    """A node found on this machine, by its namespace: its addresses, and the uids of the Pods that run on it."""

    inode: int
    addresses: Collection[str]
    uids: Collection[str]


def strangers(found: Iterable[Here], nodes: Iterable[Object], uids: Collection[str]) -> set[int]:
    """Return the nodes found here that are another cluster's; none where nothing that is known tells.

    Args:
        found: the nodes of this machine.
        nodes: the Nodes of the cluster.
        uids: those of its Pods.
    """
    here = list(found)
    members: set[int] = set()
    for node in nodes:
        theirs = {each.get("address") for each in (node.get("status") or {}).get("addresses") or ()}
        alike = [each for each in here if theirs & set(each.addresses)]
        proven = [each for each in alike if set(uids) & set(each.uids)]
        members |= {each.inode for each in proven or alike}
    return {each.inode for each in here} - members if members else set()


def on(nodes: Collection[int], node_of: Mapping[int, int]) -> set[int]:
    """Return these nodes' namespaces and those of the Pods on them. `node_of` has a Pod's node, both by inode."""
    return set(nodes) | {pod for pod, node in node_of.items() if node in nodes}
