"""Whether a packet meets a rule's condition: one small function per match module.

A module that is not known here gives no answer, and the walk follows both branches. Sources: iptables-extensions(8).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from netlab.netfilter import normalise
from netlab.netfilter.model import Rule
from netlab.netfilter.terms import Term, protocol, terms

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

    `complete` is False when an address that is not listed may be the host's all the same.
    """

    addresses: frozenset[str] = frozenset()
    routes: Mapping[str, Route] = field(default_factory=dict)
    recent: frozenset[tuple[str, str]] = frozenset()
    complete: bool = True

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

    def way(self, address: str, source: str, mark: int = 0, iif: str = "") -> str | None:  # noqa: ARG002
        """Return the interface that leads to an address elsewhere, "" for none; None when that cannot be told."""
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


Chance = float | None
"""The probability that a condition holds: 0.0, 1.0, a die's in between; None when nobody here can tell."""


@lru_cache(maxsize=65536)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


@lru_cache(maxsize=65536)
def within(address: str, network: str) -> bool:
    """Tell whether an address lies in a network; never across families."""
    return ipaddress.ip_address(address) in _network(network)


def chance(rule: Rule, packet: Packet, host: Host) -> Chance:
    """Return the probability that `packet` matches `rule`."""
    result = 1.0
    sure = True
    for module, group in _groups(rule.match):
        test = _MODULES.get(module)
        found = test(group, packet, host) if test else None
        if found == 0.0:
            return 0.0
        if found is None:
            sure = False
        else:
            result *= found
    return result if sure else None


@lru_cache(maxsize=65536)
def _groups(match: str) -> tuple[tuple[str, tuple[Term, ...]], ...]:
    groups: dict[str, list[Term]] = {}
    for term in terms(match):
        groups.setdefault(term.module, []).append(term)
    return tuple((module, tuple(group)) for module, group in groups.items())


def _all(group: Iterable[Term], tests: Mapping[str, Callable[[Term], bool]]) -> Chance:
    """Return whether every option of a module holds; None at an option that is not in the table."""
    sure = True
    for term in group:
        if not term.option:
            continue
        test = tests.get(term.option)
        if test is None:
            sure = False
        elif test(term) == term.negated:
            return 0.0
    return 1.0 if sure else None


def _own(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    unknown = {option for option, name in (("-i", packet.iif), ("-o", packet.oif)) if name == UNKNOWN_INTERFACE}
    if unknown and any(term.option in unknown for term in group):
        rest = _own(tuple(term for term in group if term.option not in unknown), packet, _)
        return 0.0 if rest == 0.0 else None
    return _all(group, {
        "-s": lambda term: _address_in(packet.src, term.value), "-d": lambda term: _address_in(packet.dst, term.value),
        "-p": lambda term: protocol(term.value) in (packet.protocol, "all"),
        "-i": lambda term: _interface(packet.iif, term.value), "-o": lambda term: _interface(packet.oif, term.value),
        "-f": lambda _term: False})


def _address_in(address: str, networks: str) -> bool:
    return any(within(address, net) for net in networks.split(","))


def _interface(name: str, wanted: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("+") else name == wanted


def _ports(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    if group[0].module != packet.protocol:
        return 0.0
    return _all(group, {"--dport": lambda term: _port(packet.dport, term.value),
                        "--sport": lambda term: _port(packet.sport, term.value)})


def _port(port: int, wanted: str) -> bool:
    low, colon, high = wanted.partition(":")
    return int(low or 0) <= port <= int((high or 65535) if colon else low)


def _multiport(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    def among(*ports: int) -> Callable[[Term], bool]:
        return lambda term: any(_port(port, part) for port in ports for part in term.value.split(","))

    return _all(group, {"--dports": among(packet.dport), "--sports": among(packet.sport),
                        "--ports": among(packet.sport, packet.dport)})


def _mark(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    carried = packet.ctmark if group[0].module == "connmark" else packet.mark

    def marked(term: Term) -> bool:
        value, mask = normalise.mark(term.value)
        return carried & mask == value

    return _all(group, {"--mark": marked})


def _conntrack(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    now = {packet.state} | ({"SNAT"} if packet.snat else set()) | ({"DNAT"} if packet.dnat else set())
    test = lambda term: bool(now & set(term.value.split(",")))  # noqa: E731
    return _all(group, {"--ctstate": test, "--state": test})


def _addrtype(group: tuple[Term, ...], packet: Packet, host: Host) -> Chance:
    limited = [term.option for term in group if term.option.startswith("--limit")]
    tested = [term for term in group if not term.option.startswith("--limit")]
    if limited or any(term.value not in ("LOCAL", "UNICAST", "") for term in tested):
        return None
    asked = {packet.src if term.option == "--src-type" else packet.dst for term in tested if term.option}
    if not host.complete and not all(map(host.local, asked)):
        return None

    def kind(address: str) -> Callable[[Term], bool]:
        return lambda term: host.local(address) == (term.value == "LOCAL")

    return _all(tested, {"--src-type": kind(packet.src), "--dst-type": kind(packet.dst)})


def _statistic(group: tuple[Term, ...], _packet: Packet, _host: Host) -> Chance:
    term = next((term for term in group if term.option == "--probability"), None)
    if term is None:
        return None
    share = normalise.probability(term.value) / (1 << 31)
    return 1.0 - share if term.negated else share


def _recent(group: tuple[Term, ...], packet: Packet, host: Host) -> Chance:
    options = {term.option: term for term in group}
    if "--set" in options:
        return 0.0 if options["--set"].negated else 1.0
    asked = options.get("--rcheck") or options.get("--update")
    if asked is None or "--hitcount" in options:
        return None
    name = options["--name"].value if "--name" in options else "DEFAULT"
    address = packet.dst if "--rdest" in options else packet.src
    return float(((name, address) in host.recent) != asked.negated)


def _always(_group: tuple[Term, ...], _packet: Packet, _host: Host) -> Chance:
    return 1.0


_MODULES: Mapping[str, Callable[[tuple[Term, ...], Packet, Host], Chance]] = {
    "": _own, "tcp": _ports, "udp": _ports, "sctp": _ports, "multiport": _multiport, "mark": _mark, "connmark": _mark,
    "conntrack": _conntrack, "state": _conntrack, "addrtype": _addrtype, "statistic": _statistic, "recent": _recent,
    "comment": _always, "nfacct": _always,
}
