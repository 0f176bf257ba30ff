"""The API server in figures: requests per second, latency, watches, memory, time to ready; with Pods of 1.7 kB.

Each store is measured in the same run by the same client: this process's own disk with synchronous FULL (what an etcd
promises) and NORMAL, and a real etcd where one is installed. Client and server share the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netlab.client import tls
from netlab.errors import TemporaryError
from netlab.lab import bound, load
from netlab.lab.load import Target, Watcher
from netlab.lab.nodefiles import make_keys

Row = dict[str, Any]
STORES = ("full", "normal", "etcd")
CLIENTS = (1, 8, 64)
_PODS = "/api/v1/namespaces/default/pods"
_READY_SECONDS = 30.0
_WATCHERS, _WRITES, _SECONDS = 1000, 100, 3
"""Watchers, writes per second, and for how long: bounded, since each write is told to all of them."""
_NAMES = {"full": "own store, synchronous FULL", "normal": "own store, synchronous NORMAL", "etcd": "etcd"}


@dataclass(frozen=True)
class Sizes:
    """How much is done for each figure."""

    writes: int = 400
    reads: int = 2000
    lists: int = 10
    watched: int = 100
    pods: tuple[int, ...] = (1000, 5000)
    watchers: int = _WATCHERS


def run(*, repeat: int = 3, stores: tuple[str, ...] = STORES, sizes: Sizes = Sizes()) -> Iterator[Row]:
    """Measure each store.

    Args:
        repeat: starts that the time to ready is the median of.
        stores: full, normal, etcd; an etcd that is not installed is left out.
        sizes: how much is done.

    Yields:
        Rows of {"what", "value", "unit", "note"}; `note` names the store.
    """
    for store in stores:
        if store == "etcd" and shutil.which("etcd") is None:
            continue
        yield from asyncio.run(_measure(store, repeat, sizes))


async def _measure(store: str, repeat: int, sizes: Sizes) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="netlab-bench-") as folder:
        bench = _Bench(Path(folder), store)
        rows: list[Row] = []

        def add(what: str, value: float, unit: str, note: str = "") -> None:
            rows.append({"what": what, "value": round(value, 1 if value >= 10 else 3), "unit": unit,
                         "note": f"{_NAMES[store]}{f'; {note}' if note else ''}"})

        async with bench.etcd():
            ready = []
            for _ in range(repeat):
                async with bench.server() as (_, took):
                    ready.append(took)
            add("time to ready", statistics.median(ready), "s", "a new interpreter; in a lab it is forked")
            async with bench.server() as (target, _):
                await _requests(target, sizes, add)
                await _lists(target, sizes, add)
                await _watches(target, sizes, add)
                add("memory", bench.memory(), "MiB", f"with {max(sizes.pods)} Pods; proportional set size")
        return rows


async def _requests(target: Target, sizes: Sizes, add: Any) -> None:
    for clients in CLIENTS:
        count = sizes.writes if clients == 1 else sizes.writes * 2
        names = [f"c{clients}-{number}" for number in range(count)]
        made = await load.run(target, clients, [target.request("POST", _PODS, _pod(name)) for name in names])
        _rate(add, "create", clients, made)
        _rate(add, "get", clients, await load.run(target, clients, [
            target.request("GET", f"{_PODS}/{random.choice(names)}") for _ in range(sizes.reads)]))
        found = await load.bodies(target, [target.request("GET", f"{_PODS}/{name}") for name in names])
        changed = [target.request("PUT", f"{_PODS}/{name}", _relabelled(body))
                   for name, body in zip(names, found, strict=True)]
        _rate(add, "update", clients, await load.run(target, clients, changed))
        _rate(add, "merge patch", clients, await load.run(target, clients, [
            target.request("PATCH", f"{_PODS}/{name}", b'{"metadata":{"labels":{"v":"3"}}}',
                           "application/merge-patch+json") for name in names]))
        await load.run(target, 8, [target.request("DELETE", f"{_PODS}/{name}?gracePeriodSeconds=0") for name in names])


def _rate(add: Any, what: str, clients: int, result: load.Result) -> None:
    note = f"p99 {result.percentile(0.99) * 1000:.2f} ms" + (f", {result.failed} FAILED" if result.failed else "")
    add(f"{what}, {clients} client{'s' if clients > 1 else ''}", result.rate, "/s", note)


async def _lists(target: Target, sizes: Sizes, add: Any) -> None:
    made = 0
    for count in sizes.pods:
        await load.run(target, 16, [target.request("POST", _PODS, _pod(f"l{number}")) for number in range(made, count)])
        made = count
        result = await load.run(target, 1, [target.request("GET", _PODS)] * sizes.lists)
        add(f"list of {count} Pods", result.rate, "/s", f"p99 {result.percentile(0.99) * 1000:.1f} ms")


async def _watches(target: Target, sizes: Sizes, add: Any) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    request = target.request("GET", f"{path}?watch=1&resourceVersion=0")
    watcher = await target.connect(lambda: Watcher(request, timed=True))
    assert isinstance(watcher, Watcher)
    await asyncio.sleep(0.2)  # what is there already
    watcher.times.clear()
    made = await load.run(target, 1, [target.request("POST", path, _config(f"w{number}"))
                                      for number in range(sizes.watched)])
    await watcher.seen(sizes.watched)
    latencies = sorted(at - sent for at, sent in zip(watcher.times, made.sent, strict=False))
    watcher.close()
    add("POST to watch event", statistics.median(latencies) * 1000, "ms",
        f"p99 {latencies[int(len(latencies) * 0.99)] * 1000:.2f} ms")
    await _many(target, sizes.watchers, add)


async def _many(target: Target, watchers: int, add: Any) -> None:
    """Have many watchers see every write of a steady stream."""
    path = "/api/v1/namespaces/kube-public/configmaps"
    await load.run_one(target, target.request("POST", path, _config("c", "kube-public")))
    request = target.request("GET", f"{path}?watch=1")
    opened: list[Watcher] = []
    for number in range(watchers):
        one = await target.connect(lambda number=number: Watcher(request, timed=number % 100 == 0))  # type: ignore[misc]
        assert isinstance(one, Watcher)
        opened.append(one)
    await _until(lambda: all(one.lines for one in opened))
    before = [one.lines for one in opened]
    sent: list[float] = []
    for one in opened:
        one.times.clear()
    begun = time.perf_counter()
    for number in range(_WRITES * _SECONDS):
        wait = begun + number / _WRITES - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        sent.append(time.perf_counter())
        await load.run_one(target, target.request("PUT", f"{path}/c", _config("c", "kube-public", str(number))))
    await _until(lambda: all(one.lines - was >= len(sent) for one, was in zip(opened, before, strict=True)))
    seconds = time.perf_counter() - begun
    late = sorted(at - when for one in opened if one.times for at, when in zip(one.times, sent, strict=False))
    for one in opened:
        one.close()
    add(f"{watchers} watchers, {_WRITES} writes/s wanted", len(sent) / seconds, "/s",
        f"{len(sent) * watchers / seconds:.0f} events/s, p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms")


async def _until(true: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TemporaryError(f"the watches are not served within {seconds:g} s")
        await asyncio.sleep(0.01)


class _Bench:
    """A folder, keys, and servers started with them."""

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store = folder, store
        self.pid = 0
        self._etcd = ""
        keys = make_keys(now=time.time())
        server = keys.ca.server("kube-apiserver", names=["127.0.0.1"])
        self._files = {"ca.crt": keys.ca.pair.certificate, "tls.crt": server.certificate, "tls.key": server.key,
                       "sa.key": keys.service_accounts.private, "sa.pub": keys.service_accounts.public}
        for name, content in self._files.items():
            (folder / name).write_bytes(content)
        self._context = tls.client_context(ca=keys.ca.pair.certificate, certificate=keys.admin.certificate,
                                           key=keys.admin.key, insecure=False)

    @contextlib.asynccontextmanager
    async def etcd(self) -> AsyncIterator[None]:
        """Run a real etcd, where that is what is measured."""
        path = shutil.which("etcd")
        if self.store != "etcd" or path is None:
            yield
            return
        client, peer = _port(), _port()
        self._etcd = f"http://127.0.0.1:{client}"
        pid = bound.spawn([path, f"--data-dir={self.folder}/etcd", f"--listen-client-urls={self._etcd}",
                      f"--advertise-client-urls={self._etcd}",
                      f"--listen-peer-urls=http://127.0.0.1:{peer}",
                      f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                      f"--initial-cluster=default=http://127.0.0.1:{peer}"])
        try:
            yield
        finally:
            _end(pid)

    @contextlib.asynccontextmanager
    async def server(self) -> AsyncIterator[tuple[Target, float]]:
        """Run an API server; yields how to reach it and the seconds until it said that it is ready."""
        port, folder = _port(), self.folder
        code = ("import sys; sys.path.insert(0, sys.argv.pop(1)); from netlab.programs import main; "
                "sys.exit(main(sys.argv[1:]))")
        root = str(Path(__file__).resolve().parents[2])
        keep = [f"--etcd-servers={self._etcd}"] if self._etcd else [
            f"--data-dir={folder / 'data'}", f"--store-synchronous={self.store}"]
        begun = time.perf_counter()
        self.pid = bound.spawn([
            sys.executable, "-I", "-c", code, root, "kube-apiserver", "--bind-address=127.0.0.1",
            f"--secure-port={port}", f"--client-ca-file={folder}/ca.crt", f"--tls-cert-file={folder}/tls.crt",
            f"--tls-private-key-file={folder}/tls.key", f"--service-account-key-file={folder}/sa.pub",
            f"--service-account-signing-key-file={folder}/sa.key", "--authorization-mode=Node,RBAC",
            "--disable-admission-plugins=ServiceAccount", *keep])
        target = Target("127.0.0.1", port, self._context)
        try:
            await _ready(target, begun)
            yield target, time.perf_counter() - begun
        finally:
            _end(self.pid)

    def memory(self) -> float:
        """Return the API server's proportional set size in MiB; an etcd comes on top."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
        return 0.0


async def _ready(target: Target, begun: float) -> None:
    while True:
        with contextlib.suppress(OSError):
            if not (await load.run_one(target, target.request("GET", "/readyz"))).failed:
                return
        if time.perf_counter() - begun > _READY_SECONDS:
            raise TemporaryError(f"the API server is not ready after {_READY_SECONDS:g} s")
        await asyncio.sleep(0.005)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def _port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _pod(name: str, version: str = "1") -> bytes:
    """Return a Pod of 1.7 kB."""
    container = {
        "name": "app", "image": "registry.example.com/team/app:1.2.3", "args": ["--listen=:8080", "--log-level=info"],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{number}", "value": f"value-of-setting-{number}"} for number in range(12)],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": name, "namespace": "default", "labels": {"app": "bench", "v": version},
        "annotations": {"note": "x" * 240}}, "spec": {"containers": [container], "nodeSelector": {"disk": "ssd"}}}
    return json.dumps(pod).encode()


def _relabelled(pod: bytes) -> bytes:
    """Return a Pod as it was read, with a label changed and no revision to insist on."""
    obj = json.loads(pod)
    del obj["metadata"]["resourceVersion"]
    obj["metadata"]["labels"]["v"] = "2"
    return json.dumps(obj).encode()


def _config(name: str, namespace: str = "default", value: str = "1") -> bytes:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace},
                       "data": {"value": value}}).encode()
