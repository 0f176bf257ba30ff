"""Functions on texts, version 2 of cel-go's extension (cel-go/ext/strings.go), and regular expressions' `find`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from netlab.apiserver import regular
from netlab.apiserver.cel.declarations import Does
from netlab.apiserver.cel.standard import number, text
from netlab.apiserver.cel.values import Kind, kind

LARGEST = 10 << 20
"""Characters that one text may have that is made of others; a request itself has at most 3 MiB."""
_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LOWER = {b: a for a, b in _UPPER.items()}
_QUOTED = str.maketrans(
    {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\""}
)
_SPACE = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f"
    "\u205f\u3000"
)


class TooLarge(ValueError):
    """A text would take more memory than expressions may."""


def fits(size: int) -> None:
    """Refuse a size that no text may have, before it is made. Raises TooLarge."""
    if size > LARGEST:
        raise TooLarge(f"operation cancelled: a string of more than {LARGEST} characters")


def _char(value: str, index: int) -> str:
    if not 0 <= index <= len(value):
        raise ValueError(f"index out of range: {index}")
    return value[index : index + 1]


def _find(value: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(value):
        raise ValueError(f"index out of range: {start}")
    return value.find(part, start)


def _find_last(value: str, part: str, start: int | None = None) -> int:
    if start is None:
        return value.rfind(part)
    if not 0 <= start <= len(value):
        raise ValueError(f"index out of range: {start}")
    return value.rfind(part, 0, start + len(part))


def _join(items: list[Any], between: str = "") -> str:
    if not all(isinstance(one, str) for one in items):
        raise ValueError("join: invalid input: all items must be strings")
    fits(sum(map(len, items)) + len(between) * len(items))
    return between.join(items)


def _replace(value: str, old: str, new: str, most: int = -1) -> str:
    count = value.count(old) if most < 0 else min(most, value.count(old))
    fits(len(value) + count * max(0, len(new) - len(old)))
    return value.replace(old, new, count)


def _split(value: str, by: str, most: int = -1) -> list[str]:
    if most == 0:
        return []
    if not by:
        return [*value] if most < 0 or most >= len(value) else [*value[: most - 1], value[most - 1 :]]
    return value.split(by, most - 1 if most > 0 else -1)


def _substring(value: str, start: int, end: int | None = None) -> str:
    end = len(value) if end is None else end
    if not 0 <= start <= len(value) or not 0 <= end <= len(value):
        raise ValueError(f"index out of range: {start if not 0 <= start <= len(value) else end}")
    if start > end:
        raise ValueError(f"invalid substring range. start: {start}, end: {end}")
    return value[start:end]


def _quote(value: str) -> str:
    return f'"{value.translate(_QUOTED)}"'


# --- format -----------------------------------------------------------------------------------------------------------


def _format(form: str, args: list[Any]) -> str:
    pieces, size = [], 0
    for piece in _pieces(form, iter(args)):
        size += len(piece)
        fits(size)
        pieces.append(piece)
    return "".join(pieces)


def _pieces(form: str, args: Iterator[Any]) -> Iterator[str]:
    at = 0
    while (found := form.find("%", at)) >= 0:
        yield form[at:found]
        at = found + 1
        if form[at : at + 1] == "%":
            yield "%"
            at += 1
            continue
        precision = None
        if form[at : at + 1] == ".":
            end = at + 1
            while form[end : end + 1].isdigit():
                end += 1
            precision, at = int(form[at + 1 : end][:6] or 0), end
            if precision > 1000:
                raise ValueError("precision exceeds 1000")
        clause = form[at : at + 1]
        at += 1
        if clause not in _CLAUSES or not clause:
            raise ValueError(f'could not parse formatting clause: unrecognized formatting clause "{clause}"')
        value = next(args, _format)
        if value is _format:
            raise ValueError("index out of range: fewer arguments than formatting clauses")
        yield _CLAUSES[clause](value, precision)
    yield form[at:]


def _shown(value: Any, _precision: int | None, depth: int = 0) -> str:
    if isinstance(value, (list, Mapping)):
        return _structure(value, depth)
    if value is None:
        return "null"
    if kind(value) in ("string", "bool", "int", "uint", "double", "bytes", "timestamp", "duration", "type"):
        return value.name if isinstance(value, Kind) else text(value)
    raise ValueError(f"error during formatting: string clause can not be used with {kind(value)}")


def _structure(value: Any, depth: int) -> str:
    """Return a list or map as text, what is in it as literals."""
    if depth > 32:
        raise ValueError("values nested too deeply")
    if isinstance(value, list):
        parts = [_literal(one, depth) for one in value]
    else:
        parts = [f"{key}:{inner}" for key, inner in sorted(
            (_literal(key, depth), _literal(value[key], depth)) for key in value)]
    fits(sum(map(len, parts)))
    return f"[{', '.join(parts)}]" if isinstance(value, list) else f"{{{', '.join(parts)}}}"


def _literal(value: Any, depth: int) -> str:
    match kind(value):
        case "string":
            return _quote(value)
        case "bytes":
            return f"b{_quote(text(value))}"
        case "timestamp" | "duration":
            return f'{kind(value)}("{value}")'
        case "double":
            return f"{value:.6f}" if math.isfinite(value) else f'"{number(value)}"'
    return _shown(value, None, depth + 1)


def _decimal(value: Any, _precision: int | None) -> str:
    if kind(value) not in ("int", "uint", "double"):
        raise ValueError(
            f"error during formatting: decimal clause can only be used on numbers, was given {kind(value)}"
        )
    return number(value) if isinstance(value, float) else str(int(value))


def _fixed(value: Any, precision: int | None) -> str:
    if kind(value) not in ("int", "uint", "double"):
        raise ValueError(
            f"error during formatting: fixed-point clause can only be used on doubles, was given {kind(value)}"
        )
    return f"{float(value):.{6 if precision is None else precision}f}"


def _exponent(value: Any, precision: int | None) -> str:
    if kind(value) not in ("int", "uint", "double"):
        raise ValueError(
            f"error during formatting: scientific clause can only be used on doubles, was given {kind(value)}"
        )
    return f"{float(value):.{6 if precision is None else precision}e}"


def _base(form: str) -> Any:
    def show(value: Any, _precision: int | None) -> str:
        if isinstance(value, bool) and form == "b":
            return "1" if value else "0"
        if isinstance(value, int) and not isinstance(value, bool):
            return format(int(value), form)
        if isinstance(value, (str, bytes)) and form in "xX":
            found = (value.encode("utf-8", "replace") if isinstance(value, str) else value).hex()
            return found.upper() if form == "X" else found
        raise ValueError(f"error during formatting: clause %{form} can not be used with {kind(value)}")

    return show


_CLAUSES = {
    "s": _shown,
    "d": _decimal,
    "f": _fixed,
    "e": _exponent,
    "b": _base("b"),
    "x": _base("x"),
    "X": _base("X"),
    "o": _base("o"),
}

TABLE: list[tuple[str, Does]] = [
    (".charAt(string, int) -> string", _char),
    (".indexOf(string, string) -> int", _find),
    (".indexOf(string, string, int) -> int", _find),
    (".lastIndexOf(string, string) -> int", _find_last),
    (".lastIndexOf(string, string, int) -> int", _find_last),
    (".join(list(string)) -> string", _join),
    (".join(list(string), string) -> string", _join),
    (".lowerAscii(string) -> string", lambda value: value.translate(_LOWER)),
    (".upperAscii(string) -> string", lambda value: value.translate(_UPPER)),
    (".replace(string, string, string) -> string", _replace),
    (".replace(string, string, string, int) -> string", _replace),
    (".split(string, string) -> list(string)", _split),
    (".split(string, string, int) -> list(string)", _split),
    (".substring(string, int) -> string", _substring),
    (".substring(string, int, int) -> string", _substring),
    (".trim(string) -> string", lambda value: value.strip(_SPACE)),
    (".format(string, list(dyn)) -> string", _format),
    ("strings.quote(string) -> string", _quote),
    (".find(string, string) -> string", regular.find),
    (".findAll(string, string) -> list(string)", regular.find_all),
    (".findAll(string, string, int) -> list(string)", regular.find_all),
]
