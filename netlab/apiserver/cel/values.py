"""Values of expressions: plain Python where there is such a thing, and small classes for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_NANO = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"(.*[0-9])\.([0-9]{1,9})([^0-9].*)?\Z", re.DOTALL)
_FIRST, _LAST = -62135596800 * _NANO, 253402300799 * _NANO + _NANO - 1
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": _NANO, "m": 60 * _NANO, "h": 3600 * _NANO}
_SPAN = re.compile(r"([-+]?)((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+\Z")
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


class UInt(int):
    """A number without a sign: another type than `int`."""


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """Nanoseconds since 1970."""

    nanos: int

    def __post_init__(self) -> None:
        """Refuse what is outside of the years 1 to 9999."""
        if not _FIRST <= self.nanos <= _LAST:
            raise ValueError("timestamp overflow")

    def __str__(self) -> str:
        whole, rest = divmod(self.nanos, _NANO)
        text = (_EPOCH + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        return text + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """Nanoseconds."""

    nanos: int

    def __post_init__(self) -> None:
        """Refuse what does not fit into 64 bits."""
        if not -(2**63) <= self.nanos < 2**63:
            raise ValueError("duration overflow")

    def __str__(self) -> str:
        whole, rest = divmod(abs(self.nanos), _NANO)
        return ("-" if self.nanos < 0 else "") + str(whole) + (f".{rest:09d}".rstrip("0") if rest else "") + "s"


@dataclass(frozen=True, slots=True)
class Optional:
    """optional.of(value), or optional.none()."""

    value: Any = None
    there: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A type as a value: `type(x)`, `int`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value of a type that only Kubernetes has: `kind` is the type, `value` what it holds."""

    kind: str
    value: Any


class Lazy(Mapping[str, Any]):
    """Variables that are evaluated when they are asked for, once: `compute` maps a name to its value."""

    def __init__(self, names: tuple[str, ...], compute: Any) -> None:
        self._names, self._compute = names, compute
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._known:
            try:
                self._known[name] = True, self._compute(name)
            except ValueError as error:  # and every time from now on
                self._known[name] = False, error
        fine, found = self._known[name]
        if not fine:
            raise found
        return found

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def kind(value: Any) -> str:
    """Return the name of a value's type."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Opaque):
        return value.kind
    return next((name for python, name in _KINDS.items() if isinstance(value, python)), "dyn")


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "bool",
    UInt: "uint",
    int: "int",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    Lazy: "map",
    Timestamp: "timestamp",
    Duration: "duration",
    Optional: "optional_type",
    Kind: "type",
}


def timestamp(text: str) -> Timestamp:
    """Return a date and time (RFC 3339) as a value. Raises ValueError."""
    fraction, match = 0, _FRACTION.match(text)
    if match is not None:
        fraction = int(match.group(2).ljust(9, "0"))
        text = match.group(1) + (match.group(3) or "")
    if len(text) == 10:
        text += "T00:00:00Z"
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        found = _EPOCH.replace(tzinfo=None)
    if found.tzinfo is None:
        raise ValueError(f'parsing time "{text[:80]}" as "2006-01-02T15:04:05Z07:00": cannot parse')
    since = found - _EPOCH
    return Timestamp((since.days * 86400 + since.seconds) * _NANO + fraction)


def duration(text: str) -> Duration:
    """Return a span of time (`1h30m`) as a value. Raises ValueError."""
    if text in ("0", "+0", "-0"):
        return Duration(0)
    if len(text) > 256 or _SPAN.match(text) is None:
        raise ValueError(f'time: invalid duration "{text[:80]}"')
    nanos = sum(
        (int(whole or 0) * _UNITS[unit]) + (int(part[:18] or 0) * _UNITS[unit] // 10 ** len(part[:18]) if part else 0)
        for whole, part, unit in _PART.findall(text)
    )
    return Duration(-nanos if text.startswith("-") else nanos)
