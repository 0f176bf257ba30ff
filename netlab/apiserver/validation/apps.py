"""Deployments and their kin (k8s.io/kubernetes/pkg/apis/apps/validation)."""

from __future__ import annotations

from typing import Any

from netlab.api import selector as selectors
from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.amounts import NEGATIVE, amount, at_most_all, counts, is_nothing
from netlab.apiserver.validation.errors import (
    FieldError,
    forbidden,
    invalid,
    listed,
    not_supported,
    required,
    unsupported,
    wrong,
)
from netlab.apiserver.validation.pods import pod_template
from netlab.apiserver.validation.selectors import label_selector

_MISMATCH = "`selector` does not match template `labels`"
_STRATEGIES = ("Recreate", "RollingUpdate")
_UPDATES = ("RollingUpdate", "OnDelete")
_FREE = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
         "persistentVolumeClaimRetentionPolicy", "minReadySeconds")
"""What of a StatefulSet may change."""
_STATUS_COUNTS = {
    "Deployment": ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
                   "unavailableReplicas", "collisionCount"),
    "ReplicaSet": ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"),
    "DaemonSet": ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady",
                  "observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable",
                  "collisionCount"),
    "StatefulSet": ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas",
                    "observedGeneration", "collisionCount"),
}
_PARTS_OF_ALL = {"Deployment": ("updatedReplicas", "readyReplicas", "availableReplicas"),
                 "ReplicaSet": ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"),
                 "StatefulSet": ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")}


def deployment(spec: Object, path: str) -> list[FieldError]:
    """Check a DeploymentSpec."""
    errors = [*counts(spec, ("replicas",), path), *_selector(spec, path, "deployment"),
              *_template(spec, path, "ReplicaSet")]
    strategy, field = spec.get("strategy") or {}, f"{path}.strategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate" and rolling is not None:
        errors.append(forbidden(f"{field}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"))
    elif kind == "RollingUpdate":
        errors += _rolling(rolling or {}, f"{field}.rollingUpdate")
    elif kind != "Recreate":
        errors.append(not_supported(field, _strategy(kind, rolling), _STRATEGIES))
    errors += counts(spec, ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"), path)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        errors.append(invalid(f"{path}.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return errors


def replicaset(spec: Object, path: str) -> list[FieldError]:
    """Check a ReplicaSetSpec. An empty selector is told as a Deployment's, as upstream does."""
    return [*counts(spec, ("replicas", "minReadySeconds"), path), *_selector(spec, path, "deployment"),
            *_template(spec, path, "ReplicaSet")]


def daemonset(spec: Object, path: str) -> list[FieldError]:
    """Check a DaemonSetSpec."""
    found = spec.get("selector")
    errors = [*label_selector(found, f"{path}.selector")]
    errors += template_labels(spec, path)
    if found is not None and not found.get("matchLabels") and not found.get("matchExpressions"):
        errors.append(invalid(f"{path}.selector", found, "empty selector is invalid for daemonset"))
    errors += pod_template(spec.get("template") or {}, f"{path}.template")
    errors += _for_ever(spec, path, "DaemonSet")
    errors += counts(spec, ("minReadySeconds",), path)
    strategy, field = spec.get("updateStrategy") or {}, f"{path}.updateStrategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "RollingUpdate":
        errors += [required(f"{field}.rollingUpdate")] if rolling is None else \
            _rolling_daemons(rolling, f"{field}.rollingUpdate")
    elif kind != "OnDelete":
        errors.append(unsupported(field, _strategy(kind, rolling), _UPDATES))
    return errors + counts(spec, ("revisionHistoryLimit",), path)


def statefulset(spec: Object, path: str, *, new: bool = True) -> list[FieldError]:
    """Check a StatefulSetSpec; the Service's name, which never changes, only of a new one."""
    errors: list[FieldError] = []
    policy = spec.get("podManagementPolicy")
    if policy not in ("OrderedReady", "Parallel"):
        errors.append(invalid(f"{path}.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    strategy, field = spec.get("updateStrategy") or {}, f"{path}.updateStrategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete" and rolling is not None:
        errors.append(invalid(f"{field}.rollingUpdate", rolling, "only allowed for updateStrategy 'RollingUpdate'"))
    elif kind == "RollingUpdate":
        errors += _rolling_ordered(rolling or {}, f"{field}.rollingUpdate")
    elif kind != "OnDelete":
        errors.append(invalid(field, _strategy(kind, rolling), "must be 'RollingUpdate' or 'OnDelete'"))
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    errors += [unsupported(f"{path}.persistentVolumeClaimRetentionPolicy.{part}", value, ("Retain", "Delete"))
               for part in ("whenDeleted", "whenScaled") if (value := retention.get(part)) not in ("Retain", "Delete",
                                                                                                   None)]
    errors += counts(spec, ("replicas", "minReadySeconds"), path)
    errors += counts(spec.get("ordinals") or {}, ("start",), f"{path}.ordinals")
    if new and spec.get("serviceName"):
        errors += wrong(f"{path}.serviceName", spec["serviceName"], names.dns_label(spec["serviceName"]))
    errors += _selector(spec, path, "statefulset")
    return [*errors, *_template(_with_claims(spec), path, "StatefulSet")]


def statefulset_update(obj: Object, old: Object) -> list[FieldError]:
    """Check that only what may change of a StatefulSet did."""
    spec, before = ({key: value for key, value in one["spec"].items() if key not in _FREE} for one in (obj, old))
    free = ", ".join(f"'{part}'" for part in _FREE[:-1])
    return [] if spec == before else [forbidden(
        "spec", f"updates to statefulset spec for fields other than {free} and '{_FREE[-1]}' are forbidden")]


def revision(obj: Object, old: Object | None = None) -> list[FieldError]:
    """Check a ControllerRevision; its data stay."""
    errors = [] if obj.get("data") is not None else [required("data", "data is mandatory")]
    if obj.get("revision", 0) < 0:
        errors.append(invalid("revision", obj["revision"], NEGATIVE))
    return errors + ([] if old is None else meta.immutable(obj.get("data"), old.get("data"), "data"))


def status(kind: str, obj: Object, old: Object) -> list[FieldError]:
    """Check the counts in a status: none below zero, parts not above the whole, collisions only growing."""
    found, before = obj.get("status") or {}, old.get("status") or {}
    errors = counts(found, _STATUS_COUNTS[kind], "status")
    whole = found.get("replicas") or 0
    errors += [invalid(f"status.{part}", found[part], "cannot be greater than status.replicas")
               for part in _PARTS_OF_ALL.get(kind, ()) if (found.get(part) or 0) > whole]
    available = found.get("availableReplicas") or 0
    if kind in _PARTS_OF_ALL and available > (found.get("readyReplicas") or 0):
        where = "status.readyReplicas" if kind == "StatefulSet" else "readyReplicas"
        errors.append(invalid("status.availableReplicas", available, f"cannot be greater than {where}"))
    now, was = found.get("collisionCount"), before.get("collisionCount")
    if kind != "ReplicaSet" and was is not None and (now or 0) < was:
        errors.append(invalid("status.collisionCount", now or 0, "cannot be decremented"))
    return errors


def template_labels(spec: Object, path: str) -> list[FieldError]:
    """Check that the selector finds the Pods that are made; one that can't be read is told elsewhere."""
    found = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if found is not None and (not _readable(found) or selectors.from_object(found).matches(labels or {})):
        return []
    return [invalid(f"{path}.template.metadata.labels", listed(labels), _MISMATCH)]


def selector_update(obj: Object, old: Object) -> list[FieldError]:
    """Check that the selector stayed."""
    return meta.immutable(obj["spec"].get("selector"), old["spec"].get("selector"), "spec.selector")


def _selector(spec: Object, path: str, kind: str) -> list[FieldError]:
    found = spec.get("selector")
    if found is None:
        return [required(f"{path}.selector")]
    errors = [*label_selector(found, f"{path}.selector")]
    if not found.get("matchLabels") and not found.get("matchExpressions"):
        errors.append(invalid(f"{path}.selector", found, f"empty selector is invalid for {kind}"))
    return errors


def _readable(selector: Object) -> bool:
    return next(label_selector(selector, ""), None) is None


def _template(spec: Object, path: str, kind: str) -> list[FieldError]:
    """Check labels and template; not if the selector can't be read (apimachinery's LabelSelectorAsSelector)."""
    found = spec.get("selector")
    if found is not None and not _readable(found):
        return [invalid(f"{path}.selector", found, "" if kind == "StatefulSet" else "invalid label selector")]
    everything = found is not None and selectors.from_object(found).empty
    errors = [] if everything else template_labels(spec, path)
    errors += pod_template(spec.get("template") or {}, f"{path}.template")
    return errors + _for_ever(spec, path, kind)


def _for_ever(spec: Object, path: str, kind: str) -> list[FieldError]:
    """Check that the Pods are meant to run on."""
    inner, field = (spec.get("template") or {}).get("spec") or {}, f"{path}.template.spec"
    policy = inner.get("restartPolicy")
    errors = [] if policy in ("Always", None) else [not_supported(f"{field}.restartPolicy", policy, ("Always",))]
    if inner.get("activeDeadlineSeconds") is not None:
        errors.append(forbidden(f"{field}.activeDeadlineSeconds", f"activeDeadlineSeconds in {kind} is not Supported"))
    return errors


def _with_claims(spec: Object) -> Object:
    """Return a StatefulSet's spec with its claims among the Pod's volumes, as its Pods have them."""
    claims = {(claim.get("metadata") or {}).get("name", ""): claim for claim in spec.get("volumeClaimTemplates") or []}
    if not claims:
        return spec
    template = spec.get("template") or {}
    inner = template.get("spec") or {}
    volumes = [one for one in inner.get("volumes") or [] if one.get("name") not in claims]
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {**spec, "template": {**template, "spec": {**inner, "volumes": volumes}}}


def _strategy(kind: Any, rolling: Any) -> Object:
    """Return a strategy as upstream shows one that it does not know: its own struct, which has Go's names."""
    shown = None if rolling is None else {key[:1].upper() + key[1:]: value for key, value in rolling.items()}
    return {"Type": kind, "RollingUpdate": shown}


def _rolling(rolling: Object, path: str) -> list[FieldError]:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    errors = [*amount(unavailable, f"{path}.maxUnavailable"), *amount(surge, f"{path}.maxSurge")]
    if is_nothing(unavailable) and is_nothing(surge):
        errors.append(invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return errors + at_most_all(unavailable, f"{path}.maxUnavailable")


def _rolling_daemons(rolling: Object, path: str) -> list[FieldError]:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    parts = ((unavailable, f"{path}.maxUnavailable"), (surge, f"{path}.maxSurge"))
    errors = [error for check in (amount, at_most_all) for value, field in parts for error in check(value, field)]
    if not is_nothing(unavailable) and not is_nothing(surge):
        errors.append(invalid(f"{path}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif is_nothing(unavailable) and is_nothing(surge):
        errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def _rolling_ordered(rolling: Object, path: str) -> list[FieldError]:
    errors, most = counts(rolling, ("partition",), path), rolling.get("maxUnavailable")
    if most is None:
        return errors
    field = f"{path}.maxUnavailable"
    errors += amount(most, field)
    if is_nothing(most):
        errors.append(invalid(field, most, "cannot be 0"))
    return errors + at_most_all(most, field)
