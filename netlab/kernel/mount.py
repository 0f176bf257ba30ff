"""Mounts, and paths that are resolved inside a root that is not ours.

A container's root is full of links that some image made: `/var/run` -> `/run` followed from outside leads onto the
node. So a mount point inside a root is found by openat2(2) with RESOLVE_IN_ROOT and mounted on by descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from netlab.errors import KernelError
from netlab.kernel import libc

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KernelError(str(error.args[1] if len(error.args) > 1 else error), errno=error.errno or 0) from None


def make_private() -> None:
    """Cut this mount namespace off: what is mounted here stays here, and the other way round."""
    with _translated():
        libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)


def bind(source: str | os.PathLike[str], target: str | os.PathLike[str], *, readonly: bool = False) -> None:
    """Show `source` (with what is mounted below it) at `target` too; both exist and are of one kind."""
    with _translated():
        libc.mount(os.fspath(source), target, "", libc.MS_BIND | libc.MS_REC)
    if readonly:
        read_only(target)


def read_only(target: str | os.PathLike[str], *, recursive: bool = True) -> None:
    """Make a mount, and those below it, read-only; works inside user namespaces, where other flags are locked."""
    try:
        libc.mount_setattr(-100, os.fspath(target), set=libc.MOUNT_ATTR_RDONLY, recursive=recursive)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise KernelError(f"can't make {os.fspath(target)} read-only: {error.strerror}",
                              errno=error.errno or 0) from None
        kept = os.statvfs(target).f_flag & (libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
        with _translated():
            libc.mount("none", target, "", libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | kept)


def tmpfs(target: str | os.PathLike[str], *, mode: int = 0o755, size: str = "", flags: int = libc.MS_NOSUID) -> None:
    """Mount an empty file system in memory, of at most `size` such as "64m" (empty: half the memory)."""
    with _translated():
        libc.mount("tmpfs", target, "tmpfs", flags, f"mode={mode:o}" + (f",size={size}" if size else ""))


def unmount(target: str | os.PathLike[str]) -> None:
    """Take a mount out of sight at once; the kernel ends it when its last user has gone."""
    with _translated():
        libc.umount(target, libc.MNT_DETACH)


def overlay(target: str | os.PathLike[str], lower: Sequence[str | os.PathLike[str]], upper: Path, work: Path) -> None:
    """Mount `lower` (topmost first) with `upper` as the layer that takes writes; `upper` and `work` share a disk."""
    upper.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    layers = ":".join(os.fspath(p).replace(":", "\\:").replace(",", "\\,") for p in lower)
    data = f"lowerdir={layers},upperdir={upper},workdir={work}"
    if in_user_namespace():
        data += ",userxattr"
    with _translated():
        libc.mount("overlay", target, "overlay", 0, data)


def in_user_namespace() -> bool:
    """Tell whether this process' root is only root of a user namespace."""
    try:
        return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


def proc(target: str | os.PathLike[str]) -> None:
    """Mount the /proc of this process' PID namespace."""
    with _translated():
        libc.mount("proc", target, "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)


def sysfs(target: str | os.PathLike[str], *, readonly: bool = True) -> None:
    """Mount the /sys of this process' network namespace."""
    flags = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC | (libc.MS_RDONLY if readonly else 0)
    with _translated():
        libc.mount("sysfs", target, "sysfs", flags)


def dev(target: Path, *, shm: Path | None = None, host_dev: str = "/dev") -> None:
    """Fill a /dev of its own: the six plain devices, a devpts instance, shm, mqueue and the standard links.

    Devices are made where that is allowed, and else bound from `host_dev`. `shm` is a directory to show as /dev/shm;
    None gives a new tmpfs.
    """
    tmpfs(target, size="64k", flags=libc.MS_NOSUID)
    for name, (major, minor) in _DEVICES.items():
        node = target / name
        try:
            os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
            node.chmod(0o666)
        except OSError:
            node.touch()
            bind(f"{host_dev}/{name}", node)
    for name, link in (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
                       ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"), ("core", "/proc/kcore")):
        (target / name).symlink_to(link)
    (target / "pts").mkdir()
    (target / "shm").mkdir()
    (target / "mqueue").mkdir()
    options = "newinstance,ptmxmode=0666,mode=0620"
    with _translated():
        try:
            libc.mount("devpts", target / "pts", "devpts", libc.MS_NOSUID | libc.MS_NOEXEC, options + ",gid=5")
        except OSError:  # gid 5 (tty) is not mapped in a user namespace of one id
            libc.mount("devpts", target / "pts", "devpts", libc.MS_NOSUID | libc.MS_NOEXEC, options)
    if shm is not None:
        bind(shm, target / "shm")
    else:
        tmpfs(target / "shm", mode=0o1777, size="64m", flags=libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    with contextlib.suppress(OSError):  # not in every kernel
        libc.mount("mqueue", target / "mqueue", "mqueue", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)


def pivot(root: str | os.PathLike[str]) -> None:
    """Make `root` (a mount point) this mount namespace's root, and forget all that was mounted before."""
    with _translated():
        os.chdir(root)
        libc.pivot_root(".", ".")  # the old root now lies on top of the new one (pivot_root(2), NOTES)
        libc.umount(".", libc.MNT_DETACH)
        os.chdir("/")


def open_in_root(root: int, path: str, flags: int = os.O_PATH, *, mode: int = 0) -> int:
    """Open `path` as a process whose root is the directory `root` would: links can't lead out.

    Raises OSError as os.open does.
    """
    while True:
        try:
            return libc.openat2(root, path.lstrip("/") or ".", flags, mode=mode, resolve=libc.RESOLVE_IN_ROOT)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a rename somewhere raced with ".."; asking again is the cure
                raise


def make_in_root(root: int, path: str, *, directory: bool) -> int:
    """Open the mount point `path` inside `root`, making what is missing of it (an empty file or directories).

    The descriptor is O_PATH; mount on `at(fd)`.

    Raises:
        KernelError: something in the way is neither a directory nor a link to one.
    """
    try:
        return open_in_root(root, path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise KernelError(f"can't mount on {path}: {error.strerror}", errno=error.errno or 0) from None
    try:
        return _make_path(root, path, directory=directory, links=40)
    except OSError as error:
        raise KernelError(f"can't make the mount point {path}: {error.strerror}", errno=error.errno or 0) from None


def _make_path(root: int, path: str, *, directory: bool, links: int) -> int:
    done = ""
    words = [word for word in path.split("/") if word not in ("", ".")]
    for position, word in enumerate(words):
        folder = directory or position < len(words) - 1
        here = f"{done}/{word}"
        try:
            os.close(open_in_root(root, here))
        except FileNotFoundError:
            parent = open_in_root(root, done or "/")
            try:
                if folder:
                    os.mkdir(word, 0o755, dir_fd=parent)
                else:
                    os.close(os.open(word, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
            except FileExistsError:  # a link to something that is not there: make what it means
                if links == 0:
                    raise
                target = os.path.join(done or "/", os.readlink(word, dir_fd=parent))
                os.close(_make_path(root, target, directory=folder, links=links - 1))
            finally:
                os.close(parent)
        done = here
    return open_in_root(root, done or "/")


def bind_in_root(root: int, path: str, source: str | os.PathLike[str], *, readonly: bool = False) -> None:
    """Bind `source` at `path` inside `root`, making the mount point where it is missing.

    Raises:
        KernelError: the source does not exist, or the mount point can't be made.
    """
    try:
        directory = stat.S_ISDIR(os.stat(source).st_mode)
    except OSError as error:
        raise KernelError(f"can't mount {os.fspath(source)} on {path}: {error.strerror}",
                          errno=error.errno or 0) from None
    target = make_in_root(root, path, directory=directory)
    try:
        bind(source, at(target))
        if readonly:
            # the descriptor still names what lies below the new mount, so it is looked up again
            mounted = open_in_root(root, path)
            try:
                read_only(at(mounted))
            finally:
                os.close(mounted)
    finally:
        os.close(target)


def at(fd: int) -> str:
    """Return a path that leads to what a descriptor of this process stands for."""
    return f"/proc/self/fd/{fd}"


def remove_tree(path: Path) -> None:
    """Remove a directory tree of ours; what is missing is fine."""
    shutil.rmtree(path, ignore_errors=True)
