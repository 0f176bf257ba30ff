"""Kubernetes' own functions on lists, sets, quantities, versions, named formats (k8s.io/apiserver/pkg/cel/library)."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable
from datetime import date
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from netlab.api import names, quantity
from netlab.apiserver.cel.declarations import Does, metered
from netlab.apiserver.cel.standard import equal, holds, unsigned, whole
from netlab.apiserver.cel.values import Duration, Opaque, Optional, UInt, timestamp

QUANTITY, SEMVER, FORMAT = "kubernetes.Quantity", "kubernetes.Semver", "kubernetes.NamedFormat"
_SEMVER = re.compile(
    r"(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?\Z"
)


def can(read: Callable[..., Any]) -> Callable[..., bool]:
    """Return the function that tells whether a text is one of something."""

    def test(*given: Any) -> bool:
        try:
            read(*given)
        except ValueError:
            return False
        return True

    return test


# --- lists and sets ---------------------------------------------------------------------------------------------------


def _sum(items: list[Any]) -> Any:
    if not items:
        return 0
    first = items[0]
    if isinstance(first, Duration):
        return Duration(sum(one.nanos for one in items))
    if isinstance(first, UInt):
        return unsigned(sum(map(int, items)))
    found = sum(items)
    return found if isinstance(found, float) else whole(found)


def _extreme(name: str, choose: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def pick(items: list[Any]) -> Any:
        if not items:
            raise ValueError(f"{name} called on empty list")
        return choose(items)

    return pick


def _place(order: Callable[[int], range]) -> Does:
    @metered
    def find(run: Any, items: list[Any], wanted: Any) -> int:
        return next((at for at in order(len(items)) if equal(run, items[at], wanted)), -1)

    return find


@metered
def _contains(run: Any, items: list[Any], wanted: list[Any]) -> bool:
    run.visit(len(items) * len(wanted))
    return all(holds(run, one, items) for one in wanted)


@metered
def _equivalent(run: Any, a: list[Any], b: list[Any]) -> bool:
    return bool(_contains(run, a, b) and _contains(run, b, a))


@metered
def _intersects(run: Any, a: list[Any], b: list[Any]) -> bool:
    run.visit(len(a) * len(b))
    return any(holds(run, one, b) for one in a)


# --- quantities -------------------------------------------------------------------------------------------------------


def _quantity(text: str) -> Opaque:
    return Opaque(QUANTITY, quantity.parse(text))


def _compare(one: Opaque, other: Opaque) -> int:
    return int(one.value > other.value) - int(one.value < other.value)


def _add(one: Opaque, other: Any) -> Opaque:
    return Opaque(QUANTITY, one.value + (other.value if isinstance(other, Opaque) else quantity.parse(str(other))))


def _sub(one: Opaque, other: Any) -> Opaque:
    return Opaque(QUANTITY, one.value - (other.value if isinstance(other, Opaque) else quantity.parse(str(other))))


def _is_integer(found: Opaque) -> bool:
    amount = found.value.amount
    return bool(amount.denominator == 1 and -(2**63) <= amount < 2**63)


def _integer(found: Opaque) -> int:
    if not _is_integer(found):
        raise ValueError("cannot convert value to integer")
    return int(found.value.amount)


def _sign(found: Opaque) -> int:
    return int(found.value.amount > 0) - int(found.value.amount < 0)


# --- versions ---------------------------------------------------------------------------------------------------------


def _semver(text: str, loose: bool = False) -> Opaque:
    if len(text) > 1024:
        raise ValueError("the version is too long")
    match = _SEMVER.match(_normal(text) if loose else text)
    before = match.group(4).split(".") if match is not None and match.group(4) else []
    if match is None or any(part.isdigit() and len(part) > 1 and part[0] == "0" for part in before):
        raise ValueError(f"invalid semantic version: {text[:80]!r}")
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in before)
    return Opaque(SEMVER, (int(match.group(1)), int(match.group(2)), int(match.group(3)), not parts, parts))


def _normal(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for at, part in enumerate(parts):
        if len(part) > 1:
            rest = part.lstrip("0")
            parts[at] = rest if rest[:1].isdigit() else f"0{rest}"
    if len(parts) < 3 and set(parts[-1]) & set("+-"):
        raise ValueError("short version cannot contain PreRelease/Build meta data")
    return ".".join([*parts, "0", "0"][:3])


# --- formats ----------------------------------------------------------------------------------------------------------


def _prefix(check: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    return lambda text: check(text.removesuffix("-") + "a" if text.endswith("-") else text)


def _said(read: Callable[[str], Any], words: str) -> Callable[[str], list[str]]:
    return lambda text: [] if can(read)(text) else [words]


def _uri(text: str) -> None:
    if not text or not (urlsplit(text).scheme or text.startswith("/")):
        raise ValueError(text)


def _uuid(text: str) -> None:
    if len(text) not in (32, 36):
        raise ValueError(text)
    UUID(text)


_FORMS: dict[str, tuple[Callable[[str], list[str]], int]] = {
    "dns1123Label": (names.dns_label, 30),
    "dns1123Subdomain": (names.dns_subdomain, 60),
    "dns1035Label": (names.dns_1035_label, 30),
    "qualifiedName": (names.qualified_name, 60),
    "dns1123LabelPrefix": (_prefix(names.dns_label), 30),
    "dns1123SubdomainPrefix": (_prefix(names.dns_subdomain), 60),
    "dns1035LabelPrefix": (_prefix(names.dns_1035_label), 30),
    "labelValue": (names.label_value, 40),
    "uri": (lambda text: [] if can(_uri)(text) else [f'parse "{text[:80]}": invalid URI for request'], 1500),
    "uuid": (_said(_uuid, "does not match the UUID format"), 80),
    "byte": (_said(lambda text: base64.b64decode(text, validate=True), "invalid base64"), 80),
    "date": (_said(date.fromisoformat, "invalid date"), 200),
    "datetime": (_said(timestamp, "invalid datetime"), 200),
}
"""The name of a format → what is wrong with a text, and how long the expression is that upstream asks (its cost)."""


def form_size(name: str) -> int:
    """Return how long a format's regular expression is."""
    return _FORMS[name][1]


def _named(name: str) -> Optional:
    return Optional(Opaque(FORMAT, name), True) if name in _FORMS else Optional()


def _judge(found: Opaque, text: str) -> Optional:
    wrong = _FORMS[found.value][0](text)
    return Optional(list(wrong), True) if wrong else Optional()


def _one(name: str) -> Does:
    return lambda: Opaque(FORMAT, name)


TABLE: list[tuple[str, Does]] = [
    (".isSorted(list({c})) -> bool", lambda items: all(a <= b for a, b in itertools.pairwise(items))),
    (".sum(list({s})) -> {s}", _sum),
    (".min(list({c})) -> {c}", _extreme("min", min)),
    (".max(list({c})) -> {c}", _extreme("max", max)),
    (".indexOf(list(A), A) -> int", _place(range)),
    (".lastIndexOf(list(A), A) -> int", _place(lambda size: range(size - 1, -1, -1))),
    ("sets.contains(list(A), list(A)) -> bool", _contains),
    ("sets.equivalent(list(A), list(A)) -> bool", _equivalent),
    ("sets.intersects(list(A), list(A)) -> bool", _intersects),
    (f"quantity(string) -> {QUANTITY}", _quantity),
    ("isQuantity(string) -> bool", can(_quantity)),
    (f".sign({QUANTITY}) -> int", _sign),
    (f".isInteger({QUANTITY}) -> bool", _is_integer),
    (f".asInteger({QUANTITY}) -> int", _integer),
    (f".asApproximateFloat({QUANTITY}) -> double", lambda found: float(found.value.amount)),
    *(
        (f".{name}({QUANTITY}, {other}) -> {QUANTITY}", does)
        for name, does in (("add", _add), ("sub", _sub))
        for other in (QUANTITY, "int")
    ),
    *(
        (f".{name}({kind}, {kind}) -> {result}", does)
        for kind in (QUANTITY, SEMVER)
        for name, result, does in (
            ("isGreaterThan", "bool", lambda a, b: _compare(a, b) > 0),
            ("isLessThan", "bool", lambda a, b: _compare(a, b) < 0),
            ("compareTo", "int", _compare),
        )
    ),
    *(
        (f"{name}({args}) -> {result}", does)
        for args in ("string", "string, bool")
        for name, result, does in (("semver", SEMVER, _semver), ("isSemver", "bool", can(_semver)))
    ),
    *(
        (f".{name}({SEMVER}) -> int", lambda found, at=at: found.value[at])
        for at, name in enumerate(("major", "minor", "patch"))
    ),
    (f"format.named(string) -> optional_type({FORMAT})", _named),
    *((f"format.{name}() -> {FORMAT}", _one(name)) for name in _FORMS),
    (f".validate({FORMAT}, string) -> optional_type(list(string))", _judge),
    ("jsonpatch.escapeKey(string) -> string", lambda text: text.replace("~", "~0").replace("/", "~1")),
]
