"""Two tables of nftables mode compared by what they do, and two nodes in whatever mode each is. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from netlab.inspect import diff, guess, nft_service, nft_words, state
from netlab.inspect.diff import Line, Part
from netlab.inspect.holding import NFTABLES, USERSPACE, Holding
from netlab.inspect.names import Names
from netlab.netfilter import nft
from netlab.netfilter.nft import NftTable
from netlab.proxy import nft_names

_EMPTY = NftTable("ip", "kube-proxy")


def sides(one: Holding, other: Holding, names: Names | None = None) -> tuple[Part, ...]:
    """Return what differs from one node, moment or file to another, Services by name first.

    In one mode that is rule by rule; in two modes what the rules let through, in words, for no rule is like another.
    """
    if one.mode and other.mode and one.mode != other.mode:
        return modes(one, other, names)
    found = list(diff.diff(one.rules, other.rules, names))
    if NFTABLES in (one.mode, other.mode):
        found = _merged(found, tables(one.nft or _EMPTY, other.nft or _EMPTY, names))
    native = [line for sign, here, there in (("-", one, other), ("+", other, one))
              for line in _native(sign, here, there)]
    if native:
        found = _merged(found, (Part("", (), tuple(native)),))
    return tuple(sorted(found, key=lambda part: (not part.service, part.service)))


def modes(one: Holding, other: Holding, names: Names | None = None) -> tuple[Part, ...]:
    """Return what one mode lets through and another does not, Service by Service; () when they serve alike."""
    before, after = (state.of_nft(each.nft) if each.mode == NFTABLES and each.nft is not None
                     else state.of_iptables(each.rules) for each in (one, other))
    if USERSPACE in (one.mode, other.mode):  # who chooses there is kube-proxy itself: its rules say nothing of it
        before, after = _without_endpoints(before), _without_endpoints(after)
    services = sorted({port.partition(" ")[0].partition(":")[0] for port in (*before, *after)})
    parts = []
    for service in services:
        old, new = ({port: each for port, each in found.items() if port.partition(" ")[0].partition(":")[0] == service}
                    for found in (before, after))
        words = tuple(state.told(old, new, names or Names()))
        if words:
            parts.append(Part(service, words, ()))
    places = [_node_ports(each) for each in (one, other)]
    if places[0] != places[1]:
        parts.append(Part("", (f"node ports are served on {places[1]}, on {places[0]} before",), ()))
    return tuple(parts)


def _without_endpoints(states: state.States) -> dict[str, state.State]:
    return {port: replace(each, endpoints={}, affinity=False) for port, each in states.items()}


def _node_ports(held: Holding) -> str:
    """Return in words the addresses at which a node's ports of Services are served."""
    if held.mode == NFTABLES and held.nft is not None:
        listed = ", ".join(held.nft.elements(nft_names.NODEPORT_IPS))
        return listed or "every address of the node but loopback"
    found = guess.settings(held.rules, "IPv6" if held.ipv6 else "IPv4", name=held.node)
    if found.node_addresses:
        return ", ".join(found.node_addresses)
    return "every address of the node" + ("" if found.localhost_node_ports else " but loopback")


def tables(one: NftTable, other: NftTable, names: Names | None = None) -> tuple[Part, ...]:
    """Return what differs between kube-proxy's tables of two nodes or moments."""
    lines: dict[str, list[Line]] = {}
    for sign, here, there in (("-", one, other), ("+", other, one)):
        for service, line in (*_rule_lines(sign, here, there), *_element_lines(sign, here, there)):
            lines.setdefault(service, []).append(line)
    return tuple(Part(service, tuple(state.told(state.of_nft(one, service), state.of_nft(other, service),
                                                names or Names())) if service else (), tuple(listed))
                 for service, listed in lines.items())


def _rule_lines(sign: str, here: NftTable, there: NftTable) -> Iterator[tuple[str, Line]]:
    for chain in here.chains.values():
        left = Counter(nft.meaning(rule.text) for rule in there.chain(chain.name).rules)
        for rule in chain.rules:
            said = nft.meaning(rule.text)
            if left[said]:
                left[said] -= 1
                continue
            service = nft_service.port_of(chain.name)[0].partition(":")[0]
            yield service, Line(sign, here.name, chain.name, rule.line, nft_words.explain(rule.text))


def _element_lines(sign: str, here: NftTable, there: NftTable) -> Iterator[tuple[str, Line]]:
    addresses = {element.key.partition(" . ")[0]: nft_service.owner_of(name, element)[0].partition(":")[0]
                 for name in (nft_names.SERVICE_IPS, nft_names.NO_ENDPOINT_SERVICES)
                 for element in here.elements(name).values()}
    for name, each in here.sets.items():
        if name.startswith("affinity-"):  # what it remembers of clients is no difference
            continue
        others = there.elements(name)
        for key, element in each.elements.items():
            if key in others and others[key].value == element.value:
                continue
            service = nft_service.owner_of(name, element)[0].partition(":")[0] or addresses.get(key, "")
            text = f"{key} : {element.value}" if element.value else key
            yield service, Line(sign, here.name, f"@{name}", text, nft_words.element(name, element))


def _native(sign: str, here: Holding, there: Holding) -> Iterator[Line]:
    left = Counter((table.family, table.name, rule.chain, nft.meaning(rule.text)) for table in there.native
                   for rule in table.rules())
    for table in here.native:
        for rule in table.rules():
            key = (table.family, table.name, rule.chain, nft.meaning(rule.text))
            if left[key]:
                left[key] -= 1
            else:
                yield Line(sign, f"{table.family} {table.name}", rule.chain, rule.line, nft_words.explain(rule.text))


def _merged(one: list[Part], other: tuple[Part, ...]) -> list[Part]:
    found = {part.service: part for part in one}
    for part in other:
        old = found.get(part.service)
        found[part.service] = part if old is None else Part(part.service, (*old.words, *part.words),
                                                            (*old.lines, *part.lines))
    return list(found.values())
