"""A load generator for HTTPS: as little as possible between a request's bytes and its answer's, so that it costs less
than what it measures.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast


@dataclass
class Result:
    """What a run took: seconds in all, and of each request. `failed` counts answers that are no 2xx.

    `sent` are the times, by time.perf_counter, at which the requests were sent.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    failed: int = 0

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
    context: ssl.SSLContext | None

    async def connect(self, make: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """Open a connection."""
        _, protocol = await asyncio.get_running_loop().create_connection(
            make, self.host, self.port, ssl=self.context, server_hostname=self.host if self.context else None)
        return protocol

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        """Return a request's bytes."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nAccept: application/json\r\n"
        if body:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n".encode() + body


class _Client(asyncio.Protocol):
    """Sends one request after the other, as soon as the answer to the one before is complete."""

    def __init__(self, requests: Iterator[bytes], result: Result, done: asyncio.Future[None],
                 kept: list[bytes] | None = None) -> None:
        self._requests, self._result, self._done, self._kept = requests, result, done, kept
        self._body: list[bytes] = []
        self._left, self._head, self._sent = 0, b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._sent = time.perf_counter()
        self._result.sent.append(self._sent)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
            if self._kept is not None:
                self._body.append(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, self._left = self._head[:end].lower(), 0
            if head[9:10] != b"2":
                self._result.failed += 1
            at = head.index(b"content-length:") + 15
            self._left = int(head[at:].split(b"\r\n", 1)[0]) - (len(self._head) - end - 4)
            if self._kept is not None:
                self._body = [self._head[end + 4:]]
            self._head = b""
        if not self._left:
            self._result.latencies.append(time.perf_counter() - self._sent)
            if self._kept is not None:
                self._kept.append(b"".join(self._body))
            self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))


async def run(target: Target, clients: int, requests: Iterable[bytes]) -> Result:
    """Send all requests over so many connections, each with one request under way."""
    loop, result, source = asyncio.get_running_loop(), Result(), iter(requests)
    ends = [loop.create_future() for _ in range(clients)]
    opened = [await target.connect(lambda end=end: _Client(source, result, end)) for end in ends]  # type: ignore[misc]
    begun = time.perf_counter()
    for client in opened:
        cast(_Client, client).next()
    await asyncio.gather(*ends)
    result.seconds = time.perf_counter() - begun
    return result


async def bodies(target: Target, requests: Iterable[bytes]) -> list[bytes]:
    """Send all requests one after the other and return the answers' bodies."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    kept: list[bytes] = []
    client = await target.connect(lambda: _Client(iter(requests), Result(), done, kept))
    cast(_Client, client).next()
    await done
    return kept


class Watcher(asyncio.Protocol):
    """Follows a watch: counts lines, and where asked for notes when each came."""

    def __init__(self, request: bytes, *, timed: bool) -> None:
        self._request, self._timed = request, timed
        self.lines = 0
        self.times: deque[float] = deque()
        self._news = asyncio.Event()

    async def seen(self, count: int) -> None:
        """Wait until so many events have been timed."""
        while len(self.times) < count:
            self._news.clear()
            await self._news.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        count = data.count(b'{"type":"')
        self.lines += count
        if self._timed and count:
            now = time.perf_counter()
            self.times.extend([now] * count)
            self._news.set()

    def close(self) -> None:
        """End the watch."""
        self._transport.abort()


async def run_one(target: Target, request: bytes) -> Result:
    """Send one request over a connection of its own."""
    return await run(target, 1, [request])
