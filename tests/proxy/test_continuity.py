"""A Service that works keeps working while the rules around it are written, in every mode: no connection is lost."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self

import pytest

from netlab.kernel import iptables
from netlab.proxy.family import AnyProxier
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_proxier import NftProxier
from netlab.proxy.proxier import Proxier
from tests.proxy import network
from tests.proxy.builders import a_port, a_service, a_settings, a_slice, an_endpoint
from tests.proxy.network import FAR, PODS, Answer, Network

pytestmark = pytest.mark.root

SERVERS = [PODS["web-1"], *FAR]
OTHERS = 450
"""Services besides: enough that the nft backend and nftables mode write them in several transactions."""


@pytest.fixture
def built() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = network.build()
    yield made
    made.close()


class Clients:
    """Threads that connect to the Service without a pause, from a Pod, from outside, and from the node itself."""

    PLACES = (("client", "10.96.0.10", 80), ("outside", "172.30.0.11", 30080), ("node", "10.96.0.10", 80))

    def __init__(self, net: Network) -> None:
        self.net = net
        self.answers: list[list[Answer]] = [[] for _ in self.PLACES]
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.connect, args=(at, *place)) for at, place in enumerate(self.PLACES)]

    def connect(self, at: int, place: str, address: str, port: int) -> None:
        while not self.stopped.is_set():
            self.answers[at].append(self.net.ask(place, address, port, wait=5.0))
            time.sleep(0.001)

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def more(self) -> None:
        """Wait until each of them has connected a few times more."""
        before = [len(each) for each in self.answers]
        while any(len(each) < was + 3 for each, was in zip(self.answers, before, strict=True)):
            time.sleep(0.005)

    def lost(self) -> list[Answer]:
        return [answer for each in self.answers for answer in each if answer.failure]


def proxiers(fd: int) -> dict[str, Callable[[], AnyProxier]]:
    return {"iptables-nft": lambda: Proxier(a_settings(), iptables.find("IPv4", "nft"), Metrics(), netns=fd),
            "iptables-legacy": lambda: Proxier(a_settings(), iptables.find("IPv4", "legacy"), Metrics(), netns=fd),
            "nftables": lambda: NftProxier(a_settings(), Metrics(), netns=fd)}


def tell(proxier: AnyProxier, *objects) -> None:
    for each in objects:
        key = f"default/{each['metadata']['name']}"
        (proxier.service if each["kind"] == "Service" else proxier.slice)(key, each)


def web(*ips: str):
    return (a_service(type="NodePort", ports=[a_port(node_port=30080)]),
            a_slice(endpoints=[an_endpoint(ip, "node2" if ip in FAR else "node1") for ip in ips]))


def others(numbers: range, last: int = 0):
    for n in numbers:
        yield a_service(f"other-{n}", f"10.96.{1 + n // 250}.{n % 250 + 1}")
        yield a_slice(f"other-{n}", [an_endpoint(f"10.244.{100 + at}.{(n + last) % 250}") for at in range(3)])


@pytest.mark.parametrize("mode", ["iptables-nft", "iptables-legacy", "nftables"])
def test_no_connection_is_lost_while_rules_are_written(built: Network, mode: str):
    make = proxiers(built.places["node"])[mode]

    async def body() -> None:
        proxier = make()
        tell(proxier, *web(*SERVERS))
        await proxier.sync(time.monotonic())
        with Clients(built) as clients:
            async def sync(it: AnyProxier) -> None:
                await asyncio.to_thread(clients.more)
                await it.sync(time.monotonic())
                await asyncio.to_thread(clients.more)

            for end in (30, 150, OTHERS):  # a cluster that grows
                tell(proxier, *others(range(end)))
                await sync(proxier)
            for step in range(3):  # partial syncs: other Services, and the Service's own endpoints
                tell(proxier, *others(range(10 * step, 10 * step + 5), last=7), *web(*SERVERS[:step + 1]))
                await sync(proxier)
            tell(proxier, *web(*SERVERS))
            proxier.full = True
            await sync(proxier)
            proxier.configure(replace(proxier.settings, zone="elsewhere"))  # a label of the node: everything anew
            await sync(proxier)
            again = make()  # another process, which knows nothing of what the last one wrote
            tell(again, *web(*SERVERS), *others(range(OTHERS - 100), last=3))
            await sync(again)
            for n in range(100):  # a cluster that shrinks
                again.service(f"default/other-{n}", None)
            await sync(again)
            assert clients.lost() == []
        assert all(len(each) > 50 for each in clients.answers)

    asyncio.run(body())
