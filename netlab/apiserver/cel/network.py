"""Addresses, networks and URLs in expressions (k8s.io/apiserver/pkg/cel/library: ip.go, cidr.go, urls.go)."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

from netlab.apiserver.cel.declarations import Does
from netlab.apiserver.cel.kubernetes import can
from netlab.apiserver.cel.values import Opaque

IP, CIDR, URL = "net.IP", "net.CIDR", "kubernetes.URL"
_LONGEST = 64 * 1024
_PATH = "/%!$&'()*+,;=:@~"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'IP Address "{text[:80]}" parse error during conversion from string') from None
    if getattr(found, "ipv4_mapped", None) is not None:
        raise ValueError(f"IPv4-mapped IPv6 address {text!r} is not allowed")
    if "%" in text:
        raise ValueError(f"IP Address {text!r} with zone value is not allowed")
    return found


def _network(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    head, slash, bits = text.partition("/")
    address = _address(head)
    if not slash or not bits.isdecimal() or (len(bits) > 1 and bits[0] == "0") or int(bits[:4]) > address.max_prefixlen:
        raise ValueError(f'CIDR "{text[:80]}" parse error during conversion from string')
    return ipaddress.ip_interface(text)


def _ip(text: str) -> Opaque:
    return Opaque(IP, _address(text))


def _cidr(text: str) -> Opaque:
    return Opaque(CIDR, _network(text))


def _within(outer: Opaque, inner: Any) -> bool:
    address = inner.value if isinstance(inner, Opaque) else _address(inner)
    return address.version == outer.value.version and address in outer.value.network


def _covers(outer: Opaque, inner: Any) -> bool:
    found = inner.value if isinstance(inner, Opaque) else _network(inner)
    return (
        found.version == outer.value.version
        and found.network.prefixlen >= outer.value.network.prefixlen
        and found.network.network_address in outer.value.network
    )


def _local_multicast(found: Opaque) -> bool:
    packed = found.value.packed
    return bool(packed[:3] == b"\xe0\0\0" if found.value.version == 4 else packed[0] == 0xFF and packed[1] & 15 == 2)


def _global(found: Opaque) -> bool:
    address = found.value
    return not (
        address.is_multicast
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.packed == b"\xff" * 4
    )


def _canonical(text: str) -> bool:
    return str(_address(text)) == text


def _url(text: str) -> Opaque:
    if len(text) > _LONGEST or not text.isprintable() or " " in text.partition("?")[0]:
        raise ValueError(f"URL parse error during conversion from string: {text[:80]}")
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        raise ValueError(f'URL parse error during conversion from string: parse "{text[:80]}": invalid') from None
    if not (parts.scheme or text.startswith("/")):
        raise ValueError(f"URL parse error during conversion from string: parse {text[:80]!r}: invalid URI for request")
    return Opaque(URL, parts)


def _query(found: Opaque) -> dict[str, list[str]]:
    return parse_qs(found.value.query, keep_blank_values=True, max_num_fields=10_000)


def _port(parts: SplitResult) -> str:
    return str(parts.port) if parts.port is not None else ""


TABLE: list[tuple[str, Does]] = [
    (f"ip(string) -> {IP}", _ip),
    ("isIP(string) -> bool", can(_address)),
    ("ip.isCanonical(string) -> bool", _canonical),
    (f".family({IP}) -> int", lambda found: found.value.version),
    (f".isUnspecified({IP}) -> bool", lambda found: found.value.is_unspecified),
    (f".isLoopback({IP}) -> bool", lambda found: found.value.is_loopback),
    (f".isLinkLocalMulticast({IP}) -> bool", _local_multicast),
    (f".isLinkLocalUnicast({IP}) -> bool", lambda found: found.value.is_link_local),
    (f".isGlobalUnicast({IP}) -> bool", _global),
    (f"cidr(string) -> {CIDR}", _cidr),
    ("isCIDR(string) -> bool", can(_network)),
    *((f".containsIP({CIDR}, {other}) -> bool", _within) for other in ("string", IP)),
    *((f".containsCIDR({CIDR}, {other}) -> bool", _covers) for other in ("string", CIDR)),
    (f".ip({CIDR}) -> {IP}", lambda found: Opaque(IP, found.value.ip)),
    (f".masked({CIDR}) -> {CIDR}", lambda found: Opaque(CIDR, ipaddress.ip_interface(str(found.value.network)))),
    (f".prefixLength({CIDR}) -> int", lambda found: found.value.network.prefixlen),
    (f"string({IP}) -> string", lambda found: str(found.value)),
    (f"string({CIDR}) -> string", lambda found: str(found.value)),
    (f"url(string) -> {URL}", _url),
    ("isURL(string) -> bool", can(_url)),
    (f".getScheme({URL}) -> string", lambda found: found.value.scheme),
    (f".getHost({URL}) -> string", lambda found: found.value.netloc.rpartition("@")[2]),
    (f".getHostname({URL}) -> string", lambda found: found.value.hostname or ""),
    (f".getPort({URL}) -> string", lambda found: _port(found.value)),
    (f".getEscapedPath({URL}) -> string", lambda found: quote(found.value.path, safe=_PATH)),
    (f".getQuery({URL}) -> map(string, list(string))", _query),
]
