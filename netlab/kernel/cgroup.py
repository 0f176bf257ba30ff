"""Control groups: limits and figures for a set of processes, on version 2, on version 1, or not at all.

What this machine has is probed, never assumed: version 2 where the controllers are there, else the controllers of
version 1 (one hierarchy each; "hybrid" set-ups have them beside an empty version 2), else nothing. A group that
can't be made is a group without limits, not an error: rootless labs have none.

A node's shim leaves the host's mounts behind, so groups are held by descriptors of their directories.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_WANTED = ("memory", "pids", "cpu", "cpuacct")
_REMOVE_SECONDS = 2.0


@dataclass(frozen=True)
class Limits:
    """Bytes, processes, and CPU time in microseconds per period; 0 is no limit."""

    memory: int = 0
    pids: int = 0
    cpu_quota: int = 0
    cpu_period: int = 100_000
    cpu_shares: int = 0


@dataclass(frozen=True)
class Usage:
    """CPU time in nanoseconds, memory in bytes (`working_set` leaves out file pages that can be dropped at once)."""

    cpu_nanoseconds: int = 0
    memory: int = 0
    working_set: int = 0
    processes: int = 0
    oom_kills: int = 0


@dataclass
class Group:
    """A group: a directory in each hierarchy, by controller ("" is version 2). Empty where there are no cgroups."""

    directories: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.directories)

    @property
    def unified(self) -> bool:
        """Whether this is version 2."""
        return "" in self.directories

    def child(self, name: str) -> Group:
        """Make (or find) the group `name` below this one. Controllers that refuse are left out."""
        made: dict[str, int] = {}
        if self.unified:
            _enable(self.directories[""])
        for controller, parent in self.directories.items():
            with contextlib.suppress(OSError):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=parent)
                made[controller] = _open(name, parent)
        return Group(made)

    def discard(self, name: str) -> bool:
        """Remove the child `name` and what is below it. Tells whether it is gone: killed processes linger a little."""
        left = [fd for fd in self.directories.values() if not _remove_once(Path(f"/proc/self/fd/{fd}", name))]
        return not left

    def add_self(self) -> None:
        """Move the calling process here."""
        for fd in self.directories.values():
            _write(fd, "cgroup.procs", "0")

    def add(self, pid: int) -> None:
        """Move another process here; one that has ended is no error."""
        for fd in self.directories.values():
            with contextlib.suppress(OSError):
                _write(fd, "cgroup.procs", str(pid))

    def limit(self, limits: Limits) -> None:
        """Set limits. What the kernel refuses (a controller that is not there) is left as it was."""
        for controller, fd in self.directories.items():
            for name, value in (_unified_limits(limits) if controller == "" else _limits(controller, limits)):
                with contextlib.suppress(OSError):
                    _write(fd, name, value)

    def usage(self) -> Usage:
        """Read what the group uses; what this machine does not count is 0."""
        if self.unified:
            fd = self.directories[""]
            memory, stat = _number(fd, "memory.current"), _table(fd, "memory.stat")
            return Usage(cpu_nanoseconds=_table(fd, "cpu.stat").get("usage_usec", 0) * 1000, memory=memory,
                         working_set=max(0, memory - stat.get("inactive_file", 0)),
                         processes=_number(fd, "pids.current"),
                         oom_kills=_table(fd, "memory.events").get("oom_kill", 0))
        of = self.directories.get
        memory, stat = _number(of("memory"), "memory.usage_in_bytes"), _table(of("memory"), "memory.stat")
        return Usage(cpu_nanoseconds=_number(of("cpuacct"), "cpuacct.usage"), memory=memory,
                     working_set=max(0, memory - stat.get("total_inactive_file", 0)),
                     processes=_number(of("pids"), "pids.current"),
                     oom_kills=_table(of("memory"), "memory.oom_control").get("oom_kill", 0))

    def processes(self) -> list[int]:
        """Return the pids in the group itself, as this process sees them (0, unseen, left out)."""
        for fd in self.directories.values():
            with contextlib.suppress(OSError):
                return [int(pid) for pid in _read(fd, "cgroup.procs").split() if pid != "0"]
        return []

    def kill(self) -> None:
        """SIGKILL every process of the group."""
        if self.unified:
            with contextlib.suppress(OSError):
                _write(self.directories[""], "cgroup.kill", "1")
                return
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the descriptors; the group itself stays."""
        for fd in self.directories.values():
            os.close(fd)
        self.directories = {}


def usage_in(pid_namespace: int) -> Usage:
    """Sum what the processes of a PID namespace (by its inode number) use, where there are no cgroups to ask."""
    ticks = pages = count = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{entry.name}/ns/pid").st_ino != pid_namespace:
                continue
            fields = Path("/proc", entry.name, "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
            count += 1
    memory = pages * os.sysconf("SC_PAGE_SIZE")
    return Usage(cpu_nanoseconds=ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"), memory=memory, working_set=memory,
                 processes=count)


def create(path: str) -> Group:
    """Make (or find) the group `path`, such as netlab-LAB/worker1, below where this process may make groups.

    Version 1: below this process' own group in each hierarchy, so that limits set on us hold for the lab. Version 2:
    below the root of the hierarchy, because a group with processes in it can't share out its controllers.
    """
    group = Group({controller: fd for controller, place in _homes().items() if (fd := _try_open(place)) >= 0})
    for word in path.split("/") if path else ():
        parent, group = group, group.child(word)
        parent.close()
    return group


def remove(name: str) -> None:
    """Kill nothing, but remove the trees of empty groups called `name`, wherever they hang. Twice is fine.

    For 2 s retried, as processes that were killed linger.
    """
    for top in _hierarchies().values():
        for directory, children, _ in os.walk(top):
            if name in children:
                children.remove(name)
                _remove(Path(directory, name))


def version() -> str:
    """Return "v2", "v1" or "none": what limits and figures of this machine come from."""
    found = _hierarchies()
    return "v2" if "" in found else "v1" if found else "none"


def _hierarchies() -> dict[str, Path]:
    """Return the mount point of each hierarchy by controller."""
    found: dict[str, Path] = {}
    second: Path | None = None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup2" and second is None:
            second = Path(where)
        elif kind == "cgroup":
            for controller in set(options.split(",")) & set(_WANTED):
                found.setdefault(controller, Path(where))
    if second is not None:
        with contextlib.suppress(OSError):
            if set((second / "cgroup.controllers").read_text().split()) & {"memory", "pids"}:
                return {"": second}
    return found


def _homes() -> dict[str, Path]:
    """Return the directory to make groups in, by controller."""
    found = _hierarchies()
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    homes: dict[str, Path] = {}
    for controller, top in found.items():
        home = top if controller == "" else top / own.get(controller, "/").lstrip("/")
        homes[controller] = home if home.is_dir() else top  # the path may lie outside of a cgroup namespace
    return homes


def _open(path: str | os.PathLike[str], parent: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)


def _try_open(path: Path) -> int:
    try:
        return _open(path)
    except OSError:
        return -1


def _enable(fd: int) -> None:
    for controller in ("memory", "pids", "cpu"):
        with contextlib.suppress(OSError):  # not there, or busy: the children then go without it
            _write(fd, "cgroup.subtree_control", f"+{controller}")


def _limits(controller: str, limits: Limits) -> Iterator[tuple[str, str]]:
    if controller == "memory":
        yield "memory.limit_in_bytes", str(limits.memory or -1)
    if controller == "pids":
        yield "pids.max", str(limits.pids or "max")
    if controller == "cpu":
        yield "cpu.cfs_period_us", str(limits.cpu_period)
        yield "cpu.cfs_quota_us", str(limits.cpu_quota or -1)
        yield "cpu.shares", str(max(2, limits.cpu_shares or 1024))


def _unified_limits(limits: Limits) -> Iterator[tuple[str, str]]:
    yield "memory.max", str(limits.memory or "max")
    if limits.memory:
        yield "memory.swap.max", "0"
        yield "memory.oom.group", "1"
    yield "pids.max", str(limits.pids or "max")
    yield "cpu.max", f"{limits.cpu_quota or 'max'} {limits.cpu_period}"
    # KEP-2254: 2..262144 shares on 1..10000 of weight
    shares = max(2, limits.cpu_shares or 1024)
    yield "cpu.weight", str(1 + (shares - 2) * 9999 // 262142)


def _remove(path: Path) -> None:
    end = time.monotonic() + _REMOVE_SECONDS
    pause = 0.001
    while not _remove_once(path) and time.monotonic() < end:
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _remove_once(path: Path) -> bool:
    """Remove a tree of groups, deepest first. Only directories can be removed: the files in them go along."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not path.exists()


def _write(directory: int, name: str, value: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _read(directory: int, name: str) -> str:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, 1 << 16).decode()
    finally:
        os.close(fd)


def _number(directory: int | None, name: str) -> int:
    try:
        return int(_read(directory, name)) if directory is not None else 0
    except (OSError, ValueError):
        return 0


def _table(directory: int | None, name: str) -> dict[str, int]:
    try:
        text = _read(directory, name) if directory is not None else ""
    except OSError:
        return {}
    return {words[0]: int(words[1]) for line in text.splitlines() if len(words := line.split()) == 2}
