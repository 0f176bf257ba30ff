"""Deployments and their kin."""

from __future__ import annotations

from typing import Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver.table.columns import (
    NONE,
    Cell,
    age,
    containers,
    human_duration,
    label_selector,
    name,
    pairs,
    since,
    table,
)


def _parts(obj: Object) -> tuple[Object, Object, list[Cell]]:
    """Return spec, status and the wide cells: container names, images, selector."""
    spec = obj.get("spec") or {}
    names, images = containers((spec.get("template") or {}).get("spec"))
    return spec, obj.get("status") or {}, [names, images, label_selector(spec.get("selector"))]


def _deployment(obj: Object, now: float) -> list[Cell]:
    spec, state, wide = _parts(obj)
    return [name(obj), f"{state.get('readyReplicas', 0)}/{spec.get('replicas', 0)}", state.get("updatedReplicas", 0),
            state.get("availableReplicas", 0), age(obj, now), *wide]


def _replicaset(obj: Object, now: float) -> list[Cell]:
    spec, state, wide = _parts(obj)
    return [name(obj), spec.get("replicas", 0), state.get("replicas", 0), state.get("readyReplicas", 0), age(obj,
                                                                                                             now),
            *wide]


def _controller(obj: Object, now: float) -> list[Cell]:
    cells = _replicaset({**obj, "spec": {**(obj.get("spec") or {}), "selector": None}}, now)
    return [*cells[:-1], pairs((obj.get("spec") or {}).get("selector"))]


def _daemonset(obj: Object, now: float) -> list[Cell]:
    spec, state, wide = _parts(obj)
    node_selector = ((spec.get("template") or {}).get("spec") or {}).get("nodeSelector")
    return [name(obj), state.get("desiredNumberScheduled", 0), state.get("currentNumberScheduled", 0),
            state.get("numberReady", 0), state.get("updatedNumberScheduled", 0), state.get("numberAvailable", 0),
            pairs(node_selector), age(obj, now), *wide]


def _statefulset(obj: Object, now: float) -> list[Cell]:
    spec, state, wide = _parts(obj)
    return [name(obj), f"{state.get('readyReplicas', 0)}/{spec.get('replicas', 0)}", age(obj, now), *wide[:2]]


def _job(obj: Object, now: float) -> list[Cell]:
    spec, state, wide = _parts(obj)
    wanted, done = spec.get("completions"), state.get("succeeded", 0)
    if wanted is not None:
        completions = f"{done}/{wanted}"
    else:
        parallel = spec.get("parallelism", 0)
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    true = {item.get("type") for item in state.get("conditions") or [] if item.get("status") == "True"}
    word = next((kind for kind in ("Complete", "Failed") if kind in true), "")
    if not word:
        word = "Terminating" if obj["metadata"].get("deletionTimestamp") else next(
            (kind for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if kind in true), "Running")
    return [name(obj), word, completions, _duration(state, now), age(obj, now), *wide]


def _duration(state: Object, now: float) -> str:
    start: Any = state.get("startTime")
    if not start:
        return ""
    end = state.get("completionTime")
    if not end:
        end = next((item.get("lastTransitionTime") for item in state.get("conditions") or []
                    if item.get("type") == "Failed" and item.get("status") == "True"), None)
    return human_duration((meta.parse_timestamp(end) if end else now) - meta.parse_timestamp(start))


def _cronjob(obj: Object, now: float) -> list[Cell]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    inner = (spec.get("jobTemplate") or {}).get("spec") or {}
    names, images = containers((inner.get("template") or {}).get("spec"))
    return [name(obj), spec.get("schedule", ""), spec.get("timeZone") or NONE, str(bool(spec.get("suspend"))),
            len(state.get("active") or []), since(state.get("lastScheduleTime"), now) if state.get("lastScheduleTime")
            else NONE, age(obj, now), names, images, label_selector(inner.get("selector"))]


def _revision(obj: Object, now: float) -> list[Cell]:
    owner = meta.controller_of(obj)
    controller = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = owner.get("kind", "").lower()
        controller = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [name(obj), controller, obj.get("revision", 0), age(obj, now)]


DEPLOYMENTS = table("Name Ready Up-to-date Available Age | Containers Images Selector", _deployment)
REPLICASETS = table("Name Desired:integer Current:integer Ready:integer Age | Containers Images Selector", _replicaset)
REPLICATION_CONTROLLERS = table("Name Desired:integer Current:integer Ready:integer Age | Containers Images Selector",
                                _controller)
DAEMONSETS = table("Name Desired:integer Current:integer Ready:integer Up-to-date:integer Available:integer "
                   "Node_Selector "
                   "Age | Containers Images Selector", _daemonset)
STATEFULSETS = table("Name Ready Age | Containers Images", _statefulset)
JOBS = table("Name Status Completions Duration Age | Containers Images Selector", _job)
CRONJOBS = table("Name Schedule Timezone Suspend Active:integer Last_Schedule Age | Containers Images Selector",
                 _cronjob)
CONTROLLER_REVISIONS = table("Name Controller Revision Age", _revision)
