"""HorizontalPodAutoscalers of both versions."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver import autoscaling
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import names
from netlab.apiserver.validation import scaling as checks
from netlab.apiserver.validation.errors import FieldError

_CPU_TARGET = 80


class AutoscalerStrategy(Strategy):
    """autoscaling/v2."""

    status_keeps_labels = True

    def default(self, obj: Object) -> None:
        """One replica at least, 80% of the CPU, and upstream's pace where a behavior is given at all."""
        spec = obj.setdefault("spec", {})
        spec.setdefault("minReplicas", 1)
        if not spec.get("metrics"):
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": {
                "type": "Utilization", "averageUtilization": _CPU_TARGET}}}]
        if spec.get("behavior") is not None:
            _pace(spec["behavior"])

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status."""
        obj["status"] = {"currentReplicas": 0, "desiredReplicas": 0}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the autoscaler."""
        return [*super().validate(obj), *checks.autoscaler(obj["spec"], "spec")]


class OldAutoscalerStrategy(AutoscalerStrategy):
    """autoscaling/v1: the same object in the older shape."""

    def default(self, obj: Object) -> None:
        """One replica at least, and 80% of the CPU when nothing else is measured."""
        spec = obj.setdefault("spec", {})
        spec.setdefault("minReplicas", 1)
        if not autoscaling.to_v2(obj)["spec"].get("metrics"):
            spec["targetCPUUtilizationPercentage"] = _CPU_TARGET

    def validate(self, obj: Object) -> list[FieldError]:
        """Check it as what it is stored as."""
        return super().validate(autoscaling.to_v2(obj))


def _pace(behavior: Object) -> None:
    quick = [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]
    for part, policies in (("scaleUp", quick), ("scaleDown", quick[1:])):
        rules = behavior.setdefault(part, {})
        if part == "scaleUp":
            rules.setdefault("stabilizationWindowSeconds", 0)
        rules.setdefault("selectPolicy", "Max")
        if not rules.get("policies"):
            rules["policies"] = [dict(policy) for policy in policies]


class BudgetStrategy(Strategy):
    """PodDisruptionBudgets: whoever writes one must have seen it."""

    generation = True
    unconditional_update = False

    def name_form(self, name: str) -> list[str]:
        """Anything that can stand in a path."""
        return names.path_segment(name)

    def prepare_create(self, obj: Object) -> None:
        """Nothing may be disrupted until the controller has counted."""
        obj["status"] = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the budget."""
        return [*super().validate(obj), *checks.budget(obj.setdefault("spec", {}), "spec")]
