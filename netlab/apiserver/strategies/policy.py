"""Network policies, ingresses, service ranges, priorities, quotas."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.admission.priority import SYSTEM_CLASSES
from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import limits
from netlab.apiserver.validation import networking as checks
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, required, unsupported
from netlab.apiserver.validation.meta import immutable

_MAX_PRIORITY = 1_000_000_000
_PREEMPTION = ("PreemptLowerPriority", "Never")


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

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the policy."""
        return [*super().validate(obj), *checks.network_policy(obj["spec"], "spec")]


class IngressStrategy(Strategy):
    """Ingresses."""

    generation = True

    def prepare_create(self, obj: Object) -> None:
        """Start without a load balancer."""
        obj["status"] = {"loadBalancer": {}}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the Ingress."""
        return [*super().validate(obj), *checks.ingress(obj.get("spec") or {}, "spec"),
                *([] if obj["metadata"].get("resourceVersion") else checks.ingress_create(obj))]


class IngressClassStrategy(Strategy):
    """IngressClasses: the controller of one never changes."""

    generation = True

    def default(self, obj: Object) -> None:
        """Parameters are cluster-wide."""
        found = (obj.get("spec") or {}).get("parameters")
        if found is not None:
            found.setdefault("scope", "Cluster")

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the class."""
        return [*super().validate(obj), *checks.ingress_class(obj.get("spec") or {}, "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the class; the controller stays."""
        new, before = (one.get("spec") or {} for one in (obj, old))
        return [*super().validate_update(obj, old),
                *immutable(new.get("controller", ""), before.get("controller", ""), "spec.controller")]


class ServiceRangeStrategy(Strategy):
    """ServiceCIDRs: a range may become dual-stack, and nothing else about it may change."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the range."""
        return [*super().validate(obj), *checks.service_range(obj.get("spec") or {}, "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the first range stays, and that nothing but a second one is added."""
        errors = super().validate_update(obj, old)
        new, before = ((one.get("spec") or {}).get("cidrs") or [] for one in (obj, old))
        if new != before and not (len(before) == 1 and len(new) == 2 and new[0] == before[0]):
            errors.append(invalid("spec.cidrs", new, "field is immutable"))
        return errors


class AddressStrategy(Strategy):
    """IPAddresses, named by what they are."""

    generation = True

    def name_form(self, name: str) -> list[str]:
        """An address, as it is written by everybody else."""
        return checks.address_name(name)

    def validate(self, obj: Object) -> list[FieldError]:
        """Check whose it is."""
        return [*super().validate(obj), *checks.address(obj.get("spec") or {}, "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that it stays with its owner."""
        return [*super().validate_update(obj, old), *immutable(
            (obj.get("spec") or {}).get("parentRef"), (old.get("spec") or {}).get("parentRef"), "spec.parentRef")]


class PriorityClassStrategy(Strategy):
    """PriorityClasses: Pods keep the number they were made with, so a class keeps it as well."""

    generation = True

    def default(self, obj: Object) -> None:
        """They preempt."""
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
        obj.setdefault("value", 0)

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the number; high ones and names that begin with system- are the system's own."""
        errors, name, value = super().validate(obj), obj["metadata"].get("name", ""), obj.get("value", 0)
        if name.startswith("system-"):
            if SYSTEM_CLASSES.get(name) != value or obj.get("globalDefault"):
                errors.append(forbidden("metadata.name", "priority class names with 'system-' prefix are reserved for "
                                        "system use only. error: "
                                        + (f"{name} is not a known system priority class" if name not in SYSTEM_CLASSES
                                           else f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}")))
        elif value > _MAX_PRIORITY:
            errors.append(forbidden("value", f"maximum allowed value of a user defined priority is {_MAX_PRIORITY}"))
        policy = obj.get("preemptionPolicy")
        if not policy:
            errors.append(required("preemptionPolicy"))
        elif policy not in _PREEMPTION:
            errors.append(unsupported("preemptionPolicy", policy, _PREEMPTION))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the number stays."""
        errors = super().validate_update(obj, old)
        if obj.get("value") != old.get("value"):
            errors.append(forbidden("value", "may not be changed in an update."))
        return [*errors, *immutable(obj.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")]


class ResourceQuotaStrategy(Strategy):
    """ResourceQuotas."""

    returns_deleted = True
    create_on_update = True

    def default(self, obj: Object) -> None:
        """Round what is finer than upstream keeps it."""
        for part in ("spec", "status"):
            pod_defaults.amounts(obj.get(part), ("hard", "used"))

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status."""
        obj["status"] = {}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check what is limited, and for whom."""
        return [*super().validate(obj), *limits.quota(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the same; the scopes stay."""
        return [*super().validate_update(obj, old), *limits.quota_update(obj, old)]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check what is counted."""
        return [*super().validate_status(obj, old), *limits.quota_status(obj)]


class LimitRangeStrategy(Strategy):
    """LimitRanges."""

    create_on_update = True

    def default(self, obj: Object) -> None:
        """For containers, a maximum stands in for the default limit, that and a minimum for the default request."""
        for item in (obj.get("spec") or {}).get("limits") or []:
            pod_defaults.amounts(item, limits.PARTS)
            if item.get("type") != "Container":
                continue
            for part, source in (("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")):
                missing = {name: value for name, value in (item.get(source) or {}).items()
                           if name not in (item.get(part) or {})}
                if missing:
                    item[part] = {**(item.get(part) or {}), **missing}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the limits against each other."""
        return [*super().validate(obj), *limits.limit_range(obj.get("spec") or {})]
