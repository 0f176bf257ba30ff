"""PodTopologySpread: equal Pods evenly over zones, nodes, or whatever label."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netlab.api import meta, placement
from netlab.api.meta import Object
from netlab.scheduler.model import Cluster, Group, Node, Pod
from netlab.scheduler.plugins.base import HIGHEST, Plugin, Refusal
from netlab.scheduler.queue import Event

_REASON = "node(s) didn't match pod topology spread constraints"
_ZONE, _HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
_OWNED = ("ReplicaSet", "ReplicationController", "StatefulSet")
_DEFAULTS = ({"topologyKey": _HOST, "maxSkew": 3, "whenUnsatisfiable": "ScheduleAnyway"},
             {"topologyKey": _ZONE, "maxSkew": 5, "whenUnsatisfiable": "ScheduleAnyway"})


@dataclass(frozen=True)
class Constraint:
    """One constraint and the matching Pods in each domain of it."""

    key: str
    skew: int
    hard: bool
    minimum_domains: int
    includes_self: bool
    counts: Mapping[str, int]


class Spread(Plugin):
    """DoNotSchedule refuses, ScheduleAnyway scores. Replicas without constraints are spread over nodes and zones."""

    name: ClassVar[str] = "PodTopologySpread"
    weight: ClassVar[int] = 2
    events: ClassVar[frozenset[Event]] = frozenset((Event.NODE_ADDED, Event.NODE_LABELS, Event.NODE_TAINTS,
                                                    Event.POD_ADDED, Event.POD_UPDATED, Event.POD_DELETED))

    def prepare(self, pod: Pod, cluster: Cluster) -> Any:
        """Count the matching Pods in each domain."""
        rows = pod.spec.get("topologySpreadConstraints") or []
        if not rows:
            owner = meta.controller_of(pod.obj)
            if owner is None or owner["kind"] not in _OWNED or not pod.labels:
                return None
            # upstream takes the selectors of the Services and the owner; a Pod's own labels mean the same replicas
            rows = [{**row, "labelSelector": {"matchLabels": dict(pod.labels)}} for row in _DEFAULTS]
        return [self._constraint(row, pod, cluster) for row in rows]

    def _constraint(self, row: Object, pod: Pod, cluster: Cluster) -> Constraint:
        key = row["topologyKey"]
        selector = dict(row.get("labelSelector") or {})
        for label in row.get("matchLabelKeys") or []:
            if label in pod.labels:
                wish = {"key": label, "operator": "In", "values": [pod.labels[label]]}
                selector["matchExpressions"] = [*(selector.get("matchExpressions") or []), wish]
        counts: Counter[str] = Counter()
        choosy = bool(pod.spec.get("nodeSelector") or pod.spec.get("affinity")
                      or row.get("nodeTaintsPolicy", "Ignore") != "Ignore")
        known: dict[Group, bool] = {}

        def fits(group: Group) -> bool:
            if group not in known:
                known[group] = (group.namespace == pod.namespace and not group.deleting
                                and placement.selects(selector, dict(group.labels)))
            return known[group]

        for node in cluster.nodes.values():
            if key not in node.labels or (choosy and not self._counts(row, pod, node)):
                continue
            counts[node.labels[key]] += sum(count for group, count in node.groups.items() if fits(group))
        return Constraint(key, int(row["maxSkew"]), row["whenUnsatisfiable"] == "DoNotSchedule",
                          int(row.get("minDomains") or 1), placement.selects(selector, pod.labels), counts)

    def _counts(self, row: Object, pod: Pod, node: Node) -> bool:
        """Tell whether a node's Pods count: by default those of nodes the Pod's affinity allows (KEP-3094)."""
        if row.get("nodeAffinityPolicy", "Honor") == "Honor" and not placement.node_affinity_allows(pod.spec, node.obj):
            return False
        return row.get("nodeTaintsPolicy", "Ignore") == "Ignore" or placement.untolerated(
            node.taints, pod.spec.get("tolerations") or [], ("NoSchedule", "NoExecute")) is None

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Refuse a node if with this Pod its domain would have too many more than the emptiest."""
        for row in state:
            if not row.hard:
                continue
            value = node.labels.get(row.key)
            if value is None:
                return Refusal((f"{_REASON} (missing required label)",), final=True)
            least = 0 if len(row.counts) < row.minimum_domains else min(row.counts.values(), default=0)
            if row.counts.get(value, 0) + row.includes_self - least > row.skew:
                return Refusal((_REASON,))
        return None

    def score(self, state: Any, pod: Pod, node: Node) -> float:
        """Weigh the matching Pods of the node's domains; the more domains a key has, the more it says."""
        total = 0.0
        for row in state:
            if not row.hard and row.key in node.labels:
                total += row.counts.get(node.labels[row.key], 0) * math.log(len(row.counts) + 2) + (row.skew - 1)
        return total

    def normalize(self, scores: Mapping[str, float], cluster: Cluster) -> Mapping[str, float]:
        """Few are good."""
        low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        if high == 0:
            return dict.fromkeys(scores, HIGHEST)
        return {name: int(HIGHEST * (high + low - value) / high) for name, value in scores.items()}
