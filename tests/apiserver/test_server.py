"""The transport by itself: slow senders, slow readers, clients that vanish."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import orjson
import pytest

from netlab import daemon
from netlab.api import kinds
from netlab.apiserver import server as transport
from netlab.apiserver.endpoint import Endpoint
from netlab.apiserver.folder import Decoded, Folder
from netlab.apiserver.http import Handler, Reply, Request, Response, Sink, Stream
from netlab.apiserver.server import Server
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.verbs import watch as watches
from netlab.store import Store

_TCP_REPAIR = 19
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def with_server(handler: Handler, talk: Talk) -> None:
    running = Server(handler, None)
    port = await running.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(10):
            await talk(reader, writer)
    finally:
        writer.close()
        await running.close(0.1)


async def echo(request: Request) -> Response:
    return Reply(await request.body() or b"{}")


def test_a_body_that_does_not_come_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BODY_SECONDS", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert b" 408 " in await reader.readline()

    asyncio.run(with_server(echo, talk))


def test_a_head_that_does_not_come_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "IDLE_SECONDS", 0.3)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost:")
        assert await reader.read() == b""

    asyncio.run(with_server(echo, talk))


@pytest.mark.root
def test_a_client_that_is_gone_without_a_word_ends_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its machine loses power: TCP_REPAIR closes a socket without FIN or RST."""
    monkeypatch.setattr(daemon, "SILENCE", (1, 1, 1))
    ended = asyncio.Event()

    async def follow(_request: Request) -> Response:
        async def run(sink: Sink) -> None:
            try:
                await sink.write(b"first")
                await asyncio.Event().wait()
            finally:
                ended.set()

        return Stream(run, "text/plain")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"first")
        await asyncio.sleep(0.2)  # what has been read is acknowledged: nothing is on its way
        assert not ended.is_set()
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
        writer.transport.abort()
        await ended.wait()

    asyncio.run(with_server(follow, talk))


def test_keep_alive_serves_many_requests() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(3):
            body = b"%d" % number
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n" + body)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head
            assert await reader.readexactly(1) == body

    asyncio.run(with_server(echo, talk))


def test_a_stream_ends_with_its_client() -> None:
    ended = asyncio.Event()

    async def forever(_request: Request) -> Response:
        async def run(sink: Sink) -> None:
            try:
                await sink.write(b"hello\n")
                await asyncio.Event().wait()
            finally:
                ended.set()

        return Stream(run)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"hello\n")
        writer.transport.abort()
        await ended.wait()

    asyncio.run(with_server(forever, talk))


def test_a_write_goes_on_without_its_client() -> None:
    """Whoever hangs up in the middle of a POST must not leave half of it behind."""
    begun, finish, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        begun.set()
        await finish.wait()
        finished.set()
        return Reply(b"{}" if request.method == "POST" else b"")

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await begun.wait()
        writer.transport.abort()
        await asyncio.sleep(0)
        finish.set()
        await finished.wait()

    asyncio.run(with_server(slow, talk))


def test_a_watcher_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events pile up to a limit, then the stream ends; what was sent before is without a gap."""
    monkeypatch.setattr(watches, "_QUEUE", 10)

    class FakeApi:
        stopping = False
        watches: set = set()  # noqa: RUF012
        clock = staticmethod(lambda: 0.0)
        monotonic = staticmethod(lambda: 0.0)

    async def body() -> None:
        from netlab.apiserver.call import Call
        from netlab.apiserver.route import Target

        async with await Store.open(None) as store:
            row = kinds.resource("configmaps")
            folder = Folder(store, row, Decoded())
            endpoint = Endpoint(row, folder, Strategy(row))
            request = Request("GET", "/", {"resourceVersion": [str(store.revision)], "watch": ["1"]}, {}, None)
            call = Call(FakeApi(), request, Target(row, "watch", "n"), endpoint, 0.0)
            stream = await watches.watch(call)
            assert isinstance(stream, Stream)
            released, written = asyncio.Event(), []

            class Slow:
                async def write(self, data: bytes) -> None:
                    written.append(data)
                    await released.wait()

            task = asyncio.create_task(stream.run(Slow()))
            for number in range(40):
                obj = {"metadata": {"name": f"a{number:02}", "namespace": "n"}}
                await store.create(folder.key("n", f"a{number:02}"), endpoint.encode(obj))
            released.set()
            await task
            events = [orjson.loads(line) for line in b"".join(written).splitlines()]
            names = [event["object"]["metadata"]["name"] for event in events]
            assert names == [f"a{number:02}" for number in range(len(names))]
            assert len(names) < 40
            assert not FakeApi.watches

    asyncio.run(body())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("connection", ["", "Connection: close\r\n", "Connection: keep-alive\r\n"])
def test_a_usual_answer_is_what_any_other_would_be(monkeypatch: pytest.MonkeyPatch, version: str, method: str, connection: str) -> None:
    async def answer(request: Request) -> Response:
        request.flow = ("u", "v")
        request.warnings += ['a "b"\n', "ü"]
        return Reply((await request.body() or b"{}") * 1000, 201)

    heard: list[bytes] = []
    last = "close" in connection or (version == "1.0" and not connection)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one = f"{method} / HTTP/{version}\r\nHost: x\r\n{connection}".encode() + (
            b"Content-Length: 3\r\n\r\nabc" if method == "POST" else b"\r\n")
        writer.write(one if last else one * 2 + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        heard.append(b"\r\n".join(line for line in (await reader.read()).split(b"\r\n") if not line.startswith(b"Date: ")))

    asyncio.run(with_server(answer, talk))
    monkeypatch.setattr(transport, "_usual", lambda _raw, _reply: False)
    asyncio.run(with_server(answer, talk))
    assert heard[0] == heard[1]
    assert heard[0].count(b"HTTP/1.") == (1 if last else 3)
