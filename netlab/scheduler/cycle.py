"""One scheduling cycle: filter, score, and take turns among the best. Pure: it changes nothing and asks no clock."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netlab.scheduler.model import Cluster, Node, Pod
from netlab.scheduler.plugins.base import Plugin, Refusal
from netlab.scheduler.queue import Event


@dataclass(frozen=True)
class Profile:
    """A scheduler by the name that Pods ask for, with its plugins and the weights of their scores."""

    name: str
    plugins: Sequence[Plugin]
    weights: Mapping[str, int]


@dataclass(frozen=True)
class Verdict:
    """What came out for one Pod.

    `node` is "" if none fits; then `refusals` say why by node, `events` which events may help, `message` all of it in
    words. `scores` are the weighted totals of the nodes that fit; `detail` the parts, by plugin and node.
    """

    node: str = ""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    events: frozenset[Event] = frozenset()
    scores: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    message: str = ""


def schedule(pod: Pod, cluster: Cluster, profile: Profile, *, last: str = "",
             nominated: Mapping[str, Sequence[Pod]] | None = None) -> Verdict:
    """Choose a node.

    Args:
        pod: the Pod.
        cluster: nodes and what runs on them.
        profile: the rules.
        last: the node chosen before; among equals the next one after it, in the order of names, is taken.
        nominated: by node, Pods that are about to get room there by preemption; their room is theirs.
    """
    if not cluster.nodes:
        return Verdict(message="no nodes available to schedule pods", events=frozenset((Event.NODE_ADDED,)))
    states = {plugin: state for plugin in profile.plugins if (state := plugin.prepare(pod, cluster)) is not None}
    refusals: dict[str, Refusal] = {}
    fitting: list[Node] = []
    events: set[Event] = set()
    for node in cluster.nodes.values():
        place = node
        rivals = [one for one in (nominated or {}).get(node.name, ()) if one.uid != pod.uid
                  and one.priority >= pod.priority]
        if rivals:
            place = node.without(())
            for one in rivals:
                place.add(one)
        refusal, by = refusal_of(pod, place, states)
        if refusal is None:
            fitting.append(node)
        else:
            refusals[node.name] = refusal
            events |= by.events if by else set()
    if not fitting:
        return Verdict(refusals=refusals, events=frozenset(events), message=summary(refusals.values()))
    scores, detail = rank(pod, fitting, cluster, profile, states)
    return Verdict(node=next_best(scores, last), refusals=refusals, scores=scores, detail=detail)


def refusal_of(pod: Pod, node: Node, states: Mapping[Plugin, Any]) -> tuple[Refusal | None, Plugin | None]:
    """Return the first refusal of a node and the plugin it is from."""
    for plugin, state in states.items():
        refusal = plugin.filter(state, pod, node)
        if refusal is not None:
            return refusal, plugin
    return None, None


def rank(pod: Pod, nodes: Sequence[Node], cluster: Cluster, profile: Profile,
         states: Mapping[Plugin, Any]) -> tuple[dict[str, float], dict[str, Mapping[str, float]]]:
    """Return the weighted scores by node, and each plugin's part. A single node needs no scores."""
    totals = {node.name: 0.0 for node in nodes}
    detail: dict[str, Mapping[str, float]] = {}
    if len(nodes) == 1:
        return totals, detail
    for plugin, state in states.items():
        weight = profile.weights.get(plugin.name, 0)
        if not weight:
            continue
        marks = plugin.normalize({node.name: plugin.score(state, pod, node) for node in nodes}, cluster)
        detail[plugin.name] = marks
        for name, mark in marks.items():
            totals[name] += weight * mark
    return totals, detail


def next_best(scores: Mapping[str, float], last: str) -> str:
    """Return, of the nodes with the highest score, the one whose turn it is after `last`."""
    top = max(scores.values())
    best = sorted(name for name, score in scores.items() if score == top)
    return best[bisect_right(best, last) % len(best)]


def summary(refusals: Iterable[Refusal]) -> str:
    """Return upstream's sentence: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`"""
    rows = list(refusals)
    counts = Counter(reason for row in rows for reason in row.reasons)
    parts = sorted(f"{count} {reason}" for reason, count in counts.items())
    return f"0/{len(rows)} nodes are available: {', '.join(parts)}."
