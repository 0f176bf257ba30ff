"""The quick question: does an object fit its schema as it is? Nearly all do, and need no closer look (validate.py).

For each struct a test is built once, out of the tests of its fields. A test says no to anything that validate.py would
have something to say about, and to nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from netlab.api import scalars
from netlab.api.schema import Struct, Type, struct_of

Test: TypeAlias = Callable[[Any], bool]


@cache
def of_struct(shape: Struct) -> Test:
    """Return the test of a struct."""
    tests: dict[str, Test | type[str] | None] = {}

    def fits(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for name, inner in value.items():
            try:
                test = tests[name]
            except KeyError:
                field = shape.fields.get(name)
                if field is None:  # not kept: the names of unknown fields are without end
                    return False
                test = tests[name] = str if field.type.code == "string" else of_type(field.type)
            if test is str:
                if type(inner) is not str and inner is not None:
                    return False
            elif test is not None and inner is not None and not test(inner):
                return False
        return True

    return fits


@cache
def of_type(kind: Type) -> Test | None:
    """Return the test of a type; None if anything fits."""
    shape = struct_of(kind)
    if shape is not None:
        return of_struct(shape)
    if kind.code == "list" and kind.item is not None:
        return _list(of_type(kind.item))
    if kind.code == "map" and kind.item is not None:
        return _map(of_type(kind.item))
    complaint = scalars.COMPLAINTS.get(kind.code)
    if complaint is not None:
        return _quiet(complaint)
    return None if kind.code in {"any", "raw"} else _of_kind(kind.code)


def _of_kind(code: str) -> Test:
    return lambda value: scalars.fits(value, code)


def _quiet(complaint: Callable[[Any], str]) -> Test:
    return lambda value: not complaint(value)


def _list(test: Test | None) -> Test:
    def fits(value: Any) -> bool:
        return type(value) is list and (test is None or all(item is None or test(item) for item in value))

    return fits


def _map(test: Test | None) -> Test:
    def fits(value: Any) -> bool:
        return type(value) is dict and (test is None or all(item is None or test(item) for item in value.values()))

    return fits
