"""Write pcapng, the capture format of Wireshark: blocks as bytes. Pure.

Format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-04.html. One section in this machine's byte order;
an interface description block for each interface of each namespace, times in nanoseconds since the epoch.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

ETHERNET: Final = 1
RAW_IP: Final = 101
"""LINKTYPE_*: frames with an Ethernet header, and packets that begin with an IPv4 or IPv6 header."""

_COMMENT, _NAME, _DESCRIPTION = 1, 2, 3
_HARDWARE, _OS, _APPLICATION = 2, 3, 4
_TSRESOL, _FILTER, _FLAGS = 9, 11, 2
_STARTED, _ENDED, _RECEIVED, _DROPPED = 2, 3, 4, 5
_MOST: Final = 0xFFFC

Option = tuple[int, bytes]
Way = Literal["in", "out", ""]


def section(application: str, *, os: str = "", comments: Iterable[str] = ()) -> bytes:
    """Return the section header block, the first of every file; its length is left open, as for a stream."""
    options = [*_comments(comments), *([(_OS, os.encode())] if os else []), (_APPLICATION, application.encode())]
    return _block(0x0A0D0D0A, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1), options)


def interface(name: str, *, link_type: int, snap_length: int = 0, description: str = "", filter: str = "") -> bytes:
    """Return an interface description block; the first one in a file is interface 0, and so on.

    Args:
        name: such as `node/worker1:cni0`.
        link_type: LINKTYPE_* of its packets.
        snap_length: bytes kept of a packet; 0 for all.
        description: what it is.
        filter: the capture filter in tcpdump's words, "" for none.
    """
    options: list[Option] = [(_NAME, _clip(name)), (_TSRESOL, b"\x09")]
    if description:
        options.insert(1, (_DESCRIPTION, _clip(description)))
    if filter:
        options.append((_FILTER, b"\0" + _clip(filter)))  # 0: a filter in libpcap's words
    return _block(1, struct.pack("=HHI", link_type, 0, snap_length), options)


def packet(number: int, at: int, data: bytes, *, length: int = 0, way: Way = "", comments: Iterable[str] = ()) -> bytes:
    """Return an enhanced packet block.

    Args:
        number: the interface's, from 0.
        at: ns since the epoch.
        data: what was captured, from the link type's header on.
        length: bytes of the whole packet; less than what was captured means the same.
        way: "in" or "out", "" when it is not known.
        comments: shown by Wireshark above the packet, each an option of its own.
    """
    body = struct.pack("=IIIII", number, at >> 32, at & 0xFFFFFFFF, len(data), max(length, len(data)))
    options = _comments(comments)
    if way:
        options.append((_FLAGS, struct.pack("=I", 1 if way == "in" else 2)))
    return _block(6, body + data + bytes(-len(data) % 4), options)


def names(by_address: Mapping[str, str]) -> bytes:
    """Return a name resolution block: what Wireshark calls IP addresses when it resolves names."""
    records = b""
    for address, name in sorted(by_address.items()):
        raw = ipaddress.ip_address(address).packed
        value = raw + name.encode()[:255] + b"\0"
        records += struct.pack("=HH", 1 if len(raw) == 4 else 2, len(value)) + value + bytes(-len(value) % 4)
    return _block(4, records + bytes(4), ())


def statistics(number: int, at: int, *, started: int, received: int, dropped: int,
               comments: Iterable[str] = ()) -> bytes:
    """Return an interface statistics block: how many packets of an interface came, and how many found no room."""
    times = [(_STARTED, _time(started)), (_ENDED, _time(at))]
    counts = [(_RECEIVED, struct.pack("=Q", received)), (_DROPPED, struct.pack("=Q", dropped))]
    return _block(5, struct.pack("=I", number) + _time(at), [*_comments(comments), *times, *counts])


def _time(at: int) -> bytes:
    return struct.pack("=II", at >> 32, at & 0xFFFFFFFF)


def _comments(texts: Iterable[str]) -> list[Option]:
    return [(_COMMENT, _clip(text)) for text in texts if text]


def _clip(text: str) -> bytes:
    """Return text as UTF-8, cut at a whole character where an option's 16-bit length ends."""
    return text.encode(errors="replace")[:_MOST].decode(errors="ignore").encode()


def _block(kind: int, body: bytes, options: Sequence[Option]) -> bytes:
    tail = b"".join(struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options)
    if options:
        tail += bytes(4)
    length = len(body) + len(tail) + 12
    return struct.pack("=II", kind, length) + body + tail + struct.pack("=I", length)
