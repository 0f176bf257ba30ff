"""Exec and attach over WebSocket: one message is one channel's data, its first byte the channel's number.

Version 5 (KEP-4006) adds 255 with a channel's number: that channel's end. The base64 protocols are for clients that
can't send bytes: text messages of the channel's digit and its data in base64. Before version 4 a failure is told in
words, and a success is not told.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence

from aiohttp import WSMsgType, web

from netlab.api.meta import Object
from netlab.kubelet.streams.remote import Channel

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io",
             "base64.channel.k8s.io")
LARGEST_MESSAGE = 32 << 20
"""Bytes of one message, as upstream's library takes them."""
_CLOSE = 255
_CLOSE_SECONDS = 2.0


class ChannelSocket:
    """A WebSocket whose messages belong to numbered channels."""

    def __init__(self, request: web.BaseRequest, protocols: Sequence[str]) -> None:
        self._request, self._protocols = request, protocols
        self._socket = web.WebSocketResponse(protocols=protocols, max_msg_size=LARGEST_MESSAGE, compress=False,
                                             timeout=_CLOSE_SECONDS)
        self.protocol = ""
        """What was agreed on; "" when the client offered nothing, which means the oldest."""

    async def open(self) -> web.WebSocketResponse:
        """Answer the upgrade.

        Raises:
            HTTPBadRequest: the client speaks none of our protocols; it then tries SPDY.
        """
        offered = [word.strip() for word in self._request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if any(offered) and not set(offered) & set(self._protocols):
            raise web.HTTPBadRequest(text=f"unable to upgrade: none of {', '.join(self._protocols)} is offered")
        await self._socket.prepare(self._request)
        self.protocol = self._socket.ws_protocol or ""
        return self._socket

    async def receive(self) -> tuple[int, bytes] | None:
        """Return the next message's (channel, data), None at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                data = str(message.data).encode()
            elif message.type is WSMsgType.BINARY:
                data = bytes(message.data)
            else:
                return None
            if not data:
                continue
            if not self._base64:
                return data[0], data[1:]
            try:
                return data[0] - ord("0"), base64.b64decode(data[1:], validate=True)
            except binascii.Error:
                return None

    async def send(self, channel: int, data: bytes) -> None:
        """Send data on a channel; waits when the client is slow. Raises ConnectionError when it is gone."""
        if self._base64:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes((channel,)) + data)

    async def close(self) -> None:
        """Close, without waiting long for the client to agree."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._socket.close()
        except TimeoutError:
            return

    @property
    def _base64(self) -> bool:
        return "base64" in self.protocol


class WebSocketCarrier:
    """A conversation on one WebSocket."""

    def __init__(self, request: web.BaseRequest, wanted: Sequence[Channel]) -> None:
        self._socket = ChannelSocket(request, PROTOCOLS)
        self._first = next((c for c in (Channel.STDOUT, Channel.STDERR) if c in wanted), Channel.ERROR)

    async def open(self) -> web.WebSocketResponse:
        """Answer the upgrade, and say by an empty message that it goes on, as upstream does.

        Raises:
            HTTPBadRequest: the client speaks none of our protocols; it then tries SPDY.
        """
        response = await self._socket.open()
        await self._socket.send(self._first, b"")
        return response

    async def receive(self) -> tuple[Channel, bytes | None] | None:
        """See Carrier."""
        while (received := await self._socket.receive()) is not None:
            channel, data = received
            if channel == _CLOSE:
                if data and data[0] <= Channel.RESIZE:
                    return Channel(data[0]), None
            elif channel in (Channel.STDIN, Channel.RESIZE):
                return Channel(channel), data
        return None

    async def send(self, channel: Channel, data: bytes) -> None:
        """See Carrier."""
        await self._socket.send(channel, data)

    async def finish(self, status: Object) -> None:
        """See Carrier."""
        if self._socket.protocol.startswith("v"):
            await self._socket.send(Channel.ERROR, json.dumps(status).encode())
        elif status["status"] != "Success":
            await self._socket.send(Channel.ERROR, str(status["message"]).encode())
        await self._socket.close()
