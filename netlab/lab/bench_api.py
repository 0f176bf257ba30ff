"""The API server in figures: requests per second, latency, watches, memory, time to ready; with Pods of 1.7 kB.

All servers run side by side and each figure is taken of one after the other, by the same client, so that what else the
machine does touches all of them: netlab's with its own store (synchronous FULL, which is what an etcd promises, and
NORMAL) and with a real etcd where one is installed, and upstream's kube-apiserver, if that is installed too. Client and
servers share the machine: the CPU time that a server spent on a request tells more than the rate.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from netlab.errors import TemporaryError, UsageError
from netlab.kernel import scratch
from netlab.lab import load, sends
from netlab.lab.bench_servers import NAMES, Server, missing
from netlab.lab.load import Target, Watcher
from netlab.lab.load_h2 import Streams

Row = dict[str, Any]
MODES = tuple(NAMES)
CLIENTS = (1, 8, 64)
_PODS = "/api/v1/namespaces/default/pods"
_MAPS = "/api/v1/namespaces/kube-public/configmaps"
_STREAMS = 250
"""Watches over one HTTP/2 connection: what a Go server allows."""
_TIMED = 100
"""Every so manieth watcher notes when its events come."""


@dataclass(frozen=True)
class Sizes:
    """How much is done for each figure; `rate` is writes per second for `seconds` seconds, told to all `watchers`."""

    writes: int = 400
    reads: int = 2000
    lists: int = 10
    watched: int = 100
    pods: tuple[int, ...] = (1000, 5000)
    watchers: int = 1000
    rate: int = 100
    seconds: int = 3


@dataclass
class Subject:
    """A server that runs, and the rows of its figures."""

    server: Server
    target: Target
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, value: float, unit: str, note: str = "", **more: float) -> None:
        """Note a figure."""
        self.rows.append({"what": what, "value": round(value, 1 if value >= 10 else 3), "unit": unit, **more,
                          "server": self.server.mode,
                          "note": f"{self.server.name}{f'; {note}' if note else ''}"})

    async def measured(self, what: str, clients: int, requests: list[bytes]) -> None:
        """Send these requests and note what it took."""
        result = await load.run(self.target, clients, requests, clock=self.server.cpu)
        each = result.cpu * 1000 / len(result.latencies)
        self.add(what, result.rate, "/s", f"p99 {result.percentile(0.99) * 1000:.2f} ms, CPU {each:.2f} ms"
                 + (f", {result.failed} FAILED" if result.failed else ""), cpu_ms=round(each, 3),
                 p99_ms=round(result.percentile(0.99) * 1000, 2))


def run(*, repeat: int = 3, modes: tuple[str, ...] = MODES, sizes: Sizes = Sizes()) -> Iterator[Row]:
    """Measure the servers.

    Args:
        repeat: starts that the time to ready is the median of.
        modes: full, normal, etcd, upstream; what needs a program that is not installed is left out.
        sizes: how much is done.

    Yields:
        Rows of {"what", "value", "unit", "note", "server"}; those of requests with "cpu_ms" and "p99_ms".
    """
    unknown = [mode for mode in modes if mode not in NAMES]
    if unknown:
        raise UsageError(f"bench api knows no server {unknown[0]!r}: choose {', '.join(NAMES)}")
    for mode in modes:
        if missing(mode):
            yield {"what": "left out", "value": 0, "unit": "", "server": mode,
                   "note": f"{NAMES[mode]}: {' and '.join(missing(mode))} not on PATH"}
    rows = asyncio.run(_measure([mode for mode in modes if not missing(mode)], repeat, sizes))
    order = list(dict.fromkeys(row["what"] for row in rows))
    yield from sorted(rows, key=lambda row: order.index(row["what"]))
    yield from sends.run(sizes.watchers)


async def _measure(modes: list[str], repeat: int, sizes: Sizes) -> list[Row]:
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for mode in modes:
            server = Server(mode, stack.enter_context(scratch.folder("netlab-bench-")))
            stack.enter_context(server.etcd())
            servers.append(server)
        ready: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(repeat):
            for server in servers:
                async with server.running() as (_, took):
                    ready[server.mode].append(took)
        subjects = [Subject(server, (await stack.enter_async_context(server.running()))[0]) for server in servers]
        for subject in subjects:
            subject.add("time to ready", statistics.median(ready[subject.server.mode]), "s",
                        "a new interpreter; in a lab it is forked" if subject.server.mode != "upstream" else
                        "its etcd runs already")
            subject.add("memory at start", subject.server.memory(), "MiB", "proportional set size")
        for clients in CLIENTS:
            await _requests(subjects, clients, sizes)
        await _unlike(subjects, 8, sizes)
        await _lists(subjects, sizes)
        for subject in subjects:
            subject.add("memory", subject.server.memory(), "MiB",
                        f"after all that, with {max(sizes.pods)} Pods; proportional set size")
        for subject in subjects:
            await _one_watch(subject, sizes.watched)
        for subject in subjects:
            await _many(subject, sizes)
        for subject in subjects:
            await _streams(subject, sizes)
        return [row for subject in subjects for row in subject.rows]


async def _requests(subjects: list[Subject], clients: int, sizes: Sizes) -> None:
    names = [f"c{clients}-{number}" for number in range(sizes.writes if clients == 1 else sizes.writes * 2)]
    who = f"{clients} client{'s' if clients > 1 else ''}"
    for it in subjects:
        await it.measured(f"create, {who}", clients, [it.target.request("POST", _PODS, _pod(name)) for name in names])
    for it in subjects:
        await it.measured(f"get, {who}", clients, [it.target.request("GET", f"{_PODS}/{random.choice(names)}")
                                                   for _ in range(sizes.reads)])
    await _updates(subjects, f"update, {who}", clients, names)
    for it in subjects:
        await it.measured(f"merge patch, {who}", clients, [
            it.target.request("PATCH", f"{_PODS}/{name}", b'{"metadata":{"labels":{"v":"3"}}}',
                              "application/merge-patch+json") for name in names])
    await _delete(subjects, names)


async def _unlike(subjects: list[Subject], clients: int, sizes: Sizes) -> None:
    names = [f"u{clients}-{number}" for number in range(sizes.writes)]
    for it in subjects:
        await it.measured(f"create, {clients} clients, no two Pods alike", clients, [
            it.target.request("POST", _PODS, _pod(name, each=name)) for name in names])
    await _updates(subjects, f"update, {clients} clients, no two Pods alike", clients, names)
    await _delete(subjects, names)


async def _updates(subjects: list[Subject], what: str, clients: int, names: list[str]) -> None:
    for it in subjects:
        found = await load.bodies(it.target, [it.target.request("GET", f"{_PODS}/{name}") for name in names])
        await it.measured(what, clients, [
            it.target.request("PUT", f"{_PODS}/{name}", _relabelled(body))
            for name, body in zip(names, found, strict=True)])


async def _delete(subjects: list[Subject], names: list[str]) -> None:
    for it in subjects:
        await load.run(it.target, 8, [it.target.request("DELETE", f"{_PODS}/{name}?gracePeriodSeconds=0")
                                      for name in names])


async def _lists(subjects: list[Subject], sizes: Sizes) -> None:
    made = 0
    for count in sizes.pods:
        for it in subjects:
            await load.run(it.target, 16, [it.target.request("POST", _PODS, _pod(f"l{number}"))
                                           for number in range(made, count)])
        made = count
        for it in subjects:
            await it.measured(f"list of {count} Pods", 1, [it.target.request("GET", _PODS)] * sizes.lists)
            await it.measured(f"list of {count} Pods from cache", 1,
                              [it.target.request("GET", f"{_PODS}?resourceVersion=0")] * sizes.lists)


async def _one_watch(it: Subject, count: int) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    watcher = Watcher(await it.target.connect(), it.target.request("GET", f"{path}?watch=1&resourceVersion=0"),
                      timed=True)
    await asyncio.sleep(0.2)  # what is there already
    there = watcher.lines
    made = await load.run(it.target, 1, [it.target.request("POST", path, _config(f"w{number}"))
                                         for number in range(count)])
    await _until(lambda: watcher.lines >= there + count)
    latencies = sorted(at - sent for at, sent in zip(watcher.times[there:], made.sent, strict=True))
    watcher.close()
    it.add("POST to watch event", statistics.median(latencies) * 1000, "ms",
           f"p99 {latencies[int(len(latencies) * 0.99)] * 1000:.2f} ms")


async def _many(it: Subject, sizes: Sizes) -> None:
    """Have many watchers, each with a connection of its own, see every write of a steady stream."""
    await _make(it)
    request = it.target.request("GET", f"{_MAPS}?watch=1&resourceVersion=0")
    opened = await load.watchers(it.target, sizes.watchers, request, lambda number: number % _TIMED == 0)
    await _until(lambda: all(one.lines for one in opened))
    await asyncio.sleep(0.5)
    before = [one.lines for one in opened]
    memory = it.server.memory()
    await _told(it, sizes, f"{sizes.watchers} watchers, {sizes.rate} writes/s wanted", f", {memory:.0f} MiB",
                lambda count: all(one.lines >= was + count for one, was in zip(opened, before, strict=True)),
                lambda: [one.times[was:] for one, was in zip(opened, before, strict=True) if one.times])
    late = [one for one, was in zip(opened, before, strict=True) if one.lines != was + sizes.rate * sizes.seconds]
    for one in opened:
        one.close()
    if late:
        raise TemporaryError(f"{it.server.name}: {len(late)} watchers saw an event twice")


async def _streams(it: Subject, sizes: Sizes) -> None:
    """Have as many watchers, over a few HTTP/2 connections, as client-go opens them; where the server speaks it."""
    target = Target(it.target.host, it.target.port, it.server.context("h2"))
    opened: list[Streams] = []
    left = sizes.watchers
    while left:
        try:
            wrapped = await target.connect()
        except ssl.SSLError:
            return
        if wrapped.selected_alpn_protocol() != "h2":
            wrapped.close()
            return
        count = min(left, _STREAMS)
        opened.append(Streams(wrapped, target, f"{_MAPS}?watch=1&resourceVersion=0", count))
        left -= count
    await _until(lambda: all(map(all, (one.lines.values() for one in opened))))
    await asyncio.sleep(0.5)
    before = [dict(one.lines) for one in opened]
    await _told(it, sizes, f"{sizes.watchers} watchers over HTTP/2, {sizes.rate} writes/s wanted", "",
                lambda count: all(lines >= was[stream] + count for one, was in zip(opened, before, strict=True)
                                  for stream, lines in one.lines.items()),
                lambda: [one.times[was[1]:] for one, was in zip(opened, before, strict=True)])
    for one in opened:
        one.close()


async def _make(it: Subject) -> None:
    await load.run_one(it.target, it.target.request("POST", _MAPS, _config("c", "kube-public")))


async def _told(it: Subject, sizes: Sizes, what: str, note: str, complete: Callable[[int], bool],
                times: Callable[[], list[list[float]]]) -> None:
    """Write at a steady rate and wait until everybody has been told all of it."""
    writes = [it.target.request("PUT", f"{_MAPS}/c", _config("c", "kube-public", f"{what} {number}"))
              for number in range(sizes.rate * sizes.seconds)]  # each another value: who changes nothing writes nothing
    cpu, begun = it.server.cpu(), time.perf_counter()
    made = await load.run(it.target, 4, writes, rate=sizes.rate)
    await _until(lambda: complete(len(writes)))
    seconds = time.perf_counter() - begun
    spent = it.server.cpu() - cpu
    late = sorted(at - when for row in times() for at, when in zip(row, made.sent, strict=True))
    events = len(writes) * sizes.watchers
    it.add(what, len(writes) / seconds, "/s",
           f"{events / seconds:.0f} events/s, p50 {statistics.median(late) * 1000:.0f} ms, "
           f"p99 {late[int(len(late) * 0.99)] * 1000:.0f} ms, CPU {spent / events * 1e6:.1f} us an event{note}",
           cpu_us=round(spent / events * 1e6, 2), p99_ms=round(late[int(len(late) * 0.99)] * 1000, 1))


async def _until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TemporaryError(f"the watches are not served within {seconds:g} s")
        await asyncio.sleep(0.01)


def _pod(name: str, each: str = "") -> bytes:
    """Return a Pod of 1.7 kB: a replica of the others, or with values of its own if told what makes it different.

    A server may remember what it found a spec to be, and meet it again in the next replica.
    """
    container = {
        "name": "app", "image": "registry.example.com/team/app:1.2.3", "args": ["--listen=:8080", "--log-level=info"],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{number}", "value": f"value-of-setting-{number}{each}"} for number in range(12)],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": name, "namespace": "default", "labels": {"app": "bench", "v": "1"},
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
