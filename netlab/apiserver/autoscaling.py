"""HorizontalPodAutoscalers in two shapes: stored as autoscaling/v2, served as v1, too.

What v1 has no field for stands in annotations there, as upstream writes them (pkg/apis/autoscaling/v1/conversion.go):
metrics other than the CPU's utilization, the behavior, the current metrics and the conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from netlab.api.meta import Object

_PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS, CURRENT, CONDITIONS, BEHAVIOR = (f"{_PREFIX}{part}" for part in (
    "metrics", "current-metrics", "conditions", "behavior"))
_ANNOTATIONS = (METRICS, CURRENT, CONDITIONS, BEHAVIOR)
_CPU = "cpu"
_SOURCES = {"Resource": "resource", "ContainerResource": "containerResource", "Pods": "pods", "Object": "object",
            "External": "external"}


def to_v1(hpa: Object) -> Object:
    """Return an autoscaling/v2 object as v1."""
    spec, state = dict(hpa.get("spec") or {}), dict(hpa.get("status") or {})
    notes: dict[str, Any] = {}
    others = []
    for metric in spec.pop("metrics", None) or []:
        target = _cpu_target(metric)
        if target is not None and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = target
        else:
            others.append(_flat(metric, "target", "target"))
    if others:
        notes[METRICS] = others
    if spec.get("behavior"):
        notes[BEHAVIOR] = spec["behavior"]
    spec.pop("behavior", None)
    current = state.pop("currentMetrics", None) or []
    for metric in current:
        source = metric.get("resource") or {}
        if metric.get("type") == "Resource" and source.get("name") == _CPU \
                and (source.get("current") or {}).get("averageUtilization") is not None:
            state["currentCPUUtilizationPercentage"] = source["current"]["averageUtilization"]
    if current:
        notes[CURRENT] = [_flat(metric, "current", "current") for metric in current]
    if state.get("conditions"):
        notes[CONDITIONS] = state["conditions"]
    state.pop("conditions", None)
    for part in ("currentReplicas", "desiredReplicas"):
        state.setdefault(part, 0)
    metadata = dict(hpa["metadata"])
    if notes:
        metadata["annotations"] = {**(metadata.get("annotations") or {}),
                                   **{key: orjson.dumps(value).decode() for key, value in notes.items()}}
    return {**hpa, "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": state}


def to_v2(hpa: Object) -> Object:
    """Return an autoscaling/v1 object as v2; annotations that do not hold what they should are dropped."""
    spec, state = dict(hpa.get("spec") or {}), dict(hpa.get("status") or {})
    metadata = dict(hpa["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    notes = {key: _read(annotations.pop(key, "")) for key in _ANNOTATIONS}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    metrics = [_nested(metric, "target", "target") for metric in _objects(notes[METRICS])]
    target = spec.pop("targetCPUUtilizationPercentage", None)
    if target is not None:
        metrics.insert(0, {"type": "Resource", "resource": {"name": _CPU, "target": {
            "type": "Utilization", "averageUtilization": target}}})
    if metrics:
        spec["metrics"] = metrics
    if isinstance(notes[BEHAVIOR], dict):
        spec["behavior"] = notes[BEHAVIOR]
    utilization = state.pop("currentCPUUtilizationPercentage", None)
    current = [_nested(metric, "current", "current") for metric in _objects(notes[CURRENT])]
    if not current and utilization is not None:
        current = [{"type": "Resource", "resource": {"name": _CPU, "current": {"averageUtilization": utilization}}}]
    if current:
        state["currentMetrics"] = current
    if _objects(notes[CONDITIONS]):
        state["conditions"] = notes[CONDITIONS]
    return {**hpa, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec, "status": state}


def _cpu_target(metric: Mapping[str, Any]) -> int | None:
    source = metric.get("resource") or {}
    found = (source.get("target") or {}).get("averageUtilization")
    return found if metric.get("type") == "Resource" and source.get("name") == _CPU else None


def _flat(metric: Mapping[str, Any], part: str, prefix: str) -> Object:
    """Return a v2 metric (spec or status) in v1's flat spelling: target.averageValue → targetAverageValue."""
    field = _SOURCES.get(str(metric.get("type")), "")
    source = dict(metric.get(field) or {})
    values = source.pop(part, None) or {}
    name = source.pop("metric", None) or {}
    flat: Object = dict(source)
    if name:
        flat["metricName"] = name.get("name", "")
        if name.get("selector"):
            flat["metricSelector" if field == "external" else "selector"] = name["selector"]
    if "describedObject" in flat:
        flat["target"] = flat.pop("describedObject")
    for key, value in values.items():
        if key == "type":
            continue
        if field == "object" and key == "averageValue":
            flat["averageValue"] = value
        else:
            flat[f"{prefix}{key[0].upper()}{key[1:]}"] = value
    return {"type": metric.get("type"), field: flat}


def _nested(metric: Mapping[str, Any], part: str, prefix: str) -> Object:
    """Return a metric in v1's flat spelling as v2 has it."""
    field = _SOURCES.get(str(metric.get("type")), "")
    source = dict(metric.get(field) or {})
    values: Object = {}
    for key in ("AverageUtilization", "AverageValue", "Value"):
        if f"{prefix}{key}" in source:
            values[key[0].lower() + key[1:]] = source.pop(f"{prefix}{key}")
    if field == "object" and "averageValue" in source:
        values["averageValue"] = source.pop("averageValue")
    if part == "target":
        values["type"] = ("Utilization" if "averageUtilization" in values else
                          "AverageValue" if "averageValue" in values else "Value")
    nested: Object = {}
    if "metricName" in source:
        nested["metric"] = {"name": source.pop("metricName")}
        chosen = source.pop("metricSelector" if field == "external" else "selector", None)
        if chosen:
            nested["metric"]["selector"] = chosen
    if field == "object" and "target" in source:
        nested["describedObject"] = source.pop("target")
    return {"type": metric.get("type"), field: {**source, **nested, part: values}}


def _read(text: str) -> Any:
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None


def _objects(found: Any) -> list[Object]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
