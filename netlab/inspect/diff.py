"""Two states of rules compared by what they do, Service by Service: two nodes, or one before and after a command.

Spelling, counters, comments and the order of rules are no difference. An endpoint that comes changes the dice of all
others, so what is told first is the true share of each endpoint; the rules themselves follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from netlab.inspect import state, words
from netlab.inspect.names import Names
from netlab.inspect.service import service_of
from netlab.inspect.world import meaning
from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.terms import comment
from netlab.proxy import names as chain_names


@dataclass(frozen=True)
class Line:
    """One rule that only one side has: `sign` is + for the second side and - for the first."""

    sign: str
    table: str
    chain: str
    text: str
    words: str


@dataclass(frozen=True)
class Part:
    """What differs about one Service, "" for what belongs to none: `words` in sentences, `lines` by rule."""

    service: str
    words: tuple[str, ...]
    lines: tuple[Line, ...]


def diff(one: Ruleset, other: Ruleset, names: Names | None = None) -> tuple[Part, ...]:
    """Return what differs from one state to another, Services by name first; () when both do the same.

    Args:
        one: the first side, or before.
        other: the second side, or after.
        names: what the API calls the addresses.
    """
    lines: dict[str, list[Line]] = {}
    ports_one, ports_other = _ports(one), _ports(other)
    for table in dict.fromkeys((*one.tables, *other.tables)):
        for sign, here, there, ports in (("-", one, other, ports_one), ("+", other, one, ports_other)):
            left = Counter(meaning(rule) for rule in there.table(table).rules())
            for rule in here.table(table).rules():
                said = meaning(rule)
                if left[said]:
                    left[said] -= 1
                    continue
                name = ports.get(rule.chain) or service_of(comment(rule.match)) if _kubes(rule) else ""
                lines.setdefault(name.partition(":")[0], []).append(
                    Line(sign, table, rule.chain, rule.text, words.explain(rule)))
    policies = tuple(_policies(one, other))
    if policies:
        lines.setdefault("", [])
    found = [Part(service, tuple(state.told(state.of_iptables(one, service), state.of_iptables(other, service),
                                            names or Names())) if service else policies, tuple(listed))
             for service, listed in lines.items()]
    return tuple(sorted(found, key=lambda part: (not part.service, part.service)))


def _kubes(rule: Rule) -> bool:
    return rule.chain.startswith("KUBE-")


def _ports(rules: Ruleset) -> dict[str, str]:
    """Return the Service port of each chain of a Service's, found by the comments of the rules that lead there."""
    found: dict[str, str] = {}
    for chain in (chain_names.SERVICES, chain_names.NODE_PORTS):
        for rule in rules.chain("nat", chain).rules:
            port = service_of(comment(rule.match))
            if port:
                _follow(rules, rule.jump, port, found)
    return found


def _follow(rules: Ruleset, chain: str, port: str, found: dict[str, str]) -> None:
    if chain in found or not chain.startswith(chain_names.SERVICE_PREFIXES):
        return
    found[chain] = port
    for rule in rules.chain("nat", chain).rules:
        _follow(rules, rule.jump, port, found)


def _policies(one: Ruleset, other: Ruleset) -> Iterator[str]:
    for name, table in one.tables.items():
        for chain in table.chains.values():
            there = other.chain(name, chain.name).policy
            if chain.policy and there and chain.policy != there:
                yield f"{name} {chain.name} has policy {there}, {chain.policy} before"
