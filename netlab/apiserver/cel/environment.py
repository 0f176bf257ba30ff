"""Compilation: text to program, in an environment of variables, functions and types."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

from netlab.apiserver.cel import authorizer, check, cost, dates, evaluate, kubernetes, network, standard, text
from netlab.apiserver.cel.ast import CelError, Node, parse
from netlab.apiserver.cel.declarations import Function, functions
from netlab.apiserver.cel.run import OUT, PER_CALL, Budget, Exceeded, OutOfBudget, Run
from netlab.apiserver.cel.types import DYN, STRING, Type, list_of
from netlab.apiserver.cel.values import Duration, Kind, Opaque, Optional, Timestamp

_MOST_PARTS = 100_000


@dataclass(frozen=True, eq=False)
class Environment:
    """What an expression may use. `mutating`: `Object{…}` and `JSONPatch{…}` as well."""

    variables: Mapping[str, Type]
    mutating: bool = False

    def compile(self, words: str, *, wanted: tuple[Type, ...] = ()) -> Program:
        """Compile an expression. `wanted`: the types that its value may have, () for any.

        Raises:
            CelError: it is no expression, uses what there is not, its types do not fit, or its value's.
        """
        try:
            return self._compiled(words, wanted)
        except RecursionError:
            raise CelError("ERROR: <input>:1:1: the expression is nested too deeply") from None

    def _compiled(self, words: str, wanted: tuple[Type, ...]) -> Program:
        tree = parse(words)
        checked = check.check(tree, self.variables, _functions(), structs if self.mutating else lambda _name: None)
        if wanted and checked.type not in wanted:
            names = " ".join("null_type" if one.name == "null" else str(one) for one in wanted)
            names = names if len(wanted) == 1 else f"one of [{names}]"
            raise WrongType(f"must evaluate to {names} but got {checked.type}")
        return Program(words, checked, self.variables)


class WrongType(CelError):
    """An expression has another type than it must have."""


class Program:
    """A compiled expression."""

    def __init__(self, words: str, checked: check.Checked, variables: Mapping[str, Type]) -> None:
        self.text, self.type = words, checked.type
        self._cost: Callable[[], int] = partial(cost.estimate, checked, variables)
        self._names = frozenset(_names(checked.tree.root))
        self._step: Callable[[Run], Any] = evaluate.compile_(checked)

    def evaluate(self, values: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """Return the expression's value for these variables.

        Raises:
            CelError: it has none: a missing key, a wrong type, a division by zero, more work than is allowed.
            OutOfBudget: there is nothing left of the budget.
        """
        budget = Budget(PER_CALL) if budget is None else budget
        run = budget.run(values)
        try:
            return self._step(run)
        except Exceeded as error:
            raise CelError(str(error)) from None
        except RecursionError:
            raise CelError("values nested too deeply") from None
        finally:
            if not budget.take(run):
                raise OutOfBudget(OUT)  # it counts more than how this one ended

    def cost(self) -> int:
        """Return what it costs at worst.

        Raises:
            CelError: it is nested too deeply to tell.
        """
        try:
            return self._cost()
        except RecursionError:
            raise CelError("ERROR: <input>:1:1: the expression is nested too deeply") from None

    def forget(self) -> None:
        """Let the tree go, which only the estimate of costs needs: evaluation is a tenth of it."""
        self._cost = int

    def uses(self, name: str) -> bool:
        """Tell whether a variable is used."""
        return name in self._names


@cache
def _functions() -> dict[str, Function]:
    return functions(
        check.TABLE, standard.TABLE, dates.TABLE, text.TABLE, kubernetes.TABLE, network.TABLE, authorizer.TABLE
    )


_PATCH = Type("JSONPatch", fields={"op": STRING, "path": STRING, "from": STRING, "value": DYN})
OBJECT, PATCHES = Type("Object", fields={}, open=True), list_of(_PATCH)


def structs(name: str) -> Type | None:
    """Return the types that mutations are written with: Object and its fields' types, JSONPatch."""
    if name == "JSONPatch":
        return _PATCH
    return Type(name, fields={}, open=True) if name == "Object" or name.startswith("Object.") else None


def compile_dynamic(words: str, names: tuple[str, ...], *, mutating: bool = False) -> Program:
    """Compile an expression over variables of any type; types were checked when it was stored. Raises CelError."""
    return (_kept if len(words) <= _USUAL else _kept_long)(words, names, mutating)


def _dynamic(words: str, names: tuple[str, ...], mutating: bool) -> Program:
    program = Environment(dict.fromkeys(names, DYN), mutating).compile(words)
    program.forget()
    return program


_USUAL = 2048
"""Length of texts up to which a thousand programs are kept; a character may take 130 bytes."""
_kept, _kept_long = lru_cache(maxsize=1024)(_dynamic), lru_cache(maxsize=32)(_dynamic)


def plain(value: Any) -> Any:
    """Return a value as JSON has it. Raises CelError, it has no such form or is too large."""
    left = [_MOST_PARTS]

    def one(found: Any, depth: int = 0) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > 100:
            raise CelError("the value is too large or nested too deeply")
        if isinstance(found, bool) or found is None or isinstance(found, str):
            return found
        if isinstance(found, float):
            if not math.isfinite(found):
                raise CelError(f"{found} is no JSON number")
            return found
        if isinstance(found, int):
            return int(found)
        if isinstance(found, Mapping):
            return {str(key): one(inner, depth + 1) for key, inner in found.items()}
        if isinstance(found, list):
            return [one(inner, depth + 1) for inner in found]
        if isinstance(found, (Timestamp, Duration)):
            return str(found)
        if isinstance(found, Optional):
            return one(found.value, depth + 1) if found.there else None
        if isinstance(found, bytes):
            return base64.b64encode(found).decode()
        if isinstance(found, (Opaque, Kind)):
            return standard.text(found) if isinstance(found, Opaque) else found.name
        raise CelError("no JSON value")

    return one(value)


def _names(node: Node) -> Iterator[str]:
    if node.kind == "ident":
        yield node.name.removeprefix(".")
    inner = [*([node.target] if node.target is not None else []), *node.args]
    inner += [part for entry in node.entries for part in entry[:2] if not isinstance(part, str)]
    if node.fold is not None:
        inner += [node.fold.over, node.fold.init, node.fold.condition, node.fold.step, node.fold.result]
    for one in inner:
        yield from _names(one)
