"""A kubelet's HTTPS face in a thread: logs, exec over WebSocket and SPDY, an echo for upgraded raw bytes."""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from netlab.kubelet.streams.carriers import Upgraded
from netlab.kubelet.streams.remote import Channel, exited, success
from netlab.kubelet.streams.spdy_exec import SpdyCarrier

if TYPE_CHECKING:  # conftest starts one of these
    from tests.apiserver.conftest import Pki


class FakeKubelet:
    """Listens on 127.0.0.1; `port` is chosen by the kernel, `seen` holds (method, path_qs, client's common name)."""

    def __init__(self, pki: Pki) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self.follow = threading.Event()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.path("ca.crt"))
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_cert_chain(pki.path("kubelet-server.crt"), pki.path("kubelet-server.key"))
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),))
        self._thread.start()
        self._started.wait(10)

    def close(self) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()
        await self._loop.shutdown_default_executor()  # its threads would keep the tests after these from forking

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        subject = dict(pair[0] for pair in request.transport.get_extra_info("peercert")["subject"])
        self.seen.append((request.method, request.path_qs, subject["commonName"]))
        if request.path.startswith("/containerLogs/"):
            return await self._logs(request)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        if request.path.startswith("/exec/") and request.headers.get("Upgrade") == "SPDY/3.1":
            return await self._spdy(request)
        if request.headers.get("Upgrade"):
            return await self._raw(request)
        if request.path.startswith("/refused"):
            return web.Response(status=418, text="no")
        return web.Response(text=f"node says {request.path_qs}")

    async def _logs(self, request: web.BaseRequest) -> web.StreamResponse:
        if "follow" not in request.query_string:
            return web.Response(text="one\ntwo\n", content_type="text/plain")
        stream = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await stream.prepare(request)
        await stream.write(b"first\n")
        await asyncio.to_thread(self.follow.wait, 10)
        await stream.write(b"second\n")
        return stream

    async def _websocket(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"))
        await socket.prepare(request)
        if "command=cat" in request.query_string:
            async for message in socket:
                if message.type is not WSMsgType.BINARY:
                    continue
                if message.data[:1] == b"\xff":
                    break
                if message.data[:1] == b"\x00":
                    await socket.send_bytes(b"\x01" + message.data[1:])
        else:
            await socket.send_bytes(b"\x01hello from the kubelet\n")
        await socket.send_bytes(b'\x03{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","message":"3","details":'
                                b'{"causes":[{"reason":"ExitCode","message":"3"}]}}' if "fail" in request.query_string else
                                b'\x03{"metadata":{},"status":"Success"}')
        await socket.close()
        return socket

    async def _spdy(self, request: web.BaseRequest) -> web.StreamResponse:
        """The same conversation by SPDY, with the real kubelet's half of it."""
        below = Upgraded(request, {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"})
        answer = await below.open()
        words = {"input": Channel.STDIN, "output": Channel.STDOUT, "error": Channel.STDERR}
        async with SpdyCarrier(below, [channel for word, channel in words.items() if word in request.query]) as carrier:
            if "command=cat" in request.query_string:
                while (received := await carrier.receive()) is not None and received[1] is not None:
                    await carrier.send(Channel.STDOUT, received[1])
            else:
                await carrier.send(Channel.STDOUT, b"hello from the kubelet\n")
            await carrier.finish(exited(3) if "fail" in request.query_string else success())
        return answer

    async def _raw(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer 101 and echo upper-cased bytes until the client closes."""
        answer = web.StreamResponse(status=101, headers={
            "Connection": "Upgrade", "Upgrade": request.headers["Upgrade"], "X-Stream-Protocol-Version": "v4.channel.k8s.io"})
        answer.force_close()
        await answer.prepare(request)
        done = asyncio.Event()
        transport = request.transport

        class Echo:
            def feed_data(self, data: bytes) -> tuple[bool, bytes]:
                transport.write(bytes(data).upper())
                return False, b""

            def feed_eof(self) -> None:
                done.set()

        protocol: Any = request.protocol
        protocol.set_parser(Echo())
        await done.wait()
        return answer
