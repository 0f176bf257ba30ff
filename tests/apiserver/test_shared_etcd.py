"""Two API servers on one etcd: each begins a write with what it knows, and is never wrong by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.conftest import Client, Server, config_map
from tests.store.servers import REAL, running

NS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(params=["ours", "real"])
def pair(request: pytest.FixtureRequest, servers: Callable[..., Server], tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    if request.param == "real" and REAL is None:
        pytest.skip("etcd is not installed")
    with running(tmp_path / "etcd", real=request.param == "real") as etcd:
        yield servers(f"--etcd-servers={etcd.url}").client(), servers(f"--etcd-servers={etcd.url}").client()


def test_what_one_has_written_the_other_goes_on_from(pair: tuple[Client, Client]):
    """At once, so that it often has not been told yet."""
    one, two = pair
    for number in range(40):
        path = f"{NS}/c{number}"
        made = one.post(NS, config_map(f"c{number}", a="1")).json
        seen = two.put(path, made | {"data": {"a": "2"}})  # at the revision that the first has answered
        assert (seen.status, seen.json["data"]) == (200, {"a": "2"})
        assert one.put(path, made).status == 409
        assert one.patch(path, {"data": {"b": "1"}}).json["data"] == {"a": "2", "b": "1"}
        assert two.patch(path, {"data": {"a": None}}).json["data"] == {"b": "1"}
        same = one.patch(path, {"data": {"a": None}})  # changes nothing of what is there now
        assert same.json == two.get(path).json
        assert one.put(f"{path}?dryRun=All", config_map(f"c{number}", d="1")).json["data"] == {"d": "1"}
        two.put(path, config_map(f"c{number}", immutable="1") | {"immutable": True})
        assert one.put(path, config_map(f"c{number}", x="1")).status == 422
        two.delete(path)
        assert two.post(NS, config_map(f"c{number}", new="1")).status == 201
        assert one.put(path, config_map(f"c{number}", x="1")).status == 200  # another object, which may be changed
        revision = two.patch(path, {"data": {"y": "1"}}).json["metadata"]["resourceVersion"]
        assert one.delete(path, {"preconditions": {"resourceVersion": revision}}).status == 200
        assert two.delete(path).status == 404
        assert two.patch(path, {"data": {"b": "1"}}).status == 404


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
