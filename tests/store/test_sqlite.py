"""What the disk keeps: after kill -9, with damage, when it is full."""

from __future__ import annotations

import asyncio
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from netlab.store import Corrupt, Delete, Retention, StorageFailed, StorageFull, Store, rows, sqlite
from netlab.store.salvage import main, salvage


def write_until_killed(path: Path, synchronous: str, acknowledge: int) -> None:
    """Write from several tasks for ever; each acknowledged write goes down the pipe."""
    async def main() -> None:
        store = await Store.open(path, synchronous=synchronous)  # type: ignore[arg-type]

        async def writer(at: int) -> None:
            while True:
                kv = await store.put(b"w/%d" % at, os.urandom(50) * 40)
                os.write(acknowledge, struct.pack("<qq", at, kv.mod_revision))

        async def compactor() -> None:
            while True:
                await store.compact(max(store.revision - 5, store.compacted))
                await asyncio.sleep(0)

        await asyncio.gather(*(writer(at) for at in range(8)), compactor())

    try:
        asyncio.run(main())
    finally:
        os._exit(1)


async def test_a_wal_that_has_its_room_already_is_read_up_to_the_last_write(tmp_path: Path) -> None:
    """Its end are zeros; also a copy that is torn out of a running store is whole."""
    async with await Store.open(tmp_path / "db", synchronous="full") as store:
        for number in range(1, 4):
            kv = await store.put(b"k", b"%d" % number)
            assert sqlite.ROOM_BYTES <= (tmp_path / "db-wal").stat().st_size < 2 * sqlite.ROOM_BYTES
            copy = tmp_path / str(number)
            copy.mkdir()
            for name in ("db", "db-wal"):
                shutil.copy(tmp_path / name, copy)
            for synchronous in ("full", "normal"):
                async with await Store.open(copy / "db", synchronous=synchronous) as again:  # type: ignore[arg-type]
                    assert again.revision == kv.mod_revision
                    assert (await again.get(b"k")).value == b"%d" % number


def test_the_room_of_the_wal_is_not_taken_from_memory_too(tmp_path: Path) -> None:
    """malloc keeps what a thread has given back: 4 MiB of zeros for the loop and for each of the threads that write."""
    code = textwrap.dedent("""
        import asyncio, re, sys
        from pathlib import Path
        from netlab.store import Store
        def resident():
            return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        async def main():
            async with await Store.open(Path(sys.argv[1]) / "first", synchronous="normal") as store:
                await store.put(b"k", b"")
            before = resident()
            async with await Store.open(Path(sys.argv[1]) / "second", synchronous="full") as store:
                for _ in range(30):
                    await asyncio.gather(*(store.put(b"k", b"x" * 100_000) for _ in range(10)))
                    await store.compact(store.revision)
                print(resident() - before)
        asyncio.run(main())""")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 5_000, "KiB"


@pytest.mark.parametrize(("synchronous", "kills"), [
    ("normal", 12), ("full", 12), pytest.param("normal", 1000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    pytest.param("full", 1000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_an_acknowledged_write_survives_kill_9(tmp_path: Path, synchronous: str, kills: int) -> None:
    dice, revision = random.Random(1), 0
    for _ in range(kills):
        acknowledged, acknowledge = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(acknowledged)
            write_until_killed(tmp_path / "db", synchronous, acknowledge)
        os.close(acknowledge)
        wanted, data = dice.randrange(1, 200) * 16, b""
        while len(data) < wanted:
            assert select.select([acknowledged], [], [], 20)[0], "the writer died"
            more = os.read(acknowledged, wanted)
            assert more, "the writer died"
            data += more
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while more := os.read(acknowledged, 65536):
            data += more
        os.close(acknowledged)
        last = {at: (at, seen) for at, seen in struct.iter_unpack("<qq", data[:len(data) // 16 * 16])}

        async def check(last: dict[int, tuple[int, int]] = last) -> int:
            async with await Store.open(tmp_path / "db") as store:
                for at, seen in last.values():
                    kv = await store.get(b"w/%d" % at)
                    assert kv is not None
                    assert kv.mod_revision >= seen
                return store.revision

        now = asyncio.run(check())
        assert now >= max(seen for _, seen in last.values()) > revision
        revision = now


async def fill(path: Path, count: int) -> dict[int, dict[bytes, bytes]]:
    """Write some history; return what there was at each revision."""
    states = {}
    async with await Store.open(path) as store:
        for at in range(count):
            await store.put(b"k/%d" % (at % 20), b"%d " % at * 100)
            states[store.revision] = {kv.key: kv.value for kv in (await store.list(b"")).kvs}
            if at % 7 == 6:
                await store.delete(b"k/%d" % (at % 20))
            if at == count // 2:
                await store.compact(store.revision)
            states[store.revision] = {kv.key: kv.value for kv in (await store.list(b"")).kvs}
    return states


async def test_damage_is_found_or_harmless_never_silently_wrong(tmp_path: Path) -> None:
    states = await fill(tmp_path / "db", 300)
    newest = max(states)
    dice, found, salvaged = random.Random(7), 0, 0
    size = (tmp_path / "db").stat().st_size
    for turn in range(150):
        path = tmp_path / f"copy{turn}"
        shutil.copy(tmp_path / "db", path)
        with path.open("r+b") as file:
            file.seek(dice.randrange(size))
            file.write(dice.randbytes(dice.choice([1, 8, 600])))
        if turn % 10 == 0:
            os.truncate(path, dice.randrange(size))
        try:
            store = await Store.open(path)
        except Corrupt as error:
            found += 1
            if error.last_good:
                revision, aside = salvage(path)
                assert aside.exists()
                async with await Store.open(path) as store:
                    assert store.revision == revision <= newest
                    assert {kv.key: kv.value for kv in (await store.list(b"")).kvs} == states.get(revision, {})
                salvaged += 1
        except StorageFailed:
            found += 1
        else:
            assert store.revision == newest
            assert {kv.key: kv.value for kv in (await store.list(b"")).kvs} == states[newest]
            await store.close()
    assert found > 50
    assert salvaged > 10


async def test_a_file_that_is_no_database_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"hello" * 1000)
    with pytest.raises(Corrupt, match="not a database"):
        await Store.open(tmp_path / "db")


def test_salvage_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(fill(tmp_path / "db", 50))
    assert main([str(tmp_path / "db")]) == 0
    assert "is whole" in capsys.readouterr().out
    os.truncate(tmp_path / "db", (tmp_path / "db").stat().st_size - 8192)
    with pytest.raises(Corrupt) as error:
        asyncio.run(Store.open(tmp_path / "db"))
    assert "netlab.store.salvage" in error.value.hint
    assert main([str(tmp_path / "db")]) == 0
    assert "the damaged file is" in capsys.readouterr().out
    (tmp_path / "rubbish").write_bytes(b"hello" * 1000)
    assert main([str(tmp_path / "rubbish")]) == 1
    assert main([]) == 2


async def test_a_full_disk_refuses_writes_and_loses_nothing(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "db") as store:
        await store.create(b"before", b"1")
        limit = store._backend._db  # type: ignore[attr-defined]
        limit.execute("PRAGMA max_page_count=20")
        watch, written = store.watch(b""), []
        with pytest.raises(StorageFull, match="full"):
            for at in range(100):
                written.append(await store.create(b"k/%d" % at, b"x" * 4000))
        revision = store.revision
        assert revision == written[-1].mod_revision
        failed = await asyncio.gather(*(store.put(b"k/0", b"y" * 9000) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, StorageFull) for error in failed)
        assert (await store.get(b"k/0")).value == b"x" * 4000
        assert store.revision == revision
        assert [event.revision for event in await watch.next()] == [kv.mod_revision for kv in written]
        limit.execute("PRAGMA max_page_count=1000000")
        assert (await store.put(b"k/0", b"z")).mod_revision == revision + 1
    async with await Store.open(tmp_path / "db") as store:
        assert store.revision == revision + 1
        assert (await store.get(b"before")).value == b"1"


async def test_steady_writing_does_not_make_the_wal_grow_without_end(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "db", retention=Retention(revisions=100)) as store:
        async def writer(at: int) -> None:
            for _ in range(600):
                await store.put(b"w/%d" % at, b"x" * 20_000)

        writers = asyncio.gather(*(writer(at) for at in range(10)))
        while not writers.done():
            await asyncio.sleep(0.01)
            await store.tick(0.0)
        await writers
        assert store.revision > 6000  # 120 MB were written
        assert (tmp_path / "db-wal").stat().st_size < 64 << 20


async def test_the_file_does_not_grow_with_what_was_compacted(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "db") as store:
        for turn in range(20):
            for _ in range(100):
                await store.put(b"k", b"x" * 1000)
            await store.compact(store.revision)
            store._backend.checkpoint()
            if turn == 1:
                early = (tmp_path / "db").stat().st_size
        assert (tmp_path / "db").stat().st_size <= early * 2
        assert (tmp_path / "db-wal").stat().st_size < 2 << 20


async def test_a_file_that_has_lost_its_content_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "db"
    await fill(path, 20)
    whole = path.read_bytes()
    path.write_bytes(b"")
    with pytest.raises(Corrupt, match="the file is empty"):
        await Store.open(path)
    path.unlink()
    (tmp_path / "db-wal").write_bytes(b"what was written last")
    with pytest.raises(Corrupt, match="db-wal is there"):
        await Store.open(path)
    (tmp_path / "db-wal").unlink()
    (tmp_path / "db.new").write_bytes(whole[:100])  # somebody was killed while he made it
    async with await Store.open(path) as store:
        assert store.revision == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["db", "db-lock"]


async def test_a_transaction_may_delete_more_than_65536_keys(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "db") as store:
        await asyncio.gather(*(store.put(b"%d" % at, b"") for at in range(66_000)))
        done = await store.transact((), [Delete(b"\0", b"\0")])
        assert len(done.results[0]) == 66_000
        after = await store.put(b"after", b"1")
    async with await Store.open(tmp_path / "db") as store:
        assert (len(store), store.revision) == (1, after.mod_revision)


async def test_a_file_of_the_first_format_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(rows, "FORMAT", 1)
        states = await fill(tmp_path / "db", 50)
    for _ in range(2):
        async with await Store.open(tmp_path / "db") as store:
            assert store.revision == max(states)
            for revision in range(store.compacted, store.revision + 1):
                assert {kv.key: kv.value for kv in (await store.list(b"", revision=revision)).kvs} == states[revision]
