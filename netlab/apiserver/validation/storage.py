"""Storage classes, drivers, the drivers of nodes, attachments (pkg/apis/storage/validation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import claims, meta, names
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
    unsupported,
    wrong,
)

_RECLAIM = ("Delete", "Retain")
_BINDING = ("Immediate", "WaitForFirstConsumer")
_MODES = ("Persistent", "Ephemeral")
_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_PARAMETERS, _PARAMETERS_SIZE = 512, 256 << 10
_NODE_ID = 192
_DRIVER = 63
_LEAST_TOKEN, _MOST_TOKEN, _LEAST_PERIOD = 600, 1 << 32, 10
_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


def storage_class(obj: Object) -> Iterator[FieldError]:
    """Check a StorageClass."""
    yield from _driver(obj.get("provisioner", ""), "provisioner")
    yield from parameters(obj.get("parameters") or {})
    if obj["reclaimPolicy"] and obj["reclaimPolicy"] not in _RECLAIM:
        yield not_supported("reclaimPolicy", obj["reclaimPolicy"], _RECLAIM)
    if obj["volumeBindingMode"] not in _BINDING:
        yield not_supported("volumeBindingMode", obj["volumeBindingMode"], _BINDING)
    terms = obj.get("allowedTopologies") or []
    seen: list[Mapping[str, set[str]]] = [{} for _ in terms]  # as upstream's list, which begins with empty ones
    for at, term in enumerate(terms):
        path = f"allowedTopologies[{at}].matchLabelExpressions"
        found: dict[str, set[str]] = {}
        for place, row in enumerate(term.get("matchLabelExpressions") or ()):
            yield from _topology(row, f"{path}[{place}]")
            if row.get("key", "") in found:
                yield duplicate(f"{path}[{place}].key", row.get("key", ""))
            found[row.get("key", "")] = set(row.get("values") or ())
        for other in seen:
            if other == found:
                yield duplicate(path, "")
        seen.append(found)


def _topology(row: Object, path: str) -> Iterator[FieldError]:
    values = row.get("values") or ()
    if not values:
        yield required(f"{path}.values")
    for at, value in enumerate(values):
        if value in values[:at]:
            yield duplicate(f"{path}.values[{at}]", value)
    yield from wrong(f"{path}.key", row.get("key", ""), names.qualified_name(row.get("key", "")))


def _driver(name: str, path: str) -> Iterator[FieldError]:
    """Check what names a driver in a class: any qualified name, in any case."""
    if not name:
        yield required(path)
    else:
        yield from wrong(path, name, names.qualified_name(name.lower()))


def parameters(found: Mapping[str, str], *, some: bool = False) -> Iterator[FieldError]:
    """Check a class's parameters; `some`: it must have at least one."""
    if some and not found:
        yield required("parameters", "must contain at least one key/value pair")
    if len(found) > _PARAMETERS:
        yield too_long("parameters", _PARAMETERS)
        return
    for key in found:
        if not key:
            yield invalid("parameters", key, "field can not be empty.")
    if sum(len(key.encode()) + len(value.encode()) for key, value in found.items()) > _PARAMETERS_SIZE:
        yield too_long("parameters", _PARAMETERS_SIZE)


def attributes_class(obj: Object) -> Iterator[FieldError]:
    """Check a VolumeAttributesClass."""
    yield from _driver(obj.get("driverName", ""), "driverName")
    yield from parameters(obj.get("parameters") or {}, some=True)


def driver(spec: Object, path: str) -> Iterator[FieldError]:
    """Check the spec of a CSIDriver."""
    if spec.get("fsGroupPolicy") is not None and spec["fsGroupPolicy"] not in _GROUP_POLICIES:
        yield not_supported(f"{path}.fsGroupPolicy", spec["fsGroupPolicy"], _GROUP_POLICIES)
    seen: set[str] = set()
    for at, request in enumerate(spec.get("tokenRequests") or ()):
        field, audience = f"{path}.tokenRequests[{at}]", request.get("audience", "")
        if audience in seen:
            yield duplicate(f"{field}.audience", audience)
            continue
        seen.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < _LEAST_TOKEN:
            yield invalid(f"{field}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        if seconds is not None and seconds > _MOST_TOKEN:
            yield invalid(f"{field}.expirationSeconds", seconds,
                          "may not specify a duration larger than 2^32 seconds")
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in _MODES:
            yield unsupported(f"{path}.volumeLifecycleModes", mode, _MODES)
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < _LEAST_PERIOD:
        yield invalid(f"{path}.nodeAllocatableUpdatePeriodSeconds", period,
                      "must be greater than or equal to 10 seconds")


def driver_name(name: str, path: str) -> Iterator[FieldError]:
    """Check the name of a CSI driver, where one is meant."""
    if not name:
        yield required(path)
    if len(name) > _DRIVER:
        yield too_long(path, _DRIVER)
    yield from wrong(path, name, names.dns_subdomain(name.lower()))


def node(spec: Object, path: str) -> Iterator[FieldError]:
    """Check the drivers of a CSINode, each once."""
    seen: set[str] = set()
    for at, row in enumerate(spec.get("drivers") or ()):
        field, name, identity = f"{path}.drivers[{at}]", row.get("name", ""), row.get("nodeID", "")
        yield from driver_name(name, f"{field}.name")
        if not identity:
            yield required(f"{field}.nodeID")
        if len(identity) > _NODE_ID:
            yield invalid(f"{field}.nodeID", identity, f"must be {_NODE_ID} characters or less")
        count = (row.get("allocatable") or {}).get("count")
        if count is not None and count < 0:
            yield invalid(f"{field}.allocatable.count", count, "must be greater than or equal to 0")
        if name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
        keys = row.get("topologyKeys") or ()
        for place, key in enumerate(keys):
            if not key:
                yield required(field)
            if key in keys[:place]:
                yield duplicate(field, key)
            yield from wrong(field, key, names.qualified_name(key))


def node_update(new: Object, old: Object) -> Iterator[FieldError]:
    """Check that a driver that stays on a node stays as it is."""
    for row in (old.get("spec") or {}).get("drivers") or ():
        for other in (new.get("spec") or {}).get("drivers") or ():
            if row.get("name") == other.get("name") and _told(row) != _told(other):
                yield invalid("CSINodeDriver", other, meta.IMMUTABLE)


def _told(row: Object) -> Object:
    return {part: value for part, value in row.items() if value}


def attachment(spec: Object, path: str) -> Iterator[FieldError]:
    """Check who attaches what where: the spec of a VolumeAttachment."""
    attacher, source = spec.get("attacher", ""), spec.get("source") or {}
    inline, volume = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if not attacher:
        yield required(f"{path}.attacher")
    if inline is None and volume is None:
        yield required(f"{path}.source", _ONE_SOURCE)
    elif inline is not None and volume is not None:
        yield forbidden(f"{path}.source", _ONE_SOURCE)
    elif inline is not None:
        yield from claims.volume(inline, f"{path}.source.inlineVolumeSpec", "", inline=True)
    elif not volume:
        yield required(f"{path}.source.persistentVolumeName", "must specify non empty persistentVolumeName")
    yield from wrong(f"{path}.nodeName", spec.get("nodeName", ""), names.dns_subdomain(spec.get("nodeName", "")))
    yield from driver_name(attacher, f"{path}.attacher")
    if volume is not None:
        yield from wrong(f"{path}.source.persistentVolumeName", volume, names.dns_subdomain(volume))


def attachment_status(state: Any, path: str) -> Iterator[FieldError]:
    """Check that what an attacher says is not too long."""
    state = state if isinstance(state, dict) else {}
    told = state.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in told.items()) > _PARAMETERS_SIZE:
        yield too_long(f"{path}.attachmentMetadata", _PARAMETERS_SIZE)
    for part in ("attachError", "detachError"):
        if len((state.get(part) or {}).get("message", "").encode()) > 1024:
            yield too_long(f"{path}.{part}.message", _PARAMETERS_SIZE)
