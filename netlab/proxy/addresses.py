"""Addresses as API objects hold them, sorted by family and put into one spelling.

Old objects hold spellings that today's API refuses (`172.30.0.041`, `203.0.113.000/025`): leading zeros are decimal,
as in Go before 1.17 (k8s.io/utils/net: ParseIPSloppy, ParseCIDRSloppy).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, TypeAlias

Family: TypeAlias = Literal["IPv4", "IPv6"]
FAMILIES: tuple[Family, Family] = ("IPv4", "IPv6")

_ZEROS = re.compile(r"(?<![0-9A-Fa-f:])0+(?=[0-9])")


def address(text: str) -> str:
    """Return an address in its usual spelling, "" when it is none. An IPv4 address inside IPv6 becomes IPv4."""
    try:
        socket.inet_pton(socket.AF_INET, text)  # takes no spelling but the usual one, and is ten times as fast
    except (OSError, ValueError):
        return _unusual(text)
    return text


@lru_cache(maxsize=65536)
def _unusual(text: str) -> str:
    try:
        found = ipaddress.ip_address(text if ":" in text else _ZEROS.sub("", text))
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def network(text: str) -> str:
    """Return a network (`10.0.0.0/8`) with its host bits off, "" when the text is none. Spaces around are dropped."""
    head, slash, bits = text.strip().partition("/")
    if not slash:
        return ""
    try:
        found = ipaddress.ip_network(f"{head if ':' in head else _ZEROS.sub('', head)}/{int(bits)}", strict=False)
    except ValueError:
        return ""
    return str(found)


def family(text: str) -> Family:
    """Return the family of an address or network that is known to be one."""
    return "IPv6" if ":" in text else "IPv4"


def of_family(texts: Iterable[str], wanted: Family) -> tuple[str, ...]:
    """Return the addresses of one family, in order, what is no address left out."""
    return tuple([each for each in map(address, texts) if each and family(each) == wanted])


def networks_of_family(texts: Iterable[str], wanted: Family) -> tuple[str, ...]:
    """Return the networks of one family, in order, what is no network left out."""
    found = (network(text) for text in texts)
    return tuple(each for each in found if each and family(each) == wanted)


def is_everything(text: str) -> bool:
    """Tell whether a network holds every address of its family."""
    return text.endswith("/0")


def contains(net: str, host: str) -> bool:
    """Tell whether an address lies in a network; never across families."""
    return ipaddress.ip_address(host) in ipaddress.ip_network(net)


def overlap(net: str, other: str) -> bool:
    """Tell whether two networks share an address; never across families."""
    return family(net) == family(other) and ipaddress.ip_network(net).overlaps(ipaddress.ip_network(other))


def join(host: str, port: int) -> str:
    """Return `10.0.0.1:80` or `[2001:db8::1]:80`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
