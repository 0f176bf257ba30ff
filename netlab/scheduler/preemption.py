"""Preemption: which Pods of lower priority would have to go so that one of higher priority fits. Pure.

Rules: k8s:pkg/scheduler/framework/preemption. Of the nodes where it can work the one is taken whose loss is least: the
lowest highest priority among the victims, then the lowest sum, then the fewest, then the youngest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netlab.api import meta
from netlab.scheduler.cycle import Profile, refusal_of
from netlab.scheduler.model import Cluster, Node, Pod
from netlab.scheduler.plugins.base import Refusal

_USELESS = "Preemption is not helpful for scheduling"
_NOBODY = "No preemption victims found for incoming pod"


@dataclass(frozen=True)
class Preemption:
    """The node to make room on and who goes; without a node, `message` says why there is none."""

    node: str = ""
    victims: tuple[Pod, ...] = ()
    message: str = ""


def preempt(pod: Pod, cluster: Cluster, profile: Profile, refusals: Mapping[str, Refusal]) -> Preemption:
    """Return what preemption would do for a Pod that all nodes refused."""
    if pod.spec.get("preemptionPolicy") == "Never":
        return Preemption(message="preemption: not eligible due to preemptionPolicy=Never.")
    promised = cluster.nodes.get(pod.nominated)
    if promised and any(meta.deleting(one.obj) and one.priority < pod.priority for one in promised.pods.values()):
        return Preemption(message="preemption: not eligible due to a terminating pod on the nominated node.")
    found: list[tuple[tuple[int, int, int, float, str], Sequence[Pod]]] = []
    reasons: Counter[str] = Counter()
    for name, refusal in refusals.items():
        if refusal.final:
            reasons[_USELESS] += 1
            continue
        chosen = victims(pod, cluster.nodes[name], cluster, profile)
        if not chosen:
            reasons[_NOBODY] += 1
            continue
        top = max(one.priority for one in chosen)
        first = min(_started(one) for one in chosen if one.priority == top)
        found.append(((top, sum(one.priority for one in chosen), len(chosen), _reversed(first), name), chosen))
    if not found:
        parts = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
        return Preemption(message=f"preemption: 0/{len(refusals)} nodes are available: {parts}.")
    best, chosen = min(found, key=lambda row: row[0])
    return Preemption(best[-1], tuple(chosen))


def victims(pod: Pod, node: Node, cluster: Cluster, profile: Profile) -> Sequence[Pod]:
    """Return the fewest Pods, important ones spared first, without which the Pod fits; none if it can't be helped."""
    lower = sorted((one for one in node.pods.values() if one.priority < pod.priority),
                   key=lambda one: (-one.priority, _started(one)))
    if not lower:
        return ()
    out = {one.uid for one in lower}
    if not _fits(pod, node.without(out), cluster, profile):
        return ()
    for one in lower:
        if _fits(pod, node.without(out - {one.uid}), cluster, profile):
            out.discard(one.uid)
    return tuple(one for one in lower if one.uid in out)


def _fits(pod: Pod, node: Node, cluster: Cluster, profile: Profile) -> bool:
    other = Cluster()
    other.namespaces = cluster.namespaces
    other.nodes = {**cluster.nodes, node.name: node}
    states = {plugin: state for plugin in profile.plugins if (state := plugin.prepare(pod, other)) is not None}
    return refusal_of(pod, node, states)[0] is None


def _started(pod: Pod) -> str:
    return str(pod.obj.get("status", {}).get("startTime") or pod.obj["metadata"].get("creationTimestamp") or "~")


def _reversed(stamp: str) -> float:
    """Turn a time round: later is smaller."""
    try:
        return -meta.parse_timestamp(stamp)
    except ValueError:
        return 0.0
