"""agnhost load (netlab's own): a fixed number of connections that ask as fast as they are answered; result as JSON.

{"url", "connections", "seconds", "requests", "errors": {words: count}, "perSecond", "latencyMs": {"p50", "p90", "p99",
"max"}, "answers": {first line of the body: count}}. With --keepalive=false every request is a connection of its own,
so that `answers` (of a server's /hostname) shows how a Service spreads them.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from netlab.agnhost import dial
from netlab.errors import UsageError
from netlab.flags import Flag, parse

FLAGS: Final = (
    Flag("connections", "int", 10, "how many ask at the same time"),
    Flag("requests", "int", 0, "stop after so many requests; 0: by time"),
    Flag("duration", "duration", 5.0, "stop after this time"),
    Flag("timeout", "duration", 5.0, "how long one answer may take"),
    Flag("keepalive", "bool", True, "keep connections between requests"),
)


@dataclass
class Tally:
    """What has been counted so far. `latencies` are seconds."""

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)


def main(argv: list[str]) -> int:
    """Ask, and print the result; 1 when nothing was answered."""
    flags = parse("agnhost load", argv, FLAGS)
    if len(flags.args) != 1 or not flags.args[0].startswith(("http://", "https://")):
        raise UsageError("usage: agnhost load http://HOST:PORT/PATH [--connections=10] [--duration=5s | --requests=N]")
    if flags["connections"] < 1:
        raise UsageError("--connections must be 1 or more")
    started = time.perf_counter()
    tally = asyncio.run(run(flags.args[0], connections=flags["connections"], requests=flags["requests"],
                            duration=flags["duration"], timeout=flags["timeout"], keepalive=flags["keepalive"]))
    told = {"url": flags.args[0], "connections": flags["connections"]}
    sys.stdout.write(json.dumps(told | summary(tally, time.perf_counter() - started)) + "\n")
    return 0 if tally.latencies else 1


async def run(url: str, *, connections: int, requests: int, duration: float, timeout: float,
              keepalive: bool) -> Tally:
    """Ask a URL from a number of connections; times in seconds."""
    import aiohttp
    tally = Tally()
    left = [requests or -1]
    end = time.perf_counter() + duration
    connector = aiohttp.TCPConnector(limit=connections, force_close=not keepalive,
                                     ssl=ssl.create_default_context())  # aiohttp's own trusts nobody here
    limit = aiohttp.ClientTimeout(total=timeout)

    async def one(session: aiohttp.ClientSession) -> None:
        while left[0] and time.perf_counter() < end:
            left[0] -= 1
            began = time.perf_counter()
            try:
                async with session.get(url) as response:
                    body = await response.text(errors="replace")
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                tally.errors[dial.reason(error)] += 1
                await asyncio.sleep(0.01)
                continue
            tally.latencies.append(time.perf_counter() - began)
            tally.answers[body.partition("\n")[0][:80] if response.status < 400 else f"HTTP {response.status}"] += 1

    async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
        await asyncio.gather(*(one(session) for _ in range(connections)))
    return tally


def summary(tally: Tally, seconds: float) -> dict[str, Any]:
    """Return the result as it is printed."""
    ordered = sorted(tally.latencies)
    return {"seconds": round(seconds, 3), "requests": len(ordered), "errors": dict(tally.errors),
            "perSecond": round(len(ordered) / seconds, 1) if seconds else 0.0,
            "latencyMs": {name: _at(ordered, share) for name, share in
                          (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))},
            "answers": dict(tally.answers.most_common(50))}


def _at(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3) if ordered else 0.0
