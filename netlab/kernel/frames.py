"""Capture whole frames, link-layer headers included, on all interfaces of a network namespace (packet(7)).

One socket of a namespace hears every interface, also those that come later. It keeps the namespace alive: close it when
the Pod has gone.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from netlab.kernel import nfnetlink
from netlab.kernel.netns import inside
from netlab.kernel.taps import (
    BUFFER,
    ETH_P_ALL,
    PACKET_OUTGOING,
    PACKET_STATISTICS,
    SO_TIMESTAMPNS,
    SOL_PACKET,
    attach_filter,
    received_at,
)

ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772
RAW_KINDS: Final = frozenset({65534, 768, 769, 776, 778, 823, 512})
"""ARPHRD_* of interfaces whose frames begin with the IP header: none (tun, WireGuard), tunnels, ppp."""


@dataclass(frozen=True)
class WholeFrame:
    """One frame. `at`: ns since the epoch; `kind`: the interface's ARPHRD_*; `length`: bytes before it was cut."""

    at: int
    interface: str
    kind: int
    outgoing: bool
    protocol: int
    length: int
    data: bytes


class FrameTap:
    """All frames of one namespace, both ways, cut to `snap_length` bytes each."""

    def __init__(self, netns: int, *, snap_length: int = 262144,
                 filter: Sequence[tuple[int, int, int, int]] = ()) -> None:
        """Open the tap. `filter` is classic BPF over the whole frame (see pcapfilter).

        Raises:
            NetnsGone: the namespace can't be entered; OSError: the kernel refuses such a socket.
        """
        with inside(netns):
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            # born deaf: with protocol 0 nothing comes in before the filter is there
            self._socket = socket.socket(socket.AF_PACKET, kind, 0)
        try:
            if filter:
                attach_filter(self._socket, filter)
            nfnetlink.grow_buffer(self._socket, BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            _listen(self._socket)
        except BaseException:
            self._socket.close()
            raise
        self._buffer = bytearray(snap_length)
        self.received = 0
        self.lost = 0

    def fileno(self) -> int:
        """Return the descriptor, for epoll."""
        return self._socket.fileno()

    def read(self, most: int = 4096) -> list[WholeFrame]:
        """Return what has come in since the last call, at most `most` frames; never blocks."""
        frames: list[WholeFrame] = []
        while len(frames) < most:
            try:
                length, ancillary, _, address = self._socket.recvmsg_into([self._buffer], 64, socket.MSG_TRUNC)
            except BlockingIOError:
                break
            except OSError as error:  # an interface went down or away: said once to every listening socket
                if error.errno in (errno.ENETDOWN, errno.ENXIO, errno.ENOBUFS):
                    continue
                raise
            data = bytes(memoryview(self._buffer)[:min(length, len(self._buffer))])
            frames.append(WholeFrame(received_at(ancillary), address[0], address[3], address[2] == PACKET_OUTGOING,
                                     address[1], length, data))
        return frames

    def count(self) -> tuple[int, int]:
        """Return how many frames passed the filter so far, and how many of them found the buffer full."""
        received, lost = struct.unpack("=II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.received += received  # the kernel starts anew after each answer
        self.lost += lost
        return self.received, self.lost

    def close(self) -> None:
        """Close the socket, and with it the hold on the namespace."""
        self._socket.close()


def _listen(sock: socket.socket) -> None:
    """Let a packet socket hear every interface. Python's bind() wants the name of one, so libc's is called."""
    import ctypes
    import os

    address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(ETH_P_ALL), 0, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), address, len(address)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
