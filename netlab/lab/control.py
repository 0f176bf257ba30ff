"""How the processes of a lab talk: one JSON message per packet of a Unix seqpacket socket, descriptors riding along.

Small and blocking on purpose: the template and the launcher have no event loop, and no message is longer than a packet.
A request is `{"op": NAME, ...}`; an answer is a dict, `{"error": TEXT, "hint": TEXT}` when it went wrong.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netlab.errors import KernelError, TemporaryError

Message = dict[str, Any]

_MAX_BYTES = 200_000
_MAX_FDS = 253  # SCM_MAX_FD: what the kernel takes in one packet


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends, closed on exec unless made inheritable."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MAX_BYTES)
    return ours, theirs


def listen(path: Path) -> socket.socket:
    """Listen at a path that only the owner may use."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        server.bind(os.fspath(path))
    finally:
        os.umask(before)
    server.listen(64)
    return server


def connect(path: Path) -> socket.socket:
    """Connect to a path.

    Raises:
        TemporaryError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        sock.connect(os.fspath(path))
    except OSError as error:
        sock.close()
        raise TemporaryError(f"nobody answers at {path}: {error.strerror}",
                             hint="the lab has died; netlab down clears it away") from None
    return sock


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message; the descriptors are duplicated for the receiver."""
    raw = json.dumps(message, separators=(",", ":")).encode()
    if len(raw) > _MAX_BYTES or len(fds) > _MAX_FDS:
        raise KernelError(f"a control message of {len(raw)} bytes and {len(fds)} descriptors is too long")
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([raw], ancillary)


def receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """Return the next message and its descriptors, which belong to the caller; None when the other end is gone."""
    try:
        raw, ancillary, _, _ = sock.recvmsg(_MAX_BYTES, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
    if not raw:
        for fd in fds:
            os.close(fd)
        return None
    return json.loads(raw), list(fds)


def ask(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
    """Send a request and wait for its answer.

    Raises:
        KernelError: the other side says what went wrong.
        TemporaryError: the other side is gone.
    """
    try:
        send(sock, message, fds)
    except OSError as error:
        raise TemporaryError(f"the lab is gone: {error.strerror}") from None
    return answer(sock)


def answer(sock: socket.socket) -> tuple[Message, list[int]]:
    """Wait for one answer. Raises as `ask`."""
    got = receive(sock)
    if got is None:
        raise TemporaryError("the lab ended before it answered")
    if "error" in got[0]:
        raise KernelError(got[0]["error"], hint=got[0].get("hint", ""))
    return got
