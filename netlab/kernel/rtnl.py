"""One rtnetlink socket per network namespace, and messages packed by hand: no library, so it imports in 2 ms.

Several requests go to the kernel in one sendmsg and their acknowledgements are read back in order, which makes a Pod's
whole network cost about what it costs from C. Rare kinds of messages are packed by pyroute2's tables (`link.py`,
`route.py`) and travel through the same socket: pyroute2's own sockets bring an event loop of their own and refuse to
work inside a running one. Message layout: rtnetlink(7), netlink(7), <linux/netlink.h>.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from netlab.errors import KernelError
from netlab.kernel import netns as namespaces

REQUEST: Final = 0x001
MULTI: Final = 0x002
ACK: Final = 0x004
REPLACE: Final = 0x100
EXCLUDE: Final = 0x200
CREATE: Final = 0x400
APPEND: Final = 0x800
DUMP: Final = 0x300

NEWLINK: Final = 16
DELLINK: Final = 17
GETLINK: Final = 18
SETLINK: Final = 19
NEWADDR: Final = 20
DELADDR: Final = 21
GETADDR: Final = 22
NEWROUTE: Final = 24
DELROUTE: Final = 25
GETROUTE: Final = 26
NEWNEIGH: Final = 28
DELNEIGH: Final = 29
GETNEIGH: Final = 30

_ERROR: Final = 2
_DONE: Final = 3
_NESTED: Final = 0x8000
_EXT_ACK: Final = 0x200
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_INT = struct.Struct("=i")
_SOL_NETLINK: Final = 270


class Message(NamedTuple):
    """One request. `words` say what it does, for the error message; `flags` are added to REQUEST|ACK."""

    kind: int
    flags: int
    body: bytes
    words: str


def attribute(kind: int, value: bytes | int | str) -> bytes:
    """Pack one attribute: an int as u32, a str as a C string, bytes as they are; padded to 4 bytes."""
    if isinstance(value, int):
        data = struct.pack("=I", value)
    elif isinstance(value, str):
        data = value.encode() + b"\0"
    else:
        data = value
    size = 4 + len(data)
    return _ATTRIBUTE.pack(size, kind) + data + bytes(-size % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """Pack attributes into one attribute."""
    return attribute(kind | _NESTED, b"".join(parts))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes in `data` from `offset`; of a kind that occurs twice the last one counts."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4:offset + size]
        offset += size + 3 & ~3
    return found


class Rtnl:
    """An rtnetlink socket of one namespace. Blocking; a request takes microseconds, a link's deletion up to 20 ms.

    `netns` is a descriptor or a path; None is the namespace of the calling thread. The socket keeps belonging to the
    namespace it was opened in, whoever uses it. Not for use by two threads at once.

    Raises:
        NetnsGone: nothing is behind `netns`.
        KernelError: from every request that the kernel refuses, with the kernel's own words where it gives some.
    """

    def __init__(self, netns: int | str | os.PathLike[str] | None = None) -> None:
        raw = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        if netns is None:
            self._socket = socket.socket(socket.AF_NETLINK, raw, socket.NETLINK_ROUTE)
        else:
            self._socket = namespaces.socket_in(netns, socket.AF_NETLINK, raw, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, 10, 1)  # NETLINK_CAP_ACK: errors do not echo the request
        self._socket.setsockopt(_SOL_NETLINK, 11, 1)  # NETLINK_EXT_ACK: errors come with words
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; twice is fine."""
        self._socket.close()

    def send(self, *messages: Message, ignore: Sequence[int] = ()) -> None:
        """Send requests in one go and wait until the kernel has done them all, in order.

        The kernel does not stop at a failed one. `ignore` are errno values that count as success.

        Raises:
            KernelError: for the first one that failed, once all are answered.
        """
        failed = [error for error in self.try_send(*messages) if error is not None and error.errno not in ignore]
        if failed:
            raise failed[0]

    def try_send(self, *messages: Message) -> list[KernelError | None]:
        """Send requests in one go; return for each None, or the error that the kernel gave."""
        if not messages:
            return []
        first = self._number + 1
        packed = []
        for message in messages:
            self._number += 1
            packed.append(_HEADER.pack(16 + len(message.body), message.kind, REQUEST | ACK | message.flags,
                                       self._number, 0) + message.body)
            packed.append(bytes(-len(message.body) % 4))
        self._socket.send(b"".join(packed))
        results: dict[int, KernelError | None] = {}
        while len(results) < len(messages):
            for kind, flags, number, body in self._receive():
                if kind == _ERROR and first <= number <= self._number:
                    results[number] = _error(messages[number - first], flags, body)
        return [results[first + place] for place in range(len(messages))]

    def ask(self, message: Message) -> list[bytes]:
        """Send a GET request (with DUMP in its flags for a list) and return the bodies of the answers.

        Raises:
            KernelError: the kernel refused; ENODEV or ESRCH when what was asked for is not there.
        """
        self._number += 1
        number = self._number
        self._socket.send(_HEADER.pack(16 + len(message.body), message.kind, REQUEST | message.flags
                                       | (0 if message.flags & DUMP else ACK), number, 0) + message.body)
        answers: list[bytes] = []
        while True:
            for kind, flags, answered, body in self._receive():
                if answered != number:
                    continue
                if kind in (_ERROR, _DONE):
                    error = _error(message, flags, body) if len(body) >= 4 else None
                    if error is not None:
                        raise error
                    return answers
                answers.append(body)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(1 << 16)
        offset = 0
        while offset + 16 <= len(data):
            size, kind, flags, number, _ = _HEADER.unpack_from(data, offset)
            if size < 16:
                return
            yield kind, flags, number, data[offset + 16:offset + size]
            offset += size + 3 & ~3


def _error(message: Message, flags: int, body: bytes) -> KernelError | None:
    number = -_INT.unpack_from(body)[0]
    if number <= 0:
        return None
    said = os.strerror(number)
    if flags & _EXT_ACK:
        words = attributes(body, 20).get(1)  # after the code and the request's header (NETLINK_CAP_ACK)
        if words:
            said += f" ({words.rstrip(bytes(1)).decode(errors='replace')})"
    return KernelError(f"cannot {message.words}: {said}", errno=number)
