"""kube-proxy in figures: full syncs and single changes, beside raw writes of the same rules in the same run."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from typing import Any

from netlab.api.meta import Object
from netlab.errors import Unsupported, UsageError
from netlab.kernel import iptables, netns, nft_table
from netlab.kernel.nft_batch import Encoder, Writer
from netlab.netfilter.model import Ruleset
from netlab.proxy import bench_connect, host, nft_names, nft_plan, plan, tracker
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
LIBRARY = ", by libnftables"
FULL = "full sync"
FROM_OBJECTS = "full sync, from objects to kernel"
RESYNC = "resync of everything"
ONE_ENDPOINT = "one endpoint exchanged"
CONNECTIONS = "new connections through the last Service"
SINGLES = 5
"""How often what takes little time is measured in a round."""
_BASES = {FULL: RAW, FROM_OBJECTS: RAW, RESYNC: RAW_AGAIN, ONE_ENDPOINT: ONE_CHAIN, "one Service created": ONE_CHAIN}
_SETTINGS = Settings(node="bench", detector=LocalDetector("-s 10.128.0.0/9"))
_ONE_PIECE = 1 << 30

Row = dict[str, Any]
Times = Iterator[tuple[str, float]]
Given = Sequence[tuple[str, Object, Object]]
"""Services and their EndpointSlices, by key."""


def run(*, repeat: int = 3, sizes: Sequence[int] = SIZES, modes: Sequence[str] = MODES) -> Iterator[Row]:
    """Measure each mode for each number of Services, in fresh network namespaces. Needs root.

    What is raw is what the kernel and the tool cost, with nothing to work out: the same text by iptables-restore (in
    pieces on the nft backend); for nftables the same messages, made beforehand, and the same text by libnftables, which
    is what `nft -f` runs. Raw writes and kube-proxy's take turns.

    Yields:
        Rows of {"what", "value", "unit", "note"}; times are medians.

    Raises:
        UsageError: there is no such mode.
    """
    for mode in modes:
        if mode not in MODES:
            raise UsageError(f"no mode {mode!r}", hint=f"one of {', '.join(MODES)}")
    logging.getLogger("netlab.proxy").setLevel(logging.WARNING)
    host.tune()  # as the program does
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
    for name, value in middle.items():
        row = {"what": f"{mode}, {count} Services x {ENDPOINTS}: {name}"}
        if name == CONNECTIONS:
            yield row | {"value": round(value), "unit": "1/s", "note": "one client and its server in one process"}
            continue
        bases = [base for base in (_BASES.get(name, ""), _BASES.get(name, "") + LIBRARY) if base in middle]
        yield row | {"value": round(1e3 * value, 2), "unit": "ms",
                     "note": "; ".join(f"{value / middle[base]:.2f} of: {base}" for base in bases)}


def _round(mode: str, count: int) -> Times:
    given, raws = objects(range(count)), dict[str, _Raw]()
    with ExitStack() as stack:
        own, *places = (_namespace(stack) for _ in range(3))
        if mode == "nftables":
            raws[""] = _Messages(given, places[0], stack)
            with suppress(Unsupported):
                raws[LIBRARY] = _Library(given, places[1], stack)
            proxier: AnyProxier = NftProxier(_SETTINGS, Metrics(), netns=own)
        else:
            tool = iptables.find("IPv4", "nft" if mode == "iptables-nft" else "legacy")
            raws[""] = _Restore(given, places[0], tool)
            proxier = Proxier(_SETTINGS, tool, Metrics(), netns=own)
        runner = stack.enter_context(asyncio.Runner())

        stack.callback(lambda: runner.run(proxier.close()))

        async def told(them: Given) -> tuple[float, float]:
            began = time.perf_counter()
            _fill(proxier.service, proxier.slice, them)
            taken = time.perf_counter()
            await proxier.sync(time.monotonic())
            return time.perf_counter() - began, time.perf_counter() - taken

        def sync(them: Given) -> float:
            return runner.run(told(them))[0]

        yield "rules worked out, no kernel", raws[""].thinking
        for name, raw in raws.items():
            yield RAW + name, raw.first()
        everything, writing = runner.run(told(given))
        yield FULL, writing  # upstream's metrics count the same
        yield FROM_OBJECTS, everything
        for name, raw in raws.items():
            yield RAW_AGAIN + name, raw.again()
        proxier.full = True
        yield RESYNC, sync(())
        for at in range(SINGLES):
            for name, raw in raws.items():
                yield ONE_CHAIN + name, raw.one(at)
            yield ONE_ENDPOINT, sync(objects([at % count], shift=1 + at // count))
            yield "one Service created", sync(objects([count + at]))
        yield f"{min(100, count)} endpoints exchanged", sync(objects(range(count)[:100], shift=SINGLES + 1))
        last = max(range(count), key=str)  # rules of Services stand in the order of names
        sync(objects([last]))
        ends = [each["addresses"][0] for each in a_slice(last)["endpoints"]]
        yield CONNECTIONS, bench_connect.rate(own, a_service(last)["spec"]["clusterIP"], ends)


class _Raw(ABC):
    """Rules that are worked out beforehand, and then only written. What is returned is seconds."""

    thinking = 0.0

    @abstractmethod
    def first(self) -> float:
        """Write all into nothing."""

    @abstractmethod
    def again(self) -> float:
        """Write all over what is there."""

    @abstractmethod
    def one(self, at: int) -> float:
        """Write one chain of a Service."""


class _Restore(_Raw):
    """By iptables-restore, whose process is started anew for each piece."""

    def __init__(self, given: Given, where: int, tool: iptables.Iptables) -> None:
        known, wanted = tracker.Tracker("IPv4"), plan.Wanted(_SETTINGS)
        began = time.perf_counter()
        _fill(known.service, known.slice, given)
        tracker.rebuild(known, wanted, known.take_changed())
        self.thinking = time.perf_counter() - began
        self._tool, self._where, change = tool, where, wanted.take_all(Ruleset())
        self._pieces = list(plan.texts(change, size=plan.PIECE if tool.backend == "nft" else _ONE_PIECE))
        self._chains = [f"*nat\n:{name} - [0:0]\n{lines}\nCOMMIT\n"
                        for name, lines in islice(change.chains.items(), SINGLES)]

    def first(self) -> float:
        began = time.perf_counter()
        for text in self._pieces:
            iptables.restore(self._tool, text, netns=self._where)
        return time.perf_counter() - began

    again = first

    def one(self, at: int) -> float:
        return _timed(lambda: iptables.restore(self._tool, self._chains[at % len(self._chains)], netns=self._where))


class _Nft(_Raw):
    """What both ways to write nftables share: they run texts."""

    def __init__(self, given: Given, where: int) -> None:
        known, self._wanted = tracker.Tracker("IPv4"), nft_plan.NftWanted(_SETTINGS)
        began = time.perf_counter()
        _fill(known.service, known.slice, given)
        nft_plan.rebuild(known, self._wanted, known.take_changed())
        self.thinking, self._where = time.perf_counter() - began, where
        self._chains = list(islice(self._wanted.chains().items(), SINGLES))

    @abstractmethod
    def _run(self, texts: Iterable[str]) -> float: ...

    def first(self) -> float:
        return self._run(nft_plan.full_texts(self._wanted, (), {}))

    def again(self) -> float:
        held = nft_table.held(socket.AF_INET, nft_names.TABLE, self._where, elements=True) or nft_table.Held()
        return self._run(nft_plan.full_texts(self._wanted, held.chains, held.sets, held.elements))

    def one(self, at: int) -> float:
        chain = self._chains[at % len(self._chains)]
        return self._run([nft_plan.change_text(nft_plan.Change(chains=dict([chain])), _SETTINGS)])


class _Messages(_Nft):
    """By netlink messages."""

    def __init__(self, given: Given, where: int, stack: ExitStack) -> None:
        super().__init__(given, where)
        self._writer = Writer(where)
        stack.callback(self._writer.close)

    def _run(self, texts: Iterable[str]) -> float:
        batches = [Encoder().encode(text) for text in texts]
        began = time.perf_counter()
        for batch in batches:
            self._writer.send(batch)
        return time.perf_counter() - began


class _Library(_Nft):
    """By libnftables."""

    def __init__(self, given: Given, where: int, stack: ExitStack) -> None:
        super().__init__(given, where)
        self._nft = nft_table.open_nft(where)
        stack.callback(self._nft.close)

    def _run(self, texts: Iterable[str]) -> float:
        listed = list(texts)
        began = time.perf_counter()
        for text in listed:
            self._nft.run(text)
        return time.perf_counter() - began


def _namespace(stack: ExitStack) -> int:
    fd = netns.new_netns()
    stack.callback(os.close, fd)
    return fd


def _fill(service: Callable[[str, Object], bool], slice_: Callable[[str, Object], bool], given: Given) -> None:
    for key, each, ends in given:
        service(key, each)
        slice_(key, ends)


def _timed(body: Callable[[], object]) -> float:
    began = time.perf_counter()
    body()
    return time.perf_counter() - began


def objects(numbers: Iterable[int], shift: int = 0) -> Given:
    """Return Services with their EndpointSlices."""
    return [(f"bench/s-{number}", a_service(number), a_slice(number, shift)) for number in numbers]


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
