"""What a node's state means for its taints and its Pods: pure (k8s:pkg/controller/nodelifecycle, tainteviction)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from netlab.api import meta, placement
from netlab.api.meta import Object
from netlab.controllers.pods import condition

_LIFECYCLE = {  # by condition: taint while it is True, while False, while Unknown
    "Ready": {"False": placement.NOT_READY, "Unknown": placement.UNREACHABLE},
    "MemoryPressure": {"True": placement.MEMORY_PRESSURE},
    "DiskPressure": {"True": placement.DISK_PRESSURE},
    "NetworkUnavailable": {"True": placement.NETWORK_UNAVAILABLE},
    "PIDPressure": {"True": placement.PID_PRESSURE}}
_OURS = {key for row in _LIFECYCLE.values() for key in row.values()} | {placement.UNSCHEDULABLE}
_KUBELETS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def silent_conditions(node: Object, now: float) -> list[Object]:
    """Return the conditions of a node whose kubelet is no longer heard: all that it posts become Unknown."""
    stamp = meta.timestamp(now)
    rows = {row["type"]: dict(row) for row in node.get("status", {}).get("conditions") or []}
    for kind in _KUBELETS:
        row = rows.get(kind)
        if row is None:
            born = node["metadata"].get("creationTimestamp") or stamp
            rows[kind] = {"type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                          "message": "Kubelet never posted node status.", "lastHeartbeatTime": born,
                          "lastTransitionTime": stamp}
        elif row.get("status") != "Unknown":
            rows[kind] = {**row, "status": "Unknown", "reason": "NodeStatusUnknown",
                          "message": "Kubelet stopped posting node status.", "lastTransitionTime": stamp}
    return list(rows.values())


def taints(node: Object, now: float) -> list[Object]:
    """Return the taints a node should have: those of others as they are, ours by its conditions and spec.

    Ready is shown twice: NoSchedule for the scheduler, NoExecute for the Pods that run there. Taints that are there
    already keep their timeAdded.
    """
    wanted: list[tuple[str, str]] = []
    for kind, by_status in _LIFECYCLE.items():
        row = condition(node, kind)
        key = by_status.get(str((row or {}).get("status", "")))
        if key:
            wanted.append((key, "NoSchedule"))
    ready = condition(node, "Ready")
    if ready is not None and ready.get("status") in ("False", "Unknown"):
        wanted.append((_LIFECYCLE["Ready"][ready["status"]], "NoExecute"))
    if node["spec"].get("unschedulable"):
        wanted.append((placement.UNSCHEDULABLE, "NoSchedule"))
    current = node["spec"].get("taints") or []
    found = [row for row in current if not _managed(row) or (row["key"], row["effect"]) in wanted]
    have = {(row["key"], row["effect"]) for row in found}
    found += [{"key": key, "effect": effect, "timeAdded": meta.timestamp(now)} for key, effect in wanted
              if (key, effect) not in have]
    return found


def _managed(taint: Object) -> bool:
    return taint["key"] in _OURS and (taint["effect"] == "NoSchedule"
                                      or taint["key"] in (placement.NOT_READY, placement.UNREACHABLE))


def eviction_time(pod: Object, node_taints: Iterable[Object], now: float) -> float | None:
    """Return when (Unix seconds) a Pod has to leave its node because of NoExecute taints, None for never.

    A Pod that tolerates a taint for some seconds leaves that long after the taint came, or after its own birth if
    that was later; the shortest of its tolerations counts.
    """
    tainted = [row for row in node_taints if row.get("effect") == "NoExecute"]
    wishes: Sequence[Object] = pod["spec"].get("tolerations") or []
    leave = math.inf
    for taint in tainted:
        using = [wish for wish in wishes if placement.tolerates(wish, taint)]
        if not using:
            return now
        seconds = [max(0, wish["tolerationSeconds"]) for wish in using if wish.get("tolerationSeconds") is not None]
        if seconds:
            stamps = [stamp for stamp in (taint.get("timeAdded"), pod["metadata"].get("creationTimestamp")) if stamp]
            start = max(map(meta.parse_timestamp, stamps), default=now)
            leave = min(leave, start + min(seconds))
    return None if leave == math.inf else leave
