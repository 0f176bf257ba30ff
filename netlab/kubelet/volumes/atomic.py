"""Write a set of files so that readers see either the old set or the new one.

As k8s:pkg/volume/util/atomic_writer.go: the files lie in a hidden directory of their own, `..data` is a link to it that
is replaced by rename(2), and every visible name is a link through `..data`.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DATA = "..data"
_NEW_DATA = "..data_tmp"


@dataclass(frozen=True)
class File:
    """One file's bytes and mode; `uid` -1 leaves the owner."""

    content: bytes
    mode: int = 0o644
    uid: int = -1


def write(target: Path, files: Mapping[str, File], *, gid: int = -1) -> bool:
    """Make `target` hold exactly these files. Tell whether anything changed.

    Args:
        target: an existing directory.
        files: by relative path.
        gid: the group that owns them, -1 for the writer's.

    Raises:
        ValueError: a path leads out of the volume.
        OSError: the file system refused.
    """
    for path in files:
        _check(path)
    link = target / DATA
    current = target / os.readlink(link) if link.is_symlink() else None
    if current is not None and current.is_dir() and _same(current, files):
        _link(target, files)
        return False
    made = Path(tempfile.mkdtemp(prefix=time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()), dir=target))
    made.chmod(0o755)
    for path, file in files.items():
        place = made / path
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as out:
            out.write(file.content)
        if gid >= 0 or file.uid >= 0:
            give(place, file.uid, gid)
        place.chmod(file.mode)
    fresh = target / _NEW_DATA
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(made.name)
    _link(target, files)
    fresh.rename(link)
    visible = {PurePosixPath(path).parts[0] for path in files}
    for entry in list(target.iterdir()):
        if not entry.name.startswith("..") and entry.name not in visible and entry.is_symlink():
            entry.unlink()
    if current is not None and current != made:
        shutil.rmtree(current, ignore_errors=True)
    return True


def give(place: Path, uid: int, gid: int) -> None:
    """Change a file's owner and group (-1: leave it).

    Raises:
        OSError: the kernel refused; where this user namespace has no such id, says what would help.
    """
    try:
        os.chown(place, uid, gid)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        raise OSError(error.errno, f"runAsUser and fsGroup need more than one user id ({uid}:{gid}: {error.strerror}): "
                                   "install the package uidmap, give this user a range in /etc/subuid and /etc/subgid, "
                                   "or run the lab as root") from None


def _check(path: str) -> None:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or pure.parts[0].startswith(".."):
        raise ValueError(f'invalid path "{path}": must be relative and stay in the volume')


def _link(target: Path, files: Mapping[str, File]) -> None:
    for path in files:
        first = PurePosixPath(path).parts[0]
        if not (target / first).is_symlink():
            (target / first).symlink_to(f"{DATA}/{first}")


def _same(directory: Path, files: Mapping[str, File]) -> bool:
    found = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    if found != {str(PurePosixPath(p)) for p in files}:
        return False
    return all((directory / path).read_bytes() == file.content
               and (directory / path).stat().st_mode & 0o7777 == file.mode for path, file in files.items())
