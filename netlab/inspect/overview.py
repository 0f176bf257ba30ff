"""A node's rules in numbers: whose they are, how many, and which are not kube-proxy's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from netlab.inspect import nft_service, nft_words, service, words
from netlab.netfilter.model import HOOKS, Rule, Ruleset
from netlab.netfilter.nft import NftChain, NftRule, NftTable
from netlab.netfilter.terms import comment
from netlab.proxy import nft_layout, nft_names

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


def of_native(table: NftTable, chain: NftChain, number: int, rule: NftRule) -> Foreign:
    """Return a rule of a table of nft's that is not kube-proxy's."""
    where = f"{chain.name} ({chain.hook})" if chain.hook else chain.name
    return Foreign(f"{table.family} {table.name}", where, number, rule.text, nft_words.explain(rule.text),
                   rule.packets or 0, rule.comment)


def of_nft(node: str, table: NftTable, foreign: tuple[Foreign, ...]) -> Overview:
    """Count and sort what a node holds in nftables mode; elements of maps count as rules.

    Args:
        node: its name.
        table: kube-proxy's.
        foreign: what is not kube-proxy's, found elsewhere.
    """
    ports = nft_ports(table)
    strange, chains, callers = [], 0, table.callers()
    for chain in table.chains.values():
        if chain.name in nft_layout.HOOKS or chain.name in NFT_CHAINS or nft_service.port_of(chain.name)[0]:
            chains += 1
        else:
            strange += [of_native(table, chain, number, rule) for number, rule in enumerate(chain.rules, 1)]
    unjumped = tuple(f"{table.name} {chain.name}" for chain in table.chains.values()
                     if chain.rules and not chain.hook and chain.name not in callers and chain.name not in NFT_CHAINS)
    ends = {end for chain in table.chains if chain.startswith(("service-", "local-"))
            for end in nft_service.shares(table, chain)}
    count = sum(len(chain.rules) for chain in table.chains.values()) - len(strange)
    count += sum(len(each.elements) for name, each in table.sets.items() if not name.startswith("affinity-"))
    dropping = tuple(f"{table.name} {chain.name}" for chain in table.chains.values() if chain.policy == "drop")
    return Overview(node, "nftables", len({name.partition(":")[0] for name, _ in ports}), len(ports), len(ends), chains,
                    count, (*strange, *foreign), dropping, unjumped)


NFT_CHAINS = frozenset({nft_names.REJECT, "services", "masquerading", "nodeport-endpoints-check",
                        "service-endpoints-check", "firewall-check", "cluster-ips-check"})
"""Chains of kube-proxy's table that have no hook and belong to no Service."""


def nft_ports(table: NftTable) -> dict[tuple[str, str], tuple[tuple[str, ...], int, bool]]:
    """Return each Service port of a table with its addresses, its number of endpoints and whether it is refused."""
    addresses: dict[tuple[str, str], dict[str, None]] = {}
    ends: dict[tuple[str, str], int] = {}
    refused = set()
    for name in (nft_names.SERVICE_IPS, nft_names.NO_ENDPOINT_SERVICES, nft_names.SERVICE_NODEPORTS):
        for each in table.elements(name).values():
            key = nft_service.owner_of(name, each)
            if not key[0]:
                continue
            *ip, _, number = each.key.split(" . ")
            addresses.setdefault(key, {})[f"{ip[0] if ip else 'node'}:{number}"] = None
            if each.target.startswith(("service-", "local-")):
                ends[key] = len(nft_service.shares(table, each.target))
            if name == nft_names.NO_ENDPOINT_SERVICES:
                refused.add(key)
    return {key: (tuple(listed), ends.get(key, 0), key in refused) for key, listed in addresses.items()}


@dataclass(frozen=True)
class Row:
    """One Service port over all nodes. `endpoints` by node; `addresses` such as 10.96.0.10:80."""

    name: str
    protocol: str
    addresses: tuple[str, ...]
    endpoints: Mapping[str, int]
    refused: tuple[str, ...] = ()


def table(nodes: Mapping[str, Ruleset | NftTable]) -> tuple[Row, ...]:
    """Return a row for each Service port that any node has rules for, by name."""
    found: dict[tuple[str, str], dict[str, tuple[tuple[str, ...], int, bool]]] = {}
    for node, rules in nodes.items():
        for key, entry in (nft_ports(rules) if isinstance(rules, NftTable) else _ports(rules)).items():
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
    for table_name, chain in (("nat", "KUBE-SERVICES"), ("filter", "KUBE-SERVICES"), ("nat", "KUBE-NODEPORTS"),
                              ("nat", "KUBE-PORTALS-CONTAINER"), ("nat", "KUBE-NODEPORT-CONTAINER")):
        for rule in rules.chain(table_name, chain).rules:
            name = service.service_of(comment(rule.match))
            if not name:
                continue
            key = (name, _option(rule, "-p"))
            where = _option(rule, "-d").partition("/")[0]
            if not where or chain in ("KUBE-SERVICES", "KUBE-PORTALS-CONTAINER"):
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
