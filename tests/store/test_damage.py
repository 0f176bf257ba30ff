"""A database that is not what it was: refused with a reason, or a state that there once was; never silently wrong."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from netlab.store import Corrupt, StorageFailed, Store, StoreError
from netlab.store.salvage import main, salvage

State = dict[bytes, bytes]
_STEPS = ["put", "delete", "group", "leased", "compact", "tidy"]
_HARM = ["cut", "flip", "flips", "zeros", "noise", "page", "again", "db", "wal", "lost-wal", "rubbish-wal"]


async def live(path: Path, steps: int, copies: dict[int, Path], dice: random.Random, mark: bytes) -> dict[int, State]:
    """Lead a store's life; returns its state at each revision. `copies` are torn out of it after these steps."""
    states: dict[int, State] = {1: {}}
    state: State = {}
    async with await Store.open(path, synchronous="full") as store:
        watch = store.watch(b"")
        for step in range(steps):
            key = b"k/%d" % dice.randrange(25)
            try:
                match dice.choices(_STEPS, [70, 15, 5, 5, 3, 2])[0]:
                    case "put":
                        await store.put(key, b"%s %d " % (mark, step) * dice.choice([1, 30, 300]))
                    case "delete":
                        await store.delete(key)
                    case "group":
                        await asyncio.gather(*(store.put(b"g/%d" % at, b"%d" % step) for at in range(4)))
                    case "leased":
                        await store.put(b"l/%d" % step, mark, ttl=1000)
                    case "compact":
                        await store.compact(dice.randrange(max(store.compacted, 1), store.revision + 1))
                    case "tidy":
                        store._backend.checkpoint()  # type: ignore[attr-defined]
            except StoreError:
                pass
            for event in watch.take():
                state = {name: value for name, value in state.items() if name != event.kv.key}
                if not event.deleted:
                    state[event.kv.key] = event.kv.value
                states[event.revision] = state
            if step in copies:
                copies[step].mkdir()
                for suffix in ("", "-wal"):
                    shutil.copy(f"{path}{suffix}", copies[step] / f"db{suffix}")
    return states


def harm(folder: Path, others: list[Path], dice: random.Random) -> str:
    """Do something to a database; returns what."""
    file = dice.choice([found for found in (folder / "db", folder / "db-wal") if found.exists()])
    data, donor = bytearray(file.read_bytes()), dice.choice(others)
    at = dice.choice([dice.randrange(len(data)), dice.randrange(min(len(data), 200))])
    how = dice.choice(_HARM)
    match how:
        case "cut":
            del data[at:]
        case "flip":
            data[at] ^= 1 << dice.randrange(8)
        case "flips":
            for _ in range(20):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        case "zeros" | "noise":
            size = min(dice.choice([16, 512, 4096]), len(data) - at)
            data[at:at + size] = bytes(size) if how == "zeros" else dice.randbytes(size)
        case "page":
            source, target = (dice.randrange(len(data) // 4096 + 1) * 4096 for _ in range(2))
            data[target:target + 4096] = data[source:source + 4096]
        case "again":
            data[at:at] = data[at:at + dice.randrange(9000)]
        case "db" | "wal":
            file = folder / ("db" if how == "db" else "db-wal")
            data = bytearray((donor / file.name).read_bytes()) if (donor / file.name).exists() else bytearray()
        case "lost-wal" | "rubbish-wal":
            file = folder / "db-wal"
            data = bytearray() if how == "lost-wal" else bytearray(dice.randbytes(dice.randrange(1, 9000)))
    file.write_bytes(data)
    return how


@pytest.mark.parametrize(("seed", "turns"), [(1, 120), *(pytest.param(seed, 3000, marks=[
    pytest.mark.soak, pytest.mark.timeout(900)]) for seed in (2, 3, 4))])
async def test_whatever_is_done_to_the_files_the_store_is_never_silently_wrong(tmp_path: Path, seed: int, turns: int) -> None:
    """Torn, flipped, shuffled; half of it an older one of the same store, or another's."""
    dice = random.Random(seed)
    copies = {60: tmp_path / "1", 120: tmp_path / "2", 199: tmp_path / "3"}
    lives = [await live(tmp_path / "db", 200, copies, dice, b"a"),
             await live(tmp_path / "other", 100, {99: tmp_path / "4"}, dice, b"b")]
    sources, folder, seen = [*copies.values(), tmp_path / "4"], tmp_path / "harmed", Counter[str]()

    async def is_known() -> None:
        async with await Store.open(folder / "db", synchronous=dice.choice(["full", "normal"])) as store:
            for revision in {store.revision, store.compacted or 1, (store.revision + store.compacted + 1) // 2}:
                found = {kv.key: kv.value for kv in (await store.list(b"", revision=revision)).kvs}
                assert any(states.get(revision) == found for states in lives), (how, revision)
            await store.put(b"after", b"1")

    for _ in range(turns):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(dice.choice(sources), folder)
        how = harm(folder, sources, dice)
        try:
            await is_known()
            seen["harmless"] += 1
        except Corrupt:
            try:
                salvage(folder / "db")
                await is_known()
                seen["salvaged"] += 1
            except Corrupt:
                seen["lost"] += 1
        except StorageFailed:
            seen["refused"] += 1
    assert seen["harmless"] > turns / 8
    assert seen["salvaged"] > turns / 20


def written(path: Path) -> None:
    async def write() -> None:
        async with await Store.open(path) as store:
            for number in range(30):
                await store.put(b"k%d" % number, b"x" * 3000)

    asyncio.run(write())


def replace(name: str) -> Callable[[Path], None]:
    """Put a directory where a file should be."""
    def do(folder: Path) -> None:
        written(folder / "db")
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return do


def no_folder(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("a file")


@pytest.mark.parametrize(("harmed", "said"), [
    pytest.param(replace("db"), "unable to open database file", id="the file is a directory"),
    pytest.param(replace("db-wal"), "unable to open database file", id="the WAL is a directory"),
    pytest.param(replace("db-lock"), "db-lock: Is a directory", id="the lock is a directory"),
    pytest.param(lambda folder: (folder / "db.new").mkdir(), "db.new: Is a directory", id="the new file is a directory"),
    pytest.param(no_folder, "File exists|Not a directory", id="the folder is a file"),
    pytest.param(lambda folder: (folder / "db").symlink_to("/dev/null"), "the file is empty", id="the file is a device"),
])
def test_what_can_not_be_opened_is_refused_with_a_reason(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], harmed: Callable[[Path], None], said: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    harmed(folder)
    for synchronous in ("full", "normal"):
        with pytest.raises(StoreError, match=said):
            asyncio.run(Store.open(folder / "db", synchronous=synchronous))
    assert main([str(folder / "db")]) in (1, 2)
    assert capsys.readouterr().err


_IN_A_MOUNT = """
import asyncio, subprocess, sys
from pathlib import Path
from netlab.store import Store, StoreError
from netlab.store.salvage import main
from tests.store.test_damage import written

folder, kind = Path(sys.argv[1]), sys.argv[2]

def mount(*words):
    subprocess.run(["mount", *words, str(folder)], check=True)

if kind == "full":
    mount("-t", "tmpfs", "-o", "size=1m", "none")
    written(folder / "db")
    subprocess.run(f"cat /dev/zero > {folder}/ballast", shell=True, stderr=subprocess.DEVNULL)
elif kind == "tiny":
    mount("-t", "tmpfs", "-o", "size=16k", "none")
else:
    if kind == "read-only":
        written(folder / "db")
    mount("--bind", str(folder))
    mount("-o", "remount,ro,bind")
for synchronous in ("full", "normal"):
    try:
        asyncio.run(Store.open(folder / "db", synchronous=synchronous))
    except StoreError as error:
        print(error)
main([str(folder / "db")])
if kind == "full":
    (folder / "ballast").unlink()
    async def read():
        async with await Store.open(folder / "db") as store:
            print(len(store), (await store.put(b"more", b"")).mod_revision)
    asyncio.run(read())
"""


@pytest.mark.root
@pytest.mark.parametrize(("kind", "said"), [
    ("full", "the disk is full"), ("tiny", "the disk is full"), ("read-only", "Read-only file system"),
    ("empty, read-only", "Read-only file system")])
def test_a_disk_that_takes_nothing_is_told(tmp_path: Path, kind: str, said: str) -> None:
    done = subprocess.run(["unshare", "--mount", sys.executable, "-c", _IN_A_MOUNT, str(tmp_path), kind], capture_output=True,
                          text=True, timeout=60, check=False, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count(said) == 2
    if kind == "full":
        assert done.stdout.splitlines()[-1] == "30 32"  # and the revision of one write more
