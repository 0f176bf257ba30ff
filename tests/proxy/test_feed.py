"""Making here what a thread writes, and what becomes of a sync that fails before all was worked out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Literal

import pytest

from netlab.errors import KernelError
from netlab.kernel import iptables, netns
from netlab.netfilter import parse
from netlab.proxy.feed import feed
from netlab.proxy.metrics import Metrics
from netlab.proxy.proxier import Proxier
from tests.proxy.builders import a_service, a_settings, a_slice


def test_parts_come_in_order_and_an_error_of_their_making_reaches_who_takes_them():
    taken: list[int | str] = []

    async def parts() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        raise ValueError("no more")

    def work(given: Iterator[int]) -> None:
        try:
            taken.extend(given)
        except ValueError as error:
            taken.append(str(error))
            raise

    with pytest.raises(ValueError, match="no more"):
        asyncio.run(feed(parts(), work))
    assert taken == [0, 1, 2, "no more"]


def test_all_parts_are_made_though_nobody_takes_them():
    made: list[int] = []

    async def parts() -> AsyncIterator[int]:
        for number in range(3):
            made.append(number)
            yield number

    def work(_: Iterator[int]) -> None:
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        asyncio.run(feed(parts(), work))
    assert made == [0, 1, 2]


@pytest.mark.root
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_what_came_before_a_sync_that_could_not_even_look_is_written_by_the_next(backend: Literal["nft", "legacy"]):
    tool, fd = iptables.find("IPv4", backend), netns.new_netns()
    proxier = Proxier(a_settings(), tool, Metrics(), netns=fd)
    try:
        asyncio.run(proxier.sync(0.0))
        proxier.service("default/web", a_service())
        proxier.slice("default/web-1", a_slice())
        proxier.full, proxier.tool = True, replace(tool, save="/there/is/none")
        with pytest.raises(KernelError):
            asyncio.run(proxier.sync(1.0))
        proxier.tool = tool
        asyncio.run(proxier.sync(2.0))
        nat = parse.parse(iptables.save(tool, netns=fd)).table("nat")
        assert any(rule.target == "DNAT --to-destination 10.244.1.5:8080" for rule in nat.rules())
    finally:
        os.close(fd)
