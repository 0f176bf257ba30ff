"""`netlab trace --follow`: the live traffic of all namespaces, told flow by flow as it ends.

Only what opens, answers or refuses flows is listened to. The tables that have rules traced belong to our sockets, and
go with them, however this process ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from netlab.errors import KernelError, NetnsGone
from netlab.kernel.filters import FLOWS
from netlab.trace import proxied
from netlab.trace.event import Trace
from netlab.trace.facts import Facts
from netlab.trace.flows import SETTLED, Flow, Flows
from netlab.trace.listen import Ears, Heard, Tap, legacy_in_use
from netlab.trace.packet import NAMES, Key, Packet, join
from netlab.trace.story import Opened, Story
from netlab.trace.verdict import GOOD
from netlab.trace.visits import Collector, Visit
from netlab.trace.watch import Watch

REFRESH: Final = 2.0
"""Seconds between two looks for namespaces that have come or gone."""

TICK: Final = 0.05

TOGETHER: Final = 20_000_000
"""Events are sorted once they were so old (ns) when a round of reading began: by then all sockets have told of them."""

FRESH: Final = 1.0
"""Seconds that a visit is kept for a flow that nobody knows yet: its packet's own events come by other sockets."""


@dataclass(frozen=True)
class Told:
    """A flow that has ended, or was answered: its trace, and what became of it.

    `status`: the trace's own, but "dropped" for what died on its way without a word, and "silent" for what arrived and
    was not answered (which UDP need not be).
    """

    at: int
    status: str
    trace: Trace

    @property
    def good(self) -> bool:
        """Tell whether nothing was lost."""
        return self.status in (*GOOD, "silent")


@dataclass(frozen=True)
class Closing:
    """What there was to see: `lost` counts events that the kernel could not hand over, by kind."""

    seconds: float
    flows: int
    shown: int
    dropped: int
    sample: int
    lost: Mapping[str, int]


@dataclass(frozen=True)
class Limits:
    """When to stop: after `count` flows shown, after `duration` seconds (0: never), or when `stop` says so.

    `patience` is how long (s) an answer is waited for; `ready` is called once everything is listened to.
    """

    count: int = 0
    duration: float = 0.0
    patience: float = 3.5
    stop: Callable[[], bool] = lambda: False
    ready: Callable[[], None] = lambda: None


def follow(watch: Watch, taps: Sequence[Tap], names: Mapping[str, str], tell: Callable[[Told], None], *,
           limits: Limits | None = None, bpf: bool | None = None,
           refresh: Callable[[], Sequence[Tap]] | None = None,
           release: Callable[[Tap], None] = lambda _: None) -> Closing:
    """Listen until a limit is reached, and hand every flow that is asked for to `tell`.

    Args:
        watch: which flows.
        taps: the namespaces to listen in.
        names: names by IP address.
        tell: called in this thread, in the order in which flows end.
        limits: when to stop.
        bpf: ask for drop reasons; None where it is possible.
        refresh: returns the namespaces of now, for those that come later; asked every other second.
        release: told of a namespace that `refresh` had no more and that nothing is asked of any longer.

    Raises:
        Unsupported: no drop reasons although they are insisted on.
    """
    following = _Following(watch, names, tell, limits or Limits(), release)
    try:
        if bpf is not False:
            following.ears.ask_for_drops(taps, insist=bool(bpf))
        for tap in taps:
            following.listen(tap)
        following.limits.ready()
        return following.run(refresh)
    finally:
        following.ears.close()


class _Following:
    """The state of one `follow`."""

    def __init__(self, watch: Watch, names: Mapping[str, str], tell: Callable[[Told], None], limits: Limits,
                 release: Callable[[Tap], None]) -> None:
        self._release = release
        self._taps: dict[str, Tap] = {}
        self._missing: dict[str, float] = {}
        self.ears = Ears()
        self._watch, self._names, self._tell, self.limits = watch, names, tell, limits
        self._flows = Flows(watch, limits.patience)
        self._places: dict[str, int] = {}
        self._legacy: dict[str, bool] = {}
        self._translated: dict[str, int] = {}
        self._collectors: dict[str, Collector] = {}
        self._facts = Facts(self._places, lambda place: self._legacy.get(place, False))
        self._began = time.monotonic()
        self._shown = self._dropped = self._ended = 0

    def listen(self, tap: Tap) -> None:
        """Add a namespace."""
        self._taps[tap.place] = tap
        self._places[tap.place] = tap.netns_fd
        self._legacy[tap.place] = legacy_in_use(tap.netns_fd)
        self.ears.open(tap, self._watch.matches(), FLOWS, armed=tap.place != "host")

    def run(self, refresh: Callable[[], Sequence[Tap]] | None) -> Closing:
        """Listen and tell until a limit is reached."""
        renewed = self._began
        while not self._over():
            ready = self.ears.loop.select(TICK)
            settled = time.time_ns() - TOGETHER
            for key, _ in ready:
                self.ears.take(*key.data)
            now = time.monotonic()
            if now - renewed > REFRESH:
                renewed = now
                self._facts.renew()
                if refresh is not None:
                    self._renew(refresh(), now)
            self._sort(now, settled)
            self._tell_due(now)
        last = time.monotonic() + SETTLED
        while (now := time.monotonic()) < last and not self._enough():
            ready = self.ears.loop.select(last - now)
            settled = time.time_ns() - TOGETHER
            for key, _ in ready:
                self.ears.take(*key.data)
            self._sort(now, settled)
        self._tell_due(time.monotonic(), all=True)
        return Closing(time.monotonic() - self._began, self._flows.begun, self._shown, self._dropped,
                       self._watch.sample, self.ears.lost_by_kind())

    def _renew(self, taps: Sequence[Tap], now: float) -> None:
        """Listen in namespaces that have come, and let go of those gone for so long that their flows are told."""
        there = {tap.place: tap for tap in taps}
        for place, tap in list(self._taps.items()):
            new = there.get(place)
            if new is not None and new.netns_fd == tap.netns_fd:
                self._missing.pop(place, None)
            elif new is not None or now - self._missing.setdefault(place, now) > self.limits.patience + SETTLED:
                self._leave(tap)
        for place, tap in there.items():
            if place not in self._taps:
                try:
                    self.listen(tap)
                except (KernelError, NetnsGone):  # it came and went
                    self._leave(tap)

    def _leave(self, tap: Tap) -> None:
        place = tap.place
        self.ears.leave(place)
        self._facts.forget(place)
        kept: tuple[dict[str, Any], ...] = (self._taps, self._missing, self._places, self._legacy, self._translated,
                                            self._collectors, self.ears.heard.flows, self.ears.heard.hits)
        for each in kept:
            each.pop(place, None)
        self._release(tap)

    def _over(self) -> bool:
        limits = self.limits
        return bool(limits.stop() or self._enough() or
                    (limits.duration and time.monotonic() - self._began >= limits.duration))

    def _enough(self) -> bool:
        return 0 < self.limits.count <= self._shown

    def _sort(self, now: float, settled: int) -> None:
        """Hand what was heard up to `settled` (ns) to the flows."""
        heard, begun = self.ears.heard, self._flows.begun
        for place, entries in heard.flows.items():
            self._flows.translate(entries[self._translated.get(place, 0):])
            self._translated[place] = len(entries)
        self._flows.hear(sorted((e for e in heard.seen if e.at <= settled), key=lambda event: event.at), now)
        self._flows.mourn(heard.deaths, now)
        for place, hits in heard.hits.items():
            if hits:
                try:
                    hooks = self._facts.hooks(place)
                except KernelError:  # the namespace is gone
                    continue
                self._collectors.setdefault(place, Collector(place)).feed(hits, hooks, now)
        for place, collector in self._collectors.items():
            if heard.hits.get(place) or self._flows.begun > begun:  # rules may be read before their flow is known
                self._flows.judge(collector.visits, now)
        heard.seen, heard.hits, heard.deaths = [e for e in heard.seen if e.at > settled], {}, []

    def _tell_due(self, now: float, *, all: bool = False) -> None:
        due = list(self._flows.due(now, all=all))
        visits = _Visits(self._collectors.values()) if due else None
        for flow in due:
            if self._enough():
                break
            self._ended += 1
            if not self._watch.wants(flow.talk.tuples, flow.first.protocol):
                continue
            told = self._told(flow, visits.of(flow) if visits else [])
            self._dropped += not told.good
            if told.good and self._watch.drops_only:
                continue
            self._shown += 1
            self._tell(told)
        if due:
            awaited = self._flows.keys
            for collector in self._collectors.values():
                collector.keep(lambda visit: visit.first.key in awaited or now - visit.heard < FRESH)
            for place, flows in self.ears.heard.flows.items():
                self.ears.heard.flows[place] = flows[-1000:]
                self._translated[place] = min(len(flows), 1000)
        elif not self._flows:
            for collector in self._collectors.values():
                if len(collector.visits) > 1000:
                    collector.keep(lambda visit: now - visit.heard < FRESH)

    def _told(self, flow: Flow, stays: Sequence[Visit]) -> Told:
        first = flow.first
        heard = Heard(seen=flow.seen, flows=self.ears.heard.flows, deaths=flow.deaths)
        origin = _origin(flow, stays)
        target = self._names.get(origin.destination, "")
        asked = Opened(flow.place, origin.destination, origin.dport if not first.is_icmp else 0,
                       NAMES.get(first.protocol, str(first.protocol)).replace("icmpv6", "icmp"))
        answer = proxied.answer(flow.answer)
        story = Story(heard, self._facts, self._names, stays)
        wanted = first.key, origin.addresses
        trace = story.tell(asked, lambda packet: (packet.key, packet.addresses) == wanted, answer,
                           target=join(target, asked.port) if target else "")
        trace = replace(trace, bpf=self.ears.bpf)
        status = trace.outcome.status
        if status == "timeout":
            status = "dropped" if trace.request and trace.request[-1].kind == "drop" else "silent"
            if trace.outcome.why.startswith("the answer died"):
                status = "dropped"
        return Told(flow.at, status, trace)


class _Visits:
    """All visits of now by the keys of their packets: of a thousand flows each has its own few."""

    def __init__(self, collectors: Iterable[Collector]) -> None:
        self._all = [visit for collector in collectors for visit in collector.visits]
        self._by_key: dict[Key, list[int]] = {}
        self._errors = [at for at, visit in enumerate(self._all) if visit.first.is_icmp_error]
        for at, visit in enumerate(self._all):
            self._by_key.setdefault(visit.first.key, []).append(at)

    def of(self, flow: Flow) -> list[Visit]:
        """Return a flow's visits, those of each place in their order: of its packets, and of errors about it."""
        keys = {flow.first.key, *(event.packet.key for event in flow.seen)}
        numbers = {at for key in keys for at in self._by_key.get(key, ())}.union(self._errors)
        return [visit for at in sorted(numbers) if flow.talk.direction((visit := self._all[at]).first)]


def _origin(flow: Flow, stays: Sequence[Visit]) -> Packet:
    """Return the first packet as it was made, before any NAT of its own namespace."""
    for visit in stays:
        if visit.place == flow.place and visit.local and visit.first.key == flow.first.key:
            return visit.first
    return flow.first
