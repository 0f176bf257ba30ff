"""HorizontalPodAutoscalers."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.apiserver import autoscaling
from netlab.apiserver.table.columns import NONE, UNKNOWN, Cell, age, name, table

_SHOWN = 2


def _percent(value: Any) -> str:
    return f"{value}%"


def _metric(spec: Object, state: Object) -> str:
    kind = spec.get("type")
    field = {"Resource": "resource", "ContainerResource": "containerResource", "Pods": "pods", "Object": "object",
             "External": "external"}.get(str(kind), "")
    source = spec.get(field) or {}
    target, current = source.get("target") or {}, (state.get(field) or {}).get("current") or {}
    if kind in ("Resource", "ContainerResource"):
        if target.get("averageValue") is not None:
            return f"{source.get('name')}: {current.get('averageValue', UNKNOWN)}/{target['averageValue']}"
        found = current.get("averageUtilization")
        shown = UNKNOWN if found is None else _percent(found)
        wanted = target.get("averageUtilization")
        return f"{source.get('name')}: {shown}/{'<auto>' if wanted is None else _percent(wanted)}"
    if kind == "Pods":
        return f"{current.get('averageValue', UNKNOWN)}/{target.get('averageValue')}"
    if kind in ("Object", "External"):
        if target.get("averageValue") is not None:
            return f"{current.get('averageValue', UNKNOWN)}/{target['averageValue']} (avg)"
        return f"{current.get('value', UNKNOWN)}/{target.get('value')}"
    return "<unknown type>"


def _targets(spec: Object, state: Object) -> str:
    metrics, found = spec.get("metrics") or [], state.get("currentMetrics") or []
    if not metrics:
        return NONE
    texts = [_metric(metric, found[at] if at < len(found) else {}) for at, metric in enumerate(metrics)]
    shown = ", ".join(texts[:_SHOWN])
    return f"{shown} + {len(texts) - _SHOWN} more..." if len(texts) > _SHOWN else shown


def _autoscaler(obj: Object, now: float) -> list[Cell]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    reference = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [name(obj), f"{reference.get('kind')}/{reference.get('name')}", _targets(spec, state),
            "<unset>" if least is None else str(least), spec.get("maxReplicas", 0), state.get("currentReplicas", 0),
            age(obj, now)]


def _old_autoscaler(obj: Object, now: float) -> list[Cell]:
    return _autoscaler(autoscaling.to_v2(obj), now)


_COLUMNS = "Name Reference Targets MinPods MaxPods Replicas Age"
AUTOSCALERS = table(_COLUMNS, _autoscaler)
OLD_AUTOSCALERS = table(_COLUMNS, _old_autoscaler)
