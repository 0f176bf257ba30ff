"""What `netlab rules` takes on a node of very many Services, in each mode: the whole command, and its parts."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from netlab.api.meta import Object
from netlab.errors import KernelError, Unsupported
from netlab.inspect import reading
from netlab.inspect.names import Names
from netlab.kernel import iptables, netns
from netlab.kernel.nft_batch import Writer
from netlab.kernel.process import run_sync
from netlab.netfilter.model import Ruleset
from netlab.proxy import nft_plan, plan
from netlab.proxy.nft_render import nft_wanted_for
from netlab.proxy.settings import LocalDetector, Settings
from netlab.proxy.tracker import wanted_for

SIZES: Final = (10000,)
MODES: Final = ("iptables-nft", "iptables-legacy", "nftables")
ENDPOINTS: Final = 3
_NODES: Final = 10
_SETTINGS: Final = Settings(node="node0", detector=LocalDetector("-s 10.128.0.0/9"))


def run(*, repeat: int = 3, sizes: Sequence[int] = SIZES, modes: Sequence[str] = MODES) -> Iterator[dict[str, Any]]:
    """Measure each mode on a namespace of its own, filled as kube-proxy would. Needs root.

    Yields:
        Rows of {"what", "value", "unit", "note"}; times are medians in ms.
    """
    for count in sizes:
        objects = list(_objects(count))
        key = f"default/s{count // 2}"
        for mode in modes:
            fd = netns.new_netns()
            try:
                try:
                    took = _timed(lambda mode=mode, fd=fd, objects=objects: _fill(mode, fd, objects))  # type: ignore[misc]
                except (Unsupported, KernelError) as error:
                    yield {"what": f"{mode}, {count} Services", "value": "", "unit": "", "note": str(error)}
                    continue
                yield {"what": f"{mode}, {count} Services x {ENDPOINTS}: writing them", "value": round(took * 1e3, 1),
                       "unit": "ms", "note": "for comparison"}
                yield from _rows(f"{mode}, {count} Services x {ENDPOINTS}", fd, key, repeat)
            finally:
                os.close(fd)


def _rows(what: str, fd: int, key: str, repeat: int) -> Iterator[dict[str, Any]]:
    def median(body: Callable[[], object]) -> float:
        return round(statistics.median(_timed(body) for _ in range(repeat)) * 1e3, 1)

    def tree() -> None:
        if not reading.read("node0", fd, only=key).ports(key, Names()):
            raise AssertionError(f"no rules of {key}")

    attach = f"node/node0=netns:/proc/{os.getpid()}/fd/{fd}"

    def command() -> None:
        done = run_sync([sys.executable, "-P", "-m", "netlab.cli.main", "rules", f"svc/{key}", "--attach", attach])
        if done.code != 0:
            raise AssertionError(done.stderr.decode(errors="replace"))

    began = os.times()
    wall = median(command)
    ended = os.times()
    spent = (ended.children_user + ended.children_system - began.children_user - began.children_system) / repeat
    yield {"what": f"{what}: rules svc/x, the whole command", "value": wall, "unit": "ms",
           "note": f"aim under 1000; {spent * 1e3:.0f} ms of CPU, start of Python included, no API asked"}
    yield {"what": f"{what}: one Service read and put into a tree", "value": median(tree), "unit": "ms", "note": ""}
    yield {"what": f"{what}: all rules read and parsed", "unit": "ms", "note": "what the overview and check begin with",
           "value": round(_timed(lambda: reading.read("node0", fd)) * 1e3, 1)}


def _timed(body: Callable[[], object]) -> float:
    began = time.perf_counter()
    body()
    return time.perf_counter() - began


def _fill(mode: str, fd: int, objects: Sequence[Object]) -> None:
    if mode == "nftables":
        writer = Writer(fd)
        try:
            for text in nft_plan.full_texts(nft_wanted_for(objects, _SETTINGS), (), {}):
                writer.run(text)
        finally:
            writer.close()
        return
    tool = iptables.find("IPv4", "nft" if mode == "iptables-nft" else "legacy")
    change = wanted_for(objects, _SETTINGS).take_all(Ruleset())
    for text in plan.texts(change, size=plan.PIECE if tool.backend == "nft" else 1 << 30):
        iptables.restore(tool, text, netns=fd)


def _objects(count: int) -> Iterator[Object]:
    """Yield Services of one port, and a slice for each with its endpoints spread over the nodes."""
    for number in range(count):
        name = f"s{number}"
        yield {"kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": {
            "type": "ClusterIP", "clusterIP": f"10.{96 + (number >> 16)}.{number >> 8 & 255}.{number & 255}",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}
        ends = range(number * ENDPOINTS, (number + 1) * ENDPOINTS)
        yield {"kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
               "metadata": {"name": f"{name}-1", "namespace": "default",
                            "labels": {"kubernetes.io/service-name": name}},
               "endpoints": [{"addresses": [f"10.{128 + (at >> 16)}.{at >> 8 & 255}.{at & 255}"],
                              "nodeName": f"node{at % _NODES}", "conditions": {"ready": True}} for at in ends]}
