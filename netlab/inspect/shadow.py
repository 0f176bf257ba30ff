"""Rules that no packet can reach, because an earlier rule of their chain takes all that they would match.

Only what is certain is told: an earlier rule counts when it always ends the packet's way through the chain and each of
its conditions is one of the later rule's as well. Conditions with a memory or dice (statistic, recent, limit) may say
no to the same packet, and a mark may change on the way, so a rule that has one hides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netlab.inspect.world import conditions, meaning
from netlab.netfilter.model import Chain, Rule, Table

_ENDING = frozenset({"ACCEPT", "DROP", "REJECT", "RETURN", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "QUEUE",
                     "NFQUEUE"})
_FICKLE = frozenset({"statistic", "recent", "limit", "hashlimit", "connlimit", "quota", "time", "mark", "connmark"})


@dataclass(frozen=True)
class Hidden:
    """A rule that never applies, or that says again what one before it says. `number` and `by` count from 1."""

    rule: Rule
    number: int
    by: int
    repeated: bool


def hidden(table: Table, chain: Chain) -> Iterator[Hidden]:
    """Yield the rules of a chain that an earlier one takes everything from, and those that are there twice."""
    hiding: dict[frozenset[object], int] = {}
    seen: dict[object, int] = {}
    for number, rule in enumerate(chain.rules, 1):
        parts = conditions(rule)
        said = meaning(rule)
        fickle = any(part[0] in _FICKLE for part in parts if isinstance(part, tuple))
        by = _hides(hiding, parts)
        if said in seen and not fickle:
            yield Hidden(rule, number, seen[said], repeated=True)
        elif by:
            yield Hidden(rule, number, by, repeated=False)
        seen.setdefault(said, number)
        if not fickle and ends(table, rule, frozenset()):
            hiding.setdefault(parts, number)


def _hides(hiding: dict[frozenset[object], int], parts: frozenset[object]) -> int:
    """Return the first of the ending rules whose conditions are all among `parts`, 0 for none."""
    if len(hiding) < 64:
        return min((number for each, number in hiding.items() if each <= parts), default=0)
    # A long chain: whole sets are looked up instead, those of up to one condition and the very same.
    found = [hiding.get(frozenset()), hiding.get(parts), *(hiding.get(frozenset({part})) for part in parts)]
    return min((number for number in found if number), default=0)


def ends(table: Table, rule: Rule, seen: frozenset[str]) -> bool:
    """Tell whether every packet that matches a rule leaves its chain there."""
    if rule.goto or rule.jump in _ENDING:
        return True
    if rule.jump not in table.chains or rule.jump in seen:
        return False
    for inner in table.chains[rule.jump].rules:
        if inner.jump == "RETURN":
            return False
        if not conditions(inner) and not inner.goto and ends(table, inner, seen | {rule.jump}):
            return True
    return False
