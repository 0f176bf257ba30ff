"""Pods: what their containers are doing, in one word."""

from __future__ import annotations

from typing import Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver.table.columns import NONE, Cell, age, containers, human_duration, name, pairs, table


def pod_cells(obj: Object, now: float) -> list[Cell]:
    """Return a Pod's cells."""
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    reason, ready, total, restarts, last = _summary(obj)
    restarted = f"{restarts} ({human_duration(now - last)} ago)" if restarts and last else str(restarts)
    ips = state.get("podIPs") or []
    gates = spec.get("readinessGates") or []
    conditions = {item.get("type"): item.get("status") for item in state.get("conditions") or []}
    passed = sum(conditions.get(gate.get("conditionType")) == "True" for gate in gates)
    return [name(obj), f"{ready}/{total}", reason, restarted, age(obj, now),
            (ips[0].get("ip") if ips else state.get("podIP")) or NONE, spec.get("nodeName") or NONE,
            state.get("nominatedNodeName") or NONE, f"{passed}/{len(gates)}" if gates else NONE]


def _summary(obj: Object) -> tuple[str, int, int, int, float]:
    """Return (word, ready containers, all containers, restarts, Unix time of the last restart or 0)."""
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    phase = state.get("phase", "")
    reason = state.get("reason") or phase
    conditions = state.get("conditions") or []
    if any(item.get("type") == "PodScheduled" and item.get("reason") == "SchedulingGated" for item in conditions):
        reason = "SchedulingGated"
    sidecars = {item["name"] for item in spec.get("initContainers") or [] if item.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or []) + len(sidecars)
    init = _Init(spec, state, sidecars)
    restarts, last, ready = init.restarts, init.last, init.ready
    if init.reason:
        reason = init.reason
    if not init.reason or any(item.get("type") == "Initialized" and item.get("status") == "True"
                              for item in conditions):
        restarts, last = init.sidecar_restarts, init.sidecar_last
        running = False
        for item in reversed(state.get("containerStatuses") or []):
            restarts += item.get("restartCount", 0)
            last = max(last, _finished(item))
            word = _word(item)
            if word:
                reason = word
            elif item.get("ready") and (item.get("state") or {}).get("running") is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            good = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
            reason = "Running" if good else "NotReady"
    if obj["metadata"].get("deletionTimestamp"):
        if state.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in ("Failed", "Succeeded"):
            reason = "Terminating"
    return reason, ready, total, restarts, last


class _Init:
    """What the init containers say: `reason` is set while one of them holds the Pod up."""

    def __init__(self, spec: Object, state: Object, sidecars: set[str]) -> None:
        self.reason, self.ready = "", 0
        self.restarts, self.sidecar_restarts, self.last, self.sidecar_last = 0, 0, 0.0, 0.0
        for at, item in enumerate(state.get("initContainerStatuses") or []):
            self.restarts += item.get("restartCount", 0)
            self.last = max(self.last, _finished(item))
            sidecar = item.get("name") in sidecars
            if sidecar:
                self.sidecar_restarts += item.get("restartCount", 0)
                self.sidecar_last = max(self.sidecar_last, _finished(item))
            terminated = (item.get("state") or {}).get("terminated")
            waiting = (item.get("state") or {}).get("waiting") or {}
            if terminated is not None and terminated.get("exitCode", 0) == 0:
                continue
            if sidecar and item.get("started"):
                self.ready += bool(item.get("ready"))
                continue
            if terminated is not None:
                self.reason = "Init:" + _ended(terminated)
            elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
                self.reason = "Init:" + waiting["reason"]
            else:
                self.reason = f"Init:{at}/{len(spec.get('initContainers') or [])}"
            break


def _word(item: Object) -> str:
    state = item.get("state") or {}
    waiting, terminated = state.get("waiting") or {}, state.get("terminated")
    if waiting.get("reason"):
        return str(waiting["reason"])
    return _ended(terminated) if terminated is not None else ""


def _ended(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _finished(item: Object) -> float:
    text: Any = ((item.get("lastState") or {}).get("terminated") or {}).get("finishedAt")
    try:
        return meta.parse_timestamp(text) if text else 0.0
    except ValueError:
        return 0.0


def _template_cells(obj: Object, _now: float) -> list[Cell]:
    template = obj.get("template") or {}
    names, images = containers(template.get("spec"))
    return [name(obj), names, images, pairs((template.get("metadata") or {}).get("labels"))]


PODS = table("Name Ready Status Restarts Age | IP Node Nominated_Node Readiness_Gates", pod_cells)
POD_TEMPLATES = table("Name Containers Images Pod_Labels", _template_cells)
