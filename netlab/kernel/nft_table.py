"""What one nftables table holds, by name: asked for by netlink, because a listing of all rules takes seconds."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from netlab.errors import KernelError
from netlab.kernel import nfnetlink
from netlab.kernel.netns import OWN, open_netns, within
from netlab.kernel.nfnetlink import attribute
from netlab.kernel.nft import Nft
from netlab.kernel.nft_batch import Writer
from netlab.kernel.nft_wire import element_words, key_types

_GETTABLE: Final = 1
_GETCHAIN: Final = 4
_GETSET: Final = 10
_GETSETELEM: Final = 13
_SET_KEY_TYPE: Final = 4
_SETELEM_ELEMENTS: Final = 3
_SET_TIMEOUT: Final = 11
"""NFTA_SET_TIMEOUT, in milliseconds; a table's and a chain's name are the attributes 1 and 3, a set's 1 and 2."""

Place = int | str | None
"""A network namespace by descriptor or path; None for the caller's own."""


@dataclass(frozen=True)
class Held:
    """A table's chains, and its named sets and maps with their timeouts in seconds (0 without one).

    `elements` are those of sets that keep theirs, by set and key, with what nft has behind the key:
    {("service-ips", "10.96.0.1 . tcp . 443"): " : goto service-X"}.
    """

    chains: frozenset[str] = frozenset()
    sets: Mapping[str, int] = field(default_factory=dict)
    elements: Mapping[tuple[str, str], str] = field(default_factory=dict)


def held(family: int, table: str, netns: Place = None, *, elements: bool = False) -> Held | None:
    """Return what a table holds; None when there is no such table.

    Args:
        family: AF_INET or AF_INET6.
        table: its name.
        netns: where.
        elements: whether elements are asked for, too.

    Raises:
        KernelError: the kernel refused; NetnsGone: there is no such namespace.
    """
    with within(netns):
        sock = nfnetlink.open_socket(buffer=4 << 20)
    with sock:
        if table not in (_text(found, 1) for found in _dump(sock, _GETTABLE, family)):
            return None
        chains = frozenset(_text(found, 3) for found in _dump(sock, _GETCHAIN, family) if _text(found, 1) == table)
        made = [found for found in _dump(sock, _GETSET, family) if _text(found, 1) == table]
        sets = {_text(found, 2): int.from_bytes(found.get(_SET_TIMEOUT, b""), "big") // 1000
                for found in made if not _text(found, 2).startswith("__")}
        kept: dict[tuple[str, str], str] = {}
        for found in made if elements else ():
            name = _text(found, 2)
            if name in sets and not sets[name]:
                types = key_types(int.from_bytes(found.get(_SET_KEY_TYPE, b""), "big"))
                place = attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0")
                for each in _dump(sock, _GETSETELEM, family, place):
                    for _, one in nfnetlink.attributes(each.get(_SETELEM_ELEMENTS, b"")):
                        key, then = element_words(one, types)
                        kept[name, key] = then
    return Held(chains, sets, kept)


def open_nft(netns: Place = None) -> Nft:
    """Return a libnftables context for a namespace.

    Raises:
        Unsupported: libnftables is not installed; NetnsGone: there is no such namespace.
    """
    if isinstance(netns, int):
        return Nft(netns)
    fd = open_netns(OWN if netns is None else netns)
    try:
        return Nft(fd)
    finally:
        os.close(fd)


def delete(family: int, table: str, netns: Place = None) -> bool:
    """Delete a table with all that it holds; returns whether it was there.

    Raises:
        KernelError: the kernel refused.
    """
    if held(family, table, netns) is None:
        return False
    writer = Writer(netns)
    try:
        writer.run(f"delete table {'ip6' if family == socket.AF_INET6 else 'ip'} {table}")
    finally:
        writer.close()
    return True


def _dump(sock: socket.socket, message: int, family: int, body: bytes = b"") -> list[dict[int, bytes]]:
    try:
        return [dict(nfnetlink.attributes(answer)) for answer in nfnetlink.dump(
            sock, nfnetlink.SUBSYS_NFTABLES, message, family=family, body=body)]
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return []
        raise


def _text(found: Mapping[int, bytes], kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode()
