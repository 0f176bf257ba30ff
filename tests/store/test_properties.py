"""What must hold whatever the writers do."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.store import Compacted, Conflict, KeyExists, KeyMissing, Store, StoreError
from netlab.store.index import SortedKeys
from netlab.store.model import Event, prefix_end

KEYS = st.sampled_from([b"p/a/1", b"p/a/2", b"p/b/1", b"p/b/22", b"q/1", b"q/2", b"p"])
STEPS = st.lists(st.tuples(st.sampled_from(["create", "put", "update", "delete", "batch", "compact"]), KEYS,
                           st.binary(max_size=3)), max_size=40)


def replay(state: dict[bytes, bytes], events: list[Event]) -> None:
    for event in events:
        before = state.get(event.kv.key)
        assert before == (event.prev.value if event.prev else None), "the previous value is what a reader had"
        if event.deleted:
            del state[event.kv.key]
        else:
            state[event.kv.key] = event.kv.value


async def do(store: Store, step: tuple[str, bytes, bytes]) -> None:
    kind, key, value = step
    try:
        if kind == "create":
            await store.create(key, value)
        elif kind == "put":
            await store.put(key, value)
        elif kind == "update":
            current = await store.get(key)
            await store.update(key, value, current.mod_revision if current else 1)
        elif kind == "delete":
            await store.delete(key)
        elif kind == "batch":
            await asyncio.gather(store.put(key, value), store.delete(key), store.create(key, value + b"!"))
        else:
            await store.compact((store.revision + store.compacted + 1) // 2)
    except (KeyExists, KeyMissing, Conflict, Compacted):
        pass


def contents(kvs: Any) -> dict[bytes, bytes]:
    return {kv.key: kv.value for kv in kvs}


@settings(deadline=None, max_examples=60)
@given(STEPS, STEPS)
def test_a_list_and_what_is_watched_after_it_give_every_later_list(before: list[Any], after: list[Any]) -> None:
    async def main() -> None:
        async with await Store.open(None) as store:
            for step in before:
                await do(store, step)
            start = await store.list(b"p/")
            states = {start.revision: contents(start.kvs)}
            for step in after:
                await do(store, step)
                now = await store.list(b"p/")
                states[now.revision] = contents(now.kvs)
            if start.revision < store.compacted:
                return
            state = contents(start.kvs)
            watch = store.watch(b"p/", after=start.revision)
            for event in watch.take():
                replay(state, [event])
                if event.revision in states:
                    assert state == states[event.revision]
            assert state == contents((await store.list(b"p/")).kvs)
            for revision, wanted in states.items():
                if revision >= store.compacted:
                    assert contents((await store.list(b"p/", revision=revision)).kvs) == wanted

    asyncio.run(main())


async def test_watchers_under_many_writers_miss_nothing_and_see_nothing_twice() -> None:
    async with await Store.open(None) as store:
        lists: dict[int, dict[bytes, bytes]] = {}
        stop = asyncio.Event()

        async def writer(seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(60):
                key = b"/registry/pods/%d" % dice.randrange(40)
                try:
                    match dice.randrange(4):
                        case 0:
                            await store.create(key, b"%d" % dice.random().__hash__())
                        case 1:
                            await store.delete(key)
                        case _:
                            current = await store.get(key)
                            await store.update(key, b"%d" % dice.random().__hash__(), current.mod_revision if current else 9)
                except StoreError:
                    pass
                if not dice.randrange(20):
                    now = await store.list(b"/registry/pods/")
                    lists[now.revision] = contents(now.kvs)

        async def reader(seed: int) -> None:
            dice = random.Random(seed)
            start = await store.list(b"/registry/pods/")
            state, at = contents(start.kvs), start.revision
            while not stop.is_set() or at < store.revision:
                with store.watch(b"/registry/pods/", after=at) as watch:  # broken off and taken up again, as clients do
                    for _ in range(dice.randrange(1, 6)):
                        for event in await watch.next(0.05):
                            assert event.revision > at
                            at = event.revision
                            replay(state, [event])
                            if at in lists:
                                assert state == lists[at]
                        if stop.is_set() and watch.revision == store.revision:
                            at = watch.revision
                            break
            assert state == contents((await store.list(b"/registry/pods/")).kvs)

        readers = [asyncio.create_task(reader(seed)) for seed in range(20)]
        await asyncio.gather(*(writer(seed) for seed in range(200)))
        stop.set()
        await asyncio.gather(*readers)
        assert store.revision > 3000
        assert len(lists) > 30


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=1500), st.binary(max_size=2), st.binary(max_size=2))
def test_sorted_keys_are_a_sorted_set(steps: list[tuple[bool, int]], start: bytes, end: bytes) -> None:
    keys, model = SortedKeys(b"%d" % at for at in range(0, 3000, 2)), {b"%d" % at for at in range(0, 3000, 2)}
    for add, at in steps:
        key = b"%d" % at
        if add and key not in model:
            keys.add(key)
            model.add(key)
        elif not add and key in model:
            keys.remove(key)
            model.remove(key)
    assert list(keys) == sorted(model)
    assert len(keys) == len(model)
    assert keys.between(start, end) == sorted(key for key in model if start <= key < end or (end == b"\0" and key >= start))
    assert keys.between(b"1", prefix_end(b"1")) == sorted(key for key in model if key.startswith(b"1"))
