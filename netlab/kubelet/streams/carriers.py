"""The byte streams that SPDY is spoken over: an upgraded HTTP/1.1 connection, or the binary messages of a WebSocket."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from aiohttp import WSMsgType, web

from netlab.kubelet.streams.websocket import LARGEST_MESSAGE

_WAITING_BYTES = 1 << 20


class _Handler(Protocol):
    """What aiohttp's connection handler offers for a protocol of one's own after a 101."""

    def set_parser(self, parser: object) -> None:
        """Give all that comes from now on to `parser.feed_data`."""


class Upgraded:
    """An HTTP/1.1 connection after `101 Switching Protocols`."""

    def __init__(self, request: web.BaseRequest, headers: dict[str, str]) -> None:
        self._request = request
        self._response = web.StreamResponse(status=101, headers={"Connection": "Upgrade", **headers})
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._waiting = 0
        self._paused = self._ended = False

    async def open(self) -> web.StreamResponse:
        """Answer 101. Nothing that comes afterwards is read as HTTP."""
        cast(_Handler, self._request.protocol).set_parser(self)
        await self._response.prepare(self._request)
        self._response.force_close()
        await self._response.write(b"")
        return self._response

    async def read(self) -> bytes:
        """See ByteStream."""
        if self._ended and self._queue.empty():
            return b""
        data = await self._queue.get()
        self._waiting -= len(data)
        transport = self._request.transport
        if self._paused and self._waiting < _WAITING_BYTES // 2 and transport is not None:
            self._paused = False
            cast(asyncio.ReadTransport, transport).resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """See ByteStream."""
        await self._response.write(data)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take in what has come (aiohttp calls this)."""
        if data:
            self._waiting += len(data)
            self._queue.put_nowait(bytes(data))
        transport = self._request.transport
        if self._waiting > _WAITING_BYTES and not self._paused and transport is not None:
            self._paused = True
            cast(asyncio.ReadTransport, transport).pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        """The connection is gone (aiohttp calls this)."""
        self._ended = True
        self._queue.put_nowait(b"")

    def set_exception(self, _error: object, _cause: object = None) -> None:
        """The connection broke (aiohttp calls this)."""
        self.feed_eof()


class Tunnel:
    """The binary messages of a WebSocket as one stream of bytes (KEP-4006); where they are cut means nothing."""

    def __init__(self, request: web.BaseRequest, protocol: str) -> None:
        self._request = request
        self._socket = web.WebSocketResponse(protocols=(protocol,), max_msg_size=LARGEST_MESSAGE, compress=False,
                                             timeout=1.0)

    async def open(self) -> web.WebSocketResponse:
        """Answer the upgrade."""
        await self._socket.prepare(self._request)
        return self._socket

    async def read(self) -> bytes:
        """See ByteStream."""
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return b""
            if message.data:  # kubectl sends empty messages, which are no end
                return bytes(message.data)

    async def write(self, data: bytes) -> None:
        """See ByteStream."""
        await self._socket.send_bytes(data)
