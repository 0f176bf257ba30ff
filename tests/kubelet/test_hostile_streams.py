"""What breaks the rules of SPDY and WebSocket, or only bends them: the connection ends or goes on, and others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
import tracemalloc
import zlib

import aiohttp
import pytest
from aiohttp import web

from netlab.kubelet.streams import forward, forward_channels, spdy
from netlab.kubelet.streams.remote import Channel
from tests.kubelet.stream_peers import (
    Process,
    SpdyClient,
    echo,
    forwarding,
    serving,
    spdy_handler,
    upgraded,
    ws_handler,
)

MEGABYTE = 1 << 20
SWITCH = (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
          b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n")


def block(count: int, *pairs: tuple[bytes, bytes], dictionary: bytes = spdy.DICTIONARY) -> bytes:
    plain = struct.pack(">I", count) + b"".join(struct.pack(">I", len(w)) + w for pair in pairs for w in pair)
    deflate = zlib.compressobj(zdict=dictionary)
    return deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)


def opening(packed: bytes, number: int = 1) -> bytes:
    body = struct.pack(">IIBB", number, 0, 0, 0) + packed
    return struct.pack(">HHI", 0x8003, 1, len(body)) + body


@pytest.mark.parametrize("rubbish", [
    pytest.param(struct.pack(">HHI", 0x8003, 1, 30) + b"\x00" * 30, id="stream 0, no headers"),
    pytest.param(struct.pack(">HHI", 0x8003, 1, 0x00FFFFFF) + b"x" * 100, id="cut off"),
    pytest.param(struct.pack(">II", 99, 5) + b"hello", id="data for no stream"),
    pytest.param(struct.pack(">II", 99, 0xFFFFFF) + b"hello", id="much data for no stream, cut off"),
    pytest.param(random.Random(1).randbytes(4096), id="noise"),
    pytest.param(b"\x80\x03\x00", id="half a head"),
    pytest.param(opening(block(1, (b"a", b"b"), dictionary=b"of my own")), id="another dictionary"),
    pytest.param(opening(zlib.compress(b"\0\0\0\0")), id="no dictionary"),
    pytest.param(opening(block(0xFFFFFFFF, (b"a", b"b"))), id="more headers than there are"),
    pytest.param(opening(block(1, (b"a", b"b" * MEGABYTE))), id="a bomb of a header"),
    pytest.param(opening(block(MEGABYTE, *[(b"", b"")] * MEGABYTE)), id="a bomb of empty headers"),
    pytest.param(opening(block(0), 2), id="an even stream"),
    pytest.param(opening(block(0)) + opening(b"", 3), id="a block that adds nothing"),
    pytest.param(struct.pack(">HHI", 0x8003, 7, 8) + b"\0" * 8, id="GOAWAY"),
    pytest.param(struct.pack(">HHII", 0x8003, 9, 8, 1) + b"\x7f\xff\xff\xff" * 1 + struct.pack(">HHII", 0x8003, 9, 8, 1)
                 + b"\x7f\xff\xff\xff", id="a window that overflows"),
    pytest.param(struct.pack(">HHI", 0x8003, 6, 1) + b"\1", id="a short PING"),
    pytest.param(struct.pack(">HHIII", 0x8003, 3, 8, 1, 1) * 10_000, id="RSTs of nothing"),
    pytest.param(struct.pack(">HHI", 0xFFFF, 0xFFFF, 4) + b"\0" * 4, id="another version"),
])
def test_rubbish_ends_the_connection_and_nothing_else(rubbish: bytes) -> None:
    async def use(port: int) -> None:
        client = await upgraded(port)
        client.writer.write(rubbish)
        client.writer.write_eof()
        with contextlib.suppress(ConnectionError):
            await client.reader.read()
        await upgraded(port)

    process = Process()
    asyncio.run(serving(spdy_handler(process, Channel.STDOUT), use))
    process.close()


async def forwarded(client: SpdyClient, request: str, port: int) -> tuple[int, int]:
    headers = {"port": str(port), "requestid": request}
    return client.open({**headers, "streamtype": "error"}, fin=True), client.open({**headers, "streamtype": "data"})


def test_a_connection_that_its_program_gave_up_does_not_stop_the_others() -> None:
    """The program closes while the client goes on sending more than is kept: nobody reads that any more."""
    async def use(port: int) -> None:
        came = asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            await came.wait()
            writer.transport.abort()

        one, other = await asyncio.start_server(deaf, "127.0.0.1", 0), await asyncio.start_server(echo, "127.0.0.1", 0)
        client = await upgraded(port)
        first = await forwarded(client, "0", one.sockets[0].getsockname()[1])
        second = await forwarded(client, "1", other.sockets[0].getsockname()[1])
        for _ in range(12):
            client.data(first[1], b"x" * MEGABYTE)
        client.data(second[1], b"still here", fin=True)
        came.set()
        got = await client.frames(*first, *second)
        assert got[second[1]] == b"still here|"
        client.writer.close()
        one.close()
        other.close()

    asyncio.run(serving(forwarding, use))


def test_data_for_a_port_where_nobody_listens_is_thrown_away() -> None:
    async def use(port: int) -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        client = await upgraded(port)
        nobody = await forwarded(client, "0", 1)
        for _ in range(4):
            client.data(nobody[1], b"x" * MEGABYTE)
        somebody = await forwarded(client, "1", server.sockets[0].getsockname()[1])
        client.data(somebody[1], b"hello", fin=True)
        got = await client.frames(*nobody, *somebody)
        assert b"failed to connect" in got[nobody[0]]
        assert got[somebody[1]] == b"hello|"
        client.writer.close()
        server.close()

    asyncio.run(serving(forwarding, use))


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_reset_closes_the_programs_connection(half_closed: bool) -> None:
    """kubectl resets the stream of a local connection that is gone; a program that waits for more must hear of it."""
    async def use(port: int) -> None:
        ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(2)
            try:
                while not writer.is_closing():
                    writer.write(b"more")
                    await writer.drain()
                    await asyncio.sleep(0)
            except ConnectionError:
                pass
            ended.set_result(b"")

        server = await asyncio.start_server(patient, "127.0.0.1", 0)
        client = await upgraded(port)
        _, data = await forwarded(client, "0", server.sockets[0].getsockname()[1])
        client.data(data, b"hi", fin=half_closed)
        await client.reader.readexactly(1000)
        client.frame(3, 0, struct.pack(">II", data, 5))
        reading = asyncio.create_task(client.reader.read(-1))
        await ended
        client.writer.close()
        await reading
        server.close()

    asyncio.run(serving(forwarding, use))


def test_a_stream_whose_other_half_does_not_come_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_PAIR_SECONDS", 0.01)
    monkeypatch.setattr(spdy, "_MOST_STREAMS", 2)

    async def use(port: int) -> None:
        client = await upgraded(port)
        lonely = [client.open({"port": "1", "requestid": str(n), "streamtype": "error"}) for n in range(2)]
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        target = server.sockets[0].getsockname()[1]
        while True:  # until there is room again
            await asyncio.sleep(0.02)
            pair = await forwarded(client, f"r{client.next}", target)
            client.data(pair[1], b"hello", fin=True)
            head = await client.reader.readexactly(8)
            body = await client.reader.readexactly(int.from_bytes(head[5:], "big"))
            if head[3] == 2 and int.from_bytes(body[:4], "big") not in lonely:
                break
        client.writer.close()
        server.close()

    asyncio.run(serving(forwarding, use))


def test_streams_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdy, "_MOST_STREAMS", 5)

    async def use(port: int) -> list[tuple[int, int]]:
        client = await upgraded(port)
        for number in range(8):
            client.open({"streamtype": "error", "requestid": str(number)})
        kinds = []
        for _ in range(8):
            head = await client.reader.readexactly(8)
            body = await client.reader.readexactly(int.from_bytes(head[5:], "big"))
            kinds.append((head[3], int.from_bytes(body[4:8], "big") if head[3] == 3 else 0))
        client.writer.close()
        return kinds

    assert asyncio.run(serving(forwarding, use)) == [(2, 0)] * 5 + [(3, 3)] * 3


def test_ten_thousand_small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one byte each, to a program that reads none of them until all are sent; then a frame of 16 MB."""
    process = Process()

    async def use(port: int) -> None:
        client = await upgraded(port)
        _, stdin = client.open({"StreamType": "error"}), client.open({"StreamType": "stdin"})
        big = os.urandom((1 << 24) - 1)
        for at in range(10_000):
            client.data(stdin, bytes((at % 251,)))
        client.data(stdin, big, fin=True)

        def read() -> bytes:
            got = bytearray()
            while piece := os.read(process.in_read, MEGABYTE):
                got += piece
            for fd in (process.out_write, process.err_write):
                os.close(fd)
            return bytes(got)

        _, got = await asyncio.gather(client.writer.drain(), asyncio.to_thread(read))
        assert got == bytes(at % 251 for at in range(10_000)) + big
        client.writer.close()

    asyncio.run(serving(spdy_handler(process, Channel.STDIN), use))


@pytest.mark.parametrize("size", [1, 1 << 15])
def test_what_nobody_reads_is_bounded(size: int) -> None:
    """Small pieces cost more than they hold, and are counted so."""
    class Endless:
        async def read(self) -> bytes:
            return (struct.pack(">II", 1, size) + b"x" * size) * (65536 // size) if self.opened else opened()

        async def write(self, data: bytes) -> None:
            return

        opened = False

    def opened() -> bytes:
        below.opened = True
        return opening(block(0))

    async def run() -> int:
        connection = spdy.Connection(below, lambda stream: None)
        tracemalloc.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await connection.run()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size

    below = Endless()
    assert asyncio.run(run()) < 8 * MEGABYTE


def masked(kind: int, data: bytes, *, fin: bool = True, length: int | None = None, reserved: int = 0) -> bytes:
    """A client's WebSocket frame; `length` may lie."""
    size = len(data) if length is None else length
    head = bytes(((0x80 if fin else 0) | reserved | kind,))
    head += bytes((0x80 | size,)) if size < 126 else b"\xfe" + struct.pack(">H", size) if size < 65536 else \
        b"\xff" + struct.pack(">Q", size)
    return head + b"\0\0\0\0" + data


@pytest.mark.parametrize(("frames", "code"), [
    pytest.param(masked(2, b"\0x", length=1 << 62), 1009, id="a message of four exabytes"),
    pytest.param(masked(2, b"\0x", fin=False) + masked(0, b"x", fin=False, length=1 << 40), 1009, id="a fragment too many"),
    pytest.param(masked(2, b"\0" + b"x" * MEGABYTE, fin=False) + masked(0, b"y" * MEGABYTE, fin=False) * 40, 1009,
                 id="fragments without end"),
    pytest.param(masked(1, b"\0\xff\xfe"), 1007, id="text that is no UTF-8"),
    pytest.param(masked(2, b"\0x", reserved=0x40), 1002, id="compressed, which nobody agreed on"),
    pytest.param(masked(2, b"\0x", reserved=0x30), 1002, id="reserved bits"),
    pytest.param(masked(0, b"x"), 1002, id="the end of what did not begin"),
    pytest.param(masked(2, b"x", fin=False) + masked(2, b"x"), 1002, id="a message inside a message"),
    pytest.param(masked(9, b"x" * 126), 1002, id="a long ping"),
    pytest.param(masked(9, b"x", fin=False), 1002, id="half a ping"),
    pytest.param(masked(3, b"x"), 1002, id="an unknown kind"),
    pytest.param(masked(8, struct.pack(">H", 1000) + b"\xff\xfe"), 1007, id="a close whose reason is no UTF-8"),
    pytest.param(masked(8, struct.pack(">H", 7)), 1002, id="a close with no code there is"),
    pytest.param(masked(8, b"\1"), 1002, id="a close with half a code"),
    pytest.param(b"".join(masked(2, bytes((channel,)) + b"x") for channel in (1, 2, 3, 5, 77, 254)) + masked(2, b"")
                 + masked(2, b"\xff") + masked(2, b"\xff\x09") + masked(8, struct.pack(">H", 1000)), 1000,
                 id="channels that are not the client's"),
    pytest.param(masked(9, b"x") * 5000 + masked(8, struct.pack(">H", 1000)), 1000, id="many pings"),
])
def test_websocket_frames_that_break_the_rules(frames: bytes, code: int) -> None:
    async def use(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SWITCH)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        writer.write(frames)
        try:
            while True:
                head = await reader.readexactly(2)
                body = await reader.readexactly(head[1])
                if head[0] == 0x88:
                    return int.from_bytes(body[:2], "big")
        finally:
            writer.close()
            async with aiohttp.ClientSession() as session:
                async with session.ws_connect(f"http://127.0.0.1:{port}/", protocols=["v4.channel.k8s.io"]):
                    pass

    async def handler(request: web.Request) -> web.StreamResponse:
        return await ws_handler(processes.pop())(request)

    processes = [Process(), Process()]
    assert asyncio.run(serving(handler, use)) == code


def test_a_client_that_reads_nothing_holds_back_the_program_and_no_memory() -> None:
    process = Process()

    async def use(port: int) -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(SWITCH)
        os.set_blocking(process.out_write, False)
        written = idle = 0
        while idle < 20:
            try:
                written += os.write(process.out_write, b"x" * 65536)
                idle = 0
            except BlockingIOError:
                idle += 1
                await asyncio.sleep(0.02)
        writer.transport.abort()
        return written

    assert asyncio.run(serving(ws_handler(process, Channel.STDOUT), use)) < 32 * MEGABYTE
    os.close(process.out_write)
    os.close(process.err_write)


@pytest.mark.parametrize(("texts", "said"), [
    ([], "is required"), ([""], "unable to parse"), (["0"], "unable to parse"), (["65536"], "unable to parse"),
    (["٣"], "unable to parse"), (["80,x"], "unable to parse"), ([",".join(["80"] * 129)], "at most 128"),
])
def test_ports_that_are_none(texts: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        forward_channels.wanted_ports(texts)
