"""Events, as core/v1 and as events.k8s.io/v1 have them (core/validation/events.go)."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import FieldError, invalid, required, wrong

_LIMIT, _NOTE_LIMIT = 128, 1024
_TYPES = ("Normal", "Warning")
_KEPT = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)
_CALLED = {"reportingComponent": "reportingController"}
_UNSET = "needs to be unset"


def event(obj: Object) -> Iterator[FieldError]:
    """Check an Event as core/v1 has it: where it lies, and what one with an eventTime must say."""
    about = (obj.get("involvedObject") or {}).get("namespace", "")
    namespace = obj["metadata"].get("namespace", "")
    field = "involvedObject.namespace"
    if not obj.get("eventTime"):
        if namespace != about and (about or namespace not in ("", "default")):
            yield invalid(field, about, "does not match event.namespace")
    else:
        if not about and namespace not in ("default", "kube-system"):
            yield invalid(field, about, "does not match event.namespace")
        controller = obj.get("reportingComponent", "")
        if not controller:
            yield required("reportingController")
        yield from wrong("reportingController", controller, names.qualified_name(controller))
        for part in ("reportingInstance", "action", "reason"):
            if not obj.get(part):
                yield required(part)
            elif len(obj[part].encode()) > _LIMIT:
                yield invalid(part, "", f"can have at most {_LIMIT} characters")
        if len(obj.get("message", "").encode()) > _NOTE_LIMIT:
            yield invalid("message", "", f"can have at most {_NOTE_LIMIT} characters")
    yield from wrong("namespace", namespace, names.dns_subdomain(namespace))


def new_event(obj: Object) -> Iterator[FieldError]:
    """Check what events.k8s.io/v1 asks of a new Event besides; `obj` is in core/v1's form."""
    yield from _series(obj)
    if not obj.get("eventTime"):
        yield required("eventTime")
    if obj.get("type") not in _TYPES:
        yield invalid("type", "", f"has invalid value: {obj.get('type', '')}")
    for part in ("firstTimestamp", "lastTimestamp", "count"):
        if obj.get(part):
            yield invalid(part, "", _UNSET)
    source = obj.get("source") or {}
    if source.get("component") or source.get("host"):
        yield invalid("source", "", _UNSET)


def event_update(obj: Object, old: Object) -> Iterator[FieldError]:
    """Check that of an Event of events.k8s.io/v1 only the series changes; both in core/v1's form."""
    if obj.get("series") != old.get("series"):
        yield from _series(obj)
    for part in _KEPT:
        yield from meta.immutable(obj.get(part), old.get(part), _CALLED.get(part, part))


def _series(obj: Object) -> Iterator[FieldError]:
    series = obj.get("series")
    if series is not None:
        if series.get("count", 0) < 2:
            yield invalid("series.count", "", "should be at least 2")
        if not series.get("lastObservedTime"):
            yield required("series.lastObservedTime")
