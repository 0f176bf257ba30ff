"""Taps: sockets that hear what a network namespace does with packets. Opened under setns, read from anywhere.

- `PacketTap`: every frame on every interface of one namespace, with the kernel's time stamp (packet(7)).
- `NftTrace`: every nftables rule that a packet with nf_trace set meets, iptables-nft's included (NFNLGRP_NFTRACE).
- `LegacyTrace`: the same for iptables-legacy, whose TRACE lines come through the kernel's netfilter log.

A trace message takes about 1.3 kB of socket buffer: the default 212,992 bytes hold 166 of them. When a buffer runs
over, the kernel says so once (ENOBUFS, PACKET_STATISTICS); `lost` keeps the count, for whoever reads must know.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from netlab.kernel import nfnetlink
from netlab.kernel.netns import inside

BUFFER: Final = 16 << 20
ETH_P_ALL: Final = 3
SO_TIMESTAMPNS: Final = 35
SO_ATTACH_FILTER: Final = 26
SOL_PACKET: Final = 263
PACKET_STATISTICS: Final = 6
PACKET_OTHERHOST: Final = 3
PACKET_OUTGOING: Final = 4
NFNLGRP_NFTRACE: Final = 9
NFT_MSG_TRACE: Final = 17


@dataclass(frozen=True)
class Frame:
    """One frame on one interface. `at`: kernel time, ns since the epoch; `data` starts at the network header.

    `stray` frames came in for another link-layer address: on their way through a bridge, or flooded by one.
    """

    at: int
    interface: str
    outgoing: bool
    protocol: int
    data: bytes
    stray: bool = False


def received_at(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    """Return the kernel's time stamp of a received frame in ns since the epoch, 0 when it has none."""
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanos = struct.unpack_from("=qq", value)
            return int(seconds * 1_000_000_000 + nanos)
    return 0


class PacketTap:
    """All frames of one namespace, both ways. One socket hears every interface, also those that come later."""

    def __init__(self, netns: int, *, snap_length: int = 256, filter: Sequence[tuple[int, int, int, int]] = ()) -> None:
        """Open the tap. `filter` is classic BPF as (code, jt, jf, k), and sees the network header at offset 0."""
        with inside(netns):
            # Given at birth, the protocol listens on every interface; Python's bind() wants the name of one.
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
        if filter:
            attach_filter(self._socket, filter)
        nfnetlink.grow_buffer(self._socket, BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._snap_length = snap_length
        self.lost = 0
        self.read()  # what came in before the filter was there

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def read(self) -> list[Frame]:
        """Return what has come in since the last call; never blocks."""
        frames: list[Frame] = []
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(self._snap_length, 64)
            except BlockingIOError:
                return frames
            except OSError as error:  # an interface went down or away: said once to every listening socket
                if error.errno in (errno.ENETDOWN, errno.ENXIO, errno.ENOBUFS):
                    continue
                raise
            frames.append(Frame(received_at(ancillary), address[0], address[2] == PACKET_OUTGOING, address[1], data,
                                address[2] == PACKET_OTHERHOST))

    def count_lost(self) -> int:
        """Return how many frames have found the buffer full so far."""
        raw = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)  # the kernel starts anew each time it is asked
        self.lost += struct.unpack("=II", raw)[1]
        return self.lost

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@dataclass(frozen=True)
class RuleHit:
    """One step of one packet through one table, as the kernel told it.

    `visit` tells packets apart: the same number means the same packet on its way through this namespace. `kind` is
    "rule" (a rule matched), "return" (the end of a user chain, handle 0), or "policy" (the end of a base chain).
    `verdict` is ACCEPT, DROP, CONTINUE, JUMP, GOTO, RETURN, ..., `target` the chain jumped to. `network` and
    `transport` (first 20 bytes) are the packet's headers; the kernel sends them at the first message of each base
    chain only. For legacy iptables `rule` counts the chain's rules from 1, and `handle` is 0.
    """

    visit: int
    family: int
    table: str
    chain: str
    kind: Literal["rule", "return", "policy"]
    verdict: str
    target: str = ""
    handle: int = 0
    rule: int = 0
    network: bytes = b""
    transport: bytes = b""
    iif: int = 0
    oif: int = 0
    mark: int = 0
    legacy: bool = False


_VERDICTS: Final = {0: "DROP", 1: "ACCEPT", 2: "STOLEN", 3: "QUEUE", 4: "REPEAT", -1: "CONTINUE", -2: "BREAK",
                    -3: "JUMP", -4: "GOTO", -5: "RETURN"}
_KINDS: Final[dict[int, Literal["rule", "return", "policy"]]] = {1: "policy", 2: "return", 3: "rule"}


class _RuleTrace(ABC):
    """A netfilter socket whose messages are rule hits; `lost` counts how often the kernel found it full."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.lost = 0

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def read(self) -> list[RuleHit]:
        """Return what has come in since the last call, in the kernel's order; never blocks."""
        hits: list[RuleHit] = []
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return hits
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1
                continue
            for kind, _, _, payload in nfnetlink.messages(data):
                hit = self._decode(kind, payload)
                if hit is not None:
                    hits.append(hit)

    def count_lost(self) -> int:
        """Return how often the kernel has found the buffer full so far."""
        return self.lost

    def close(self) -> None:
        """Close the socket; what it had asked the kernel for ends with it."""
        self._socket.close()

    @abstractmethod
    def _decode(self, kind: int, payload: bytes) -> RuleHit | None:
        """Return what a message says, None for one that is about something else."""


class NftTrace(_RuleTrace):
    """The nftables rules that traced packets meet in one namespace."""

    def __init__(self, netns: int) -> None:
        with inside(netns):
            super().__init__(nfnetlink.open_socket(NFNLGRP_NFTRACE, buffer=BUFFER))

    def _decode(self, kind: int, payload: bytes) -> RuleHit | None:
        return decode_nft_trace(payload) if kind == nfnetlink.SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE else None


def decode_nft_trace(payload: bytes) -> RuleHit:
    """Decode one NFT_MSG_TRACE body (nfgenmsg and NFTA_TRACE_* attributes, <linux/netfilter/nf_tables.h>)."""
    found = dict(nfnetlink.attributes(payload[4:]))

    def number(key: int) -> int:
        return int.from_bytes(found.get(key, b""), "big")

    code, target = -1, ""
    for key, value in nfnetlink.attributes(found.get(5, b"")):
        if key == 1:
            code = struct.unpack("!i", value)[0]
        elif key == 2:
            target = _text(value)
    kind = _KINDS.get(number(4), "rule")
    if kind == "policy":
        code = number(16)
    if kind == "rule" and not number(3):
        kind = "return"  # the kernel calls the implicit end of a user chain a rule without a handle
    return RuleHit(visit=number(6), family=payload[0], table=_text(found.get(1, b"")), chain=_text(found.get(2, b"")),
                   kind=kind, verdict=_VERDICTS.get(code, str(code)), target=target, handle=number(3),
                   network=found.get(8, b""), transport=found.get(9, b""), iif=number(10), oif=number(12),
                   mark=number(14))


class LegacyTrace(_RuleTrace):
    """The iptables-legacy rules that traced packets meet in one namespace, from its netfilter log.

    The kernel writes `TRACE: nat:PREROUTING:rule:2 ` before each packet. There is no packet number in it: a visit
    starts anew when the hooks go backwards or the packet is another one; the reader finds that out, so `visit` is 0.
    """

    def __init__(self, netns: int) -> None:
        with inside(netns):
            super().__init__(nfnetlink.open_socket(buffer=BUFFER))
        config = [
            (socket.AF_INET, nfnetlink.attribute(1, b"\x03")),   # NFULNL_CFG_CMD_PF_BIND: the log of this family
            (socket.AF_INET6, nfnetlink.attribute(1, b"\x03")),
            (0, nfnetlink.attribute(1, b"\x01")),                # ..._BIND: group 0
            (0, nfnetlink.attribute(2, struct.pack("!IBx", 256, 2))),  # copy 256 bytes of each packet
            (0, nfnetlink.attribute(5, struct.pack("!I", 1))),   # do not wait for a second message
        ]
        try:
            for family, body in config:
                nfnetlink.acknowledged(self._socket, nfnetlink.request(
                    nfnetlink.SUBSYS_ULOG, 1, family=family, flags=nfnetlink.NLM_F_ACK, body=body))
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def _decode(self, kind: int, payload: bytes) -> RuleHit | None:
        return decode_legacy_trace(payload) if kind == nfnetlink.SUBSYS_ULOG << 8 else None


def decode_legacy_trace(payload: bytes) -> RuleHit | None:
    """Decode one NFULNL_MSG_PACKET body; None when it is not a TRACE line (a NFLOG or LOG rule of the user's)."""
    found = dict(nfnetlink.attributes(payload[4:]))
    words = _text(found.get(10, b"")).removeprefix("TRACE: ").strip().split(":")
    if not found.get(10, b"").startswith(b"TRACE: ") or len(words) != 4:
        return None
    table, chain, kind, rule = words
    packet = found.get(9, b"")
    header = (packet[0] & 15) * 4 if packet and packet[0] >> 4 == 4 else 40
    return RuleHit(visit=0, family=payload[0], table=table, chain=chain,
                   kind=kind if kind in ("rule", "return", "policy") else "rule",  # type: ignore[arg-type]
                   verdict="", rule=int(rule), network=packet[:header], transport=packet[header:header + 20],
                   iif=int.from_bytes(found.get(4, b""), "big"), oif=int.from_bytes(found.get(5, b""), "big"),
                   mark=int.from_bytes(found.get(2, b""), "big"), legacy=True)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


def attach_filter(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Attach a classic BPF program to a socket (socket(7), SO_ATTACH_FILTER); a program that returns 0 drops."""
    code = (_Instruction * len(program))(*(_Instruction(*line) for line in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))


def protocol_filter(*protocols: int) -> list[tuple[int, int, int, int]]:
    """Return a program that keeps IPv4 and IPv6 packets of these transport protocols and VXLAN-sized UDP wrapping.

    It looks at fixed offsets only (IPv6 extension headers are not walked): the fine choice is made in user space.
    """
    ld_byte, and_, jeq, ret = 0x30, 0x54, 0x15, 0x06
    wanted = sorted(set(protocols))
    count = len(wanted)
    program = [(ld_byte, 0, 0, 0), (and_, 0, 0, 0xF0), (jeq, 0, count + 2, 0x40), (ld_byte, 0, 0, 9)]
    program += [(jeq, 2 * count - i + 3, 0, p) for i, p in enumerate(wanted)]
    program += [(ret, 0, 0, 0)]
    program += [(jeq, 0, count + 1, 0x60), (ld_byte, 0, 0, 6)]
    program += [(jeq, count - i, 0, p) for i, p in enumerate(wanted)]
    program += [(ret, 0, 0, 0), (ret, 0, 0, 0x40000)]
    return program


def port_filter(protocol: int, port: int) -> list[tuple[int, int, int, int]]:
    """Return a program that keeps packets of one transport protocol to or from a port, and all ICMP (v4 and v6).

    It is for a namespace with traffic of strangers, where nothing rewrites ports.
    """
    ld_byte, ld_half_at_x, ldx_imm, ldx_header, and_, jump, jeq, ret = 0x30, 0x48, 0x01, 0xB1, 0x54, 0x05, 0x15, 0x06
    return [(ld_byte, 0, 0, 0), (and_, 0, 0, 0xF0), (jeq, 4, 0, 0x40), (jeq, 0, 12, 0x60),
            (ld_byte, 0, 0, 6), (ldx_imm, 0, 0, 40), (jump, 0, 0, 2),
            (ld_byte, 0, 0, 9), (ldx_header, 0, 0, 0),
            (jeq, 7, 0, 1), (jeq, 6, 0, 58), (jeq, 0, 4, protocol),
            (ld_half_at_x, 0, 0, 0), (jeq, 3, 0, port), (ld_half_at_x, 0, 0, 2), (jeq, 1, 0, port),
            (ret, 0, 0, 0), (ret, 0, 0, 0x40000)]


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
