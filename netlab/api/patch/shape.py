"""How the parts of an object are owned, by its schema: what typed.py walks objects along."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeAlias

from netlab.api.schema import Field, Struct, Type, table

_PLAIN = re.compile(r"[-A-Za-z0-9_./]*").fullmatch  # what JSON writes as it is
_ENVELOPE = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata"
"""Stands for the kinds that nobody told of."""
Kind: TypeAlias = Literal["leaf", "struct", "map", "keyed", "set", "untyped"]
Form: TypeAlias = Literal["", "numeric", "string", "boolean", "scalar", "list", "map"]


class Shape:
    """How a value is owned: a leaf as a whole, a struct or map by field, a keyed list by item, a set by value.

    `untyped` is what no schema tells about: maps are owned by field, lists and scalars as a whole. `item` is the shape
    of a list's items or a map's values, `keys` what a keyed list knows its items by. `form` is what a value has to be
    (`Form`; "" where nothing tells); a leaf that is a list or a map has its `inner` shape, which no owner sees.
    """

    __slots__ = ("_absent", "_entries", "_given", "defaults", "form", "inner", "item", "keys", "kind", "quoted",
                 "struct")

    def __init__(self, kind: Kind, struct: Struct | None = None, *, item: Shape | None = None,
                 keys: tuple[str, ...] = (), children: Mapping[str, Shape] | None = None, form: Form = "",
                 inner: Shape | None = None) -> None:
        self.kind, self.struct, self.item, self.keys = kind, struct, item, keys
        self.form, self.inner = form, inner
        self.quoted = tuple((name, f"{json.dumps(name)}:") for name in keys)
        self._given: Mapping[str, Shape] = dict(children or {})
        self._entries = {name: (f"f:{name}", child) for name, child in self._given.items()}
        self.defaults: Mapping[str, Any] = {}
        self._absent: Mapping[str, Any] | None = None

    def entry(self, name: str) -> tuple[str, Shape]:
        """Return the path element of a field or entry, and its shape. Those of declared fields are kept."""
        found = self._entries.get(name)
        if found is not None:
            return found
        field = self.struct.fields.get(name) if self.struct is not None else None
        if field is None:
            return f"f:{name}", self.item or UNTYPED
        found = self._entries[name] = f"f:{name}", _of_field(field)
        return found

    def child(self, name: str) -> Shape:
        """Return the shape of a field or entry."""
        return self.entry(name)[1]

    def declares(self, name: str) -> bool:
        """Tell whether this is a struct that has the field."""
        return name in self._entries or (self.struct is not None and name in self.struct.fields)

    @property
    def closed(self) -> bool:
        """Tell whether this is a struct that has no other fields than those declared."""
        return self.kind == "struct" and self.item is None and (self.struct is None or self.struct.name != _ENVELOPE)

    @property
    def children(self) -> Mapping[str, Shape]:
        """Return the fields' shapes that were given one by one."""
        return self._given

    @property
    def when_absent(self) -> Mapping[str, Any]:
        """Return what Go has in place of missing fields: {} for a struct without pointer, [] for a required list."""
        if self._absent is None:
            fields = self.struct.fields.values() if self.struct is not None else ()
            self._absent = {field.name: [] if field.type.code == "list" else {} for field in fields if field.number
                            and ((field.type.code == "struct" and not field.pointer)
                                 or (field.type.code in {"list", "map"} and field.required))}
        return self._absent

    def key_default(self, name: str) -> Any:
        """Return what an item that does not say it has as one of the keys; None if nothing."""
        if self.item is None:
            return None
        if name in self.item.defaults:
            return self.item.defaults[name]
        field = self.item.struct.fields.get(name) if self.item.struct is not None else None
        return None if field is None else field.default


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


def element(item: Any, shape: Shape) -> str:
    """Return the path element of a list's item."""
    if shape.kind == "set":
        return "v:" + json.dumps(item, separators=(",", ":"), sort_keys=True)
    if not isinstance(item, dict):
        return "v:" + json.dumps(item)
    pairs = ""
    for name, quoted in shape.quoted:
        value = item.get(name)
        if value is None and (value := shape.key_default(name)) is None:
            continue
        if type(value) is str and _PLAIN(value):  # names and numbers, which nearly all keys are, need no encoder
            pairs += f'{quoted}"{value}",'
        else:
            pairs += f"{quoted}{value if type(value) is int else json.dumps(value, separators=(',', ':'))},"
    return f"k:{{{pairs[:-1]}}}"


def by_element(items: Any, shape: Shape) -> dict[str, Any]:
    """Return a list's items by path element; of doubles the first."""
    found: dict[str, Any] = {}
    for item in items:
        found.setdefault(element(item, shape), item)
    return found
