"""Probes: what a row of outcomes means, and each kind against a real server on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from aiohttp import web

from netlab.errors import TemporaryError
from netlab.kubelet import probes
from netlab.kubelet.probers import Outcome, Probers
from netlab.kubelet.probes import Count, PodProbes
from netlab.kubelet.records import Container
from tests.kubelet.builders import a_container, a_pod, a_record, ran


def counted(count: Count, outcomes: str, *, successes: int = 1, failures: int = 3) -> str:
    shown = ""
    for outcome in outcomes:
        count = count.add(outcome == "+", successes=successes, failures=failures)
        shown += {True: "y", False: "n", None: "?"}[count.verdict]
    return shown


@pytest.mark.parametrize(("first", "outcomes", "successes", "verdicts"), [
    (False, "-+", 1, "ny"),
    (False, "+--+---+", 1, "yyyyyyny"),
    (False, "+-+++", 3, "nnnny"),
    (True, "--+---", 1, "yyyyyn"),
    (None, "---", 1, "??n"),
    (None, "--+", 1, "??y"),
])
def test_verdicts(first: bool | None, outcomes: str, successes: int, verdicts: str) -> None:
    assert counted(Count(first), outcomes, successes=successes) == verdicts


async def no_exec(_command: Sequence[str], _seconds: float) -> tuple[int, bytes]:
    raise AssertionError("not an exec probe")


async def probed(probe: dict[str, Any], wanted: dict[str, Any] | None = None, run: Any = no_exec) -> Outcome:
    probers = Probers()
    try:
        return await probers.probe(probe, wanted or a_container(), "127.0.0.1", run)
    finally:
        await probers.close()


async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
                  use: Callable[[int], Awaitable[None]]) -> None:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        await use(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def test_http() -> None:
    seen = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("X-Who"), request.headers["User-Agent"]))
        if request.path == "/away":
            raise web.HTTPFound("http://other.example/")
        if request.path == "/round":
            raise web.HTTPFound("/ok")
        if request.path == "/slow":
            await asyncio.sleep(5)
        return web.Response(status=500 if request.path == "/bad" else 200, text="body")

    async def use(port: int) -> None:
        def probe(path: str, port: int | str = port) -> dict[str, Any]:
            return {"httpGet": {"path": path, "port": port, "httpHeaders": [{"name": "X-Who", "value": "me"}]},
                    "timeoutSeconds": 0.2}

        assert await probed(probe("/ok")) == Outcome(True, "body")
        assert seen[-1] == ("/ok", "me", "kube-probe/1.36")
        assert await probed(probe("/bad")) == Outcome(False, "HTTP probe failed with statuscode: 500")
        assert await probed(probe("/round")) == Outcome(True, "body")
        assert (await probed(probe("/away"))).ok
        named = a_container(ports=[{"name": "http", "containerPort": port}])
        assert (await probed(probe("/ok", "http"), named)).ok
        assert await probed(probe("/ok", "nope"), named) == Outcome(None, 'strconv.Atoi: parsing "nope": invalid syntax')
        slow = await probed(probe("/slow"))
        assert not slow.ok
        assert "context deadline exceeded" in slow.output

    asyncio.run(serving(handler, use))


def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        http = asyncio.run(probed({"httpGet": {"port": port, "path": "/x"}}))
        tcp = asyncio.run(probed({"tcpSocket": {"port": port}}))
        grpc = asyncio.run(probed({"grpc": {"port": port}}))
    assert http == Outcome(False, f'Get "http://127.0.0.1:{port}/x": dial tcp 127.0.0.1:{port}: connect: '
                                  "connection refused")
    assert tcp == Outcome(False, f"dial tcp 127.0.0.1:{port}: connect: connection refused")
    assert not grpc.ok


def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert asyncio.run(probed({"tcpSocket": {"port": server.getsockname()[1]}})).ok


@pytest.mark.parametrize(("code", "outcome"), [(0, Outcome(True, "out")), (2, Outcome(False, "out"))])
def test_command(code: int, outcome: Outcome) -> None:
    async def run(command: Sequence[str], seconds: float) -> tuple[int, bytes]:
        assert (command, seconds) == (["check", "it"], 7.0)
        return code, b"out"

    assert asyncio.run(probed({"exec": {"command": ["check", "it"]}, "timeoutSeconds": 7}, run=run)) == outcome


def test_command_that_takes_too_long() -> None:
    async def run(_command: Sequence[str], _seconds: float) -> tuple[int, bytes]:
        raise TemporaryError("killed")

    found = asyncio.run(probed({"exec": {"command": ["sleep", "9"]}}, run=run))
    assert found == Outcome(False, 'command timed out: "sleep 9" timed out after 1s')


@pytest.mark.parametrize(("status", "outcome"), [
    (1, Outcome(True, 'service healthy (responded with "SERVING")')),
    (2, Outcome(False, 'service unhealthy (responded with "NOT_SERVING")')),
    (None, Outcome(False, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)")),
])
def test_grpc(status: int | None, outcome: Outcome) -> None:
    """The server speaks the frames by hand: settings, a ping to answer, then headers and the message in two pieces."""
    def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
        return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readexactly(24)).startswith(b"PRI * HTTP/2.0")
        writer.write(frame(4, 0, 0) + frame(6, 0, 0, b"12345678"))
        acks = 0
        while acks < 2:
            head = await reader.readexactly(9)
            body = await reader.readexactly(int.from_bytes(head[:3], "big"))
            acks += head[3] in (4, 6) and bool(head[4] & 1)
            if head[3] == 0:
                assert body == b"\x00\x00\x00\x00\x05\x0a\x03web"
        if status is None:
            writer.write(frame(1, 5, 1, b"\x88"))
        else:
            message = b"\x00\x00\x00\x00\x02\x08" + bytes((status,))
            writer.write(frame(1, 4, 1, b"\x88") + frame(0, 0, 1, message[:3]) + frame(0, 0, 1, message[3:]))
        await writer.drain()

    async def main() -> Outcome:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            return await probed({"grpc": {"port": server.sockets[0].getsockname()[1], "service": "web"},
                                 "timeoutSeconds": 2})

    assert asyncio.run(main()) == outcome


class Following:
    """PodProbes over a container whose answers the test gives."""

    def __init__(self, answers: list[bool], **fields: Any) -> None:
        self.answers, self.events, self.changes = answers, [], asyncio.Event()
        self.pod = a_pod(a_container(**fields))
        self.record = a_record(ran("web", at=time.time()))
        self.probes = PodProbes(self.answer, self.changes.set, lambda _name, text: self.events.append(text))

    async def answer(self, _probe: dict[str, Any], _found: Container) -> Outcome:
        return Outcome(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], "said")

    def follow(self) -> None:
        self.probes.follow(self.pod, self.record, lambda _: None)

    async def changed(self) -> None:
        async with asyncio.timeout(5):
            await self.changes.wait()
        self.changes.clear()

    @property
    def verdict(self) -> Any:
        return self.probes.verdict(self.record.containers[0])


def test_ready_quickly_and_in_silence() -> None:
    """A server that needs a moment is Ready as soon as it answers, however long the period is."""
    async def main() -> None:
        case = Following([False, False, True], readinessProbe={"periodSeconds": 60})
        case.follow()
        assert not case.verdict.ready
        await case.changed()
        assert case.verdict.ready
        assert case.events == []
        case.probes.stop()

    asyncio.run(main())


def test_liveness_waits_for_startup() -> None:
    async def main() -> None:
        case = Following([True], startupProbe={"periodSeconds": 1},
                         livenessProbe={"periodSeconds": 1, "failureThreshold": 1})
        case.follow()
        assert not case.verdict.started
        await case.changed()
        assert case.verdict.started
        case.answers[:] = [False]
        await case.changed()
        assert not case.verdict.live
        assert case.events == ["Liveness probe failed: said"]
        case.probes.stop()

    asyncio.run(main())


def test_startup_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SETTLING", 0.0)

    async def main() -> None:
        case = Following([False], startupProbe={"periodSeconds": 0.01, "failureThreshold": 2})
        case.follow()
        await case.changed()
        assert case.verdict.startup_failed
        assert len(case.events) == 2

    asyncio.run(main())


def test_an_adopted_container_stays_ready() -> None:
    async def main() -> None:
        case = Following([False], readinessProbe={"periodSeconds": 60, "initialDelaySeconds": 60},
                         startupProbe={"initialDelaySeconds": 60})
        case.probes.follow(case.pod, case.record, lambda _: True)
        assert case.verdict.ready
        assert case.verdict.started
        case.probes.follow(case.pod, a_record(), lambda _: None)
        assert [t for t in asyncio.all_tasks() if "probe of" in t.get_name() and not t.cancelling()] == []

    asyncio.run(main())
