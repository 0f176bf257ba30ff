"""The straight way of decoding: one walk for what validate, nulls and zeros do one after the other.

Nearly all objects fit their schema, and have nulls in fields at most; of such a one there is nothing to say. Where
anything is out of the ordinary, `read` gives up, and the three have their say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from operator import is_
from typing import Any

from netlab.api import fits, quantity
from netlab.api.meta import Object
from netlab.api.schema import Struct, Type, struct_of
from netlab.apiserver import zeros

_Look = Callable[[Any], Any]
"""Returns a value as Go writes it, the same one if it is that already."""
_TEXT = str
"""Stands for the look of a string: most of an object are strings, and they are looked at without a call."""


class _Unusual(Exception):
    """There may be something to say about this value."""


def read(obj: Object, shape: Struct) -> Object | None:
    """Return an object as `nulls.settled` and `zeros.left_out` do; None if it takes a closer look."""
    try:
        found: Object = _of_struct(shape)(obj)
    except _Unusual:
        return None
    return found


@cache
def _of_struct(shape: Struct) -> _Look:
    rules: dict[str, tuple[_Look, bool]] = {}

    def look(value: Any) -> Any:
        if type(value) is not dict:
            raise _Unusual
        kept: Object | None = None
        for name, inner in value.items():
            try:
                rule, drop = rules[name]
            except KeyError:
                rule, drop = rules[name] = _rule(shape, name)
            if rule is _TEXT:
                if type(inner) is not str and inner is not None:
                    raise _Unusual
                new = inner
            else:
                new = None if inner is None else rule(inner)
            if inner is None or (drop and not inner):
                kept = dict(value) if kept is None else kept
                del kept[name]
            elif new is not inner:
                kept = dict(value) if kept is None else kept
                kept[name] = new
        return value if kept is None else kept

    return look


def _rule(shape: Struct, name: str) -> tuple[_Look, bool]:
    """Return what looks into a field, and whether it goes when it is zero."""
    field = shape.fields.get(name)
    if field is None:
        raise _Unusual
    return _of_type(field.type), zeros.goes(shape, field)


@cache
def _of_type(kind: Type) -> _Look:
    if kind.code == "string":
        return _TEXT
    shape = struct_of(kind)
    if shape is not None:
        return _of_struct(shape)
    if kind.item is not None:
        return (_list if kind.code == "list" else _map)(_of_type(kind.item))
    scalar = _scalar(fits.of_type(kind), zeros.spelled(kind))
    return _amount(scalar) if kind.code == "quantity" else scalar


def _amount(number: _Look) -> _Look:
    def look(value: Any) -> Any:
        if type(value) is not str:
            return number(value)
        try:
            made = quantity.canonical(value)
        except ValueError:
            raise _Unusual from None
        return value if made == value else made

    return look


def _scalar(test: fits.Test | None, spelled: _Look | None) -> _Look:
    def look(value: Any) -> Any:
        if value is None or (test is not None and not test(value)):
            raise _Unusual
        return value if spelled is None else spelled(value)

    return look


def _list(item: _Look) -> _Look:
    def look(value: Any) -> Any:
        if type(value) is not list:
            raise _Unusual
        made = _each(value, item)
        return value if made is None else made

    return look


def _map(item: _Look) -> _Look:
    def look(value: Any) -> Any:
        if type(value) is not dict:
            raise _Unusual
        made = _each(value.values(), item)
        return value if made is None else dict(zip(value, made, strict=True))

    return look


def _each(values: Iterable[Any], item: _Look) -> list[Any] | None:
    """Look at each; returns them as Go writes them, None if that is as they are."""
    if item is _TEXT:
        for one in values:
            if type(one) is not str:
                raise _Unusual
        return None
    made = [item(one) for one in values]
    return None if all(map(is_, made, values)) else made
