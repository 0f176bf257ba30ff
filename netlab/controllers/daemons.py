"""Which nodes should run a DaemonSet's Pod, and which Pods to make and delete: pure (k8s:pkg/controller/daemon)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from netlab.api import meta, placement
from netlab.api.meta import Object
from netlab.controllers.pods import available_in, from_template, is_over, is_ready, node_of, phase
from netlab.controllers.rollout import fraction

HASH = "controller-revision-hash"
GENERATION = "pod-template-generation"

_TOLERATED = ((placement.NOT_READY, "NoExecute"), (placement.UNREACHABLE, "NoExecute"),
              (placement.DISK_PRESSURE, "NoSchedule"), (placement.MEMORY_PRESSURE, "NoSchedule"),
              (placement.PID_PRESSURE, "NoSchedule"), (placement.UNSCHEDULABLE, "NoSchedule"))


@dataclass(frozen=True)
class Plan:
    """Nodes that get a Pod, Pods that go; `failed` are those among `delete` that ended by themselves."""

    create: tuple[str, ...] = ()
    delete: tuple[Object, ...] = ()
    failed: tuple[Object, ...] = ()


def tolerations(spec: Object) -> list[Object]:
    """Return the Pod spec's tolerations and those that every DaemonSet Pod has."""
    found = list(spec.get("tolerations") or [])
    network = ((placement.NETWORK_UNAVAILABLE, "NoSchedule"),) if spec.get("hostNetwork") else ()
    for key, effect in (*_TOLERATED, *network):
        wish = {"key": key, "operator": "Exists", "effect": effect}
        if wish not in found:
            found.append(wish)
    return found


def node_wants(spec: Object, node: Object) -> tuple[bool, bool]:
    """Return (a Pod should be started on this node, one that is there may go on)."""
    if spec.get("nodeName") and spec["nodeName"] != meta.name(node):
        return False, False
    if not placement.node_affinity_allows(spec, node):
        return False, False
    taints, wishes = node["spec"].get("taints") or [], tolerations(spec)
    if placement.untolerated(taints, wishes, ("NoSchedule", "NoExecute")) is None:
        return True, True
    return False, placement.untolerated(taints, wishes, ("NoExecute",)) is None


def target_node(pod: Object) -> str:
    """Return the node a Pod is on or, while unbound, pinned to by its affinity."""
    if node_of(pod):
        return node_of(pod)
    required = (((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {})
                .get("requiredDuringSchedulingIgnoredDuringExecution") or {})
    for term in required.get("nodeSelectorTerms") or []:
        for field in term.get("matchFields") or []:
            if field.get("key") == "metadata.name" and field.get("operator") == "In" and field.get("values"):
                return str(field["values"][0])
    return ""


def pinned_pod(template: Object, owner: Object, node: str, labels: Mapping[str, str]) -> Object:
    """Return the Pod for one node: the scheduler still binds it, but can choose only that node."""
    pod = from_template(template, owner)
    pod["metadata"]["labels"] = {**pod["metadata"].get("labels", {}), **labels}
    spec = {**pod["spec"], "tolerations": tolerations(pod["spec"])}
    pin = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = dict(spec.get("affinity") or {})
    node_affinity = dict(affinity.get("nodeAffinity") or {})
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [{**term, "matchFields": [pin]} for term in required.get("nodeSelectorTerms") or [{}]]
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    spec["affinity"] = {**affinity, "nodeAffinity": node_affinity}
    pod["spec"] = spec
    return pod


def by_node(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """Return the Pods by the node they belong to, each list with the oldest first."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        found.setdefault(target_node(pod), []).append(pod)
    for rows in found.values():
        rows.sort(key=lambda pod: (not node_of(pod), pod["metadata"].get("creationTimestamp") or "", meta.uid(pod)))
    return found


def decide(daemonset: Object, nodes: Sequence[Object], pods: Sequence[Object], revision: str, now: float) -> Plan:
    """Return what one sync does: one working Pod on each node that wants one, then the next step of an update.

    A Pod that is on its way out still occupies its node.

    Args:
        daemonset: the DaemonSet.
        nodes: all nodes.
        pods: its Pods.
        revision: the hash of its current template, as its newest Pods' label has it.
        now: Unix seconds.
    """
    spec = daemonset["spec"]["template"].get("spec") or {}
    surge, unavailable = fences(daemonset, desired(daemonset, nodes))
    placed = by_node(pods)
    create: list[str] = []
    delete: list[Object] = []
    failed: list[Object] = []
    for node in nodes:
        here = placed.get(meta.name(node), [])
        start, go_on = node_wants(spec, node)
        alive = [pod for pod in here if not is_over(pod) and not meta.deleting(pod)]
        if start and not here:
            create.append(meta.name(node))
        elif go_on:
            over = [pod for pod in here if is_over(pod) and not meta.deleting(pod)]
            failed += [pod for pod in over if phase(pod) == "Failed"]
            delete += over + (_extra_in_surge(daemonset, alive, revision, now) if surge else alive[1:])
        else:
            delete += [pod for pod in here if not meta.deleting(pod)]
    names = set(map(meta.name, nodes))
    delete += [pod for pod in pods if not node_of(pod) and not meta.deleting(pod) and target_node(pod) not in names]
    if _strategy(daemonset).get("type", "RollingUpdate") == "RollingUpdate":
        wanting = [meta.name(node) for node in nodes if node_wants(spec, node)[0]]
        groups = {name: placed.get(name, []) for name in wanting}
        chosen = {meta.uid(pod) for pod in delete}
        if surge:
            create += _surge(daemonset, groups, revision, now, surge)
        else:
            delete += [pod for pod in _replace(daemonset, groups, revision, now, unavailable)
                       if meta.uid(pod) not in chosen]
    return Plan(tuple(create), tuple(delete), tuple(failed))


def fences(daemonset: Object, wanted: int) -> tuple[int, int]:
    """Return (maxSurge, maxUnavailable) in Pods, of `wanted` in all."""
    strategy = daemonset["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    surge = fraction(rolling.get("maxSurge", 0), wanted, up=True)
    unavailable = fraction(rolling.get("maxUnavailable", 1), wanted, up=True)
    return surge, max(unavailable, 1) if not surge else unavailable


def desired(daemonset: Object, nodes: Iterable[Object]) -> int:
    """Return how many nodes want a Pod."""
    spec = daemonset["spec"]["template"].get("spec") or {}
    return sum(node_wants(spec, node)[0] for node in nodes)


def is_updated(pod: Object, revision: str) -> bool:
    """Tell whether a Pod is of the current template."""
    return meta.labels(pod).get(HASH) == revision


def _strategy(daemonset: Object) -> Object:
    return dict(daemonset["spec"].get("updateStrategy") or {})


def _works(daemonset: Object, pod: Object, now: float) -> bool:
    return available_in(pod, float(daemonset["spec"].get("minReadySeconds") or 0), now) == 0


def _pair(pods: Sequence[Object], revision: str) -> tuple[Object | None, Object | None]:
    """Return the node's Pod of the current template and its Pod of an older one."""
    alive = [pod for pod in pods if not is_over(pod) and not meta.deleting(pod)]
    return (next((pod for pod in alive if is_updated(pod, revision)), None),
            next((pod for pod in alive if not is_updated(pod, revision)), None))


def _extra_in_surge(daemonset: Object, alive: Sequence[Object], revision: str, now: float) -> list[Object]:
    """Under a surge a node may have an old and a new Pod, until the new one works."""
    fresh, stale = _pair(alive, revision)
    kept = [pod for pod in (fresh, stale) if pod is not None]
    if fresh is not None and stale is not None and (_works(daemonset, fresh, now) or not is_ready(stale)):
        kept = [fresh]
    return [pod for pod in alive if not any(pod is other for other in kept)]


def _replace(daemonset: Object, groups: Mapping[str, Sequence[Object]], revision: str, now: float,
             unavailable: int) -> list[Object]:
    """Return the old Pods to delete: those that don't work, and as many others as may be missing."""
    broken: list[Object] = []
    candidates: list[Object] = []
    down = 0
    for pods in groups.values():
        fresh, stale = _pair(pods, revision)
        if fresh is None and stale is not None and _works(daemonset, stale, now):
            candidates.append(stale)
            continue
        if fresh is None and stale is not None:
            broken.append(stale)
        down += fresh is None or stale is not None or not _works(daemonset, fresh, now)
    return broken + candidates[:max(0, unavailable - down)]


def _surge(daemonset: Object, groups: Mapping[str, Sequence[Object]], revision: str, now: float,
           surge: int) -> list[str]:
    """Return the nodes that get a new Pod beside their old one."""
    broken: list[str] = []
    candidates: list[str] = []
    surging = 0
    for node, pods in groups.items():
        fresh, stale = _pair(pods, revision)
        if stale is None:
            continue
        if fresh is None:
            (candidates if _works(daemonset, stale, now) else broken).append(node)
        else:
            surging += not _works(daemonset, fresh, now)
    return broken + candidates[:max(0, surge - surging)]


def status(daemonset: Object, nodes: Sequence[Object], pods: Sequence[Object], revision: str, now: float) -> Object:
    """Return the status."""
    spec = daemonset["spec"]["template"].get("spec") or {}
    min_ready = float(daemonset["spec"].get("minReadySeconds") or 0)
    placed = by_node(pods)
    counts = dict.fromkeys(("desiredNumberScheduled", "currentNumberScheduled", "numberMisscheduled", "numberReady",
                            "updatedNumberScheduled", "numberAvailable"), 0)
    for node in nodes:
        here = [pod for pod in placed.get(meta.name(node), []) if not is_over(pod)]
        if not node_wants(spec, node)[0]:
            counts["numberMisscheduled"] += bool(here) and not node_wants(spec, node)[1]
            continue
        counts["desiredNumberScheduled"] += 1
        counts["currentNumberScheduled"] += bool(here)
        alive = [pod for pod in here if not meta.deleting(pod)]
        counts["numberReady"] += any(map(is_ready, alive))
        counts["numberAvailable"] += any(available_in(pod, min_ready, now) == 0 for pod in alive)
        counts["updatedNumberScheduled"] += any(is_updated(pod, revision) for pod in alive)
    found: Object = {key: count for key, count in counts.items()
                     if count or key not in ("updatedNumberScheduled", "numberAvailable")}
    missing = counts["desiredNumberScheduled"] - counts["numberAvailable"]
    if missing:
        found["numberUnavailable"] = missing
    found["observedGeneration"] = daemonset["metadata"].get("generation", 0)
    old = daemonset.get("status") or {}
    return found | {key: old[key] for key in ("collisionCount", "conditions") if old.get(key)}


def next_available(daemonset: Object, pods: Iterable[Object], now: float) -> float | None:
    """Return the seconds until a ready Pod becomes available, None if none is about to."""
    min_ready = float(daemonset["spec"].get("minReadySeconds") or 0)
    waits = [wait for pod in pods if 0 < (wait := available_in(pod, min_ready, now)) < math.inf]
    return min(waits) + 0.01 if waits else None
