"""Values seen through their schema, as server-side apply sees them: which parts have owners of their own.

The operations of structured-merge-diff (sigs.k8s.io/structured-merge-diff/v6/typed): the set of fields of a value, the
difference of two values as sets, merging, and removing fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

from netlab.api.meta import Object
from netlab.api.patch.fieldset import MEMBER, Set, spell, with_member
from netlab.api.schema import Field, Struct, Type, table

_PLAIN = re.compile(r"[-A-Za-z0-9_./]*").fullmatch  # what JSON writes as it is
_ENVELOPE = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata"
"""Stands for the kinds that nobody told of."""
Kind: TypeAlias = Literal["leaf", "struct", "map", "keyed", "set", "untyped"]


class Shape:
    """How a value is owned: a leaf as a whole, a struct or map by field, a keyed list by item, a set by value.

    `untyped` is what no schema tells about: maps are owned by field, lists and scalars as a whole. `item` is the shape
    of a list's items or a map's values, `keys` what a keyed list knows its items by.
    """

    __slots__ = ("_absent", "_children", "_declared", "defaults", "item", "keys", "kind", "struct")

    def __init__(self, kind: Kind, struct: Struct | None = None, *, item: Shape | None = None,
                 keys: tuple[str, ...] = (), children: Mapping[str, Shape] | None = None) -> None:
        self.kind, self.struct, self.item, self.keys = kind, struct, item, keys
        self._declared = frozenset(children or ())
        self._children: dict[str, Shape] = dict(children or {})
        self.defaults: Mapping[str, Any] = {}
        self._absent: Mapping[str, Any] | None = None

    def child(self, name: str) -> Shape:
        """Return the shape of a field or entry."""
        found = self._children.get(name)
        if found is not None:
            return found
        field = self.struct.fields.get(name) if self.struct is not None else None
        if field is None:
            return self.item or UNTYPED
        found = self._children[name] = _of_field(field)
        return found

    def declares(self, name: str) -> bool:
        """Tell whether this is a struct that has the field."""
        return name in self._declared or (self.struct is not None and name in self.struct.fields)

    @property
    def closed(self) -> bool:
        """Tell whether this is a struct that has no other fields than those declared."""
        return self.kind == "struct" and self.item is None and (self.struct is None or self.struct.name != _ENVELOPE)

    @property
    def children(self) -> Mapping[str, Shape]:
        """Return the fields' shapes that were given one by one."""
        return {name: self._children[name] for name in self._declared}

    @property
    def when_absent(self) -> Mapping[str, Any]:
        """Return what Go has in place of missing fields: {} for a struct without pointer, [] for a required list."""
        if self._absent is None:
            fields = self.struct.fields.values() if self.struct is not None else ()
            self._absent = {field.name: [] if field.type.code == "list" else {} for field in fields if field.number
                            and ((field.type.code == "struct" and not field.pointer)
                                 or (field.type.code in {"list", "map"} and field.required))}
        return self._absent


_CONTAINERS = (dict, list)
ABSENT: Any = object()
"""What is not there, where null is a value."""
LEAF, UNTYPED = Shape("leaf"), Shape("untyped")


_DEFINED: dict[tuple[str, str], Shape] = {}


def define(api_version: str, kind: str, shape: Shape | None) -> None:
    """Tell how objects of a kind are owned that the table does not have (None: forget it)."""
    if shape is None:
        _DEFINED.pop((api_version, kind), None)
    else:
        _DEFINED[api_version, kind] = shape


def root(api_version: str, kind: str) -> Shape:
    """Return the shape of a kind's objects; of one that nobody told of, all but the metadata is untyped."""
    return _DEFINED.get((api_version, kind)) or _root(api_version, kind)


@cache
def _root(api_version: str, kind: str) -> Shape:
    struct = table().kind(api_version, kind)
    return _of_struct(struct.name if struct is not None else _ENVELOPE)


@cache
def _of_struct(name: str) -> Shape:
    struct = table().struct(name)
    return LEAF if struct.map_type == "atomic" else Shape("struct", struct)


METADATA = _of_struct("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")


def _of_field(field: Field) -> Shape:
    kind = field.type
    if field.map_type == "atomic":
        return LEAF
    if kind.code != "list" or kind.item is None:
        return _of_type(kind)
    style, keys = field.list_type, field.list_keys
    if not style and "merge" in field.patch_strategy:  # before list types there were patch strategies
        style, keys = ("map", (field.merge_key,)) if field.merge_key else ("set", ())
    if style == "map" and keys:
        return Shape("keyed", item=_of_type(kind.item), keys=tuple(sorted(keys)))
    return Shape("set", item=LEAF) if style == "set" else LEAF


def _of_type(kind: Type) -> Shape:
    if kind.code == "struct":
        return _of_struct(kind.struct)
    if kind.code == "map" and kind.item is not None:
        return Shape("map", item=_of_type(kind.item))
    return UNTYPED if kind.code == "any" else LEAF


def shown(value: Any, shape: Shape) -> Kind:
    """Return as what a value of this shape is handled: what does not fit its shape is a leaf."""
    if shape.kind in {"struct", "map", "untyped"}:
        if not isinstance(value, dict):
            return "leaf"
        return "map" if shape.kind == "untyped" else shape.kind
    if shape.kind in {"keyed", "set"} and not isinstance(value, list):
        return "leaf"
    return shape.kind


def element(item: Any, shape: Shape) -> str:
    """Return the path element of a list's item."""
    if shape.kind == "set":
        return "v:" + json.dumps(item, separators=(",", ":"), sort_keys=True)
    if not isinstance(item, dict):
        return "v:" + json.dumps(item)
    if len(shape.keys) == 1 and isinstance(value := item.get(shape.keys[0]), str) and _PLAIN(value):
        return f'k:{{"{shape.keys[0]}":"{value}"}}'
    struct = shape.item.struct if shape.item is not None else None
    key = {}
    for name in shape.keys:
        value = item.get(name)
        if value is None and shape.item is not None and name in shape.item.defaults:
            value = shape.item.defaults[name]
        elif value is None and struct is not None and (field := struct.fields.get(name)) is not None:
            value = field.default
        if value is not None:
            key[name] = value
    return "k:" + json.dumps(key, separators=(",", ":"))


def check(value: Any, shape: Shape, path: str = "") -> Iterator[str]:
    """Yield what is wrong with an object to be applied: unknown fields, items without a key, or with the same one."""
    kind = shown(value, shape)
    if kind in {"struct", "map"}:
        for name, inner in value.items():
            if shape.closed and not shape.declares(name):
                yield f"{path}.{name}: field not declared in schema"
            yield from check(inner, shape.child(name), f"{path}.{name}")
    elif kind in {"keyed", "set"}:
        seen: set[str] = set()
        for at, item in enumerate(value):
            pe = element(item, shape)
            if problem := _unlisted(item, pe, shape):
                yield f"{path}: element {at}: {problem}"
            elif pe in seen:
                yield f"{path}: duplicate entries for key {spell(pe)}"
            seen.add(pe)
            if shape.item is not None:
                yield from check(item, shape.item, f"{path}{spell(pe)}")


def _unlisted(item: Any, pe: str, shape: Shape) -> str:
    """Return why something can't be an item of a list whose items have owners; "" if it can."""
    if shape.kind == "set":
        return "associative list without keys has an element that's an explicit null" if item is None else ""
    if not isinstance(item, dict):
        return f"associative list with keys may not have {'a null element' if item is None else 'non-map elements'}"
    if pe != "k:{}":
        return ""
    names = " ".join(f'"{name}"' for name in shape.keys)
    return (f"associative list with keys has an element that omits all key fields [{names}] (and doesn't have default "
            "values for any key fields)")


def fields(value: Any, shape: Shape) -> Set:
    """Return the set of fields that a value has (TypedValue.ToFieldSet), below its own place."""
    kind = shown(value, shape)
    out: Set = {}
    if kind in {"struct", "map"}:
        for name, inner in value.items():
            child = shape.child(name)
            if inner is None or inner == {} or shown(inner, child) == "leaf":
                out[f"f:{name}"] = {}
                continue
            children = fields(inner, child)
            if not shape.declares(name):
                out[f"f:{name}"] = with_member(children)
            elif children:
                out[f"f:{name}"] = children
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
    for pe, before, after, child in _pairs(old, new, shape, kind):
        if before is after or before == after:
            continue
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
        for name, inner in value.items():
            out[f"f:{name}"] = _all(inner, shape.child(name)) if type(inner) in _CONTAINERS else {}
    else:
        for pe, item in by_element(value, shape).items():
            out[pe] = _all(item, shape.item or LEAF)
    return out


def _pairs(old: Any, new: Any, shape: Shape, kind: Kind) -> Iterator[tuple[str, Any, Any, Shape]]:
    """Yield (path element, before, after, shape) of what lies directly below; either may be null, `new` absent."""
    there = new is not ABSENT
    if kind in {"struct", "map"}:
        mine, theirs, absent = old or {}, (new if there else None) or {}, shape.when_absent
        for name in dict.fromkeys((*mine, *theirs)):
            before, after = mine.get(name, ABSENT), theirs.get(name, ABSENT)
            if before is ABSENT:
                before = absent.get(name, ABSENT)
            if after is ABSENT and there:
                after = absent.get(name, ABSENT)
            yield f"f:{name}", before, after, shape.child(name)
    else:
        mine, theirs = by_element(old or (), shape), by_element((new if there else None) or (), shape)
        for pe in dict.fromkeys((*mine, *theirs)):
            yield pe, mine.get(pe, ABSENT), theirs.get(pe, ABSENT), shape.item or LEAF


def by_element(items: Any, shape: Shape) -> dict[str, Any]:
    """Return a list's items by path element; of doubles the first."""
    found: dict[str, Any] = {}
    for item in items:
        found.setdefault(element(item, shape), item)
    return found


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
            out[name] = merge(out.get(name), value, shape.child(name))
        return out
    return _merge_lists(old, new, shape)


def _merge_lists(old: list[Any], new: list[Any], shape: Shape) -> list[Any]:
    """Merge the items of two lists by their path elements.

    Items of both keep the order of the new list; items that only the old one has stay behind what they followed.
    """
    left, right = [element(item, shape) for item in old], [element(item, shape) for item in new]
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
