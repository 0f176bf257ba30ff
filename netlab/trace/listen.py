"""Ears in many namespaces at once: packet sockets, rule traces, read in one loop.

setns happens only while the sockets are opened. When this process dies, they take everything along: taps, log groups,
and the nft tables, which their sockets own.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from netlab.errors import KernelError
from netlab.kernel import nft
from netlab.kernel.netns import inside
from netlab.kernel.taps import LegacyTrace, NftTrace, PacketTap, RuleHit
from netlab.trace.correlate import Seen
from netlab.trace.packet import Key, Packet, parse, parse_headers

ARM_ALL: Final = 48
"""Up to this many namespaces are armed all; beyond, Pods other than the sender only have a tap."""


@dataclass(frozen=True)
class Tap:
    """A namespace to listen in: `place` is `node/worker1`, `pod/default/web-1`, `outside`; `node` is a Pod's node."""

    place: str
    netns_fd: int
    node: str = ""


@dataclass
class Heard:
    """Everything heard so far, by place."""

    seen: list[Seen] = field(default_factory=list)
    hits: dict[str, list[RuleHit]] = field(default_factory=dict)
    lost: int = 0
    _first: Key | None = None
    _keys: dict[tuple[str, int], Key] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)

    def dropped(self, is_first: Callable[[Packet], bool]) -> bool:
        """Tell whether the first packet was dropped by a rule or a policy."""
        for place, hits in self.hits.items():
            for hit in hits[self._read.get(place, 0):]:
                if hit.network and (packet := parse_headers(hit.network, hit.transport)) is not None:
                    self._keys[place, hit.visit] = packet.key
                    if self._first is None and is_first(packet):
                        self._first = packet.key
                if hit.verdict == "DROP" and self._first is not None and \
                        self._keys.get((place, hit.visit)) == self._first:
                    return True
            self._read[place] = len(hits)
        return False


Source = PacketTap | NftTrace | LegacyTrace


class Ears:
    """The open sockets of all namespaces; close it with its stack."""

    def __init__(self, stack: ExitStack, loop: selectors.BaseSelector) -> None:
        self.heard = Heard()
        self.warnings: list[str] = []
        self._stack, self._loop = stack, loop
        self._sources: list[tuple[str, Source]] = []

    def open(self, tap: Tap, matches: Sequence[str], filter: Sequence[tuple[int, int, int, int]], *,
             armed: bool) -> None:
        """Listen in one namespace: to frames that pass `filter`, if `armed` also to rules that `matches` meet."""
        self._add(tap.place, PacketTap(tap.netns_fd, filter=filter))
        if not armed:
            return
        try:
            self._add(tap.place, NftTrace(tap.netns_fd))
            if legacy_in_use(tap.netns_fd):
                self._add(tap.place, LegacyTrace(tap.netns_fd))
            self._stack.enter_context(nft.armed(tap.netns_fd, *matches))
        except KernelError as error:
            self.warnings.append(f"{tap.place}: no rules in this trace: {error}")

    def take(self, place: str, source: Source) -> bool:
        """Read one socket; tell whether rules were heard (taps hear strangers too)."""
        if isinstance(source, PacketTap):
            for frame in source.read():
                packet = parse(frame.data)
                if packet is not None:
                    self.heard.seen.append(Seen(frame.at, place, frame.interface, frame.outgoing, packet, frame.data))
            return False
        hits = source.read()
        self.heard.hits.setdefault(place, []).extend(hits)
        return bool(hits)

    def take_all(self) -> None:
        """Read every socket a last time, and count what was lost."""
        for place, source in self._sources:
            self.take(place, source)
        self.heard.lost = sum(source.count_lost() for _, source in self._sources)

    def _add(self, place: str, source: Source) -> None:
        self._stack.callback(source.close)
        self._loop.register(source.fileno(), selectors.EVENT_READ, (place, source))
        self._sources.append((place, source))


def legacy_in_use(netns: int) -> bool:
    """Tell whether a namespace has tables of iptables-legacy."""
    with inside(netns):
        for name in ("ip_tables_names", "ip6_tables_names"):
            try:
                with open(f"/proc/thread-self/net/{name}") as file:
                    if file.read().strip():
                        return True
            except OSError:
                continue
    return False
