"""What iptables' targets do to a packet. Source: iptables-extensions(8)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from netlab.netfilter import normalise
from netlab.netfilter.going import Walking
from netlab.netfilter.matching import Host, Packet
from netlab.netfilter.terms import Target

Step = tuple[str, Walking]
"""What a chain decided: ACCEPT, DROP, REJECT, or "" when the packet came out at the end of a user chain."""

HARMLESS = frozenset({"LOG", "ULOG", "NFLOG", "TRACE", "CHECKSUM", "CLASSIFY", "AUDIT", "TCPMSS", "TCPOPTSTRIP", "SET",
                       "TEE", "ECN", "IDLETIMER", "LED", "RATEEST", "SECMARK", "CONNSECMARK"})
"""Targets after which a packet goes on as it was, in all that a prediction knows of it."""

ASKS_A_PROGRAM = frozenset({"QUEUE", "NFQUEUE"})
"""Targets by which a program decides; what it lets pass skips the rest of the table."""


def _mark(wanted: Target, going: Walking, _: Host) -> Step:
    value, mask = normalise.xmark(wanted.options)
    return "", replace(going, packet=replace(going.packet, mark=(going.packet.mark & ~mask) ^ value))


def _dnat(wanted: Target, going: Walking, _: Host) -> Step:
    text = wanted.option("--to-destination") or ""
    address, port = _address_and_port(text)
    return "ACCEPT", destined(_ranged(going, wanted, text), address, port)


def destined(going: Walking, address: str, port: int) -> Walking:
    """Give a connection its destination; what stays as it was does not count as rewritten."""
    old = going.packet
    packet = replace(old, dst=address or old.dst, dport=port or old.dport)
    return replace(going, packet=replace(packet, dnat=old.dnat or packet != old), bound=True)


def sourced(going: Walking, address: str, port: int) -> Walking:
    """Give a connection its source."""
    old = going.packet
    packet = replace(old, src=address or old.src, sport=port or old.sport)
    return replace(going, packet=replace(packet, snat=old.snat or packet != old), bound=True)


def _ranged(going: Walking, wanted: Target, text: str) -> Walking:
    """Doubt a range: of its addresses or ports the first is taken here."""
    return going.doubtful(f"{wanted.name} to {text}", "nat", "") if "-" in text else going


def _snat(wanted: Target, going: Walking, _: Host) -> Step:
    text = wanted.option("--to-source") or ""
    address, port = _address_and_port(text)
    return "ACCEPT", sourced(_ranged(going, wanted, text), address, port)


def _masquerade(wanted: Target, going: Walking, host: Host) -> Step:
    done = sourced(going, host.masquerade(going.packet.oif, going.packet.dst), 0)
    if any(wanted.option(each) is not None for each in ("--random", "--random-fully")):
        done = replace(done, packet=replace(done.packet, snat=True))  # the port is another, whatever the address
    return "ACCEPT", done


def _redirect(wanted: Target, going: Walking, host: Host) -> Step:
    ports = wanted.option("--to-ports") or ""
    port = ports.partition("-")[0]
    return "ACCEPT", destined(_ranged(going, wanted, ports), redirected(going.packet, host),
                              int(port) if port.isdigit() else 0)


def redirected(packet: Packet, host: Host) -> str:
    """Return the address that REDIRECT leads to: that of the interface by which the packet came in."""
    loopback = "::1" if ":" in packet.dst else "127.0.0.1"
    return (host.primary(packet.iif, packet.dst) if packet.iif else "") or loopback


def _reject(wanted: Target, going: Walking, _: Host) -> Step:
    return "REJECT", replace(going, reject=wanted.option("--reject-with") or "")


def _notrack(_: Target, going: Walking, _host: Host) -> Step:
    fresh = going.packet.state == "INVALID"
    return "", replace(going, packet=replace(going.packet, state="UNTRACKED")) if fresh else going


def _ct(wanted: Target, going: Walking, host: Host) -> Step:
    if wanted.option("--notrack") is not None:
        return _notrack(wanted, going, host)
    zone = any((term.option or "").startswith("--zone") for term in wanted.options)
    return "", going.doubtful("CT --zone", "raw", "") if zone else going


def _connmark(wanted: Target, going: Walking, _: Host) -> Step:
    packet, options = going.packet, {term.option: term.value for term in wanted.options}
    masks = [normalise.mark(options.get(name, "0xffffffff"))[0] for name in ("--ctmask", "--nfmask")]
    if "--mask" in options:
        masks = [normalise.mark(options["--mask"])[0]] * 2
    if "--restore-mark" in options:
        return "", replace(going, packet=replace(packet, mark=(packet.mark & ~masks[1]) ^ (packet.ctmark & masks[0])))
    if "--save-mark" in options:
        return "", replace(going, packet=replace(packet, ctmark=(packet.ctmark & ~masks[0]) ^ (packet.mark & masks[1])))
    value, mask = normalise.xmark(wanted.options)
    return "", replace(going, packet=replace(packet, ctmark=(packet.ctmark & ~mask) ^ value))


def _address_and_port(text: str) -> tuple[str, int]:
    """Part `10.0.0.1:80`, `[2001:db8::1]:80`, `10.0.0.1-10.0.0.9:80`, `:80`; of a range the first counts."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.lstrip(":")
    elif text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    port = port.partition("-")[0]
    return address.partition("-")[0], int(port) if port.isdigit() else 0


def netmap(wanted: Target, going: Walking, *, source: bool) -> Walking:
    """Give an address another network and leave it its place there: of the source behind routing, else the other's."""
    network = ipaddress.ip_network(wanted.option("--to") or "", strict=False)
    address = ipaddress.ip_address(going.packet.src if source else going.packet.dst)
    mapped = str(type(address)(int(network.network_address) | int(address) & int(network.hostmask)))
    return sourced(going, mapped, 0) if source else destined(going, mapped, 0)


def _verdict(name: str) -> Callable[[Target, Walking, Host], Step]:
    return lambda _wanted, going, _host: (name, going)


ACTIONS: Final[Mapping[str, Callable[[Target, Walking, Host], Step]]] = {
    **{name: _verdict(name) for name in ("ACCEPT", "DROP", "RETURN")}, "REJECT": _reject, "NOTRACK": _notrack,
    "CT": _ct, "CONNMARK": _connmark, "MARK": _mark, "DNAT": _dnat, "SNAT": _snat, "MASQUERADE": _masquerade,
    "REDIRECT": _redirect,
}
