"""From single rule messages to visits: what one packet met in one namespace, hook by hook. Pure.

The kernel sends a packet's headers once per base chain, so a *run* (the messages of one base chain) knows the packet
as it entered that chain, and a difference between two runs is what NAT did in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from netlab.kernel.nft import TRACE_TABLE, TRACE_TABLES
from netlab.kernel.taps import RuleHit
from netlab.trace.packet import Key, Packet, parse_headers

HOOKS: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_MARKERS: Final = {"pre": "PREROUTING", "in": "INPUT", "fwd": "FORWARD", "out": "OUTPUT", "post": "POSTROUTING"}
_MARKER: Final = re.compile(r"(pre|in|fwd|out|post)([09])")


@dataclass
class Run:
    """One packet in one base chain. `marker` runs are the tracer's own chains: evidence, never shown."""

    hook: str
    table: str
    packet: Packet
    hits: list[RuleHit] = field(default_factory=list)
    marker: str = ""

    @property
    def iif(self) -> int:
        """Return the index of the interface that the packet came in by, 0 for none."""
        return self.hits[0].iif

    @property
    def mark(self) -> int:
        """Return the packet's mark as it came into the chain."""
        return self.hits[0].mark

    @property
    def oif(self) -> int:
        """Return the index of the interface that the packet is to leave by, 0 while it is not known."""
        return self.hits[0].oif


@dataclass
class Visit:
    """One packet's stay in one namespace's hooks, in order. `heard`: when its first message was read (monotonic s)."""

    place: str
    runs: list[Run] = field(default_factory=list)
    heard: float = 0.0

    @property
    def first(self) -> Packet:
        """Return the packet as it came in."""
        return self.runs[0].packet

    @property
    def local(self) -> bool:
        """Tell whether the packet was made here (its first hook is OUTPUT)."""
        return self.runs[0].hook in ("OUTPUT", "POSTROUTING")

    def hooks(self, *names: str) -> list[Run]:
        """Return the runs of these hooks."""
        return [run for run in self.runs if run.hook in names]


def collect(place: str, hits: Iterable[RuleHit], hooks: Mapping[tuple[str, str], str]) -> list[Visit]:
    """Sort the messages of one namespace into visits, in the order of their beginning.

    Args:
        place: whose messages.
        hits: in the order of arrival; those of iptables-legacy among them are told by their `legacy`.
        hooks: the hook of each base chain of native nftables, by (table, chain).
    """
    collector = Collector(place)
    collector.feed(hits, hooks)
    return collector.visits


class Collector:
    """Sorts messages into visits as they come.

    The kernel's own trace number is good for one base chain only: it is made of the buffer's address and the incoming
    interface, and so changes when a bridge hands a packet up to IP, and comes again with a later packet. What tells
    visits apart is the packet's key, and that every visit begins at the first marker of PREROUTING or OUTPUT.
    """

    def __init__(self, place: str) -> None:
        self.visits: list[Visit] = []
        self._place = place
        self._open: dict[int, Run] = {}
        self._current: dict[Key, Visit] = {}

    def feed(self, hits: Iterable[RuleHit], hooks: Mapping[tuple[str, str], str], now: float = 0.0) -> None:
        """Take more messages, in the order of their arrival; `now` (monotonic s) is when they were read."""
        legacy: list[RuleHit] = []
        for hit in hits:
            if hit.legacy:
                legacy.append(hit)
                continue
            if hit.table.startswith(TRACE_TABLES) and hit.table != TRACE_TABLE:
                continue  # somebody else traces as well
            if hit.network:  # the headers come with the first message of each base chain
                packet = parse_headers(hit.network, hit.transport)
                if packet is None:
                    self._open.pop(hit.visit, None)
                    continue
                run = self._open[hit.visit] = _run(hit, packet, hooks)
                self._begin(run, now)
            if hit.visit in self._open:  # else its beginning was lost
                self._open[hit.visit].hits.append(hit)
        _merge_legacy(self.visits, legacy)

    def keep(self, wanted: Callable[[Visit], bool]) -> None:
        """Forget all visits but these."""
        self.visits = [visit for visit in self.visits if wanted(visit)]
        left = {id(visit) for visit in self.visits}
        self._current = {key: visit for key, visit in self._current.items() if id(visit) in left}
        if not self.visits:
            self._open.clear()

    def _begin(self, run: Run, now: float) -> None:
        key = run.packet.key
        if run.marker in ("pre0", "out0") or key not in self._current:
            self._current[key] = Visit(self._place, heard=now)
            self.visits.append(self._current[key])
        self._current[key].runs.append(run)


def _run(hit: RuleHit, packet: Packet, hooks: Mapping[tuple[str, str], str]) -> Run:
    if hit.table == TRACE_TABLE:
        found = _MARKER.fullmatch(hit.chain)
        return Run(_MARKERS[found[1]] if found else "", hit.table, packet, marker=hit.chain)
    return Run(hit.chain if hit.chain in HOOKS else hooks.get((hit.table, hit.chain), hit.chain), hit.table, packet)


def _merge_legacy(visits: Sequence[Visit], hits: Sequence[RuleHit]) -> None:
    """Put iptables-legacy's messages, which name no packet, into the visits that the marker chains have told of.

    Within a hook the tables run as the kernel has them (raw, mangle, nat, filter, ...), all between the two markers;
    every message carries the packet, so the visit is the first one with that packet whose hook is still without.
    """
    taken: dict[tuple[int, str], Run] = {}
    last: Run | None = None
    for hit in hits:
        packet = parse_headers(hit.network, hit.transport)
        if packet is None:
            continue
        if hit.chain not in HOOKS:  # a user chain: it goes on where its base chain was
            if last is not None and last.packet.key == packet.key:
                last.hits.append(hit)
            continue
        for visit in visits:
            if visit.first.key != packet.key or not any(run.marker and run.hook == hit.chain for run in visit.runs):
                continue
            run = taken.get((id(visit), hit.chain + hit.table))
            if run is not None and run is not last and not _continues(run, hit):
                continue
            if run is None:
                run = taken[id(visit), hit.chain + hit.table] = Run(hit.chain, hit.table, packet)
                visit.runs.insert(_place_for(visit, hit.chain), run)
            run.hits.append(hit)
            last = run
            break


def _continues(run: Run, hit: RuleHit) -> bool:
    """Tell whether a base chain's message may follow those of the run: rules count upwards within one pass."""
    numbers = [old.rule for old in run.hits if old.chain == hit.chain]
    return bool(numbers) and hit.rule > numbers[-1] and run.hits[-1].kind != "policy"


def _place_for(visit: Visit, hook: str) -> int:
    """Return where a run of this hook goes: before the hook's closing marker, else behind its last run."""
    for at, run in enumerate(visit.runs):
        if run.hook == hook and run.marker.endswith("9"):
            return at
    return 1 + max(at for at, run in enumerate(visit.runs) if run.hook == hook)
