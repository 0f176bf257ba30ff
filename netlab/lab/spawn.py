"""Starting the holder and the gate: fresh interpreters with a clean environment, in the namespaces they belong in."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import netlab
from netlab.errors import KernelError
from netlab.kernel import libc
from netlab.lab import state

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment() -> dict[str, str]:
    """Return the environment of every process of a lab: nothing of the caller's, which would show in every Pod."""
    dirs = state.dirs()
    own = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/root", "PYTHONUNBUFFERED": "1",
           "PYTHONPATH": str(Path(netlab.__file__).parent.parent),
           "NETLAB_RUN_DIR": str(dirs.run), "NETLAB_STATE_DIR": str(dirs.state)}
    if "PYTHONPYCACHEPREFIX" in os.environ:
        own["PYTHONPYCACHEPREFIX"] = os.environ["PYTHONPYCACHEPREFIX"]
    return own


def holder(lab: str, leash: socket.socket, log: Path, *, rootless: bool) -> int:
    """Start a lab's holder as pid 1 of a new PID namespace; return its pid here.

    Args:
        leash: the holder's end of the launcher's socketpair.
        rootless: put it, and with it the whole lab, into a new user namespace in which we are root.

    Raises:
        KernelError: a namespace can't be made.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)

    def middle() -> None:
        if rootless:
            _become_root()
        # a network of its own too, though nothing is in it: who steps into a node's has to be allowed back
        libc.unshare(libc.CLONE_NEWNS | libc.CLONE_NEWPID | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS | libc.CLONE_NEWNET)
        pid = os.fork()
        if pid:
            os.write(tell, f"{pid}\n".encode())
            os._exit(0)
        os.setsid()
        libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
        libc.mount("proc", "/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
        _exec(["holder", lab, str(leash.fileno())], log, keep=[leash.fileno()])

    child = _fork(middle, tell)
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        text = file.read().decode(errors="replace")  # ends when the holder has exec'd
    os.waitpid(child, 0)
    first, _, rest = text.partition("\n")
    if rest or not first.isdigit():
        raise KernelError(f"the lab's holder does not start: {(rest if first.isdigit() else text).strip()}",
                          hint="netlab doctor says what this machine allows")
    return int(first)


def gate(lab: str, listener: socket.socket, holder_end: socket.socket, log: Path) -> int:
    """Start a lab's gate in the host's namespaces, detached; return its pid."""
    return _detached(["gate", lab], [listener, holder_end], log)


def relay(lab: str, holder_end: socket.socket, log: Path) -> int:
    """Start a lab's relay, which stays in the host's namespaces, detached; return its pid."""
    return _detached(["relay", lab], [holder_end], log)


def _detached(program: list[str], ends: list[socket.socket], log: Path) -> int:
    told, tell = os.pipe2(os.O_CLOEXEC)

    def middle() -> None:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(tell, f"{pid}\n".encode())
            os._exit(0)
        numbers = [end.fileno() for end in ends]
        _exec([*program, *map(str, numbers)], log, keep=numbers)

    child = _fork(middle, tell)
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        text = file.read().decode(errors="replace")
    os.waitpid(child, 0)
    first, _, rest = text.partition("\n")
    if rest or not first.isdigit():
        raise KernelError(f"the lab's {program[0]} does not start: {text.strip()}")
    return int(first)


def try_in_child(body: Callable[[], None], *, user_namespace: bool = False) -> str:
    """Run `body` in a child, as root of a new user namespace if asked; return "" or what went wrong there."""
    told, tell = os.pipe2(os.O_CLOEXEC)

    def middle() -> None:
        if user_namespace:
            _become_root()
        body()

    child = _fork(middle, tell)
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        text = file.read().decode(errors="replace").strip()
    status = os.waitpid(child, 0)[1]
    return text or ("" if status == 0 else "the probe crashed")


def _fork(body: Callable[[], None], tell: int) -> int:
    """Fork a child that runs `body` and ends; an error goes into the pipe `tell` as text."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        body()
        code = 0
    except BaseException as error:  # noqa: BLE001 - a child must not return into its parent's frames
        with contextlib.suppress(OSError):
            os.write(tell, str(error).encode())
    finally:
        os._exit(code)


def _become_root() -> None:
    """Enter a new user namespace in which this user is root and nobody else exists (user_namespaces(7))."""
    uid, gid = os.geteuid(), os.getegid()
    libc.unshare(libc.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _exec(program: list[str], log: Path, *, keep: list[int]) -> None:
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    for fd in keep:
        os.set_inheritable(fd, True)
    _close_others(keep)
    os.umask(0o022)
    os.execve(sys.executable, [sys.executable, "-s", "-P", "-m", "netlab.programs", *program], environment())


def _close_others(keep: list[int]) -> None:
    """Mark every other descriptor close-on-exec: the error pipe still has to tell if exec fails."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.set_inheritable(fd, False)
