"""The connection tracking table of a network namespace, over ctnetlink.

Numbers: <linux/netfilter/nfnetlink_conntrack.h>, <linux/netfilter/nf_conntrack_common.h>.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from netlab.errors import KernelError
from netlab.kernel import netns as namespaces
from netlab.kernel import nfnetlink

_NEW, _GET, _DELETE = 0, 1, 2
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _TIMEOUT, _MARK = 1, 2, 3, 4, 7, 8
_COUNTERS_ORIG, _COUNTERS_REPLY, _ID = 9, 10, 12
_NESTED = 0x8000
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_NUMBERS: Final = {name: number for number, name in _PROTOCOLS.items()}
_TCP_STATES: Final = ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK",
                      "TIME_WAIT", "CLOSE", "SYN_SENT2")

_PLACES: Final[Mapping[int, tuple[int, int, int, int]]] = {
    socket.AF_INET: (20, 24, 32, 48), socket.AF_INET6: (32, 48, 56, 72)}
"""Where an entry has its first packet's destination (from, to), protocol and destination port."""
_HEADS: Final[Mapping[int, bytes]] = {
    socket.AF_INET: struct.pack("=HH", 8, 2), socket.AF_INET6: struct.pack("=HH", 20, 4)}
_PROTO_HEAD, _PORT_HEAD = struct.pack("=HH", 5, 1), struct.pack("=HH", 6, 3)
"""The heads of the attributes there: CTA_IP_V4_DST or CTA_IP_V6_DST, CTA_PROTO_NUM, CTA_PROTO_DST_PORT."""

SEEN_REPLY: Final = 1 << 1
ASSURED: Final = 1 << 2
CONFIRMED: Final = 1 << 3
SRC_NAT: Final = 1 << 4
DST_NAT: Final = 1 << 5


@dataclass(frozen=True, slots=True)
class Direction:
    """A flow's addresses one way. Ports are 0 where the protocol has none."""

    src: str
    dst: str
    sport: int = 0
    dport: int = 0
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Flow:
    """One entry: the direction of its first packet as it was sent, and the reply as it is expected back.

    `status` holds the IPS_ bits (SEEN_REPLY, ASSURED, SRC_NAT, DST_NAT ...), `timeout` the seconds left, `state` TCP's
    state or "". Packets and bytes are 0 unless nf_conntrack_acct is on.
    """

    protocol: str
    original: Direction
    reply: Direction
    status: int = 0
    timeout: int = 0
    mark: int = 0
    state: str = ""
    id: int = 0


def flows(netns: int | str | None = None, *, protocol: str = "", ipv6: bool = False,
          to: Callable[[bytes, int], bool] | None = None) -> list[Flow]:
    """Return the entries of a namespace, only those of a protocol when one is given.

    Args:
        netns: where.
        protocol: such as "udp".
        ipv6: of which family.
        to: asked with the address (packed) and port that a flow's first packet went to; the others are left out at a
            tenth of the cost, of which a busy node has hundreds of thousands.

    Raises:
        KernelError: no right to look, or no connection tracking in this kernel.
    """
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    number = _NUMBERS.get(protocol, 0)
    with _socket(netns) as sock:
        bodies = nfnetlink.dump(sock, nfnetlink.SUBSYS_CTNETLINK, _GET, family=family)
        found = [flow for body in bodies if not _passed_over(body, family, number, to) and (flow := _flow(body))]
    return [flow for flow in found if not protocol or flow.protocol == protocol]


def _passed_over(body: bytes, family: int, number: int, to: Callable[[bytes, int], bool] | None) -> bool:
    """Tell quickly that an entry is not asked for, by where the kernel puts what tells it; False when in doubt."""
    start, end, proto, port = _PLACES[family]
    if body[start - 4:start] != _HEADS[family] or body[proto - 4:proto] != _PROTO_HEAD:
        return False
    if number and body[proto] != number:
        return True
    if to is None or body[port - 4:port] != _PORT_HEAD:
        return False
    return not to(body[start:end], body[port] << 8 | body[port + 1])


def delete(gone: Iterable[Flow], netns: int | str | None = None) -> int:
    """Delete entries; return how many were still there.

    Raises:
        KernelError: no right to delete.
    """
    count = 0
    with _socket(netns) as sock:
        for flow in gone:
            family = socket.AF_INET6 if ":" in flow.original.src else socket.AF_INET
            body = nfnetlink.attribute(_TUPLE_ORIG | _NESTED, _tuple(flow))
            if flow.id:
                body += nfnetlink.attribute(_ID, struct.pack("!I", flow.id))
            try:
                nfnetlink.acknowledged(sock, nfnetlink.request(
                    nfnetlink.SUBSYS_CTNETLINK, _DELETE, family=family, flags=nfnetlink.NLM_F_ACK, sequence=1,
                    body=body))
                count += 1
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    raise
    return count


class NewFlows:
    """Entries as they are made in one namespace, from now until `close` (NFNLGRP_CONNTRACK_NEW)."""

    def __init__(self, netns: int | str) -> None:
        """Listen.

        Raises:
            KernelError: no connection tracking in this kernel.
        """
        with namespaces.inside(netns):
            self._socket = nfnetlink.open_socket(1, buffer=4 << 20)
        self.lost = 0

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def read(self) -> list[Flow]:
        """Return the entries made since the last call; never blocks."""
        found: list[Flow] = []
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1
                continue
            found += [flow for kind, _, _, body in nfnetlink.messages(data)
                      if kind == nfnetlink.SUBSYS_CTNETLINK << 8 and (flow := _flow(body[4:])) is not None]

    def count_lost(self) -> int:
        """Return how often the kernel has found the buffer full so far."""
        return self.lost

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@contextlib.contextmanager
def _socket(netns: int | str | None) -> Iterator[socket.socket]:
    with namespaces.within(netns):
        sock = nfnetlink.open_socket(buffer=4 << 20)
    try:
        yield sock
    finally:
        sock.close()


def _flow(body: bytes) -> Flow | None:
    parts = dict(nfnetlink.attributes(body))
    if _TUPLE_ORIG not in parts or _TUPLE_REPLY not in parts:
        return None
    protocol, original = _direction(parts[_TUPLE_ORIG], parts.get(_COUNTERS_ORIG, b""))
    _, reply = _direction(parts[_TUPLE_REPLY], parts.get(_COUNTERS_REPLY, b""))
    status, timeout, mark, number = (int.from_bytes(parts.get(kind, b""), "big")
                                     for kind in (_STATUS, _TIMEOUT, _MARK, _ID))
    return Flow(protocol, original, reply, status, timeout, mark, _tcp_state(parts.get(_PROTOINFO, b"")), number)


def _direction(data: bytes, counters: bytes) -> tuple[str, Direction]:
    parts = dict(nfnetlink.attributes(data))
    ips = dict(nfnetlink.attributes(parts.get(1, b"")))
    proto = dict(nfnetlink.attributes(parts.get(2, b"")))
    counted = dict(nfnetlink.attributes(counters))
    number = (proto.get(1) or b"\0")[0]
    src, dst = (_address(ips.get(a) or ips.get(b) or b"\0\0\0\0") for a, b in ((1, 3), (2, 4)))
    sport, dport = (int.from_bytes(proto.get(kind, b""), "big") for kind in (2, 3))
    packets, count = (int.from_bytes(counted.get(kind, b""), "big") for kind in (1, 2))
    return _PROTOCOLS.get(number, str(number)), Direction(src, dst, sport, dport, packets, count)


def _tuple(flow: Flow) -> bytes:
    one = flow.original
    ipv6 = ":" in one.src
    src, dst = (ipaddress.ip_address(each).packed for each in (one.src, one.dst))
    ips = nfnetlink.attribute(3 if ipv6 else 1, src) + nfnetlink.attribute(4 if ipv6 else 2, dst)
    number = _NUMBERS.get(flow.protocol) or int(flow.protocol)
    proto = nfnetlink.attribute(1, bytes([number]))
    proto += nfnetlink.attribute(2, struct.pack("!H", one.sport)) + nfnetlink.attribute(3, struct.pack("!H", one.dport))
    return nfnetlink.attribute(1 | _NESTED, ips) + nfnetlink.attribute(2 | _NESTED, proto)


def _tcp_state(data: bytes) -> str:
    tcp = dict(nfnetlink.attributes(data)).get(1, b"")
    state = dict(nfnetlink.attributes(tcp)).get(1, b"")
    return _TCP_STATES[state[0]] if state and state[0] < len(_TCP_STATES) else ""


def _address(raw: bytes) -> str:
    return str(ipaddress.ip_address(raw))
