"""From all that was heard to a trace: which packets belong to the exchange, their way, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from netlab.errors import KernelError
from netlab.kernel import counters, lookup, sysctl
from netlab.kernel.taps import RuleHit
from netlab.trace import correlate, proxied, rulebook, visits
from netlab.trace.conversation import Conversation
from netlab.trace.correlate import Seen
from netlab.trace.event import Direction, Entry, Hop, Passage, RouteUsed, Trace
from netlab.trace.listen import Heard
from netlab.trace.packet import NAMES, Key, Packet, join
from netlab.trace.send import Answer
from netlab.trace.vanish import Ask
from netlab.trace.verdict import conclude

T = TypeVar("T")


class Asked(Protocol):
    """What the story is told of: `source` is the sending place."""

    @property
    def source(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def protocol(self) -> str: ...


@dataclass(frozen=True)
class Opened:
    """A connection that somebody else opened, as `Asked`."""

    source: str
    address: str
    port: int
    protocol: str


class Story:
    """One exchange, told from what was heard; rules, links and routes are read from the kernel where it went.

    `before` holds the counters of places as they were before the exchange, for what only a counter tells.
    """

    def __init__(self, heard: Heard, by_place: Mapping[str, int], names: Mapping[str, str],
                 before: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._heard, self._by_place, self._names = heard, by_place, names
        self._before = before or {}
        self._books: dict[str, rulebook.RuleBook] = {}
        self._links: dict[str, dict[int, correlate.Link]] = {}
        self._lookups: dict[str, lookup.Lookup] = {}
        self._heard.seen = [event for event in heard.seen if not (event.stray and self._astray(event))]
        self._stays = [visit for place, hits in heard.hits.items() if hits
                       for visit in visits.collect(place, hits, self._book(place).hooks)]

    def tell(self, request: Asked, is_first: Callable[[Packet], bool], answer: Answer, *, target: str = "",
             warnings: Sequence[str] = ()) -> Trace:
        """Return the trace."""
        first = self._first_packet(is_first, request.source)
        there: list[Hop] = []
        back: list[Hop] = []
        passages: list[Passage] = []
        if first is not None:
            talk = self._conversation(first)
            there = self._way("request", first, talk)
            came = self._first_reply(talk)
            if came is not None:
                back = self._way("reply", came, talk)
            passages = self._passages(talk)
        deaths = [death for death in self._heard.deaths if first is not None and talk.direction(death.packet)]
        ask = Ask(self._route, self._neighbor, self._counted, self._setting)
        answer = _wire_time(answer, passages, request.source)
        outcome, there, back = conclude(answer, there, back, self._names, ask, deaths)
        to = join(request.address, request.port)
        told = Trace(request.source, target or to, request.protocol, to, tuple(there), tuple(back), outcome,
                     tuple(passages), lost=self._heard.lost, warnings=tuple(warnings))
        second = proxied.first_packet(first, there, passages, self._heard.seen, self._stays)
        if second is None:
            return told
        return proxied.joined(told, self._second(request.protocol, there[-1].place, second))

    def _second(self, protocol: str, place: str, first: Packet) -> Trace:
        """Return the trace of the connection that a proxy at `place` opened with this packet."""
        asked = Opened(place, first.destination, first.dport, protocol)
        came = self._first_reply(self._conversation(first))
        return self.tell(asked, lambda packet: packet == first, proxied.answer(came))

    def _lookup(self, place: str) -> lookup.Lookup:
        if place not in self._lookups:
            self._lookups[place] = lookup.Lookup(self._by_place[place])
        return self._lookups[place]

    def _route(self, place: str, packet: Packet, iif: str) -> lookup.RouteAnswer:
        return self._lookup(place).route(packet.destination, source=packet.source, iif=iif)

    def _neighbor(self, place: str, address: str) -> str:
        found = self._lookup(place).neighbor(address)
        return found.state if found is not None else ""

    def _counted(self, place: str, name: str) -> int:
        if place not in self._before:
            return 0
        return counters.read(self._by_place[place]).get(name, 0) - self._before[place].get(name, 0)

    def _setting(self, place: str, name: str) -> str:
        try:
            return sysctl.read(name, self._by_place[place])
        except KernelError:
            return ""

    def _routed(self, place: str, packet: Packet, iif: str, mark: int) -> RouteUsed | None:
        """Return the routing decision for a packet: the kernel is asked anew, right after the trace."""
        found = self._lookup(place).route(packet.destination, source=packet.source, iif=iif, mark=mark)
        if not found.kind:
            return None
        if found.kind != "unicast":
            return RouteUsed(found.kind, found.table, found.prefix, "", found.interface)
        next_hop = found.gateway or packet.destination
        entry = self._lookup(place).neighbor(next_hop, found.interface)
        return RouteUsed(found.kind, found.table, found.prefix, found.gateway, found.interface, next_hop,
                         entry.state if entry is not None else "", entry.mac if entry is not None else "")

    def _entries(self, place: str, packet: Packet, talk: Conversation) -> list[Entry]:
        """Return the conntrack entries that were made for this packet at a place."""
        found = []
        for flow in self._heard.flows.get(place, ()):
            one, back = flow.original, flow.reply
            same = any(one.src == source and one.dst == destination and
                       (packet.is_icmp or (one.sport, one.dport) == (sport, dport))
                       for source, sport, destination, dport in talk.tuples)
            if same and flow.protocol == NAMES.get(packet.protocol, ""):
                found.append(Entry(flow.protocol, join(one.src, one.sport), join(one.dst, one.dport),
                                   join(back.src, back.sport), join(back.dst, back.dport)))
        return found

    def _astray(self, event: Seen) -> bool:
        """Tell whether a frame for somebody else came to an interface that is no bridge's port: a flooded copy."""
        return not any(entry.name == event.interface and entry.master
                       for entry in self._links_of(event.place).values())

    def _book(self, place: str) -> rulebook.RuleBook:
        if place not in self._books:
            legacy = any(hit.legacy for hit in self._heard.hits.get(place, ()))
            self._books[place] = rulebook.load(self._by_place[place], legacy=legacy)
        return self._books[place]

    def _links_of(self, place: str) -> dict[int, correlate.Link]:
        if place not in self._links:
            found = self._lookup(place).links
            self._links[place] = {
                index: correlate.Link(entry.name, found[entry.master].name if entry.master in found else "",
                                      entry.kind == "bridge") for index, entry in found.items()}
        return self._links[place]

    def _rule_text(self, place: str, hit: RuleHit, packet: Packet) -> rulebook.RuleText:
        return self._book(place).text(hit, packet)

    def _first_packet(self, is_first: Callable[[Packet], bool], source: str) -> Packet | None:
        for visit in self._stays:  # before any NAT of the sender's own namespace
            if visit.place == source and visit.local and is_first(visit.first):
                return visit.first
        for event in self._heard.seen:
            if event.place == source and event.outgoing and is_first(event.packet):
                return event.packet
        return None

    def _conversation(self, first: Packet) -> Conversation:
        talk = Conversation(first)
        packets = [event.packet for event in self._heard.seen]
        packets += [run.packet for visit in self._stays for run in visit.runs]
        learning = True
        while learning:  # a rewrite seen at one place makes answers known at another
            learning = sum(talk.learn(packet) for packet in packets) > 0
        return talk

    def _first_reply(self, talk: Conversation) -> Packet | None:
        for event in sorted(self._heard.seen, key=lambda e: e.at):
            if talk.direction(event.packet) == "reply":
                return event.packet
        for visit in self._stays:
            if talk.direction(visit.first) == "reply":
                return visit.first
        return None

    def _way(self, direction: Direction, packet: Packet, talk: Conversation) -> list[Hop]:
        """Return the hops of one packet, of its first attempt where it was sent again."""
        mine = sorted((s for s in self._heard.seen
                       if s.packet.key == packet.key and talk.direction(s.packet) == direction), key=lambda s: s.at)
        stays = [visit for visit in self._stays
                 if visit.first.key == packet.key and talk.direction(visit.first) == direction]
        hops: list[Hop] = []
        for segment in correlate.segments(firsts(mine, _where), firsts(stays, _stay)):
            place = segment.place
            entries = self._entries(place, packet, talk) if direction == "request" else ()
            around = correlate.Around(self._links_of(place), self._rule_text, self._routed, entries)
            hops += correlate.hops(segment, direction, around)
        return hops

    def _passages(self, talk: Conversation) -> list[Passage]:
        """Return every packet of the exchange, in the order in which they first showed."""
        found: dict[tuple[Direction, Key, int], list[Seen]] = {}
        count: dict[Hashable, int] = {}
        for event in sorted(self._heard.seen, key=lambda e: e.at):
            direction = talk.direction(event.packet)
            if direction is None:
                continue
            where = direction, event.packet.key, _where(event)
            nth = count[where] = count.get(where, 0) + 1
            found.setdefault((direction, event.packet.key, nth), []).append(event)
        return [Passage(events[0].at, direction, events[0].packet.what, events[0].packet.carried, again=nth > 1,
                        crossed=tuple(event.crossing for event in events))
                for (direction, _, nth), events in found.items()]


def _where(event: Seen) -> Hashable:
    """Return what only a packet that was sent again has in common with itself: a loop lowers its TTL."""
    return event.place, event.interface, event.outgoing, event.packet.ttl, event.packet.addresses


def _stay(visit: visits.Visit) -> Hashable:
    return visit.place, visit.first.ttl, visit.first.addresses, visit.local


def firsts(items: Sequence[T], same: Callable[[T], Hashable]) -> list[T]:
    """Return the items without those that repeat an earlier one."""
    found: dict[Hashable, T] = {}
    for item in items:
        found.setdefault(same(item), item)
    return list(found.values())


def _wire_time(answer: Answer, passages: Sequence[Passage], source: str) -> Answer:
    """Replace the sender's own stop watch, which this process' other work slows, by the time between the packets."""
    went = next((passage.at for passage in passages if passage.direction == "request"), 0)
    came = next((passage.crossed[-1].at for passage in passages
                 if passage.direction == "reply" and passage.crossed[-1].place == source), 0)
    return replace(answer, seconds=(came - went) / 1e9) if went and came and answer.status else answer
