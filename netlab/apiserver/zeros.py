"""What Go does not write: in a field that may be left out (omitempty), false, 0, an empty text, list or map.

A client that says `paused: false` gets an object without it, and an empty text is as good as none when defaults are
filled in. Pointers keep what they point to (`replicas: 0`), structs are written even when they are empty. Fields that
must be there, and a few that Go always writes although they may be left out, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from netlab.api.meta import Object
from netlab.api.schema import Struct, Type, struct_of

_DROPPED = frozenset(("string", "boolean", "int32", "int64", "uint32", "uint64", "double", "float", "byte", "list",
                      "map"))
_ALWAYS = frozenset((("ClusterRole", "rules"), ("Role", "rules"), ("EndpointSlice", "ports"),
                     ("Event", "reportingComponent"), ("Event", "reportingInstance"),
                     ("CustomResourceDefinitionStatus", "conditions"),
                     ("CustomResourceDefinitionStatus", "storedVersions")))
_Inner = Callable[[Any], Any]


def left_out(obj: Object, shape: Struct) -> Object:
    """Return an object without such fields: itself if there are none; parts without them are shared with it."""
    kept: Object | None = None
    plan = _plan(shape)
    for name, value in obj.items():
        rule = plan.get(name)
        if rule is None:
            continue
        drop, inner = rule
        if not value:
            if drop:
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
        pointer = field.pointer and field.type.code != "byte"  # bytes are a list in Go, whatever protobuf calls them
        drop = (field.type.code in _DROPPED and not pointer and not field.required
                and (shape.go_name, name) not in _ALWAYS)
        inner = _inner(field.type)
        if drop or inner is not None:
            plan[name] = drop, inner
    return plan


def _inner(kind: Type) -> _Inner | None:
    """Return what looks into a value of this type; None if there is nothing to find."""
    if kind.code == "struct":
        shape = struct_of(kind)
        return None if shape is None else lambda value: left_out(value, shape) if isinstance(value, dict) else value
    if kind.item is None or kind.item.code not in ("struct", "list", "map"):
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
