"""What one nftables table holds, by name: asked for by netlink, because a listing of all rules takes seconds."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from netlab.errors import KernelError
from netlab.kernel import nfnetlink
from netlab.kernel.netns import OWN, open_netns, within
from netlab.kernel.nfnetlink import attribute
from netlab.kernel.nft import Nft
from netlab.kernel.nft_batch import Writer
from netlab.kernel.nft_wire import element_words, key_reader, key_types

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
        if table not in (_text(nfnetlink.leading(body, (1,), 1), 1) for body in _dump(sock, _GETTABLE, family)):
            return None
        chains = frozenset(name for name, _ in _of_table(sock, _GETCHAIN, 3, family, table))
        sets: dict[str, int] = {}
        types: dict[str, tuple[str, ...]] = {}
        for name, body in _of_table(sock, _GETSET, 2, family, table):
            if not name.startswith("__"):  # those of rules are as many as there are Services
                found = dict(nfnetlink.attributes(body))
                sets[name] = int.from_bytes(found.get(_SET_TIMEOUT, b""), "big") // 1000
                types[name] = key_types(int.from_bytes(found.get(_SET_KEY_TYPE, b""), "big"))
        kept: dict[tuple[str, str], str] = {}
        for name in sets if elements else ():
            if not sets[name]:
                kept |= _elements(sock, family, table, name, types[name])
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


def _of_table(sock: socket.socket, message: int, name: int, family: int, table: str) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the attributes of a table's chains or sets; `name` is the attribute that has the name."""
    for body in _dump(sock, message, family):
        found = nfnetlink.leading(body, (1, name), 2)
        if _text(found, 1) == table:
            yield _text(found, name), body


def _elements(sock: socket.socket, family: int, table: str, name: str,
              types: tuple[str, ...]) -> dict[tuple[str, str], str]:
    place = attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0")
    words = key_reader(types)
    kept = {}
    for body in _dump(sock, _GETSETELEM, family, place):
        listed = nfnetlink.leading(body, (_SETELEM_ELEMENTS,), 1)
        for _, one in nfnetlink.attributes(listed.get(_SETELEM_ELEMENTS, b"")):
            key, then = element_words(one)
            kept[name, words(key)] = then
    return kept


def _dump(sock: socket.socket, message: int, family: int, body: bytes = b"") -> list[bytes]:
    try:
        return list(nfnetlink.dump(sock, nfnetlink.SUBSYS_NFTABLES, message, family=family, body=body))
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return []
        raise


def _text(found: Mapping[int, bytes], kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode()
