"""A container: from its config to a process, its streams, its end, and commands that are run in it."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from netlab.errors import NetlabError, StartRefused, TemporaryError, UsageError
from netlab.kernel import capabilities, process
from netlab.kernel.cgroup import Group, Limits, usage_in
from netlab.runtime import launch
from netlab.runtime.cri import Container, ContainerConfig, ContainerState, Mount, Resources, Security, Stats
from netlab.runtime.image import PROGRAM_IMAGES, Image
from netlab.runtime.nodespec import Program
from netlab.runtime.sandbox import CHILD_NAMESPACES, PodSandbox
from netlab.runtime.streams import Log, Streams

_DRAIN_SECONDS = 2.0
_NEVER_STARTED = 128  # as containerd tells it of a container whose command is not there


@dataclass(frozen=True)
class Running:
    """A command that was started: its pid, the future of (exit code, signal), its terminal's master or -1."""

    pid: int
    ended: asyncio.Future[tuple[int, int]]
    master: int


class PodContainer:
    """One container of a sandbox."""

    def __init__(self, sandbox: PodSandbox, config: ContainerConfig, image: Image) -> None:
        self.sandbox, self.config, self.image, self.node = sandbox, config, image, sandbox.node
        if not self.argv:
            raise StartRefused("no command specified", exit_code=127)
        security = config.security
        self.capabilities = capabilities.choose(security.add_capabilities, security.drop_capabilities,
                                                privileged=security.privileged)
        if security.run_as_user is not None or security.run_as_group is not None or security.supplemental_groups:
            capabilities.check_ids(security.run_as_user or 0, security.run_as_group or 0, security.supplemental_groups)
        self.id = secrets.token_hex(32)
        self.directory = self.node.directory / "containers" / self.id[:12]
        self.created_at, self.started_at, self.finished_at = time.time_ns(), 0, 0
        self.state: ContainerState = "created"
        self.exit_code, self.signal, self.reason, self.message = 0, 0, "", ""
        self.pid = 0
        self.group = Group()
        self.streams: Streams | None = None
        self._pidfd = -1
        self.pid_namespace = -1  # a descriptor, while it runs
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def argv(self) -> tuple[str, ...]:
        """The command: as in a Pod, `command` makes the image's cmd void."""
        config = self.config
        if config.command:
            return (*config.command, *config.args)
        return (*self.image.entrypoint, *(config.args or self.image.cmd))

    @property
    def running(self) -> bool:
        """Whether its first process lives."""
        return self.state == "running"

    async def start(self) -> None:
        """Start it.

        Raises:
            StartRefused: the reason, for people; the container is then exited with StartError.
        """
        if self.state != "created":
            raise UsageError(f"container {self.id[:12]} is {self.state}, not created")
        if not self.sandbox.ready:
            raise TemporaryError(f"the sandbox of container {self.config.name} is not ready")
        config = self.config
        try:
            log = Log(Path(config.log_path)) if config.log_path else None
        except OSError as error:
            raise StartRefused(f"can't write the log {config.log_path}: {error.strerror}") from None
        self.group = self.sandbox.group.child(self.id[:12])
        self.group.limit(_limits(config.resources))
        self.streams = Streams(log, stdin_once=config.stdin_once)
        pipes = Pipes(stdin=config.stdin, tty=config.tty)
        root, command, stdio = self._root(), self._command(), pipes.stdio()
        namespaces = self.sandbox.namespaces
        report = launch.Report()

        def body() -> Program | None:
            launch.join_group(self.group, config.resources.oom_score_adj)
            launch.enter_sandbox(namespaces)
            launch.build_root(root)
            return launch.run_command(report, stdio, command, readonly=root.readonly)

        try:
            with self._birth():
                self.pid = launch.spawn(report, body, argv=self.argv, keep={
                    *self.group.directories.values(), *namespaces.values(), *stdio.fds()})
            exited = self.node.reaper.watch(self.pid)
            pipes.close_theirs()
            self.state, self.started_at = "running", time.time_ns()
            self._pidfd = process.open_pidfd(self.pid)
            self.pid_namespace = os.open(f"/proc/{self.pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            master = await report.outcome()
        except (NetlabError, OSError) as error:
            await self._refused(pipes, error)
            raise
        self.streams.connect(stdin=pipes.stdin, stdout=pipes.stdout, stderr=pipes.stderr, terminal=master)
        self.node.happened("container_started", sandbox=self.sandbox.id, container=self.id)
        self.node.background(asyncio.get_running_loop().create_task(self._watch(exited)))

    async def _refused(self, pipes: Pipes, error: Exception) -> None:
        pipes.close_theirs()
        pipes.close_ours()
        if self._pidfd >= 0:
            process.send(self._pidfd, signal.SIGKILL)
        if self.streams is not None:
            self.streams.close()
        self._finish(_NEVER_STARTED, 0, "StartError", str(error))

    async def _watch(self, exited: asyncio.Future[tuple[int, int]]) -> None:
        code, number = await exited
        killed = self.group.usage().oom_kills > 0 and number == signal.SIGKILL
        if self.group:
            self.group.kill()  # what it left behind in a PID namespace that is not its own
        if self.streams is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self.streams.ended), _DRAIN_SECONDS)
            except TimeoutError:
                self.streams.close()
        reason = "OOMKilled" if killed else "Completed" if code == 0 else "Error"
        self._finish(code, number, reason, "")

    def _finish(self, code: int, number: int, reason: str, message: str) -> None:
        self.state, self.finished_at = "exited", time.time_ns()
        self.exit_code, self.signal, self.reason, self.message = code, number, reason, message
        self.pid = 0
        for fd in (self._pidfd, self.pid_namespace):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self.pid_namespace = -1
        if not self._ended.done():
            self._ended.set_result(None)
        self.node.happened("container_stopped", sandbox=self.sandbox.id, container=self.id, exit_code=code,
                           reason=reason)

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        await asyncio.shield(self._ended)
        return self.exit_code

    def kill(self, number: int) -> None:
        """Send a signal to its first process; nothing happens when it has ended."""
        if self._pidfd >= 0:
            process.send(self._pidfd, number)

    async def stop(self, timeout: float) -> None:
        """Send the stop signal, after `timeout` seconds SIGKILL, and wait until it is dead."""
        if not self.running:
            return
        if timeout > 0:
            self.kill(_signal_number(self.image.stop_signal))
            try:
                await asyncio.wait_for(asyncio.shield(self._ended), timeout)
            except TimeoutError:
                pass
            else:
                return
        self.kill(signal.SIGKILL)
        await asyncio.shield(self._ended)

    def release(self) -> None:
        """Give back what an exited container still holds. Its log stays."""
        if self.group:
            self.group.close()
            self.node.discard_group(self.sandbox.group, self.id[:12])
        shutil.rmtree(self.directory, ignore_errors=True)

    async def exec(self, argv: tuple[str, ...], stdio: launch.Stdio, *, env: Mapping[str, str], cwd: str) -> Running:
        """Run a command in it.

        Raises:
            UsageError: it does not run.
            StartRefused: the command is not there, or can't be executed.
        """
        if not self.running or self._pidfd < 0:
            raise UsageError(f"container {self.config.name} is not running")
        command = self._command(argv, env, cwd)
        pidfd, report = self._pidfd, launch.Report()

        def body() -> Program | None:
            self.group.add_self()
            process.enter(pidfd, CHILD_NAMESPACES)
            return launch.run_command(report, stdio, command)

        with process.children_in(self.pid_namespace):
            pid = launch.spawn(report, body, argv=argv,
                               keep={*self.group.directories.values(), pidfd, *stdio.fds()})
        ended = self.node.reaper.watch(pid)
        return Running(pid, ended, await report.outcome())

    def update(self, resources: Resources) -> None:
        """Set other limits."""
        self.group.limit(_limits(resources))

    def stats(self) -> Stats:
        """Return what it uses."""
        usage = self.group.usage()
        if not usage.memory and self.pid_namespace >= 0:
            usage = usage_in(os.fstat(self.pid_namespace).st_ino)
        return Stats(id=self.id, at=time.time_ns(), cpu_nanoseconds=usage.cpu_nanoseconds, memory_usage=usage.memory,
                     memory_working_set=usage.working_set, processes=usage.processes)

    def status(self) -> Container:
        """Return it as the kubelet sees it."""
        config = self.config
        return Container(
            id=self.id, sandbox_id=self.sandbox.id, name=config.name, attempt=config.attempt, image=config.image,
            image_id=self.image.id, state=self.state, created_at=self.created_at, started_at=self.started_at,
            finished_at=self.finished_at, exit_code=self.exit_code, signal=self.signal, reason=self.reason,
            message=self.message, pid=self.pid, log_path=config.log_path, tty=config.tty, stdin=config.stdin,
            labels=config.labels, annotations=config.annotations)

    def _birth(self) -> AbstractContextManager[None]:
        """Return what the fork happens in, for the right PID namespace."""
        if self.config.target_id:
            target = self.sandbox.containers.get(self.config.target_id)
            if target is None or target.pid_namespace < 0:
                raise StartRefused(f"the container {self.config.target_id} whose processes to see does not run")
            return process.children_in(target.pid_namespace)
        if self.sandbox.config.host_pid:
            return nullcontext()
        shared = self.sandbox.config.share_process_namespace
        return process.children_in(self.sandbox.namespaces["pid"] if shared else None)

    def _root(self) -> launch.Root:
        config, image, sandbox = self.config, self.image, self.sandbox
        given = {os.path.normpath(m.container_path) for m in config.mounts}
        mounts = [Mount(container_path=path, host_path=source, readonly=True) for path, source in image.shared]
        mounts += [m for m in sandbox.mounts() if m.container_path not in given]
        mounts += [Mount(container_path=f"/opt/netlab/use/{name}", host_path=path, readonly=True)
                   for name, path in self.node.use.items() if image.programs]
        copies = {path: self.directory / f"copy{path.replace('/', '-')}" for path in image.writable
                  if path not in given}
        mounts += [Mount(container_path=path, host_path=str(copy)) for path, copy in copies.items()]
        mounts += config.mounts
        mounts.sort(key=lambda m: os.path.normpath(m.container_path).count("/"))  # what holds others goes first
        security = config.security
        return launch.Root(directory=self.directory, lower=image.root, mounts=tuple(mounts), shm=sandbox.shm,
                           copies=tuple((Path(path), copy) for path, copy in copies.items()),
                           readonly=security.readonly_rootfs, privileged=security.privileged,
                           unmasked=security.unmasked_proc)

    def _command(self, argv: tuple[str, ...] = (), env: Mapping[str, str] | None = None, cwd: str = ""
                 ) -> launch.Command:
        config, security = self.config, self.config.security
        argv = argv or self.argv
        stand_in = self.node.use.get(os.path.basename(argv[0])) if self.image.programs else None
        programs = {name: self.node.programs[name] for name in PROGRAM_IMAGES if name in self.node.programs}
        return launch.Command(
            argv=argv, path=f"/opt/netlab/use/{os.path.basename(argv[0])}" if stand_in else "",
            env={"HOSTNAME": self.sandbox.hostname, **dict(self.image.env), **dict(config.envs), **(env or {})},
            cwd=cwd or config.working_dir or self.image.working_dir, user=_user(security, self.image.user),
            groups=security.supplemental_groups, capabilities=self.capabilities, no_new_privs=security.no_new_privs,
            programs=programs if self.image.programs and not stand_in else {})


def _user(security: Security, image_user: str) -> str:
    """Return user[:group] in an image's way of writing."""
    user, _, group = image_user.partition(":")
    if security.run_as_user is not None:
        user, group = str(security.run_as_user), ""
    elif security.run_as_username:
        user, group = security.run_as_username, ""
    if security.run_as_group is not None:
        group = str(security.run_as_group)
    return f"{user or '0'}:{group}" if group else user


def _limits(resources: Resources) -> Limits:
    return Limits(memory=resources.memory_limit, pids=resources.pids_limit, cpu_quota=resources.cpu_quota,
                  cpu_period=resources.cpu_period, cpu_shares=resources.cpu_shares)


def _signal_number(name: str) -> int:
    if name.isdigit():
        return int(name)
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", signal.SIGTERM)
    return int(found)


class Pipes:
    """The pipes of a container (or of a command), both ends: `stdin`, `stdout`, `stderr` are ours, or -1."""

    def __init__(self, *, stdin: bool, tty: bool, stderr: bool = True) -> None:
        self._tty = tty
        self.stdin = self.stdout = self.stderr = -1
        self._theirs = [-1, -1, -1]
        if not tty:
            if stdin:
                self._theirs[0], self.stdin = os.pipe2(os.O_CLOEXEC)
            self.stdout, self._theirs[1] = os.pipe2(os.O_CLOEXEC)
            if stderr:
                self.stderr, self._theirs[2] = os.pipe2(os.O_CLOEXEC)

    def stdio(self, width: int = 0, height: int = 0) -> launch.Stdio:
        """Return the child's side."""
        return launch.Stdio(stdin=self._theirs[0], stdout=self._theirs[1], stderr=self._theirs[2], tty=self._tty,
                            width=width, height=height)

    def close_theirs(self) -> None:
        """Close the child's ends; twice is fine."""
        for fd in self._theirs:
            if fd >= 0:
                os.close(fd)
        self._theirs = [-1, -1, -1]

    def close_ours(self) -> None:
        """Close our ends."""
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = -1
