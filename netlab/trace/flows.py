"""Live traffic sorted into flows as it is heard: which packet opens one, which answers it, when it ends. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from netlab.kernel.conntrack import Flow as Tracked
from netlab.trace.conversation import Conversation
from netlab.trace.correlate import Seen
from netlab.trace.packet import TCP, UDP, Key, Packet
from netlab.trace.reasons import FATAL, Death
from netlab.trace.visits import Visit
from netlab.trace.watch import Addresses, Watch

SETTLED: Final = 0.15
"""Seconds after the answer is back, or after the drop, until a flow is told: all events are in by then."""

IDLE: Final = 10.0
"""Seconds without a packet after which the same pair of UDP ports counts as a new flow."""


@dataclass
class Flow:
    """One flow while it is being listened to. Times are ns since the epoch, but `due`, which is monotonic seconds."""

    first: Packet
    place: str
    at: int
    talk: Conversation
    seen: list[Seen] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    answer: Packet | None = None
    due: float = 0.0
    answered: bool = False


class Flows:
    """The flows of now. `patience` is how long (s) an answer is waited for."""

    def __init__(self, watch: Watch, patience: float) -> None:
        self._watch, self._patience = watch, patience
        self._by_key: dict[Key, list[Flow]] = {}
        """Several for datagrams alone: TCP's sequence numbers tell every flow from the others."""
        self._by_sequence: dict[int, Flow] = {}
        self._by_addresses: dict[tuple[int, Addresses], Flow] = {}
        self._before_nat: dict[tuple[int, Addresses], Addresses] = {}
        self._quiet: dict[tuple[int, Addresses], float] = {}
        self.begun = 0

    def hear(self, events: Iterable[Seen], now: float) -> None:
        """Take interface events, in the order of their time."""
        for event in events:
            flow = self._find(event.packet) or self._open(event, now)
            if flow is None:
                continue
            flow.seen.append(event)
            if event.at < flow.at and event.packet.key == flow.first.key:  # read later, though it came earlier
                flow.at, flow.place, flow.first = event.at, event.place, event.packet
            self._learn(flow, event.packet)
            if flow.talk.direction(event.packet) == "reply" and not event.packet.is_redirect:
                flow.answer = flow.answer or event.packet
                if event.place == flow.place and not event.outgoing and not flow.answered:
                    flow.answered, flow.due = True, now + SETTLED

    def translate(self, entries: Iterable[Tracked]) -> None:
        """Take new conntrack entries: they tell which spelling behind the NAT belongs to which one before it."""
        for entry in entries:
            one, back = entry.original, entry.reply
            before = one.src, one.sport, one.dst, one.dport
            behind = back.dst, back.dport, back.src, back.sport
            if entry.protocol == "udp" and before != behind:
                self._before_nat[UDP, behind] = before
        while len(self._before_nat) > 65536:
            del self._before_nat[next(iter(self._before_nat))]

    def mourn(self, deaths: Iterable[Death], now: float) -> None:
        """Take drops that BPF told of."""
        for death in deaths:
            flow = self._find(death.packet)
            if flow is not None:
                flow.deaths.append(death)
                if death.reason in FATAL and death.packet.key == flow.first.key and not flow.answered:
                    flow.due = min(flow.due, now + SETTLED)

    def judge(self, visits: Iterable[Visit], now: float) -> None:
        """See which flows a rule has dropped: nobody need wait for their answers."""
        for visit in visits:
            flow = self._find(visit.first)
            if flow is None or visit.first.key != flow.first.key:
                continue
            self._learn(flow, visit.first)  # as it was before a NAT of its own namespace, which no interface saw
            if flow.answered:
                continue
            if flow.due > now + SETTLED and any(hit.verdict == "DROP" for run in visit.runs for hit in run.hits):
                flow.due = now + SETTLED

    def due(self, now: float, *, all: bool = False) -> Iterator[Flow]:
        """Yield the flows that are to be told now, and forget them; with `all` also those just answered."""
        for flow in [flow for flows in self._by_key.values() for flow in flows
                     if flow.due <= now or (all and flow.answered)]:
            same = self._by_key[flow.first.key]
            same.remove(flow)
            if not same:
                del self._by_key[flow.first.key]
            self._by_sequence.pop((flow.first.seq + 1) & 0xFFFFFFFF, None)
            for spelling in flow.talk.tuples:
                self._by_addresses.pop((flow.first.protocol, spelling), None)
                if flow.first.protocol == UDP:
                    self._quiet[UDP, spelling] = now
            yield flow
        if len(self._quiet) > 4096:
            self._quiet = {known: last for known, last in self._quiet.items() if now - last < IDLE}

    @property
    def keys(self) -> set[Key]:
        """Return the keys of the packets that rules are still awaited for."""
        found: set[Key] = set(self._by_key)
        for flows in self._by_key.values():
            found |= {flow.answer.key for flow in flows if flow.answer is not None}
        return found

    def __len__(self) -> int:
        return len(self._by_key)

    def _find(self, packet: Packet) -> Flow | None:
        """Return the flow that a packet belongs to."""
        for flow in self._by_key.get(packet.key, ()):
            if packet.protocol != UDP or flow.talk.direction(packet) or _same_source(flow, packet) or \
                    self._before_nat.get((UDP, packet.addresses)) in flow.talk.tuples:
                return flow
        if packet.is_icmp_error and packet.inner is not None:
            inner = packet.inner
            if inner.protocol == TCP:
                return self._by_sequence.get((inner.seq + 1) & 0xFFFFFFFF)
            return self._by_addresses.get((inner.protocol, inner.addresses))
        if packet.protocol == TCP:
            return self._by_sequence.get(packet.ack) if packet.flags & 16 else None
        if packet.is_icmp:
            return next((flow for flows in self._by_key.values() for flow in flows
                         if flow.first.is_icmp and flow.talk.direction(packet)), None)
        source, sport, destination, dport = packet.addresses
        return self._by_addresses.get((packet.protocol, packet.addresses)) or \
            self._by_addresses.get((packet.protocol, (destination, dport, source, sport)))

    def _open(self, event: Seen, now: float) -> Flow | None:
        packet = event.packet
        if not _opens(packet):
            return None
        sampled = self._watch.sampled(packet)
        if packet.protocol == UDP:
            source, sport, destination, dport = packet.addresses
            for spelling in (packet.addresses, (destination, dport, source, sport)):
                if now - self._quiet.get((UDP, spelling), -IDLE) < IDLE:
                    self._quiet[UDP, spelling] = now  # it goes on: told before
                    return None
            if not sampled:  # what answers it is no flow of its own
                self._quiet[UDP, packet.addresses] = now
        if not sampled:
            return None
        flow = Flow(packet, event.place, event.at, Conversation(packet), due=now + self._patience)
        self._by_key.setdefault(packet.key, []).append(flow)
        if packet.protocol == TCP:
            self._by_sequence[(packet.seq + 1) & 0xFFFFFFFF] = flow
        self._by_addresses[packet.protocol, packet.addresses] = flow
        self.begun += 1
        return flow

    def _learn(self, flow: Flow, packet: Packet) -> None:
        if packet.key == flow.first.key and packet.addresses not in flow.talk.tuples:  # `_find` knows that it belongs
            flow.talk.tuples.add(packet.addresses)
            self._by_addresses.setdefault((flow.first.protocol, packet.addresses), flow)
        if flow.talk.learn(packet):
            for spelling in flow.talk.tuples:
                self._by_addresses.setdefault((flow.first.protocol, spelling), flow)


def _opens(packet: Packet) -> bool:
    """Tell whether a packet may be a flow's first."""
    if packet.fragment is not None and packet.fragment[0]:
        return False
    if packet.protocol == TCP:
        return packet.flags & 22 == 2
    if packet.is_icmp:
        return packet.what == "echo request"
    return packet.protocol == UDP or packet.what == "INIT"


def _same_source(flow: Flow, packet: Packet) -> bool:
    """Tell whether a datagram comes from where the flow does: only its destination was rewritten."""
    return any(packet.addresses[:2] == known[:2] for known in flow.talk.tuples)
