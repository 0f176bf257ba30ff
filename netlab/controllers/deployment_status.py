"""What a Deployment says of its progress: pure (k8s:pkg/controller/deployment/{sync,progress}.go)."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.pods import condition
from netlab.controllers.rollout import complete, counted, fences, size

_NO_DEADLINE = 2147483647


def status(deployment: Object, new: Object | None, olds: Sequence[Object], now: float, *, found_new: str = "",
           trouble: Object | None = None) -> Object:
    """Return the status.

    Args:
        deployment: the Deployment; its old status is where conditions start from.
        new: the ReplicaSet of the current template.
        olds: the other ReplicaSets.
        now: Unix seconds.
        found_new: NewReplicaSetCreated or FoundNewReplicaSet when this sync made or found `new`, else "".
        trouble: {reason, message} when a ReplicaSet could not be made.
    """
    everyone = [*olds, new] if new else list(olds)
    old = deployment.get("status") or {}
    available = sum(counted(row, "availableReplicas") for row in everyone)
    result: Object = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": sum(counted(row, "replicas") for row in everyone),
        "updatedReplicas": counted(new, "replicas") if new else 0,
        "readyReplicas": sum(counted(row, "readyReplicas") for row in everyone),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(map(size, everyone)) - available)}
    result = {key: value for key, value in result.items() if value}
    result["terminatingReplicas"] = sum(counted(row, "terminatingReplicas") for row in everyone)
    if old.get("collisionCount"):
        result["collisionCount"] = old["collisionCount"]
    conditions = [dict(row) for row in old.get("conditions") or []]
    enough = available >= size(deployment) - fences(deployment)[1]
    conditions = _with(conditions, "Available", enough, "MinimumReplicasAvailable" if enough else
                       "MinimumReplicasUnavailable", "Deployment has minimum availability." if enough else
                       "Deployment does not have minimum availability.", now)
    failures = [row for rs in everyone if (row := condition(rs, "ReplicaFailure")) and row.get("status") == "True"]
    conditions = [row for row in conditions if row["type"] != "ReplicaFailure"] if not failures else _with(
        conditions, "ReplicaFailure", True, failures[-1].get("reason", ""), failures[-1].get("message", ""), now)
    result["conditions"] = _progress(deployment, new, everyone, result, conditions, now, found_new, trouble)
    return result


def until_deadline(deployment: Object, now: float) -> float | None:
    """Return the seconds until the progress deadline has to be looked at again, None if it does not run."""
    progressing = condition(deployment, "Progressing")
    if _deadline(deployment) is None or progressing is None or deployment["spec"].get("paused") \
            or progressing.get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    since = meta.parse_timestamp(progressing.get("lastUpdateTime") or meta.timestamp(now))
    return max(0.0, since + (_deadline(deployment) or 0) - now) + 1.0


def _deadline(deployment: Object) -> float | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    seconds = 600 if seconds is None else int(seconds)
    return None if seconds == _NO_DEADLINE else float(seconds)


def _progress(deployment: Object, new: Object | None, everyone: Sequence[Object], fresh: Object,
              conditions: list[Object], now: float, found_new: str, trouble: Object | None) -> list[Object]:
    deadline = _deadline(deployment)
    if deadline is None:
        return [row for row in conditions if row["type"] != "Progressing"]
    current = next((row for row in conditions if row["type"] == "Progressing"), None)
    reason = (current or {}).get("reason", "")
    what = f'ReplicaSet "{meta.name(new)}"' if new else f'Deployment "{meta.name(deployment)}"'
    if trouble:
        return _with(conditions, "Progressing", False, trouble["reason"], trouble["message"], now, touch=True)
    if deployment["spec"].get("paused"):
        if reason in ("ProgressDeadlineExceeded", "DeploymentPaused"):
            return conditions
        return _with(conditions, "Progressing", None, "DeploymentPaused", "Deployment is paused", now, touch=True)
    if reason == "DeploymentPaused":
        return _with(conditions, "Progressing", None, "DeploymentResumed", "Deployment is resumed", now, touch=True)
    if reason == "NewReplicaSetAvailable" and fresh.get("replicas", 0) == fresh.get("updatedReplicas", 0) \
            and not found_new:
        return conditions
    if complete(deployment, new, everyone):
        return _with(conditions, "Progressing", True, "NewReplicaSetAvailable", f"{what} has successfully progressed.",
                     now, touch=reason != "NewReplicaSetAvailable")
    if found_new:
        verb = "Created new replica set" if found_new == "NewReplicaSetCreated" else "Found new replica set"
        name = meta.name(new) if new else ""
        return _with(conditions, "Progressing", True, found_new, f'{verb} "{name}"', now, touch=True)
    if _moved(deployment.get("status") or {}, fresh):
        return _with(conditions, "Progressing", True, "ReplicaSetUpdated", f"{what} is progressing.", now, touch=True)
    if current and reason not in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        since = meta.parse_timestamp(current.get("lastUpdateTime") or meta.timestamp(now))
        if since + deadline < now:
            return _with(conditions, "Progressing", False, "ProgressDeadlineExceeded",
                         f"{what} has timed out progressing.", now, touch=True)
    return conditions


def _moved(old: Object, new: Object) -> bool:
    def count(status: Object, field: str) -> int:
        return int(status.get(field) or 0)

    return (count(new, "updatedReplicas") > count(old, "updatedReplicas")
            or count(new, "replicas") - count(new, "updatedReplicas")
            < count(old, "replicas") - count(old, "updatedReplicas")
            or count(new, "readyReplicas") > count(old, "readyReplicas")
            or count(new, "availableReplicas") > count(old, "availableReplicas"))


def _with(conditions: list[Object], kind: str, holds: bool | None, reason: str, message: str, now: float, *,
          touch: bool = False) -> list[Object]:
    """Return the conditions with one set. `holds` None is Unknown. `touch` renews lastUpdateTime: it is progress."""
    text, stamp = {True: "True", False: "False", None: "Unknown"}[holds], meta.timestamp(now)
    old = next((row for row in conditions if row["type"] == kind), None)
    if old and not touch and old["status"] == text and old.get("reason") == reason:
        return conditions
    row = {"type": kind, "status": text, "lastUpdateTime": stamp, "lastTransitionTime": stamp, "reason": reason,
           "message": message}
    if old and old["status"] == text:
        row["lastTransitionTime"] = old.get("lastTransitionTime", stamp)
    return [*(other for other in conditions if other["type"] != kind), row]
