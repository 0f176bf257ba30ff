"""One contract, held against every backend: memory, SQLite both ways, netlab/etcd and the real etcd."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netlab.store import (
    Compacted,
    Compare,
    Conflict,
    Delete,
    DuplicateKey,
    FutureRevision,
    Get,
    KeyExists,
    KeyMissing,
    LeaseExists,
    LeaseMissing,
    Put,
    Store,
    Txn,
)
from netlab.store.etcd import EtcdStore
from tests.store import servers
from tests.store.servers import running

KINDS = ["memory", "sqlite normal", "sqlite full", "netlab-etcd", "etcd"]
Opener = Callable[..., "AsyncIterator[Store]"]


@pytest.fixture(scope="module", params=KINDS)
def opener(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    kind, number = request.param, iter(range(1000))
    folder = tmp_path_factory.mktemp("contract")

    def local(path: Path | None, mode: str) -> Opener:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Store]:
            async with await Store.open(path and path / f"{next(number)}.db", synchronous=mode) as store:  # type: ignore[arg-type]
                yield store

        return opened

    if kind.startswith(("memory", "sqlite")):
        yield local(None if kind == "memory" else folder, "full" if "full" in kind else "normal")
        return
    if kind == "etcd" and servers.REAL is None:
        pytest.skip("etcd is not installed")
    with running(folder, real=kind == "etcd") as server:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Store]:
            async with await EtcdStore.connect([server.url], prefix=f"/test/{next(number)}") as store:
                yield store

        yield opened


def key(name: str) -> bytes:
    return f"/registry/things/{name}".encode()


async def test_create_update_delete(opener: Opener):
    async with opener() as store:
        first = store.revision
        made = await store.create(key("a"), b"1")
        assert (made.key, made.value, made.version, made.create_revision) == (key("a"), b"1", 1, made.mod_revision)
        assert made.mod_revision == store.revision > first
        with pytest.raises(KeyExists) as exists:
            await store.create(key("a"), b"2")
        assert (exists.value.current.value, exists.value.current.mod_revision) == (b"1", made.mod_revision)
        changed = await store.update(key("a"), b"2", made.mod_revision)
        assert (changed.version, changed.create_revision, changed.mod_revision) == (2, made.mod_revision, store.revision)
        with pytest.raises(Conflict) as conflict:
            await store.update(key("a"), b"3", made.mod_revision)
        assert conflict.value.current.value == b"2"
        with pytest.raises(Conflict):
            await store.delete(key("a"), made.mod_revision)
        gone = await store.delete(key("a"), changed.mod_revision)
        assert gone.deleted
        assert (gone.prev.value, gone.revision) == (b"2", store.revision)
        for refused in (store.delete(key("a")), store.update(key("a"), b"", changed.mod_revision)):
            with pytest.raises(KeyMissing):
                await refused
        assert await store.get(key("a")) is None
        assert (await store.put(key("a"), b"4")).version == 1


async def test_reads_at_a_revision_pages_and_counts(opener: Opener):
    async with opener() as store:
        for number in range(10):
            await store.put(key(f"{number}"), b"old")
        then = store.revision
        for number in range(5):
            await store.put(key(f"{number}"), b"new")
        await store.delete(key("9"))
        now = await store.list(key(""))
        assert [kv.value for kv in now.kvs] == [b"new"] * 5 + [b"old"] * 4
        assert (now.revision, await store.count(key(""))) == (store.revision, 9)
        page = await store.list(key(""), revision=then, limit=4)
        assert (len(page.kvs), page.remaining, page.revision, page.more) == (4, 6, then, True)
        rest = await store.list(key(""), revision=then, after=page.kvs[-1].key)
        assert [kv.key for kv in page.kvs + rest.kvs] == [key(f"{number}") for number in range(10)]
        assert {kv.value for kv in page.kvs + rest.kvs} == {b"old"}
        assert [kv.key for kv in (await store.range(key("3"), key("5"))).kvs] == [key("3"), key("4")]
        assert (await store.get(key("9"), revision=then)).value == b"old"
        for read in (store.get(key("1"), revision=store.revision + 100), store.list(key(""), revision=store.revision + 100)):
            with pytest.raises(FutureRevision):
                await read


async def test_watches_tell_everything_once_in_order(opener: Opener):
    async with opener() as store:
        await store.put(key("before"), b"1")
        seen = store.revision
        await store.put(key("a"), b"1")
        with store.watch(key(""), after=seen) as watch, store.watch(key("a"), end=b"") as single:
            await store.put(key("a"), b"2")
            await store.put(b"/registry/others/b", b"1")
            await store.delete(key("a"))
            await store.put(key("c"), b"1")
            events = []
            while len(events) < 4:
                events += await watch.next(10)
            assert [(event.kv.key[-1:], event.kv.value, event.created, event.deleted) for event in events] == [
                (b"a", b"1", True, False), (b"a", b"2", False, False), (b"a", b"", False, True), (b"c", b"1", True, False)]
            assert [event.prev and event.prev.value for event in events] == [None, b"1", b"2", None]
            own = []
            while len(own) < 2:
                own += await single.next(10)
            assert [event.deleted for event in own] == [False, True]


async def test_transactions_write_all_or_nothing(opener: Opener):
    async with opener() as store:
        a, b = key("a"), key("b")
        done = await store.transact([Compare(a, "version", "=", 0)], [Put(a, b"1"), Put(b, b"1"), Get(key(""), key("~"))])
        assert done.succeeded
        assert [kv.key for kv in done.results[2].kvs] == [a, b]
        assert {kv.mod_revision for kv in done.results[2].kvs} == {done.revision}
        done = await store.transact([Compare(a, "value", "=", b"2")], [Put(a, b"3")], [Delete(b), Get(a)])
        assert not done.succeeded
        assert [event.prev.value for event in done.results[0]] == [b"1"]
        assert done.results[1].kvs[0].value == b"1"
        unchanged = store.revision
        for bad, error in (([Put(a, b"1"), Put(a, b"2")], DuplicateKey), ([Put(a, b"1"), Delete(key(""), key("~"))], DuplicateKey),
                           ([Put(a, b"x"), Put(b, b"1", 12345)], LeaseMissing)):
            with pytest.raises(error):
                await store.transact([], bad)
        assert (await store.get(a)).value == b"1"
        assert store.revision == unchanged
        nested = await store.transact([], [Put(b, b"2"), Txn([Compare(a, "mod", ">", 0)], [Put(a, b"5")], [Delete(a)])])
        assert nested.results[1].succeeded
        assert (await store.get(a)).value == b"5"


async def test_leases(opener: Opener):
    async with opener() as store:
        lease = await store.grant(100, random.randrange(1, 1 << 60))
        assert lease.ttl == 100
        with pytest.raises(LeaseExists):
            await store.grant(100, lease.id)
        await store.transact([], [Put(key("l"), b"1", lease.id)])
        assert (await store.get(key("l"))).lease == lease.id
        assert (await store.renew(lease.id)).ttl == 100
        await store.revoke(lease.id)
        assert await store.get(key("l")) is None
        for call in (store.renew(lease.id), store.revoke(lease.id)):
            with pytest.raises(LeaseMissing):
                await call
        one, two = await store.create(key("t1"), b"1", ttl=60), await store.create(key("t2"), b"1", ttl=60)
        assert one.lease == two.lease != 0


async def test_compaction_forgets(opener: Opener):
    async with opener() as store:
        for number in range(6):
            await store.put(key("a"), b"%d" % number)
        at = store.revision - 2
        await store.compact(at)
        assert (await store.get(key("a"), revision=at)).value == b"3"
        for read in (store.get(key("a"), revision=at - 1), store.list(key(""), revision=at - 1), store.compact(at - 1)):
            with pytest.raises(Compacted):
                await read
        await store.compact(at)
        with pytest.raises(Compacted):
            store.watch(key(""), after=at - 1)
        with pytest.raises(FutureRevision):
            await store.compact(store.revision + 1000)


async def test_a_revision_that_is_to_come_can_be_waited_for(opener: Opener):
    async with opener() as store:
        wanted = store.revision + 2
        waiting = asyncio.create_task(store.reach(wanted, 30))
        await store.put(key("a"), b"1")
        await store.put(key("a"), b"2")
        assert await waiting
        assert not await store.reach(wanted + 1000, 0.01)


async def test_many_writers_and_the_replay_of_a_watch(opener: Opener):
    """Whatever 50 writers do at once, events added up give the list at every revision that is asked for."""
    async with opener() as store:
        start = store.revision
        dice = random.Random(1)

        async def writer(number: int) -> None:
            for step in range(6):
                name = key(f"{dice.randrange(12)}")
                try:
                    current = await store.get(name)
                    if current is None:
                        await store.create(name, b"%d.%d" % (number, step))
                    elif dice.random() < 0.3:
                        await store.delete(name, current.mod_revision)
                    else:
                        await store.update(name, b"%d.%d" % (number, step), current.mod_revision)
                except (KeyExists, KeyMissing, Conflict):
                    continue

        with store.watch(key(""), after=start) as watch:
            await asyncio.gather(*(writer(number) for number in range(50)))
            end = (await store.list(key(""))).revision
            events = []
            while watch.revision < end:
                events += await watch.next(10)
        state: dict[bytes, tuple[bytes, int]] = {}
        assert [event.revision for event in events] == sorted({event.revision for event in events})
        for at, event in enumerate(events):
            if event.deleted:
                del state[event.kv.key]
            else:
                state[event.kv.key] = event.kv.value, event.revision
            if at % 20 == 0 or at == len(events) - 1:
                listed = await store.list(key(""), revision=event.revision)
                assert {kv.key: (kv.value, kv.mod_revision) for kv in listed.kvs} == state
