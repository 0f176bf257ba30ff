"""SPDY/3.1 frames, and conversations over it and over WebSocket, with real pipes and terminals at the other end."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from netlab.kubelet.streams import forward, remote, spdy
from netlab.kubelet.streams.carriers import Upgraded
from netlab.kubelet.streams.remote import Channel, converse
from netlab.kubelet.streams.spdy_exec import SpdyCarrier
from netlab.kubelet.streams.websocket import WebSocketCarrier


def test_dictionary() -> None:
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2


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


def test_exec_over_spdy() -> None:
    """Input, big output on both streams without loss, the exit code, a ping, and streams opened in any order."""
    process = Process(code=3)
    out, err = os.urandom(3_000_000), b"E" * 100_000

    async def use(port: int) -> dict[int, bytes]:
        client = await upgraded(port)
        error, stderr, stdout, stdin = (client.open({"StreamType": kind}) for kind in ("error", "stderr", "stdout", "stdin"))
        client.data(error, b"", fin=True)
        client.frame(6, 0, struct.pack(">I", 7))
        for _ in range(6):
            client.data(stdin, b"i" * 50_000)
        client.data(stdin, b"", fin=True)

        def work() -> bytes:
            got = b""
            while piece := os.read(process.in_read, 65536):
                got += piece
            for fd, data in ((process.err_write, err), (process.out_write, out)):
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view):]
                os.close(fd)
            return got

        given, got = await asyncio.gather(asyncio.to_thread(work), client.frames(error, stdout, stderr))
        assert given == b"i" * 300_000
        client.writer.close()
        return {"error": got[error], "out": got[stdout], "err": got[stderr], "ping": got[-1]}

    got = asyncio.run(serving(spdy_handler(process, Channel.STDIN, Channel.STDOUT, Channel.STDERR), use))
    assert got["out"] == out + b"|"
    assert got["err"] == err + b"|"
    assert got["ping"] == struct.pack(">I", 7)
    status = json.loads(got["error"].rstrip(b"|"))
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


@pytest.mark.parametrize("rubbish", [
    pytest.param(struct.pack(">HHI", 0x8003, 1, 30) + b"\x00" * 30, id="stream 0, no headers"),
    pytest.param(struct.pack(">HHI", 0x8003, 1, 0x00FFFFFF) + b"x" * 100, id="cut off"),
    pytest.param(struct.pack(">II", 99, 5) + b"hello", id="data for no stream"),
    pytest.param(random.Random(1).randbytes(4096), id="noise"),
])
def test_rubbish_ends_the_connection_and_nothing_else(rubbish: bytes) -> None:
    async def use(port: int) -> None:
        client = await upgraded(port)
        client.writer.write(rubbish)
        client.writer.write_eof()
        await client.reader.read()
        await upgraded(port)

    process = Process()
    asyncio.run(serving(spdy_handler(process, Channel.STDOUT), use))
    process.close()


def ws_handler(process: Process) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        carrier = WebSocketCarrier(request)
        response = await carrier.open()
        await converse(process, carrier)
        return response

    return handler


def test_exec_over_websocket() -> None:
    process = Process()

    async def use(port: int) -> list[bytes]:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/", protocols=["v5.channel.k8s.io"]) as ws:
                assert ws.protocol == "v5.channel.k8s.io"
                await ws.send_bytes(b"\x00hello")
                await ws.send_bytes(b"\xff\x00")
                got = await asyncio.to_thread(lambda: os.read(process.in_read, 100) + os.read(process.in_read, 100))
                assert got == b"hello"
                os.write(process.out_write, b"out")
                os.close(process.out_write)
                os.write(process.err_write, b"err")
                os.close(process.err_write)
                return sorted([bytes(m.data) async for m in ws])

    stdout, stderr, status = asyncio.run(serving(ws_handler(process), use))
    assert (stdout, stderr) == (b"\x01out", b"\x02err")
    assert status[0] == 3
    assert json.loads(status[1:]) == remote.success()


def test_a_terminal_is_resized_and_ends() -> None:
    process = Process(tty=True, code=7)

    async def use(port: int) -> list[bytes]:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/", protocols=["v4.channel.k8s.io"]) as ws:
                await ws.send_bytes(b'\x04{"Width":101,"Height":33}\n')
                await ws.send_bytes(b"\x04rubbish")
                await ws.send_bytes(b"\x00abc\n")
                assert await asyncio.to_thread(os.read, process.theirs, 100) == b"abc\n"
                os.close(process.theirs)
                return [bytes(m.data) async for m in ws]

    got = asyncio.run(serving(ws_handler(process), use))
    assert process.sizes == [(101, 33)]
    assert b'"message": "7"' in got[-1]


def test_unknown_websocket_protocols_are_refused_so_that_the_client_tries_spdy() -> None:
    async def use(port: int) -> int:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                await session.ws_connect(f"http://127.0.0.1:{port}/", protocols=["v9.channel.k8s.io"])
            return raised.value.status

    process = Process()
    assert asyncio.run(serving(ws_handler(process), use)) == 400
    process.close()


def test_port_forward() -> None:
    """Two connections at once through one SPDY connection, and one to a port where nobody listens."""
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def handler(request: web.Request) -> web.StreamResponse:
        below = Upgraded(request, {"Upgrade": "SPDY/3.1"})
        response = await below.open()
        await forward.Forwarder("/proc/self/ns/net", "default/web").serve(below)
        return response

    async def use(port: int) -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        client = await upgraded(port)
        target = str(server.sockets[0].getsockname()[1])
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            closed = str(unused.getsockname()[1])
            pairs = []
            for request, to in enumerate((target, target, closed)):
                headers = {"port": to, "requestid": str(request)}
                error = client.open({**headers, "streamtype": "error"}, fin=True)
                pairs.append((error, client.open({**headers, "streamtype": "data"})))
            client.data(pairs[0][1], b"first" * 40_000)
            client.data(pairs[1][1], b"second")
            client.data(pairs[1][1], b"", fin=True)
            client.data(pairs[0][1], b"", fin=True)
            got = await client.frames(*(number for pair in pairs for number in pair))
            client.writer.close()
        assert got[pairs[0][1]] == b"first" * 40_000 + b"|"
        assert got[pairs[1][1]] == b"second|"
        assert got[pairs[0][0]] == got[pairs[1][0]] == b"|"
        assert got[pairs[2][0]].startswith(f"error forwarding port {closed} to pod default/web".encode())
        server.close()

    asyncio.run(serving(handler, use))
