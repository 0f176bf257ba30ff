"""What nft's expressions are for a packet, and whether it meets a condition: yes, no, a chance, or not known. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from netlab.netfilter import nft_facts
from netlab.netfilter.jhash import jhash
from netlab.netfilter.nft import NftElement, NftTable
from netlab.netfilter.nft_facts import FRAGMENT, Asking, Break, Unknown
from netlab.netfilter.nft_language import statements
from netlab.netfilter.nft_syntax import (
    Binary,
    Concat,
    Constant,
    Dice,
    Expression,
    Hash,
    Mapped,
    Match,
    Select,
    Statement,
    Where,
)
from netlab.netfilter.nft_values import BITMASKS, NotAValue, Pattern, Scalar, fits, number, pattern

Value = tuple[Scalar | None, ...]
"""The parts of a concatenation; one part for what is none. None for a part that is not known."""

Chances = list[tuple[float, Value]]

Learnt = tuple[str, str, str, Value]
"""An element that a rule added to a set: the table's family and name, the set's name, and the key."""

_FULL: Final = 0xFFFFFFFF
_SIZES: Final = {"ipv4_addr": 4, "ipv6_addr": 16, "inet_service": 2, "inet_proto": 1, "mark": 4}


@dataclass
class Elements:
    """The elements of a set or map, ready to be looked into. `types` are those of its key's parts."""

    exact: dict[Value, NftElement] = field(default_factory=dict)
    spans: list[tuple[tuple[Pattern, ...], NftElement]] = field(default_factory=list)
    catchall: NftElement | None = None

    def find(self, key: Value) -> NftElement | None:
        """Return the element that a key falls into.

        Raises:
            Unknown: that depends on a part of the key that is not known.
        """
        if None not in key:
            found = self.exact.get(key)
            if found is not None:
                return found
        likely = False
        for patterns, element in self._candidates(key):
            answers = [fits(part, wanted) for part, wanted in zip(key, patterns, strict=False)]
            if all(answers):
                return element
            likely = likely or False not in answers
        if likely:
            raise Unknown
        return self.catchall

    def _candidates(self, key: Value) -> Iterator[tuple[tuple[Pattern, ...], NftElement]]:
        if None in key:
            for each, element in self.exact.items():
                yield tuple(one if isinstance(one, str) else (one, one) for one in each), element  # type: ignore[misc]
        yield from self.spans


def elements(listed: Mapping[str, NftElement], types: tuple[str, ...]) -> Elements:
    """Make the elements of a set or map ready."""
    made = Elements()
    for text, element in listed.items():
        if text == "*":
            made.catchall = element
            continue
        parts = text.split(" . ")
        kinds = types if len(types) == len(parts) else ("",) * len(parts)
        found = tuple(pattern(part, kind) for part, kind in zip(parts, kinds, strict=True))
        if all(not each.endswith("*") if isinstance(each, str) else each[0] == each[1] for each in found):
            made.exact[tuple(each if isinstance(each, str) else each[0] for each in found)] = element
        else:
            made.spans.append((found, element))
    return made


class Book:
    """A table and what was worked out of it: rules as statements, sets ready to be looked into."""

    def __init__(self, table: NftTable) -> None:
        self.table = table
        self._ready: dict[tuple[object, tuple[str, ...]], tuple[object, Elements]] = {}

    def rule(self, text: str) -> tuple[Statement, ...]:
        """Return the statements of a rule."""
        return statements(text)

    def find(self, where: Where, types: tuple[str, ...], key: Value, learnt: frozenset[Learnt]) -> NftElement | None:
        """Return the element of a set that a key falls into; `learnt` are those that rules have just added."""
        if where.name and (self.table.family, self.table.name, where.name, key) in learnt:
            return NftElement(" . ".join(map(str, key)))
        listed = where.elements if where.elements is not None else self.table.elements(where.name)
        at = (where.name or id(listed), types)
        if at not in self._ready:
            self._ready[at] = listed, elements(listed, types)  # while it is kept, its id is nobody else's
        return self._ready[at][1].find(key)


@dataclass(frozen=True)
class Evaluator:
    """Answers for one packet at one hook."""

    book: Book
    asking: Asking
    learnt: frozenset[Learnt] = frozenset()

    # --- values ------------------------------------------------------------------------------------------------------

    def types(self, expression: Expression) -> tuple[str, ...]:
        """Return the types of an expression's parts; "" where nothing says one."""
        match expression:
            case Select(words):
                return (nft_facts.select(words, self.asking)[0],)
            case Concat(parts):
                return tuple(kind for part in parts for kind in self.types(part))
            case Binary(_, left, _):
                return self.types(left)
        return ("",)

    def values(self, expression: Expression, kind: str = "") -> Chances:
        """Return what an expression may be, each with its part of 1; constants are of the type `kind`.

        Raises:
            Break: the packet has no such field. Unknown: that cannot be told.
        """
        match expression:
            case Select(words):
                return [(1.0, (nft_facts.select(words, self.asking)[1],))]
            case Constant(word):
                found = pattern(word, kind)
                return [(1.0, (found if isinstance(found, str) else found[0],))]
            case Dice(count, offset):
                return [(1 / count, (offset + at,)) for at in range(count)]
            case Hash():
                return self._hashed(expression)
            case Binary(op, left, right):
                return [
                    (share, (self._combined(op, left, value, right, kind),)) for share, value in self.values(left, kind)
                ]
            case Concat(parts):
                found_all: Chances = [(1.0, ())]
                for part in parts:
                    found_all = [
                        (share * more, (*value, *added))
                        for share, value in found_all
                        for more, added in self.values(part)
                    ]
                return found_all
            case Mapped(key, where):
                return [(share, parsed(element.value)) for share, element in self.looked_up(key, where)]
        raise Unknown

    def _combined(self, op: str, left: Expression, value: Value, right: Expression, kind: str) -> int | None:
        kind = kind or self.types(left)[0]
        (_, (second,)), (first,) = self.values(right, kind)[0], value
        if not isinstance(second, int):
            return None
        if op == "&" and kind == FRAGMENT and not second & 0x4000:
            return 0
        if op == "&" and second == 0:
            return 0
        if not isinstance(first, int):
            return None
        return {
            "&": first & second,
            "|": first | second,
            "^": first ^ second,
            "<<": first << second & _FULL,
            ">>": first >> second,
        }[op]

    def looked_up(self, key: Expression, where: Where) -> list[tuple[float, NftElement]]:
        """Return the elements that a key may fall into.

        Raises:
            Break: it falls into none. Unknown: that cannot be told.
        """
        types = self.types(key)
        shares: dict[str, tuple[float, NftElement]] = {}
        for share, value in self.values(key):
            element = self.book.find(where, types, value, self.learnt)
            if element is not None:
                shares[element.key] = (shares.get(element.key, (0.0, element))[0] + share, element)
        if not shares:
            raise Break
        return list(shares.values())

    def _hashed(self, expression: Hash) -> Chances:
        """Return a hash of the packet's: certain where the seed is known."""
        if expression.seed is not None:
            raw = _raw(self.types(expression.key), self.values(expression.key)[0][1])
            if raw:
                at = jhash(raw, expression.seed) * expression.count >> 32
                return [(1.0, (expression.offset + at,))]
        return self.values(Dice(expression.count, expression.offset))

    # --- conditions --------------------------------------------------------------------------------------------------

    def holds(self, match: Match) -> float | None:
        """Return the chance that a condition holds; None when that cannot be told."""
        try:
            return (
                self._set_holds(match, match.right)
                if isinstance(match.right, Where)
                else self._value_holds(match, match.right)
            )
        except Break:
            return 0.0
        except (Unknown, NotAValue):
            return None

    def pair_holds(self, one: Match, other: Match) -> float | None:
        """Return the chance of two `!=` that nft may have made one of, as it does with fields side by side.

        Versions before 1.1 load both fields at once then, and the rule holds where one of them differs: the text does
        not tell. Where it makes no difference there is no doubt.
        """
        first, second = self.holds(one), self.holds(other)
        return first if first == second else None

    def _set_holds(self, match: Match, where: Where) -> float:
        types = self.types(match.left)
        share = 0.0
        for part, value in self.values(match.left):
            share += part * (self.book.find(where, types, value, self.learnt) is not None)
        return 1.0 - share if match.op == "!=" else share

    def _value_holds(self, match: Match, right: Expression) -> float | None:
        kind = self.types(match.left)[0]
        share = 0.0
        for part, value in self.values(match.left):
            answer = self._compared(match, kind, value, right)
            if answer is None:
                return None
            share += part * answer
        return share

    def _compared(self, match: Match, kind: str, value: Value, right: Expression) -> bool | None:
        first = value[0]
        if kind == "oif" and isinstance(right, Constant) and right.word in ("exists", "missing", "0", "1"):
            if first is None:
                return None
            return (bool(first) == (right.word in ("exists", "1"))) != (match.op == "!=")
        if isinstance(right, Constant):
            wanted = pattern(right.word, "ifname" if kind == "oif" else kind)
        else:
            ((_, found),) = self.values(right, kind)
            if found[0] is None:
                return None
            wanted = found[0] if isinstance(found[0], str) else (found[0], found[0])
        bits = kind in BITMASKS and not isinstance(match.left, Binary)
        if bits and first is not None and isinstance(first, int) and not isinstance(wanted, str):
            if match.mask is not None:
                first &= number(match.mask.word, kind)
            elif match.op in ("", "!"):
                return bool(first & wanted[0]) != (match.op == "!")
        if len(value) > 1:
            raise Unknown
        if match.op in ("<", ">", "<=", ">=") and not isinstance(wanted, str):
            if not isinstance(first, int):
                return None
            return {"<": first < wanted[0], ">": first > wanted[0], "<=": first <= wanted[0], ">=": first >= wanted[0]}[
                match.op
            ]
        answer = fits(first, wanted)
        return None if answer is None else answer != (match.op == "!=")


def _raw(types: tuple[str, ...], value: Value) -> bytes:
    """Return a value as registers have it, b"" where that is not known; parts of a concatenation fill whole ones."""
    parts = []
    for kind, part in zip(types, value, strict=True):
        if not isinstance(part, int) or kind not in _SIZES:
            return b""
        parts.append(part.to_bytes(_SIZES[kind], sys.byteorder if kind == "mark" else "big"))
    return parts[0] if len(parts) == 1 else b"".join(part + bytes(-len(part) % 4) for part in parts)


_SIDE_BY_SIDE: Final = (frozenset({"sport", "dport"}), frozenset({"ttl", "protocol"}), frozenset({"type", "code"}),
                        frozenset({"nexthdr", "hoplimit"}))


def side_by_side(one: Statement, other: Statement) -> bool:
    """Tell whether two statements are `!=` on fields of one header that are loaded together."""
    if not (isinstance(one, Match) and isinstance(other, Match) and one.op == other.op == "!="):
        return False
    left, right = one.left, other.left
    return (isinstance(left, Select) and isinstance(right, Select) and left.words[0] == right.words[0]
            and isinstance(one.right, Constant) and isinstance(other.right, Constant)
            and frozenset((left.words[-1], right.words[-1])) in _SIDE_BY_SIDE)


def parsed(text: str) -> Value:
    """Return the data of a map's element by its looks.

    Raises:
        Unknown: it is no constant.
    """
    found: list[Scalar] = []
    for part in text.split(" . "):
        try:
            each = pattern(part)
        except NotAValue:
            raise Unknown from None
        if not isinstance(each, str) and each[0] != each[1]:
            raise Unknown
        found.append(each if isinstance(each, str) else each[0])
    return tuple(found)
