"""NodeAffinity: nodeSelector and node affinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from netlab.api import placement
from netlab.scheduler.model import Cluster, Node, Pod
from netlab.scheduler.plugins.base import Plugin, Refusal, stretched
from netlab.scheduler.queue import Event


class NodeAffinity(Plugin):
    """Refuses what is required otherwise, likes what is preferred."""

    name: ClassVar[str] = "NodeAffinity"
    weight: ClassVar[int] = 2
    events: ClassVar[frozenset[Event]] = frozenset((Event.NODE_ADDED, Event.NODE_LABELS))

    def prepare(self, pod: Pod, cluster: Cluster) -> Any:
        """Only Pods that say something about nodes."""
        affinity = (pod.spec.get("affinity") or {}).get("nodeAffinity")
        return (affinity or {}) if affinity or pod.spec.get("nodeSelector") else None

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Match the node's labels and name."""
        if placement.node_affinity_allows(pod.spec, node.obj):
            return None
        return Refusal(("node(s) didn't match Pod's node affinity/selector",), final=True)

    def score(self, state: Any, pod: Pod, node: Node) -> float:
        """Add up the weights of the preferred terms that match."""
        return sum(int(term["weight"]) for term in state.get("preferredDuringSchedulingIgnoredDuringExecution") or []
                   if placement.term_matches(term["preference"], node.obj))

    def normalize(self, scores: Mapping[str, float], cluster: Cluster) -> Mapping[str, float]:
        """Scale to 100."""
        return stretched(scores)
