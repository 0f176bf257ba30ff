"""The other ends of the kubelet's streams, written apart from them: a process, clients of SPDY, a listening program."""

from __future__ import annotations

import asyncio
import os
import pty
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from netlab.kubelet.streams import forward, forward_channels, spdy
from netlab.kubelet.streams.carriers import Upgraded
from netlab.kubelet.streams.remote import Channel, converse
from netlab.kubelet.streams.spdy_exec import SpdyCarrier
from netlab.kubelet.streams.websocket import WebSocketCarrier


class Process:
    """Stands for the runtime's Streams: this test holds the other ends of the pipes."""

    def __init__(self, *, tty: bool = False, code: int = 0) -> None:
        self.id, self.tty, self.code, self.sizes = "c", tty, code, []
        if tty:
            self.theirs, self.stdin = pty.openpty()[::-1]
            self.stdout, self.stderr = os.dup(self.stdin), -1
        else:
            self.in_read, self.stdin = os.pipe()
            self.stdout, self.out_write = os.pipe()
            self.stderr, self.err_write = os.pipe()

    async def wait(self) -> int:
        return self.code

    async def resize(self, width: int, height: int) -> None:
        self.sizes.append((width, height))

    def close(self) -> None:
        for name in ("stdin", "stdout", "stderr"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


class SpdyClient:
    """The client's side of SPDY, written apart from the server's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
        self.inflate = zlib.decompressobj(zdict=spdy.DICTIONARY)
        self.next = 1

    def frame(self, kind: int, flags: int, body: bytes) -> None:
        self.writer.write(struct.pack(">HHB", 0x8003, kind, flags) + len(body).to_bytes(3, "big") + body)

    def open(self, headers: dict[str, str], *, fin: bool = False) -> int:
        block = struct.pack(">I", len(headers)) + b"".join(
            struct.pack(">I", len(w)) + w for pair in headers.items() for w in (pair[0].encode(), pair[1].encode()))
        number, self.next = self.next, self.next + 2
        packed = self.deflate.compress(block) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self.frame(1, int(fin), struct.pack(">IIBB", number, 0, 0, 0) + packed)
        return number

    def data(self, number: int, data: bytes, *, fin: bool = False) -> None:
        self.writer.write(struct.pack(">IB", number, int(fin)) + len(data).to_bytes(3, "big") + data)

    async def frames(self, *wanted: int) -> dict[int, bytes]:
        """Read until each of these streams has ended; the data by stream, with b"|" for its FIN."""
        got: dict[int, bytes] = {}
        while not all(got.get(number, b"").endswith(b"|") for number in wanted):
            head = await self.reader.readexactly(8)
            body = await self.reader.readexactly(int.from_bytes(head[5:], "big"))
            if head[0] & 0x80:
                kind = int.from_bytes(head[2:4], "big")
                if kind == 2:
                    assert self.inflate.decompress(body[4:]) == b"\0\0\0\0"
                    got[int.from_bytes(body[:4], "big")] = b""
                if kind == 6:
                    got[-1] = body
                continue
            number = int.from_bytes(head[:4], "big")
            got[number] = got.get(number, b"") + body + (b"|" if head[4] & 1 else b"")
        return got


async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]], use: Callable[[int], Awaitable[Any]]) -> Any:
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with asyncio.timeout(20):
            return await use(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def upgraded(port: int) -> SpdyClient:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n")
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"upgrade: spdy/3.1" in answer.lower()
    assert b"transfer-encoding" not in answer.lower()
    return SpdyClient(reader, writer)


def spdy_handler(process: Process, *channels: Channel) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        below = Upgraded(request, {"Upgrade": "SPDY/3.1"})
        response = await below.open()
        async with SpdyCarrier(below, channels) as carrier:
            await converse(process, carrier)
        return response

    return handler


def ws_handler(process: Process, *channels: Channel) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        carrier = WebSocketCarrier(request, channels)
        response = await carrier.open()
        await converse(process, carrier)
        return response

    return handler


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def forwarding(request: web.Request) -> web.StreamResponse:
    below = Upgraded(request, {"Upgrade": "SPDY/3.1"})
    response = await below.open()
    await forward.Forwarder("/proc/self/ns/net", "default/web").serve(below)
    return response


async def forwarding_by_channels(request: web.Request) -> web.StreamResponse:
    ports = forward_channels.wanted_ports(request.query.getall("port"))
    return await forward_channels.serve(request, "/proc/self/ns/net", "default/web", ports)
