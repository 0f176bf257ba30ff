"""nfnetlink by hand: the few messages of netfilter's netlink family that no library decodes.

Layout: <linux/netlink.h> nlmsghdr (16 bytes, host order), <linux/netfilter/nfnetlink.h> nfgenmsg (family, version,
res_id), then attributes {u16 length, u16 type, payload padded to 4}. Integers inside nftables, conntrack and log
attributes are big-endian.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Container, Iterator
from typing import Final

from netlab.errors import KernelError

NETLINK_NETFILTER: Final = 12
SUBSYS_CTNETLINK: Final = 1
SUBSYS_ULOG: Final = 4
SUBSYS_NFTABLES: Final = 10

NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
SO_RCVBUFFORCE: Final = 33

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_PADDING = (b"", bytes(3), bytes(2), bytes(1))


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + _PADDING[len(payload) % 4]


def attributes(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """Decode a run of attributes as (type without its flag bits, payload); a torn one ends the run."""
    at, end = 0, len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            return
        yield kind & 0x3FFF, bytes(data[at + 4:at + length])
        at += (length + 3) & ~3


def leading(data: bytes, kinds: Container[int], count: int) -> dict[int, bytes]:
    """Return `count` attributes of the wanted types. Where they lead a long run, the rest of it costs nothing."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at + 4 <= end and len(found) < count:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        if kind & 0x3FFF in kinds:
            found[kind & 0x3FFF] = data[at + 4:at + length]
        at += (length + 3) & ~3
    return found


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Split a datagram into (type, flags, sequence, body after the nlmsghdr)."""
    at, end = 0, len(data)
    while at + 16 <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if length < 16 or at + length > end:
            return
        yield kind, flags, sequence, data[at + 16:at + length]
        at += (length + 3) & ~3


def request(subsystem: int, message: int, *, family: int = 0, flags: int = 0, res_id: int = 0, sequence: int = 0,
            body: bytes = b"") -> bytes:
    """Encode one request."""
    return (_HEADER.pack(20 + len(body), subsystem << 8 | message, flags | NLM_F_REQUEST, sequence, 0)
            + _GENERIC.pack(family, 0, res_id) + body)


def open_socket(*groups: int, buffer: int = 0) -> socket.socket:
    """Open a netfilter netlink socket in this thread's network namespace, non-blocking, joined to multicast groups.

    Args:
        groups: NFNLGRP_* numbers.
        buffer: wanted receive buffer in bytes; without CAP_NET_ADMIN in the first user namespace the kernel gives at
            most net.core.rmem_max.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
    try:
        sock.bind((0, 0))
        if buffer:
            grow_buffer(sock, buffer)
        for group in groups:
            sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except OSError as error:
        sock.close()
        raise KernelError(f"netfilter netlink socket: {error.strerror}", errno=error.errno or 0) from None
    return sock


def grow_buffer(sock: socket.socket, size: int) -> None:
    """Give a socket the largest receive buffer that this process may have, up to `size` bytes."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def dump(sock: socket.socket, subsystem: int, message: int, *, family: int = 0, body: bytes = b"") -> Iterator[bytes]:
    """Yield the body (behind nfgenmsg) of each message of a dump. `sock` must have nothing else in flight.

    Raises:
        KernelError: the kernel refused, or the dump was interrupted.
    """
    for _, found in families(sock, subsystem, message, family=family, body=body):
        yield found


def families(sock: socket.socket, subsystem: int, message: int, *, family: int = 0,
             body: bytes = b"") -> Iterator[tuple[int, bytes]]:
    """`dump`, with the family (nfgen_family) of each message in front."""
    sock.setblocking(True)
    sock.send(request(subsystem, message, family=family, flags=NLM_F_DUMP, sequence=1, body=body))
    while True:
        for kind, _, _, payload in messages(sock.recv(1 << 20)):
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                number = -struct.unpack_from("=i", payload)[0]
                raise KernelError(f"netfilter dump: {os.strerror(number)}", errno=number)
            yield payload[0], payload[4:]


def acknowledged(sock: socket.socket, data: bytes) -> None:
    """Send requests that ask for an ACK each (NLM_F_ACK) and wait for all of the answers.

    Raises:
        KernelError: the kernel refused one of them.
    """
    wanted = sum(1 for _ in messages(data))
    sock.setblocking(True)
    sock.send(data)
    while wanted:
        for kind, _, _, payload in messages(sock.recv(1 << 16)):
            if kind != NLMSG_ERROR:
                continue
            wanted -= 1
            number = -struct.unpack_from("=i", payload)[0]
            if number:
                raise KernelError(f"netfilter: {os.strerror(number)}", errno=number)
