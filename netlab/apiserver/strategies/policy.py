"""Network policies, ingresses, priorities, storage classes, disruption budgets, quotas."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies.base import Strategy


class NetworkPolicyStrategy(Strategy):
    """NetworkPolicies."""

    generation = True

    def default(self, obj: Object) -> None:
        """TCP; both directions only when egress is spoken of."""
        spec = obj.setdefault("spec", {})
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress"] + (["Egress"] if spec.get("egress") else [])
        spec.setdefault("podSelector", {})
        for rule in [*(spec.get("ingress") or []), *(spec.get("egress") or [])]:
            for port in rule.get("ports") or []:
                port.setdefault("protocol", "TCP")


class GenerationStrategy(Strategy):
    """Kinds that only count their generations: Ingress, IngressClass, PodDisruptionBudget."""

    generation = True

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status, where there is one."""
        if self.has_status:
            obj["status"] = {"loadBalancer": {}} if self.resource.kind == "Ingress" else {}


class BudgetStrategy(GenerationStrategy):
    """PodDisruptionBudgets: whoever writes one must have seen it."""

    unconditional_update = False


class PriorityClassStrategy(Strategy):
    """PriorityClasses."""

    generation = True

    def default(self, obj: Object) -> None:
        """They preempt."""
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
        obj.setdefault("value", 0)


class StorageClassStrategy(Strategy):
    """StorageClasses."""

    def default(self, obj: Object) -> None:
        """Delete, bind at once."""
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")


class ControllerRevisionStrategy(Strategy):
    """ControllerRevisions."""


class ResourceQuotaStrategy(Strategy):
    """ResourceQuotas."""

    returns_deleted = True
    create_on_update = True

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status."""
        obj["status"] = {}


class LimitRangeStrategy(Strategy):
    """LimitRanges: maxima stand in for defaults."""

    create_on_update = True

    def default(self, obj: Object) -> None:
        """Containers: default from max, defaultRequest from default, then from min."""
        for item in (obj.get("spec") or {}).get("limits") or []:
            if item.get("type") == "Container":
                default = {**(item.get("max") or {}), **(item.get("default") or {})}
                request = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
                if default:
                    item["default"] = default
                if request:
                    item["defaultRequest"] = request
