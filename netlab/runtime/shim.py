"""The shim: pid 1 of a node. It owns the node's Pods, and answers the kubelet's calls about them.

One thread, one event loop: it forks children that go on in Python, and pid 1 may wait for nobody. A call is a
coroutine method whose name is the call's; what it returns is the result, `WithFds` when descriptors go along.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import termios
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import netlab
from netlab.errors import ImageNotFound, NetlabError, NotFound, TemporaryError, UsageError
from netlab.kernel import process
from netlab.runtime import launch, streams
from netlab.runtime.container import Pipes, PodContainer, Running
from netlab.runtime.context import Context
from netlab.runtime.cri import ContainerConfig, Event, ExecResult, Resources, SandboxConfig, from_wire, to_wire
from netlab.runtime.nodespec import Program
from netlab.runtime.sandbox import PodSandbox
from netlab.runtime.wire import Channel, error_to_wire

log = logging.getLogger(__name__)

MAX_EXEC_OUTPUT = 16 << 20
_DRAIN_SECONDS = 1.0
EVERYTHING = frozenset(range(64))


@dataclass(frozen=True)
class WithFds:
    """A result that descriptors go along with; they are closed here once sent."""

    result: Any
    fds: tuple[int, ...]


@dataclass(eq=False)
class Client:
    """One connection. What it started by `exec` is hung up on when it goes."""

    channel: Channel
    subscribed: bool = False
    commands: dict[str, asyncio.Future[tuple[int, int]]] = field(default_factory=dict)


class Shim:
    """The calls. Names and meanings are those of `shimclient.ShimClient`."""

    def __init__(self, node: Context) -> None:
        self.node = node
        self.sandboxes: dict[str, PodSandbox] = {}
        self.containers: dict[str, PodContainer] = {}
        self._clients: set[Client] = set()
        self._calls: dict[str, Callable[..., Awaitable[Any]]] = {
            name: getattr(self, name) for name in dir(type(self)) if not name.startswith("_") and
            asyncio.iscoroutinefunction(getattr(type(self), name))}

    # --- connections ---

    def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects."""
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        client: Client

        def message(data: dict[str, Any], fds: list[int]) -> None:
            for fd in fds:  # no call takes any
                os.close(fd)
            self.node.background(asyncio.get_running_loop().create_task(self._answer(client, data)))

        client = Client(Channel(sock, message, lambda: self._clients.discard(client)))
        self._clients.add(client)

    async def _answer(self, client: Client, data: dict[str, Any]) -> None:
        number, name = data.get("id"), str(data.get("call"))
        fds: tuple[int, ...] = ()
        try:
            call = self._calls.get(name)
            if call is None:
                raise UsageError(f'the shim has no call "{name}"')
            result = await call(client, **data.get("args", {}))
            if isinstance(result, WithFds):
                result, fds = result.result, result.fds
            client.channel.send({"id": number, "result": to_wire(result)}, fds)
        except NetlabError as error:
            client.channel.send({"id": number, "error": error_to_wire(error)})
        except Exception as error:
            log.exception("call %s", name)
            client.channel.send({"id": number, "error": error_to_wire(error)})
        finally:
            for fd in fds:
                os.close(fd)

    def emit(self, event: Event) -> None:
        """Send an event to every subscriber."""
        data = {"event": to_wire(event)}
        for client in list(self._clients):
            if client.subscribed:
                client.channel.send(data)

    async def version(self, _client: Client) -> dict[str, str]:
        """See ShimClient."""
        return {"name": "netlab", "version": netlab.__version__, "node": self.node.name, "lab": self.node.lab}

    async def subscribe(self, client: Client) -> None:
        """See ShimClient.events."""
        client.subscribed = True

    # --- sandboxes ---

    async def run_pod_sandbox(self, _client: Client, config: dict[str, Any]) -> Any:
        """See ShimClient."""
        sandbox = PodSandbox(self.node, from_wire(SandboxConfig, config))
        sandbox.start()
        self.sandboxes[sandbox.id] = sandbox
        return sandbox.status()

    async def stop_pod_sandbox(self, _client: Client, id: str) -> None:
        """See ShimClient."""
        if sandbox := self.sandboxes.get(id):
            await sandbox.stop()

    async def remove_pod_sandbox(self, client: Client, id: str) -> None:
        """See ShimClient."""
        if sandbox := self.sandboxes.pop(id, None):
            await sandbox.stop()
            for container in list(sandbox.containers.values()):
                await self.remove_container(client, container.id)
            sandbox.release()
            self.node.happened("sandbox_removed", sandbox=id)

    async def pod_sandbox_status(self, _client: Client, id: str) -> Any:
        """See ShimClient."""
        return self._sandbox(id).status()

    async def list_pod_sandboxes(self, _client: Client, labels: Mapping[str, str]) -> Any:
        """See ShimClient."""
        return [s.status() for s in self.sandboxes.values() if labels.items() <= s.config.labels.items()]

    # --- containers ---

    async def create_container(self, _client: Client, sandbox_id: str, config: dict[str, Any]) -> str:
        """See ShimClient."""
        sandbox = self._sandbox(sandbox_id)
        wanted = from_wire(ContainerConfig, config)
        container = PodContainer(sandbox, wanted, self.node.images.find(wanted.image))
        sandbox.containers[container.id] = self.containers[container.id] = container
        self.node.happened("container_created", sandbox=sandbox.id, container=container.id)
        return container.id

    async def start_container(self, _client: Client, id: str) -> None:
        """See ShimClient."""
        await self._container(id).start()

    async def stop_container(self, _client: Client, id: str, timeout: float) -> None:
        """See ShimClient."""
        if container := self.containers.get(id):
            await container.stop(timeout)

    async def kill_container(self, _client: Client, id: str, signal: int) -> None:
        """See ShimClient."""
        self._container(id).kill(signal)

    async def remove_container(self, _client: Client, id: str) -> None:
        """See ShimClient."""
        if container := self.containers.pop(id, None):
            await container.stop(0)
            container.sandbox.containers.pop(id, None)
            container.release()
            self.node.happened("container_removed", sandbox=container.sandbox.id, container=id)

    async def list_containers(self, _client: Client, sandbox_id: str) -> Any:
        """See ShimClient."""
        return [c.status() for c in self.containers.values() if sandbox_id in ("", c.sandbox.id)]

    async def container_status(self, _client: Client, id: str) -> Any:
        """See ShimClient."""
        return self._container(id).status()

    async def update_container_resources(self, _client: Client, id: str, resources: dict[str, Any]) -> None:
        """See ShimClient."""
        self._container(id).update(from_wire(Resources, resources))

    async def container_stats(self, _client: Client, id: str) -> Any:
        """See ShimClient."""
        return self._container(id).stats()

    async def list_container_stats(self, _client: Client) -> Any:
        """See ShimClient."""
        return [c.stats() for c in self.containers.values() if c.running]

    async def reopen_container_log(self, _client: Client, id: str) -> None:
        """See ShimClient."""
        found = self._container(id).streams
        if found is not None and found.log is not None:
            found.log.reopen()

    async def wait(self, client: Client, id: str) -> int:
        """See ShimClient.Streams."""
        if id in client.commands:
            code, _ = await asyncio.shield(client.commands[id])
            client.commands.pop(id, None)
            return code
        return await self._container(id).wait()

    # --- streams ---

    async def exec(self, client: Client, target: str, argv: list[str], tty: bool, stdin: bool, stderr: bool,
                   env: dict[str, str], cwd: str, width: int, height: int) -> WithFds:
        """See ShimClient."""
        pipes = Pipes(stdin=stdin, tty=tty, stderr=stderr)
        try:
            running = await self._exec(target, tuple(argv), pipes.stdio(width, height), env, cwd)
        except BaseException:
            pipes.close_ours()
            raise
        finally:
            pipes.close_theirs()
        id = f"exec-{secrets.token_hex(8)}"  # noqa: A001 - the protocol's word
        client.commands[id] = running.ended
        ends = {"stdin": pipes.stdin, "stdout": pipes.stdout, "stderr": pipes.stderr}
        if running.master >= 0:
            ends = {"stdin": os.dup(running.master), "stdout": running.master}
        ends = {name: fd for name, fd in ends.items() if fd >= 0}
        return WithFds({"id": id, "tty": tty, "streams": list(ends)}, tuple(ends.values()))

    async def exec_sync(self, _client: Client, id: str, argv: list[str], timeout: float) -> ExecResult:
        """See ShimClient."""
        pipes = Pipes(stdin=False, tty=False)
        try:
            running = await self._exec(id, tuple(argv), pipes.stdio(), {}, "")
        except BaseException:
            pipes.close_ours()
            raise
        finally:
            pipes.close_theirs()
        outputs = [asyncio.ensure_future(streams.collect(fd, MAX_EXEC_OUTPUT)) for fd in (pipes.stdout, pipes.stderr)]
        try:
            code, _ = await asyncio.wait_for(asyncio.shield(running.ended), timeout or None)
            await asyncio.wait(outputs, timeout=_DRAIN_SECONDS)  # a child in the background may hold the pipes
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
            raise TemporaryError(f"command {' '.join(argv)!r} timed out after {timeout:g} s") from None
        finally:
            for output in outputs:
                if not output.done():
                    output.cancel()
        results = await asyncio.gather(*outputs, return_exceptions=True)
        out, err = (part if isinstance(part, bytes) else b"" for part in results)
        return ExecResult(exit_code=code, stdout=out, stderr=err)

    async def attach(self, _client: Client, id: str, stdin: bool, stdout: bool, stderr: bool) -> WithFds:
        """See ShimClient."""
        container = self._container(id)
        if not container.running or container.streams is None:
            raise UsageError(f"container {container.config.name} is not running")
        ends = container.streams.attach(stdin=stdin, stdout=stdout, stderr=stderr)
        return WithFds({"id": id, "tty": container.config.tty, "streams": list(ends)}, tuple(ends.values()))

    async def resize(self, _client: Client, id: str, width: int, height: int) -> None:
        """See ShimClient."""
        found = self._container(id).streams
        if found is not None and found.terminal >= 0 and width and height:
            termios.tcsetwinsize(found.terminal, (height, width))

    async def _exec(self, target: str, argv: tuple[str, ...], stdio: launch.Stdio, env: Mapping[str, str],
                    cwd: str) -> Running:
        if not argv:
            raise UsageError("no command to run")
        found = self._place(target) if target not in self.containers else self.containers[target]
        if isinstance(found, PodContainer):
            return await found.exec(argv, stdio, env=env, cwd=cwd)
        if isinstance(found, PodSandbox):
            raise UsageError(f"no container runs in {target}")
        return await self._exec_in_node(argv, stdio, env, cwd)

    async def _exec_in_node(self, argv: tuple[str, ...], stdio: launch.Stdio, env: Mapping[str, str],
                            cwd: str) -> Running:
        report = launch.Report()
        command = launch.Command(argv=argv, env={**self.node.env, **env}, cwd=cwd or "/root", capabilities=EVERYTHING)

        def body() -> Program | None:
            return launch.run_command(report, stdio, command)

        pid = launch.spawn(report, body, argv=argv, keep=stdio.fds())
        ended = self.node.reaper.watch(pid)
        return Running(pid, ended, await report.outcome())

    # --- images ---

    async def image_status(self, _client: Client, image: str) -> Any:
        """See ShimClient."""
        try:
            return self.node.images.find(image).info()
        except ImageNotFound:
            return None

    async def pull_image(self, _client: Client, image: str) -> str:
        """See ShimClient."""
        return self.node.images.find(image).id

    async def list_images(self, _client: Client) -> Any:
        """See ShimClient."""
        return [image.info() for image in self.node.images.all()]

    # --- places ---

    async def open_place(self, _client: Client, place: str) -> WithFds:
        """See ShimClient."""
        found = self._place(place)
        pid = 1 if found is None else found.pid
        if isinstance(found, PodSandbox):
            running = [c for c in found.containers.values() if c.running]
            pid = running[0].pid if running else found.pid
        return WithFds(None, (process.open_pidfd(pid),))

    async def netns_places(self, _client: Client) -> list[str]:
        """Return the places that `netns` answers for."""
        pods = [f"pod/{s.config.namespace}/{s.config.name}" for s in self.sandboxes.values()
                if s.ready and not s.config.host_network]
        return [f"node/{self.node.name}", *pods]

    async def netns(self, _client: Client, place: str) -> WithFds:
        """Return the network namespace of a place."""
        found = self._place(place)
        sandbox = found.sandbox if isinstance(found, PodContainer) else found
        fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC) if sandbox is None else os.dup(
            sandbox.namespaces["net"])
        info = {"inode": os.fstat(fd).st_ino}
        if sandbox is not None:
            info |= {"sandbox_id": sandbox.id, "uid": sandbox.config.uid}  # type: ignore[dict-item]
        return WithFds(info, (fd,))

    def _place(self, place: str) -> PodSandbox | PodContainer | None:
        """Return what a place means; None is the node itself."""
        kind, *rest = place.split("/")
        if kind == "node" and (not rest or rest == [self.node.name]):
            return None
        if kind == "pod" and 1 <= len(rest) <= 3:
            namespace, name = ("default", rest[0]) if len(rest) == 1 else (rest[0], rest[1])
            pods = [s for s in self.sandboxes.values() if (s.config.namespace, s.config.name) == (namespace, name)]
            if pods:
                pod = max(pods, key=lambda s: (s.ready, s.created_at))
                running = [c for c in pod.containers.values() if c.running and rest[2:] in ([], [c.config.name])]
                if running:
                    return running[0]
                if len(rest) < 3:
                    return pod
        raise NotFound(f"nothing on node {self.node.name} is {place}")

    def _sandbox(self, id: str) -> PodSandbox:
        if id not in self.sandboxes:
            raise NotFound(f"no sandbox {id}")
        return self.sandboxes[id]

    def _container(self, id: str) -> PodContainer:
        if id not in self.containers:
            raise NotFound(f"no container {id}")
        return self.containers[id]
