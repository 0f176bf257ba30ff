"""What controllers ask about Pods, and how they make them from templates: pure.

Rules: k8s:pkg/controller/controller_utils.go, k8s:pkg/api/v1/pod/util.go.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from netlab.api import meta
from netlab.api.meta import Object

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def condition(obj: Object, kind: str) -> Object | None:
    """Return the condition of that type from an object's status, None if it has none."""
    for row in obj.get("status", {}).get("conditions") or []:
        if row.get("type") == kind:
            return dict(row)
    return None


def is_true(obj: Object, kind: str) -> bool:
    """Tell whether the condition of that type is True."""
    row = condition(obj, kind)
    return row is not None and row.get("status") == "True"


def is_ready(pod: Object) -> bool:
    """Tell whether the Pod's Ready condition is True."""
    return is_true(pod, "Ready")


def phase(pod: Object) -> str:
    """Return status.phase; a Pod without one is Pending."""
    return str(pod.get("status", {}).get("phase") or "Pending")


def is_over(pod: Object) -> bool:
    """Tell whether the Pod has run to its end, well or not."""
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Tell whether the Pod counts as a replica: neither over nor going."""
    return not is_over(pod) and not meta.deleting(pod)


def node_of(pod: Object) -> str:
    """Return the name of the node the Pod is bound to, "" if none."""
    return str(pod.get("spec", {}).get("nodeName") or "")


def available_in(pod: Object, min_ready: float, now: float) -> float:
    """Return the seconds until a Pod counts as available: 0 if it does, infinity while it is not ready."""
    ready = condition(pod, "Ready")
    if ready is None or ready.get("status") != "True":
        return math.inf
    since = ready.get("lastTransitionTime")
    if not min_ready:
        return 0.0
    if not since:
        return min_ready
    return max(0.0, meta.parse_timestamp(since) + min_ready - now)


def restarts(pod: Object) -> int:
    """Return the highest restart count of the Pod's containers."""
    return max((int(row.get("restartCount") or 0) for row in pod.get("status", {}).get("containerStatuses") or []),
               default=0)


def deletion_rank(pod: Object, neighbours: Mapping[str, int], now: float) -> tuple[object, ...]:
    """Return a sort key: the lower, the less it costs to lose this Pod (ActivePodsWithRanks).

    `neighbours` counts the active Pods of the same owner by node: where there are more, one is missed less. Times
    count by the power of two of their age, so that among Pods of about the same age the choice is by uid.
    """
    ready = condition(pod, "Ready") or {}
    is_up = ready.get("status") == "True"
    try:
        cost = int(meta.annotations(pod).get(_DELETION_COST, "0"))
    except ValueError:
        cost = 0
    return (bool(node_of(pod)), _PHASES.get(phase(pod), 1), is_up, cost, -neighbours.get(node_of(pod), 0),
            _age_class(ready.get("lastTransitionTime"), now) if is_up else 0, -restarts(pod),
            _age_class(pod["metadata"].get("creationTimestamp"), now), meta.uid(pod))


def _age_class(stamp: str | None, now: float) -> int:
    if not stamp:
        return -1
    return int(math.log2(max(1.0, now - meta.parse_timestamp(stamp))))


def from_template(template: Object, owner: Object) -> Object:
    """Return a Pod to create for `owner`, named after it."""
    source = template.get("metadata") or {}
    found: Object = {"generateName": f"{meta.name(owner)}-", "namespace": meta.namespace(owner),
                     "ownerReferences": [meta.owner_reference(owner)]}
    for part in ("labels", "annotations", "finalizers"):
        if source.get(part):
            found[part] = dict(source[part]) if part != "finalizers" else list(source[part])
    return {"apiVersion": "v1", "kind": "Pod", "metadata": found, "spec": template.get("spec") or {}}


def owner_uids(obj: Object) -> Iterable[str]:
    """Return the uid of the controlling owner, as an index."""
    owner = meta.controller_of(obj)
    return [owner["uid"]] if owner else []


def set_condition(conditions: list[Object], new: Object, now: float) -> list[Object]:
    """Return `conditions` with `new` ({type, status, reason, message}) in; its transition time moves with its status.

    The list is returned as it was when type, status, reason and message are already there.
    """
    result = []
    stamp = meta.timestamp(now)
    row = {**new, "lastTransitionTime": stamp}
    known = False
    for old in conditions:
        if old.get("type") != new["type"]:
            result.append(old)
            continue
        known = True
        if all(old.get(part, "") == new.get(part, "") for part in ("status", "reason", "message")):
            return conditions
        if old.get("status") == new["status"] and old.get("lastTransitionTime"):
            row["lastTransitionTime"] = old["lastTransitionTime"]
        result.append(row)
    return result if known else [*result, row]
