"""How the kubelet (and, from the host, the command line) talks to a node's shim.

One connection, many calls at once; see `wire` for the protocol and `cri` for the words. Every call raises
`errors.TemporaryError` when the shim is gone or the connection breaks, `errors.NotFound` for an unknown id, and else
what the shim says. Descriptors that a call returns belong to the caller.
"""

from __future__ import annotations

import asyncio
import os
import socket
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from netlab.errors import NetlabError, TemporaryError
from netlab.runtime.cri import (
    Container,
    ContainerConfig,
    Event,
    ExecResult,
    ImageInfo,
    Resources,
    Sandbox,
    SandboxConfig,
    Stats,
    from_wire,
    to_wire,
)
from netlab.runtime.wire import Channel, error_from_wire


@dataclass(frozen=True)
class NetnsEntry:
    """A network namespace of the node. `place` is "node/NAME" or "pod/NS/NAME"; `fd` is the caller's.

    `info` of a Pod: {"sandbox_id", "uid", "inode"}; of the node: {"inode"}. Pods on the host's network are left out.
    """

    place: str
    fd: int
    info: dict[str, Any] = field(default_factory=dict)


@dataclass
class Streams:
    """The streams of an exec or attach. Descriptors are -1 where there is none; close them when done.

    With a terminal, `stdin` and `stdout` are two descriptors of the same thing. stdout and stderr end (EOF, or EIO
    for a terminal) when the last process that has them ends. Close `stdin` to send the end of input (not for ttys).
    """

    id: str
    tty: bool
    stdin: int
    stdout: int
    stderr: int
    client: ShimClient

    async def wait(self) -> int:
        """Wait for the command (for attach: the container) to end and return its exit code, 128+n for signal n."""
        return await self.client.wait(self.id)

    async def resize(self, width: int, height: int) -> None:
        """Set the terminal's size in characters."""
        if self.stdin >= 0 and os.isatty(self.stdin):
            termios.tcsetwinsize(self.stdin, (height, width))
        else:
            await self.client.call("resize", id=self.id, width=width, height=height)

    def close(self) -> None:
        """Close what is still open of the three."""
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = -1


class ShimClient:
    """A client of one shim. Connects at the first call and again after a break.

    Args:
        path: NodeSpec.socket on the host, `nodespec.SHIM_SOCKET` inside the node.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._channel: Channel | None = None
        self._waiting: dict[int, asyncio.Future[tuple[Any, list[int]]]] = {}
        self._next = 0
        self._events: list[asyncio.Queue[Event | None]] = []
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect, unless connected."""
        async with self._connecting:
            if self._channel is not None:
                return
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                sock.connect(short_path(self.path))
            except OSError as error:
                sock.close()
                raise TemporaryError(f"no shim answers at {self.path}: {error.strerror}",
                                     hint="the node is down") from None
            self._channel = Channel(sock, self._message, self._gone)

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        if self._channel is not None:
            self._channel.close()

    async def call(self, name: str, **args: Any) -> Any:
        """Make one call and return its result; descriptors that come with the answer are closed."""
        result, fds = await self.call_fds(name, **args)
        for fd in fds:
            os.close(fd)
        return result

    async def call_fds(self, name: str, **args: Any) -> tuple[Any, list[int]]:
        """Make one call and return its result and descriptors."""
        await self.connect()
        channel = self._channel
        if channel is None:
            raise TemporaryError("the shim closed the connection")
        self._next += 1
        number = self._next
        future: asyncio.Future[tuple[Any, list[int]]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        channel.send({"id": number, "call": name, "args": to_wire(args)})
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    def _message(self, message: dict[str, Any], fds: list[int]) -> None:
        if "event" in message:
            event = from_wire(Event, message["event"])
            for queue in self._events:
                queue.put_nowait(event)
            return
        future = self._waiting.get(message.get("id", 0))
        if future is None or future.done():
            for fd in fds:
                os.close(fd)
        elif "error" in message:
            future.set_exception(error_from_wire(message["error"]))
        else:
            future.set_result((message.get("result"), fds))

    def _gone(self) -> None:
        self._channel = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(TemporaryError("the shim closed the connection"))
        for queue in self._events:
            queue.put_nowait(None)

    # --- node ---

    async def version(self) -> dict[str, str]:
        """Return {"name": "netlab", "version": ..., "node": ..., "lab": ...}."""
        return dict(await self.call("version"))

    async def open_place(self, place: str) -> int:
        """Return a pidfd of "node" (also "node/NAME"), "pod/NS/NAME" or "pod/NS/NAME/CONTAINER".

        For a Pod without a container it is its first running container's, or pause's. Good for setns(2) into all its
        namespaces at once.
        """
        _, fds = await self.call_fds("open_place", place=place)
        return fds[0]

    async def netns_fds(self) -> list[NetnsEntry]:
        """Return the node's network namespace and those of its Pods, to trace in."""
        entries: list[NetnsEntry] = []
        for place in await self.call("netns_places"):
            try:
                info, fds = await self.call_fds("netns", place=place)
            except NetlabError:  # removed since it was listed
                continue
            entries.append(NetnsEntry(place, fds[0], info))
        return entries

    async def events(self) -> AsyncIterator[Event]:
        """Yield what happens from now on; ends when the connection does. List again after subscribing: an event only
        says which id to look at.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._events.append(queue)
        try:
            await self.call("subscribe")
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._events.remove(queue)

    # --- sandboxes ---

    async def run_pod_sandbox(self, config: SandboxConfig) -> Sandbox:
        """Make a sandbox: its namespaces, and pause in them. Loopback is up; the rest of the network is CNI's."""
        return from_wire(Sandbox, await self.call("run_pod_sandbox", config=config))

    async def stop_pod_sandbox(self, id: str) -> None:
        """Kill the sandbox's containers and pause. The netns stays (for CNI DEL) until it is removed. Idempotent."""
        await self.call("stop_pod_sandbox", id=id)

    async def remove_pod_sandbox(self, id: str) -> None:
        """Stop, if need be, and forget the sandbox and its containers. Idempotent."""
        await self.call("remove_pod_sandbox", id=id)

    async def pod_sandbox_status(self, id: str) -> Sandbox:
        """Return one sandbox."""
        return from_wire(Sandbox, await self.call("pod_sandbox_status", id=id))

    async def list_pod_sandboxes(self, labels: Mapping[str, str] | None = None) -> list[Sandbox]:
        """Return the sandboxes that have all these labels, oldest first."""
        return [from_wire(Sandbox, s) for s in await self.call("list_pod_sandboxes", labels=labels or {})]

    # --- containers ---

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        """Check the config, resolve the image, and return the new container's id. Nothing runs yet.

        Raises:
            ImageNotFound: no such image.
            Unsupported: something this node can't do, such as runAsUser where only uid 0 is mapped.
        """
        return str(await self.call("create_container", sandbox_id=sandbox_id, config=config))

    async def start_container(self, id: str) -> None:
        """Start a created container.

        Raises:
            StartRefused: the message is what Kubernetes shows; the container is then exited with reason StartError.
        """
        await self.call("start_container", id=id)

    async def stop_container(self, id: str, timeout: float = 0) -> None:
        """Send SIGTERM, after `timeout` seconds SIGKILL, and return when it is dead. Idempotent."""
        await self.call("stop_container", id=id, timeout=timeout)

    async def kill_container(self, id: str, signal: int) -> None:
        """Send a signal to the container's first process."""
        await self.call("kill_container", id=id, signal=signal)

    async def remove_container(self, id: str) -> None:
        """Forget a container and its writable layer, killing it first if it runs. Its log stays. Idempotent."""
        await self.call("remove_container", id=id)

    async def list_containers(self, sandbox_id: str = "") -> list[Container]:
        """Return the containers (of one sandbox), oldest first."""
        return [from_wire(Container, c) for c in await self.call("list_containers", sandbox_id=sandbox_id)]

    async def container_status(self, id: str) -> Container:
        """Return one container."""
        return from_wire(Container, await self.call("container_status", id=id))

    async def update_container_resources(self, id: str, resources: Resources) -> None:
        """Set other limits on a container."""
        await self.call("update_container_resources", id=id, resources=resources)

    async def container_stats(self, id: str) -> Stats:
        """Return what a running container uses."""
        return from_wire(Stats, await self.call("container_stats", id=id))

    async def list_container_stats(self) -> list[Stats]:
        """Return what every running container uses."""
        return [from_wire(Stats, s) for s in await self.call("list_container_stats")]

    async def wait(self, id: str) -> int:
        """Wait for a container's end and return its exit code, 128+n for signal n."""
        return int(await self.call("wait", id=id))

    async def reopen_container_log(self, id: str) -> None:
        """Open the log file anew, after it was renamed."""
        await self.call("reopen_container_log", id=id)

    # --- streams ---

    async def exec_sync(self, id: str, argv: Sequence[str], timeout: float = 0) -> ExecResult:
        """Run a command in a container to its end. Output beyond 16 MiB is dropped.

        Raises:
            TemporaryError: it took longer than `timeout` seconds (0: no limit) and was killed.
            StartRefused: it is not there, or can't be executed.
        """
        return from_wire(ExecResult, await self.call("exec_sync", id=id, argv=list(argv), timeout=timeout))

    async def exec(self, target: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False,
                   stderr: bool = True, env: Mapping[str, str] | None = None, cwd: str = "", width: int = 0,
                   height: int = 0) -> Streams:
        """Start a command. `target` is a container's id or a place ("node", "pod/NS/NAME[/CONTAINER]").

        The caller holds the pipes' (or the terminal's) other ends: nothing passes through the shim. With `tty` there
        is one stream both ways and no stderr.

        Raises:
            StartRefused: it is not there, or can't be executed.
        """
        result, fds = await self.call_fds("exec", target=target, argv=list(argv), tty=tty, stdin=stdin, stderr=stderr,
                                          env=dict(env or {}), cwd=cwd, width=width, height=height)
        return self._streams(result, fds)

    async def attach(self, id: str, *, stdin: bool = False, stdout: bool = True, stderr: bool = True) -> Streams:
        """Join the streams of a running container. A client that reads too slowly is cut off, never waited for."""
        result, fds = await self.call_fds("attach", id=id, stdin=stdin, stdout=stdout, stderr=stderr)
        return self._streams(result, fds)

    async def resize(self, id: str, width: int, height: int) -> None:
        """Set the size of a container's terminal in characters."""
        await self.call("resize", id=id, width=width, height=height)

    def _streams(self, result: Mapping[str, Any], fds: list[int]) -> Streams:
        named = dict(zip(result["streams"], fds, strict=True))
        return Streams(result["id"], result["tty"], named.get("stdin", -1), named.get("stdout", -1),
                       named.get("stderr", -1), self)

    # --- images ---

    async def image_status(self, image: str) -> ImageInfo | None:
        """Return the image, or None when the node has none of that name."""
        found = await self.call("image_status", image=image)
        return None if found is None else from_wire(ImageInfo, found)

    async def pull_image(self, image: str) -> str:
        """Return the image's id.

        Raises:
            ImageNotFound: nothing is downloaded, so what is neither built in nor loaded can't be had; the message
                says what to do.
        """
        return str(await self.call("pull_image", image=image))

    async def list_images(self) -> list[ImageInfo]:
        """Return the built-in and the loaded images."""
        return [from_wire(ImageInfo, i) for i in await self.call("list_images")]


def short_path(path: Path) -> str:
    """Return a name of the socket that fits into sockaddr_un (108 bytes), by way of its directory if need be."""
    text = os.fspath(path)
    if len(os.fsencode(text)) < 108:
        return text
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    _directories.append(directory)
    return f"/proc/self/fd/{directory}/{path.name}"


_directories: list[int] = []  # kept open: the short name goes through them
