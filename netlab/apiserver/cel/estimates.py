"""What calls cost at worst, by the sizes of their operands (cel-go/checker/cost.go, apiserver/pkg/cel/library)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from netlab.apiserver.cel.charges import AUTHORIZATION, CHAR, REGEX
from netlab.apiserver.cel.types import Type

MOST = 2**64 - 1
"""What grows beyond stays there, as in upstream's arithmetic."""


class Range(NamedTuple):
    """From `least` to `most`."""

    least: int
    most: int

    def plus(self, other: Range) -> Range:
        """Add."""
        return Range(min(self.least + other.least, MOST), min(self.most + other.most, MOST))

    def times(self, other: Range) -> Range:
        """Multiply."""
        return Range(min(self.least * other.least, MOST), min(self.most * other.most, MOST))

    def by(self, factor: float) -> Range:
        """Multiply by a factor, rounded up."""
        return Range(_by(self.least, factor), _by(self.most, factor))

    def either(self, other: Range) -> Range:
        """Return the range of both."""
        return Range(min(self.least, other.least), max(self.most, other.most))


def _by(count: int, factor: float) -> int:
    return MOST if count >= MOST and factor >= 1 else min(MOST, math.ceil(float(count) * factor))


UNKNOWN, ZERO, ONE = Range(0, MOST), Range(0, 0), Range(1, 1)


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of an operand: its declared type if it comes from outside, its type, its size."""

    declared: Type | None
    type: Type
    size: Range | None


class Estimate(NamedTuple):
    """Cost of a call, and size of its result where that is known."""

    cost: Range
    size: Range | None = None


def known(part: Part) -> Range:
    """Return an operand's size."""
    return UNKNOWN if part.size is None else part.size


def read(part: Part, times: float = 1) -> Estimate:
    """Charge for looking at all of a text."""
    return Estimate(known(part).by(times * CHAR))


def kept(part: Part) -> Estimate:
    """Charge for a text that is made of one as long."""
    return Estimate(known(part).by(CHAR), known(part))


def walked(part: Part) -> Estimate:
    """Charge for looking at each item."""
    size = known(part)
    if part.type.name != "list":
        return Estimate(size.by(CHAR))
    item = part.type.params[0]
    each = ONE
    if item.name in ("string", "bytes"):
        each = each.plus(_item(part).by(CHAR))
    return Estimate(size.times(each))


def items(outer: Type) -> Type | None:
    """Return the type of what is in a list or map."""
    return outer.params[0] if outer.name == "list" else outer.params[1] if outer.name == "map" else None


def _item(part: Part) -> Range:
    declared = items(part.declared) if part.declared is not None else None
    return Range(0, declared.most) if declared is not None and declared.most is not None else UNKNOWN


def joined(part: Part, between: Range | None) -> Estimate:
    """Charge for the text that a list makes."""
    count = known(part)
    size = count.times(_item(part)) if part.type.params else ZERO
    if between is not None:
        size = size.plus(between.times(Range(max(0, count.least - 1), max(0, count.most - 1))))
    return Estimate(size.by(CHAR), size)


def replaced(part: Part, old: Range, new: Range) -> Estimate:
    """Charge for a text that is made by putting others into it."""
    size = known(part)
    most = _replaced_most(size.most, old.least, new.most)
    least = _replaced_least(size.least, old.most, new.least)
    return Estimate(size.by(2 * CHAR), Range(least, most))


def _replaced_most(size: int, old: int, new: int) -> int:
    if old == 0:
        return min(MOST, min(MOST, size + 1) * new + size)
    return size if new <= old else min(MOST, math.ceil(size / old) * new)


def _replaced_least(size: int, old: int, new: int) -> int:
    if old == 0:
        return min(MOST, min(MOST, size + 1) * new + size)
    return size if old <= new else math.ceil(size / old) * new


def split(part: Part) -> Estimate:
    """Charge for the pieces of a text."""
    size = known(part)
    return Estimate(size.by(2 * CHAR), Range(0, size.most))


def regex(part: Part, form: Range) -> Estimate:
    """Charge for a regular expression."""
    return Estimate(known(part).plus(ONE).by(CHAR).times(form.by(REGEX)), Range(0, known(part).most))


def compared(parts: Sequence[Part]) -> Estimate:
    """Charge for what a comparison looks at."""
    most = min(known(parts[0]).most, known(parts[1]).most)
    return Estimate(Range(1 if most else 0, most).by(CHAR))


def added(takes: Sequence[str], parts: Sequence[Part]) -> Estimate:
    """Charge for two texts or lists that become one."""
    if takes[0] not in ("string", "bytes", "list"):
        return Estimate(ONE)
    size = known(parts[0]).plus(known(parts[1]))
    return Estimate(ONE if takes[0] == "list" else size.by(CHAR), size)


def sets(parts: Sequence[Part], times: int) -> Estimate:
    """Charge for comparing each with each."""
    return Estimate(known(parts[0]).times(known(parts[1])).by(times).plus(ONE))


def within(takes: Sequence[str], parts: Sequence[Part], *, networks: bool) -> Estimate:
    """Charge for comparing addresses, of 4 or 16 bytes."""
    size = Range(4, 16)
    found = size.plus(size).by(CHAR)
    if networks:
        found = found.plus(size.by(CHAR)).plus(ONE)
    return Estimate(found.plus(known(parts[0]).by(CHAR)) if takes[1] == "string" else found)


Does = Callable[[Sequence[str], Part | None, Sequence[Part]], Estimate]


def _on(part: Callable[..., Estimate], *args: float) -> Does:
    """Return an estimator that looks at the target, or at the first argument where there is none."""

    def does(_takes: Sequence[str], target: Part | None, parts: Sequence[Part]) -> Estimate:
        found: Estimate = part(target or parts[0], *args)
        return found

    return does


def _regex(_takes: Sequence[str], target: Part | None, parts: Sequence[Part]) -> Estimate:
    return regex(target or parts[0], known(parts[-1 if target is None else 0]))


ESTIMATES: dict[str, Does] = {
    "check": lambda *_: Estimate(Range(AUTHORIZATION, AUTHORIZATION)),
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _on(walked)),
    **dict.fromkeys(
        ("url", "isURL", "cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _on(read)
    ),
    "ip": lambda takes, target, parts: Estimate(ONE) if takes[0] != "string" else read(target or parts[0]),
    "ip.isCanonical": _on(read, 2),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _on(kept)),
    "replace": lambda _, target, parts: replaced(target or parts[0], known(parts[0]), known(parts[1])),
    "split": _on(split),
    "join": lambda _, target, parts: joined(target or parts[0], known(parts[0]) if parts else None),
    "find": _regex,
    "findAll": _regex,
    "matches": _regex,
    "contains": lambda _, target, parts: Estimate(read(target or parts[0]).cost.times(read(parts[0]).cost)),
    "startsWith": lambda _, __, parts: read(parts[0]),
    "endsWith": lambda _, __, parts: read(parts[0]),
    "bytes": lambda takes, _, parts: (
        Estimate(read(parts[0]).cost, Range(known(parts[0]).least, min(MOST, known(parts[0]).most * 4)))
        if takes[0] == "string"
        else Estimate(ONE)
    ),
    "string": lambda takes, _, parts: (
        Estimate(read(parts[0]).cost, Range(known(parts[0]).least // 4, known(parts[0]).most))
        if takes[0] == "bytes"
        else Estimate(ONE)
    ),
    "strings.quote": lambda _, __, parts: Estimate(
        read(parts[0]).cost, Range(min(MOST, known(parts[0]).least + 2), min(MOST, known(parts[0]).most * 2 + 2))
    ),
    "format": lambda _, target, parts: Estimate(
        read(target or parts[0]).cost, known(target or parts[0]).plus(known(parts[0]))
    ),
    "@in": lambda takes, _, parts: Estimate(known(parts[1]).by(1) if takes[1] == "list" else ONE),
    **dict.fromkeys(("_==_", "_!=_"), lambda _, __, parts: compared(parts)),
    **dict.fromkeys(
        ("_<_", "_<=_", "_>_", "_>=_"),
        lambda takes, _, parts: compared(parts) if takes[0] in ("string", "bytes") else Estimate(ONE),
    ),
    "_+_": lambda takes, _, parts: added(takes, parts),
    "sets.contains": lambda _, __, parts: sets(parts, 1),
    "sets.intersects": lambda _, __, parts: sets(parts, 1),
    "sets.equivalent": lambda _, __, parts: sets(parts, 2),
    "containsIP": lambda takes, _, parts: within(takes, parts, networks=False),
    "containsCIDR": lambda takes, _, parts: within(takes, parts, networks=True),
    "validate": lambda _, __, parts: Estimate(read(parts[0]).cost.times(Range(0, 1500).by(REGEX))),
}
"""Function → the estimate of its own cost; all others cost 1."""
