"""kube-proxy in figures: full syncs and single changes, beside raw restores of the same rules in the same run."""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from netlab.api.meta import Object
from netlab.kernel import iptables, netns
from netlab.netfilter.model import Ruleset
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import PIECE, Wanted, texts
from netlab.proxy.proxier import Proxier
from netlab.proxy.settings import LocalDetector, Settings
from netlab.proxy.tracker import Tracker, rebuild

SIZES = (1000, 5000)
ENDPOINTS = 3


def run(*, repeat: int = 3, sizes: tuple[int, ...] = SIZES) -> Iterator[dict[str, Any]]:
    """Measure, for each number of Services, in fresh network namespaces. Needs root.

    Yields:
        Rows of {"what", "value", "unit", "note"}; times are medians.
    """
    logging.getLogger("netlab.proxy").setLevel(logging.WARNING)
    for count in sizes:
        found: dict[str, list[float]] = {}
        for _ in range(repeat):
            for name, seconds in _round(count):
                found.setdefault(name, []).append(seconds)
        middle = {name: statistics.median(times) for name, times in found.items()}
        for name, seconds in middle.items():
            base = _BASES.get(name, "")
            note = f"{seconds / middle[base]:.2f} of: {base}" if base else ""
            what = f"{count} Services x {ENDPOINTS}: {name}"
            yield {"what": what, "value": round(1e3 * seconds, 1), "unit": "ms", "note": note}


RAW = "raw restore in pieces, empty table"
RAW_AGAIN = "raw restore in pieces, again"
ONE_CHAIN = "raw restore of one chain"
_BASES = {
    "full sync, from objects to kernel": RAW, "resync of everything": RAW_AGAIN, "one endpoint changed": ONE_CHAIN,
    "one Service created": ONE_CHAIN, "100 endpoints changed": ONE_CHAIN}


def _round(count: int) -> Iterator[tuple[str, float]]:
    settings = Settings(node="bench", detector=LocalDetector("-s 10.128.0.0/9"))
    tool = iptables.find()
    raw, own = netns.new_netns(), netns.new_netns()
    try:
        tracker, wanted = Tracker("IPv4"), Wanted(settings)
        began = time.perf_counter()
        _fill(tracker.service, tracker.slice, range(count))
        rebuild(tracker, wanted, tracker.take_changed())
        yield "rules worked out, no kernel", time.perf_counter() - began
        pieces = list(texts(wanted.take_all(Ruleset()), size=PIECE if tool.backend == "nft" else 1 << 30))
        yield RAW, _timed(lambda: _restore(tool, pieces, raw))
        yield RAW_AGAIN, _timed(lambda: _restore(tool, pieces, raw))
        chain = "*nat\n:KUBE-MARK-MASQ - [0:0]\n-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\nCOMMIT\n"
        yield ONE_CHAIN, _timed(lambda: _restore(tool, [chain], raw))
        proxier = Proxier(settings, tool, Metrics(), netns=own)
        yield "full sync, from objects to kernel", _timed(lambda: _sync(proxier, range(count)))
        yield "one endpoint changed", _timed(lambda: _sync(proxier, range(7, 8), shift=9))
        yield "100 endpoints changed", _timed(lambda: _sync(proxier, range(100, 200), shift=9))
        yield "one Service created", _timed(lambda: _sync(proxier, range(count, count + 1)))
        proxier.full = True
        yield "resync of everything", _timed(lambda: _sync(proxier, range(0)))
    finally:
        os.close(raw)
        os.close(own)


def _fill(service: Callable[[str, Object], bool], slice_: Callable[[str, Object], bool], numbers: Iterable[int],
          shift: int = 0) -> None:
    for number in numbers:
        service(f"bench/s-{number}", _service(number))
        slice_(f"bench/s-{number}", _slice(number, shift))


def _sync(proxier: Proxier, numbers: Iterable[int], shift: int = 0) -> None:
    _fill(proxier.service, proxier.slice, numbers, shift)
    asyncio.run(proxier.sync(time.monotonic()))


def _restore(tool: iptables.Iptables, pieces: list[str], where: int) -> None:
    for text in pieces:
        iptables.restore(tool, text, netns=where)


def _timed(body: Callable[[], object]) -> float:
    began = time.perf_counter()
    body()
    return time.perf_counter() - began


def _service(number: int) -> Object:
    return {"kind": "Service", "metadata": {"namespace": "bench", "name": f"s-{number}"},
            "spec": {"type": "ClusterIP", "clusterIP": f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}",
                     "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}


def _slice(number: int, shift: int = 0) -> Object:
    hosts = [{"addresses": [f"10.{128 + (at >> 16)}.{at >> 8 & 255}.{at & 255}"], "nodeName": "bench",
              "conditions": {"ready": True}} for at in range(number * 10 + shift, number * 10 + shift + ENDPOINTS)]
    return {"kind": "EndpointSlice", "addressType": "IPv4", "endpoints": hosts,
            "metadata": {"namespace": "bench", "name": f"s-{number}",
                         "labels": {"kubernetes.io/service-name": f"s-{number}"}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}
