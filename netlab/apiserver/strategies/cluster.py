"""Cluster-wide kinds that few write by hand: runtime classes, flow control, devices."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.flow.objects import LEVELS, MANDATORY, SCHEMAS
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import flow, names
from netlab.apiserver.validation.errors import FieldError, duplicate, invalid, required
from netlab.apiserver.validation.meta import check_labels, immutable
from netlab.apiserver.validation.resources import requirements
from netlab.apiserver.validation.scheduling import tolerations

_SCHEMAS, _LEVELS = ({obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["metadata"]["name"] in MANDATORY}
                     for objects in (SCHEMAS, LEVELS))


class RuntimeClassStrategy(Strategy):
    """RuntimeClasses."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check handler, cost and place."""
        handler, place = obj.get("handler", ""), obj.get("scheduling") or {}
        errors = [*super().validate(obj), *(invalid("handler", handler, said) for said in names.dns_label(handler))]
        if obj.get("overhead") is not None:
            errors += requirements({"limits": obj["overhead"].get("podFixed") or {}}, "overhead")
        errors += check_labels(place.get("nodeSelector"), "scheduling.nodeSelector")
        found = place.get("tolerations") or []
        errors += tolerations(found, "scheduling.tolerations.tolerations")
        keys = [[row.get(part, "") for part in ("key", "operator", "value", "effect")] for row in found]
        return errors + [duplicate(f"scheduling.tolerations[{at}]", found[at]) for at, key in enumerate(keys)
                         if key in keys[:at]]

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
        """Check order, level and rules; those that are mandatory are as they are."""
        name, spec = obj["metadata"].get("name", ""), obj["spec"]
        found = [*super().validate(obj), *flow.schema(name, spec, "spec")]
        return [*found, *(flow.fixed(name, spec, _SCHEMAS[name]) if name in _SCHEMAS else ())]


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
        """Check that type and content fit; those that are mandatory are as they are, but for an exempt one's shares."""
        name, spec = obj["metadata"].get("name", ""), obj["spec"]
        found = [*super().validate(obj), *flow.level(name, spec, "spec")]
        wanted = _LEVELS.get(name)
        if wanted is not None and spec.get("exempt") is not None and "exempt" in wanted:
            wanted = wanted | {"exempt": spec["exempt"]}
        return [*found, *(flow.fixed(name, spec, wanted) if wanted is not None else ())]


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
