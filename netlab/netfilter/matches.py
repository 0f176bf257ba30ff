"""Whether a packet meets a rule's condition: one small function per match module.

A module that is not known here gives no answer, and the walk follows both branches. Sources: iptables-extensions(8),
and the modules' match functions (net/netfilter/xt_*.c) where that is not exact.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final

from netlab.netfilter import icmp_types, ipsets, normalise
from netlab.netfilter.matching import UNKNOWN_INTERFACE, Host, Packet, within
from netlab.netfilter.model import Rule
from netlab.netfilter.terms import Term, protocol, terms

Chance = float | None
"""The probability that a condition holds: 0.0, 1.0, a die's in between; None when nobody here can tell."""


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


def _all(group: Iterable[Term], tests: Mapping[str, Callable[[Term], bool | None]]) -> Chance:
    """Return whether every option of a module holds; None at an option that is not in the table, or not answered."""
    sure = True
    for term in group:
        if not term.option:
            continue
        test = tests.get(term.option)
        found = test(term) if test is not None else None
        if found is None:
            sure = False
        elif found == term.negated:
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
                        "--sport": lambda term: _port(packet.sport, term.value),
                        "--tcp-flags": lambda term: _flagged(packet, *term.values[:2]),
                        "--syn": lambda _term: _flagged(packet, "FIN,SYN,RST,ACK", "SYN")})


_TCP_FLAGS: Final = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128, "ALL": 63,
                     "NONE": 0}


def _flagged(packet: Packet, mask: str = "", wanted: str = "") -> bool | None:
    """Tell whether of the flags in `mask` those that are `wanted` are set, and no others."""
    looked, must = (_flags(text) for text in (mask, wanted))
    if packet.flags is None or looked is None or must is None:
        return None
    return packet.flags & looked == must


def _flags(text: str) -> int | None:
    found = [_TCP_FLAGS.get(name) for name in text.split(",")]
    return None if None in found else sum({each for each in found if each})


def _icmp(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    six = group[0].module != "icmp"
    if packet.protocol != ("icmpv6" if six else "icmp"):
        return 0.0

    def said(term: Term) -> bool | None:
        if term.value in ("any", "255"):
            return True
        wanted = icmp_types.asked(term.value, six=six)
        if wanted is None or packet.icmp is None:
            return None
        return packet.icmp[0] == wanted[0] and wanted[1] in (None, packet.icmp[1])

    return _all(group, {"--icmp-type": said, "--icmpv6-type": said})


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
    stated = [term for term in group if term.option in ("--ctstate", "--state")]
    test = lambda term: bool(now & set(term.value.split(",")))  # noqa: E731
    if packet.state in ("INVALID", "UNTRACKED"):  # no connection: all but its state is passed over (conntrack_mt)
        return _all(stated, {"--ctstate": test, "--state": test}) if stated else 0.0
    first = packet.original

    def original(at: int) -> Callable[[Term], bool | None]:
        def held(term: Term) -> bool | None:
            if first is None:
                return None
            found = first[at]
            return _port(found, term.value) if isinstance(found, int) else _address_in(found, term.value)

        return held

    return _all(group, {
        "--ctstate": test, "--state": test, "--ctproto": lambda term: protocol(term.value) == packet.protocol,
        "--ctdir": lambda term: (term.value.upper() == "REPLY") == packet.reply,
        "--ctorigsrc": original(0), "--ctorigsrcport": original(1), "--ctorigdst": original(2),
        "--ctorigdstport": original(3)})


_KINDS: Final = frozenset({"LOCAL", "UNICAST", "BROADCAST", "MULTICAST"})


def _addrtype(group: tuple[Term, ...], packet: Packet, host: Host) -> Chance:
    limited = any(term.option.startswith("--limit") for term in group)
    tested = [term for term in group if not term.option.startswith("--limit")]

    def kind(address: str) -> Callable[[Term], bool | None]:
        def asked(term: Term) -> bool | None:
            wanted = set(term.value.upper().split(","))
            if limited:  # what is not local at all is so on no interface
                return False if wanted == {"LOCAL"} and host.complete and not host.local(address) else None
            if not wanted <= _KINDS:
                return None
            if ":" in address:
                return _kind6(address, wanted, host)
            found = host.kind(address)
            return None if found is None else found.upper() in wanted

        return asked

    return _all(tested, {"--src-type": kind(packet.src), "--dst-type": kind(packet.dst)})


def _kind6(address: str, wanted: set[str], host: Host) -> bool | None:
    """Tell what IPv6 asks: UNICAST by the address alone, and all of several (match_type6)."""
    its = "MULTICAST" if ipaddress.ip_address(address).is_multicast else "UNICAST"
    if not wanted <= {its, "LOCAL"}:
        return False
    if "LOCAL" not in wanted or host.local(address):
        return True
    return False if host.complete else None


def _iprange(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    def among(address: str) -> Callable[[Term], bool]:
        def held(term: Term) -> bool:
            low, _, high = term.value.partition("-")
            bounds = [ipaddress.ip_address(each) for each in (low, high or low)]
            mine = ipaddress.ip_address(address)
            return mine.version == bounds[0].version and int(bounds[0]) <= int(mine) <= int(bounds[1])

        return held

    return _all(group, {"--src-range": among(packet.src), "--dst-range": among(packet.dst)})


def _rpfilter(group: tuple[Term, ...], packet: Packet, host: Host) -> Chance:
    """Ask whether an answer would leave by the interface that the packet came in by (rpfilter_mt)."""
    options = {term.option for term in group if term.option}
    if not options <= {"--loose", "--validmark", "--invert", "--accept-local"} or any(term.negated for term in group):
        return None
    if packet.iif == "lo":
        found: bool | None = True
    elif host.local(packet.src):
        found = None if "--accept-local" in options else False
    else:
        mark = packet.mark if "--validmark" in options else 0
        towards = "" if ipaddress.ip_address(packet.dst).is_multicast else packet.dst
        way = host.way(packet.src, towards, mark, wanted=packet.iif)
        found = None if way in (None, UNKNOWN_INTERFACE) or packet.iif == UNKNOWN_INTERFACE else bool(way) and (
            way == packet.iif or "--loose" in options)
    return None if found is None else float(found != ("--invert" in options))


def _owner(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    """Ask for a socket's owner: what is forwarded has none, and so meets what is negated (owner_mt)."""
    if packet.here:
        return None
    return float(all(term.negated for term in group if term.option))


def _number(found: int | None) -> Mapping[str, Callable[[Term], bool | None]]:
    def compared(test: Callable[[int, int], bool]) -> Callable[[Term], bool | None]:
        return lambda term: test(found, int(term.value)) if found is not None and term.value.isdigit() else None

    return {"eq": compared(lambda one, two: one == two), "lt": compared(lambda one, two: one < two),
            "gt": compared(lambda one, two: one > two)}


def _ttl(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    return _all(group, {f"--{group[0].module}-{name}": test for name, test in _number(packet.ttl).items()})


def _length(group: tuple[Term, ...], packet: Packet, _: Host) -> Chance:
    return _all(group, {"--length": lambda term: None if packet.length is None else _port(packet.length, term.value)})


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


def _set(group: tuple[Term, ...], packet: Packet, host: Host) -> Chance:
    def held(term: Term) -> bool | None:
        return ipsets.holds(host.sets, term.value, term.values[1].split(","), packet) if len(term.values) == 2 else None

    return _all(group, {"--match-set": held})


def _always(_group: tuple[Term, ...], _packet: Packet, _host: Host) -> Chance:
    return 1.0


_MODULES: Mapping[str, Callable[[tuple[Term, ...], Packet, Host], Chance]] = {
    "": _own, "tcp": _ports, "udp": _ports, "sctp": _ports, "multiport": _multiport, "mark": _mark, "connmark": _mark,
    "conntrack": _conntrack, "state": _conntrack, "addrtype": _addrtype, "statistic": _statistic, "recent": _recent,
    "icmp": _icmp, "icmp6": _icmp, "icmpv6": _icmp, "iprange": _iprange, "owner": _owner, "ttl": _ttl, "hl": _ttl,
    "length": _length, "rpfilter": _rpfilter, "comment": _always, "set": _set, "nfacct": _always,
}
