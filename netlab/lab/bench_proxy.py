"""kube-proxy in figures: what writing rules costs, and the whole way from the API to the kernel with real processes.

The second part starts a kube-apiserver and a kube-proxy in a network namespace of their own. What kube-proxy did, and
when, is read from its metrics, under upstream's names.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from netlab.api.meta import Object
from netlab.client import config as client_config
from netlab.client.client import Client
from netlab.errors import KernelError, NetlabError, TemporaryError, Unsupported
from netlab.kernel import iptables, link, netns, scratch
from netlab.kernel.rtnl import Rtnl
from netlab.lab import bound, kubeconfig, pki
from netlab.proxy import bench

ENOUGH = 1000
"""Services with which the whole way is measured, unless fewer are asked for."""
CHANGES = 1000
SINGLES = 5
_PATIENCE = 120.0
_FLAGS = {"iptables-nft": ("--proxy-mode=iptables", "--iptables-backend=nft"),
          "iptables-legacy": ("--proxy-mode=iptables", "--iptables-backend=legacy"),
          "nftables": ("--proxy-mode=nftables",)}
_START = "import sys; sys.path[:0] = {path!r}; from netlab.programs import main; sys.exit(main(sys.argv[1:]))"
_SYNCED, _QUEUED = "sync_proxy_rules_last_timestamp_seconds", "sync_proxy_rules_last_queued_timestamp_seconds"
_SEEN, _SYNCS = "sync_proxy_rules_endpoint_changes_total", "sync_proxy_rules_duration_seconds_count"


def run(*, repeat: int = 3, sizes: Sequence[int] = bench.SIZES, modes: Sequence[str] = bench.MODES,
        ) -> Iterator[bench.Row]:
    """Measure both parts. Needs root.

    Yields:
        Rows of {"what", "value", "unit", "note"}; times are medians.
    """
    yield from bench.run(repeat=repeat, sizes=sizes, modes=modes)
    count = min(ENOUGH, *sizes)
    for mode in modes:
        try:
            if mode != "nftables":
                iptables.find("IPv4", "nft" if mode == "iptables-nft" else "legacy")
            yield from _whole_way(mode, count)
        except Unsupported as error:
            yield {"what": f"{mode}, from the API to the kernel", "value": "", "unit": "", "note": str(error)}


def _whole_way(mode: str, count: int) -> list[bench.Row]:
    fd = netns.new_netns()
    try:
        with netns.inside(fd), Rtnl() as sock:
            link.set_up(sock, "lo")
        with netns.inside(fd), scratch.folder("netlab-bench-") as folder:
            return asyncio.run(_measure(mode, count, folder))
    finally:
        os.close(fd)


async def _measure(mode: str, count: int, folder: Path) -> list[bench.Row]:
    rows = []

    def row(what: str, value: float, unit: str, note: str = "") -> None:
        rows.append({"what": f"{mode}, {count} Services, real API server: {what}", "value": round(value, 1),
                     "unit": unit, "note": note})

    async with _cluster(mode, folder) as (client, proxy):
        before = await proxy.settled(0)
        empty = proxy.memory()
        await client.create("namespaces", {"metadata": {"name": "bench"}})
        await _all(client.create("services", _service(number)) for number in range(count))
        await _all(client.create("endpointslices.discovery.k8s.io", bench.a_slice(number)) for number in range(count))
        seen = before[_SEEN] + count
        await proxy.settled(seen)
        row("memory per 1,000 Services", (proxy.memory() - empty) / count * 1000 / 2**20, "MiB",
            f"{empty / 2**20:.1f} MiB without any; proportional set size")
        times = []
        for at in range(SINGLES):
            await asyncio.sleep(1.1)  # the rate limit (--iptables-min-sync-period) is not what is asked about
            wrote = time.time()
            await client.update("endpointslices.discovery.k8s.io", bench.a_slice(at, shift=7))
            seen += 1
            times.append((await proxy.settled(seen))[_SYNCED] - wrote)
        row("from the API write of one endpoint to its rule", 1e3 * statistics.median(times), "ms",
            f"{1e3 * min(times):.1f} to {1e3 * max(times):.1f}")
        before, many = await proxy.numbers(), min(count, CHANGES)
        wrote = time.time()
        await _all(client.update("endpointslices.discovery.k8s.io", bench.a_slice(number, shift=5))
                   for number in range(many))
        writing = time.time() - wrote
        after = await proxy.settled(seen + many)
        syncs = after[_SYNCS] - before[_SYNCS]
        row(f"{many} changes at once, until the last rule", 1e3 * (after[_SYNCED] - wrote), "ms",
            f"the API writes alone took {1e3 * writing:.0f} ms")
        row(f"{many} changes at once are coalesced into", syncs, "syncs")
    return rows


@dataclass(frozen=True)
class _Proxy:
    """A running kube-proxy."""

    pid: int
    http: aiohttp.ClientSession

    def memory(self) -> int:
        """Return its proportional set size in bytes."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return 0

    async def numbers(self) -> dict[str, float]:
        """Return its metrics of IPv4, and those of no family, by name without prefix."""
        async with self.http.get("http://127.0.0.1:10249/metrics") as answer:
            found = re.findall(r'^kubeproxy_(\w+)(?:\{ip_family="IPv4"\})? (\S+)$', await answer.text(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    async def settled(self, seen: float) -> dict[str, float]:
        """Wait until it has seen so many changes of endpoints and written all it knows; return its metrics.

        Raises:
            TemporaryError: that takes too long.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            with suppress(aiohttp.ClientError):
                found = await self.numbers()
                waiting = found.get("sync_proxy_rules_endpoint_changes_pending", 0)
                if found.get(_SEEN, 0) >= seen and not waiting and found.get(_SYNCED, 0) > found.get(_QUEUED, 0):
                    return {_SEEN: 0.0, **found}
            await asyncio.sleep(0.05)
        raise TemporaryError(f"kube-proxy did not write its rules within {_PATIENCE:g} s")


@asynccontextmanager
async def _cluster(mode: str, folder: Path) -> AsyncIterator[tuple[Client, _Proxy]]:
    """Run an API server and a kube-proxy in this thread's network namespace while the body runs."""
    authority = pki.Authority("bench", now=time.time())
    server, user = authority.server("kube-apiserver", names=["127.0.0.1"]), authority.client("bench", "system:masters")
    for name, content in (("ca", authority.pair.certificate), ("crt", server.certificate), ("key", server.key)):
        (folder / name).write_bytes(content)
    pids = []
    try:
        pids.append(_spawn("kube-apiserver", "--secure-port=6443", "--bind-address=127.0.0.1",
                           f"--tls-cert-file={folder}/crt", f"--tls-private-key-file={folder}/key",
                           f"--client-ca-file={folder}/ca", f"--ready-file={folder}/ready",
                           "--service-cluster-ip-range=10.64.0.0/12"))
        await _until(lambda: _exists(folder / "ready"), "kube-apiserver did not start")
        document = kubeconfig.document(server="https://127.0.0.1:6443", ca=authority.pair.certificate, name="bench",
                                       user="bench", pair=user)
        (folder / "kubeconfig").write_text(kubeconfig.text(document))
        pids.append(_spawn("kube-proxy", f"--kubeconfig={folder}/kubeconfig", "--hostname-override=bench",
                           "--cluster-cidr=10.128.0.0/9", "--metrics-bind-address=127.0.0.1:10249",
                           "--healthz-bind-address=127.0.0.1:10256", "--conntrack-max-per-core=0",
                           "--oom-score-adj=0", *_FLAGS[mode]))
        config = client_config.load(str(folder / "kubeconfig"))
        async with Client(config, "netlab-bench", parallel=16) as client, aiohttp.ClientSession() as http:
            yield client, _Proxy(pids[-1], http)
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for pid in pids:
            await asyncio.to_thread(os.waitpid, pid, 0)


def _spawn(program: str, *flags: str) -> int:
    code = _START.format(path=[entry for entry in sys.path if entry])
    return bound.spawn([sys.executable, "-P", "-c", code, program, *flags])


async def _exists(path: Path) -> bool:
    return path.exists()


async def _until(holds: Callable[[], Awaitable[bool]], otherwise: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > end:
            raise KernelError(otherwise)
        await asyncio.sleep(0.02)


async def _all(calls: Iterable[Awaitable[Any]]) -> None:
    for done in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(done, NetlabError):
            raise done


def _service(number: int) -> Object:
    made = bench.a_service(number)
    del made["spec"]["clusterIP"]  # the API server chooses
    return made
