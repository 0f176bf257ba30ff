from __future__ import annotations

import asyncio

import pytest

from netlab.client import leader
from netlab.client.leader import LeaderElector
from netlab.errors import TemporaryError
from tests.client.standin import standin, until

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x"


def elector(client, identity, **times):
    return LeaderElector(client, "x", identity=identity, **({"lease": 15, "renew": 10, "retry": 2} | times))


async def hold(stop):
    await stop.wait()


def test_the_lock_goes_over_at_once_when_it_is_given_back():
    async def body():
        async with standin() as (server, client):
            leads: list[str] = []

            def lead(who):
                async def work(ended):
                    leads.append(who)
                    await ended.wait()
                return work

            stops = [asyncio.Event(), asyncio.Event()]
            first = asyncio.create_task(elector(client, "one").run(stops[0], lead("one")))
            await until(lambda: leads == ["one"])
            second = asyncio.create_task(elector(client, "two").run(stops[1], lead("two")))
            await until(lambda: server.watches == 1)
            stops[0].set()
            await first
            await until(lambda: leads == ["one", "two"], 1.0)  # less than the time between two tries
            assert server.objects[LEASE]["spec"]["holderIdentity"] == "two"
            assert server.objects[LEASE]["spec"]["leaseTransitions"] == 1
            stops[1].set()
            await second
            assert server.objects[LEASE]["spec"]["holderIdentity"] == ""
    asyncio.run(body())


def test_a_dead_leader_is_followed_after_its_lease():
    async def body():
        async with standin() as (server, client):
            await server.put(LEASE.rpartition("/")[0], "x", spec={"holderIdentity": "dead", "leaseDurationSeconds": 1})
            stop, led = asyncio.Event(), asyncio.Event()

            async def lead(ended):
                led.set()
                await ended.wait()

            task = asyncio.create_task(elector(client, "two", lease=1, retry=0.1).run(stop, lead))
            loop = asyncio.get_running_loop()
            started = loop.time()
            async with asyncio.timeout(5):
                await led.wait()
            assert loop.time() - started > 0.9, "not before the old lease has run out"
            stop.set()
            await task
    asyncio.run(body())


def test_a_killed_copy_on_this_host_is_followed_at_once_by_one_that_knows_it_is_alone():
    async def body():
        async with standin() as (server, client):
            await server.put(LEASE.rpartition("/")[0], "x", spec={"holderIdentity": leader.new_identity(),
                                                                  "leaseDurationSeconds": 15})
            stop, led = asyncio.Event(), asyncio.Event()

            async def lead(ended):
                led.set()
                await ended.wait()

            task = asyncio.create_task(elector(client, leader.new_identity(), alone=True).run(stop, lead))
            async with asyncio.timeout(1.5):
                await led.wait()
            stop.set()
            await task
    asyncio.run(body())


def test_who_loses_the_lock_stops():
    async def body():
        async with standin() as (server, client):
            ended = asyncio.Event()

            async def lead(end):
                try:
                    await end.wait()
                finally:
                    ended.set()

            task = asyncio.create_task(elector(client, "one", retry=0.02).run(asyncio.Event(), lead))
            await until(lambda: LEASE in server.objects)
            await server.put(LEASE.rpartition("/")[0], "x", spec={"holderIdentity": "thief",
                                                                  "leaseDurationSeconds": 15})
            with pytest.raises(TemporaryError, match="thief"):
                await task
            assert ended.is_set()
            assert server.objects[LEASE]["spec"]["holderIdentity"] == "thief"
    asyncio.run(body())


def test_who_cannot_renew_in_time_stops():
    async def body():
        async with standin() as (server, client):
            task = asyncio.create_task(elector(client, "one", renew=0.3, retry=0.05).run(asyncio.Event(), hold))
            await until(lambda: LEASE in server.objects)
            server.refuse = 10_000
            with pytest.raises(TemporaryError):
                await asyncio.wait_for(task, 5)
    asyncio.run(body())
