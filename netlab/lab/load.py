"""A load generator for HTTPS: as little as possible between a request's bytes and its answer's, so that it costs less
than what it measures. TLS is spoken right on the socket: asyncio's transports cost more than many a request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

_PIECE = 256 * 1024
_SECONDS = 30.0
_CONNECTING = 16


@dataclass
class Result:
    """What a run took: seconds in all, and of each request. `failed` counts answers that are no 2xx.

    `sent` are the times, by time.perf_counter, at which the requests were sent, or with a rate were due.
    `cpu` is what the `clock` that was given for the server's CPU time counted.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    failed: int = 0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Return answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency that this share of the requests stays under."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


@dataclass(frozen=True)
class Target:
    """A server: everything that connections to it have in common."""

    host: str
    port: int
    context: ssl.SSLContext

    async def connect(self) -> ssl.SSLSocket:
        """Open a connection that does not block."""
        return await asyncio.get_running_loop().run_in_executor(None, self._connect)

    def _connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection((self.host, self.port), timeout=_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrapped = self.context.wrap_socket(raw, server_hostname=self.host)
        wrapped.setblocking(False)
        return wrapped

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """Return a request's bytes."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nAccept: application/json\r\n"
        if body:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n".encode() + body


class Connection(ABC):
    """What all who read from a server have in common: `received` is called with each piece, `lost` at the end."""

    def __init__(self, wrapped: ssl.SSLSocket) -> None:
        self._socket = wrapped
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(wrapped, self._readable)

    def _readable(self) -> None:
        try:
            while True:
                count = self._socket.recv_into(BUFFER)
                if not count:
                    raise ConnectionResetError("the server closed the connection")
                self.received(count)
                if not self._socket.pending():
                    return
        except ssl.SSLWantReadError:
            return
        except OSError as error:
            if self._socket.fileno() >= 0:
                self.close()
                self.lost(error)

    def send(self, data: bytes) -> None:
        """Send what fits into the socket's buffer, which is empty when a request is all that is under way."""
        self._socket.send(data)

    def close(self) -> None:
        """End the connection."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    @abstractmethod
    def received(self, count: int) -> None:
        """Take what is in the first `count` bytes of the buffer."""

    def lost(self, error: OSError) -> None:  # noqa: B027 - who has nothing to say about it leaves it out
        """Hear that there is no more."""


BUFFER = bytearray(_PIECE)


class _Client(Connection):
    """Sends one request after the other, as soon as the answer to the one before is complete, or when it is due."""

    def __init__(self, wrapped: ssl.SSLSocket, requests: Iterator[tuple[float, bytes]], result: Result,
                 done: asyncio.Future[None], kept: list[bytes] | None = None) -> None:
        super().__init__(wrapped)
        self._requests, self._result, self._done, self._kept = requests, result, done, kept
        self._body = bytearray()
        self._left, self._head, self._sent = 0, b"", 0.0
        self._tail: bytes | None = None  # of a body in chunks

    def next(self) -> None:
        due, request = next(self._requests, (0.0, b""))
        if not request:
            self.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        wait = due - time.perf_counter()
        if due and wait > 0:
            self._loop.call_later(wait, self._go, due, request)
        else:
            self._go(due or time.perf_counter(), request)

    def _go(self, at: float, request: bytes) -> None:
        self._sent = at
        self._result.sent.append(at)
        self.send(request)

    def received(self, count: int) -> None:
        if self._left or self._tail is not None:
            piece = BUFFER[:count] if self._kept is not None or self._tail is not None else None
        else:
            self._head += BUFFER[:count]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            piece = bytearray(self._head[end + 4:])
            self._begin(self._head[:end + 2].lower())
            count = len(piece)
            self._head = b""
        if self._tail is not None:
            assert piece is not None
            self._tail = (self._tail + piece)[-7:]
            complete = self._tail == b"\r\n0\r\n\r\n"
        else:
            self._left -= count
            complete = not self._left
        if self._kept is not None:
            assert piece is not None
            self._body += piece
        if complete:
            self._complete()

    def _begin(self, head: bytes) -> None:
        if head[9:10] != b"2":
            self._result.failed += 1
        at = head.find(b"content-length:")
        if at < 0:
            self._tail = b""
        else:
            self._left = int(head[at + 15:].split(b"\r\n", 1)[0])

    def _complete(self) -> None:
        self._result.latencies.append(time.perf_counter() - self._sent)
        if self._kept is not None:
            self._kept.append(bytes(self._body) if self._tail is None else _joined(self._body))
            self._body.clear()
        self._tail = None
        self.next()

    def lost(self, error: OSError) -> None:
        if not self._done.done():
            self._done.set_exception(error)


def _joined(chunks: bytearray) -> bytes:
    """Return what a body in chunks says."""
    found: list[bytes] = []
    at = 0
    while True:
        end = chunks.index(b"\r\n", at)
        size = int(chunks[at:end], 16)
        if not size:
            return b"".join(found)
        found.append(bytes(chunks[end + 2:end + 2 + size]))
        at = end + 4 + size


async def run(target: Target, clients: int, requests: Iterable[bytes], *, rate: float = 0.0,
              clock: Callable[[], float] = lambda: 0.0) -> Result:
    """Send all requests over so many connections, each with one request under way.

    Args:
        rate: requests per second, begun when they are due, however long the answers take; 0 is as fast as it goes.
    """
    loop, result = asyncio.get_running_loop(), Result()
    ends = [loop.create_future() for _ in range(clients)]
    sockets = [await target.connect() for _ in range(clients)]
    cpu, begun = clock(), time.perf_counter()
    source = ((begun + number / rate if rate else 0.0, request) for number, request in enumerate(requests))
    for wrapped, end in zip(sockets, ends, strict=True):
        _Client(wrapped, source, result, end).next()
    await asyncio.gather(*ends)
    result.seconds, result.cpu = time.perf_counter() - begun, clock() - cpu
    return result


async def bodies(target: Target, requests: Iterable[bytes]) -> list[bytes]:
    """Send all requests one after the other and return the answers' bodies."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    kept: list[bytes] = []
    _Client(await target.connect(), ((0.0, request) for request in requests), Result(), done, kept).next()
    await done
    return kept


class Watcher(Connection):
    """Follows a watch: counts its lines (the only LF without a CR), and where asked for notes when each came.

    `times` has the time of every line so far, by time.perf_counter.
    """

    def __init__(self, wrapped: ssl.SSLSocket, request: bytes, *, timed: bool = False) -> None:
        super().__init__(wrapped)
        self.lines = 0
        self.times: list[float] = []
        self._timed = timed
        self.send(request)

    def received(self, count: int) -> None:
        self.lines += BUFFER.count(b"\n", 0, count) - BUFFER.count(b"\r", 0, count)
        if self._timed:
            self.times += [time.perf_counter()] * (self.lines - len(self.times))


async def watchers(target: Target, count: int, request: bytes, timed: Callable[[int], bool]) -> list[Watcher]:
    """Open so many watches, each over a connection of its own; `timed` tells which note when events came."""
    opened: list[Watcher] = []
    for begin in range(0, count, _CONNECTING):
        sockets = await asyncio.gather(*(target.connect() for _ in range(begin, min(begin + _CONNECTING, count))))
        opened += [Watcher(wrapped, request, timed=timed(begin + at)) for at, wrapped in enumerate(sockets)]
    return opened


async def run_one(target: Target, request: bytes) -> Result:
    """Send one request over a connection of its own."""
    return await run(target, 1, [request])
