"""A Pod's status from its spec, from what the runtime has, and from the probes; pure.

After k8s:pkg/kubelet/kubelet_pods.go (generateAPIPodStatus, convertToAPIContainerStatuses).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.kubelet import conditions, spec
from netlab.kubelet.records import Container, PodRecord
from netlab.kubelet.sync import Verdicts

_OTHERS = ("qosClass", "nominatedNodeName", "resize", "resourceClaimStatuses", "extendedResourceClaimStatus")
"""Fields of a status that the kubelet does not write."""
LOST = {"reason": "ContainerStatusUnknown", "exitCode": 137, "startedAt": None, "finishedAt": None}


@dataclass(frozen=True)
class Facts:
    """What a status needs besides the spec and the runtime's record."""

    now: float
    host_ips: tuple[str, ...]
    verdict: Verdicts
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By container name: (reason, message) of the trouble that keeps it from starting."""
    ended: bool = False
    """Nothing of the Pod runs or will run again."""
    failure: tuple[str, str] | None = None
    """(reason, message) when the kubelet itself has given the Pod up: evicted, not admitted, past its deadline."""


def build(pod: Object, record: PodRecord, old: Object, facts: Facts) -> Object:
    """Return the whole status.

    Args:
        pod: the Pod as wanted.
        record: what the runtime has.
        old: the last status known (ours, or the API server's after a restart).
        facts: the rest.
    """
    begun = any(record.latest(c["name"]) or _has_run(old, c["name"]) for c in spec.containers(pod))
    inits = [_one(pod, c, record, old, facts, init=True) for c in spec.init_containers(pod)]
    ordinary = [_one(pod, c, record, old, facts) for c in spec.containers(pod)]
    ephemeral = [_one(pod, c, record, old, facts) for c in spec.ephemeral_containers(pod)]
    found = {s["name"]: s for s in inits + ordinary}
    status: Object = {"phase": conditions.phase(pod, found, ended=facts.ended, begun=begun)}
    if facts.ended and inits:
        _spare(inits, ordinary, {name for name in found if record.latest(name) is None and not _has_run(old, name)})
    if not facts.ended and record.running() and (facts.failure or status["phase"] in ("Succeeded", "Failed")):
        status["phase"] = old.get("phase") or "Running"  # an end is told when nothing runs any more, not before
    elif facts.failure:
        status |= {"phase": "Failed", "reason": facts.failure[0], "message": facts.failure[1]}
    elif old.get("phase") in ("Succeeded", "Failed"):  # there is no way back from an end
        status |= {key: old[key] for key in ("phase", "reason", "message") if old.get(key)}
    if generation := pod.get("metadata", {}).get("generation"):
        status["observedGeneration"] = generation
    if inits:
        status["initContainerStatuses"] = inits
    status["containerStatuses"] = ordinary
    if ephemeral:
        status["ephemeralContainerStatuses"] = ephemeral
    status["conditions"] = conditions.make(pod, record, status, old.get("conditions") or [], facts.now)
    status["startTime"] = old.get("startTime") or meta.timestamp(facts.now)
    if facts.host_ips:
        status |= {"hostIP": facts.host_ips[0], "hostIPs": [{"ip": ip} for ip in facts.host_ips]}
    ips = _ips(pod, record, old, facts)
    if ips:
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    return status


def rejected(pod: Object, reason: str, message: str, now: float) -> Object:
    """Return the status of a Pod that this node does not admit."""
    old = pod.get("status") or {}
    return {"phase": "Failed", "reason": reason, "message": message, "startTime": old.get("startTime")
            or meta.timestamp(now)}


def changes(old: Object, new: Object) -> Object:
    """Return the strategic merge patch of `status` that takes `old` to `new`; {} when they are equal.

    Only the kubelet's own fields are written; a condition of somebody else is never touched, and one that has not
    changed is not sent.
    """
    patch: Object = {}
    for key in {**old, **new}:
        if old.get(key) == new.get(key) or key in _OTHERS:
            continue
        if key == "conditions":
            before = {c.get("type"): c for c in old.get(key) or []}
            mine = [{**dict.fromkeys(before.get(c["type"], {})), **c} for c in new.get(key) or []
                    if c["type"] in conditions.OWNED and _said(before.get(c["type"])) != _said(c)]
            if mine:
                patch[key] = mine
        elif key in ("podIPs", "hostIPs"):
            gone = [ip["ip"] for ip in old.get(key) or [] if ip not in (new.get(key) or [])]
            patch[key] = [*(new.get(key) or []), *({"ip": ip, "$patch": "delete"} for ip in gone)]
        elif _said(old.get(key)) != _said(new.get(key)):
            patch[key] = new.get(key)
    return patch


def _said(value: Any) -> Any:
    """Return a value without what says nothing: nulls, and empty objects, which one server keeps and another drops."""
    if isinstance(value, dict):
        return {k: said for k, v in value.items() if (said := _said(v)) not in (None, {})}
    return [_said(v) for v in value] if isinstance(value, list) else value


def _ips(pod: Object, record: PodRecord, old: Object, facts: Facts) -> Sequence[str]:
    if spec.host_network(pod):
        return facts.host_ips
    sandbox = record.sandbox
    if sandbox is not None and sandbox.ips:
        return sandbox.ips
    if facts.ended or sandbox is None:
        return [row["ip"] for row in old.get("podIPs") or []]  # an ended Pod keeps the address that it had
    return ()


def _one(pod: Object, wanted: Object, record: PodRecord, old: Object, facts: Facts, *, init: bool = False) -> Object:
    """Return one container's status."""
    name, latest, previous = wanted["name"], record.latest(wanted["name"]), record.previous(wanted["name"])
    was = _old(old, name)
    runs_on = not init or spec.is_sidecar(wanted)
    if latest is None:
        return _never_seen(pod, wanted, was, facts)
    status: Object = {"name": name, "state": _state(latest), "lastState": _state(previous) if previous else {},
                      "ready": False, "restartCount": max(latest.attempt, int(was.get("restartCount") or 0)),
                      "image": latest.image or wanted.get("image", ""), "imageID": latest.image_id,
                      "containerID": latest.url, "started": False}
    if not previous and latest.attempt and was.get("lastState"):
        status["lastState"] = was["lastState"]  # collected meanwhile; the API still knows it
    trouble = facts.waiting.get(name)
    if trouble and not latest.running and not facts.ended:
        status |= {"state": {"waiting": _trouble(trouble)}, "lastState": _state(latest)}
    elif latest.running and runs_on:
        verdict = facts.verdict(latest)
        status["started"] = verdict.started
        status["ready"] = verdict.started and verdict.ready
    elif not runs_on:
        status["ready"] = latest.state == "exited" and latest.exit_code == 0
    _decorate(status, wanted)
    return status


def _spare(inits: Sequence[Object], ordinary: Sequence[Object], never: Collection[str]) -> None:
    """Leave waiting in an ended Pod what its turn never came to.

    After TerminatePod in k8s:pkg/kubelet/status/status_manager.go.

    Args:
        inits: statuses of init containers; the first counts as begun.
        ordinary: statuses of the others, whose turn comes when the last init container has done its work.
        never: names of containers of which nothing was ever seen.
    """
    begun = max((at for at, row in enumerate(inits) if row["name"] not in never), default=0)
    last = inits[-1]
    done = last["started"] or (last["state"].get("terminated") or {}).get("exitCode") == 0
    waits = list(inits[begun + 1:])
    if not done and all(row["name"] in never for row in ordinary):
        waits += ordinary
    for row in waits:
        row["state"] = {"waiting": {"reason": "PodInitializing"}}


def _never_seen(pod: Object, wanted: Object, was: Object, facts: Facts) -> Object:
    """Return the status of a container that the runtime does not know: not started yet, or lost with its node."""
    name = wanted["name"]
    if (was.get("state") or {}).get("terminated"):
        return was
    begins = "PodInitializing" if spec.init_containers(pod) else "ContainerCreating"
    status: Object = {"name": name, "state": {"waiting": {"reason": begins}}, "lastState": was.get("lastState") or {},
                      "ready": False, "restartCount": int(was.get("restartCount") or 0),
                      "image": wanted.get("image", ""), "imageID": "", "started": False}
    trouble = facts.waiting.get(name)
    ran = bool((was.get("state") or {}).get("running"))
    if facts.ended:
        status["state"] = {"terminated": {**LOST, "message": "The container could not be located when the pod was "
                                                             "terminated"}}
    elif ran and not status["lastState"]:
        status["lastState"] = {"terminated": {**LOST, "message": "The container could not be located when the pod was "
                                                                 "deleted.  The container used to be Running"}}
        status["restartCount"] += not meta.deleting(pod)
    if trouble and not facts.ended:
        status["state"] = {"waiting": _trouble(trouble)}
    _decorate(status, wanted)
    return status


def _decorate(status: Object, wanted: Object) -> None:
    """Add what a status repeats of the spec."""
    if mounts := wanted.get("volumeMounts"):
        status["volumeMounts"] = [{key: mount[key] for key in ("mountPath", "name", "readOnly") if mount.get(key)}
                                  | ({"recursiveReadOnly": "Disabled"} if mount.get("readOnly") else {})
                                  for mount in mounts]
    if wanted.get("resources"):
        status["resources"] = wanted["resources"]
        if requests := wanted["resources"].get("requests"):
            status["allocatedResources"] = requests


def _trouble(trouble: tuple[str, str]) -> Object:
    return {"reason": trouble[0], "message": trouble[1]} if trouble[1] else {"reason": trouble[0]}


def _state(found: Container) -> Object:
    if found.state == "running":
        return {"running": {"startedAt": _time(found.started_at)}}
    if found.state == "exited":
        reason = found.reason or ("Completed" if found.exit_code == 0 else "Error")
        ended: Object = {"exitCode": found.exit_code, "reason": reason, "startedAt": _time(found.started_at),
                         "finishedAt": _time(found.finished_at), "containerID": found.url}
        return {"terminated": ended | ({"message": found.message} if found.message else {})}
    return {"waiting": {"reason": "ContainerCreating"}}


def _time(at: float) -> str | None:
    return meta.timestamp(at) if at else None


def _old(old: Object, name: str) -> Object:
    for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for status in old.get(key) or []:
            if status.get("name") == name:
                return dict(status)
    return {}


def _has_run(old: Object, name: str) -> bool:
    was = _old(old, name)
    return any("running" in (was.get(key) or {}) or "terminated" in (was.get(key) or {})
               for key in ("state", "lastState"))
