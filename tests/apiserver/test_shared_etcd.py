"""Two API servers on one etcd: each begins a write with what it knows, and is never wrong by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.apiserver.conftest import Client, Server, config_map
from tests.store.servers import REAL, running

NS = "/api/v1/namespaces/default/configmaps"


class Late:
    """A way to an etcd by which everything comes back late: who takes it knows less than the etcd has."""

    def __init__(self, url: str, seconds: float) -> None:
        self.target, self.seconds = int(url.rpartition(":")[2]), seconds
        self.loop, started = asyncio.new_event_loop(), threading.Event()
        self.url = ""

        async def listen() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()

        self.loop.create_task(listen())
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        started.wait(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inward, outward = await asyncio.open_connection("127.0.0.1", self.target)

        async def back() -> None:
            while data := await inward.read(65536):
                self.loop.call_later(self.seconds, writer.write, data)

        task = asyncio.create_task(back())
        with suppress(OSError):
            while data := await reader.read(65536):
                outward.write(data)
        task.cancel()
        outward.close()

    def close(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


@pytest.fixture(params=["ours", "real"])
def pair(request: pytest.FixtureRequest, servers: Callable[..., Server], tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    """An API server that hears of everything at once, and one that hears of it late."""
    if request.param == "real" and REAL is None:
        pytest.skip("etcd is not installed")
    with running(tmp_path / "etcd", real=request.param == "real") as etcd:
        late = Late(etcd.url, 0.05)
        yield servers(f"--etcd-servers={etcd.url}").client(), servers(f"--etcd-servers={late.url}").client()
        late.close()


def test_what_one_has_written_the_other_goes_on_from(pair: tuple[Client, Client]):
    one, two = pair
    for number in range(3):
        path = f"{NS}/c{number}"
        made = one.post(NS, config_map(f"c{number}", a="1")).json
        seen = two.put(path, made | {"data": {"a": "2"}})  # it has not been told of the first yet
        assert (seen.status, seen.json["data"]) == (200, {"a": "2"})
        changed = one.put(path, seen.json | {"data": {"a": "3"}}).json
        assert two.put(path, changed | {"data": {"a": "4"}}).json["data"] == {"a": "4"}  # at a revision that it does not know
        assert two.put(path, changed).status == 409
        one.patch(path, {"data": {"a": "5"}})
        assert two.patch(path, {"data": {"a": "4"}}).json["data"] == {"a": "4"}  # which is what it had known
        one.patch(path, {"data": {"b": "1"}})
        assert two.patch(path, {"data": {"c": "1"}}).json["data"] == {"a": "4", "b": "1", "c": "1"}
        one.patch(path, {"data": {"d": "1"}})
        assert "d" in two.patch(f"{path}?dryRun=All", {"data": {"e": "1"}}).json["data"]
        one.put(path, config_map(f"c{number}", x="1") | {"immutable": True})
        assert two.put(path, config_map(f"c{number}", x="2")).status == 422
        one.delete(path)
        one.post(NS, config_map(f"c{number}", new="1"))
        assert two.put(path, config_map(f"c{number}", x="2")).status == 200  # another object, which may be changed
        revision = one.patch(path, {"data": {"y": "1"}}).json["metadata"]["resourceVersion"]
        assert two.delete(path, {"preconditions": {"resourceVersion": revision}}).status == 200
        one.post(NS, config_map(f"c{number}"))
        assert two.get(path).status == 200
        one.delete(path)
        assert two.patch(path, {"data": {"b": "1"}}).status == 404
        assert two.delete(path).status == 404


def test_no_change_of_many_writers_is_lost(pair: tuple[Client, Client]):
    path, writers, steps = f"{NS}/sum", 6, 25
    pair[0].post(NS, config_map("sum"))

    def add(client: Client, number: int) -> None:
        for step in range(steps):
            assert client.patch(path, {"data": {f"{number}-{step}": "1"}}).status == 200

    threads = [threading.Thread(target=add, args=(pair[number % 2].again(), number)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(pair[0].get(path).json["data"]) == writers * steps
