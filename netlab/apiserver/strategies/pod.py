"""Pods."""

from __future__ import annotations

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import pods as checks
from netlab.apiserver.validation.errors import FieldError


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
        """Give the Pod its first status."""
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status."""
        obj["status"] = old.get("status", {})

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
        """Check the whole Pod."""
        return [*super().validate(obj), *checks.pod_spec(obj["spec"], "spec", is_pod=True)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check what may change: images, tolerations (added), deadlines, scheduling gates."""
        return [*super().validate_update(obj, old), *checks.pod_update(obj, old)]

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


def qos_class(spec: Object) -> str:
    """Return Guaranteed, Burstable or BestEffort (pkg/apis/core/v1/helper/qos)."""
    requests: dict[str, quantity.Quantity] = {}
    limits: dict[str, quantity.Quantity] = {}
    guaranteed = True
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
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
