"""The gate: 127.0.0.1:PORT of the host, passed on to whichever of the lab's API servers answers.

Its listening socket was opened in the host's network; the process itself moves into the fabric, where the API servers
can be reached. That works rootless too, since it never has to come back. It ends with the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket

from netlab import klog
from netlab.errors import TemporaryError
from netlab.kernel import libc
from netlab.kernel.process import set_title
from netlab.lab import control

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 3.0
_BUFFER = 1 << 18


class Pipe(asyncio.Protocol):
    """One side of a connection: what arrives goes to the other side, no faster than that takes it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: Pipe | None = None
        self.early = b""
        self.ended = False

    def join(self, peer: Pipe) -> None:
        """Connect two sides, and pass on what came before."""
        self.peer, peer.peer = peer, self
        for side, other in ((self, peer), (peer, self)):
            if side.transport is not None and other.transport is not None:
                other.transport.write(side.early)
                if side.ended:
                    other.end()
                else:
                    side.transport.resume_reading()

    def end(self) -> None:
        """Say that nothing more comes; with both directions ended the connection is over."""
        if self.transport is not None:
            if self.ended:
                self.transport.close()
            elif self.transport.can_write_eof():
                self.transport.write_eof()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; wait with reading until both sides are there."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=_BUFFER)
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on. Before Python 3.11.4 a transport that was paused at birth reads all the same."""
        if self.peer is None:
            self.early += data
        elif self.peer.transport is not None:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the end of one direction on and leave the other open."""
        self.ended = True
        if self.peer is not None:
            self.peer.end()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        """Close the other side."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()

    def pause_writing(self) -> None:
        """Stop reading on the other side: this one is full."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()


class Gate:
    """Passes connections on to the first target that takes them, beginning with the last that did."""

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        self._targets = targets
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until stopped."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._accepted, sock=listener)
        async with server:
            await stop.wait()

    def _accepted(self) -> Pipe:
        return _Near(self)

    def connect(self, near: Pipe) -> None:
        """Find a target for a new connection."""
        task = asyncio.get_running_loop().create_task(self._connect(near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, near: Pipe) -> None:
        loop = asyncio.get_running_loop()
        for target in list(self._targets):
            try:
                _, far = await asyncio.wait_for(loop.create_connection(Pipe, *target), _CONNECT_SECONDS)
            except (OSError, TimeoutError):
                continue
            self._targets.remove(target)
            self._targets.insert(0, target)
            near.join(far)
            return
        if near.transport is not None:
            near.transport.abort()


class _Near(Pipe):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._gate.connect(self)


def main(argv: list[str]) -> int:
    """Run a gate: argv is the lab's name, the listening descriptor and the descriptor of the holder's end."""
    set_title(["netlab-gate", argv[0]])
    klog.setup()
    listener, holder = socket.socket(fileno=int(argv[1])), socket.socket(fileno=int(argv[2]))
    first = control.receive(holder)  # comes when the fabric is there
    if first is None:
        return 1
    message, (fabric, user) = first
    if os.fstat(user).st_ino != os.stat("/proc/self/ns/user").st_ino:
        libc.setns(user, libc.CLONE_NEWUSER)
    libc.setns(fabric, libc.CLONE_NEWNET)
    os.close(fabric)
    os.close(user)
    asyncio.run(_main(Gate([(host, port) for host, port in message["targets"]]), listener, holder))
    return 0


async def _main(gate: Gate, listener: socket.socket, holder: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def heard() -> None:
        with contextlib.suppress(TemporaryError, OSError):
            if control.receive(holder) is None:
                stop.set()

    loop.add_reader(holder.fileno(), heard)
    await gate.run(listener, stop)
