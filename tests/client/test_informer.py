from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from netlab.client.informer import Informer
from tests.client.standin import standin, until

PODS = "/api/v1/pods"


class Mirror:
    """What a handler has been told, as a dict, and how often it was told something that cannot be."""

    def __init__(self) -> None:
        self.objects: dict[str, dict] = {}
        self.wrong: list[str] = []
        self.calls = 0

    def __call__(self, key, old, new) -> None:
        self.calls += 1
        if (old is None) is (key in self.objects):
            self.wrong.append(f"{key}: old={old} have={self.objects.get(key)}")
        if new is None:
            del self.objects[key]
        else:
            if old is not None and old["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"]:
                self.wrong.append(f"{key}: told twice")
            self.objects[key] = new


@asynccontextmanager
async def running(informer):
    stop = asyncio.Event()
    task = asyncio.create_task(informer.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


def test_lists_then_watches_and_tells_each_change_once():
    async def body():
        async with standin() as (server, client):
            await server.put(PODS, "a")
            informer, mirror = Informer(client, "pods"), Mirror()
            informer.add_handler(mirror)
            async with running(informer):
                await informer.synced.wait()
                assert mirror.objects.keys() == {"a"}
                await server.put(PODS, "b", spec={"big": "x" * 3_000_000})
                await server.put(PODS, "a", spec={"n": 1})
                await server.drop(PODS, "b")
                await until(lambda: informer.revision == str(server.revision))
                assert informer.keys() == ["a"]
                assert mirror.objects["a"]["spec"] == {"n": 1}
                assert informer.get("a")["kind"] == "Pod"
                assert (mirror.calls, mirror.wrong, server.lists) == (4, [], 1)
    asyncio.run(body())


def test_resumes_where_a_broken_stream_ended():
    async def body():
        async with standin() as (server, client):
            informer, mirror = Informer(client, "pods"), Mirror()
            informer.add_handler(mirror)
            async with running(informer):
                await informer.synced.wait()
                for round_ in range(5):
                    await server.put(PODS, f"p{round_}")
                    server.cut()
                    await server.put(PODS, f"q{round_}")
                await until(lambda: len(mirror.objects) == 10)
                assert mirror.wrong == []
                assert server.lists == 1, "a broken stream is no reason to list again"
    asyncio.run(body())


def test_lists_anew_after_expired_and_tells_the_difference():
    async def body():
        async with standin() as (server, client):
            await server.put(PODS, "stays")
            await server.put(PODS, "goes")
            reborn = (await server.put(PODS, "reborn"))["metadata"]["uid"]
            informer, mirror = Informer(client, "pods"), Mirror()
            informer.add_handler(mirror)
            async with running(informer):
                await informer.synced.wait()
                await until(lambda: server.watches == 1)
                server.refuse = 3  # nobody listens while this happens
                server.cut()
                await server.drop(PODS, "goes")
                await server.drop(PODS, "reborn")
                await server.put(PODS, "reborn")
                await server.put(PODS, "comes")
                server.compacted = server.revision
                await until(lambda: server.lists == 2 and informer.revision == str(server.revision))
                assert mirror.objects.keys() == {"stays", "reborn", "comes"}
                assert mirror.objects["reborn"]["metadata"]["uid"] != reborn
                assert mirror.wrong == []
                assert mirror.calls == 3 + 4, "a deletion and a creation each for the namesake"
    asyncio.run(body())


def test_waits_for_a_server_that_is_not_there_yet():
    async def body():
        async with standin() as (server, client):
            server.refuse = 4
            informer = Informer(client, "pods")
            async with running(informer):
                async with asyncio.timeout(5):
                    await informer.synced.wait()
    asyncio.run(body())


def test_indices_follow_the_objects():
    async def body():
        async with standin() as (server, client):
            await server.put(PODS, "a", spec={"nodeName": "n1"})
            informer = Informer(client, "pods")
            informer.add_index("node", lambda pod: [pod["spec"]["nodeName"]] if pod.get("spec") else [])
            async with running(informer):
                await informer.synced.wait()
                await server.put(PODS, "b", spec={"nodeName": "n1"})
                await server.put(PODS, "a", spec={"nodeName": "n2"})
                await until(lambda: informer.revision == str(server.revision))
                assert [o["metadata"]["name"] for o in informer.by_index("node", "n1")] == ["b"]
                assert [o["metadata"]["name"] for o in informer.by_index("node", "n2")] == ["a"]
                await server.drop(PODS, "a")
                await until(lambda: informer.revision == str(server.revision))
                assert informer.by_index("node", "n2") == []
    asyncio.run(body())


def test_a_handler_that_fails_stops_nobody():
    async def body():
        async with standin() as (server, client):
            informer, mirror = Informer(client, "pods"), Mirror()
            informer.add_handler(lambda key, old, new: 1 / 0)
            informer.add_handler(mirror)
            async with running(informer):
                await informer.synced.wait()
                await server.put(PODS, "a")
                await until(lambda: "a" in mirror.objects)
    asyncio.run(body())


def test_reach_waits_for_ones_own_write():
    async def body():
        async with standin() as (server, client):
            informer = Informer(client, "pods")
            async with running(informer):
                await informer.synced.wait()
                made = await client.create("pods", {"metadata": {"name": "a"}})
                assert await informer.reach(int(made["metadata"]["resourceVersion"]))
                assert informer.get("a") is not None
                assert not await informer.reach(server.revision + 100, seconds=0.01)
    asyncio.run(body())
