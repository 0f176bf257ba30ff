"""TaintToleration: taints keep Pods away that do not tolerate them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from netlab.api import placement
from netlab.scheduler.model import Cluster, Node, Pod
from netlab.scheduler.plugins.base import Plugin, Refusal, stretched
from netlab.scheduler.queue import Event


class Taints(Plugin):
    """Refuses NoSchedule and NoExecute, dislikes PreferNoSchedule."""

    name: ClassVar[str] = "TaintToleration"
    weight: ClassVar[int] = 3
    events: ClassVar[frozenset[Event]] = frozenset((Event.NODE_ADDED, Event.NODE_TAINTS))

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Look for a taint that is not tolerated."""
        if not node.taints:
            return None
        wishes = pod.spec.get("tolerations") or []
        if placement.untolerated(node.taints, wishes, ("NoSchedule", "NoExecute")) is None:
            return None
        return Refusal(("node(s) had untolerated taint(s)",), final=True)

    def score(self, state: Any, pod: Pod, node: Node) -> float:
        """Count the PreferNoSchedule taints that are not tolerated."""
        wishes = pod.spec.get("tolerations") or []
        if not node.taints:
            return 0.0
        disliked = [taint for taint in node.taints if taint.get("effect") == "PreferNoSchedule"]
        return float(sum(not any(placement.tolerates(wish, taint) for wish in wishes) for taint in disliked))

    def normalize(self, scores: Mapping[str, float], cluster: Cluster) -> Mapping[str, float]:
        """Few such taints are good."""
        return stretched(scores, reverse=True)
