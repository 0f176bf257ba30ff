"""Types of expressions, and which of them fit where (cel-go/checker/types.go). No effects.

A type is a name with parameters: `int`, `list(string)`, `map(string, dyn)`. A type parameter is one with `free` set; an
object is one with `fields`. `most` says how many elements or characters a value has at most, None for unknown: what an
OpenAPI schema says of it, and what costs are estimated by.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache


@dataclass(frozen=True, slots=True)
class Type:
    """Equal when they mean the same; objects by their names."""

    name: str
    params: tuple[Type, ...] = ()
    free: bool = False
    fields: Mapping[str, Type] | Callable[[], Mapping[str, Type]] | None = field(
        default=None, compare=False, repr=False
    )
    most: int | None = field(default=None, compare=False, repr=False)
    least_bytes: int = field(default=1, compare=False, repr=False)
    """How many bytes a value takes at least in JSON."""
    open: bool = field(default=False, compare=False, repr=False)
    """Of an object: may have fields that are not listed, of any type."""

    def __str__(self) -> str:
        if self.free:
            return "dyn"
        return f"{self.name}({', '.join(map(str, self.params))})" if self.params else self.name

    def field(self, name: str) -> Type | None:
        """Return the type of an object's field, None when it has none."""
        fields = self.fields() if callable(self.fields) else self.fields or {}
        return fields.get(name) or (DYN if self.open else None)


DYN, ERROR, NULL, BOOL, INT, UINT, DOUBLE, STRING, BYTES = (
    Type(name) for name in ("dyn", "!error!", "null", "bool", "int", "uint", "double", "string", "bytes")
)
TIMESTAMP, DURATION, TYPE = Type("timestamp"), Type("duration"), Type("type")
_NEVER_NULL = frozenset(("bool", "int", "uint", "double", "string", "bytes", "list", "map", "type"))
_TOKEN = re.compile(r"[A-Za-z_.@][A-Za-z0-9_.@]*|[(),]")


def list_of(item: Type, most: int | None = None, least_bytes: int = 2) -> Type:
    """Return the type of a list."""
    return Type("list", (item,), most=most, least_bytes=least_bytes)


def map_of(key: Type, value: Type, most: int | None = None, least_bytes: int = 2) -> Type:
    """Return the type of a map."""
    return Type("map", (key, value), most=most, least_bytes=least_bytes)


@cache
def read(text: str) -> Type:
    """Return the type that a text like `map(string, A)` names; one capital letter is a type parameter."""
    tokens = _TOKEN.findall(text)[::-1]

    def one() -> Type:
        name = tokens.pop()
        params: list[Type] = []
        if tokens and tokens[-1] == "(":
            tokens.pop()
            while tokens[-1] != ")":
                params.append(one())
                if tokens[-1] == ",":
                    tokens.pop()
            tokens.pop()
        return Type(name, tuple(params), free=len(name) == 1 and name.isupper())

    return one()


def any_kind(one: Type) -> bool:
    """Tell whether a type fits everywhere."""
    return one.name in ("dyn", "!error!")


class Solver:
    """What is known of the type parameters in one expression."""

    def __init__(self) -> None:
        self._known: dict[str, Type] = {}
        self._count = 0

    def fresh(self) -> Type:
        """Return a new parameter."""
        self._count += 1
        return Type(f"_var{self._count}", free=True)

    def renamed(self, types: Sequence[Type]) -> list[Type]:
        """Return the types with new parameters in place of theirs."""
        names: dict[str, Type] = {}

        def one(found: Type) -> Type:
            if found.free:
                return names.setdefault(found.name, self.fresh())
            return replace(found, params=tuple(map(one, found.params))) if found.params else found

        return [one(found) for found in types]

    def fits(self, given: Sequence[Type], wanted: Sequence[Type]) -> bool:
        """Tell whether types can be used as others, one by one; what that says of parameters is kept only if so."""
        before = dict(self._known)
        if len(given) == len(wanted) and all(map(self._fits, given, wanted)):
            return True
        self._known = before
        return False

    def _fits(self, one: Type, other: Type) -> bool:
        if one.free and one == other:
            return True
        if other.free:
            valid, known = self._stands(one, other)
            if valid:
                return True
            if known:
                return False
        if one.free:
            return self._stands(other, one)[0]
        if any_kind(one) or any_kind(other):
            return True
        if one.name == "null" or other.name == "null":
            return (one if other.name == "null" else other).name not in _NEVER_NULL
        if one.name == "type" and other.name == "type":
            return True
        return (
            one.name == other.name
            and len(one.params) == len(other.params)
            and all(map(self._fits, one.params, other.params))
        )

    def _stands(self, one: Type, parameter: Type) -> tuple[bool, bool]:
        """Return whether a parameter can stand for a type, and whether it was known before."""
        known = self._known.get(parameter.name)
        if known is not None:
            if one == known:
                return True, True
            if self._fits(one, known):
                self._known[parameter.name] = one if self._vaguer(one, known) else known
                return True, True
            return False, True
        if self._absent(parameter, one):
            self._known[parameter.name] = one
            return True, False
        return False, False

    def _absent(self, parameter: Type, within: Type) -> bool:
        if parameter == within:
            return False
        if within.free:
            known = self._known.get(within.name)
            return known is None or self._absent(parameter, known)
        return all(self._absent(parameter, inner) for inner in within.params)

    def _vaguer(self, one: Type, other: Type) -> bool:
        if any_kind(one) or one.free:
            return True
        if any_kind(other) or other.free or one.name != other.name or len(one.params) != len(other.params):
            return False
        return all(map(self._vaguer, one.params, other.params))

    def joined(self, one: Type, other: Type) -> Type:
        """Return the more general of two types that fit."""
        return one if self._vaguer(one, other) else other

    def solved(self, found: Type, *, final: bool = False) -> Type:
        """Return a type with what is known in place of its parameters; `final`: nothing known is dyn."""
        if found.free:
            known = self._known.get(found.name)
            if known is not None:
                return self.solved(known, final=final)
            return DYN if final else found
        if not found.params:
            return found
        return replace(found, params=tuple(self.solved(inner, final=final) for inner in found.params))
