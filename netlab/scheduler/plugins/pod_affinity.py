"""InterPodAffinity: near some Pods and far from others, where near means equal values of a node label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netlab.api.placement import selects
from netlab.scheduler.model import AffinityTerm, Cluster, Group, Node, Pod
from netlab.scheduler.plugins.base import HIGHEST, Plugin, Refusal
from netlab.scheduler.queue import Event

Domain = tuple[str, str]
"""A topology key and its value."""
Means = Callable[[AffinityTerm, Group], bool]


@dataclass(frozen=True)
class State:
    """How many Pods there are in each domain that count for or against it."""

    near: Counter[tuple[int, str]]
    """Pods that match all affinity terms, by (number of the term, value of its key)."""
    far: Counter[Domain]
    refusing: Counter[Domain]
    """Pods whose own anti-affinity is against the new one."""
    liked: Counter[Domain]
    first: bool
    """The Pod is the first of a group that wants to be together, so it may be anywhere."""


def matches(term: AffinityTerm, group: Group, cluster: Cluster) -> bool:
    """Tell whether a term means Pods of this group."""
    if group.namespace not in term.namespaces:
        wish = term.namespace_selector
        if wish is None or not selects(wish, cluster.namespaces.get(group.namespace, {})):
            return False
    return selects(term.selector, dict(group.labels))


class PodAffinity(Plugin):
    """Required terms refuse, preferred ones score."""

    name: ClassVar[str] = "InterPodAffinity"
    weight: ClassVar[int] = 2
    events: ClassVar[frozenset[Event]] = frozenset((Event.NODE_ADDED, Event.NODE_LABELS, Event.POD_ADDED,
                                                    Event.POD_UPDATED, Event.POD_DELETED))

    def prepare(self, pod: Pod, cluster: Cluster) -> Any:
        """Count the Pods of each domain, if this Pod or any other has terms."""
        mine = bool(pod.affinity or pod.anti_affinity or pod.preferred)
        if not mine and not any(node.selective for node in cluster.nodes.values()):
            return None
        state = State(Counter(), Counter(), Counter(), Counter(),
                      first=all(matches(term, pod.group, cluster) for term in pod.affinity))
        known: dict[tuple[AffinityTerm, Group], bool] = {}

        def means(term: AffinityTerm, group: Group) -> bool:
            if (term, group) not in known:
                known[term, group] = matches(term, group, cluster)
            return known[term, group]

        for node in cluster.nodes.values():
            if mine:
                for group, count in node.groups.items():
                    self._mine(state, pod, group, count, node, means)
            for other in node.selective.values():
                self._theirs(state, pod, other, node, means)
        return state

    def _mine(self, state: State, pod: Pod, group: Group, count: int, node: Node, means: Means) -> None:
        """Count some Pods of a node for and against the terms of the new one."""
        if pod.affinity and all(means(term, group) for term in pod.affinity):
            for number, term in enumerate(pod.affinity):
                if term.topology_key in node.labels:
                    state.near[number, node.labels[term.topology_key]] += count
        for terms, counter in ((pod.anti_affinity, state.far), (pod.preferred, state.liked)):
            for term in terms:
                if term.topology_key in node.labels and means(term, group):
                    counter[term.topology_key, node.labels[term.topology_key]] += count * (term.weight or 1)

    def _theirs(self, state: State, pod: Pod, other: Pod, node: Node, means: Means) -> None:
        """Count what a Pod that is there thinks of the new one; who needs such as it likes it (weight 1) as well."""
        for terms, counter in ((other.anti_affinity, state.refusing), (other.preferred, state.liked),
                               (other.affinity, state.liked)):
            for term in terms:
                if term.topology_key in node.labels and means(term, pod.group):
                    counter[term.topology_key, node.labels[term.topology_key]] += term.weight or 1

    def filter(self, state: Any, pod: Pod, node: Node) -> Refusal | None:
        """Look the node's domains up."""
        for number, term in enumerate(pod.affinity):
            value = node.labels.get(term.topology_key)
            alone = state.first and not state.near
            if value is None or not (state.near[number, value] or alone):
                return Refusal(("node(s) didn't match pod affinity rules",), final=value is None)
        for term in pod.anti_affinity:
            if state.far[term.topology_key, node.labels.get(term.topology_key, "")]:
                return Refusal(("node(s) didn't match pod anti-affinity rules",))
        if any(count and node.labels.get(key) == value for (key, value), count in state.refusing.items()):
            return Refusal(("node(s) didn't satisfy existing pods anti-affinity rules",))
        return None

    def score(self, state: Any, pod: Pod, node: Node) -> float:
        """Add up what is liked and disliked in the node's domains."""
        return float(sum(weight for (key, value), weight in state.liked.items() if node.labels.get(key) == value))

    def normalize(self, scores: Mapping[str, float], cluster: Cluster) -> Mapping[str, float]:
        """Stretch from lowest to highest."""
        low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        if high == low:
            return dict.fromkeys(scores, 0.0)
        return {name: int(HIGHEST * (value - low) / (high - low)) for name, value in scores.items()}
