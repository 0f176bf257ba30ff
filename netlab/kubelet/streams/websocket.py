"""Exec and attach over WebSocket: one message is one channel's data, its first byte the channel's number.

Version 5 (KEP-4006) adds 255 with a channel's number: that channel's end.
"""

from __future__ import annotations

import asyncio
import json

from aiohttp import WSMsgType, web

from netlab.api.meta import Object
from netlab.kubelet.streams.remote import Channel

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_CLOSE = 255
_CLOSE_SECONDS = 2.0


class WebSocketCarrier:
    """A conversation on one WebSocket."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0, compress=False, autoping=True,
                                             timeout=_CLOSE_SECONDS)

    async def open(self) -> web.WebSocketResponse:
        """Answer the upgrade.

        Raises:
            HTTPBadRequest: the client speaks none of our protocols; it then tries SPDY.
        """
        offered = self._request.headers.get("Sec-WebSocket-Protocol", "")
        if not any(word.strip() in PROTOCOLS for word in offered.split(",")):
            raise web.HTTPBadRequest(text=f"unable to upgrade: none of {', '.join(PROTOCOLS)} is offered")
        await self._socket.prepare(self._request)
        return self._socket

    async def receive(self) -> tuple[Channel, bytes | None] | None:
        """See Carrier."""
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
            if data[0] == _CLOSE:
                if len(data) > 1 and data[1] <= Channel.RESIZE:
                    return Channel(data[1]), None
                continue
            if data[0] in (Channel.STDIN, Channel.RESIZE):
                return Channel(data[0]), data[1:]

    async def send(self, channel: Channel, data: bytes) -> None:
        """See Carrier."""
        await self._socket.send_bytes(bytes((channel,)) + data)

    async def finish(self, status: Object) -> None:
        """See Carrier."""
        await self._socket.send_bytes(bytes((Channel.ERROR,)) + json.dumps(status).encode())
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._socket.close()
        except TimeoutError:
            return
