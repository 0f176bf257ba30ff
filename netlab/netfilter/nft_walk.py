"""A packet's way through a chain of nftables: which rules it meets, and what becomes of it. Pure.

Like `walk`, this goes every way where rules throw dice, and both ways where a rule asks what cannot be told; such a way
is not certain, and says by the rule's own words what it was. Only a base chain's end is an end: accept ends that chain
and no other, a drop ends all (nft(8), VERDICT STATEMENT).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from netlab.netfilter.going import NftHit, Outcome, Walking
from netlab.netfilter.matching import Host
from netlab.netfilter.nft import NftElement, NftRule
from netlab.netfilter.nft_eval import Book, Chances, Evaluator, side_by_side
from netlab.netfilter.nft_facts import Asking, Break, Unknown
from netlab.netfilter.nft_nat import translations
from netlab.netfilter.nft_syntax import (
    Harmless,
    Match,
    Nat,
    NoTrack,
    Reject,
    SetMark,
    Statement,
    Unsaid,
    Update,
    Verdict,
    VerdictMap,
)
from netlab.netfilter.nft_values import NotAValue
from netlab.netfilter.targets import destined, sourced

_BREAK: Final = "BREAK"
_ON: Final = "CONTINUE"


@dataclass(frozen=True, slots=True)
class _End:
    """What a rule decided: BREAK, CONTINUE or a verdict, with the chain it leads to and the element that said so."""

    verb: str
    chain: str = ""
    element: NftElement | None = None


_Step = tuple[_End, Walking]


def base_chain(book: Book, name: str, going: Walking, host: Host) -> Iterator[Outcome]:
    """Lead a packet through one base chain; those that pass it have the verdict PASS."""
    chain = book.table.chain(name)
    for verdict, after in _Walker(book, host, chain.hook.upper()).chain(name, going):
        final = verdict or chain.policy.upper()
        dead = final in ("DROP", "REJECT")
        yield Outcome.of(final if dead else "PASS", after, f"{book.table.name} {name}" if dead else "")  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Walker:
    """One table, walked by one packet at one hook."""

    book: Book
    host: Host
    hook: str

    def chain(self, name: str, going: Walking, start: int = 0) -> Iterator[tuple[str, Walking]]:
        """Walk a chain from its rule number `start`; yield ACCEPT, DROP, REJECT, or "" at its end."""
        listed = self.book.table.chain(name).rules
        for at in range(start, len(listed)):
            missed: list[Walking] = []
            for end, after in self.rule(listed[at], going):
                if end.verb == _BREAK:
                    missed.append(after)
                elif end.verb in ("ACCEPT", "DROP", "REJECT"):
                    yield end.verb, after
                elif end.verb == "RETURN":
                    yield "", after
                elif end.verb in ("JUMP", "GOTO"):
                    for verdict, back in self.chain(end.chain, after):
                        if verdict or end.verb == "GOTO":
                            yield verdict, back
                        else:
                            yield from self.chain(name, back, at + 1)
                else:
                    missed.append(after)
            if len(missed) != 1:
                for each in missed:
                    yield from self.chain(name, each, at + 1)
                return
            going = missed[0]
        yield "", going

    def rule(self, rule: NftRule, going: Walking) -> Iterator[_Step]:
        """Ask one rule; what it matches is written down."""
        for end, after in self.statements(self.book.rule(rule.text), 0, going, rule):
            if end.verb == _BREAK:
                yield end, after
                continue
            hit = NftHit(self.book.table.name, rule.chain, rule, end.verb, end.chain or _deed(rule), end.element)
            yield end, replace(after, hits=(*after.hits, hit))

    def statements(self, listed: tuple[Statement, ...], at: int, going: Walking, rule: NftRule) -> Iterator[_Step]:
        """Obey the statements of a rule from number `at`."""
        if at == len(listed):
            yield _End(_ON), going
            return
        one, step = listed[at], 1
        if at + 1 < len(listed) and side_by_side(one, listed[at + 1]):
            ends, step = self._match(one, going, rule, listed[at + 1]), 2
        else:
            ends = self.statement(one, going, rule)
        for end, after in ends:
            if end.verb == _ON:
                yield from self.statements(listed, at + step, after, rule)
            else:
                yield end, after

    def statement(self, one: Statement, going: Walking, rule: NftRule) -> Iterator[_Step]:
        """Obey one statement; CONTINUE leads to the next one of the rule."""
        match one:
            case Match():
                yield from self._match(one, going, rule)
            case Verdict(verb, chain):
                yield _End(verb.upper(), chain), going
            case VerdictMap():
                yield from self._verdicts(one, going, rule)
            case SetMark():
                yield from self._marked(one, going, rule)
            case Nat():
                yield from self._translated(one, going, rule)
            case Reject(kind):
                yield _End("REJECT"), replace(going, reject=kind)
            case Update():
                yield from self._update(one, going, rule)
            case NoTrack():
                fresh = going.packet.state == "INVALID"
                yield _End(_ON), replace(going, packet=replace(going.packet, state="UNTRACKED")) if fresh else going
            case Harmless():
                yield _End(_ON), going
            case Unsaid(words, stops):
                doubtful = self._doubt(going, words, rule)
                if not stops:
                    yield _End(_BREAK), doubtful
                elif words.startswith("queue"):
                    yield _End("DROP"), doubtful
                yield _End(_ON), doubtful

    def _doubt(self, going: Walking, words: str, rule: NftRule) -> Walking:
        return going.doubtful(words, f"{self.book.table.family} {self.book.table.name}", rule.chain)

    def _evaluator(self, going: Walking) -> Evaluator:
        return Evaluator(self.book, Asking(going.packet, self.host, self.hook, self.book.table.family), going.learnt)

    def _match(self, one: Statement, going: Walking, rule: NftRule, beside: Statement | None = None) -> Iterator[_Step]:
        assert isinstance(one, Match)
        asking, text = self._evaluator(going), one.text
        if isinstance(beside, Match):
            chance, text = asking.pair_holds(one, beside), f"{text} {beside.text}"
        else:
            chance = asking.holds(one)
        if chance is None:
            doubtful = self._doubt(going, text, rule)
            yield _End(_ON), doubtful
            yield _End(_BREAK), doubtful
            return
        if chance > 0.0:
            yield _End(_ON), _thinner(going, chance)
        if chance < 1.0:
            yield _End(_BREAK), _thinner(going, 1.0 - chance)

    def _verdicts(self, one: VerdictMap, going: Walking, rule: NftRule) -> Iterator[_Step]:
        try:
            found = self._evaluator(going).looked_up(one.key, one.where)
        except Break:
            found = []
        except (Unknown, NotAValue):
            doubtful = self._doubt(going, one.text, rule)
            for end in self._any_verdict(one):
                yield end, doubtful
            yield _End(_BREAK), doubtful
            return
        left = 1.0
        for share, element in found:
            left -= share
            yield _said(element), _thinner(going, share)
        if left > 1e-9:
            yield _End(_BREAK), _thinner(going, left)

    def _any_verdict(self, one: VerdictMap) -> list[_End]:
        """Return each verdict that a map could give, once."""
        listed = one.where.elements if one.where.elements is not None else self.book.table.elements(one.where.name)
        return list({element.value: _said(element) for element in listed.values()}.values())

    def _marked(self, one: SetMark, going: Walking, rule: NftRule) -> Iterator[_Step]:
        for share, after in self._values(one.value, "mark", going, one.text, rule):
            if after is None:
                yield _End(_BREAK), going
                continue
            value, walking = after
            if one.of == "meta":
                walking = replace(walking, packet=replace(walking.packet, mark=value))
            elif walking.packet.state not in ("INVALID", "UNTRACKED"):
                walking = replace(walking, packet=replace(walking.packet, ctmark=value))
            yield _End(_ON), _thinner(walking, share)

    def _values(
        self, expression: object, kind: str, going: Walking, text: str, rule: NftRule
    ) -> Iterator[tuple[float, tuple[int, Walking] | None]]:
        try:
            found: Chances = self._evaluator(going).values(expression, kind)  # type: ignore[arg-type]
        except Break:
            yield 1.0, None
            return
        except (Unknown, NotAValue):
            found = [(1.0, (None,))]
        shares: dict[object, float] = {}
        for share, value in found:
            shares[value[0]] = shares.get(value[0], 0.0) + share
        for number, share in shares.items():
            if isinstance(number, int):
                yield share, (number, going)
            else:  # the mark stays here what it was
                yield share, (going.packet.mark, self._doubt(going, text, rule))

    def _translated(self, one: Nat, going: Walking, rule: NftRule) -> Iterator[_Step]:
        asking = self._evaluator(going)
        if one.family and one.family != asking.asking.version:
            yield _End(_ON), going  # a table of both families rewrites only the one that is named
            return
        try:
            found = translations(one, asking)
        except Break:
            yield _End(_BREAK), going
            return
        except (Unknown, NotAValue):
            yield _End("ACCEPT"), self._doubt(replace(going, bound=True), one.text, rule)
            return
        left = 1.0
        for share, address, port, element in found:
            left -= share
            give = destined if one.verb in ("dnat", "redirect") else sourced
            yield _End("ACCEPT", element=element), _thinner(give(going, address, port), share)
        if left > 1e-9:
            yield _End(_BREAK), _thinner(going, left)

    def _update(self, one: Update, going: Walking, rule: NftRule) -> Iterator[_Step]:
        table = self.book.table
        try:
            ((_, key), *more) = self._evaluator(going).values(one.key)
        except Break:
            yield _End(_BREAK), going
            return
        except (Unknown, NotAValue):
            more, key = [(0.0, (None,))], (None,)
        if more or None in key or one.more or one.verb == "delete":
            doubtful = self._doubt(going, f"{one.verb} @{one.name} {one.more}".rstrip(), rule)
            if one.more:
                yield _End(_BREAK), doubtful
            yield _End(_ON), doubtful
            return
        yield _End(_ON), replace(going, learnt=going.learnt | {(table.family, table.name, one.name, key)})


def _thinner(going: Walking, share: float) -> Walking:
    return going if share == 1.0 else replace(going, probability=going.probability * share)


def _said(element: NftElement) -> _End:
    verb, _, chain = element.value.partition(" ")
    return _End(verb.upper(), chain, element)


def _deed(rule: NftRule) -> str:
    """Return what a rule does, as iptables calls it; "" for nothing that ends a way."""
    words = rule.text.split()
    return next(
        (
            word.upper()
            for word in ("dnat", "snat", "masquerade", "redirect", "reject", "drop", "accept")
            if word in words
        ),
        "",
    )
