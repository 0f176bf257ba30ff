"""What Go writes otherwise than it was told: amounts and times in their own form, and zeros not at all.

`cpu: 0.5` becomes "500m", `0.5Gi` "512Mi", a time has no fractions (a MicroTime six digits) and is in UTC. A field that
may be left out (omitempty) is, when it holds false, 0, an empty text, list or map.

A client that says `paused: false` gets an object without it, and an empty text is as good as none when defaults are
filled in. Pointers keep what they point to (`replicas: 0`), structs are written even when they are empty. Fields that
must be there, and a few that Go always writes although they may be left out, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from netlab.api import meta, quantity
from netlab.api.meta import Object
from netlab.api.schema import Field, Struct, Type, struct_of

_DROPPED = frozenset(("string", "boolean", "int32", "int64", "uint32", "uint64", "double", "float", "byte", "list",
                      "map"))
_ALWAYS = frozenset((("ClusterRole", "rules"), ("Role", "rules"), ("EndpointSlice", "ports"),
                     ("Event", "reportingComponent"), ("Event", "reportingInstance"),
                     ("CustomResourceDefinitionStatus", "conditions"),
                     ("CustomResourceDefinitionStatus", "storedVersions")))
_Inner = Callable[[Any], Any]
_SECONDS, _MICROSECONDS = len("2026-01-31T00:00:00Z"), len("2026-01-31T00:00:00.000000Z")


def _amount(value: Any) -> Any:
    return _read(quantity.canonical, value)


def _time(value: Any) -> Any:
    if isinstance(value, str) and len(value) == _SECONDS and value[-1] == "Z":
        return value
    return _read(lambda text: meta.timestamp(meta.parse_timestamp(text)), value)


def _micro_time(value: Any) -> Any:
    if isinstance(value, str) and len(value) == _MICROSECONDS and value[-1] == "Z":
        return value
    return _read(lambda text: meta.micro_timestamp(meta.parse_timestamp(text)), value)


def _read(spelled: Callable[[Any], str], value: Any) -> Any:
    """Return a value in its own form; one that is none is for the checks to refuse."""
    try:
        made = spelled(value)
    except (ValueError, TypeError):
        return value
    return value if made == value else made


_SPELLED: dict[str, _Inner] = {"quantity": _amount, "time": _time, "micro-time": _micro_time}


def left_out(obj: Object, shape: Struct) -> Object:
    """Return an object as Go writes it: itself if nothing differs; parts in which nothing does are shared with it."""
    kept: Object | None = None
    plan = _plan(shape)
    for name, value in obj.items():
        rule = plan.get(name)
        if rule is None:
            continue
        drop, inner = rule
        if drop and not value:
            kept = dict(obj) if kept is None else kept
            del kept[name]
        elif inner is not None:
            new = inner(value)
            if new is not value:
                kept = dict(obj) if kept is None else kept
                kept[name] = new
    return obj if kept is None else kept


@cache
def _plan(shape: Struct) -> dict[str, tuple[bool, _Inner | None]]:
    """Return, for each field that matters, whether it goes when it is zero, and what looks into it."""
    plan: dict[str, tuple[bool, _Inner | None]] = {}
    for name, field in shape.fields.items():
        drop, inner = goes(shape, field), _inner(field.type)
        if drop or inner is not None:
            plan[name] = drop, inner
    return plan


def goes(shape: Struct, field: Field) -> bool:
    """Tell whether a field of a struct is left out when it is zero."""
    pointer = field.pointer and field.type.code != "byte"  # bytes are a list in Go, whatever protobuf calls them
    return (field.type.code in _DROPPED and not pointer and not field.required
            and (shape.go_name, field.name) not in _ALWAYS)


def spelled(kind: Type) -> _Inner | None:
    """Return what puts a scalar into its own form; None where every form is."""
    return _SPELLED.get(kind.code)


def _inner(kind: Type) -> _Inner | None:
    """Return what looks into a value of this type; None if there is nothing to find."""
    if kind.code in _SPELLED:
        return _SPELLED[kind.code]
    if kind.code == "struct":
        shape = struct_of(kind)
        return None if shape is None else lambda value: left_out(value, shape) if isinstance(value, dict) else value
    if kind.item is None or kind.item.code not in ("struct", "list", "map", *_SPELLED):
        return None
    item = _inner(kind.item)
    return None if item is None else lambda value: _each(value, item)


def _each(value: Any, item: _Inner) -> Any:
    if isinstance(value, list):
        made = [item(one) for one in value]
        return made if any(new is not one for new, one in zip(made, value, strict=True)) else value
    if isinstance(value, dict):
        named = {name: item(one) for name, one in value.items()}
        return named if any(new is not value[name] for name, new in named.items()) else value
    return value
