"""The log on disk: one SQLite file in WAL mode, one row per key and revision.

What an acknowledged write survives:
- the death of the process at any moment (kill -9): always, since the commit has reached the kernel;
- a power cut or a kernel crash: with synchronous FULL always; with NORMAL the newest commits (those since the last
  checkpoint, at most some seconds) may be missing, but what is there is a whole, older state.

Damage that SQLite itself would not see is found when the file is opened: see rows.py. The file can be read with the
sqlite3 tool while the store runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from array import array
from bisect import bisect_left
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

from netlab.store import rows
from netlab.store.backend import Batch, Kept
from netlab.store.errors import Corrupt, Locked, StorageFailed, StorageFull
from netlab.store.model import Lease
from netlab.store.rows import Sum

Synchronous: TypeAlias = Literal["normal", "full"]

CHECKPOINT_BYTES = 8 << 20
ROOM_BYTES = 4 << 20
_ROOM = [bytes(64 << 10)] * (ROOM_BYTES >> 16)
"""So much of zeros, in one small piece of memory: malloc would keep the room of a large one for the thread for good."""
_LITTLE = 64 << 10
_COMMIT_BYTES = 8192
"""What a commit takes of the WAL besides its values, and each row that goes: the pages that say where they are."""

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
_META = "INSERT OR REPLACE INTO meta VALUES (?,?)"
_INSERT = "INSERT INTO log (id, key, value, created, version, lease, crc) VALUES (?,?,?,?,?,?,?)"


class Sqlite:
    """A store's file `path`; `path`-wal, -shm and -lock lie beside it."""

    def __init__(self, path: Path, synchronous: Synchronous = "normal") -> None:
        self.path = path
        self.blocking = synchronous == "full"
        self._lock = lock(path)
        self._written, self._room, self._format = 0, 0, rows.FORMAT
        self._unmeasured = 0  # bytes written since the WAL's length was looked at
        self._later = array("q")  # the numbers of the rows after the compacted revision
        self._base = self._lease_sum = Sum()
        self._leases: dict[int, Lease] = {}
        try:
            _present(path, durable=self.blocking)
            self._db = _connect(path)
            self._db.execute(f"PRAGMA synchronous={synchronous}")
            self._db.execute("PRAGMA wal_autocheckpoint=0")
            self._checkpointer = _connect(path)
            self._checkpointer.execute(f"PRAGMA synchronous={synchronous}")
        except (sqlite3.Error, OSError, Corrupt) as error:
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
        if self._format != rows.FORMAT:
            self._upgrade(kept)
        self._base = rows.of_rows(map(rows.number, kept.base))
        self._later = array("q", (rows.number(event.kv) for event in kept.events))
        self._leases = {lease.id: lease for lease in kept.leases}
        self._lease_sum = rows.of_leases(kept.leases)
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
            db.executemany(_INSERT, map(rows.row, (*kept.base, *(event.kv for event in kept.events))))
            db.execute("UPDATE meta SET value=? WHERE name='format'", (rows.FORMAT,))
            db.execute(_META, ("base", rows.of_rows(map(rows.number, kept.base)).number))
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
            if not all(type(value) is int for value in meta.values()):
                raise Corrupt(f"{self.path}: what it says of itself can't be read", hint=_salvage_hint(self.path))
            self._format = meta.setdefault("format", rows.FORMAT)
            if self._format not in rows.BITS:
                raise Corrupt(f"{self.path}: format {self._format} is not known to this version",
                              hint="use the version of netlab that wrote it, or remove the file")
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (rows.FORMAT,))
            leases, broken = rows.leases(self._db.execute("SELECT id, ttl, expires FROM lease"))
            found = self._db.execute("SELECT id, key, value, created, version, lease, crc FROM log ORDER BY id")
            kept, damage = rows.assemble(found, meta, leases, rows.BITS[self._format])
            return kept, damage or ("the leases can't be read" if broken else "")
        except sqlite3.Error as error:
            raise _damaged(self.path, error) from error

    def begin(self, batch: Batch) -> None:
        """Write the rows of a batch that has several: in a thread, each of them would have to wait for its turn."""
        if len(batch.events) > 1:
            try:
                self._insert(batch)
            except sqlite3.Error as error:
                self._roll_back()
                raise _refused(self.path, error) from error

    def append(self, batch: Batch) -> None:
        """Commit a batch, which may have begun; all of it is there afterwards, or on an error nothing."""
        db = self._db
        try:
            if len(batch.events) == 1 and not (batch.leases or batch.ended or batch.compacted):
                db.execute(_INSERT, rows.row(batch.events[0].kv))  # its own transaction, in half the time
            else:
                self._append(batch)
        except sqlite3.Error as error:
            self._roll_back()
            raise _refused(self.path, error) from error
        limit = rows.limit(batch.compacted) if batch.compacted else 0
        self._later.extend(one for one in map(rows.number, (event.kv for event in batch.events)) if one >= limit)
        self._wrote(batch)

    def _insert(self, batch: Batch) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        if batch.events:
            self._db.executemany(_INSERT, [rows.row(event.kv) for event in batch.events])

    def _append(self, batch: Batch) -> None:
        db, gone, base = self._db, 0, self._base
        if not db.in_transaction:
            self._insert(batch)
        if batch.leases:
            db.executemany("INSERT OR REPLACE INTO lease VALUES (?,?,?)", batch.leases)
        if batch.ended:
            db.executemany("DELETE FROM lease WHERE id=?", [(identity,) for identity in batch.ended])
        leases = {lease.id: lease._replace(expires=float(lease.expires)) for lease in batch.leases}
        ended = leases.keys() | batch.ended
        lease_sum = self._lease_sum - rows.of_leases(
            self._leases[identity] for identity in ended if identity in self._leases) + rows.of_leases(
            lease for lease in leases.values() if lease.id not in batch.ended)
        if ended:
            db.execute(_META, ("leases", lease_sum.number))
        if batch.compacted:
            dead = [rows.number(kv) for kv in batch.dead]
            db.executemany("DELETE FROM log WHERE id=?", [(identity,) for identity in dead])
            limit = rows.limit(batch.compacted)
            gone = bisect_left(self._later, limit)
            base = base + rows.of_rows(self._later[:gone]) - rows.of_rows(dead) + rows.of_rows(
                identity for event in batch.events if (identity := rows.number(event.kv)) < limit)
            db.executemany(_META, [("compacted", batch.compacted), ("base", base.number)])
        db.execute("COMMIT")
        self._base, self._lease_sum = base, lease_sum
        self._leases.update(leases)
        for identity in batch.ended:
            self._leases.pop(identity, None)
        del self._later[:gone]

    def _wrote(self, batch: Batch) -> None:
        count = _COMMIT_BYTES * (1 + len(batch.dead)) + sum(len(event.kv.value) + 64 for event in batch.events)
        self._written += count
        self._unmeasured += count
        if self.blocking and self._unmeasured > ROOM_BYTES // 4:
            self._unmeasured = 0
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
    db.execute("PRAGMA cache_size=-512")  # KiB: what was written is not read again; 2 MiB, as by default, fill up
    return db


def lock(path: Path) -> int:
    """Take the file for this process; returns the descriptor that holds it. Raises Locked, StorageFailed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _damaged(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Locked(f"{path}: another process has it open", hint="stop the other API server first") from error
    return descriptor


def _damaged(path: Path, error: sqlite3.Error | OSError) -> StorageFailed | Corrupt:
    """Translate what SQLite or the kernel says when a file is opened or read."""
    if isinstance(error, OSError):
        return _full(path) if error.errno == errno.ENOSPC else StorageFailed(
            f"{path}: {f'{error.filename}: ' if error.filename not in (None, str(path)) else ''}{error.strerror}")
    if isinstance(error, sqlite3.OperationalError):
        return _full(path) if _no_room(path, error) else StorageFailed(f"{path}: {error}")
    return Corrupt(f"{path}: {error}", hint=_salvage_hint(path))


def _salvage_hint(path: Path) -> str:
    return f"`python -m netlab.store.salvage {path}` keeps what is whole of it"


def _refused(path: Path, error: sqlite3.Error) -> StorageFailed:
    """Translate what SQLite says when it writes."""
    return _full(path) if _no_room(path, error) else StorageFailed(f"{path}: {error}")


def _no_room(path: Path, error: sqlite3.Error) -> bool:
    """Tell whether the disk is full. For the files beside the database SQLite knows only that they can't be written."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL" or not name.startswith("SQLITE_IOERR"):
        return name == "SQLITE_FULL"
    with suppress(OSError):
        disk = os.statvfs(path.parent)
        return disk.f_bavail * disk.f_frsize < _LITTLE
    return False


def _full(path: Path) -> StorageFull:
    return StorageFull(f"{path}: the disk is full", hint="make room; what was written before is safe")
