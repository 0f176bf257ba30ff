"""What Go writes though nobody has said it: structs, times, quantities that are no pointers, and what must be there.

The counterpart of `zeros`: an Event has `eventTime: null` and `source: {}`, a ControllerRevision `revision: 0`. Only
a few fields can be told by nothing but their name: Go neither demands them nor leaves them out. A list that must be
there and is empty is null: upstream stores protobuf, which knows no empty lists; only definitions are stored as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import is_
from typing import Any

from netlab.api.meta import Object
from netlab.api.schema import Field, Struct, Type, struct_of

_ZERO: dict[str, Any] = {"string": "", "boolean": False, "int32": 0, "int64": 0, "uint32": 0, "uint64": 0, "double": 0,
                         "float": 0, "byte": "", "list": None, "map": None}
_NAMED: dict[tuple[str, str], Any] = {
    ("core.v1.Event", "reportingComponent"): "", ("core.v1.Event", "reportingInstance"): "",
    ("apps.v1.StatefulSetSpec", "serviceName"): "", ("rbac.v1.ClusterRole", "rules"): None,
    ("rbac.v1.Role", "rules"): None, ("storage.v1.CSINodeDriver", "topologyKeys"): None,
    ("discovery.v1.EndpointSlice", "ports"): None, ("discovery.v1.EndpointSlice", "endpoints"): None,
    ("flowcontrol.v1.ResourcePolicyRule", "namespaces"): None,
    ("core.v1.ProjectedVolumeSource", "sources"): None, ("core.v1.TypedLocalObjectReference", "apiGroup"): None,
    ("core.v1.TypedObjectReference", "apiGroup"): None,
    ("autoscaling.v2.HorizontalPodAutoscalerStatus", "currentMetrics"): None}
_SKIPPED = ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "io.k8s.api.resource.")
"""Metadata has no zero time, and devices' API leaves out what it demands."""
_JSON = "io.k8s.apiextensions-apiserver."
_EMPTY: tuple[Any, ...] = ([], {})
_Inner = Callable[[Any], Any]


def filled(obj: Object, shape: Struct) -> Object:
    """Return an object with such fields: itself if it has them all; parts that are complete are shared with it."""
    found: Object = _of_struct(shape)(obj)
    return found


@cache
def _of_struct(shape: Struct) -> _Inner:
    """Return what completes a struct. Its plan is made at the first look: a struct may hold others of its kind."""
    plan: tuple[Mapping[str, Any], Mapping[str, _Inner]] | None = None
    json = shape.name.startswith(_JSON)

    def look(value: Any) -> Any:
        nonlocal plan
        if not isinstance(value, dict):
            return value
        if plan is None:
            plan = _plan(shape)
        zeros, inners = plan
        kept: Object | None = None
        for name, zero in zeros.items():
            if name not in value or (zero is None and value[name] in _EMPTY and not json):
                kept = dict(value) if kept is None else kept
                kept[name] = zero() if callable(zero) else zero
        for name, part in value.items():
            if part is not None and (inner := inners.get(name)) is not None and (new := inner(part)) is not part:
                kept = dict(value) if kept is None else kept
                kept[name] = new
        return value if kept is None else kept

    return look


def _plan(shape: Struct) -> tuple[Mapping[str, Any], Mapping[str, _Inner]]:
    """Return what to write for each field that is absent, and what looks into those that are there."""
    zeros: dict[str, Any] = {}
    inners: dict[str, _Inner] = {}
    if shape.name.startswith(_SKIPPED):
        return {}, {}
    for name, field in shape.fields.items():
        inner = _inner(field.type)
        if inner is not None and name != "metadata":
            inners[name] = inner
        found = _zero(shape, name, field)
        if found is not ...:
            zeros[name] = found
    return zeros, inners


def _zero(shape: Struct, name: str, field: Field) -> Any:
    """Return the zero value of a field that is always written, or a function that makes it; `...` for others."""
    named = _NAMED.get((shape.name.removeprefix("io.k8s.api."), name), ...)
    if named is not ... or field.pointer or name in ("metadata", "kind", "apiVersion") or _embedded(shape, name):
        return named
    code = field.type.code
    if code in ("time", "micro-time"):
        return None
    if code == "quantity":
        return "0"
    if code == "struct":
        inner = struct_of(field.type)
        return ... if inner is None or inner.name.startswith(_SKIPPED) else lambda: filled({}, inner)
    return _ZERO.get(code, ...) if field.required else ...


def _embedded(shape: Struct, name: str) -> bool:
    """Tell whether a field is a pointer in a struct that is embedded in this one, as a Volume's source is."""
    structs = (struct_of(field.type) for field in shape.by_number.values() if field.inline)
    return any(inner is not None and name in inner.fields and inner.fields[name].pointer for inner in structs)


def _inner(kind: Type) -> _Inner | None:
    """Return what looks into a value of this type; None if there is nothing to find."""
    if kind.code == "struct":
        shape = struct_of(kind)
        if shape is None or not _matters(shape):
            return None
        return _of_struct(shape)
    if kind.item is None or kind.item.code not in ("struct", "list", "map"):
        return None
    item = _inner(kind.item)
    return None if item is None else lambda value: _each(value, item)


def _matters(shape: Struct) -> bool:
    """Tell whether a struct may have to be looked into; one that holds itself always does."""
    return not shape.name.startswith(_SKIPPED) and any(
        _zero(shape, name, field) is not ... or field.type.code in ("struct", "list", "map")
        for name, field in shape.fields.items())


def _each(value: Any, item: _Inner) -> Any:
    if isinstance(value, list):
        made = [item(one) for one in value]
        return value if all(map(is_, made, value)) else made
    if isinstance(value, dict):
        named = {name: item(one) for name, one in value.items()}
        return named if any(new is not value[name] for name, new in named.items()) else value
    return value
