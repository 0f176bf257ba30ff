"""No event lost, none doubled: what a watch tells, added up, is byte for byte what a list at that revision says."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.apiserver.conftest import Pki, Server
from tests.store.servers import REAL, running

NS = "/api/v1/namespaces/default/configmaps"
HEAD = b'{"kind":"ConfigMap","apiVersion":"v1",'


def pieces(body: bytes) -> list[bytes]:
    """Cut the objects out of a list's bytes, as they stand there."""
    found, text = [], body[body.index(b'"items":[') + len(b'"items":['):]
    depth = start = 0
    quoted = escaped = False
    for at, char in enumerate(text):
        if quoted:
            quoted, escaped = (char != 0x22 or escaped), char == 0x5C and not escaped
        elif char == 0x22:
            quoted = True
        elif char == 0x7B:
            start, depth = (at if depth == 0 else start), depth + 1
        elif char == 0x7D:
            depth -= 1
            if depth == 0:
                found.append(text[start:at + 1])
        elif char == 0x5D and depth == 0:
            break
    return found


class Replay:
    """Follows a watch and keeps the state that its events add up to, in bytes.

    One that sends what is there first (`initial`) does so in the order of names, up to a bookmark.
    """

    def __init__(self, *, initial: bool = False) -> None:
        self.initial = initial
        self.state: dict[str, bytes] = {}
        self.at: dict[int, dict[str, bytes]] = {}
        self.revision = 0
        self.problems: list[str] = []
        self.changed = asyncio.Event()

    def take(self, line: bytes) -> None:
        event = orjson.loads(line)
        self.changed.set()
        revision = int(event["object"]["metadata"]["resourceVersion"])
        if event["type"] == "BOOKMARK":
            self.revision, self.initial = max(self.revision, revision), False
            return
        if revision <= self.revision and not self.initial:
            self.problems.append(f"revision {revision} came after {self.revision}")
        self.revision = max(self.revision, revision)
        name, raw = event["object"]["metadata"]["name"], line[line.index(b'"object":') + 9:].rstrip()[:-1]
        known = name in self.state
        if event["type"] == "DELETED":
            if not known:
                self.problems.append(f"{name} was deleted, but was not there")
            self.state.pop(name, None)
        else:
            if known == (event["type"] == "ADDED"):
                self.problems.append(f"{name}: {event['type']}, known: {known}")
            self.state[name] = b"{" + raw.removeprefix(HEAD)
        if not self.initial:
            self.at[revision] = dict(self.state)


@pytest.mark.parametrize(("writers", "steps"), [
    (50, 5), pytest.param(1000, 6, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("store", ["full", "normal", "memory", "netlab-etcd", "etcd"])
def test_a_watch_replayed_is_the_list(servers: Callable[..., Server], pki: Pki, tmp_path: Path, store: str, writers: int,
                                      steps: int):
    if store == "etcd" and REAL is None:
        pytest.skip("etcd is not installed")
    with ExitStack() as stack:
        where = {"full": "--store-synchronous=full", "normal": "--store-synchronous=normal",
                 "memory": "--data-dir="}.get(store) or f"--etcd-servers={stack.enter_context(running(tmp_path / 'etcd', real=store == 'etcd')).url}"
        server = servers("--store-retention-revisions=100000", where)
        asyncio.run(asyncio.wait_for(_race(f"https://127.0.0.1:{server.port}", pki, writers, steps), 600))


async def _race(base: str, pki: Pki, writers: int, steps: int) -> None:
    context = ssl.create_default_context(cafile=pki.path("ca.crt"))
    context.load_cert_chain(pki.path("admin.crt"), pki.path("admin.key"))
    dice = random.Random(5)
    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=context, limit=64),
                                     timeout=aiohttp.ClientTimeout(None, sock_read=600)) as http, \
            aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=context, limit=0),
                                  timeout=aiohttp.ClientTimeout(None)) as watching:
        first = orjson.loads(await (await http.get(NS)).read())["metadata"]["resourceVersion"]
        replays = [Replay(), Replay(), Replay(), Replay(initial=True)]
        queries = [f"resourceVersion={first}", f"resourceVersion={first}&allowWatchBookmarks=true&timeoutSeconds=4",
                   f"resourceVersion={first}", "resourceVersionMatch=NotOlderThan&sendInitialEvents=true&allowWatchBookmarks=true"]
        followers = [asyncio.create_task(_follow(watching, replay, query)) for replay, query in zip(replays, queries, strict=True)]
        await asyncio.gather(*(_writer(http, number, steps, dice) for number in range(writers)))
        body = await (await http.get(NS)).read()
        end = int(orjson.loads(body)["metadata"]["resourceVersion"])
        async with asyncio.timeout(120):
            for replay in replays:
                while replay.revision < _last(body) or replay.initial:
                    replay.changed.clear()
                    await replay.changed.wait()
        for task in followers:
            task.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        for replay in replays:
            assert not replay.problems
            assert sorted(replay.state.values()) == sorted(pieces(body))
        revisions = sorted(replays[0].at)
        assert len(revisions) >= writers
        for revision in dice.sample(revisions, min(25, len(revisions))):
            exact = await (await http.get(f"{NS}?resourceVersion={revision}&resourceVersionMatch=Exact")).read()
            assert sorted(replays[0].at[revision].values()) == sorted(pieces(exact)), revision
            pages, token = [], ""
            while True:
                page = await (await http.get(f"{NS}?limit=7" + (f"&continue={token}" if token else f"&resourceVersion={revision}"))).read()
                pages += pieces(page)
                token = orjson.loads(page)["metadata"].get("continue", "")
                if not token:
                    break
            assert sorted(pages) == sorted(pieces(exact)), revision
        assert replays[0].at == replays[2].at
        assert end >= max(revisions)


def _last(body: bytes) -> int:
    """Return the revision that a replay must have come to: each writer's last act was to make an object that stays."""
    return max(int(orjson.loads(piece)["metadata"]["resourceVersion"]) for piece in pieces(body))


async def _follow(http: aiohttp.ClientSession, replay: Replay, query: str) -> None:
    """Watch; begin again where the last watch ended."""
    while True:
        async with http.get(f"{NS}?watch=1&{query}") as reply:
            assert reply.status == 200
            rest = b""
            async for chunk in reply.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    replay.take(line)
        query = f"resourceVersion={replay.revision}&allowWatchBookmarks=true&timeoutSeconds=4"


async def _writer(http: aiohttp.ClientSession, number: int, steps: int, dice: random.Random) -> None:
    for step in range(steps):
        name = f"c{dice.randrange(40)}"
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"from": f'{number}"{{}}[\\', "step": str(step)}}
        choice = dice.random()
        if choice < 0.4:
            answer = await http.post(NS, json=body)
        elif choice < 0.75:
            answer = await http.patch(f"{NS}/{name}", data=orjson.dumps({"data": body["data"]}), headers={"Content-Type": "application/merge-patch+json"})
        else:
            answer = await http.delete(f"{NS}/{name}")
        await answer.read()
        assert answer.status in (200, 201, 404, 409), answer.status
    name = f"own-{number}"
    answer = await http.post(NS, json={"metadata": {"name": name}, "data": {"a": "1"}})
    assert answer.status == 201
    await answer.read()
