"""Functions that expressions may call: declared by a line each, `.name(receiver, arguments) -> result`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from netlab.apiserver.cel.types import Type, read
from netlab.apiserver.cel.values import kind

Does = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Overload:
    """One way to call a function. `member`: on its first argument. `takes` may have type parameters."""

    name: str
    member: bool
    takes: tuple[Type, ...]
    returns: Type
    does: Does


class Function:
    """All ways to call one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.overloads: list[Overload] = []
        self._found: dict[tuple[str, ...], Does | None] = {}

    def does(self, member: bool, args: tuple[Any, ...]) -> Does:
        """Return what is done with these values. Raises ValueError, no overload takes them."""
        key = (".", *map(kind, args)) if member else tuple(map(kind, args))
        if key not in self._found:
            kinds = key[member:]
            self._found[key] = next(
                (
                    one.does
                    for one in self.overloads
                    if one.member == member and len(one.takes) == len(kinds) and all(map(_takes, one.takes, kinds))
                ),
                None,
            )
        found = self._found[key]
        if found is None:
            raise ValueError(f"no such overload: {self.name}({', '.join(key[member:])})")
        return found


def _takes(wanted: Type, given: str) -> bool:
    return wanted.free or wanted.name in ("dyn", given)


def declared(rows: Iterable[tuple[str, Does]]) -> Iterator[Overload]:
    """Read declarations; in a line, `{n}` is each of the numeric types in turn, `{c}` each that has an order."""
    for line, does in rows:
        for one in _lines(line):
            head, _, result = one.partition(" -> ")
            name, _, inner = head.partition("(")
            takes = read(f"f({inner}").params
            yield Overload(name.removeprefix("."), name.startswith("."), takes, read(result), does)


def _lines(line: str) -> Iterator[str]:
    for mark, names in _SETS.items():
        if mark in line:
            for name in names:
                yield line.replace(mark, name)
            return
    yield line


_NUMBERS = ("int", "uint", "double")
_SETS = {
    "{n}": _NUMBERS,
    "{c}": (*_NUMBERS, "bool", "string", "bytes", "timestamp", "duration"),
    "{s}": (*_NUMBERS, "duration"),
}


def functions(*tables: Iterable[tuple[str, Does]]) -> dict[str, Function]:
    """Return the functions of several tables by name."""
    found: dict[str, Function] = {}
    for table in tables:
        for overload in declared(table):
            found.setdefault(overload.name, Function(overload.name)).overloads.append(overload)
    return found


def metered(does: Does) -> Does:
    """Mark a function that wants the run as its first argument: its work depends on more than its arguments' sizes."""
    does.metered = True  # type: ignore[attr-defined]
    return does
