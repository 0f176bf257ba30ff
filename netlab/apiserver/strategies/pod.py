"""Pods."""

from __future__ import annotations

from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import meta, pod_changes, pod_status
from netlab.apiserver.validation import pods as checks
from netlab.apiserver.validation.errors import FieldError

_GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
}
_KEPT = ("priority", "preemptionPolicy")


class PodStrategy(Strategy):
    """Pods keep their spec, start Pending, and die by the kubelet's hand."""

    generation = True
    returns_deleted = True
    graceful = True

    def default(self, obj: Object) -> None:
        """Fill in the spec; limits stand in for absent requests."""
        spec = obj.setdefault("spec", {})
        pod_defaults.pod_spec(spec, host_ports=True)
        pod_defaults.limits_as_requests(spec)

    def prepare_create(self, obj: Object) -> None:
        """Give the Pod its first status, and its own labels to selectors that ask for them."""
        spec = obj["spec"]
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        if spec.get("schedulingGates"):
            obj["status"]["conditions"] = [{**_GATED, "lastProbeTime": None, "lastTransitionTime": None}]
        if spec.get("affinity") or spec.get("topologySpreadConstraints"):
            _own_labels(spec, obj["metadata"].get("labels") or {})

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status, and the priority that the Pod was given."""
        obj["status"] = old.get("status", {})
        for part in _KEPT:
            if part in old["spec"]:
                obj["spec"].setdefault(part, old["spec"][part])

    def prepare_status(self, obj: Object, old: Object) -> None:
        """Keep the quality of service class, which is the spec's."""
        super().prepare_status(obj, old)
        state = obj.setdefault("status", {})
        for one, many in (("podIP", "podIPs"), ("hostIP", "hostIPs")):
            if state.get(one) and not state.get(many):
                state[many] = [{"ip": state[one]}]
            elif state.get(many):
                state[one] = state[many][0].get("ip", "")
        state.setdefault("qosClass", (old.get("status") or {}).get("qosClass") or qos_class(obj["spec"]))

    def validate(self, obj: Object) -> list[FieldError]:
        """Check a new Pod."""
        return [*self._whole(obj), *checks.new_pod(obj)]

    def _whole(self, obj: Object) -> list[FieldError]:
        return [*super().validate(obj), *checks.pod(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check what may change: images, tolerations (added), deadlines, scheduling gates."""
        return [
            *meta.object_meta_update(obj["metadata"], old["metadata"]),
            *self._whole(obj),
            *pod_changes.pod_update(obj, old),
        ]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check conditions, addresses, and that what has ended for good does not run again."""
        return [*pod_changes.metadata_for_part(obj, old), *pod_status.status_update(obj, old)]

    def validate_part(self, part: str, obj: Object, old: Object) -> list[FieldError]:
        """Check a write of ephemeralcontainers or resize; a binding is judged where it is made."""
        if part == "ephemeralcontainers":
            return [
                *pod_changes.metadata_for_part(obj, old),
                *self._whole(obj),
                *pod_changes.ephemeral_update(obj, old),
            ]
        if part == "resize":
            classes = (qos_class(obj["spec"]), (old.get("status") or {}).get("qosClass") or qos_class(old["spec"]))
            return [
                *meta.object_meta_update(obj["metadata"], old["metadata"]),
                *self._whole(obj),
                *pod_changes.resize(obj, old, classes),
            ]
        return meta.object_meta_update(obj["metadata"], old["metadata"])

    def grace(self, obj: Object, asked: int | None) -> int:
        """Return the Pod's own period unless asked otherwise; what does not run dies at once."""
        spec, phase = obj.get("spec", {}), (obj.get("status") or {}).get("phase")
        seconds = asked if asked is not None else spec.get("terminationGracePeriodSeconds") or 0
        if not spec.get("nodeName") or phase in ("Failed", "Succeeded"):
            return 0
        return 1 if seconds < 0 else int(seconds)


class PodTemplateStrategy(Strategy):
    """PodTemplates."""

    generation = True
    returns_deleted = True

    def default(self, obj: Object) -> None:
        """Fill in the template."""
        pod_defaults.pod_template(obj.setdefault("template", {}))

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the template."""
        return [*super().validate(obj), *checks.pod_template(obj["template"], "template")]


def _own_labels(spec: Object, labels: dict[str, str]) -> None:
    """Add to selectors what matchLabelKeys and mismatchLabelKeys mean for this Pod (upstream: when it is made)."""
    affinity = spec.get("affinity") or {}
    terms: list[Any] = list(spec.get("topologySpreadConstraints") or ())
    for part in ("podAffinity", "podAntiAffinity"):
        found = affinity.get(part) or {}
        terms += [
            term.get("podAffinityTerm") or {}
            for term in found.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        terms += found.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    for term in terms:
        selector = term.get("labelSelector")
        if selector is None:
            continue
        made = [
            {"key": key, "operator": operator, "values": [labels[key]]}
            for part, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
            for key in term.get(part) or ()
            if key in labels
        ]
        if made:
            selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *made]


def qos_class(spec: Object) -> str:
    """Return Guaranteed, Burstable or BestEffort (pkg/apis/core/v1/helper/qos)."""
    requests: dict[str, quantity.Quantity] = {}
    limits: dict[str, quantity.Quantity] = {}
    guaranteed = True
    whole = spec.get("resources")
    holders = (
        [{"resources": whole}] if whole else [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    )
    for container in holders:
        resources = container.get("resources") or {}
        named = set()
        for kind, total in (("requests", requests), ("limits", limits)):
            for name, value in (resources.get(kind) or {}).items():
                if name not in ("cpu", "memory"):
                    continue
                try:
                    amount = quantity.parse(value)
                except ValueError:
                    continue
                if amount.milli() > 0:
                    total[name] = total[name] + amount if name in total else amount
                    if kind == "limits":
                        named.add(name)
        guaranteed = guaranteed and named == {"cpu", "memory"}
    if not requests and not limits:
        return "BestEffort"
    same = len(requests) == len(limits) and all(limits.get(name) == amount for name, amount in requests.items())
    return "Guaranteed" if guaranteed and same else "Burstable"
