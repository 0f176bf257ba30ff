"""What rules do for each Service, said without their mode: so iptables can be compared with nftables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from netlab.inspect import nft_service, shares
from netlab.inspect.names import Names
from netlab.inspect.service import service_of
from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.nft import NftTable
from netlab.netfilter.terms import comment
from netlab.proxy import names as chain_names
from netlab.proxy import nft_names
from netlab.proxy.user_rules import NODE_PORT_CONTAINER, PORTALS_CONTAINER

SERVED, REFUSED, DROPPED = "is served", "is refused", "is dropped"


@dataclass(frozen=True)
class State:
    """What the rules say of one Service port: its addresses with what becomes of them, its endpoints' shares."""

    addresses: Mapping[str, str]
    endpoints: Mapping[str, float]
    affinity: bool = False


States = Mapping[str, State]
"""States by Service port, `default/web:http tcp`."""


def of_iptables(rules: Ruleset, service: str = "") -> dict[str, State]:
    """Return the states of one Service, or of all."""
    addresses: dict[str, dict[str, str]] = {}
    chains: dict[str, dict[str, None]] = {}
    for table, chain in (("nat", chain_names.SERVICES), ("nat", chain_names.NODE_PORTS),
                         ("filter", chain_names.SERVICES), ("filter", chain_names.EXTERNAL_SERVICES),
                         ("nat", PORTALS_CONTAINER), ("nat", NODE_PORT_CONTAINER)):
        for rule in rules.chain(table, chain).rules:
            name = service_of(comment(rule.match))
            if not name or (service and name.partition(":")[0] != service):
                continue
            port, where = _key(rule, name)
            what = {"REJECT": REFUSED, "DROP": DROPPED}.get(rule.jump, SERVED)
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
        result[port] = State(listed, ends, affinity)
    return result


def of_nft(table: NftTable, service: str = "") -> dict[str, State]:
    """Return the states of one Service, or of all, in nftables mode."""
    addresses: dict[str, dict[str, str]] = {}
    chains: dict[str, dict[str, None]] = {}
    for name in (nft_names.SERVICE_IPS, nft_names.SERVICE_NODEPORTS, nft_names.NO_ENDPOINT_SERVICES,
                 nft_names.NO_ENDPOINT_NODEPORTS):
        for each in table.elements(name).values():
            port, protocol = nft_service.owner_of(name, each)
            if not port or (service and port.partition(":")[0] != service):
                continue
            *ip, _, number = each.key.split(" . ")
            key = f"{port} {protocol}"
            what = SERVED
            if name in (nft_names.NO_ENDPOINT_SERVICES, nft_names.NO_ENDPOINT_NODEPORTS):
                what = DROPPED if each.value == "drop" else REFUSED
            addresses.setdefault(key, {})[f"{ip[0]}:{number}" if ip else f"node port {number}"] = what
            _leading(table, each.target, chains.setdefault(key, {}))
    result = {}
    for port, listed in addresses.items():
        ends: dict[str, float] = {}
        for chain in chains[port]:
            for address, share in nft_service.shares(table, chain).items():
                ends.setdefault(address, share)
        result[port] = State(listed, ends, any(nft_service.affine(table, chain) for chain in chains[port]))
    return result


def _leading(table: NftTable, chain: str, found: dict[str, None]) -> None:
    if chain.startswith(("service-", "local-")):
        found[chain] = None
    elif chain.startswith("external-"):
        for rule in table.chain(chain).rules:
            for target in rule.targets:
                _leading(table, target, found)


def _key(rule: Rule, name: str) -> tuple[str, str]:
    """Return a port as `default/web:http tcp` and the address of it that a rule is about."""
    parts = rule.match.split()
    options = {before: after for before, after in pairwise(parts) if before.startswith("-")}
    to = options.get("-d", "").removesuffix("/32").removesuffix("/128")
    address = f"{to}:{options.get('--dport', '')}" if to else f"node port {options.get('--dport', '')}"
    return f"{name} {options.get('-p', '')}", address


def _spreading(rules: Ruleset, chain: str, found: dict[str, None]) -> None:
    """Take in the chains that spread over endpoints, below the one that an address leads to."""
    if chain.startswith(("KUBE-SVC-", "KUBE-SVL-")):
        found[chain] = None
    elif chain.startswith(("KUBE-EXT-", "KUBE-FW-")):
        for rule in rules.chain("nat", chain).rules:
            _spreading(rules, rule.jump, found)


def told(before: States, after: States, names: Names) -> Iterator[str]:
    """Yield what differs from one state to another, in sentences."""
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
