"""A control plane of real processes, and kubelets that only pretend: Pods become ready and go when told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from netlab.api import meta
from netlab.client.client import Client
from netlab.client.config import Config, load
from netlab.client.informer import Informer
from netlab.errors import ApiError
from netlab.lab import kubeconfig, pki

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Plane:
    """The running processes by program name."""

    directory: Path
    port: int
    config: Config
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self, program: str, *argv: str) -> None:
        """Start a program of netlab; its log goes to a file beside its data."""
        log = (self.directory / f"{program}.log").open("ab")
        self.processes[program] = subprocess.Popen(
            [sys.executable, "-m", "netlab.programs", program, *argv], cwd=ROOT, stdout=log, stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT)})

    def component(self, program: str, *argv: str) -> None:
        """Start a component with the credentials it has on a control plane node."""
        self.start(program, f"--kubeconfig={self.directory / 'kubeconfig'}", "--secure-port=0", *argv)

    def manager(self, *argv: str) -> None:
        """Start the controller manager."""
        self.component("kube-controller-manager", "--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/16",
                       f"--root-ca-file={self.directory / 'ca.crt'}", *argv,
                       f"--service-account-private-key-file={self.directory / 'sa.key'}")

    def stop(self, program: str, number: int = signal.SIGTERM) -> int:
        """End a program; return its exit code."""
        process = self.processes.pop(program)
        process.send_signal(number)
        return process.wait(10)

    def log(self, program: str) -> str:
        """Return what a program has said."""
        return (self.directory / f"{program}.log").read_text()


@contextmanager
def api_server(directory: Path, *argv: str) -> Iterator[Plane]:
    """Run an API server on a free port of the loopback, with further flags if need be."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    authority, accounts = pki.Authority("kubernetes", now=time.time()), pki.new_key_pair()
    server = authority.server("kube-apiserver", names=["127.0.0.1", "localhost"])
    admin = authority.client("kubernetes-admin", "system:masters")
    for name, content in (("ca.crt", authority.pair.certificate), ("apiserver.crt", server.certificate),
                          ("apiserver.key", server.key), ("sa.key", accounts.private), ("sa.pub", accounts.public)):
        (directory / name).write_bytes(content)
    document = kubeconfig.document(server=f"https://127.0.0.1:{port}", ca=authority.pair.certificate, name="test",
                                   user="admin", pair=admin)
    (directory / "kubeconfig").write_text(yaml.safe_dump(document))
    (directory / "admin.pem").write_bytes(admin.certificate + admin.key)
    plane = Plane(directory, port, load(str(directory / "kubeconfig")))
    plane.start("kube-apiserver", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={port}",
                f"--data-dir={directory / 'data'}", f"--client-ca-file={directory / 'ca.crt'}",
                f"--tls-cert-file={directory / 'apiserver.crt'}", f"--tls-private-key-file={directory / 'apiserver.key'}",
                f"--service-account-key-file={directory / 'sa.pub'}",
                f"--service-account-signing-key-file={directory / 'sa.key'}",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                "--service-cluster-ip-range=10.96.0.0/16", *argv)
    try:
        yield plane
    finally:
        for program in reversed(list(plane.processes)):
            plane.stop(program)


class Kubelets:
    """Registers nodes and lets the Pods bound to them run. `holds` says which Pods must not become ready."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.pods = Informer(client, "pods")
        self.pods.add_handler(self._changed)
        self.holds: Callable[[dict], bool] = lambda pod: False
        self._tasks: set[asyncio.Task] = set()
        self._count = 0

    async def register(self, name: str, *, cpu: str = "4", taints: list[dict] | None = None,
                       labels: dict[str, str] | None = None) -> None:
        """Make a node that is ready."""
        await self.client.create("nodes", {
            "apiVersion": "v1", "kind": "Node", "spec": {"taints": taints} if taints else {},
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}})
        room = {"cpu": cpu, "memory": "8Gi", "pods": "200"}
        now = meta.timestamp(time.time())
        await self.client.patch("nodes", name, {"status": {"capacity": room, "allocatable": room, "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
             "lastHeartbeatTime": now, "lastTransitionTime": now}]}}, subresource="status")
        # what a new node is tainted with goes: there may be no node lifecycle controller that sees it ready
        await self.client.patch("nodes", name, {"spec": {"taints": taints or None}})

    def release(self) -> None:
        """Let everything become ready from now on."""
        self.holds = lambda pod: False
        for pod in self.pods.all():
            self._changed(meta.key(pod), None, pod)

    def _changed(self, _key: str, _old: dict | None, new: dict | None) -> None:
        if new is None or not new["spec"].get("nodeName"):
            return
        if meta.deleting(new):
            self._start(self._finish(new))
        elif not any(row["type"] == "Ready" and row["status"] == "True"
                     for row in new.get("status", {}).get("conditions") or []) and not self.holds(new):
            self._start(self._run(new))

    def _start(self, work) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, pod: dict) -> None:
        self._count += 1
        ip, now = f"10.244.{self._count // 250}.{self._count % 250 + 1}", meta.timestamp(time.time())
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]}
        with suppress(ApiError):
            await self.client.patch("pods", meta.name(pod), {"metadata": {"uid": meta.uid(pod)}, "status": status},
                                    meta.namespace(pod), subresource="status")

    async def _finish(self, pod: dict) -> None:
        with suppress(ApiError):
            await self.client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod), grace=0)


class Cluster:
    """What a test sees: a client, kubelets, and copies of resources to wait on."""

    def __init__(self, plane: Plane, client: Client, kubelets: Kubelets) -> None:
        self.plane, self.client, self.kubelets = plane, client, kubelets
        self._informers: dict[str, Informer] = {"pods": kubelets.pods}
        self._tasks: list[asyncio.Task] = []
        self._stop = asyncio.Event()
        self._moved = asyncio.Event()

    async def see(self, resource: str) -> Informer:
        """Return a copy of a resource that is current."""
        if resource not in self._informers:
            self._informers[resource] = Informer(self.client, resource)
        informer = self._informers[resource]
        if not informer.synced.is_set():
            informer.add_handler(lambda key, old, new: self._moved.set())
            self._tasks.append(asyncio.ensure_future(informer.run(self._stop)))
            await informer.synced.wait()
        return informer

    async def until(self, what: str, condition: Callable[[], object], seconds: float = 10.0):
        """Wait until a condition over the copies holds; return its value."""
        try:
            async with asyncio.timeout(seconds):
                while not (value := condition()):
                    self._moved.clear()
                    await self._moved.wait()
                return value
        except TimeoutError:
            logs = "\n".join(f"--- {name}\n" + "\n".join(self.plane.log(name).splitlines()[-25:])
                             for name in self.plane.processes if name != "kube-apiserver")
            raise AssertionError(f"not within {seconds} s: {what}\n{logs}") from None

    async def namespace(self, name: str, *, account: bool = False) -> str:
        """Make a namespace for one test; with its service account where no controller makes that."""
        await self.client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        if account:
            await self.client.create("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount",
                                                         "metadata": {"name": "default", "namespace": name}})
        return name

    async def close(self) -> None:
        """Stop all copies."""
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def cluster(plane: Plane) -> AsyncIterator[Cluster]:
    """Connect a test to a running control plane."""
    async with Client(plane.config, "test") as client:
        assert await client.ready(asyncio.Event())
        kubelets = Kubelets(client)
        found = Cluster(plane, client, kubelets)
        await found.see("pods")
        try:
            yield found
        finally:
            await found.close()


def a_deployment(name: str, space: str, replicas: int, *, image: str = "i:1", **spec) -> dict:
    """Return a Deployment of Pods that say whose they are."""
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image, "ports": [
        {"name": "http", "containerPort": 8080}]}]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": space},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec}}
