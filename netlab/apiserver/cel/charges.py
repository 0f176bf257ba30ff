"""What a call costs once its values are known (cel-go/interpreter/runtimecost.go, k8s.io/apiserver/pkg/cel/library)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from netlab.apiserver.cel.kubernetes import form_size
from netlab.apiserver.cel.values import Opaque

CHAR, REGEX = 0.1, 0.25
"""Cost of one character that is looked at, and of one character of a regular expression."""
AUTHORIZATION = 350_000
LIST, MAP, STRUCT = 10, 30, 40
Charge = Callable[[tuple[Any, ...], Any], int]


def size(value: Any) -> int:
    """Return what `size()` of a value is, 1 for what has none."""
    if isinstance(value, (str, bytes, list, Mapping)):
        return len(value)
    return (
        len(value.value.packed if hasattr(value.value, "packed") else value.value.ip.packed)
        if isinstance(value, Opaque) and value.kind in ("net.IP", "net.CIDR")
        else 1
    )


def _part(count: float, factor: float) -> int:
    return math.ceil(count * factor)


def _read(times: float = 1, at: int = 0) -> Charge:
    return lambda args, _result: _part(size(args[at]) * times, CHAR)


def _written(args: tuple[Any, ...], result: Any) -> int:
    """Charge for what is read, and for what is written: `replace` may make much of little."""
    return max(_part(size(args[0]) * 2, CHAR), _part(size(result) * 2, CHAR) if isinstance(result, str) else 0)


def _regex(args: tuple[Any, ...], _result: Any) -> int:
    return _part(1 + size(args[0]), CHAR) * _part(size(args[1]), REGEX)


def _smaller(args: tuple[Any, ...], _result: Any) -> int:
    return _part(min(size(args[0]), size(args[1])), CHAR)


def _sum(args: tuple[Any, ...], _result: Any) -> int:
    if isinstance(args[0], (str, bytes)):
        return _part(size(args[0]) + size(args[1]), CHAR)
    return 1


def _walked(args: tuple[Any, ...], _result: Any) -> int:
    if isinstance(args[0], str):
        return _part(len(args[0]), CHAR)
    return sum(_part(len(one), CHAR) if isinstance(one, (str, bytes)) else 1 for one in args[0])


def _sets(times: int) -> Charge:
    return lambda args, _result: 1 + size(args[0]) * size(args[1]) * times


def _network(args: tuple[Any, ...], _result: Any) -> int:
    return _part(2 * size(args[0]), CHAR) + (_part(size(args[1]), CHAR) if isinstance(args[1], str) else 0)


def _ip(args: tuple[Any, ...], _result: Any) -> int:
    return _part(size(args[0]), CHAR) if isinstance(args[0], str) else 1


CHARGES: dict[str, Charge] = {
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _walked),
    **dict.fromkeys(
        (
            "url",
            "isURL",
            "lowerAscii",
            "upperAscii",
            "substring",
            "trim",
            "cidr",
            "isIP",
            "isCIDR",
            "quantity",
            "isQuantity",
            "semver",
            "isSemver",
            "startsWith",
            "endsWith",
            "bytes",
            "strings.quote",
            "jsonpatch.escapeKey",
        ),
        _read(),
    ),
    "string": _ip,
    "ip": _ip,
    "ip.isCanonical": _read(2),
    "replace": _written,
    "split": _written,
    "join": lambda _args, result: _part(size(result) * 2, CHAR),
    "format": lambda args, result: _part(size(args[0]), CHAR) + _part(size(result), CHAR),
    "find": _regex,
    "findAll": _regex,
    "matches": _regex,
    "contains": lambda args, _result: _part(size(args[0]), CHAR) * _part(size(args[1]), CHAR),
    **dict.fromkeys(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"), _smaller),
    "_+_": _sum,
    "@in": lambda args, _result: size(args[1]) if isinstance(args[1], list) else 1,
    "sets.contains": _sets(1),
    "sets.intersects": _sets(1),
    "sets.equivalent": _sets(2),
    "containsIP": _network,
    "containsCIDR": lambda args, result: _network(args, result) + _part(size(args[0]), CHAR) + 1,
    "check": lambda _args, _result: AUTHORIZATION,
    "validate": lambda args, _result: _part(size(args[1]), CHAR) * _part(form_size(args[0].value), REGEX),
}
"""Function → its charge; all others cost 1."""
