"""Time that goes wrong: a clock that is set, and a real minute or two without an API server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from netlab.kernel import iptables
from netlab.netfilter import parse
from tests.proxy.builders import a_service, a_slice, an_endpoint
from tests.proxy.test_live import run, until
from tests.proxy.test_nft_live import Machine, machine

pytestmark = pytest.mark.root

INJECTED = """import time
real = time.time
def shifted():
    with open({path!r}) as file:
        return real() + float(file.read() or 0)
time.time = shifted
"""
YEAR = 366 * 86400.0
GONE, HUNG = 75.0, 130.0
"""Seconds: clients retry every two when they are refused, and take it after 100 that a watch says nothing any more."""


def served(it: Machine, mode: str) -> set[str]:
    """Return the endpoints that the kernel sends to."""
    if mode == "nftables":
        return {f"{ip}:{port}" for table in it.table().values() for section in table.values() for line in section["lines"]
                for ip, port in re.findall(r": (10\.244\.\d+\.\d+) \. (\d+)", str(line))}
    rules = parse.parse(iptables.save(iptables.find(), netns=it.fd)).table("nat").rules()
    return {rule.target.split()[-1] for rule in rules if rule.jump == "DNAT"}


def healthy(it: Machine) -> bool:
    found = json.loads(it.get("127.0.0.1:10256/healthz"))
    return found["healthy"] and found["nodeEligible"]


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_clock_that_is_set_and_a_process_that_was_stopped_miss_nothing(mode: str, tmp_path: Path):
    """The clock is injected: the kernel has one for all. A machine that sleeps is a process that stands still."""
    clock = tmp_path / "clock"
    clock.write_text("0")

    async def body() -> None:
        async with machine(a_service(), a_slice()) as it:
            it.start(mode, first=INJECTED.format(path=str(clock)))
            await until(lambda: served(it, mode) == {"10.244.1.5:8080"}, 20)
            for at, shift in enumerate((YEAR, -20 * YEAR, 0.0, 3600.0), 1):
                clock.write_text(str(shift))
                it.api.put(a_slice(endpoints=[an_endpoint(f"10.244.9.{at}")]))
                await until(lambda at=at: served(it, mode) == {f"10.244.9.{at}:8080"}, 5, lambda: served(it, mode))
                assert healthy(it)
                assert abs(json_time(it) - time.time() - shift) < 60, "what people read is the clock's time"
            os.kill(it.process.pid, signal.SIGSTOP)
            it.api.put(a_slice(endpoints=[an_endpoint("10.244.9.99")]))
            await asyncio.sleep(1.0)
            os.kill(it.process.pid, signal.SIGCONT)
            await until(lambda: served(it, mode) == {"10.244.9.99:8080"}, 5, lambda: served(it, mode))
            assert healthy(it)

    run(body)


def json_time(it: Machine) -> float:
    """Return when it last wrote, as it says."""
    found = it.get("127.0.0.1:10249/metrics")
    return float(re.search(r'sync_proxy_rules_last_timestamp_seconds\{ip_family="IPv4"\} (\S+)', found)[1])


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_minutes_without_an_api_server_that_has_forgotten_everything_when_it_is_back():
    """Both modes at once, refused for more than a minute, or hung for longer than a watch may be silent."""
    async def one(mode: str, how: str) -> None:
        async with machine(a_service("a", "10.96.0.1"), a_slice("a"), a_service("b", "10.96.0.2"), a_slice("b")) as it:
            it.start(mode)
            await until(lambda: len(served(it, mode)) == 1, 20)
            await (asyncio.sleep(0, it.api.hang()) if how == "hangs" else it.api.close())
            end = time.monotonic() + (HUNG if how == "hangs" else GONE)
            it.api.remove("Service", "default/b")
            it.api.put(a_slice("a", [an_endpoint("10.244.1.8"), an_endpoint("10.244.1.9")]))
            while time.monotonic() < end:
                assert served(it, mode) == {"10.244.1.5:8080"}, "Services work on"
                assert healthy(it)
                await asyncio.sleep(2)
            await (asyncio.sleep(0, it.api.wake()) if how == "hangs" else it.api.open(it.fd))
            await until(lambda: served(it, mode) == {"10.244.1.8:8080", "10.244.1.9:8080"}, 60, lambda: (mode, how, served(it, mode)))
            it.api.put(a_slice("a", [an_endpoint("10.244.1.7")]))
            await until(lambda: served(it, mode) == {"10.244.1.7:8080"}, 20, lambda: (mode, how, served(it, mode)))
            errors = re.search(r'requests_total\{code="<error>",host="[^"]+",method="GET"\} (\d+)', it.get("127.0.0.1:10249/metrics"))
            tries = int(errors[1]) if errors else 0
            assert tries <= 4 * (GONE + 5), f"{tries} requests while nobody answered"
            assert tries > 4 or how == "hangs"

    async def body() -> None:
        await asyncio.gather(*(one(mode, how) for mode in ("iptables", "nftables") for how in ("refuses", "hangs")))

    asyncio.run(asyncio.wait_for(body(), 400))
