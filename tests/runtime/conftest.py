"""A node without a cluster: a shim in namespaces of its own, with a kubelet that only waits."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.errors import KernelError
from netlab.kernel import cgroup, netns, process
from netlab.runtime.cri import ContainerConfig, SandboxConfig
from netlab.runtime.nodespec import NodeSpec
from netlab.runtime.shimclient import ShimClient

MARK = f"netlab-test{os.getpid()}"
ROOTLESS = os.environ.get("NETLAB_TEST_ROOTLESS") == "1"


class Template:
    """The process that nodes are forked from."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = subprocess.Popen([sys.executable, "-m", "tests.runtime.template", str(theirs.fileno())],
                                        pass_fds=[theirs.fileno()], cwd=Path(__file__).parents[2])
        theirs.close()

    def start(self, spec: NodeSpec, programs: tuple[str, ...]) -> int:
        socket.send_fds(self.sock, [pickle.dumps((spec, programs))], [spec.netns_fd])
        answer = pickle.loads(self.sock.recv(1 << 16))
        if isinstance(answer, str):
            raise KernelError(answer)
        return answer

    def stop(self) -> None:
        self.sock.close()
        self.process.wait(10)


@functools.cache
def template() -> Template:
    made = Template()
    atexit.register(made.stop)
    return made


class Node:
    """A running node, and a loop to talk to it in."""

    def __init__(self, spec: NodeSpec, pid: int) -> None:
        self.spec, self.pid = spec, pid
        self.pidfd = process.open_pidfd(pid)
        self.runner = asyncio.Runner()

    def kill(self) -> None:
        process.send(self.pidfd, signal.SIGKILL)
        select.select([self.pidfd], [], [], 10)
        self.runner.close()
        os.close(self.pidfd)

    def run(self, body):
        """Run `async body(client)` to its end."""
        async def with_client():
            async with ShimClient(self.spec.socket) as client:
                return await asyncio.wait_for(body(client), 30)

        return self.runner.run(with_client())

    def host_path(self, path: str) -> Path:
        """Return where a path of the node's /etc, /var, /opt or /root lies on the host."""
        return self.spec.state_dir / path.lstrip("/")


def make(tmp: Path, name: str, *, mark: str = MARK, programs: tuple[str, ...] = ("kubelet", "agnhost"),
         **fields) -> Node:
    netns_fd = netns.new_netns()
    try:
        spec = NodeSpec(lab="test", name=name, netns_fd=netns_fd, state_dir=tmp / "state", socket=tmp / "shim.sock",
                        kubelet_argv=("--v=2",), cgroup="" if ROOTLESS else f"{mark}/{name}",
                        rootless=ROOTLESS, **fields)
        return Node(spec, template().start(spec, programs))
    finally:
        os.close(netns_fd)


@pytest.fixture(scope="session")
def node(tmp_path_factory) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root, or a user namespace")
    tmp = tmp_path_factory.mktemp("node")
    node = make(tmp, "worker1", image_store=tmp / "images")
    yield node
    node.kill()
    cgroup.remove(MARK)


_names = iter(range(10**6))


def pod(**fields) -> SandboxConfig:
    """Return a sandbox config of its own name."""
    number = next(_names)
    return SandboxConfig(**{"name": f"pod-{number}", "uid": f"uid-{number}", "namespace": "default", **fields})


def container(*argv: str, image: str = "busybox", **fields) -> ContainerConfig:
    """Return a config of a container that runs `argv`."""
    return ContainerConfig(**{"name": "main", "image": image, "command": argv, **fields})


async def started(client: ShimClient, *argv: str, sandbox: SandboxConfig | None = None, **fields) -> str:
    """Start a container in a sandbox of its own and return its id."""
    box = await client.run_pod_sandbox(sandbox or pod())
    main = await client.create_container(box.id, container(*argv, **fields))
    await client.start_container(main)
    return main


async def ended(client: ShimClient, main: str):
    """Wait for a container's end and return its status."""
    await client.wait(main)
    return await client.container_status(main)


async def output(client: ShimClient, main: str, *argv: str) -> str:
    """Run a command in a container and return what it printed."""
    result = await client.exec_sync(main, argv, 10)
    assert result.exit_code == 0, result
    return result.stdout.decode()


async def read_some(fd: int) -> bytes:
    """Read what comes next of a descriptor; nothing at its end (a terminal ends with EIO)."""
    os.set_blocking(fd, False)
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        while True:
            try:
                return os.read(fd, 1 << 16)
            except BlockingIOError:
                ready.clear()
                await ready.wait()
    except OSError:
        return b""
    finally:
        loop.remove_reader(fd)


async def read_all(fd: int) -> bytes:
    """Read a descriptor to its end."""
    data = b""
    while part := await read_some(fd):
        data += part
    return data


async def read_until(fd: int, wanted: bytes) -> bytes:
    """Read a descriptor until `wanted` came."""
    data = b""
    while wanted not in data:
        part = await asyncio.wait_for(read_some(fd), 10)
        assert part, data
        data += part
    return data


def eventually(check, seconds: float = 10.0):
    """Return the first true answer of `check`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := check():
            return answer
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {check}")
