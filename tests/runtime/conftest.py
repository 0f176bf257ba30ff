"""A node without a cluster: a shim in namespaces of its own, with a kubelet that only waits."""

import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.kernel import cgroup, netns, process
from netlab.runtime.node import start_node
from netlab.runtime.nodespec import NodeSpec
from netlab.runtime.shimclient import ShimClient

MARK = f"netlab-test{os.getpid()}"


def kubelet(argv: list[str]) -> int:
    """Say that we live, and wait."""
    print("kubelet", *argv, flush=True)
    Path("/run/kubelet.pid").write_text(str(os.getpid()))
    signal.sigwait({signal.SIGTERM})
    return 0


def agnhost(argv: list[str]) -> int:
    """Print the arguments; "pause" waits for SIGTERM, "exit N" gives N."""
    print("agnhost", *argv)
    print("to stderr", file=sys.stderr)
    if argv[:1] == ["pause"]:
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
        while not stopped:
            signal.pause()
    if argv[:1] == ["exit"]:
        return int(argv[1])
    return 0


class Node:
    """A running node and a loop to talk to it in."""

    def __init__(self, spec: NodeSpec, pid: int) -> None:
        self.spec, self.pid = spec, pid
        self.pidfd = process.open_pidfd(pid)
        self.runner = asyncio.Runner()

    def kill(self) -> None:
        process.send(self.pidfd, signal.SIGKILL)
        select.select([self.pidfd], [], [], 10)

    def run(self, body):
        """Run `async body(client)` to its end."""
        async def with_client():
            async with ShimClient(self.spec.socket) as client:
                return await body(client)

        return self.runner.run(with_client())


def make(tmp: Path, name: str, **fields) -> Node:
    netns_fd = netns.new_netns()
    try:
        spec = NodeSpec(lab="test", name=name, netns_fd=netns_fd, state_dir=tmp / "state", socket=tmp / "shim.sock",
                        kubelet_argv=("--v=2",), **{"cgroup": f"{MARK}/{name}", **fields})
        return Node(spec, start_node(spec, {"kubelet": kubelet, "agnhost": agnhost}))
    finally:
        os.close(netns_fd)


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    tmp = tmp_path_factory.mktemp("node")
    node = make(tmp, "worker1", image_store=tmp / "images")
    yield node
    node.runner.close()
    node.kill()
    cgroup.remove(MARK)


def eventually(check, seconds: float = 5.0):
    """Return the first true answer of `check`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := check():
            return answer
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {check}")
