"""Events in two shapes: stored as core/v1, served as events.k8s.io/v1, too (pkg/apis/events/v1/conversion.go)."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation.errors import FieldError, invalid, required

_RENAMED = (("involvedObject", "regarding"), ("message", "note"), ("source", "deprecatedSource"),
            ("firstTimestamp", "deprecatedFirstTimestamp"), ("lastTimestamp", "deprecatedLastTimestamp"),
            ("count", "deprecatedCount"), ("reportingComponent", "reportingController"))


def outward(event: Object) -> Object:
    """Return a core/v1 Event as events.k8s.io/v1."""
    shown = dict(event)
    for old, new in _RENAMED:
        if old in shown:
            shown[new] = shown.pop(old)
    return shown | {"kind": "Event", "apiVersion": "events.k8s.io/v1"}


def inward(event: Object) -> Object:
    """Return an events.k8s.io/v1 Event as core/v1."""
    stored = dict(event)
    for old, new in _RENAMED:
        if new in stored:
            stored[old] = stored.pop(new)
    return stored | {"kind": "Event", "apiVersion": "v1"}


class NewEventStrategy(Strategy):
    """Events of events.k8s.io/v1, where more must be said than in core/v1."""

    ttl = 3600
    create_on_update = True

    def validate(self, obj: Object) -> list[FieldError]:
        """Check who reports what, and when."""
        errors = super().validate(obj)
        about, namespace = obj.get("regarding") or {}, obj["metadata"].get("namespace", "")
        if about.get("namespace", "") != namespace and not (not about.get("namespace")
                                                            and namespace in ("default", "kube-system")):
            errors.append(invalid("involvedObject.namespace", about.get("namespace", ""),
                                  "does not match event.namespace"))
        if not obj.get("eventTime") and not obj.get("deprecatedFirstTimestamp"):
            errors.append(required("eventTime"))
        if obj.get("eventTime"):
            errors += [required(part) for part in ("reportingController", "reportingInstance", "action", "reason")
                       if not obj.get(part)]
        if obj.get("type") not in ("Normal", "Warning"):
            errors.append(invalid("type", obj.get("type", ""), "has invalid value: " + str(obj.get("type", ""))))
        return errors
