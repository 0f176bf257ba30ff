"""NodeName and NodeUnschedulable: the node that was asked for by name, and nodes that take nothing new."""

from __future__ import annotations

from typing import Any, ClassVar

from netlab.api import placement
from netlab.scheduler.model import Cluster, Node, Pod
from netlab.scheduler.plugins.base import Plugin, Refusal
from netlab.scheduler.queue import Event


class NodeName(Plugin):
    """Refuses all nodes but spec.nodeName."""

    name: ClassVar[str] = "NodeName"
    events: ClassVar[frozenset[Event]] = frozenset((Event.NODE_ADDED,))

    def prepare(self, pod: Pod, cluster: Cluster) -> Any:
        """Only Pods that name a node."""
        return pod.node or None

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Compare names."""
        return None if state == node.name else Refusal(("node(s) didn't match the requested node name",), final=True)


class NodeUnschedulable(Plugin):
    """Refuses cordoned nodes, unless the Pod tolerates that as a taint."""

    name: ClassVar[str] = "NodeUnschedulable"
    events: ClassVar[frozenset[Event]] = frozenset((Event.NODE_ADDED, Event.NODE_TAINTS))

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Look at spec.unschedulable."""
        if not node.obj.get("spec", {}).get("unschedulable"):
            return None
        taint = {"key": placement.UNSCHEDULABLE, "effect": "NoSchedule"}
        if any(placement.tolerates(wish, taint) for wish in pod.spec.get("tolerations") or []):
            return None
        return Refusal(("node(s) were unschedulable",), final=True)
