"""Events in two shapes: stored as core/v1, served as events.k8s.io/v1, too (pkg/apis/events/v1/conversion.go)."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import events as checks
from netlab.apiserver.validation import meta
from netlab.apiserver.validation.errors import FieldError

_RENAMED = (("involvedObject", "regarding"), ("message", "note"), ("source", "deprecatedSource"),
            ("firstTimestamp", "deprecatedFirstTimestamp"), ("lastTimestamp", "deprecatedLastTimestamp"),
            ("count", "deprecatedCount"), ("reportingComponent", "reportingController"))


def outward(event: Object) -> Object:
    """Return a core/v1 Event as events.k8s.io/v1."""
    shown = dict(event)
    for old, new in _RENAMED:
        if old in shown:
            shown[new] = shown.pop(old)
    for name in ("reportingController", "reportingInstance"):  # here they are left out when they are empty
        if not shown.get(name):
            shown.pop(name, None)
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
        stored = inward(obj)
        return [*checks.event(stored), *super().validate(obj), *checks.new_event(stored)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that only the series changes."""
        stored = inward(obj)
        return [
            *checks.event(stored),
            *meta.object_meta_update(obj["metadata"], old["metadata"]),
            *checks.event_update(stored, inward(old)),
        ]
