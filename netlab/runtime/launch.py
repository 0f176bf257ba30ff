"""The child's side of a start: from a fork of the shim to a running container, Pod or command.

Everything here runs after fork() and before exec (or before one of our programs is called), in a process of its own.
What goes wrong is reported over a socket that a successful exec closes; nothing returns to the shim's frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import json
import os
import random
import signal
import socket
import sys
import termios
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from netlab.errors import KernelError, StartRefused
from netlab.kernel import capabilities, libc, mount, process
from netlab.kernel.cgroup import Group
from netlab.runtime import rootfs
from netlab.runtime.cri import Mount
from netlab.runtime.image import PROGRAM_DIRECTORY
from netlab.runtime.nodespec import Program, Programs
from netlab.runtime.users import User, find_user
from netlab.runtime.wire import error_from_wire, error_to_wire

MASKED = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
          "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap")
_OWN_FOLDERS = ("/usr", "/bin", "/sbin", PROGRAM_DIRECTORY)
"""What is mounted into images of ours, besides a Pod's volumes, and holds programs."""

READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, kw_only=True)
class Stdio:
    """Descriptors for 0, 1 and 2 (-1: /dev/null); with `tty` a terminal of the target's own is made instead."""

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    tty: bool = False
    width: int = 0
    height: int = 0

    def fds(self) -> tuple[int, ...]:
        """Return the real descriptors."""
        return tuple(fd for fd in (self.stdin, self.stdout, self.stderr) if fd >= 0)


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run once everything around it is ready. `user` as in an image's config: name or uid, :group optional.

    `path` is the file to exec where argv[0] does not say; `programs` are those of ours that argv[0] may mean.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str = "/"
    user: str = ""
    groups: tuple[int, ...] = ()
    capabilities: frozenset[int] = capabilities.DOCKER_DEFAULT
    no_new_privs: bool = False
    path: str = ""
    programs: Programs = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Root:
    """How a container's root file system is put together.

    `lower` is shown under a layer of the container's own in `directory` (upper/, work/, and root/ to mount on); then
    `mounts` in their order. `copies` are (directory, its copy to be made), for mounts that the container may change.
    """

    directory: Path
    lower: Path
    mounts: tuple[Mount, ...] = ()
    copies: tuple[tuple[Path, Path], ...] = ()
    shm: Path | None = None
    readonly: bool = False
    privileged: bool = False
    unmasked: bool = False


class Report:
    """The socket between shim and child. The shim awaits `outcome`; in the child, `close` says that all went well."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def started(self) -> None:
        """In the shim, after the fork: keep our end only."""
        self.theirs.close()
        self.ours.setblocking(False)

    def terminal(self, master: int) -> None:
        """In the child: hand the terminal's master over."""
        socket.send_fds(self.theirs, [b"{}"], [master])

    def failed(self, error: BaseException) -> None:
        """In the child: say why not."""
        self.theirs.send(json.dumps(error_to_wire(error)).encode()[:60_000])

    async def outcome(self) -> int:
        """Wait until the child runs; return the terminal's master, or -1.

        Raises:
            NetlabError: what the child failed with.
        """
        loop = asyncio.get_running_loop()
        master = -1
        try:
            while True:
                try:
                    data, fds, _, _ = socket.recv_fds(self.ours, 1 << 16, 4)
                except BlockingIOError:
                    ready: asyncio.Future[None] = loop.create_future()
                    loop.add_reader(self.ours, _set, ready)
                    try:
                        await ready
                    finally:
                        loop.remove_reader(self.ours)
                    continue
                if fds:
                    master = fds[0]
                if not data:
                    return master
                if data != b"{}":
                    raise error_from_wire(json.loads(data))
        except BaseException:
            if master >= 0:
                os.close(master)
            raise
        finally:
            self.ours.close()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def prepare() -> None:
    """Find out, once and before the first fork, what every container needs to know."""
    _hidden()


def spawn(report: Report, body: Callable[[], Program | None], *, keep: Iterable[int],
          argv: tuple[str, ...] = ()) -> int:
    """Fork a child that runs `body`, which execs, or returns the program to call, or fails, which is reported.

    It keeps the descriptors `keep` until then. Returns its pid.
    """

    def run() -> int:
        try:
            program = body()
        except Exception as error:  # noqa: BLE001 - whatever it is, the shim has to hear of it
            report.failed(error)
            return error.exit_code if isinstance(error, StartRefused) else 128
        report.theirs.close()
        if program is None:
            return 0
        process.close_descriptors()
        return call(program, argv)

    pid = process.fork(run, keep={*keep, report.theirs.fileno()})
    report.started()
    return pid


def call(program: Program, argv: tuple[str, ...]) -> int:
    """Be one of our programs: its command line, its own dice, its streams."""
    process.set_title(argv)
    sys.argv[:] = list(argv)
    random.seed()
    try:
        return program(list(argv[1:]))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def enter_sandbox(namespaces: Mapping[str, int]) -> None:
    """Join the sandbox's network, UTS and IPC namespaces, by descriptor."""
    for name, kind in (("net", libc.CLONE_NEWNET), ("uts", libc.CLONE_NEWUTS), ("ipc", libc.CLONE_NEWIPC)):
        if name in namespaces:
            libc.setns(namespaces[name], kind)


def join_group(group: Group, oom_score_adj: int = 0) -> None:
    """Move into a cgroup, and into a cgroup namespace that shows it as the root."""
    if group:
        group.add_self()
    with contextlib.suppress(OSError):
        libc.unshare(libc.CLONE_NEWCGROUP)
    if oom_score_adj:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(oom_score_adj))


def build_root(root: Root) -> None:
    """In a mount namespace of our own: put the container's root together and make it ours."""
    libc.unshare(libc.CLONE_NEWNS)
    mount.make_private()
    top = root.directory / "root"
    top.mkdir(parents=True, exist_ok=True)
    mount.overlay(top, [root.lower], root.directory / "upper", root.directory / "work")
    inside = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for path in ("proc", "sys", "dev"):
        os.close(mount.make_in_root(inside, path, directory=True))
    mount.proc(top / "proc")
    with contextlib.suppress(KernelError):  # a user namespace that does not own the Pod's network may not
        mount.sysfs(top / "sys", readonly=not root.privileged)
    mount.dev(top / "dev", shm=root.shm)
    for source, target in root.copies:
        rootfs.copy(source, target)
    for wanted in root.mounts:
        _mount(inside, wanted)
    if not (root.privileged or root.unmasked):
        _mask(top)
    os.close(inside)
    mount.pivot(top)


def _mount(inside: int, wanted: Mount) -> None:
    if not wanted.sub_path:
        mount.bind_in_root(inside, wanted.container_path, wanted.host_path, readonly=wanted.readonly)
        return
    try:
        volume = os.open(wanted.host_path, os.O_PATH | os.O_CLOEXEC)
        source = mount.open_in_root(volume, wanted.sub_path)
    except OSError as error:
        raise StartRefused(f"failed to prepare subPath {wanted.sub_path} of {wanted.host_path}: {error.strerror}",
                           errno=error.errno or 0) from None
    mount.bind_in_root(inside, wanted.container_path, mount.at(source), readonly=wanted.readonly)


@functools.cache
def _hidden() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the directories and the files to mask and the trees to protect that this kernel has."""
    there = [path for path in MASKED if os.path.exists(path)]
    folders = tuple(path for path in there if os.path.isdir(path))
    return folders, tuple(set(there) - set(folders)), tuple(path for path in READONLY if os.path.exists(path))


def _mask(top: Path) -> None:
    folders, files, protected = _hidden()
    for path in folders:
        libc.mount("tmpfs", f"{top}{path}", "tmpfs", libc.MS_RDONLY, "size=0")
    for path in files:
        mount.bind(top / "dev/null", f"{top}{path}")
    for path in protected:
        mount.bind(f"{top}{path}", f"{top}{path}", readonly=True)


def open_terminal(report: Report, stdio: Stdio) -> None:
    """Make a terminal of this mount namespace's devpts the controlling one, on 0, 1 and 2."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, 0x40045431, b"\0\0\0\0")  # TIOCSPTLCK: unlock
    slave = fcntl.ioctl(master, 0x5441, os.O_RDWR | os.O_NOCTTY)  # TIOCGPTPEER: no name, no lookup, no race
    if stdio.width and stdio.height:
        termios.tcsetwinsize(slave, (stdio.height, stdio.width))
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    report.terminal(master)
    os.close(master)
    process.set_stdio(slave, slave, slave)
    if slave > 2:
        os.close(slave)


def run_command(report: Report, stdio: Stdio, command: Command, *, readonly: bool = False) -> Program | None:
    """Become the command: session, streams, working directory, user, limits, then exec.

    Returns:
        The program to call, where the command names one of ours.

    Raises:
        StartRefused: it is not there, or can't be executed.
    """
    os.setsid()
    os.umask(0o022)
    user = find_user(command.user, command.groups)
    env = dict(command.env)
    env.setdefault("HOME", user.home)
    if stdio.tty:
        env.setdefault("TERM", "xterm")
        open_terminal(report, stdio)
    else:
        _own(stdio, user)
        process.set_stdio(stdio.stdin, stdio.stdout, stdio.stderr)
    _enter_directory(command.cwd or "/")
    if readonly:
        mount.read_only("/", recursive=False)
    capabilities.become(user.uid, user.gid, user.groups, command.capabilities)
    if command.no_new_privs:
        libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    program = _program(command)
    os.environ.clear()
    os.environ.update(env)
    if program is not None:
        return program
    execute(command.argv, env, path="" if _in_volume(command.argv[0]) else command.path)
    return None


def _program(command: Command) -> Program | None:
    """Return the program of ours that the command names: plainly, or by a path that nothing else lies at."""
    path = command.argv[0]
    if _in_volume(path):
        return None
    name = os.path.basename(path)
    if "/" in path and os.path.isfile(path):
        if not os.path.realpath(path).startswith(f"{PROGRAM_DIRECTORY}/"):
            return None
        name = os.path.basename(os.path.realpath(path))
    return command.programs.get(name)


def _in_volume(path: str) -> bool:
    """Tell whether a path names what is in a volume, or nothing: another binary was to be there than the image's."""
    folder = os.path.dirname(path)
    return folder != "/" and os.path.ismount(folder) and not folder.startswith(_OWN_FOLDERS)


def _own(stdio: Stdio, user: User) -> None:
    """Give the pipes to the user, or /dev/stdout could not be opened by it."""
    if user.uid:
        for fd in stdio.fds():
            with contextlib.suppress(OSError):
                os.fchown(fd, user.uid, user.gid)


def _enter_directory(path: str) -> None:
    try:
        with contextlib.suppress(FileExistsError, OSError):
            os.makedirs(path)
        os.chdir(path)
    except OSError as error:
        raise StartRefused(f"chdir to cwd ({json.dumps(path)}) set in config failed: {(error.strerror or '').lower()}",
                           errno=error.errno or 0) from None


def execute(argv: tuple[str, ...], env: Mapping[str, str], *, path: str = "") -> None:
    """Replace this process by what argv[0] names, or by the file `path`. Only returns by raising.

    Raises:
        StartRefused: in the words of the container runtimes.
    """
    name = path or argv[0]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    places = env.get("PATH", "").split(":")
    candidates = [name] if "/" in name else [f"{place or '.'}/{name}" for place in places]
    seen = False
    for candidate in candidates:
        if not os.path.isfile(candidate):
            continue
        seen = True
        if not os.access(candidate, os.X_OK):
            continue
        try:
            os.execve(candidate, list(argv), dict(env))
        except OSError as error:
            said = (error.strerror or "").lower()
            code = 126 if error.errno in (errno.EACCES, errno.ENOEXEC) else 127 if error.errno == errno.ENOENT else 128
            raise StartRefused(f"exec {candidate}: {said}", exit_code=code, errno=error.errno or 0) from None
    quoted = json.dumps(name)
    if seen:
        raise StartRefused(f"exec: {quoted}: permission denied", exit_code=126, errno=errno.EACCES)
    if "/" in name:
        raise StartRefused(f"exec: {quoted}: stat {name}: no such file or directory", exit_code=127, errno=errno.ENOENT)
    raise StartRefused(f"exec: {quoted}: executable file not found in $PATH", exit_code=127, errno=errno.ENOENT)
