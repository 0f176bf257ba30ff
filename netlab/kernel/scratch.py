"""Folders for the while that a process lives."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_MARK: Final = ".owner"


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """Make a folder among the system's temporary ones, and remove it in the end.

    What a process that was killed left under the same prefix is removed first. A folder's owner holds a lock on a file
    inside, which the kernel lets go of with the process, however that ends; a folder without such a file is not ours.
    """
    _sweep(prefix)
    with tempfile.TemporaryDirectory(prefix=prefix) as made:
        path = Path(made)
        coming = path / f"{_MARK}.new"
        with coming.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            coming.rename(path / _MARK)  # never seen without its lock
            yield path


def _sweep(prefix: str) -> None:
    with os.scandir(tempfile.gettempdir()) as listed:
        found = [each for each in listed if each.name.startswith(prefix) and each.is_dir(follow_symlinks=False)
                 and each.stat(follow_symlinks=False).st_uid == os.geteuid()]
    for each in found:
        with suppress(OSError), (Path(each.path) / _MARK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while the owner lives
            shutil.rmtree(each.path)
