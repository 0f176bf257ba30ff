"""Statuses on their way: one at a time, only what differs, the newest, whatever the API server does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netlab.api.meta import Object
from netlab.errors import ApiError, TemporaryError
from netlab.kubelet import reporter
from netlab.kubelet.reporter import Reporter
from tests.kubelet.builders import UID, a_pod


class Server:
    """Takes patches as the API server does: merges, counts revisions; `troubles` are raised first."""

    def __init__(self) -> None:
        self.pod, self.patches, self.troubles = a_pod(), [], []
        self.gate, self.patched = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def patch(self, resource: str, name: str, body: Object, namespace: str, *, type: str, subresource: str) -> Object:
        assert (resource, name, namespace, type, subresource) == ("pods", "web-1", "default", "strategic", "status")
        assert body["metadata"]["uid"] == UID
        await self.gate.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        self.patches.append(body["status"])
        self.patched.set()
        revision = int(self.pod["metadata"]["resourceVersion"]) + 1
        self.pod = {**self.pod, "metadata": {**self.pod["metadata"], "resourceVersion": str(revision)},
                    "status": {**self.pod.get("status", {}), **body["status"]}}
        return self.pod


def running(n: int = 0) -> Object:
    return {"phase": "Running", "startTime": "then", "message": f"m{n}", "containerStatuses": []}


def creating() -> Object:
    return {"phase": "Pending", "startTime": "then",
            "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}]}


def reporting(body: Any) -> None:
    async def main() -> None:
        server = Server()
        seen = {UID: server.pod}  # what the watch has brought: it lags behind
        async with asyncio.timeout(5):
            await body(server, Reporter(server, seen.get), seen)  # type: ignore[arg-type]

    asyncio.run(main())


def test_what_is_written_is_not_written_again() -> None:
    async def body(server: Server, found: Reporter, seen: dict[str, Object]) -> None:
        for _ in range(3):
            found.put(UID, running())
            await found.flush(UID)
        seen[UID] = server.pod  # the watch catches up
        found.put(UID, running())
        await found.flush(UID)
        assert server.patches == [running()]

    reporting(body)


def test_only_the_newest_is_written() -> None:
    async def body(server: Server, found: Reporter, _: dict[str, Object]) -> None:
        server.gate.clear()
        found.put(UID, running(0))
        await asyncio.sleep(0)
        for n in range(1, 50):
            found.put(UID, running(n))
        server.gate.set()
        await found.flush(UID)
        assert server.patches[-1]["message"] == "m49"
        assert len(server.patches) <= 2

    reporting(body)


def test_a_start_is_told_once() -> None:
    async def body(server: Server, found: Reporter, _: dict[str, Object]) -> None:
        found.put(UID, creating())
        await asyncio.sleep(0)
        found.put(UID, running())
        await found.flush(UID)
        assert [p["phase"] for p in server.patches] == ["Running"]

    reporting(body)


def test_a_slow_start_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "GATHER", 0.001)

    async def body(server: Server, found: Reporter, _: dict[str, Object]) -> None:
        found.put(UID, creating())
        await server.patched.wait()
        assert server.patches[0]["phase"] == "Pending"

    reporting(body)


def test_what_somebody_else_changed_is_put_right() -> None:
    async def body(server: Server, found: Reporter, seen: dict[str, Object]) -> None:
        found.put(UID, running())
        await found.flush(UID)
        revision = str(int(server.pod["metadata"]["resourceVersion"]) + 1)
        seen[UID] = server.pod = {**server.pod, "metadata": {**server.pod["metadata"], "resourceVersion": revision},
                                  "status": {**server.pod["status"], "phase": "Failed"}}
        found.put(UID, running())
        await found.flush(UID)
        assert server.patches[1:] == [{"phase": "Running"}]

    reporting(body)


def test_an_api_server_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "_FIRST_DELAY", 0.001)

    async def body(server: Server, found: Reporter, _: dict[str, Object]) -> None:
        server.troubles = [TemporaryError("away")] * 3 + [ApiError(500, "InternalError", "oops")]
        found.put(UID, running())
        await found.flush(UID)
        assert server.patches == [running()]

    reporting(body)


@pytest.mark.parametrize("gone", [True, False], ids=["known", "not yet known"])
def test_a_pod_that_is_gone_holds_nobody_up(gone: bool) -> None:
    async def body(server: Server, found: Reporter, seen: dict[str, Object]) -> None:
        server.troubles = [ApiError(404, "NotFound", "no such Pod")]
        if gone:
            del seen[UID]
        found.put(UID, running())
        await found.flush(UID)
        assert server.patches == []

    reporting(body)
