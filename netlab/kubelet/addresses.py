"""The node's own addresses: given, or those of the interface that its default route leaves by."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from netlab.errors import UsageError

_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Documentation addresses (RFC 5737, RFC 3849): a UDP socket that is connected there sends nothing."""


def of_node(given: Sequence[str]) -> tuple[str, ...]:
    """Return the node's addresses, the primary one first.

    Raises:
        UsageError: what was given is no address.
    """
    found = []
    for text in given:
        try:
            found.append(str(ipaddress.ip_address(text.strip())))
        except ValueError:
            raise UsageError(f'bad --node-ip "{text}": not an address') from None
    if found and found not in (["0.0.0.0"], ["::"]):
        return tuple(found)
    return tuple(ip for family, target in _ELSEWHERE if (ip := _source(family, target))) or ("127.0.0.1",)


def _source(family: socket.AddressFamily, target: str) -> str:
    """Return the address that the kernel would send from, "" when there is no route."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""
