"""Snapshots: bbolt files of our own making, read by ourselves and by the real etcd, and the way back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.store import LocalStore, snapshot
from netlab.store.bolt import BRANCH, LEAF, PAGE, PAGE_BYTES, read, write
from netlab.store.crc32c import crc32c
from netlab.store.errors import Corrupt
from tests.store import servers
from tests.store.servers import Server, running

MEMBER = snapshot.Member(0xF00000000000000D, "default", ["http://127.0.0.1:2380"], ["http://127.0.0.1:2379"], "3.5.0", 2)
needs_etcd = pytest.mark.skipif(servers.CTL is None or servers.REAL is None, reason="etcd and etcdctl are not installed")


def put(path: Path, file: write.File, *, trailer: bool = True) -> Path:
    data = b"".join(file.pages())
    assert len(data) == file.size
    path.write_bytes(data + hashlib.sha256(data).digest() if trailer else data)
    return path


@given(st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=6000), max_size=60), st.integers(0, 20_000))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, some: dict[bytes, bytes], many: int):
    some, rows = dict(sorted(some.items())), [(b"%08d" % n, b"v" * (n % 5)) for n in range(many)]
    path = put(tmp_path_factory.mktemp("bolt") / "db", write.File({
        b"some": lambda: iter(some.items()), b"many": lambda: iter(rows), b"none": lambda: ()}), trailer=False)
    with read.File(path) as file:
        assert dict(file.bucket(b"some")) == some
        assert list(file.bucket(b"many")) == rows
        assert list(file.bucket(b"none")) == list(file.bucket(b"missing")) == []
    check_pages(path.read_bytes())


def check_pages(data: bytes) -> None:
    """Each page says its own number and length, and no branch has one child: bbolt would not leave such."""
    at = 2
    while at < len(data) // PAGE_BYTES:
        number, flags, count, overflow = PAGE.unpack_from(data, at * PAGE_BYTES)
        assert number == at
        assert count >= (2 if flags == BRANCH else 0)
        assert flags == LEAF or not overflow
        at += 1 + overflow
    assert at * PAGE_BYTES == len(data)


def test_crc32c():
    assert crc32c(b"123456789") == crc32c(b"56789", crc32c(b"1234")) == 0xE3069283  # the check value of its catalogue
    assert crc32c(bytes(range(32))) == 0x46DD794E  # RFC 3720, B.4
    long = random.Random(1).randbytes(100_001)
    value = 0
    for at in range(0, len(long), 1000):
        value = crc32c(long[at:at + 1000], value)  # too short to be cut into lanes
    assert crc32c(long) == value


async def eventful(path: Path | None) -> LocalStore:
    """Return a store with a compacted past, deletions, large and empty values, and leases."""
    store, dice = await LocalStore.open(path), random.Random(4)
    lease = await store.grant(600, -77)
    for number in range(300):
        key = b"/r/%d" % dice.randrange(40)
        if dice.random() < 0.2 and await store.get(key):
            await store.delete(key)
        else:
            await store.put(key, dice.choice((b"", b"x", b"y" * 2000, b"z" * 30_000)) + b"%d" % number * (number % 3))
    await store.transact((), [snapshot_put(b"/leased/%d" % n, lease.id) for n in range(3)])
    await store.compact(150)
    return store


def snapshot_put(key: bytes, lease: int):
    from netlab.store import Put

    return Put(key, b"v", lease)


async def history(store: LocalStore) -> dict[int, list[tuple[object, ...]]]:
    return {revision: [(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
                       for kv in (await store.range(b"\0", b"\0", revision=revision)).kvs]
            for revision in range(max(store.compacted, 1), store.revision + 1)}


@pytest.mark.parametrize("trailer", [True, False])
async def test_a_store_comes_back_from_its_snapshot(tmp_path: Path, trailer: bool):
    async with await eventful(None) as store:
        file = put(tmp_path / "snap", snapshot.database(store.image(), MEMBER), trailer=trailer)
        before, compacted, hashed = await history(store), store.compacted, snapshot.hash_kv(store.image(), store.revision)
    assert snapshot.restore(file, tmp_path / "store.db") == max(before)
    async with await LocalStore.open(tmp_path / "store.db") as again:
        assert (again.compacted, await history(again)) == (compacted, before)
        assert [(lease.id, lease.ttl) for lease in again.leases().all()] == [(-77, 600)]
        assert again.leases().keys(-77) == [b"/leased/0", b"/leased/1", b"/leased/2"]
        assert snapshot.hash_kv(again.image(), again.revision) == hashed


async def test_a_damaged_snapshot_is_refused(tmp_path: Path):
    async with await eventful(None) as store:
        whole = put(tmp_path / "whole", snapshot.database(store.image(), MEMBER)).read_bytes()
    dice, file = random.Random(9), tmp_path / "damaged"
    for turn in range(60):
        data = bytearray(whole)
        if turn % 3 == 0:
            del data[dice.randrange(1, len(data)):]
        for _ in range(8):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        file.write_bytes(data[:-32] if turn % 2 else data)
        path = tmp_path / f"{turn}.db"
        try:
            snapshot.restore(file, path)
        except Corrupt:
            continue
        assert turn % 2, "a snapshot with a wrong checksum was taken"


def test_the_command_restores_and_says_what_is_wrong(tmp_path: Path):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-P", "-m", "netlab.store.restore", *words], capture_output=True, text=True,
                              env={"PYTHONPATH": str(servers.ROOT)}, timeout=30, check=False)

    file = asyncio.run(saved(tmp_path / "snap"))
    done = run(str(file), str(tmp_path / "new"))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["store.db"]
    assert "is there already" in run(str(file), str(tmp_path / "new")).stderr
    (tmp_path / "text").write_text("no database" * 500)
    assert "this is no bbolt database" in run(str(tmp_path / "text"), str(tmp_path / "other")).stderr
    assert "No such file" in run(str(tmp_path / "missing"), str(tmp_path / "other")).stderr
    assert run("--help").stderr.startswith("usage")
    with running(tmp_path / "etcd", real=False, flags=(f"--data-dir={tmp_path}/new",)) as server:
        assert server.own("get", "/leased/1", "--print-value-only") == "v\n"
        assert "attached keys([/leased/0 /leased/1 /leased/2])" in server.own("lease", "timetolive", "ffffffffffffffb3", "--keys")


async def saved(path: Path) -> Path:
    async with await eventful(None) as store:
        return put(path, snapshot.database(store.image(), MEMBER))


def states(server: Server, revisions: range) -> list[object]:
    found = []
    for revision in revisions:
        said = server.ctl("get", "", "--from-key", f"--rev={revision}", "-w", "json")
        found.append(said if said.startswith("Error") else json.loads(said).get("kvs"))
    return found


def story(server: Server) -> str:
    """Write a past worth keeping; returns a lease."""
    lease = server.ctl("lease", "grant", "600").split()[1]
    dice = random.Random(2)
    for _ in range(25):
        server.ctl("put", f"/r/{dice.randrange(8)}", stdin="v" * dice.choice((1, 300, 9000, 50_000)))
    server.ctl("put", "/leased", "v", f"--lease={lease}")
    server.ctl("del", "/r/3", "--prefix")
    server.ctl("compaction", "15")
    server.ctl("txn", stdin="\ndel /r/4\nput /x 1\nput /y 2\n\n\n")
    server.ctl("put", "/r/3", "again")
    return lease


@needs_etcd
@pytest.mark.parametrize("real", [False, True], ids=["ours to etcd", "etcd to ours"])
def test_a_snapshot_moves_between_netlab_and_etcd(tmp_path: Path, *, real: bool):
    """Every revision of the one is readable in the other, leases hold, and etcd's own hash of the history is the same."""
    file = tmp_path / "snap"
    with running(tmp_path / "one", real=real) as one:
        lease = story(one)
        before, hashed = states(one, range(10, 36)), one.ctl("endpoint", "hashkv").split()[1]
        assert "Snapshot saved" in (one.ctl if real else one.own)("snapshot", "save", str(file))
        status = json.loads(one.ctl("snapshot", "status", str(file), "-w", "json"))
        assert (status["revision"], status["totalSize"]) == (30, file.stat().st_size - 32)
    data = tmp_path / "two" / "data"
    if real:
        assert snapshot.restore(file, data / "store.db") == 30
    else:
        one.ctl("snapshot", "restore", str(file), "--data-dir", str(data))
    with running(tmp_path / "two", real=not real) as two:
        assert states(two, range(10, 36)) == before
        assert two.ctl("endpoint", "hashkv").split()[1] == hashed
        assert "attached keys([/leased])" in two.ctl("lease", "timetolive", lease, "--keys")
        two.ctl("lease", "revoke", lease)
        assert two.ctl("get", "/leased") == ""
        assert '"revision":31' in two.ctl("endpoint", "status", "-w", "json")
