"""Port-forward over SPDY: for each connection a pair of streams, data and error, joined by their request id.

k8s:staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass, field

from netlab.errors import KernelError
from netlab.kernel import netns
from netlab.kubelet.streams.spdy import ByteStream, Connection, SpdyStream

log = logging.getLogger(__name__)

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
_BLOCK = 1 << 16
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
        pair = self._pairs.setdefault(request, _Pair())
        if stream.headers.get("streamtype") == "data":
            pair.data = stream
        else:
            pair.error = stream
        if pair.data is not None and pair.error is not None:
            del self._pairs[request]
            task = asyncio.create_task(self._carry(connection, pair.data, pair.error), name=f"forward to {self.pod}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, connection: Connection, data: SpdyStream, error: SpdyStream) -> None:
        port = data.headers.get("port", "")
        try:
            peer = await connect(self.path, int(port))
        except (OSError, ValueError, KernelError) as trouble:
            said = trouble.strerror if isinstance(trouble, OSError) else str(trouble)
            await error.write(f"error forwarding port {port} to pod {self.pod}: failed to connect to localhost:{port} "
                              f"inside its network namespace: {said}".encode())
            await error.close()
            await data.close()
            return
        try:
            with peer:
                await _both_ways(peer, data)
            await data.close()
            await error.close()
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


async def _both_ways(peer: socket.socket, data: SpdyStream) -> None:
    loop = asyncio.get_running_loop()

    async def inward() -> None:
        while block := await data.read():
            await loop.sock_sendall(peer, block)
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_WR)

    sending = asyncio.create_task(inward())
    try:
        while block := await loop.sock_recv(peer, _BLOCK):
            await data.write(block)
    except OSError as error:
        log.debug("a forwarded connection ended: %s", error)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
