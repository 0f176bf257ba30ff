"""HorizontalPodAutoscalers and PodDisruptionBudgets (pkg/apis/autoscaling/validation, pkg/apis/policy/validation)."""

from __future__ import annotations

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.amounts import amount, at_most_all
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required, wrong
from netlab.apiserver.validation.selectors import label_selector

_SOURCES = {"ContainerResource": "containerResource", "External": "external", "Object": "object", "Pods": "pods",
            "Resource": "resource"}
_ORDER = ("Object", "External", "Pods", "Resource", "ContainerResource")
_TARGETS = ("AverageValue", "Utilization", "Value")
_POLICIES = ("Pods", "Percent")
_SELECT = ("Disabled", "Max", "Min")


def autoscaler(spec: Object, path: str) -> list[FieldError]:
    """Check the spec of an autoscaling/v2 HorizontalPodAutoscaler."""
    errors: list[FieldError] = []
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        errors.append(invalid(f"{path}.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        errors.append(invalid(f"{path}.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        errors.append(invalid(f"{path}.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    errors += _reference(spec.get("scaleTargetRef") or {}, f"{path}.scaleTargetRef")
    for at, metric in enumerate(spec.get("metrics") or []):
        errors += _metric(metric, f"{path}.metrics[{at}]")
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in spec.get("metrics") or []):
        errors.append(forbidden(f"{path}.metrics", "must specify at least one Object or External metric to support "
                                                   "scaling to zero replicas"))
    behavior = spec.get("behavior") or {}
    for part in ("scaleUp", "scaleDown"):
        if behavior.get(part) is not None:
            errors += _rules(behavior[part], f"{path}.behavior.{part}")
    return errors


def _reference(reference: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in ("kind", "name"):
        value = reference.get(part, "")
        if not value:
            errors.append(required(f"{path}.{part}"))
        else:
            errors += wrong(f"{path}.{part}", value, names.path_segment(value))
    return errors


def _metric(metric: Object, path: str) -> list[FieldError]:
    """Check a metric: of several sources the first is looked at, and all but the type's are too many."""
    kind = metric.get("type", "")
    errors = [] if kind else [required(f"{path}.type", "must specify a metric source type")]
    if kind not in _SOURCES:
        errors.append(not_supported(f"{path}.type", kind, _SOURCES))
    present = [name for name in _ORDER if metric.get(_SOURCES[name]) is not None]
    if present:
        errors += _source(present[0], metric[_SOURCES[present[0]]], f"{path}.{_SOURCES[present[0]]}")
    if kind not in _SOURCES:
        errors.append(not_supported(f"{path}.type", kind, _SOURCES))
    elif kind not in present:
        errors.append(required(f"{path}.{_SOURCES[kind]}", "must populate information for the given metric source"))
    return errors + [forbidden(f"{path}.{_SOURCES[name]}", "must populate the given metric source only")
                     for name in present if name != kind and len(present) != 1]


def _source(kind: str, source: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if kind == "Object":
        errors += _reference(source.get("describedObject") or {}, f"{path}.describedObject")
    if kind in ("Object", "Pods", "External"):
        name = (source.get("metric") or {}).get("name", "")
        errors += wrong(f"{path}.metric.name", name, names.path_segment(name)) if name else [
            required(f"{path}.metric.name", "must specify a metric name")]
    elif not source.get("name"):
        errors.append(required(f"{path}.name", "must specify a resource name"))
    if kind == "ContainerResource" and not source.get("container"):
        errors.append(required(f"{path}.container", "must specify a container"))
    target = source.get("target") or {}
    errors += _target(target, f"{path}.target")
    has = {part: target.get(part) is not None for part in ("value", "averageValue", "averageUtilization")}
    if kind in ("Resource", "ContainerResource"):
        if not has["averageUtilization"] and not has["averageValue"]:
            errors.append(required(f"{path}.target.averageUtilization",
                                   "must set either a target raw value or a target utilization"))
        if has["averageUtilization"] and has["averageValue"]:
            errors.append(forbidden(f"{path}.target.averageValue",
                                    "may not set both a target raw value and a target utilization"))
    elif kind == "Pods":
        if not has["averageValue"]:
            errors.append(required(f"{path}.target.averageValue", "must specify a positive target averageValue"))
    elif not has["value"] and not has["averageValue"]:
        errors.append(required(f"{path}.target.averageValue",
                               "must set either a target value or averageValue" if kind == "Object" else
                               "must set either a target value for metric or a per-pod target"))
    elif kind == "External" and has["value"] and has["averageValue"]:
        errors.append(forbidden(f"{path}.target.value",
                                "may not set both a target value for metric and a per-pod target"))
    return errors


def _target(target: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = target.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if kind not in _TARGETS:
        errors.append(invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue"))
    errors += [invalid(f"{path}.{part}", target[part], "must be positive") for part in ("value", "averageValue")
               if target.get(part) is not None and quantity.parse(target[part]).milli() <= 0]
    found = target.get("averageUtilization")
    if found is not None and found < 1:
        errors.append(invalid(f"{path}.averageUtilization", found, "must be greater than 0"))
    return errors


def _rules(rules: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero"))
    elif window is not None and window > 3600:
        errors.append(invalid(f"{path}.stabilizationWindowSeconds", window, "must be less than or equal to 3600"))
    chosen = rules.get("selectPolicy")
    if chosen is not None and chosen not in _SELECT:
        errors.append(not_supported(f"{path}.selectPolicy", chosen, _SELECT))
    policies = rules.get("policies") or []
    if not policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for at, policy in enumerate(policies):
        field = f"{path}.policies[{at}]"
        if policy.get("type") not in _POLICIES:
            errors.append(not_supported(f"{field}.type", policy.get("type", ""), _POLICIES))
        if policy.get("value", 0) <= 0:
            errors.append(invalid(f"{field}.value", policy.get("value", 0), "must be greater than zero"))
        seconds = policy.get("periodSeconds", 0)
        if seconds <= 0:
            errors.append(invalid(f"{field}.periodSeconds", seconds, "must be greater than zero"))
        elif seconds > 1800:
            errors.append(invalid(f"{field}.periodSeconds", seconds, "must be less than or equal to 1800"))
    return errors


def budget(spec: Object, path: str) -> list[FieldError]:
    """Check a PodDisruptionBudgetSpec."""
    errors: list[FieldError] = []
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        errors.append(invalid(path, spec, "minAvailable and maxUnavailable cannot be both set"))
    for part, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            errors += [*amount(value, f"{path}.{part}"), *at_most_all(value, f"{path}.{part}")]
    if spec.get("selector") is not None:
        errors += label_selector(spec["selector"], f"{path}.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in ("AlwaysAllow", "IfHealthyBudget"):
        errors.append(not_supported(f"{path}.unhealthyPodEvictionPolicy", policy, ("AlwaysAllow", "IfHealthyBudget")))
    return errors
