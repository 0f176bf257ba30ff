"""kube-proxy in figures: full syncs and single changes, beside raw writes of the same rules in the same run."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from netlab.api.meta import Object
from netlab.errors import Unsupported, UsageError
from netlab.kernel import iptables, netns, nft_table
from netlab.kernel.nft_batch import Encoder, Writer
from netlab.netfilter.model import Ruleset
from netlab.proxy import bench_connect, nft_names, nft_plan, plan, tracker
from netlab.proxy.family import AnyProxier
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_proxier import NftProxier
from netlab.proxy.proxier import Proxier
from netlab.proxy.settings import LocalDetector, Settings

MODES = ("iptables-nft", "iptables-legacy", "nftables")
SIZES = (1000,)
ENDPOINTS = 3

RAW = "raw write into nothing"
RAW_AGAIN = "raw write, again"
ONE_CHAIN = "raw write of one chain"
CONNECTIONS = "new connections through the last Service"
_BASES = {
    "full sync, from objects to kernel": RAW, "resync of everything": RAW_AGAIN, "one endpoint changed": ONE_CHAIN,
    "one Service created": ONE_CHAIN, "100 endpoints changed": ONE_CHAIN}
_SETTINGS = Settings(node="bench", detector=LocalDetector("-s 10.128.0.0/9"))
_ONE_PIECE = 1 << 30

Row = dict[str, Any]
Times = Iterator[tuple[str, float]]


def run(*, repeat: int = 3, sizes: Sequence[int] = SIZES, modes: Sequence[str] = MODES) -> Iterator[Row]:
    """Measure each mode for each number of Services, in fresh network namespaces. Needs root.

    What is raw is what the kernel and the tool cost: the same text by iptables-restore (in pieces on the nft backend),
    the same messages for nftables, made beforehand.

    Yields:
        Rows of {"what", "value", "unit", "note"}; times are medians.

    Raises:
        UsageError: there is no such mode.
    """
    for mode in modes:
        if mode not in MODES:
            raise UsageError(f"no mode {mode!r}", hint=f"one of {', '.join(MODES)}")
    logging.getLogger("netlab.proxy").setLevel(logging.WARNING)
    gc.set_threshold(50_000, 20, 50)  # as the program does
    for count in sizes:
        for mode in modes:
            try:
                yield from _rows(mode, count, repeat)
            except Unsupported as error:
                yield {"what": f"{mode}, {count} Services", "value": "", "unit": "", "note": str(error)}


def _rows(mode: str, count: int, repeat: int) -> Iterator[Row]:
    found: dict[str, list[float]] = {}
    for _ in range(repeat):
        for name, seconds in _round(mode, count):
            found.setdefault(name, []).append(seconds)
    middle = {name: statistics.median(times) for name, times in found.items()}
    for name, seconds in middle.items():
        base = _BASES.get(name, "")
        if name == CONNECTIONS:
            yield {"what": f"{mode}, {count} Services x {ENDPOINTS}: {name}", "value": round(seconds), "unit": "1/s",
                   "note": "one client and its server in one process"}
            continue
        yield {"what": f"{mode}, {count} Services x {ENDPOINTS}: {name}", "value": round(1e3 * seconds, 2),
               "unit": "ms", "note": f"{seconds / middle[base]:.2f} of: {base}" if base else ""}


def _round(mode: str, count: int) -> Times:
    raw, own = netns.new_netns(), netns.new_netns()
    try:
        if mode == "nftables":
            yield from _raw_nft(count, raw)
            proxier: AnyProxier = NftProxier(_SETTINGS, Metrics(), netns=own)
        else:
            tool = iptables.find("IPv4", "nft" if mode == "iptables-nft" else "legacy")
            yield from _raw_iptables(tool, count, raw)
            proxier = Proxier(_SETTINGS, tool, Metrics(), netns=own)
        yield "full sync, from objects to kernel", _timed(lambda: _sync(proxier, range(count)))
        yield "one endpoint changed", _timed(lambda: _sync(proxier, range(7, 8), shift=9))
        yield "100 endpoints changed", _timed(lambda: _sync(proxier, range(100, 200), shift=9))
        yield "one Service created", _timed(lambda: _sync(proxier, range(count, count + 1)))
        proxier.full = True
        yield "resync of everything", _timed(lambda: _sync(proxier, range(0)))
        ends = [each["addresses"][0] for each in a_slice(count)["endpoints"]]
        yield CONNECTIONS, bench_connect.rate(own, a_service(count)["spec"]["clusterIP"], ends)
    finally:
        os.close(raw)
        os.close(own)


def _raw_iptables(tool: iptables.Iptables, count: int, where: int) -> Times:
    known, wanted = tracker.Tracker("IPv4"), plan.Wanted(_SETTINGS)
    began = time.perf_counter()
    _fill(known.service, known.slice, range(count))
    tracker.rebuild(known, wanted, known.take_changed())
    yield "rules worked out, no kernel", time.perf_counter() - began
    change = wanted.take_all(Ruleset())
    pieces = list(plan.texts(change, size=plan.PIECE if tool.backend == "nft" else _ONE_PIECE))
    name, rules = next(iter(change.chains.items()))
    yield RAW, _timed(lambda: _restore(tool, pieces, where))
    yield RAW_AGAIN, _timed(lambda: _restore(tool, pieces, where))
    one = "\n".join(("*nat", f":{name} - [0:0]", *(rule.text for rule in rules), "COMMIT\n"))
    yield ONE_CHAIN, _timed(lambda: _restore(tool, [one], where))


def _raw_nft(count: int, where: int) -> Times:
    known, wanted = tracker.Tracker("IPv4"), nft_plan.NftWanted(_SETTINGS)
    began = time.perf_counter()
    _fill(known.service, known.slice, range(count))
    nft_plan.rebuild(known, wanted, known.take_changed())
    yield "rules worked out, no kernel", time.perf_counter() - began
    writer = Writer(where)
    try:
        yield RAW, _send(writer, nft_plan.full_texts(wanted, (), {}))
        held = nft_table.held(socket.AF_INET, nft_names.TABLE, where, elements=True) or nft_table.Held()
        yield RAW_AGAIN, _send(writer, nft_plan.full_texts(wanted, held.chains, held.sets, held.elements))
        name, rules = next(iter(wanted.chains().items()))
        yield ONE_CHAIN, _send(writer, [nft_plan.change_text(nft_plan.Change(chains={name: rules}), _SETTINGS)])
    finally:
        writer.close()


def _send(writer: Writer, texts: Iterable[str]) -> float:
    batches = [Encoder().encode(text) for text in texts]
    began = time.perf_counter()
    for batch in batches:
        writer.send(batch)
    return time.perf_counter() - began


def _fill(service: Callable[[str, Object], bool], slice_: Callable[[str, Object], bool], numbers: Iterable[int],
          shift: int = 0) -> None:
    for number in numbers:
        service(f"bench/s-{number}", a_service(number))
        slice_(f"bench/s-{number}", a_slice(number, shift))


def _sync(proxier: AnyProxier, numbers: Iterable[int], shift: int = 0) -> None:
    _fill(proxier.service, proxier.slice, numbers, shift)

    async def body() -> None:
        await proxier.sync(time.monotonic())

    asyncio.run(body())


def _restore(tool: iptables.Iptables, pieces: list[str], where: int) -> None:
    for text in pieces:
        iptables.restore(tool, text, netns=where)


def _timed(body: Callable[[], object]) -> float:
    began = time.perf_counter()
    body()
    return time.perf_counter() - began


def a_service(number: int) -> Object:
    """Return a Service of one port, with an address that depends on its number."""
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "bench", "name": f"s-{number}"},
            "spec": {"type": "ClusterIP", "clusterIP": f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}",
                     "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}


def a_slice(number: int, shift: int = 0) -> Object:
    """Return its EndpointSlice; another `shift` gives other endpoints."""
    hosts = [{"addresses": [f"10.{128 + (at >> 16)}.{at >> 8 & 255}.{at & 255}"], "nodeName": "bench",
              "conditions": {"ready": True}} for at in range(number * 10 + shift, number * 10 + shift + ENDPOINTS)]
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": hosts,
            "metadata": {"namespace": "bench", "name": f"s-{number}",
                         "labels": {"kubernetes.io/service-name": f"s-{number}"}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}
