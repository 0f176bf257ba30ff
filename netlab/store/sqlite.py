"""The log on disk: one SQLite file in WAL mode, one row per key and revision.

What an acknowledged write survives:
- the death of the process at any moment (kill -9): always, since the commit has reached the kernel;
- a power cut or a kernel crash: with synchronous FULL always; with NORMAL the newest commits (those since the last
  checkpoint, at most some seconds) may be missing, but what is there is a whole, older state.

Every row carries a checksum and the revisions after the last compaction are without gaps, so damage that SQLite itself
would not see is found when the file is opened. The file can be read with the sqlite3 tool while the store runs.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from netlab.store.backend import Batch, Kept
from netlab.store.errors import Corrupt, Locked, StorageFailed, StorageFull
from netlab.store.model import Event, KeyValue, Lease

Synchronous: TypeAlias = Literal["normal", "full"]

FORMAT = 2
CHECKPOINT_BYTES = 8 << 20
ROOM_BYTES = 4 << 20
_ROOM = [bytes(64 << 10)] * (ROOM_BYTES >> 16)
"""So much of zeros, in one small piece of memory: malloc would keep the room of a large one for the thread for good."""
_COMMIT_BYTES = 8192
"""What a commit takes of the WAL besides its values, and each row that goes: the pages that say where they are."""
_BITS = {1: 16, 2: 24}
"""By format: bits of a row's number that say its place in its transaction. For one deletion 65,536 were too few."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
  id INTEGER PRIMARY KEY,          -- revision << 24 | place in its transaction
  key BLOB NOT NULL, value BLOB NOT NULL,
  created INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL,
  crc INTEGER NOT NULL             -- of all the columns before it
);
CREATE TABLE IF NOT EXISTS lease (
  id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL,
  expires REAL NOT NULL            -- on the writer's clock: who opens the file starts the ttl anew
);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_INSERT = "INSERT INTO log (id, key, value, created, version, lease, crc) VALUES (?,?,?,?,?,?,?)"


class Sqlite:
    """A store's file `path`; `path`-wal, -shm and -lock lie beside it."""

    def __init__(self, path: Path, synchronous: Synchronous = "normal") -> None:
        self.path = path
        self.blocking = synchronous == "full"
        self._lock = lock(path)
        self._written, self._room, self._format = 0, 0, FORMAT
        try:
            _present(path, durable=self.blocking)
            self._db = _connect(path)
            self._db.execute(f"PRAGMA synchronous={synchronous}")
            self._db.execute("PRAGMA wal_autocheckpoint=0")
            self._checkpointer = _connect(path)
            self._checkpointer.execute(f"PRAGMA synchronous={synchronous}")
        except (sqlite3.Error, Corrupt) as error:
            os.close(self._lock)
            raise (error if isinstance(error, Corrupt) else _damaged(path, error)) from error

    def load(self) -> Kept:
        """Read the whole file, and check it.

        Raises:
            Corrupt: see its `last_good`; salvage.py keeps what is whole.
        """
        kept, damage = self.read()
        if damage:
            raise Corrupt(f"{self.path}: {damage}", last_good=kept.revision,
                          hint=_salvage_hint(self.path))
        if self._format != FORMAT:
            self._upgrade(kept)
        if self.blocking:
            self._lengthen()
        return kept

    def _lengthen(self) -> None:
        """Give the WAL room before it is written: an fsync is half as long when the file does not grow by it.

        Only between two commits. SQLite takes no zeros for its own: the frames and the head of a WAL have checksums.
        """
        path = f"{self.path}-wal"
        with suppress(OSError):
            size = os.stat(path).st_size
            if self._room and size <= self._room:
                return
            self._room = size + ROOM_BYTES
            with open(path, "ab", buffering=0) as wal:
                if os.writev(wal.fileno(), _ROOM) < ROOM_BYTES:  # the disk is full: what is left is for what counts
                    wal.truncate(size)
                os.fdatasync(wal.fileno())

    def _upgrade(self, kept: Kept) -> None:
        """Write a file of an older format anew."""
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM log")
            db.executemany(_INSERT, map(_row, (*kept.base, *(event.kv for event in kept.events))))
            db.execute("UPDATE meta SET value=? WHERE name='format'", (FORMAT,))
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise _refused(self.path, error) from error

    def read(self) -> tuple[Kept, str]:
        """Return what is whole, and what is damaged after that ("": nothing).

        Raises:
            Corrupt: this is no database, or one of another format.
            StorageFailed: it can't be read.
        """
        try:
            self._db.executescript(_SCHEMA)
            meta = dict(self._db.execute("SELECT name, value FROM meta"))
            self._format = meta.setdefault("format", FORMAT)
            if self._format not in _BITS:
                raise Corrupt(f"{self.path}: format {self._format} is not known to this version",
                              hint="use the version of netlab that wrote it, or remove the file")
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
            leases = [Lease(*row) for row in self._db.execute("SELECT id, ttl, expires FROM lease")]
            rows = self._db.execute("SELECT id, key, value, created, version, lease, crc FROM log ORDER BY id")
            return _assemble(rows, meta.get("compacted", 0), leases, _BITS[self._format])
        except sqlite3.Error as error:
            raise _damaged(self.path, error) from error

    def append(self, batch: Batch) -> None:
        """Commit a batch; all of it is there afterwards, or on an error nothing."""
        db = self._db
        try:
            if len(batch.events) == 1 and not (batch.leases or batch.ended or batch.compacted):
                db.execute(_INSERT, _row(batch.events[0].kv))  # one statement is its own transaction, in half the time
                self._wrote(batch)
                return
            db.execute("BEGIN IMMEDIATE")
            if batch.events:
                db.executemany(_INSERT, [_row(event.kv) for event in batch.events])
            if batch.leases:
                db.executemany("INSERT OR REPLACE INTO lease VALUES (?,?,?)", batch.leases)
            if batch.ended:
                db.executemany("DELETE FROM lease WHERE id=?", [(identity,) for identity in batch.ended])
            if batch.compacted:
                db.executemany("DELETE FROM log WHERE id=?", [(_id(kv),) for kv in batch.dead])
                db.execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (batch.compacted,))
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise _refused(self.path, error) from error
        self._wrote(batch)

    def _wrote(self, batch: Batch) -> None:
        self._written += _COMMIT_BYTES * (1 + len(batch.dead)) + sum(len(event.kv.value) + 64 for event in batch.events)
        if self.blocking:
            self._lengthen()

    def checkpoint_due(self) -> bool:
        """Tell whether the WAL has grown enough to be moved into the file."""
        return self._written >= CHECKPOINT_BYTES

    def ahead(self) -> bool:
        """Tell whether the WAL would become many times what it should be: the disk keeps up with it no more."""
        return self._written > 2 * CHECKPOINT_BYTES

    def checkpoint(self) -> None:
        """Move the WAL into the file, on a connection of its own, so that writers go on meanwhile."""
        self._written = 0
        with suppress(sqlite3.Error):  # a full disk: the WAL stays, writes report it
            self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def finish_checkpoint(self) -> None:
        """Move the rest, so that the WAL can begin anew: under steady writing it would grow without end."""
        with suppress(sqlite3.Error, FileNotFoundError):
            if Path(f"{self.path}-wal").stat().st_size > 2 * CHECKPOINT_BYTES:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def size(self) -> int:
        """Return the bytes of the file and of its WAL."""
        found = 0
        for suffix in ("", "-wal"):
            with suppress(OSError):
                found += Path(f"{self.path}{suffix}").stat().st_size
        return found

    def defragment(self) -> None:
        """Write the file anew, without free pages."""
        try:
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise _refused(self.path, error) from error

    def close(self) -> None:
        """Move everything into the one file and let it go."""
        self._checkpointer.close()
        self._db.close()
        os.close(self._lock)

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _present(path: Path, *, durable: bool) -> None:
    """Make the file if it is not there. It appears with its content, so an empty one is one that has lost it.

    Raises:
        Corrupt: it is empty, or gone while what was last written to it is there.
    """
    if path.exists():
        if not path.stat().st_size:
            raise Corrupt(f"{path}: the file is empty", hint="restore a copy of it, or remove it to start empty")
        return
    if (wal := Path(f"{path}-wal")).exists() and wal.stat().st_size:
        raise Corrupt(f"{path}: the file is gone, but {wal} is there",
                      hint=f"restore a copy of it, or remove {wal} to start empty")
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    db = _connect(fresh)
    db.executescript(_SCHEMA)
    db.close()
    fresh.rename(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=16)
    db.execute("PRAGMA journal_mode=WAL")
    return db


def lock(path: Path) -> int:
    """Take the file for this process; returns the descriptor that holds it. Raises Locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Locked(f"{path}: another process has it open", hint="stop the other API server first") from error
    return descriptor


def _id(kv: KeyValue) -> int:
    return kv.mod_revision << _BITS[FORMAT] | kv.sub


def _crc(identity: int, key: bytes, value: bytes, created: int, version: int, lease: int) -> int:
    return zlib.crc32(value, zlib.crc32(b"%d %d %d %d %b" % (identity, created, version, lease, key)))


def _row(kv: KeyValue) -> tuple[int, bytes, bytes, int, int, int, int]:
    identity = _id(kv)
    return (identity, kv.key, kv.value, kv.create_revision, kv.version, kv.lease,
            _crc(identity, kv.key, kv.value, kv.create_revision, kv.version, kv.lease))


def _assemble(rows: Iterable[tuple[Any, ...]], compacted: int, leases: Sequence[Lease], bits: int,
              ) -> tuple[Kept, str]:
    """Turn rows, in order, into the state at `compacted` and the events since; check that they are whole.

    Returns what is whole, and what is wrong after that ("" if nothing). A damage of the state itself leaves nothing
    whole: revision 0.
    """
    base: dict[bytes, KeyValue] = {}
    state: dict[bytes, KeyValue] = {}
    events: list[Event] = []
    revision, damage = max(compacted, 1), ""
    at = 0
    try:
        for identity, key, value, created, version, lease, crc in rows:
            at = identity >> bits
            if type(key) is not bytes or type(value) is not bytes or \
                    crc != _crc(identity, key, value, created, version, lease):
                damage = f"the row of revision {at} fails its checksum"
                break
            kv = KeyValue(key, value, created, at, version, lease, identity & (1 << bits) - 1)
            if at <= compacted:
                base[key] = state[key] = kv
                continue
            if at > revision + 1:
                damage = f"revisions {revision + 1} to {at - 1} are missing"
                break
            events.append(Event(kv, state.get(key)))
            revision = at
            if version:
                state[key] = kv
            else:
                state.pop(key, None)
    except sqlite3.DatabaseError as error:
        damage = str(error)
    if damage:
        if at <= compacted:
            return Kept(revision=0), damage
        revision = min(revision, at - 1)
        while events and events[-1].kv.mod_revision > revision:
            events.pop()
    return Kept(revision, compacted, tuple(base.values()), events, leases), damage


def _damaged(path: Path, error: sqlite3.Error) -> StorageFailed | Corrupt:
    """Translate what SQLite says when it opens or reads a file."""
    if isinstance(error, sqlite3.OperationalError):
        return StorageFailed(f"{path}: {error}")
    return Corrupt(f"{path}: {error}", hint=_salvage_hint(path))


def _salvage_hint(path: Path) -> str:
    return f"`python -m netlab.store.salvage {path}` keeps what is whole of it"


def _refused(path: Path, error: sqlite3.Error) -> StorageFailed:
    """Translate what SQLite says when it writes."""
    if error.sqlite_errorname == "SQLITE_FULL":
        return StorageFull(f"{path}: the disk is full", hint="make room; what was written before is safe")
    return StorageFailed(f"{path}: {error}")
