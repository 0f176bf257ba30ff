"""Cluster-wide kinds that few write by hand: runtime classes, flow control, devices."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required
from netlab.apiserver.validation.meta import immutable

_LEVELS = ("Exempt", "Limited")
_RESPONSES = ("Queue", "Reject")
_METHODS = ("ByNamespace", "ByUser")


class RuntimeClassStrategy(Strategy):
    """RuntimeClasses."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the handler."""
        handler = obj.get("handler", "")
        return [*super().validate(obj), *(invalid("handler", handler, said) for said in names.dns_label(handler))]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the handler stays."""
        return [*super().validate_update(obj, old), *immutable(obj.get("handler"), old.get("handler"), "handler")]


class FlowSchemaStrategy(Strategy):
    """FlowSchemas."""

    generation = True

    def default(self, obj: Object) -> None:
        """In the middle of the order."""
        obj.setdefault("spec", {}).setdefault("matchingPrecedence", 1000)

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status."""
        obj["status"] = {}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check order, level and subjects."""
        errors, spec = super().validate(obj), obj["spec"]
        precedence = spec["matchingPrecedence"]
        if not 1 <= precedence <= 10000:
            errors.append(invalid("spec.matchingPrecedence", precedence, "must be a value between 1 and 10000"))
        method = spec.get("distinguisherMethod")
        if method is not None and method.get("type") not in _METHODS:
            errors.append(not_supported("spec.distinguisherMethod", method.get("type", ""), _METHODS))
        if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
            errors.append(required("spec.priorityLevelConfiguration.name",
                                   "must reference a priority level"))
        for at, rule in enumerate(spec.get("rules") or []):
            if not rule.get("subjects"):
                errors.append(required(f"spec.rules[{at}].subjects", "subjects must contain at least one value"))
            if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
                errors.append(required(f"spec.rules[{at}]",
                                       "at least one of resourceRules and nonResourceRules has to be non-empty"))
        return errors


class PriorityLevelStrategy(Strategy):
    """PriorityLevelConfigurations."""

    generation = True

    def default(self, obj: Object) -> None:
        """Thirty shares, and queues of upstream's size where requests queue."""
        spec = obj.setdefault("spec", {})
        if spec.get("type") == "Exempt":
            exempt = spec.setdefault("exempt", {})
            exempt.setdefault("nominalConcurrencyShares", 0)
            exempt.setdefault("lendablePercent", 0)
        limited = spec.get("limited")
        if limited is not None:
            limited.setdefault("nominalConcurrencyShares", 30)
            limited.setdefault("lendablePercent", 0)
            queuing = (limited.get("limitResponse") or {}).get("queuing")
            if queuing is not None:
                for part, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                    if not queuing.get(part):
                        queuing[part] = value

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status."""
        obj["status"] = {}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check that type and content fit."""
        errors, spec = super().validate(obj), obj["spec"]
        kind, limited = spec.get("type", ""), spec.get("limited")
        if kind not in _LEVELS:
            errors.append(not_supported("spec.type", kind, _LEVELS))
        elif kind == "Exempt" and limited is not None:
            errors.append(forbidden("spec.limited", "must be nil if the type is not Limited"))
        elif kind == "Limited" and limited is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
        if limited is not None:
            response = limited.get("limitResponse") or {}
            if response.get("type") not in _RESPONSES:
                errors.append(not_supported("spec.limited.limitResponse.type", response.get("type", ""), _RESPONSES))
            elif response["type"] == "Queue" and response.get("queuing") is None:
                errors.append(required("spec.limited.limitResponse.queuing",
                                       "must not be empty if limited.limitResponse.type is Queue"))
            elif response["type"] == "Reject" and response.get("queuing") is not None:
                errors.append(forbidden("spec.limited.limitResponse.queuing",
                                        "must be nil if limited.limitResponse.type is not Limited"))
        return errors


class DeviceClassStrategy(Strategy):
    """DeviceClasses."""

    generation = True


class ClaimStrategy(Strategy):
    """ResourceClaims: what is asked for never changes."""

    def default(self, obj: Object) -> None:
        """Exactly one device where no count is given."""
        _default_requests(obj.setdefault("spec", {}))

    def prepare_create(self, obj: Object) -> None:
        """Start unallocated."""
        obj["status"] = {}

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the wish stays."""
        return [*super().validate_update(obj, old), *immutable(obj.get("spec"), old.get("spec"), "spec")]


class ClaimTemplateStrategy(Strategy):
    """ResourceClaimTemplates never change."""

    def default(self, obj: Object) -> None:
        """As in the claims made from it."""
        _default_requests(obj.setdefault("spec", {}).setdefault("spec", {}))

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the template stays."""
        return [*super().validate_update(obj, old), *immutable(obj.get("spec"), old.get("spec"), "spec")]


class SliceStrategy(Strategy):
    """ResourceSlices: the driver, the pool's name and the node stay."""

    generation = True

    def validate(self, obj: Object) -> list[FieldError]:
        """Check driver and pool."""
        errors, spec = super().validate(obj), obj.get("spec") or {}
        errors += [] if spec.get("driver") else [required("spec.driver")]
        errors += [] if (spec.get("pool") or {}).get("name") else [required("spec.pool.name")]
        where = [part for part in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection") if spec.get(part)]
        if len(where) != 1:
            errors.append(invalid("spec", "{" + ", ".join(where) + "}" if where else "", "exactly one of `nodeName`, "
                                  "`nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
                                  + (", but multiple fields are set" if where else "")))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that they stay."""
        errors = super().validate_update(obj, old)
        new, before = obj.get("spec") or {}, old.get("spec") or {}
        for part in ("driver", "nodeName"):
            errors += immutable(new.get(part), before.get(part), f"spec.{part}")
        return [*errors, *immutable((new.get("pool") or {}).get("name"), (before.get("pool") or {}).get("name"),
                                    "spec.pool.name")]


def _default_requests(spec: Object) -> None:
    for request in (spec.get("devices") or {}).get("requests") or []:
        for wish in (request.get("exactly"), *(request.get("firstAvailable") or [])):
            if wish is not None:
                wish.setdefault("allocationMode", "ExactCount")
                if wish["allocationMode"] == "ExactCount":
                    wish.setdefault("count", 1)
