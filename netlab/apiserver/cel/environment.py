"""The environment that expressions are compiled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from netlab.apiserver.cel import functions

_LIMIT = 64 * 1024
_MISSING = re.compile(r'NOT_FOUND: Key not found in map : "(.*)"')
_EXCEEDED = "operation cancelled: actual cost limit exceeded"
"""The library counts the rounds of an expression's loops, nested ones together, and stops it at ten thousand."""
_CODE = re.compile(r"^[A-Z_]+: ")


class CelError(ValueError):
    """An expression does not compile, or has no value for these inputs."""


class Program:
    """A compiled expression. `names` are the variables that it may use."""

    def __init__(self, text: str, compiled: Any, names: tuple[str, ...]) -> None:
        self.text, self.names, self._compiled = text, names, compiled

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Return the expression's value for these variables.

        Raises:
            CelError: it has none: a missing key, a wrong type, a division by zero, more loops than are allowed.
        """
        try:
            found = self._compiled.eval(data=dict(values))
        except RuntimeError as error:
            raise CelError(_EXCEEDED if "budget exceeded" in str(error) else _CODE.sub("", _tidy(str(error)))) from None
        if str(found.type()) == "ERROR":
            raise CelError(_said(str(found.value())))
        return found.plain_value()


@lru_cache(maxsize=2048)
def compile_(text: str, names: tuple[str, ...]) -> Program:
    """Compile an expression over variables of any type.

    Raises:
        CelError: it is no expression, or uses a function or variable that there is not.
    """
    if len(text) > _LIMIT:
        raise CelError(f"the expression is longer than {_LIMIT} characters")
    try:
        return Program(text, _environment(names).compile(text), names)
    except RuntimeError as error:
        raise CelError(_tidy(str(error))) from None


def timestamp(text: str) -> Any:
    """Return the value that a date and time (RFC 3339) has in expressions. Raises ValueError."""
    from google.protobuf.timestamp_pb2 import Timestamp
    found = Timestamp()
    found.FromDatetime(datetime.fromisoformat(text))
    return found


def duration(seconds: float) -> Any:
    """Return the value that a span of time has in expressions."""
    from google.protobuf.duration_pb2 import Duration
    found = Duration()
    found.FromNanoseconds(round(seconds * 1e9))
    return found


def _said(text: str) -> str:
    """Return why there is no value, in the words that Go's implementation has for it."""
    missing = _MISSING.match(text)
    return f"no such key: {missing.group(1)}" if missing else _CODE.sub("", text)


def _tidy(text: str) -> str:
    return text.removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]").strip()


@cache
def _environment(names: tuple[str, ...]) -> Any:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings

    kinds = {"any": cel.Type.DYN, "bool": cel.Type.BOOL, "int": cel.Type.INT, "double": cel.Type.DOUBLE,
             "string": cel.Type.STRING, "list": cel.Type.List(cel.Type.DYN)}

    def overload(name: str, number: int, row: functions.Row) -> Any:
        return cel.Overload(f"netlab_{name.replace('.', '_')}_{number}", kinds[row.returns],
                            [kinds[kind] for kind in row.takes], row.member, _guarded(row.does))

    declared = [cel.FunctionDecl(name, [overload(name, number, row) for number, row in enumerate(rows)])
                for name, rows in functions.TABLE.items()]
    return cel.NewEnv(variables=dict.fromkeys(names, cel.Type.DYN), extensions=[
        ext_strings.ExtStrings(), ext_math.ExtMath(), ext_optional.ExtOptional(), ext_encoders.ExtEncoders(),
        ext_bindings.ExtBindings(), cel.CelExtension("kubernetes", declared)])  # last: it adds to others' functions


def _guarded(does: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        return does(*(_plain(value) for value in given))
    return call


def _plain(value: Any) -> Any:
    """Return an argument as plain Python; containers arrive with their items still wrapped."""
    if hasattr(value, "plain_value"):
        value = value.plain_value()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(item) for item in value]
    return value
