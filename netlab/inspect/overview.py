"""A node's rules in numbers: whose they are, how many, and which are not kube-proxy's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from netlab.inspect import service, words
from netlab.netfilter.model import HOOKS, Rule, Ruleset
from netlab.netfilter.terms import comment

_BUILT_IN = frozenset(hook for hooks in HOOKS.values() for hook in hooks)


@dataclass(frozen=True)
class Foreign:
    """A rule that is not kube-proxy's, with its place. `number` counts from 1 in its chain."""

    table: str
    chain: str
    number: int
    text: str
    words: str
    packets: int
    comment: str = ""


@dataclass(frozen=True)
class Overview:
    """One node's rules. `rules` and `chains` count kube-proxy's own; `backend` is nf_tables or legacy.

    `dropping` are chains with policy DROP, `unjumped` chains of kube-proxy that no rule leads to.
    """

    node: str
    backend: str
    services: int
    ports: int
    endpoints: int
    chains: int
    rules: int
    foreign: tuple[Foreign, ...]
    dropping: tuple[str, ...] = ()
    unjumped: tuple[str, ...] = ()


def overview(node: str, rules: Ruleset) -> Overview:
    """Count and sort what a node holds."""
    chains = owned = 0
    foreign: list[Foreign] = []
    dropping, unjumped = [], []
    for name, table in rules.tables.items():
        callers = table.callers()
        for chain in table.chains.values():
            ours = _is_kubes(chain.name)
            chains += ours
            if chain.policy == "DROP":
                dropping.append(f"{name} {chain.name}")
            if ours and chain.name not in callers and chain.rules:
                unjumped.append(f"{name} {chain.name}")
            for number, rule in enumerate(chain.rules, 1):
                if ours or _is_jump(rule):
                    owned += 1
                else:
                    foreign.append(Foreign(name, chain.name, number, rule.text, words.explain(rule), rule.packets,
                                           comment(rule.match)))
    names = _ports(rules)
    endpoints = sum(chain.startswith("KUBE-SEP-") for chain in rules.table("nat").chains)
    return Overview(node, rules.backend, len({port.partition(":")[0] for port, _ in names}), len(names), endpoints,
                    chains, owned, tuple(foreign), tuple(dropping), tuple(unjumped))


@dataclass(frozen=True)
class Row:
    """One Service port over all nodes. `endpoints` by node; `addresses` such as 10.96.0.10:80."""

    name: str
    protocol: str
    addresses: tuple[str, ...]
    endpoints: Mapping[str, int]
    refused: tuple[str, ...] = ()


def table(nodes: Mapping[str, Ruleset]) -> tuple[Row, ...]:
    """Return a row for each Service port that any node has rules for, by name."""
    found: dict[tuple[str, str], dict[str, tuple[tuple[str, ...], int, bool]]] = {}
    for node, rules in nodes.items():
        for key, entry in _ports(rules).items():
            found.setdefault(key, {})[node] = entry
    rows = []
    for (name, protocol), by_node in sorted(found.items()):
        addresses = dict.fromkeys(each for entry in by_node.values() for each in entry[0])
        rows.append(Row(name, protocol, tuple(addresses), {node: entry[1] for node, entry in by_node.items()},
                        tuple(node for node, entry in by_node.items() if entry[2])))
    return tuple(rows)


def _ports(rules: Ruleset) -> dict[tuple[str, str], tuple[tuple[str, ...], int, bool]]:
    """Return each Service port of a node with its addresses, its number of endpoints and whether it is refused."""
    addresses: dict[tuple[str, str], list[str]] = {}
    spreading: dict[tuple[str, str], str] = {}
    refused = set()
    for table_name, chain in (("nat", "KUBE-SERVICES"), ("filter", "KUBE-SERVICES"), ("nat", "KUBE-NODEPORTS")):
        for rule in rules.chain(table_name, chain).rules:
            name = service.service_of(comment(rule.match))
            if not name:
                continue
            key = (name, _option(rule, "-p"))
            where = _option(rule, "-d").partition("/")[0]
            if not where or chain == "KUBE-SERVICES":
                text = f"{where or 'node'}:{_option(rule, '--dport')}"
                if text not in addresses.setdefault(key, []):
                    addresses[key].append(text)
            if rule.jump.startswith(("KUBE-SVC-", "KUBE-SVL-")):
                spreading[key] = rule.jump
            elif rule.jump in ("REJECT", "DROP"):
                refused.add(key)
    result = {}
    for key, listed in addresses.items():
        ends = {rule.jump for rule in rules.chain("nat", spreading.get(key, "")).rules
                if rule.jump.startswith("KUBE-SEP-")}
        result[key] = (tuple(listed), len(ends), key in refused)
    return result


def _option(rule: Rule, name: str) -> str:
    listed = rule.match.split()
    return next((after for before, after in pairwise(listed) if before == name), "")


def _is_kubes(chain: str) -> bool:
    return chain.startswith("KUBE-")


def _is_jump(rule: Rule) -> bool:
    return rule.chain in _BUILT_IN and _is_kubes(rule.jump)
