"""What goes from an object when a manager no longer applies it (structured-merge-diff/v6/merge, typed/remove.go)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netlab.api.meta import Object
from netlab.api.patch import fieldset
from netlab.api.patch.fieldset import Set, below, is_member, with_member
from netlab.api.patch.shape import LEAF, UNTYPED, Shape, element
from netlab.api.patch.typed import ABSENT, fields, shown


def prune(merged: Object, shape: Shape, last: Set, owned: Iterable[Set]) -> Object:
    """Remove what the manager applied last time, and neither this time nor anyone else owns."""
    last = with_named_fields(last, shape)
    everything = with_named_fields(fields(merged, shape), shape)
    pruned: Object = remove(merged, last, shape) or {}
    claimed: Set = {}
    for theirs in owned:
        claimed = fieldset.union(claimed, with_named_fields(theirs, shape))
    kept = fieldset.union(with_named_fields(fields(pruned, shape), shape), claimed)
    pruned = remove(merged, fieldset.difference(everything, kept), shape) or {}
    left = with_named_fields(fields(pruned, shape), shape)
    gone = fieldset.intersection(fieldset.difference(everything, left), last)
    result: Object = remove(merged, gone, shape) or {}
    return result


def remove(value: Any, gone: Set, shape: Shape) -> Any:
    """Return the value without the fields of a set; None if nothing is left of it."""
    left = _remove(value, gone, shape)
    return None if left is ABSENT else left


def _remove(value: Any, gone: Set, shape: Shape) -> Any:
    kind = shown(value, shape)
    if not gone or kind == "leaf":
        return value
    if kind in {"struct", "map"}:
        out = {}
        for name, inner in value.items():
            pe, child = shape.entry(name)
            kept = _rest(inner, gone.get(pe), child)
            if kept is ABSENT and shape.when_absent.get(name) == {}:
                kept = {}  # Go can't leave it out
            if kept is not ABSENT:
                out[name] = kept
        return out or ABSENT
    items = [kept for item in value
             if (kept := _rest(item, gone.get(element(item, shape)), shape.item or LEAF)) is not ABSENT]
    return items or ABSENT


def _rest(value: Any, gone: Set | None, shape: Shape) -> Any:
    if gone is None:
        return value
    return ABSENT if is_member(gone) else _remove(value, below(gone), shape)


def with_named_fields(node: Mapping[str, Any], shape: Shape) -> Set:
    """Return the set with the fields of structs that lead to a member made members too, as removing needs them."""
    out: Set = {}
    for pe, inner in node.items():
        if pe.startswith("f:"):
            child = shape.child(pe[2:])
            children = with_named_fields(below(inner), child)
            out[pe] = with_member(children) if shape.declares(pe[2:]) or is_member(inner) else children
        else:
            children = with_named_fields(below(inner), shape.item or UNTYPED)
            out[pe] = with_member(children) if is_member(inner) else children
    return out
