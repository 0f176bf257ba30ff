"""Keep what is whole of a damaged store: `python -m netlab.store.salvage FILE`."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from netlab.store.backend import Batch, Kept
from netlab.store.errors import Corrupt, StoreError
from netlab.store.model import Event
from netlab.store.sqlite import Sqlite, lock

NOTHING_LEFT = "restore a copy of it, or remove it to start empty"
_LARGEST = 1 << 36  # bytes: a size that a damaged header may claim


def salvage(path: Path) -> tuple[int, Path]:
    """Rebuild a damaged file from its whole rows, up to the newest revision before the damage.

    The damaged file stays beside it. Returns that revision and where the damaged file is now.

    Raises:
        Corrupt: not even the state at the last compaction is whole; nothing was changed.
        StorageFailed, OSError: the disk refuses; it has to have room for two copies.
    """
    kept, damage = _read_copy(path)
    if not damage:
        return kept.revision, path
    if not kept.revision:
        raise Corrupt(f"{path}: {damage}; nothing in it can be trusted", hint=NOTHING_LEFT)
    fresh, aside = path.with_name(f"{path.name}.salvaged"), path.with_name(f"{path.name}.damaged-{kept.revision}")
    for stale in (fresh, aside):
        remove(stale)
    try:
        backend = Sqlite(fresh, "full")
        try:
            backend.load()
            backend.append(Batch([Event(kv, None) for kv in kept.base] + list(kept.events), list(kept.leases),
                                 compacted=kept.compacted))
        finally:
            backend.close()
    except StoreError:
        remove(fresh)
        raise
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    fresh.rename(path)
    remove(fresh)
    return kept.revision, aside


def _read_copy(path: Path) -> tuple[Kept, str]:
    """Return what is whole in a copy of the file, and what is damaged after that."""
    os.close(lock(path))  # raises if somebody has it open
    copy = path.with_name(f"{path.name}.reading")
    remove(copy)
    try:
        for suffix in ("", "-wal"):
            if Path(f"{path}{suffix}").exists():
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        _pad(copy)
        backend = Sqlite(copy)
        try:
            return backend.read()
        finally:
            backend.close()
    except Corrupt as error:
        return Kept(revision=0), str(error)
    finally:
        remove(copy)


def _pad(path: Path) -> None:
    """Give a file that was cut off its length back: SQLite reads nothing at all of one that is too short."""
    with path.open("r+b") as file:
        header = file.read(100)
        if len(header) == 100 and header.startswith(b"SQLite format 3\0"):
            page = int.from_bytes(header[16:18], "big")
            size = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
            if path.stat().st_size < size < _LARGEST:
                file.truncate(size)


def remove(path: Path) -> None:
    """Remove a store's file and what lies beside it."""
    for suffix in ("", "-wal", "-shm", "-lock"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def main(argv: list[str]) -> int:
    """Salvage the file that is named."""
    if len(argv) != 1 or not Path(argv[0]).is_file():
        sys.stderr.write("usage: python -m netlab.store.salvage FILE\n")
        return 2
    try:
        revision, aside = salvage(Path(argv[0]))
    except StoreError as error:
        sys.stderr.write(f"{error}: {error.hint}\n" if error.hint else f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename or argv[0]}: {error.strerror}\n")
        return 1
    said = "is whole" if aside == Path(argv[0]) else f"is kept; the damaged file is {aside}"
    sys.stdout.write(f"revision {revision} {said}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
