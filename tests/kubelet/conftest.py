"""A control-plane node without a lab: a shim, the kubelet, and kube-apiserver as a static Pod, in a netns of their own."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from netlab.agnhost.main import main as agnhost
from netlab.api.meta import Object
from netlab.apiserver.main import main as apiserver
from netlab.client import config
from netlab.client.client import Client
from netlab.cni.main import install
from netlab.errors import ApiError, NetlabError
from netlab.kernel import cgroup, netns, process
from netlab.kubelet.main import main as kubelet
from netlab.lab import kubeconfig, nodefiles, plan
from netlab.runtime.node import start_node
from netlab.runtime.nodespec import NodeSpec
from netlab.runtime.shimclient import ShimClient

MARK = f"netlab-kubelet-test{os.getpid()}"
NETWORK: Object = {"cniVersion": "1.0.0", "name": "netlab", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": {
        "type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}


class Node:
    """The node, and the means to look at it from outside."""

    def __init__(self, base: Path) -> None:
        self.base, self.state = base, base / "state"
        lab = plan.make("test", workers=0)
        self.node = lab.nodes[0]
        self.name = self.node.name
        self.keys = keys = nodefiles.make_keys(now=time.time())
        nodefiles.write(self.state, lab, self.node, keys)
        self.manifests = self.state / "etc/kubernetes/manifests"
        for file in self.manifests.iterdir():
            if file.stem != "kube-apiserver":
                file.unlink()
        install(str(self.state / "opt/cni/bin"))
        self.kubeconfig = base / "admin.conf"
        self.kubeconfig.write_text(kubeconfig.text(kubeconfig.document(
            server=lab.api_url, ca=keys.ca.pair.certificate, name="test", user="admin", pair=keys.admin)))
        self.netns = netns.new_netns()
        with netns.inside(self.netns):
            for command in ("link set lo up", "link add eth0 type veth peer name fabric", "link set fabric up",
                            f"addr add {self.node.ip}/16 dev eth0", "link set eth0 up", "route add default via 172.18.0.1"):
                subprocess.run(["ip", *command.split()], check=True)
        spec = NodeSpec(lab="test", name=self.name, netns_fd=self.netns, state_dir=self.state, socket=base / "shim.sock",
                        kubelet_argv=nodefiles.kubelet_argv(self.node), env=nodefiles.environment(lab, self.node),
                        cgroup=f"{MARK}/node")
        programs = {"kubelet": kubelet, "kube-apiserver": apiserver, "agnhost": agnhost}
        self.shim = process.open_pidfd(start_node(spec, programs))
        self.runner = asyncio.Runner()

    def close(self) -> None:
        """Crash the node and take everything away."""
        self.runner.close()
        process.send(self.shim, signal.SIGKILL)
        select.select([self.shim], [], [], 10)
        os.close(self.shim)
        os.close(self.netns)
        cgroup.remove(MARK)

    def add_network(self) -> None:
        """Give the node its network configuration, as netd would."""
        self.write_network(NETWORK)

    def write_network(self, conflist: Object) -> None:
        """Write a network configuration, in one piece."""
        file = self.state / "etc/cni/net.d/10-test.conflist"
        file.with_suffix(".new").write_text(json.dumps(conflist))
        file.with_suffix(".new").rename(file)

    def run(self, body: Callable[[Api], Awaitable[Any]]) -> Any:
        """Run `async body(api)` in the node's network."""
        async def main() -> Any:
            async with asyncio.timeout(60), Client(config.load(str(self.kubeconfig))) as client:
                return await body(Api(self, client))

        with netns.inside(self.netns):
            return self.runner.run(main())

    def kubectl(self, *argv: str, input: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run the real kubectl."""
        with netns.inside(self.netns):
            return subprocess.run([self.kubectl_path, "--kubeconfig", str(self.kubeconfig), *argv], input=input,
                                  capture_output=True, timeout=40, check=False,
                                  env={**os.environ, "HOME": str(self.base), **(env or {})})

    @property
    def kubectl_path(self) -> str:
        return str(Path(sys.executable).parent / "kubectl")

    async def pid_of(self, name: str) -> int:
        """Return the pid, in the node, of a process by its name."""
        found = await self.exec("sh", "-c", 'for p in /proc/[0-9]*; do [ "$(tr "\\0" " " < $p/cmdline | cut -d" " -f1)" = '
                                            f'{name} ] && echo ${{p#/proc/}}; done; true')
        return int(found.split()[0])

    async def exec(self, *argv: str) -> str:
        """Run a command in the node; its output."""
        async with ShimClient(self.base / "shim.sock") as shim:
            streams = await shim.exec("node", argv)
            try:
                with open(streams.stdout, closefd=False) as file:
                    out = await asyncio.to_thread(file.read)
                await streams.wait()
                return out
            finally:
                streams.close()


class Api:
    """The API server, with words for tests."""

    def __init__(self, node: Node, client: Client) -> None:
        self.node, self.client = node, client

    async def create(self, name: str, *containers: Object, **spec: Any) -> Object:
        """Create a Pod that is bound to the node."""
        return await self.client.create("pods", {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": self.node.name, "terminationGracePeriodSeconds": 1, **spec,
                     "containers": [{"imagePullPolicy": "IfNotPresent", **c} for c in containers]}}, "default")

    async def until(self, name: str, holds: Callable[[Object], Any], *, namespace: str = "default") -> Object:
        """Return the Pod as soon as `holds(pod)` is true; fails with its status after 20 s."""
        last: Object = {}
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        items, revision = await self.client.list("pods", namespace, fields=f"metadata.name={name}")
                        for item in items:
                            last = item
                            if holds(item):
                                return item
                        async for _, item in self.client.watch("pods", namespace, fields=f"metadata.name={name}",
                                                               revision=revision):
                            last = item
                            if holds(item):
                                return item
                    except NetlabError:
                        await asyncio.sleep(0.05)  # the API server itself is a Pod that tests kill
        except TimeoutError:
            raise AssertionError(f"{name} never came to it: {json.dumps(last.get('status'), indent=1)}") from None

    async def running(self, name: str, **kinds: Any) -> Object:
        """Return the Pod once it is Ready."""
        return await self.until(name, ready, **kinds)

    async def gone(self, name: str, namespace: str = "default") -> None:
        """Wait until the Pod is no more."""
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.client.get("pods", name, namespace)
                except ApiError as error:
                    if error.code == 404:
                        return
                await asyncio.sleep(0.02)

    async def delete(self, name: str, **options: Any) -> None:
        """Delete a Pod and wait until it is gone."""
        await self.client.delete("pods", name, "default", **options)
        await self.gone(name)

    async def events(self, name: str, *reasons: str) -> list[Object]:
        """Return the Pod's events once there is one of each of these reasons."""
        async with asyncio.timeout(20):
            while True:
                found, _ = await self.client.list("events", "default", fields=f"involvedObject.name={name}")
                if set(reasons) <= {e["reason"] for e in found}:
                    return found
                await asyncio.sleep(0.05)


async def eventually(check: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> Any:
    """Return the first true answer of `check`."""
    async with asyncio.timeout(seconds):
        while True:
            if answer := await check():
                return answer
            await asyncio.sleep(0.05)


def ready(pod: Object) -> bool:
    """Tell whether a Pod is Ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions") or [])


def state(pod: Object, container: int = 0) -> str:
    """Return a container's state in one word: the waiting or ending reason, or `running`."""
    rows = pod.get("status", {}).get("containerStatuses") or []
    if len(rows) <= container:
        return ""
    (kind, body), = rows[container]["state"].items()
    return str(body.get("reason", kind)) if kind != "running" else kind


def shell(script: str, name: str = "c", **fields: Any) -> Object:
    """Return a container that runs a shell script."""
    return {"name": name, "image": "busybox", "command": ["sh", "-c", script], **fields}


@asynccontextmanager
async def pod(api: Api, name: str, *containers: Object, **spec: Any) -> AsyncIterator[Object]:
    """A Pod for the time of the body."""
    made = await api.create(name, *containers, **spec)
    try:
        yield made
    finally:
        try:
            await api.delete(name, grace=0)
        except ApiError as error:
            if error.code != 404:
                raise


def alone() -> None:
    """Wait for the threads that earlier tests of this process left: a node is forked, and only one thread may fork."""
    for _ in range(100):
        if len(os.listdir("/proc/self/task")) == 1:
            return
        gc.collect()  # an executor that nobody holds any more ends its threads when it is collected
        time.sleep(0.1)
    raise AssertionError(f"threads are left: {threading.enumerate()}")


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose network is not configured yet."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    alone()
    node = Node(tmp_path_factory.mktemp("node"))
    try:
        yield node
    finally:
        node.close()


@pytest.fixture(scope="session")
def node(booted: Node) -> Node:
    """A node that runs Pods, with what controllers would have made in the namespace default."""
    async def prepare(api: Api) -> None:
        await api.running(f"kube-apiserver-{booted.name}", namespace="kube-system")
        for kind, body in (("serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": "default"}}),
                           ("configmaps", {"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"},
                                           "data": {"ca.crt": "the CA"}})):
            await api.client.create(kind, {"apiVersion": "v1", **body}, "default")
        await api.client.create("clusterrolebindings.rbac.authorization.k8s.io", {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "kubeadm:cluster-admins"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins"}]})
        booted.add_network()

    booted.run(prepare)
    return booted
