"""The endpoints of an external etcd: what can't be one, and by which address each is known inside a lab.

The rules are those of kubeadm's ValidateEtcd. Pure, but for asking for the addresses of names.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from netlab.errors import UsageError
from netlab.lab.external import PREFIX, External, Way, named

PORT = 2379
_TAKEN = {10248: "the kubelet", 10249: "kube-proxy", 10256: "kube-proxy", 10257: "the controller manager",
          10259: "the scheduler"}
"""Who else listens on a node's loopback."""
_ELSEWHERE = "networking.podSubnet, serviceSubnet and nodeSubnet in a scenario give the lab other networks"


def fault(etcd: External) -> tuple[str, str]:
    """Return the field that is wrong and why; two empty words when all are well."""
    if not etcd.endpoints:
        return "endpoints", "none is named; http://127.0.0.1:2379 is where `etcd --data-dir DIR` answers"
    for text in etcd.endpoints:
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port or PORT
        except ValueError as error:
            return "endpoints", f"{text}: {error}"
        if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or "@" in text:
            return "endpoints", f'"{text}": want http://HOST:PORT or https://HOST:PORT'
        literal = _literal(host)
        if literal is not None and literal.is_unspecified:
            return "endpoints", f"{text}: there a server listens; it is reached at {parts.scheme}://127.0.0.1:{port}"
        if literal is not None and (literal.is_link_local or literal.is_multicast):
            return "endpoints", f"{text}: such an address leads nowhere from inside a lab"
        if literal is None and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})", host):
            return "endpoints", f'"{text}": "{host}" is no host name'
        if parts.scheme == "http" and (etcd.ca or etcd.certificate or etcd.key):
            return "endpoints", f"{text}: with files for TLS it has to be https"
    if bool(etcd.certificate) != bool(etcd.key):
        missing = "keyFile" if etcd.certificate else "certFile"
        return missing, "is missing: a certificate and its key go together"
    if etcd.certificate and not etcd.ca:
        return "caFile", "is missing: with a certificate of ours the CA of the etcd's has to be named, too"
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", etcd.prefix):
        return "prefix", f'"{etcd.prefix}": want a path such as {PREFIX}'
    return "", ""


def checked(etcd: External) -> External:
    """Return it.

    Raises:
        UsageError: a field is wrong; it is named by its flag.
    """
    field, words = fault(etcd)
    if field:
        raise UsageError(f"{named(field)}: {words}")
    return etcd


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def ways(etcd: External, *, families: Sequence[int], ranges: Sequence[tuple[str, str]],
         own: Sequence[tuple[str, str]]) -> tuple[Way, ...]:
    """Return the ways to all its endpoints, each once. Names are looked up as this machine does.

    Args:
        etcd: checked.
        families: 4 and 6, those that the lab speaks.
        ranges: networks in which the lab itself decides where packets go, each with a name for it.
        own: the lab's own addresses and host names, each with whose it is.

    Raises:
        UsageError: an endpoint can't be reached from this lab, and why.
    """
    found: dict[tuple[str, int], Way] = {}
    taken = dict(own)
    for text in etcd.endpoints:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or PORT
        try:
            address = _address(host, port, families)
            inside = ipaddress.ip_address(address)
            if inside.is_loopback and port in _TAKEN:
                raise UsageError(f"port {port} of a node's loopback is {_TAKEN[port]}'s")
            if host in taken or address in taken:
                raise UsageError(f"inside the lab that is {taken.get(host) or taken[address]}", hint=_ELSEWHERE)
            for network, name in ranges:
                if inside in ipaddress.ip_network(network):
                    raise UsageError(f"{address} lies in {name}, {network}", hint=_ELSEWHERE)
        except UsageError as error:
            raise UsageError(f"{named('endpoints')}: {text}: {error}", hint=error.hint) from None
        found.setdefault((address, port), Way(host, port, address))
    return tuple(found.values())


def _address(host: str, port: int, families: Sequence[int]) -> str:
    """Return the address by which a lab knows a host: its first one of the lab's families, or one of the loopback."""
    literal = _literal(host)
    if literal is not None:
        addresses = [literal]
    elif host == "localhost":
        return "127.0.0.1"
    else:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UsageError(f"this machine knows no host {host}: {getattr(error, 'strerror', error)}") from None
        addresses = [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in rows]
    for address in addresses:
        if address.is_loopback or address.version in families:
            return str(address)
    raise UsageError(f"{addresses[0]} is IPv{addresses[0].version}, which this lab does not speak",
                     hint="netlab up --ip-family dual")
