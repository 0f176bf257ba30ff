"""What nft's selectors find in a packet: header fields, what conntrack and routing say of it. Pure.

A value that nobody here can know is `Unknown`, with the words that ask for it; what the packet does not have, as a
UDP header in a TCP packet, ends the rule without a match (`Break`), as in the kernel.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from netlab.netfilter.matching import UNKNOWN_INTERFACE, Host, Packet
from netlab.netfilter.nft_values import ADDRESS_TYPES, STATES, STATUS, Scalar, protocol_number

Typed = tuple[str, Scalar | None]
"""A type and a value of it; None for one that is not known."""

FRAGMENT: Final = "frag_off"
"""The type of a field of which only the bit "don't fragment" is not known: no fragment is ever followed here."""

TRANSPORTS: Final = frozenset({"tcp", "udp", "udplite", "sctp", "dccp"})


class Break(Exception):
    """The packet has no such field: the rule does not match."""


class Unknown(Exception):
    """The rule asks what is not known here; the message says what."""


@dataclass(frozen=True)
class Asking:
    """Who asks: the packet, its host, the hook and the family of the table (ip, ip6, inet)."""

    packet: Packet
    host: Host
    hook: str
    family: str

    @property
    def version(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.packet.dst else 4


def select(words: tuple[str, ...], asking: Asking) -> Typed:
    """Return what a selector finds, and its type.

    Raises:
        Break: there is no such field in the packet.
    """
    head = words[0]
    if head.startswith("@"):
        return "", None
    if head == "fib":
        return _fib(words[1:], asking)
    if head in ("ip", "ip6"):
        return _network(words, asking)
    if head in TRANSPORTS or head == "th":
        return _transport(words, asking)
    if head in ("icmp", "icmpv6"):
        return _icmp(words, asking)
    if head == "meta":
        return _meta(words[1], asking)
    if head == "ct":
        return _ct(words[1:], asking)
    return "", None


def _ip(text: str) -> int:
    return int(ipaddress.ip_address(text))


def _network(words: tuple[str, ...], asking: Asking) -> Typed:
    family, field = words[0], words[1]
    packet = asking.packet
    if (family == "ip") != (asking.version == 4):
        raise Break
    if field in ("saddr", "daddr"):
        return f"ipv{asking.version}_addr", _ip(packet.src if field == "saddr" else packet.dst)
    if field in ("protocol", "nexthdr"):
        return "inet_proto", protocol_number(packet.protocol)
    if field in ("ttl", "hoplimit"):
        return "", packet.ttl
    if field == "version":
        return "", asking.version
    if field == "hdrlength":
        return "", 5
    if field == "length" and family == "ip":
        return "", packet.length
    if field == "frag-off":
        return FRAGMENT, None
    return "dscp" if field == "dscp" else "", None


def _transport(words: tuple[str, ...], asking: Asking) -> Typed:
    head, field = words[0], words[1]
    packet = asking.packet
    if head != "th" and head != packet.protocol:
        raise Break
    if packet.protocol in TRANSPORTS:
        if field in ("sport", "dport"):
            return "inet_service", packet.sport if field == "sport" else packet.dport
        if field == "flags":
            return "tcp_flag", packet.flags
    return "", None


def _icmp(words: tuple[str, ...], asking: Asking) -> Typed:
    head, field = words[0], words[1]
    packet = asking.packet
    if packet.protocol != head:
        raise Break
    if packet.icmp is None or field not in ("type", "code"):
        return f"{head}_{field}", None
    return f"{head}_{field}", packet.icmp[0 if field == "type" else 1]


def _interface(name: str) -> str | None:
    return None if name == UNKNOWN_INTERFACE else name


def _meta(field: str, asking: Asking) -> Typed:
    packet = asking.packet
    if field in ("iif", "iifname", "oif", "oifname"):
        name = packet.iif if field.startswith("iif") else packet.oif
        return "ifname", _interface(name)
    if field == "mark":
        return "mark", packet.mark
    if field == "l4proto":
        return "inet_proto", protocol_number(packet.protocol)
    if field == "nfproto":
        return "nf_proto", 2 if asking.version == 4 else 10
    if field == "protocol":
        return "ether_type", 0x800 if asking.version == 4 else 0x86DD
    if field in ("skuid", "skgid") and not packet.here and asking.hook not in ("PREROUTING", "INPUT"):
        raise Break
    if field == "length":
        return "", packet.length
    return "", None


def _ct(words: tuple[str, ...], asking: Asking) -> Typed:
    packet, field = asking.packet, words[0]
    if field == "state":
        return "ct_state", STATES[packet.state.lower()]
    if packet.state in ("INVALID", "UNTRACKED"):
        raise Break  # it belongs to no connection
    if field == "mark":
        return "mark", packet.ctmark
    if field == "direction":
        return "ct_dir", int(packet.reply)
    if field == "status":
        return "ct_status", _status(packet)
    if field == "l3proto":
        return "nf_proto", 2 if asking.version == 4 else 10
    if field == "protocol":
        return "inet_proto", protocol_number(packet.protocol)
    if field == "original" and packet.original is not None:
        return _original(words[1:], packet)
    return f"ipv{asking.version}_addr" if words[-1] in ("saddr", "daddr") else "", None


def _status(packet: Packet) -> int:
    return (
        STATUS["snat"] * packet.snat
        | STATUS["dnat"] * packet.dnat
        | STATUS["confirmed"] * packet.confirmed
        | STATUS["seen-reply"] * (packet.reply and packet.state == "ESTABLISHED")
    )


def _original(words: tuple[str, ...], packet: Packet) -> Typed:
    assert packet.original is not None
    source, sport, destination, dport = packet.original
    field = words[-1]
    version = 6 if ":" in source + destination else 4
    if words[0] in ("ip", "ip6") and (words[0] == "ip6") != (version == 6):
        raise Break
    found: Mapping[str, Typed] = {
        "saddr": (f"ipv{version}_addr", _ip(source) if source else None),
        "daddr": (f"ipv{version}_addr", _ip(destination)),
        "proto-src": ("inet_service", sport),
        "proto-dst": ("inet_service", dport),
    }
    return found.get(field, ("", None))


# --- routing ---------------------------------------------------------------------------------------------------------


def _fib(words: tuple[str, ...], asking: Asking) -> Typed:
    *flags, result = words
    packet, host = asking.packet, asking.host
    address, other = (packet.dst, packet.src) if "daddr" in flags else (packet.src, packet.dst)
    named = ([packet.iif] if "iif" in flags else []) + ([packet.oif] if "oif" in flags else [])
    device = next((name for name in named if name), "")
    if device == UNKNOWN_INTERFACE:
        return ("fib_addrtype", None) if result == "type" else _found(result, None)
    if result == "type":
        found = host.kind(address, device)
        return "fib_addrtype", None if found is None else ADDRESS_TYPES[found]
    if asking.hook == "PREROUTING" and packet.iif == "lo":
        return _found(result, "lo")
    way = host.way(
        address,
        other,
        packet.mark if "mark" in flags else 0,
        packet.oif if asking.hook == "FORWARD" and "daddr" not in flags and "iif" in flags else "",
        wanted=device,
    )
    if way is None:
        return _found(result, None)
    return _found(result, "" if device and way != device else way)


def _found(result: str, name: str | None) -> Typed:
    """Return an interface's name; whether there is one is asked of the same field (`fib saddr oif exists`)."""
    return ("ifname" if result == "oifname" else "oif"), name
