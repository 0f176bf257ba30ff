"""Processes: fork a child that starts clean, run a tool and read what it says, hold a process by descriptor.

fork(2) copies one thread only, so a process that forks children which go on in Python has to have just that one
thread; `fork` checks it. The tools we run (iptables-restore, conntrack, ...) go through `run`, the one place here
that uses subprocess.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netlab.errors import KernelError, NotFound, TemporaryError
from netlab.kernel import libc, netns

_SIGNALS = tuple(sorted(map(int, signal.valid_signals())))  # without those that libc keeps for itself


@dataclass(frozen=True)
class Finished:
    """What a tool left: its exit code (negative: killed by that signal) and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes

    def checked(self, what: str) -> bytes:
        """Return stdout.

        Raises:
            KernelError: the exit code was not 0; says what the tool said.
        """
        if self.code != 0:
            said = (self.stderr or self.stdout).decode(errors="replace").strip()
            raise KernelError(f"{what}: {said or f'exit code {self.code}'}")
        return self.stdout


def fork(body: Callable[[], int | None], *, keep: Collection[int] | None = None) -> int:
    """Fork, run `body` in the child, and return the child's pid to the parent.

    The child starts as a new program would: no event loop, default signal handlers, nothing blocked (SIGPIPE stays
    ignored, as Python has it). Its exit code is what `body` returns (None is 0); an exception is printed and gives 1.
    The child never returns from here. It keeps the descriptors `keep` beside 0, 1 and 2; None keeps all.

    Raises:
        KernelError: this process has several threads, or the kernel refuses.
    """
    if not _single_threaded():
        raise KernelError("can't fork a Python child: this process has several threads")
    sys.stdout.flush()
    sys.stderr.flush()
    # asked here and not in the child, which pays 10 us for each page of memory that it is the first to touch
    caught = _caught()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, caught)  # none may reach the parent's handlers in the child
    try:
        pid = os.fork()
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise KernelError(f"can't fork: {error.strerror}", errno=error.errno or 0) from None
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid
    code = 1
    try:
        _start_clean(caught)
        if keep is not None:
            close_descriptors(keep)
        code = body() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - nothing may pass into the parent's frames, which lie below on this stack
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def _single_threaded() -> bool:
    for _ in range(100):  # a thread that was joined takes a moment to leave the kernel
        if len(os.listdir("/proc/self/task")) == 1:
            return True
        time.sleep(0.001)
    return False


def _caught() -> list[int]:
    """Return the signals that have handlers; asking the kernel is a tenth of asking Python for each."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            mask = int(line.split()[1], 16)
            return [number for number in _SIGNALS if mask >> (number - 1) & 1]
    return []


def _start_clean(caught: Collection[int]) -> None:
    gc.freeze()  # objects of the parent must never be finalized here: they would close numbers that are ours by then
    if "asyncio" in sys.modules:
        asyncio._set_running_loop(None)  # noqa: SLF001 - documented for loop implementers; 3.11 tells by pid, and both may be 1
    signal.set_wakeup_fd(-1)
    for number in caught:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def close_descriptors(keep: Collection[int] = ()) -> None:
    """Close every descriptor but 0, 1, 2 and `keep`."""
    start = 3
    for fd in sorted(fd for fd in set(keep) if fd >= 3):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, 1 << 20)


def set_stdio(stdin: int, stdout: int, stderr: int) -> None:
    """Put these descriptors on 0, 1 and 2 (-1: /dev/null) and let Python's streams write them line by line."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) if -1 in (stdin, stdout, stderr) else -1
    wanted = [null if fd < 0 else fd for fd in (stdin, stdout, stderr)]
    # a source that is itself 0, 1 or 2 would be overwritten before its turn
    moved = [os.dup(fd) if fd <= 2 else fd for fd in wanted]
    for target, fd in enumerate(moved):
        os.dup2(fd, target)
        os.set_inheritable(target, True)
    _old_streams.extend((sys.stdin, sys.stdout, sys.stderr))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the old ones remember what kind of file they had below
    sys.stdout = open(1, "w", buffering=1, errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


_old_streams: list[object] = []  # kept: finalized, they would close 0, 1 and 2


def set_title(argv: Sequence[str]) -> None:
    """Show this process as `argv` in ps and /proc (the short name is the last part of argv[0])."""
    libc.set_process_name(os.path.basename(argv[0]))
    with contextlib.suppress(OSError):  # a kernel without checkpoint support keeps the old command line
        libc.set_cmdline(list(argv))


def exit_code(status: int) -> tuple[int, int]:
    """Return (exit code as a shell tells it, signal or 0) of a wait status."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot: with the pid it names a process for good.

    Raises:
        NotFound: there is no such process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        raise NotFound(f"no process {pid}") from None
    return int(text.rsplit(")", 1)[1].split()[19])


def is_alive(pid: int, started: int) -> bool:
    """Tell whether the process of that pid and start time still runs (a zombie does not)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return int(fields[19]) == started and fields[0] not in "ZX"


def open_pidfd(pid: int) -> int:
    """Return a descriptor of the process, readable once it has ended.

    Raises:
        NotFound: there is no such process.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise NotFound(f"no process {pid}: {error.strerror}") from None


def read_file(pidfd: int, path: str) -> str:
    """Return a text file as a process sees it: by its own root and mounts, whatever links lead elsewhere.

    Raises:
        OSError: there is none, or the process is gone.
    """
    words = Path(f"/proc/self/fdinfo/{pidfd}").read_text().split()
    root = os.open(f"/proc/{int(words[words.index('Pid:') + 1])}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        with open(libc.openat2(root, path.lstrip("/"), os.O_RDONLY, resolve=libc.RESOLVE_IN_ROOT)) as file:
            return file.read()
    finally:
        os.close(root)


def send(pidfd: int, number: int) -> bool:
    """Send a signal; tells whether the process was still there."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def enter(pidfd: int, kinds: int) -> None:
    """Move into these namespaces (CLONE_NEW*) of a process; for NEWPID the next child does (setns(2), Linux 5.8).

    Raises:
        NotFound: the process has ended.
    """
    try:
        libc.setns(pidfd, kinds)
    except ProcessLookupError:
        raise NotFound("the process has ended") from None
    except OSError as error:
        raise KernelError(f"can't enter the namespaces: {error.strerror}", errno=error.errno or 0) from None


@contextlib.contextmanager
def children_in(pid_namespace: int | None) -> Iterator[None]:
    """Let children forked in the body be born in another PID namespace (None: a new one); this process stays."""
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if pid_namespace is None:
            libc.unshare(libc.CLONE_NEWPID)
        else:
            libc.setns(pid_namespace, libc.CLONE_NEWPID)
        try:
            yield
        finally:
            libc.setns(home, libc.CLONE_NEWPID)
    finally:
        os.close(home)


@contextlib.contextmanager
def new_namespaces(*kinds: str) -> Iterator[dict[str, int]]:
    """Be in new namespaces ("net", "uts", "ipc") for the body, then back; yields their descriptors, for the caller.

    Costs a process less than letting a child make them. Never across an await.

    Raises:
        KernelError: the kernel refuses.
    """
    homes = {kind: os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds}
    made: dict[str, int] = {}
    try:
        try:
            libc.unshare(sum(_KINDS[kind] for kind in kinds))
        except OSError as error:
            raise KernelError(f"can't make namespaces: {error.strerror}", errno=error.errno or 0) from None
        try:
            for kind in kinds:
                made[kind] = os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            yield made
        except BaseException:
            for fd in made.values():
                os.close(fd)
            raise
        finally:
            for kind, fd in homes.items():
                libc.setns(fd, _KINDS[kind])  # must raise if it fails: never run on in the wrong place
    finally:
        for fd in homes.values():
            os.close(fd)


_KINDS = {"net": libc.CLONE_NEWNET, "uts": libc.CLONE_NEWUTS, "ipc": libc.CLONE_NEWIPC}


def spawn(path: str | os.PathLike[str], argv: Sequence[str], *, blocked: Collection[int] = ()) -> int:
    """Start an executable in a session of its own, without streams or environment, and return its pid.

    Does not copy this process first as `fork` does: 0.3 ms instead of 5. `blocked` signals are so in the child.

    Raises:
        KernelError: it can't be executed.
    """
    streams = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1),
               (os.POSIX_SPAWN_DUP2, 0, 2)]
    try:
        return os.posix_spawn(path, list(argv), {}, file_actions=streams, setsid=True, setsigmask=blocked,
                              setsigdef=[signal.SIGPIPE])
    except OSError as error:
        raise KernelError(f"can't execute {os.fspath(path)}: {error.strerror}", errno=error.errno or 0) from None


async def run(argv: Sequence[str], *, input: bytes = b"", env: Mapping[str, str] | None = None, cwd: str | None = None,
              timeout: float | None = None, network: int | str | None = None) -> Finished:
    """Run a tool to its end without blocking the loop.

    `input` is its whole standard input, `timeout` the seconds until it is killed, `network` the network namespace
    (path or descriptor) that it runs in.

    Raises:
        NotFound: there is no such tool.
        TemporaryError: it ran into the timeout.
    """
    child = _spawn(argv, input=input, env=env, cwd=cwd, network=network)
    loop = asyncio.get_running_loop()
    parts: dict[int, bytearray] = {}
    ended: list[asyncio.Future[None]] = []
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            fd = stream.fileno()
            os.set_blocking(fd, False)
            done: asyncio.Future[None] = loop.create_future()
            parts[fd] = bytearray()
            ended.append(done)
            loop.add_reader(fd, _drain, loop, fd, parts[fd], done)
    exited: asyncio.Future[None] = loop.create_future()
    pidfd = os.pidfd_open(child.pid)
    loop.add_reader(pidfd, _resolve, loop, pidfd, exited)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.gather(exited, *ended)
    except TimeoutError:
        raise TemporaryError(f"{argv[0]} did not end within {timeout:g} s") from None
    finally:
        for fd in (pidfd, *parts):
            loop.remove_reader(fd)
        os.close(pidfd)
        if child.poll() is None:
            child.kill()
            child.wait()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    out, err = parts.values()
    return Finished(child.returncode, bytes(out), bytes(err))


def run_sync(argv: Sequence[str], *, input: bytes = b"", env: Mapping[str, str] | None = None, cwd: str | None = None,
             timeout: float | None = None, network: int | str | None = None) -> Finished:
    """Run a tool to its end where there is no event loop. Arguments and errors as of `run`."""
    child = _spawn(argv, input=input, env=env, cwd=cwd, network=network)
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise TemporaryError(f"{argv[0]} did not end within {timeout or 0:g} s") from None
    return Finished(child.returncode, out, err)


def _spawn(argv: Sequence[str], *, input: bytes, env: Mapping[str, str] | None, cwd: str | None,
           network: int | str | None) -> subprocess.Popen[bytes]:
    # the input lies in memory as a file: nobody has to feed a pipe while the tool runs
    feed = os.memfd_create("input") if input else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if input:
            view = memoryview(input)
            while view:
                view = view[os.write(feed, view):]
            os.lseek(feed, 0, os.SEEK_SET)
        with netns.inside(network) if network is not None else contextlib.nullcontext():
            return subprocess.Popen(list(argv), stdin=feed, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    env=None if env is None else dict(env), cwd=cwd)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, PermissionError)):
            raise NotFound(f"can't run {argv[0]}: {error.strerror}") from None
        raise KernelError(f"can't run {argv[0]}: {error.strerror}", errno=error.errno or 0) from None
    finally:
        os.close(feed)


def _drain(loop: asyncio.AbstractEventLoop, fd: int, into: bytearray, done: asyncio.Future[None]) -> None:
    try:
        data = os.read(fd, 1 << 16)
    except BlockingIOError:
        return
    into += data
    if not data:
        _resolve(loop, fd, done)


def _resolve(loop: asyncio.AbstractEventLoop, fd: int, done: asyncio.Future[None]) -> None:
    loop.remove_reader(fd)
    if not done.done():
        done.set_result(None)
