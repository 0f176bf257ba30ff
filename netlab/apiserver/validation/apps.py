"""Deployments and their kin (k8s.io/kubernetes/pkg/apis/apps/validation, batch/validation)."""

from __future__ import annotations

import re
from typing import Any

from netlab.api import selector as selectors
from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required
from netlab.apiserver.validation.pods import pod_spec

_OPERATORS = ("DoesNotExist", "Exists", "In", "NotIn")
_PERCENT = re.compile(r"[0-9]+%\Z")
_MAX_SELECTOR = "`selector` does not match template `labels`"


def label_selector(found: Any, path: str) -> list[FieldError]:
    """Check a LabelSelector."""
    errors = meta.check_labels((found or {}).get("matchLabels"), f"{path}.matchLabels")
    for at, rule in enumerate((found or {}).get("matchExpressions") or []):
        field, operator, values = f"{path}.matchExpressions[{at}]", rule.get("operator"), rule.get("values") or []
        if operator in ("In", "NotIn") and not values:
            errors.append(required(f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist") and values:
            errors.append(forbidden(f"{field}.values",
                                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"))
        elif operator not in _OPERATORS:
            errors.append(invalid(f"{field}.operator", operator or "", "not a valid selector operator"))
        errors += [invalid(f"{field}.key", rule.get("key", ""), said) for said in names.qualified_name(rule.get("key",
                                                                                                                ""))]
    return errors


def deployment(spec: Object, path: str) -> list[FieldError]:
    """Check a DeploymentSpec."""
    errors = [*_count(spec, "replicas", path), *_selector_and_template(spec, path)]
    strategy = spec.get("strategy") or {}
    kind = strategy.get("type")
    if kind == "Recreate" and strategy.get("rollingUpdate"):
        errors.append(forbidden(f"{path}.strategy.rollingUpdate",
                                "may not be specified when strategy `type` is 'Recreate'"))
    elif kind == "RollingUpdate":
        errors += _rolling(strategy.get("rollingUpdate") or {}, f"{path}.strategy.rollingUpdate")
    elif kind != "Recreate":
        errors.append(not_supported(f"{path}.strategy.type", kind, ("Recreate", "RollingUpdate")))
    errors += _count(spec, "minReadySeconds", path)
    errors += _count(spec, "revisionHistoryLimit", path)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        errors += _count(spec, "progressDeadlineSeconds", path)
        if deadline <= spec.get("minReadySeconds", 0):
            errors.append(invalid(f"{path}.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return errors


def replicaset(spec: Object, path: str) -> list[FieldError]:
    """Check a ReplicaSetSpec."""
    return [*_count(spec, "replicas", path), *_count(spec, "minReadySeconds", path), *_selector_and_template(spec,
                                                                                                             path)]


def daemonset(spec: Object, path: str) -> list[FieldError]:
    """Check a DaemonSetSpec."""
    errors = _selector_and_template(spec, path)
    errors += _count(spec, "minReadySeconds", path)
    kind = (spec.get("updateStrategy") or {}).get("type")
    if kind not in ("OnDelete", "RollingUpdate"):
        errors.append(not_supported(f"{path}.updateStrategy.type", kind, ("OnDelete", "RollingUpdate")))
    if (spec.get("template") or {}).get("spec", {}).get("activeDeadlineSeconds") is not None:
        errors.append(invalid(f"{path}.template.spec.activeDeadlineSeconds",
                              spec["template"]["spec"]["activeDeadlineSeconds"],
                              "activeDeadlineSeconds in DaemonSet is not Supported"))
    return errors


def statefulset(spec: Object, path: str) -> list[FieldError]:
    """Check a StatefulSetSpec."""
    errors: list[FieldError] = []
    policy = spec.get("podManagementPolicy")
    if policy not in ("OrderedReady", "Parallel"):
        errors.append(invalid(f"{path}.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    kind = (spec.get("updateStrategy") or {}).get("type")
    if kind not in ("OnDelete", "RollingUpdate"):
        errors.append(invalid(f"{path}.updateStrategy", spec.get("updateStrategy"),
                              "must be 'RollingUpdate' or 'OnDelete'"))
    return [*errors, *_count(spec, "replicas", path), *_selector_and_template(spec, path)]


def job(spec: Object, path: str) -> list[FieldError]:
    """Check a JobSpec."""
    errors: list[FieldError] = []
    for part in ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        errors += _count(spec, part, path)
    template = spec.get("template") or {}
    inner = template.get("spec") or {}
    errors += pod_template(template, f"{path}.template")
    if inner.get("restartPolicy") == "Always":
        errors.append(required(f"{path}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
                      if not inner.get("restartPolicy") else
                      not_supported(f"{path}.template.spec.restartPolicy", "Always", ("OnFailure", "Never")))
    if spec.get("completionMode") not in ("NonIndexed", "Indexed"):
        errors.append(not_supported(f"{path}.completionMode", spec.get("completionMode"), ("NonIndexed", "Indexed")))
    return errors


def cronjob(spec: Object, path: str) -> list[FieldError]:
    """Check a CronJobSpec."""
    errors: list[FieldError] = []
    schedule = spec.get("schedule", "")
    if not schedule:
        errors.append(required(f"{path}.schedule"))
    elif len(schedule.split()) != 5 and not schedule.startswith("@"):
        errors.append(invalid(f"{path}.schedule", schedule,
                              f"expected exactly 5 fields, found {len(schedule.split())}: "
                                                            f"[{' '.join(schedule.split())}]"))
    if spec.get("concurrencyPolicy") not in ("Allow", "Forbid", "Replace"):
        errors.append(not_supported(f"{path}.concurrencyPolicy", spec.get("concurrencyPolicy"),
                                    ("Allow", "Forbid", "Replace")))
    template = (spec.get("jobTemplate") or {}).get("spec", {}).get("template") or {}
    errors += pod_template(template, f"{path}.jobTemplate.spec.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy == "Always":
        errors.append(not_supported(f"{path}.jobTemplate.spec.template.spec.restartPolicy", policy, ("OnFailure",
                                                                                                     "Never")))
    return errors


def pod_template(template: Object, path: str) -> list[FieldError]:
    """Check a PodTemplateSpec's labels, annotations and spec."""
    metadata = template.get("metadata") or {}
    errors = meta.check_labels(metadata.get("labels"), f"{path}.labels")
    errors += meta.check_annotations(metadata.get("annotations"), f"{path}.annotations")
    return [*errors, *pod_spec(template.get("spec") or {}, f"{path}.spec")]


def selector_update(obj: Object, old: Object) -> list[FieldError]:
    """Check that the selector stayed."""
    return meta.immutable(obj["spec"].get("selector"), old["spec"].get("selector"), "spec.selector")


def _selector_and_template(spec: Object, path: str) -> list[FieldError]:
    found, template = spec.get("selector"), spec.get("template") or {}
    errors: list[FieldError] = []
    if found is None:
        errors.append(required(f"{path}.selector"))
    else:
        errors += label_selector(found, f"{path}.selector")
        if not found.get("matchLabels") and not found.get("matchExpressions"):
            errors.append(invalid(f"{path}.selector", found, "empty selector is invalid for deployment"
                                  if "strategy" in spec else "empty selector is invalid"))
    labels = (template.get("metadata") or {}).get("labels") or {}
    try:
        matches = bool(found) and selectors.from_object(found).matches(labels)
    except ValueError:
        matches = True  # said above
    if not matches:
        errors.append(invalid(f"{path}.template.metadata.labels", labels, _MAX_SELECTOR))
    errors += pod_template(template, f"{path}.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy in ("OnFailure", "Never"):
        errors.append(not_supported(f"{path}.template.spec.restartPolicy", policy, ("Always",)))
    return errors


def _rolling(rolling: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    zero = 0
    for part in ("maxUnavailable", "maxSurge"):
        value = rolling.get(part, 0)
        if isinstance(value, str):
            if not _PERCENT.match(value):
                errors.append(invalid(f"{path}.{part}", value,
                                      "a valid percent string must be a numeric string followed "
                                      "by an ending '%' (e.g. '1%',  or '93%', regex used for validation is "
                                      "'[0-9]+%')"))
                continue
            number = int(value[:-1])
            if part == "maxUnavailable" and number > 100:
                errors.append(invalid(f"{path}.{part}", value, "must not be greater than 100%"))
        else:
            number = value
            if number < 0:
                errors.append(invalid(f"{path}.{part}", value, "must be greater than or equal to 0"))
        zero += number == 0
    if zero == 2:
        errors.append(invalid(f"{path}.maxUnavailable", rolling.get("maxUnavailable"),
                              "may not be 0 when `maxSurge` is 0"))
    return errors


def _count(spec: Object, part: str, path: str) -> list[FieldError]:
    value = spec.get(part)
    if isinstance(value, int) and value < 0:
        return [invalid(f"{path}.{part}", value, "must be greater than or equal to 0")]
    return []
