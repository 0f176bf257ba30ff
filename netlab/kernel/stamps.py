"""See that the kernel stamps packets as they come, before anyone relies on it.

The kernel begins to stamp when the first socket asks for it, and a little later than that: a work queue flips the
switch (net_enable_timestamp). A packet that comes in between gets the time at which it is read, which puts it behind
others that came after it.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Final

from netlab.kernel.taps import SO_TIMESTAMPNS

_PAUSE: Final = 0.002
_TRIES: Final = 50


def keep() -> socket.socket | None:
    """Return a socket that keeps stamping on until it is closed; by then the kernel does stamp (about 2 ms).

    Found out by a datagram to this very socket over the loopback of this thread's namespace; None where that is down.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.bind(("127.0.0.1", 0))
        for _ in range(_TRIES):
            sent = time.time_ns()
            sock.sendto(b"?", sock.getsockname())
            time.sleep(_PAUSE)
            stamp = _stamp(sock)
            if stamp is not None and stamp - sent < _PAUSE * 0.75e9:
                break
    except OSError:
        sock.close()
        return None
    return sock


def _stamp(sock: socket.socket) -> int | None:
    _, ancillary, _, _ = sock.recvmsg(16, 64)
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanos = struct.unpack_from("=qq", value)
            return int(seconds * 1_000_000_000 + nanos)
    return None
