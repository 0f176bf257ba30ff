"""SPDY/3.1 frames, and conversations over it and over WebSocket, with real pipes and terminals at the other end."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import zlib

import aiohttp
import pytest

from netlab.kubelet.streams import forward, remote, spdy
from netlab.kubelet.streams.remote import Channel
from tests.kubelet.stream_peers import (
    Process,
    echo,
    forwarding,
    forwarding_by_channels,
    serving,
    spdy_handler,
    upgraded,
    ws_handler,
)


def test_dictionary() -> None:
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2


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

    opening, stdout, stderr, status = asyncio.run(serving(ws_handler(process, Channel.STDIN, Channel.STDOUT), use))
    assert (opening, stdout, stderr) == (b"\x01", b"\x01out", b"\x02err")
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


@pytest.mark.parametrize("protocols", [[], ["channel.k8s.io"], ["base64.channel.k8s.io"], ["v4.base64.channel.k8s.io"]])
def test_older_protocols(protocols: list[str]) -> None:
    """Before version 4 the end is told in words; the base64 ones speak text."""
    process = Process(code=3)
    textual = "base64" in str(protocols)

    async def use(port: int) -> list[tuple[int, bytes]]:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{port}/", protocols=protocols) as ws:
                assert ws.protocol == (protocols[0] if protocols else None)
                await (ws.send_str("0aGVsbG8=") if textual else ws.send_bytes(b"\x00hello"))
                assert await asyncio.to_thread(os.read, process.in_read, 100) == b"hello"
                os.write(process.out_write, b"out")
                os.close(process.out_write)
                os.close(process.err_write)
                if textual:
                    return [(int(m.data[0]), base64.b64decode(m.data[1:])) async for m in ws]
                return [(m.data[0], m.data[1:]) async for m in ws]

    *first, (channel, status) = asyncio.run(serving(ws_handler(process, Channel.STDIN, Channel.STDOUT), use))
    assert first == [(1, b""), (1, b"out")]
    assert channel == 3
    if "v4" in str(protocols):
        assert json.loads(status)["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    else:
        assert status == b"command terminated with non-zero exit code: exit status 3"


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
def test_port_forward_by_channels(protocol: str) -> None:
    """Two ports of one WebSocket: an echo, and nobody. When both are over the connection is."""
    def packed(channel: int, data: bytes) -> str | bytes:
        return f"{channel}{base64.b64encode(data).decode()}" if "base64" in protocol else bytes((channel,)) + data

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(6))
        writer.close()

    async def use(port: int) -> None:
        server = await asyncio.start_server(once, "127.0.0.1", 0)
        target = server.sockets[0].getsockname()[1]
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            closed = unused.getsockname()[1]
            async with aiohttp.ClientSession() as session:
                url = f"http://127.0.0.1:{port}/?port={target}&port={closed}"
                async with session.ws_connect(url, protocols=[protocol]) as ws:
                    for channel in (0, 9):  # the second belongs to nobody
                        message = packed(channel, b"echoed")
                        await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
                    got = [m.data async for m in ws]
        for channel, number in ((0, target), (1, target), (2, closed), (3, closed)):
            assert packed(channel, number.to_bytes(2, "little")) in got
        assert packed(0, b"echoed") in got
        assert packed(3, forward.refusal(closed, "default/web", ConnectionRefusedError(111, "Connection refused")).encode()) in got
        server.close()

    asyncio.run(serving(forwarding_by_channels, use))


def test_port_forward() -> None:
    """Two connections at once through one SPDY connection, and one to a port where nobody listens."""
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

    asyncio.run(serving(forwarding, use))
