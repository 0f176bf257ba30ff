"""Two states of rules compared by what they do, Service by Service: two nodes, or one before and after a command.

Spelling, counters, comments and the order of rules are no difference. An endpoint that comes changes the dice of all
others, so what is told first is the true share of each endpoint; the rules themselves follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from netlab.inspect import shares, words
from netlab.inspect.names import Names
from netlab.inspect.service import service_of
from netlab.inspect.world import meaning
from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.terms import comment
from netlab.proxy import names as chain_names

_SPREADING = ("KUBE-SVC-", "KUBE-SVL-")


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
    found = [Part(service, tuple(_told(service, one, other, names or Names())) if service else policies, tuple(listed))
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


@dataclass(frozen=True)
class _State:
    """What the rules say of one Service port: its addresses with what becomes of them, its endpoints' shares."""

    addresses: Mapping[str, str]
    endpoints: Mapping[str, float]
    affinity: bool


def _told(service: str, one: Ruleset, other: Ruleset, names: Names) -> Iterator[str]:
    before, after = _states(service, one), _states(service, other)
    for port in dict.fromkeys((*before, *after)):
        old, new = before.get(port), after.get(port)
        if old is None or new is None:
            there = old or new
            assert there is not None
            what = ", ".join(there.addresses) or "no address"
            count = len(there.endpoints)
            yield (f"{port}: {'gone' if new is None else 'new'}: {what}, "
                   f"{count} endpoint{'s' if count != 1 else ''}")
            continue
        for address in dict.fromkeys((*old.addresses, *new.addresses)):
            was, now = old.addresses.get(address), new.addresses.get(address)
            if was != now:
                yield (f"{port}: {address} {now}, new" if was is None else
                       f"{port}: {address} is gone ({was} before)" if now is None else
                       f"{port}: {address} {now}, {was} before")
        yield from (f"{port}: {text}" for text in _endpoints(old.endpoints, new.endpoints, names))
        if old.affinity != new.affinity:
            yield f"{port}: clients are {'now' if new.affinity else 'no longer'} sent to the endpoint they had before"


def _endpoints(old: Mapping[str, float], new: Mapping[str, float], names: Names) -> Iterator[str]:
    def who(address: str) -> str:
        name = names.of_endpoint(address)
        return f"{address} ({name})" if name else address

    for address in sorted(old.keys() - new.keys()):
        yield f"endpoint {who(address)} is gone, it had {old[address]:.1%}"
    for address in sorted(new.keys() - old.keys()):
        yield f"endpoint {who(address)} is new, it has {new[address]:.1%}"
    changed = {address: (old[address], new[address]) for address in sorted(old.keys() & new.keys())
               if f"{old[address]:.3f}" != f"{new[address]:.3f}"}
    alike = {(f"{was:.1%}", f"{now:.1%}") for was, now in changed.values()}
    if len(changed) > 1 and len(alike) == 1:
        was, now = alike.pop()
        yield f"the {len(changed)} endpoints that stay have {now} each, {was} before"
    else:
        for address, (had, has) in changed.items():
            yield f"endpoint {who(address)} has {has:.1%}, {had:.1%} before"


def _states(service: str, rules: Ruleset) -> dict[str, _State]:
    addresses: dict[str, dict[str, str]] = {}
    chains: dict[str, dict[str, None]] = {}
    for table, chain in (("nat", chain_names.SERVICES), ("nat", chain_names.NODE_PORTS),
                         ("filter", chain_names.SERVICES), ("filter", chain_names.EXTERNAL_SERVICES)):
        for rule in rules.chain(table, chain).rules:
            name = service_of(comment(rule.match))
            if not name or name.partition(":")[0] != service:
                continue
            port, where = _key(rule, name)
            what = {"REJECT": "is refused", "DROP": "is dropped"}.get(rule.jump, "is served")
            addresses.setdefault(port, {})[where] = what
            _spreading(rules, rule.jump, chains.setdefault(port, {}))
    result = {}
    for port, listed in addresses.items():
        ends: dict[str, float] = {}
        affinity = False
        for name in chains[port]:
            found = rules.chain("nat", name)
            affinity = affinity or any("--rcheck" in rule.match for rule in found.rules)
            for share in shares.of_chain(found):
                address = shares.destination(rules.chain("nat", share.chain).rules)
                ends.setdefault(address or share.chain, share.nominal)
        result[port] = _State(listed, ends, affinity)
    return result


def _key(rule: Rule, name: str) -> tuple[str, str]:
    """Return a port as `default/web:http tcp` and the address of it that a rule is about."""
    parts = rule.match.split()
    options = {before: after for before, after in pairwise(parts) if before.startswith("-")}
    to = options.get("-d", "").partition("/")[0]
    address = f"{to}:{options.get('--dport', '')}" if to else f"node port {options.get('--dport', '')}"
    return f"{name} {options.get('-p', '')}", address


def _spreading(rules: Ruleset, chain: str, found: dict[str, None]) -> None:
    if chain.startswith(_SPREADING):
        found[chain] = None
    elif chain.startswith(("KUBE-EXT-", "KUBE-FW-")):
        for rule in rules.chain("nat", chain).rules:
            _spreading(rules, rule.jump, found)


def _policies(one: Ruleset, other: Ruleset) -> Iterator[str]:
    for name, table in one.tables.items():
        for chain in table.chains.values():
            there = other.chain(name, chain.name).policy
            if chain.policy and there and chain.policy != there:
                yield f"{name} {chain.name} has policy {there}, {chain.policy} before"
