"""The language's own operators and functions: https://github.com/google/cel-spec/blob/master/doc/langdef.md."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from netlab.apiserver import regular
from netlab.apiserver.cel.declarations import Does, metered
from netlab.apiserver.cel.values import Duration, Kind, Opaque, Optional, Timestamp, UInt, duration, kind, timestamp

_NUMBERS = ("int", "uint", "double")
_WHOLE = re.compile(r"[-+]?[0-9]{1,20}\Z")


# --- numbers ----------------------------------------------------------------------------------------------------------


def whole(value: int) -> int:
    """Return a number that fits into 64 bits. Raises ValueError."""
    if not -(2**63) <= value < 2**63:
        raise ValueError("integer overflow")
    return value


def unsigned(value: int) -> UInt:
    """Return a number without a sign that fits into 64 bits. Raises ValueError."""
    if not 0 <= value < 2**64:
        raise ValueError("unsigned integer overflow")
    return UInt(value)


def _arithmetic(does: Callable[[Any, Any], Any]) -> list[Does]:
    def signed_(a: int, b: int) -> int:
        return whole(does(a, b))

    def unsigned_(a: int, b: int) -> UInt:
        return unsigned(does(int(a), int(b)))

    return [signed_, unsigned_, does]


def quotient(a: int, b: int) -> int:
    """Divide towards zero. Raises ValueError."""
    if b == 0:
        raise ValueError("division by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _rest(a: int, b: int) -> int:
    if b == 0:
        raise ValueError("modulus by zero")
    return abs(a) % abs(b) * (-1 if a < 0 else 1)


def _divide(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def _times(a: float, b: float) -> float:
    return a * b


# --- comparisons ------------------------------------------------------------------------------------------------------


@metered
def equal(run: Any, a: Any, b: Any) -> bool:
    """Tell whether values are equal; values of different types are not, but numbers are numbers."""
    if type(a) is type(b) and not isinstance(a, (list, dict)):
        return (
            bool(a == b)
            if not isinstance(a, Optional)
            else (a.there == b.there and (not a.there or equal(run, a.value, b.value)))
        )
    one, other = kind(a), kind(b)
    if one != other:
        return one in _NUMBERS and other in _NUMBERS and bool(a == b)
    if one == "list":
        run.visit(min(len(a), len(b)))
        return len(a) == len(b) and all(equal(run, x, y) for x, y in zip(a, b, strict=True))
    if one == "map":
        run.visit(min(len(a), len(b)))
        return len(a) == len(b) and all(has(b, key) and equal(run, value, b[key]) for key, value in a.items())
    return bool(a == b)


def has(found: Mapping[Any, Any], key: Any) -> bool:
    """Tell whether a map has a key; to Python `True` and 1 are the same, here they are not."""
    if isinstance(key, bool) or any_bool(found):
        return any(one == key and isinstance(one, bool) == isinstance(key, bool) for one in found)
    return key in found


def any_bool(found: Mapping[Any, Any]) -> bool:
    """Tell whether a map's keys are true and false."""
    return isinstance(next(iter(found), None), bool)


@metered
def holds(run: Any, wanted: Any, items: list[Any]) -> bool:
    """Tell whether a list has a value."""
    return any(equal(run, item, wanted) for item in items)


def _key(wanted: Any, found: Mapping[Any, Any]) -> bool:
    return isinstance(wanted, (str, int, float)) and has(found, wanted)


def _order(compare: Callable[[Any, Any], bool]) -> list[tuple[str, Does]]:
    name = {"lt": "_<_", "le": "_<=_", "gt": "_>_", "ge": "_>=_"}[compare.__name__]
    rows: list[tuple[str, Does]] = [(f"{name}({{c}}, {{c}}) -> bool", compare)]
    rows += [(f"{name}({a}, {b}) -> bool", compare) for a in _NUMBERS for b in _NUMBERS if a != b]
    return rows


def lt(a: Any, b: Any) -> bool:
    return bool(a < b)


def le(a: Any, b: Any) -> bool:
    return bool(a <= b)


def gt(a: Any, b: Any) -> bool:
    return bool(a > b)


def ge(a: Any, b: Any) -> bool:
    return bool(a >= b)


# --- access -----------------------------------------------------------------------------------------------------------


def at(items: list[Any], index: Any) -> Any:
    """Return a list's item. Raises ValueError."""
    if isinstance(index, float) and not index.is_integer():
        raise ValueError(f"unsupported index value: {index}")
    if not 0 <= index < len(items):
        raise ValueError(f"index out of bounds: {int(index)}")
    return items[int(index)]


def of(found: Mapping[Any, Any], key: Any) -> Any:
    """Return a map's value. Raises ValueError, it has no such key."""
    if isinstance(key, (str, int, float)) and has(found, key):
        return found[key]
    raise ValueError(f"no such key: {text(key) if not isinstance(key, (list, dict)) else kind(key)}")


def _maybe_at(items: Any, index: Any) -> Optional:
    if isinstance(items, Optional):
        return _maybe_at(items.value, index) if items.there else items
    if isinstance(items, list):
        return Optional(items[int(index)], True) if isinstance(index, int) and 0 <= index < len(items) else Optional()
    if isinstance(items, Mapping):
        return (
            Optional(items[index], True) if isinstance(index, (str, int, float)) and has(items, index) else Optional()
        )
    raise ValueError("no such overload: _[?_]")


def _index_optional(found: Optional, key: Any) -> Optional:
    return _maybe_at(found, key)


# --- conversions ------------------------------------------------------------------------------------------------------


def _int(value: Any) -> int:
    if isinstance(value, str):
        if _WHOLE.match(value) is None:
            raise ValueError(f'strconv.ParseInt: parsing "{value[:80]}": invalid syntax')
        return whole(int(value))
    if isinstance(value, Timestamp):
        return value.nanos // 10**9
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("integer overflow")
    return whole(int(value))


def _uint(value: Any) -> UInt:
    if isinstance(value, str):
        if _WHOLE.match(value) is None or value[0] in "+-":
            raise ValueError(f'strconv.ParseUint: parsing "{value[:80]}": invalid syntax')
        return unsigned(int(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("unsigned integer overflow")
    return unsigned(int(value))


def _double(value: Any) -> float:
    if isinstance(value, str):
        if len(value) > 1024 or "_" in value or value != value.strip():
            raise ValueError(f'strconv.ParseFloat: parsing "{value[:80]}": invalid syntax')
        try:
            return float(value)
        except ValueError:
            raise ValueError(f'strconv.ParseFloat: parsing "{value[:80]}": invalid syntax') from None
    return float(value)


def _bool(value: str) -> bool:
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{value[:80]}": invalid syntax')


def text(value: Any) -> str:
    """Return what `string(value)` is. Raises ValueError."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError("invalid UTF-8 in bytes, cannot convert to string") from None
    return str(value.value if isinstance(value, Opaque) else value)


def number(value: float) -> str:
    """Return a number's shortest text, as Go's 'g' format has it."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    digits, _, exponent = f"{value!r}".partition("e")
    power = int(exponent) if exponent else (math.floor(math.log10(abs(value))) if value else 0)
    if -4 <= power < 6:
        plain = f"{value!r}" if not exponent else f"{value:.{max(0, len(digits) - 2 - power)}f}"
        return plain.removesuffix(".0")
    if not exponent:
        digits, _, _ = f"{value:.16e}".partition("e")
        digits = digits.rstrip("0").rstrip(".")
    return f"{digits.removesuffix('.0')}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _kind(value: Any) -> Kind:
    return Kind(kind(value))


# --- optional values --------------------------------------------------------------------------------------------------


def _value(found: Optional) -> Any:
    if not found.there:
        raise ValueError("optional.none() dereference")
    return found.value


def _of_non_zero(value: Any) -> Optional:
    empty = value is None or (isinstance(value, (bool, int, float, str, bytes, list, dict)) and not value)
    return Optional() if empty else Optional(value, True)


def insert(found: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    """Put a value into a map that is being made, in place. Raises ValueError, the key is there."""
    if not isinstance(key, (str, int)):
        raise ValueError(f"unsupported key type: {kind(key)}")
    if has(found, key):
        raise ValueError(f"insert failed: key {text(key)} already exists")
    found[key] = value
    return found


def _insert_all(found: dict[Any, Any], more: Mapping[Any, Any]) -> dict[Any, Any]:
    for key, value in more.items():
        insert(found, key, value)
    return found


def _named(line: str, made: list[Does]) -> list[tuple[str, Does]]:
    return [(line.replace("{n}", name), does) for name, does in zip(_NUMBERS, made, strict=False)]


def _regex(value: str, form: str) -> bool:
    return regular.compile_(form).search(value) is not None


@metered
def _unequal(run: Any, a: Any, b: Any) -> bool:
    return not equal(run, a, b)


TABLE: list[tuple[str, Does]] = [
    *_named("_+_({n}, {n}) -> {n}", _arithmetic(lambda a, b: a + b)),
    ("_+_(string, string) -> string", lambda a, b: a + b),
    ("_+_(bytes, bytes) -> bytes", lambda a, b: a + b),
    ("_+_(list(A), list(A)) -> list(A)", lambda a, b: a + b),
    ("_+_(timestamp, duration) -> timestamp", lambda a, b: Timestamp(a.nanos + b.nanos)),
    ("_+_(duration, timestamp) -> timestamp", lambda a, b: Timestamp(a.nanos + b.nanos)),
    ("_+_(duration, duration) -> duration", lambda a, b: Duration(a.nanos + b.nanos)),
    *_named("_-_({n}, {n}) -> {n}", _arithmetic(lambda a, b: a - b)),
    ("_-_(timestamp, timestamp) -> duration", lambda a, b: Duration(a.nanos - b.nanos)),
    ("_-_(timestamp, duration) -> timestamp", lambda a, b: Timestamp(a.nanos - b.nanos)),
    ("_-_(duration, duration) -> duration", lambda a, b: Duration(a.nanos - b.nanos)),
    *_named("_*_({n}, {n}) -> {n}", _arithmetic(_times)),
    *_named("_/_({n}, {n}) -> {n}", [*_arithmetic(quotient)[:2], _divide]),
    *_named("_%_({n}, {n}) -> {n}", _arithmetic(_rest)[:2]),
    ("-_(int) -> int", lambda a: whole(-a)),
    ("-_(double) -> double", lambda a: -a),
    ("!_(bool) -> bool", lambda a: not a),
    ("_==_(A, A) -> bool", equal),
    ("_!=_(A, A) -> bool", _unequal),
    *_order(lt),
    *_order(le),
    *_order(gt),
    *_order(ge),
    ("@in(A, list(A)) -> bool", holds),
    ("@in(A, map(A, B)) -> bool", _key),
    ("_[_](list(A), int) -> A", at),
    ("_[_](map(A, B), A) -> B", of),
    ("_[_](optional_type(list(A)), int) -> optional_type(A)", _index_optional),
    ("_[_](optional_type(map(A, B)), A) -> optional_type(B)", _index_optional),
    ("_[?_](list(A), int) -> optional_type(A)", _maybe_at),
    ("_[?_](map(A, B), A) -> optional_type(B)", _maybe_at),
    ("_[?_](optional_type(list(A)), int) -> optional_type(A)", _maybe_at),
    ("_[?_](optional_type(map(A, B)), A) -> optional_type(B)", _maybe_at),
    *((f"{dot}size({one}) -> int", len) for one in ("string", "bytes", "list(A)", "map(A, B)") for dot in ("", ".")),
    *((f"int({one}) -> int", _int) for one in (*_NUMBERS, "string", "timestamp")),
    *((f"uint({one}) -> uint", _uint) for one in (*_NUMBERS, "string")),
    *((f"double({one}) -> double", _double) for one in (*_NUMBERS, "string")),
    ("bool(bool) -> bool", lambda value: value),
    ("bool(string) -> bool", _bool),
    *((f"string({one}) -> string", text) for one in (*_NUMBERS, "string", "bool", "bytes", "timestamp", "duration")),
    ("bytes(bytes) -> bytes", lambda value: value),
    ("bytes(string) -> bytes", lambda value: value.encode("utf-8", "replace")),
    ("timestamp(timestamp) -> timestamp", lambda value: value),
    ("timestamp(string) -> timestamp", timestamp),
    ("timestamp(int) -> timestamp", lambda value: Timestamp(value * 10**9)),
    ("duration(duration) -> duration", lambda value: value),
    ("duration(string) -> duration", duration),
    ("dyn(A) -> dyn", lambda value: value),
    ("type(A) -> type(A)", _kind),
    (".contains(string, string) -> bool", lambda value, part: part in value),
    (".startsWith(string, string) -> bool", lambda value, part: value.startswith(part)),
    (".endsWith(string, string) -> bool", lambda value, part: value.endswith(part)),
    ("matches(string, string) -> bool", _regex),
    (".matches(string, string) -> bool", _regex),
    ("optional.of(A) -> optional_type(A)", lambda value: Optional(value, True)),
    ("optional.ofNonZeroValue(A) -> optional_type(A)", _of_non_zero),
    ("optional.none() -> optional_type(A)", Optional),
    (".value(optional_type(A)) -> A", _value),
    (".hasValue(optional_type(A)) -> bool", lambda found: found.there),
    (".or(optional_type(A), optional_type(A)) -> optional_type(A)", lambda a, b: a if a.there else b),
    (".orValue(optional_type(A), A) -> A", lambda a, b: a.value if a.there else b),
    (".first(list(A)) -> optional_type(A)", lambda items: Optional(items[0], True) if items else Optional()),
    (".last(list(A)) -> optional_type(A)", lambda items: Optional(items[-1], True) if items else Optional()),
    ("optional.unwrap(list(optional_type(A))) -> list(A)", lambda items: [one.value for one in items if one.there]),
    (".unwrapOpt(list(optional_type(A))) -> list(A)", lambda items: [one.value for one in items if one.there]),
    ("cel.@mapInsert(map(A, B), A, B) -> map(A, B)", insert),
    ("cel.@mapInsert(map(A, B), map(A, B)) -> map(A, B)", _insert_all),
]
"""The operators whose operands are not all evaluated (&&, ||, ?:, field selection) are in check.py and evaluate.py."""
