from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.client.worker import run_workers
from netlab.client.workqueue import QueueClosed, WorkQueue
from tests.client.standin import until


def test_a_key_waits_once_and_comes_again_after_work():
    async def body():
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        assert len(queue) == 0, "nobody else may have it now"
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0
    asyncio.run(body())


def test_of_two_delays_the_shorter_counts():
    async def body():
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 60)
        queue.add_after("a", 0.001)
        queue.add_after("a", 60)
        async with asyncio.timeout(2):
            assert await queue.get() == "a"
    asyncio.run(body())


def test_back_off_doubles_up_to_the_limit_and_is_forgotten():
    async def body():
        queue: WorkQueue[str] = WorkQueue(first_delay=1, longest_delay=6)
        assert [queue.add_after_failure("a") for _ in range(5)] == [1, 2, 4, 6, 6]
        queue.forget("a")
        assert queue.add_after_failure("a") == 1
        queue.close()
        with pytest.raises(QueueClosed):
            await queue.get()
    asyncio.run(body())


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 3))
def test_no_key_is_worked_on_twice_at_once_and_none_is_lost(adds, workers):
    async def body():
        queue: WorkQueue[str] = WorkQueue(first_delay=0)
        busy: set[str] = set()
        last_seen: dict[str, int] = {}
        clock = 0

        async def reconcile(key: str) -> None:
            assert key not in busy
            busy.add(key)
            last_seen[key] = clock
            await asyncio.sleep(0)
            busy.discard(key)

        stop = asyncio.Event()
        task = asyncio.create_task(run_workers(queue, reconcile, stop=stop, workers=workers))
        added: dict[str, int] = {}
        for key in adds:
            clock += 1
            added[key] = clock
            queue.add(key)
            await asyncio.sleep(0)
        await until(lambda: not busy and not len(queue) and all(last_seen.get(k, 0) >= at for k, at in added.items()))
        stop.set()
        await task
    asyncio.run(body())


def test_a_failing_key_comes_back_and_the_others_go_on():
    async def body():
        queue: WorkQueue[str] = WorkQueue(first_delay=0.001)
        tries: list[str] = []

        async def reconcile(key: str) -> None:
            tries.append(key)
            if key == "bad" and tries.count("bad") < 3:
                raise RuntimeError("not yet")

        stop = asyncio.Event()
        task = asyncio.create_task(run_workers(queue, reconcile, stop=stop, workers=1))
        queue.add("bad")
        queue.add("good")
        await until(lambda: tries.count("bad") == 3 and "good" in tries)
        assert queue.failures("bad") == 0
        stop.set()
        await task
    asyncio.run(body())
