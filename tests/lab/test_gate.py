"""The gate: bytes from the host's loopback to the first API server that answers."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from netlab.lab.gate import Gate


def listener() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


@asynccontextmanager
async def running(*targets: tuple[str, int]):
    sock, stop = listener(), asyncio.Event()
    port = sock.getsockname()[1]
    task = asyncio.create_task(Gate(list(targets)).run(sock, stop))
    try:
        yield port
    finally:
        stop.set()
        await task


@asynccontextmanager
async def server(handle):
    one = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with one:
        yield ("127.0.0.1", one.sockets[0].getsockname()[1])


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"end")
    writer.close()


def test_bytes_go_both_ways_and_a_half_close_is_passed_on():
    async def body():
        async with server(echo) as target, running(target) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sent = bytes(range(256)) * 40_000  # 10 MB: more than every buffer on the way
            writer.write(sent)
            writer.write_eof()
            return await reader.read(-1) == sent + b"end"

    assert asyncio.run(asyncio.wait_for(body(), 30))


def test_the_first_that_answers_is_taken():
    async def body():
        dead = listener()
        refused = dead.getsockname()
        dead.close()
        async with server(echo) as target, running(refused, target) as port:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"x")
                writer.write_eof()
                assert await reader.read(-1) == b"xend"
                writer.close()

    asyncio.run(asyncio.wait_for(body(), 30))


def test_without_any_the_connection_is_closed_at_once():
    async def body():
        dead = listener()
        refused = dead.getsockname()
        dead.close()
        async with running(refused) as port:
            reader, _ = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read(-1) == b""

    asyncio.run(asyncio.wait_for(body(), 30))


def test_a_reader_that_stands_still_stops_the_writer():
    async def body():
        taken = 0
        go = asyncio.Event()

        async def slow(reader, writer):
            nonlocal taken
            await go.wait()
            while data := await reader.read(65536):
                taken += len(data)
            writer.close()

        async with server(slow) as target, running(target) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(bytes(64 << 20))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.5)
            go.set()
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    asyncio.run(asyncio.wait_for(body(), 60))
