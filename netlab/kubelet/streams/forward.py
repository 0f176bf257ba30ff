"""Port-forward over SPDY: for each connection a pair of streams, data and error, joined by their request id.

k8s:staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import dataclass, field
from typing import Protocol

from netlab.errors import KernelError
from netlab.kernel import netns
from netlab.kubelet.streams.spdy import ByteStream, Connection, SpdyStream

log = logging.getLogger(__name__)

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
_BLOCK = 1 << 16
_PAIR_SECONDS = 30.0
"""How long one stream waits for the other of its pair, as upstream's."""
_ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


@dataclass
class _Pair:
    data: SpdyStream | None = None
    error: SpdyStream | None = None


@dataclass
class Forwarder:
    """Carries connections to the ports of one Pod. `path` is its network namespace, `pod` its name for messages."""

    path: str
    pod: str
    _pairs: dict[str, _Pair] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, below: ByteStream) -> None:
        """Serve one client until it goes."""
        connection = Connection(below, lambda stream: self._opened(connection, stream))
        try:
            await connection.run()
        except ConnectionError as error:
            log.debug("port-forward to %s: %s", self.pod, error)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _opened(self, connection: Connection, stream: SpdyStream) -> None:
        request = stream.headers.get("requestid", "")
        pair = self._pairs.get(request)
        if pair is None:
            pair = self._pairs[request] = _Pair()
            asyncio.get_running_loop().call_later(_PAIR_SECONDS, self._give_up, connection, request, pair)
        if stream.headers.get("streamtype") == "data":
            pair.data = stream
        else:
            pair.error = stream
        if pair.data is not None and pair.error is not None:
            del self._pairs[request]
            task = asyncio.create_task(self._carry(connection, pair.data, pair.error), name=f"forward to {self.pod}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _give_up(self, connection: Connection, request: str, pair: _Pair) -> None:
        """Forget a stream whose other half has not come."""
        if self._pairs.get(request) is pair:
            del self._pairs[request]
            for stream in (pair.data, pair.error):
                if stream is not None:
                    connection.forget(stream)

    async def _carry(self, connection: Connection, data: SpdyStream, error: SpdyStream) -> None:
        port = data.headers.get("port", "")
        try:
            try:
                peer = await connect(self.path, int(port))
            except (OSError, ValueError, KernelError) as trouble:
                await error.write(refusal(port, self.pod, trouble).encode())
            else:
                with peer:
                    await both_ways(peer, data)
            await data.close()
            await error.close()
        except ConnectionError as gone:
            log.debug("a forwarded connection to %s: %s", self.pod, gone)
        finally:
            connection.forget(data)
            connection.forget(error)


async def connect(path: str, port: int) -> socket.socket:
    """Connect to a port of localhost in another network namespace, by IPv4 or else IPv6.

    Raises:
        OSError: nobody listens.
        NetnsGone: the namespace is gone.
    """
    loop = asyncio.get_running_loop()
    trouble: OSError = ConnectionRefusedError()
    for family, address in _ADDRESSES:
        try:
            peer = netns.socket_in(path, family)
        except OSError as error:
            trouble = error
            continue
        peer.setblocking(False)
        try:
            await loop.sock_connect(peer, (address, port))
        except OSError as error:
            peer.close()
            trouble = error if family == socket.AF_INET else trouble
            continue
        except BaseException:
            peer.close()
            raise
        return peer
    raise trouble


def refusal(port: int | str, pod: str, trouble: Exception) -> str:
    """Return how a client is told that a port could not be reached."""
    said = os.strerror(trouble.errno) if isinstance(trouble, OSError) and trouble.errno else str(trouble)
    return (f"error forwarding port {port} to pod {pod}: failed to connect to localhost:{port} inside its network "
            f"namespace: {said}")


class Data(Protocol):
    """The client's side of one forwarded connection."""

    broken: asyncio.Event
    """Set when the client has given it up, both ways."""

    async def read(self) -> bytes:
        """Return what the client sends, b"" when it sends no more."""

    async def write(self, data: bytes) -> None:
        """Send to the client; waits when it is slow. Raises ConnectionError when it is gone."""


async def both_ways(peer: socket.socket, data: Data) -> None:
    """Carry bytes between a socket and a client until the socket's other end, or the client, is through with it."""
    loop = asyncio.get_running_loop()

    async def inward() -> None:
        while block := await data.read():
            await loop.sock_sendall(peer, block)
        peer.shutdown(socket.SHUT_WR)

    async def outward() -> None:
        while block := await loop.sock_recv(peer, _BLOCK):
            await data.write(block)

    tasks = [asyncio.create_task(each) for each in (inward(), outward(), data.broken.wait())]
    try:
        await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, OSError):
                log.debug("a forwarded connection ended: %s", ended)
