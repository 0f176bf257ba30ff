"""The store as its users see it: writes, reads at a revision, watches, leases, compaction."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from netlab.store import (
    Compacted,
    Compare,
    Conflict,
    Delete,
    FutureRevision,
    Get,
    KeyExists,
    KeyMissing,
    LeaseMissing,
    Locked,
    Put,
    Retention,
    StorageFull,
    Store,
    StoreError,
    WatchCut,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(path: Path | None = None, **options) -> AsyncIterator[Store]:
    store = await Store.open(path, **options)
    try:
        yield store
    finally:
        await store.close()


async def test_a_write_makes_one_revision_of_the_whole_store():
    async with opened() as store:
        assert store.revision == 1
        a = await store.create(b"a", b"1")
        b = await store.put(b"b", b"1")
        a2 = await store.update(b"a", b"2", a.mod_revision)
        assert (a.mod_revision, b.mod_revision, a2.mod_revision, store.revision) == (2, 3, 4, 4)
        assert (a2.create_revision, a2.version) == (2, 2)
        gone = await store.delete(b"a")
        assert (gone.revision, gone.prev, gone.deleted) == (5, a2, True)
        again = await store.create(b"a", b"3")
        assert (again.create_revision, again.version) == (6, 1)


async def test_writes_that_do_not_fit_change_nothing():
    async with opened() as store:
        kv = await store.create(b"a", b"1")
        with pytest.raises(KeyExists) as exists:
            await store.create(b"a", b"2")
        assert exists.value.current is kv
        with pytest.raises(Conflict) as conflict:
            await store.update(b"a", b"2", 77)
        assert conflict.value.current is kv
        with pytest.raises(Conflict):
            await store.delete(b"a", 77)
        with pytest.raises(KeyMissing):
            await store.update(b"b", b"2", 2)
        with pytest.raises(KeyMissing):
            await store.delete(b"b")
        with pytest.raises(StoreError, match="bytes"):
            await store.put(b"a", "text")  # type: ignore[arg-type]
        assert store.revision == 2
        assert (await store.get(b"a")) is kv


async def test_writes_of_one_tick_see_each_other_in_order():
    async with opened() as store:
        first, second, third = await asyncio.gather(
            store.create(b"a", b"1"), store.create(b"a", b"2"), store.update(b"a", b"3", 2), return_exceptions=True)
        assert first.mod_revision == 2
        assert isinstance(second, KeyExists)
        assert third.mod_revision == 3
        assert (await store.get(b"a")).value == b"3"


async def test_a_cancelled_writer_before_the_commit_writes_nothing():
    async with opened() as store:
        task = asyncio.ensure_future(store.create(b"a", b"1"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.create(b"b", b"1")
        assert await store.get(b"a") is None


async def test_reading_at_a_revision():
    async with opened() as store:
        await store.create(b"k/a", b"1")      # 2
        await store.create(b"k/b", b"1")      # 3
        await store.put(b"k/a", b"2")         # 4
        await store.delete(b"k/b")            # 5
        await store.create(b"k/b", b"3")      # 6
        await store.create(b"l", b"x")        # 7
        seen = [[(kv.key, kv.value) for kv in (await store.list(b"k/", revision=revision)).kvs] for revision in range(1, 8)]
        assert seen == [
            [], [(b"k/a", b"1")], [(b"k/a", b"1"), (b"k/b", b"1")], [(b"k/a", b"2"), (b"k/b", b"1")], [(b"k/a", b"2")],
            [(b"k/a", b"2"), (b"k/b", b"3")], [(b"k/a", b"2"), (b"k/b", b"3")]]
        assert (await store.get(b"k/b", revision=4)).value == b"1"
        assert await store.get(b"k/b", revision=5) is None
        with pytest.raises(FutureRevision):
            await store.get(b"k/a", revision=8)


async def test_pages_come_from_one_snapshot():
    async with opened() as store:
        for at in range(10):
            await store.create(b"k/%02d" % at, b"old")
        page = await store.list(b"k/", limit=4)
        keys, revision = [kv.key for kv in page.kvs], page.revision
        while page.more:
            await store.put(b"k/%02d" % (len(keys) + 1), b"new")
            await store.create(b"k/%02d.5" % len(keys), b"new")
            page = await store.list(b"k/", revision=revision, limit=4, after=keys[-1])
            assert all(kv.value == b"old" for kv in page.kvs)
            assert page.revision == revision
            keys += [kv.key for kv in page.kvs]
        assert keys == [b"k/%02d" % at for at in range(10)]


async def test_a_prefix_is_no_more_than_a_prefix():
    async with opened() as store:
        for key in (b"a", b"a/", b"a/b", b"a0", b"\xff", b"\xff\xff"):
            await store.create(key, b"")
        assert [kv.key for kv in (await store.list(b"a/")).kvs] == [b"a/", b"a/b"]
        assert [kv.key for kv in (await store.list(b"\xff")).kvs] == [b"\xff", b"\xff\xff"]
        assert len((await store.list(b"")).kvs) == 6
        assert await store.count(b"a") == 4


async def test_a_watch_joins_history_and_future():
    async with opened() as store:
        await store.create(b"k/a", b"1")
        listed = await store.list(b"k/")
        await store.put(b"k/a", b"2")
        await store.create(b"other", b"2")
        with store.watch(b"k/", after=listed.revision) as watch:
            await store.delete(b"k/a")
            events = await watch.next()
            assert [(event.revision, event.created, event.deleted, event.kv.value, event.prev.value) for event in events] == [
                (3, False, False, b"2", b"1"), (5, False, True, b"", b"2")]
            assert await watch.next(0.01) == []
            await store.create(b"elsewhere", b"")
            assert watch.revision == 6
            waiting = asyncio.ensure_future(watch.next())
            await asyncio.sleep(0)
            await store.create(b"k/b", b"1")
            assert [event.created for event in await waiting] == [True]
        with pytest.raises(WatchCut):
            await watch.next()


async def test_a_watch_from_now_on_sees_only_what_comes():
    async with opened() as store:
        await store.create(b"k", b"1")
        with store.watch(b"k") as watch:
            await store.put(b"k", b"2")
            assert [event.kv.value for event in await watch.next()] == [b"2"]


async def test_watches_of_one_key_and_of_a_range():
    async with opened() as store:
        one, span = store.watch(b"b", end=b""), store.watch(b"b", end=b"d")
        for key in (b"a", b"b", b"bb", b"c", b"d"):
            await store.create(key, b"")
        assert [event.kv.key for event in await one.next()] == [b"b"]
        assert [event.kv.key for event in await span.next()] == [b"b", b"bb", b"c"]


async def test_a_slow_watch_is_cut_off_and_others_are_not():
    async with opened() as store:
        slow, quick = store.watch(b"k", limit=5), store.watch(b"k", limit=5)
        for at in range(7):
            await store.put(b"k", b"%d" % at)
            await quick.next()
        with pytest.raises(WatchCut, match="behind") as cut:
            await slow.next()
        assert cut.value.revision == 1
        assert len(store._hub) == 1


async def test_an_eager_watch_takes_events_while_its_reader_sleeps_on():
    """What it refuses, its reader gets, with all that came since: each event once, in order, whoever took it."""
    async with opened() as store:
        watch, told, taking = store.watch(b"k"), [], [True]
        woken = []

        def eager(events):
            if taking[0]:
                told.extend(event.kv.value for event in events)
            return taking[0]

        async def read() -> None:
            while True:
                events = await watch.next()
                woken.append(len(events))
                told.extend(event.kv.value for event in events)

        watch.eager = eager
        reader = asyncio.ensure_future(read())
        for number in range(100):
            taking[0] = number % 10 != 7
            await store.put(b"k", b"%d" % number)
            for _ in range(number % 5):
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert told == [b"%d" % number for number in range(100)]
        assert 0 < sum(woken) < 50
        with pytest.raises(WatchCut):
            watch.close()
            await reader


async def test_an_eager_watch_that_fails_holds_up_nobody():
    async with opened() as store:
        said = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(str(context["exception"])))
        watches, seen = [store.watch(b"k") for _ in range(3)], []
        watches[0].eager = lambda events: events[9].deleted  # raises
        watches[1].eager = lambda events: not seen.extend(events)
        readers = [asyncio.ensure_future(watch.next()) for watch in watches]
        await asyncio.sleep(0)
        await store.put(b"k", b"1")
        assert [len(await readers[0]), len(seen), len(await readers[2])] == [1, 1, 1]
        assert said == ["list index out of range"]
        readers[1].cancel()


async def test_the_history_a_watch_asks_for_does_not_cut_it_off():
    async with opened() as store:
        for at in range(20):
            await store.put(b"k", b"%d" % at)
        watch = store.watch(b"k", after=1, limit=5)
        assert len(await watch.next()) == 20


async def test_closing_the_store_ends_watches_and_keeps_what_was_queued(tmp_path):
    store = await Store.open(tmp_path / "db")
    watch = store.watch(b"k")
    reader = asyncio.ensure_future(watch.next())
    writer = asyncio.ensure_future(store.put(b"x", b"1"))
    await asyncio.sleep(0)
    await store.close()
    assert (await writer).mod_revision == 2
    with pytest.raises(WatchCut, match="closed"):
        await reader
    with pytest.raises(StoreError, match="closed"):
        await store.put(b"x", b"2")
    async with opened(tmp_path / "db") as again:
        assert (await again.get(b"x")).value == b"1"


async def test_compaction_forgets_only_what_nobody_needs():
    async with opened() as store:
        await store.create(b"a", b"1")   # 2
        await store.put(b"a", b"2")      # 3
        await store.create(b"b", b"1")   # 4
        await store.delete(b"b")         # 5
        await store.put(b"a", b"3")      # 6
        watch = store.watch(b"a")
        await store.compact(5)
        assert [kv.value for kv in (await store.list(b"", revision=5)).kvs] == [b"2"]
        assert [kv.value for kv in (await store.list(b"")).kvs] == [b"3"]
        for call in (store.get(b"a", revision=4), store.list(b"", revision=1), store.compact(4)):
            with pytest.raises(Compacted):
                await call
        with pytest.raises(Compacted):
            store.watch(b"a", after=4)
        assert [event.revision for event in await store.watch(b"a", after=5).next()] == [6]
        await store.put(b"a", b"4")
        assert [event.prev.value for event in await watch.next()] == [b"3"]
        assert len(store._log._keys) == 1


async def test_history_is_kept_for_a_time_a_number_and_a_size():
    clock = Clock()
    async with opened(clock=clock, retention=Retention(seconds=10, revisions=100, bytes=1000)) as store:
        for at in range(50):
            await store.put(b"k", b"%d" % at)
        await store.tick(clock.now)
        assert store.compacted == 0
        clock.now += 11
        await store.put(b"k", b"young")
        await store.tick(clock.now)
        assert store.compacted == 51
        for _ in range(150):
            await store.put(b"k", b"1")
        await store.tick(clock.now)
        assert store.compacted == store.revision - 100
        for _ in range(20):
            await store.put(b"k", b"1" * 100)
        await store.tick(clock.now)
        assert store._log.history_bytes <= 1000


async def test_a_ttl_deletes_its_keys_in_one_revision(tmp_path):
    clock = Clock()
    async with opened(tmp_path / "db", clock=clock) as store:
        await store.create(b"e/1", b"", ttl=100)
        clock.now += 1
        await store.create(b"e/2", b"", ttl=100)
        kept = await store.create(b"e/3", b"", ttl=100)
        assert kept.lease == (await store.get(b"e/1")).lease  # written close together: one lease
        await store.update(b"e/3", b"forever", kept.mod_revision)
        clock.now += 50
    clock.now += 1000
    async with opened(tmp_path / "db", clock=clock) as store:
        watch = store.watch(b"e/")
        await store.tick(clock.now + 100)  # nobody could renew it meanwhile: its time begins anew
        assert await store.count(b"e/") == 3
        before = store.revision
        await store.tick(clock.now + 110)
        assert [(event.kv.key, event.revision) for event in await watch.next()] == [(b"e/1", before + 1), (b"e/2", before + 1)]
        assert [kv.key for kv in (await store.list(b"e/")).kvs] == [b"e/3"]
        assert store.leases().all() == []


async def test_leases_stay_whole_when_things_happen_at_once():
    clock = Clock()
    async with opened(clock=clock) as store:
        one, two, three = [await store.grant(10, number) for number in (1, 2, 3)]
        for lease in (one, two, three):
            await store.transact([], [Put(b"l/%d" % lease.id, b"", lease.id)])
        clock.now += 11
        done = await asyncio.gather(store.revoke(2), store.renew(3), store.tick(clock.now), return_exceptions=True)
        assert done[2] is None  # what was revoked or renewed just before does not disturb it
        assert ([lease.id for lease in store.leases().all()], [kv.key for kv in (await store.list(b"l/")).kvs]) == ([3], [b"l/3"])
        gone, late = await asyncio.gather(store.revoke(3), store.transact([], [Put(b"l/4", b"", 3)]), return_exceptions=True)
        assert (gone, type(late)) == (None, LeaseMissing)
        assert await store.count(b"l/") == 0


async def test_the_largest_lease_id_does_not_use_the_numbers_up(tmp_path):
    async with opened(tmp_path / "db") as store:
        await store.grant(100, (1 << 63) - 1)
        kept = await store.put(b"k", b"", ttl=10)
        assert 0 < kept.lease < 1 << 63
    async with opened(tmp_path / "db") as store:
        assert (await store.put(b"k", b"", ttl=20)).lease not in (0, kept.lease, (1 << 63) - 1)


@pytest.mark.parametrize("where", ["step", "append"])
async def test_a_fault_of_ours_fails_its_batch_and_no_later_one(monkeypatch, where):
    async with opened() as store:
        with monkeypatch.context() as broken:
            if where == "step":
                broken.setattr("netlab.store.draft.Draft.delete", lambda *_: 1 / 0)
            else:
                broken.setattr(store._backend, "append", lambda _: 1 / 0)
            writes = [store.put(b"a", b"1"), store.transact((), [Put(b"d", b""), Delete(b"a")]), store.put(b"b", b"1", ttl=5)]
            results = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(result) for result in results] == [ZeroDivisionError] * 3
        assert (len(store), store.revision, store.leases().all()) == (0, 1, [])
        assert (await store.put(b"c", b"1")).mod_revision == 2


async def test_a_lease_that_was_renewed_on_a_full_disk_is_still_there(monkeypatch):
    async with opened() as store:
        lease = await store.grant(100, 7)

        def refuse(_):
            raise StorageFull("full")

        monkeypatch.setattr(store._backend, "append", refuse)
        results = await asyncio.gather(store.put(b"k", b""), store.renew(7), return_exceptions=True)
        assert isinstance(results[0], StorageFull)
        assert (await store.renew(7)).ttl == lease.ttl  # which needs no disk
        assert [row.id for row in store.leases().all()] == [7]


async def test_transactions_choose_and_write_one_revision():
    async with opened() as store:
        done = await store.transact([Compare(b"a", "create", "=", 0)], [Put(b"a", b"1"), Put(b"b", b"1"), Get(b"a", b"\0")])
        assert (done.succeeded, done.revision, store.revision) == (True, 2, 2)
        assert [kv.key for kv in done.results[2].kvs] == [b"a", b"b"]
        done = await store.transact([Compare(b"a", "create", "=", 0)], [Put(b"a", b"2")], [Get(b"a")])
        assert (done.succeeded, store.revision) == (False, 2)
        assert done.results[0].kvs[0].value == b"1"
        watch = store.watch(b"")
        done = await store.transact([Compare(b"a", "value", "=", b"1"), Compare(b"b", "mod", "<", 3)], [Delete(b"a", b"c")])
        assert [event.revision for event in done.results[0]] == [3, 3]
        assert [event.kv.sub for event in await watch.next()] == [0, 1]
        for ops in ([Put(b"a", b""), Put(b"a", b"")], [Put(b"a", b""), Delete(b"", b"b")], [Put(b"x", b"", lease=9)]):
            with pytest.raises(StoreError):
                await store.transact([], ops)
        assert store.revision == 3


async def test_everything_comes_back_after_a_restart(tmp_path):
    async with opened(tmp_path / "db") as store:
        for at in range(30):
            await store.create(b"k/%02d" % at, b"1")
        for at in range(0, 30, 3):
            await store.delete(b"k/%02d" % at)
        await store.transact([], [Put(b"k/01", b"2"), Delete(b"k/02")])
        await store.compact(20)
        revision = store.revision
        snapshots = [await store.list(b"", revision=at) for at in range(20, revision + 1)]
        history = await store.watch(b"", after=20).next()
    async with opened(tmp_path / "db") as store:
        assert (store.revision, store.compacted) == (revision, 20)
        for before in snapshots:
            after = await store.list(b"", revision=before.revision)
            assert [_facts(kv) for kv in after.kvs] == [_facts(kv) for kv in before.kvs]
        again = await store.watch(b"", after=20).next()
        assert [(_facts(event.kv), event.prev and _facts(event.prev)) for event in again] == \
            [(_facts(event.kv), event.prev and _facts(event.prev)) for event in history]
        assert (await store.put(b"z", b"")).mod_revision == revision + 1


def _facts(kv):
    return kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease, kv.sub


async def test_only_one_process_has_the_file(tmp_path):
    async with opened(tmp_path / "db"):
        with pytest.raises(Locked):
            await Store.open(tmp_path / "db")
    async with opened(tmp_path / "db", synchronous="full") as store:
        await asyncio.gather(*(store.create(b"%d" % at, b"") for at in range(100)))
        assert store.revision == 101


async def test_old_history_is_kept_compressed_and_reads_as_before():
    async with opened(clock=Clock()) as store:
        for number in range(400):
            await store.put(b"k", b"%d" % number + b"x" * 50_000)
        await store.delete(b"k")
        before = store._log.history_bytes
        await store.tick(1_000_000.0)
        assert before > 20_000_000 > 2_000_000 > store._log.history_bytes > 1_000_000  # the newest lie there as they are
        assert [(await store.list(b"k", revision=2 + number)).kvs[0].value[:4].rstrip(b"x") for number in range(400)] == [
            b"%d" % number for number in range(400)]
        events = await store.watch(b"k", after=1).next()
        assert [(event.prev.value if event.prev else b"") for event in events[1:]] == [event.kv.value for event in events[:-1]]
        await store.compact(200)
        assert store.image().events[0].kv.value == b"198" + b"x" * 50_000
        await store.compact(store.revision)
        assert store._log.history_bytes == store._log._loose == 0


async def test_time_goes_on_however_fast_writers_are():
    """What they write while old values are compressed is compressed the next time."""
    async with opened(clock=Clock()) as store:
        value = os.urandom(4_000).hex().encode()

        async def write() -> None:
            while True:
                await asyncio.gather(*(store.put(b"k%d" % number, value) for number in range(1000)))

        writer = asyncio.ensure_future(write())
        async with asyncio.timeout(50):
            while store.revision < 10_000:
                await store.tick(1_000_000.0)
                await asyncio.sleep(0)
            writer.cancel()
