"""The Pod's phase and the conditions that the kubelet owns, from its container statuses; pure.

Words and rules: k8s:pkg/kubelet/kubelet_pods.go (getPhase), k8s:pkg/kubelet/status/generate.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netlab.api import meta
from netlab.api.meta import Object
from netlab.kubelet import spec
from netlab.kubelet.records import PodRecord

OWNED = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def phase(pod: Object, statuses: Mapping[str, Object], *, ended: bool, begun: bool) -> str:
    """Return Pending, Running, Succeeded or Failed.

    Args:
        pod: the Pod.
        statuses: container statuses by name, init containers' included.
        ended: nothing of the Pod runs or will run.
        begun: an ordinary container has been started.
    """
    waiting_init, sidecars_pending, running, waiting, stopped, succeeded, unknown = 0, 0, 0, 0, 0, 0, 0
    for wanted in spec.init_containers(pod):
        status = statuses.get(wanted["name"])
        state, last = _state(status), _terminated(status, "lastState")
        if spec.is_sidecar(wanted):
            started = bool(status and status.get("started"))
            running += "running" in state
            sidecars_pending += ("running" in state and not started) or ("waiting" in state and last is None)
            waiting += "waiting" in state and last is None and not begun
            continue
        end = state.get("terminated") or (last if "waiting" in state else None)
        if end is None:
            waiting_init += 1
        elif end.get("exitCode", 0) != 0:
            if not spec.should_restart(pod, wanted, end.get("exitCode", 0), init=True):
                return "Failed"
            waiting_init += 1
    will_restart = False
    for wanted in spec.containers(pod):
        status = statuses.get(wanted["name"])
        state, last = _state(status), _terminated(status, "lastState")
        end = state.get("terminated") or (last if "waiting" in state else None)
        if "running" in state:
            running += 1
        elif end is not None:
            stopped += 1
            succeeded += end.get("exitCode", 0) == 0 and "terminated" in state
            will_restart |= spec.should_restart(pod, wanted, end.get("exitCode", 0))
        elif "waiting" in state:
            waiting += 1
        else:
            unknown += 1
    if ended and stopped and not running and not waiting:
        return "Succeeded" if stopped == succeeded else "Failed"
    if not begun and (waiting_init or sidecars_pending):
        return "Pending"
    if waiting:
        return "Pending"
    if running and not unknown and (stopped == 0 or will_restart or running > _sidecars(pod, statuses)):
        return "Running"
    if stopped and not unknown:
        if will_restart:
            return "Running"
        return "Succeeded" if stopped == succeeded else "Failed"
    return "Pending"


def make(pod: Object, record: PodRecord, status: Object, old: Sequence[Object], now: float) -> list[Object]:
    """Return all conditions: others' as they are, then our own, with the time of their last change.

    Args:
        pod: the Pod; its status holds conditions that others own (readiness gates).
        record: what the runtime has.
        status: the status so far: phase and container statuses.
        old: the conditions that were there before.
        now: Unix seconds, for those that change.
    """
    by_name = {s["name"]: s for field in ("initContainerStatuses", "containerStatuses") for s in status.get(field, [])}
    others = [c for c in (pod.get("status") or {}).get("conditions") or [] if c.get("type") not in OWNED]
    containers_ready = _containers_ready(pod, by_name, status["phase"])
    mine = [_sandbox_ready(pod, record), _initialized(pod, by_name, status["phase"]),
            _ready(pod, others, containers_ready, status["phase"]), containers_ready,
            {"type": "PodScheduled", "status": "True"}]
    before = {c.get("type"): c for c in old}
    generation = pod.get("metadata", {}).get("generation")
    for condition in mine:
        was = before.get(condition["type"], {})
        same = was.get("status") == condition["status"] and was.get("lastTransitionTime")
        condition["lastTransitionTime"] = was["lastTransitionTime"] if same else meta.timestamp(now)
        if generation:
            condition["observedGeneration"] = generation
    return others + mine


def _state(status: Object | None) -> Object:
    return (status or {}).get("state") or {}


def _terminated(status: Object | None, field: str) -> Object | None:
    found = ((status or {}).get(field) or {}).get("terminated")
    return dict(found) if found else None


def _sidecars(pod: Object, statuses: Mapping[str, Object]) -> int:
    return sum("running" in _state(statuses.get(c["name"])) for c in spec.init_containers(pod) if spec.is_sidecar(c))


def _sandbox_ready(pod: Object, record: PodRecord) -> Object:
    sandbox = record.sandbox
    ready = sandbox is not None and sandbox.ready and bool(sandbox.ips or spec.host_network(pod))
    return {"type": "PodReadyToStartContainers", "status": "True" if ready else "False"}


def _initialized(pod: Object, statuses: Mapping[str, Object], phase_now: str) -> Object:
    made: Object = {"type": "Initialized", "status": "True"}
    unknown, incomplete = [], []
    for wanted in spec.init_containers(pod):
        status = statuses.get(wanted["name"])
        if status is None:
            unknown.append(wanted["name"])
        elif not status.get("started" if spec.is_sidecar(wanted) else "ready"):
            incomplete.append(wanted["name"])
    if phase_now == "Succeeded" and not unknown:
        return {**made, "reason": "PodCompleted"}
    begun = any("running" in _state(s) or _terminated(s, "lastState") or "terminated" in _state(s)
                for s in (statuses.get(c["name"]) for c in spec.containers(pod)))
    if begun or not (unknown or incomplete):
        return made
    return {**made, "status": "False", "reason": "ContainersNotInitialized",
            "message": _list(unknown, "unknown") + (", " if unknown and incomplete else "")
            + _list(incomplete, "incomplete")}


def _containers_ready(pod: Object, statuses: Mapping[str, Object], phase_now: str) -> Object:
    made: Object = {"type": "ContainersReady", "status": "True"}
    unknown, unready = [], []
    for wanted in [c for c in spec.init_containers(pod) if spec.is_sidecar(c)] + spec.containers(pod):
        status = statuses.get(wanted["name"])
        if status is None:
            unknown.append(wanted["name"])
        elif not status.get("ready"):
            unready.append(wanted["name"])
    if phase_now == "Succeeded" and not unknown:
        return {**made, "status": "False", "reason": "PodCompleted"}
    if phase_now == "Failed":
        return {**made, "status": "False", "reason": "PodFailed"}
    if not (unknown or unready):
        return made
    return {**made, "status": "False", "reason": "ContainersNotReady",
            "message": _list(unknown, "unknown") + (", " if unknown and unready else "") + _list(unready, "unready")}


def _ready(pod: Object, others: Sequence[Object], containers_ready: Object, phase_now: str) -> Object:
    made: Object = {**containers_ready, "type": "Ready"}
    if containers_ready["status"] != "True" or phase_now in ("Succeeded", "Failed"):
        return made
    messages = []
    for gate in spec.spec(pod).get("readinessGates") or []:
        kind = gate.get("conditionType")
        found = next((c for c in others if c.get("type") == kind), None)
        if found is None:
            messages.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif found.get("status") != "True":
            messages.append(f'the status of pod readiness gate "{kind}" is not "True", but {found.get("status")}')
    if messages:
        made |= {"status": "False", "reason": "ReadinessGatesNotReady", "message": ", ".join(messages)}
    return made


def _list(names: Sequence[str], what: str) -> str:
    return f"containers with {what} status: [{' '.join(names)}]" if names else ""
