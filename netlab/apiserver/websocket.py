"""Watches and logs for browsers: the pieces of an answer as the messages of a WebSocket.

A watch sends one event in each text message; a log is bytes, or base64 for those that can take text only.
k8s:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/watch.go, k8s:staging/src/k8s.io/streaming/pkg/wsstream
"""

from __future__ import annotations

import asyncio
import base64

from aiohttp import WSMsgType, web

from netlab import daemon
from netlab.apiserver.auth.authenticate import SUBPROTOCOL
from netlab.apiserver.http import Request, Stream

_BINARY, _BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
_LARGEST_MESSAGE = 64 * 1024
"""Of the client, which has nothing to say."""
_CLOSE_SECONDS = 2.0


def asked(request: Request) -> bool:
    """Tell whether a request wants a WebSocket."""
    words = request.headers.get("Connection", "").lower().replace(" ", "").split(",")
    return request.headers.get("Upgrade", "").lower() == "websocket" and "upgrade" in words


async def send(raw: web.BaseRequest, request: Request, stream: Stream, seconds: float) -> web.StreamResponse:
    """Send a stream as messages until it ends or the client goes; one that takes nothing for so long is cut off."""
    spoken = [word for word in map(str.strip, request.headers.get("Sec-WebSocket-Protocol", "").split(","))
              if word and not word.startswith(SUBPROTOCOL)]
    known = [word for word in spoken if word in (_BINARY, _BASE64)] if stream.messages == "bytes" else spoken[:1]
    if spoken and not known:
        return web.Response(status=400, text=f"unable to upgrade: none of {', '.join(spoken)} is spoken here\n")
    socket = web.WebSocketResponse(protocols=known, max_msg_size=_LARGEST_MESSAGE, compress=False,
                                   timeout=_CLOSE_SECONDS)
    try:
        await socket.prepare(raw)
    except web.HTTPException as error:  # no key, another version: the client's fault
        return web.Response(status=error.status, text=f"{error.text}\n")
    textual = stream.messages == "lines" or socket.ws_protocol == _BASE64

    class Sink:
        """One message for each piece; of a watch, which may write several events at once, for each line."""

        async def write(self, data: bytes | memoryview) -> None:
            """Send a piece."""
            pieces = bytes(data).splitlines() if stream.messages == "lines" else [bytes(data)]
            try:
                async with asyncio.timeout(seconds):
                    for piece in pieces:
                        if not textual:
                            await socket.send_bytes(piece)
                        elif stream.messages == "lines":
                            await socket.send_str(piece.decode())
                        else:
                            await socket.send_str(base64.b64encode(piece).decode())
            except TimeoutError:
                raise ConnectionResetError("the client takes nothing") from None

        def free(self) -> bool:
            """Leave all writing to the stream's task: a message can't be sent without a wait."""
            return False

        def post(self, data: bytes) -> None:
            """Refuse: this is never free."""
            raise RuntimeError(f"{len(data)} bytes for a WebSocket that is not free")

    async def gone() -> None:
        while (await socket.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY):
            pass

    try:
        await daemon.first(stream.run(Sink()), gone())
        async with asyncio.timeout(_CLOSE_SECONDS):
            await socket.close()
    except (ConnectionError, TimeoutError):
        socket.force_close()
    return socket
