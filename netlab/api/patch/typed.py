"""Values seen through their schema, as server-side apply sees them: which parts have owners of their own.

The operations of structured-merge-diff (sigs.k8s.io/structured-merge-diff/v6/typed): the set of fields of a value, the
difference of two values as sets, and merging. All of it is done at every write, and most parts of an object are
scalars: those are dealt with where they are found, without a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from netlab.api.meta import Object
from netlab.api.patch.fieldset import MEMBER, Set, with_member
from netlab.api.patch.shape import LEAF, Kind, Shape, by_element, element

_CONTAINERS = (dict, list)
ABSENT: Any = object()
"""What is not there, where null is a value."""


def shown(value: Any, shape: Shape) -> Kind:
    """Return as what a value of this shape is handled: what does not fit its shape is a leaf."""
    kind = shape.kind
    if kind == "leaf":
        return kind
    if kind in {"keyed", "set"}:
        return kind if isinstance(value, list) else "leaf"
    if not isinstance(value, dict):
        return "leaf"
    return "map" if kind == "untyped" else kind


def fields(value: Any, shape: Shape) -> Set:
    """Return the set of fields that a value has (TypedValue.ToFieldSet), below its own place."""
    kind = shown(value, shape)
    out: Set = {}
    if kind in {"struct", "map"}:
        for name, inner in value.items():
            pe, child = shape.entry(name)
            if not isinstance(inner, _CONTAINERS) or inner == {} or shown(inner, child) == "leaf":
                out[pe] = {}
                continue
            children = fields(inner, child)
            if not shape.declares(name):
                out[pe] = with_member(children)
            elif children:
                out[pe] = children
    elif kind in {"keyed", "set"} and shape.item is not None:
        for item in value:
            out[element(item, shape)] = with_member(fields(item, shape.item))
    return out


@dataclass(frozen=True)
class Comparison:
    """What became different, as sets."""

    added: Set
    removed: Set
    modified: Set


def compare(old: Object, new: Object, shape: Shape) -> Comparison:
    """Return what differs between two objects; null is a value as any other."""
    added, removed, modified = _compare(old, new, shape)
    return Comparison(added or {}, removed or {}, modified or {})


_Sides: TypeAlias = tuple[Set | None, Set | None, Set | None]
_SAME: _Sides = (None, None, None)


def _compare(old: Any, new: Any, shape: Shape) -> _Sides:
    if old is ABSENT:
        return _all(new, shape), None, None
    after = None if new is ABSENT else new
    kind = shown(old or after, shape)
    if kind == "leaf" or not (old or after) or (after and shown(after, shape) != kind):
        return (None, {}, None) if new is ABSENT else (None, None, {})
    added: Set = {}
    removed: Set = {}
    modified: Set = {}
    for pe, before, after, child in _differing(old, new, shape, kind):
        if before is ABSENT and type(after) not in _CONTAINERS:
            added[pe] = {}
            continue
        more, less, other = _compare(before, after, child)
        if more is not None:
            added[pe] = more
        if less is not None:
            removed[pe] = less
        if other is not None:
            modified[pe] = other
    if new is ABSENT:
        return None, with_member(removed), None
    return added or None, removed or None, modified or None


def _all(value: Any, shape: Shape) -> Set:
    """Return the set of a value that was not there before, each part of it a member, and nulls too."""
    kind = shown(value, shape)
    if not value or kind == "leaf":
        return {}
    out: Set = {MEMBER: {}}
    if kind in {"struct", "map"}:
        entry = shape.entry
        for name, inner in value.items():
            pe, child = entry(name)
            out[pe] = _all(inner, child) if type(inner) in _CONTAINERS else {}
    else:
        for item in value:
            if (pe := element(item, shape)) not in out:  # of doubles the first
                out[pe] = _all(item, shape.item or LEAF)
    return out


def _differing(old: Any, new: Any, shape: Shape, kind: Kind) -> Iterator[tuple[str, Any, Any, Shape]]:
    """Yield (path element, before, after, shape) of what differs directly below; either may be null, `new` absent."""
    there = new is not ABSENT
    if kind in {"struct", "map"}:
        mine, theirs, absent = old or {}, (new if there else None) or {}, shape.when_absent
        for name in (*mine, *(name for name in theirs if name not in mine)):
            before, after = mine.get(name, ABSENT), theirs.get(name, ABSENT)
            if before is ABSENT:
                before = absent.get(name, ABSENT)
            if after is ABSENT and there:
                after = absent.get(name, ABSENT)
            if before is not after and before != after:
                pe, child = shape.entry(name)
                yield pe, before, after, child
    else:
        mine, theirs = by_element(old or (), shape), by_element((new if there else None) or (), shape)
        for pe in (*mine, *(pe for pe in theirs if pe not in mine)):
            before, after = mine.get(pe, ABSENT), theirs.get(pe, ABSENT)
            if before is not after and before != after:
                yield pe, before, after, shape.item or LEAF


def merge(old: Any, new: Any, shape: Shape) -> Any:
    """Return the old value with the new one merged in.

    Null takes the place of what is owned as a whole; of maps and lists whose parts have owners of their own it says
    nothing of the parts.
    """
    if new is None:
        return old if old and shown(old, shape) != "leaf" else None
    kind = shown(new, shape)
    if not old or kind == "leaf" or shown(old, shape) != kind:
        return new
    if kind in {"struct", "map"}:
        out = dict(old)
        for name, value in new.items():
            whole = value is not None and not isinstance(value, _CONTAINERS)
            out[name] = value if whole else merge(out.get(name), value, shape.entry(name)[1])
        return out
    return _merge_lists(old, new, shape)


def _merge_lists(old: list[Any], new: list[Any], shape: Shape) -> list[Any]:
    """Merge the items of two lists by their path elements.

    Items of both keep the order of the new list; items that only the old one has stay behind what they followed.
    """
    left, right = [element(item, shape) for item in old], [element(item, shape) for item in new]
    if left == right and len(set(left)) == len(left):
        return [merge(mine, theirs, shape.item or LEAF) for mine, theirs in zip(old, new, strict=True)]
    mine, theirs = by_element(old, shape), by_element(new, shape)
    shared = [pe for pe in right if pe in mine]
    out: list[Any] = []
    merged: set[str] = set()
    at = to = next_shared = 0

    def take(pe: str) -> None:
        merged.add(pe)
        out.append(merge(mine.get(pe), theirs[pe], shape.item or LEAF))

    while at < len(left) or to < len(right):
        if at < len(left) and to < len(right):
            if left[at] == right[to]:
                take(left[at])
                at, to, next_shared = at + 1, to + 1, next_shared + 1
                continue
            if left[at] in theirs and next_shared < len(shared) and shared[next_shared] != left[at]:
                at += 1  # it comes later, in the order of the new list
                continue
        if at < len(left):
            if left[at] not in theirs:
                out.append(old[at])
                at += 1
                continue
            if left[at] in merged:
                at += 1
        if to < len(right):
            if right[to] not in merged:
                take(right[to])
            if next_shared < len(shared) and shared[next_shared] == right[to]:
                next_shared += 1
            to += 1
    return out
