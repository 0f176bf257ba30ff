"""The chain of plugins behind a zone: each answers a question or hands it on, in CoreDNS' fixed order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from netlab.dns.message import REFUSED, SERVFAIL, Reply, Request

Next = Callable[[Request], Awaitable[Reply]]


class Plugin(Protocol):
    """A link of the chain."""

    name: str

    @abstractmethod
    async def serve(self, request: Request, following: Next) -> Reply:
        """Answer, or return what `following` answers."""


class Chain:
    """The plugins of one server block, outermost first; `zones` are what the block is for."""

    def __init__(self, zones: Sequence[str], plugins: Sequence[Plugin]) -> None:
        self.zones, self.plugins = tuple(zones), tuple(plugins)

    def depth(self, name: str) -> int:
        """Return how specific the zone is that a name belongs to, in labels; -1 when it belongs to none."""
        return max((zone.count(".") + 1 if zone else 0 for zone in self.zones if within(name, zone)), default=-1)

    async def ask(self, request: Request, place: int = 0) -> Reply:
        """Ask the plugins from `place` on; nobody's question is refused."""
        if place >= len(self.plugins):
            return Reply(REFUSED if place else SERVFAIL)
        return await self.plugins[place].serve(request, lambda following: self.ask(following, place + 1))


def within(name: str, zone: str) -> bool:
    """Tell whether a name is the zone or below it; "" is the root."""
    return not zone or name == zone or name.endswith(f".{zone}")


def choose(chains: Sequence[Chain], name: str) -> Chain | None:
    """Return the chain with the most specific zone for a name."""
    best = max(chains, key=lambda chain: chain.depth(name), default=None)
    return best if best is not None and best.depth(name) >= 0 else None
