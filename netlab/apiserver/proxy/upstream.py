"""One HTTP request passed on to somebody else, answer, stream or upgraded connection included.

An upgraded connection (WebSocket, SPDY/3.1) is only bytes here: whatever the two ends agreed on passes through.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from multidict import CIMultiDict

from netlab import daemon
from netlab.apiserver import status
from netlab.apiserver.auth.authenticate import SUBPROTOCOL
from netlab.apiserver.http import Duplex, Reply, Request, Response, Sink, Stream, Upgrade
from netlab.apiserver.proxy.rewrite import Links, Page

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
_HOP = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "host", "content-length", "authorization", "accept-encoding"}
_HEAD_SECONDS = 60.0
"""A backend that has not begun to answer by then will not; how long an answer goes on is the client's affair."""
_PORTION = 64 * 1024
_QUEUE = 1024 * 1024


class Upstream:
    """Connections to kubelets and Pods. `close` ends what is left of them."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def forward(self, request: Request, url: str, *, known: bool = True, server_name: str = "",
                      headers: Mapping[str, str] | None = None, prefix: str = "") -> Response:
        """Send the request on to `url` and return the answer.

        `known` servers show a certificate that is verified, and are shown ours; others (Pods) may show any.
        `server_name` is whose certificate is expected when it is not the URL's host's; a value in `headers` may hold
        several, with NUL between, for a header that is sent several times. With a `prefix`, the path of the proxy in
        front of the other server's, links in the answer are led through it.

        Raises:
            ApiError: nobody answers there: 500, and 503 with a prefix.
        """
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._tls, limit=0, force_close=True,
                                             socket_factory=daemon.watchful_socket)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False,
                                                  cookie_jar=aiohttp.DummyCookieJar())
        upgrade = request.headers.get("Upgrade", "")
        sent: CIMultiDict[str] = CIMultiDict(
            (name, value) for name, value in _items(request.headers)
            if name.lower() not in _HOP and not name.lower().startswith(("x-remote-", "impersonate-")))
        if upgrade:
            sent["Connection"], sent["Upgrade"] = "Upgrade", upgrade
            if "Sec-WebSocket-Protocol" in sent:  # where a browser puts its token, which is for us alone
                spoken = map(str.strip, sent["Sec-WebSocket-Protocol"].split(","))
                sent["Sec-WebSocket-Protocol"] = ", ".join(w for w in spoken if not w.startswith(SUBPROTOCOL))
        for name, values in (headers or {}).items():
            for value in values.split("\0"):
                sent.add(name, value)
        if server_name:
            sent["Host"] = server_name
        body = b"" if upgrade else await request.body()
        from yarl import URL

        target = URL(url, encoded=True)
        links = Links(prefix, request.headers.get("Host", ""), target.authority) if prefix else None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                answer = await self._session.request(
                    request.method, target, headers=sent, data=body or None, timeout=timeout,
                    skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                    allow_redirects=False, ssl=self._tls if known else False, server_hostname=server_name or None)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise status.unavailable(f"error trying to reach service: {said}") if prefix else \
                status.internal(f"error dialing backend: {said}") from None
        if answer.status == 101:
            return Upgrade(lambda duplex: _pipe(duplex, answer), _switching(answer))
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                return await _answer(answer, links)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            answer.close()
            raise status.internal(f"error reading from the backend: {error or type(error).__name__}") from None


async def _answer(answer: aiohttp.ClientResponse, links: Links | None) -> Response:
    kind = answer.headers.get("Content-Type", "application/octet-stream")
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in {
        *_HOP, "content-type", "date", "server", "cache-control"}}
    page: Page | None = None
    if links is not None:
        if "Location" in headers:
            headers["Location"] = links.lead(headers["Location"])
        elif answer.content_type == "text/html" and "Content-Encoding" not in answer.headers:
            page = Page(links)
    if answer.content_length is not None and answer.content_length <= _PORTION:
        try:
            body = await answer.read()
            return Reply(page.feed(body) + page.end() if page else body, answer.status, kind, headers)
        finally:
            answer.release()

    async def run(sink: Sink) -> None:
        try:
            async for piece in answer.content.iter_any():
                if led := page.feed(piece) if page else piece:
                    await sink.write(led)
            if page and (left := page.end()):
                await sink.write(left)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.info("the backend broke off: %s", error)
        finally:
            answer.close()

    return Stream(run, kind, answer.status, headers)


def _switching(answer: aiohttp.ClientResponse) -> dict[str, str]:
    kept = {name: value for name, value in answer.headers.items() if name.lower() not in ("date", "server",
                                                                                          "content-length")}
    return {"Connection": "Upgrade"} | kept


def _items(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return list(headers.items())


async def _pipe(client: Duplex, answer: aiohttp.ClientResponse) -> None:
    """Carry bytes both ways until one end closes."""
    connection = answer.connection
    if connection is None or connection.protocol is None or connection.transport is None:
        return
    protocol: Any = connection.protocol
    transport: Any = connection.transport
    to_client = _Pump()
    to_backend = _Pump()

    class Reader:
        """What aiohttp feeds the backend's bytes to."""

        def feed_data(self, data: bytes) -> tuple[bool, bytes]:
            """Take bytes."""
            if to_client.put(bytes(data)) and not transport.is_closing():
                transport.pause_reading()
            return False, b""

        def feed_eof(self) -> None:
            """Take the end."""
            to_client.end()

        def set_exception(self, _error: BaseException, _cause: BaseException | None = None) -> None:
            """Take the end, the hard way."""
            to_client.end()

    def from_client(data: bytes) -> None:
        if to_backend.put(data):
            client.pause(True)

    def backend_resume() -> None:
        if not transport.is_closing():
            transport.resume_reading()

    async def send_backend(data: bytes) -> None:
        if transport.is_closing():
            raise ConnectionResetError
        transport.write(data)
        await protocol._drain_helper()  # noqa: SLF001 - the one way to wait for aiohttp's own flow control

    reader = Reader()
    protocol.set_parser(reader, reader)
    client.on_data(from_client, to_backend.end)
    tasks = [asyncio.ensure_future(to_client.run(client.write, backend_resume)),
             asyncio.ensure_future(to_backend.run(send_backend, lambda: client.pause(False)))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        answer.close()


class _Pump:
    """A bounded queue of bytes from a callback to a coroutine. `put` tells that the reader should pause."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False
        self._wake = asyncio.Event()
        self._paused = False

    def put(self, data: bytes) -> bool:
        self._pieces.append(data)
        self._size += len(data)
        self._wake.set()
        if self._size > _QUEUE and not self._paused:
            self._paused = True
            return True
        return False

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    async def run(self, send: Any, resume: Any) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pieces:
                data, self._pieces, self._size = b"".join(self._pieces), [], 0
                if self._paused:
                    self._paused = False
                    resume()
                await send(data)
            if self._ended:
                return
