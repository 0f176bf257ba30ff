"""What nftables' nat statements make of a packet's addresses. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from netlab.netfilter.nft import NftElement
from netlab.netfilter.nft_eval import Evaluator, parsed
from netlab.netfilter.nft_facts import Unknown
from netlab.netfilter.nft_syntax import Constant, Expression, Mapped, Nat
from netlab.netfilter.nft_values import Pattern, address, pattern
from netlab.netfilter.targets import redirected

_MOST: Final = 64
"""Addresses or ports of a range that are followed; a longer one is not."""

Translation = tuple[float, str, int, NftElement | None]
"""Its part of 1, the new address ("" as before), the new port (0 as before), and the map's element that said so."""


def translations(nat: Nat, evaluator: Evaluator) -> list[Translation]:
    """Return what a nat statement may do.

    Raises:
        Break: its map has nothing for the packet. Unknown: that cannot be told.
    """
    packet, host = evaluator.asking.packet, evaluator.asking.host
    found: list[Translation] = [(1.0, "", 0, None)]
    if nat.verb == "masquerade":
        found = [(1.0, host.masquerade(packet.oif, packet.dst), 0, None)]
    elif nat.verb == "redirect":
        found = [(1.0, redirected(packet, host), 0, None)]
    elif nat.to is not None:
        found = list(_addresses(nat, nat.to, evaluator))
    ports = list(_ports(nat, evaluator)) if nat.port else []
    if not ports:
        return found
    return [(share * part, ip, port, element) for share, ip, _, element in found for part, port in ports]


def _addresses(nat: Nat, to: Expression, evaluator: Evaluator) -> Iterator[Translation]:
    version = evaluator.asking.version
    if isinstance(to, Constant):
        for share, number in _one_of(pattern(to.word)):
            yield share, address(number, version), 0, None
        return
    if isinstance(to, Mapped):
        for share, element in evaluator.looked_up(to.key, to.where):
            if nat.prefix:
                yield share, _netmap(nat, element, evaluator), 0, element
                continue
            value = parsed(element.value)
            if not isinstance(value[0], int):
                raise Unknown
            port = value[1] if len(value) > 1 else 0
            yield share, address(value[0], version), port if isinstance(port, int) else 0, element
        return
    for share, value in evaluator.values(to):
        if not all(isinstance(part, int) for part in value):
            raise Unknown
        yield share, address(int(value[0] or 0), version), int(value[1] or 0) if len(value) > 1 else 0, None


def _netmap(nat: Nat, element: NftElement, evaluator: Evaluator) -> str:
    """Return the address at the same place in another network."""
    packet = evaluator.asking.packet
    network = ipaddress.ip_network(element.value, strict=False)
    old = int(ipaddress.ip_address(packet.src if nat.verb == "snat" else packet.dst))
    return address(int(network[0]) | old & int(network.hostmask), evaluator.asking.version)


def _ports(nat: Nat, evaluator: Evaluator) -> Iterator[tuple[float, int]]:
    """Yield the ports that a connection may get. A source's port is any that is free: it is left as it is."""
    packet = evaluator.asking.packet
    if not isinstance(nat.port, str):
        for share, value in evaluator.values(nat.port):
            if not isinstance(value[0], int):
                raise Unknown
            yield share, value[0]
        return
    if nat.verb in ("snat", "masquerade"):
        yield 1.0, packet.sport
        return
    span = pattern(nat.port)
    if isinstance(span, str):
        raise Unknown
    if nat.flags & {"random", "fully-random"}:
        yield from _one_of(span)
    else:  # nf_nat_core.c: what is in the range already stays, else its first port is taken if it is free
        yield 1.0, packet.dport if span[0] <= packet.dport <= span[1] else span[0]


def _one_of(span: Pattern) -> Iterator[tuple[float, int]]:
    """Yield each number of a range: which one it is depends on a hash of both ends."""
    if isinstance(span, str) or span[1] - span[0] >= _MOST:
        raise Unknown
    count = span[1] - span[0] + 1
    for number in range(span[0], span[1] + 1):
        yield 1 / count, number
