"""A packet and a host as rules see them: all that a rule's condition may ask (see matches.py)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from netlab.netfilter.ipsets import IpSet

UNKNOWN_INTERFACE = "?"
"""An `iif` or `oif` of which nobody here knows the name: what asks for it may hold or not."""

State = Literal["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"]


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as netfilter sees it. `iif` and `oif` are interface names, "" while there is none.

    `state` is conntrack's; `snat` and `dnat` tell whether its connection's addresses are rewritten, `original` is the
    connection's first packet (source, port, destination, port), `reply` whether this one goes the other way,
    `confirmed` whether conntrack has it in its table. `flags` are TCP's, `icmp` type and code, `length` bytes: None
    where not known. `here` tells a packet of this host's own.
    """

    src: str
    dst: str
    protocol: str = "tcp"
    sport: int = 0
    dport: int = 0
    iif: str = ""
    oif: str = ""
    mark: int = 0
    state: State = "NEW"
    snat: bool = False
    dnat: bool = False
    ctmark: int = 0
    reply: bool = False
    confirmed: bool = False
    original: tuple[str, int, str, int] | None = None
    flags: int | None = None
    icmp: tuple[int, int] | None = None
    ttl: int | None = None
    length: int | None = None
    here: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Where a destination lies: out of which interface, and which address this host would send from."""

    interface: str
    source: str


@dataclass(frozen=True)
class Host:
    """What rules may ask of the host: its own addresses, its routes, and its `recent` lists (name, address).

    `complete` is False when an address that is not listed may be the host's all the same. `sets` are those of ipset
    whose contents are known.
    """

    addresses: frozenset[str] = frozenset()
    routes: Mapping[str, Route] = field(default_factory=dict)
    recent: frozenset[tuple[str, str]] = frozenset()
    complete: bool = True
    sets: Mapping[str, IpSet] = field(default_factory=dict)

    def local(self, address: str) -> bool:
        """Tell whether an address is this host's."""
        return address in self.addresses or ipaddress.ip_address(address).is_loopback

    def route(self, address: str) -> Route | None:
        """Return the route with the longest prefix, None when there is none."""
        if self.local(address):
            return Route("lo", address)
        found = [(_network(net).prefixlen, route) for net, route in self.routes.items() if within(address, net)]
        return max(found, key=lambda each: each[0])[1] if found else None

    def kind(self, address: str, device: str = "") -> str | None:
        """Return what an address is: local, unicast, broadcast, multicast; None when that cannot be told.

        With a `device` only its own addresses are local.
        """
        if ipaddress.ip_address(address).is_multicast:
            return "multicast"
        if address == "255.255.255.255":
            return "broadcast"
        if self.local(address):
            return None if device else "local"
        return "unicast" if self.complete else None

    def way(self, address: str, source: str, mark: int = 0, iif: str = "", wanted: str = "") -> str | None:  # noqa: ARG002
        """Return the interface that leads to an address elsewhere, "" for none; None when that cannot be told.

        Where a route has several next hops, it is the one that is `wanted`, if that is among them.
        """
        if self.local(address):
            return ""
        found = self.route(address)
        return found.interface if found is not None else ""

    def masquerade(self, interface: str, towards: str) -> str:  # noqa: ARG002
        """Return the address that masquerading gives a packet which leaves by an interface; "" when not known."""
        found = self.route(towards)
        return found.source if found is not None else ""

    def primary(self, interface: str, like: str) -> str:
        """Return an interface's first address of the family that the address `like` is of; "" when not known."""
        return next((route.source for net, route in self.routes.items()
                     if route.interface == interface and (":" in net) == (":" in like)), "")


@lru_cache(maxsize=65536)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


@lru_cache(maxsize=65536)
def within(address: str, network: str) -> bool:
    """Tell whether an address lies in a network; never across families."""
    return ipaddress.ip_address(address) in _network(network)
