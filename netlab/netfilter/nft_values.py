"""nft's constants as numbers: addresses, ports, names of protocols, states and flags, ranges and prefixes. Pure.

Numbers are those of the kernel's headers; nft(8) names them. Names of interfaces stay words.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

Scalar = int | str
Pattern = tuple[int, int] | str
"""What a value may be: from and to, or a name that may end in `*`."""


class NotAValue(ValueError):
    """A word that is no constant of its type."""


STATES: Final = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
STATUS: Final = {"expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512}
PROTOCOLS: Final = {
    "icmp": 1,
    "igmp": 2,
    "ipencap": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "icmpv6": 58,
    "sctp": 132,
    "udplite": 136,
}
ADDRESS_TYPES: Final = {
    "unspec": 0,
    "unicast": 1,
    "local": 2,
    "broadcast": 3,
    "anycast": 4,
    "multicast": 5,
    "blackhole": 6,
    "unreachable": 7,
    "prohibit": 8,
}
_TCP_FLAGS: Final = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
_ICMP: Final = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
}
_ICMPV6: Final = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "mld2-listener-report": 143,
}
_DSCP: Final = {
    "cs0": 0,
    "df": 0,
    "be": 0,
    "lephb": 1,
    "ef": 46,
    "va": 44,
    **{f"cs{n}": 8 * n for n in range(1, 8)},
    **{f"af{n}{m}": 8 * n + 2 * m for n in range(1, 5) for m in range(1, 4)},
}
_NFPROTO: Final = {"ipv4": 2, "ipv6": 10}
_ETHER: Final = {"ip": 0x800, "ip6": 0x86DD, "arp": 0x806, "vlan": 0x8100}
_EXISTS: Final = {"exists": 1, "missing": 0}
_DIRECTIONS: Final = {"original": 0, "reply": 1}
_PACKETS: Final = {"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3}

SYMBOLS: Final[Mapping[str, Mapping[str, int]]] = {
    "ct_state": STATES,
    "ct_status": STATUS,
    "inet_proto": PROTOCOLS,
    "fib_addrtype": ADDRESS_TYPES,
    "tcp_flag": _TCP_FLAGS,
    "icmp_type": _ICMP,
    "icmpv6_type": _ICMPV6,
    "dscp": _DSCP,
    "nf_proto": _NFPROTO,
    "ether_type": _ETHER,
    "boolean": _EXISTS,
    "ct_dir": _DIRECTIONS,
    "pkt_type": _PACKETS,
}
BITMASKS: Final = frozenset({"ct_state", "ct_status", "tcp_flag"})
"""Types whose bare values ask for a bit among others; `==`, `!=` and sets ask for all of them at once."""

_NAMES: Final = frozenset({"ifname", "iface_index"})


def protocol_number(name: str) -> int | None:
    """Return the number of a transport protocol, named or numbered; None for a name that is not known."""
    return int(name) if name.isdecimal() else PROTOCOLS.get(name)


@lru_cache(maxsize=65536)
def number(word: str, kind: str = "") -> int:
    """Return a word as a number; flags may be joined by commas or bars.

    Raises:
        NotAValue: it is none of this type.
    """
    named = SYMBOLS.get(kind, {}).get(word)
    if named is not None:
        return named
    for sign in (",", "|"):
        if sign in word:
            total = 0
            for part in word.split(sign):
                total |= number(part.strip(), kind)
            return total
    try:
        if "." in word or ":" in word:
            return int(ipaddress.ip_address(word.strip("[]")))
        return int(word, 0)
    except ValueError:
        raise NotAValue(f"{word!r} is no {kind or 'value'}") from None


@lru_cache(maxsize=65536)
def pattern(word: str, kind: str = "") -> Pattern:
    """Return a constant, a prefix or a range as what it stands for.

    Raises:
        NotAValue: it is none of this type.
    """
    if kind in _NAMES or word.startswith('"'):
        return word.strip('"')
    if "/" in word:
        try:
            network = ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise NotAValue(f"{word!r} is no network") from None
        return int(network[0]), int(network[-1])
    if word not in SYMBOLS.get(kind, {}) and "-" in word:
        low, _, high = word.partition("-")
        return number(low, kind), number(high, kind)
    one = number(word, kind)
    return one, one


def fits(value: Scalar | None, wanted: Pattern) -> bool | None:
    """Tell whether a value is what is wanted; None when it is not known."""
    if value is None:
        return None
    if isinstance(wanted, str):
        if not isinstance(value, str):
            return False
        return value.startswith(wanted[:-1]) if wanted.endswith("*") else value == wanted
    return isinstance(value, int) and wanted[0] <= value <= wanted[1]


def address(value: int, family: int) -> str:
    """Return a number as an address of family 4 or 6."""
    return str(ipaddress.IPv4Address(value) if family == 4 else ipaddress.IPv6Address(value))
