"""Admission webhooks and admission policies: what is registered to have a say in other writes."""

from __future__ import annotations

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.apiserver.admission import expressions
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import names
from netlab.apiserver.validation import registration as checks
from netlab.apiserver.validation.errors import FieldError


class WebhooksStrategy(Strategy):
    """Validating and MutatingWebhookConfigurations."""

    generation = True

    def default(self, obj: Object) -> None:
        """Fail closed, match what is equivalent, everywhere, wait ten seconds, do not come back."""
        for hook in obj.get("webhooks") or []:
            hook.setdefault("failurePolicy", "Fail")
            hook.setdefault("matchPolicy", "Equivalent")
            hook.setdefault("namespaceSelector", {})
            hook.setdefault("objectSelector", {})
            hook.setdefault("timeoutSeconds", 10)
            if self.resource.kind == "MutatingWebhookConfiguration":
                hook.setdefault("reinvocationPolicy", "Never")
            service = (hook.get("clientConfig") or {}).get("service")
            if service is not None:
                service.setdefault("port", 443)
            for rule in hook.get("rules") or []:
                rule.setdefault("scope", "*")

    def validate(self, obj: Object) -> list[FieldError]:
        """Check every webhook, and its conditions."""
        hooks = obj.get("webhooks") or []
        return [*super().validate(obj), *checks.webhooks(hooks, "webhooks", mutating=_mutating(self.resource)),
                *expressions.webhooks(hooks)]


class PolicyStrategy(Strategy):
    """Validating and MutatingAdmissionPolicies."""

    generation = True

    def default(self, obj: Object) -> None:
        """Fail closed, match what is equivalent, everywhere."""
        spec = obj.setdefault("spec", {})
        spec.setdefault("failurePolicy", "Fail")
        if spec.get("matchConstraints") is not None:
            _match(spec["matchConstraints"])
        if self.resource.kind == "MutatingAdmissionPolicy":
            spec.setdefault("reinvocationPolicy", "Never")

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status, where there is one."""
        if self.has_status:
            obj["status"] = {}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the policy, and compile its expressions."""
        mutating = _mutating(self.resource)
        return [*super().validate(obj), *checks.policy(obj["spec"], "spec", mutating=mutating),
                *expressions.policy(obj["spec"], mutating=mutating)]


class PolicyBindingStrategy(Strategy):
    """The bindings of both kinds of policies."""

    generation = True

    def default(self, obj: Object) -> None:
        """Match what is equivalent, everywhere."""
        spec = obj.setdefault("spec", {})
        if spec.get("matchResources") is not None:
            _match(spec["matchResources"])

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the binding."""
        return [*super().validate(obj), *checks.binding(obj["spec"], "spec", mutating=_mutating(self.resource))]


class ApiServiceStrategy(Strategy):
    """APIServices."""

    def name_form(self, name: str) -> list[str]:
        """Their names are VERSION.GROUP, and the core group's is empty."""
        return names.path_segment(name)

    def default(self, obj: Object) -> None:
        """HTTPS on its usual port."""
        service = (obj.get("spec") or {}).get("service")
        if service is not None:
            service.setdefault("port", 443)

    def prepare_create(self, obj: Object) -> None:
        """One without a Service is answered here; about others nothing is known yet."""
        local = (obj.get("spec") or {}).get("service") is None
        obj["status"] = {"conditions": [{
            "type": "Available", "status": "True", "reason": "Local", "lastTransitionTime": obj["metadata"].get(
                "creationTimestamp"), "message": "Local APIServices are always available"}]} if local else {}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check name, priorities and Service."""
        return [*super().validate(obj), *checks.api_service(obj.get("spec") or {}, obj["metadata"].get("name", ""))]


def _match(found: Object) -> None:
    found.setdefault("matchPolicy", "Equivalent")
    found.setdefault("namespaceSelector", {})
    found.setdefault("objectSelector", {})
    for part in ("resourceRules", "excludeResourceRules"):
        for rule in found.get(part) or []:
            rule.setdefault("scope", "*")


def _mutating(resource: Resource) -> bool:
    return resource.kind.startswith("Mutating")
