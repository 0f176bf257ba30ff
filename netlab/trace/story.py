"""From all that was heard to a trace: which packets belong to the exchange, their way, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from netlab.trace import correlate, proxied, visits
from netlab.trace.conversation import Conversation
from netlab.trace.correlate import Seen
from netlab.trace.event import Direction, Entry, Hop, Passage, Trace
from netlab.trace.facts import Facts
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
    """One exchange, told from what was heard; rules, links and routes are read from the kernel where it went."""

    def __init__(self, heard: Heard, facts: Facts, names: Mapping[str, str],
                 stays: Sequence[visits.Visit] | None = None) -> None:
        """Begin. `stays` are the visits where they have been collected already; else they are made of heard.hits."""
        self._facts, self._names = facts, names
        self._heard = replace(heard, seen=[event for event in heard.seen if not facts.astray(event)])
        if stays is None:
            stays = [visit for place, hits in heard.hits.items() if hits
                     for visit in visits.collect(place, hits, facts.hooks(place))]
        self._stays = stays

    def tell(self, request: Asked, is_first: Callable[[Packet], bool], answer: Answer, *, target: str = "",
             warnings: Sequence[str] = (), relay: str = "", last: bool = False) -> Trace:
        """Return the trace.

        Args:
            request: what it is about.
            is_first: tells its first packet.
            answer: what the sender saw.
            target: what the user called the destination.
            warnings: what else is to be told.
            relay: where the connection of a program begins that passes this one on.
            last: it is such a connection, which nobody passes on.
        """
        first = self._first_packet(is_first, request.source)
        there: list[Hop] = []
        back: list[Hop] = []
        passages: list[Passage] = []
        if first is not None:
            talk = self._conversation(first, request.source)
            there = self._way("request", first, talk)
            came = self._first_reply(talk)
            if came is not None:
                back = self._way("reply", came, talk)
            passages = self._passages(talk)
        deaths = [death for death in self._heard.deaths if first is not None and talk.direction(death.packet)]
        ask = Ask(self._facts.route, self._facts.neighbor, self._facts.counted, self._facts.setting,
                  self._facts.held, self._facts.straight)
        answer = _wire_time(answer, passages, request.source)
        outcome, there, back = conclude(answer, there, back, self._names, ask, deaths)
        to = join(request.address, request.port)
        told = Trace(request.source, target or to, request.protocol, to, tuple(there), tuple(back), outcome,
                     tuple(passages), lost=self._heard.lost, warnings=tuple(warnings))
        second = None if last else proxied.first_packet(first, there, passages, self._heard.seen, self._stays, relay)
        if second is None:
            ended = "" if last else proxied.unserved(there, passages)
            return replace(told, warnings=(*told.warnings, ended)) if ended else told
        return proxied.joined(told, self._second(request.protocol, relay or there[-1].place, second), relay)

    def _second(self, protocol: str, place: str, first: Packet) -> Trace:
        """Return the trace of the connection that a proxy at `place` opened with this packet."""
        asked = Opened(place, first.destination, first.dport, protocol)
        came = self._first_reply(self._conversation(first, place))
        return self.tell(asked, lambda packet: packet == first, proxied.answer(came), last=True)

    def _entries(self, place: str, packet: Packet) -> list[Entry]:
        """Return the conntrack entries that were made for a packet that came to a place with these addresses."""
        source, sport, destination, dport = packet.addresses
        found = []
        for flow in self._heard.flows.get(place, ()):
            one, back = flow.original, flow.reply
            if flow.protocol == NAMES.get(packet.protocol, "") and (one.src, one.dst) == (source, destination) and \
                    (packet.is_icmp or (one.sport, one.dport) == (sport, dport)):
                found.append(Entry(flow.protocol, join(one.src, one.sport), join(one.dst, one.dport),
                                   join(back.src, back.sport), join(back.dst, back.dport)))
        return found[:1]  # one sent again may make another

    def _first_packet(self, is_first: Callable[[Packet], bool], source: str) -> Packet | None:
        for visit in self._stays:  # before any NAT of the sender's own namespace
            if visit.place == source and visit.local and is_first(visit.first):
                return visit.first
        for event in self._heard.seen:
            if event.place == source and event.outgoing and is_first(event.packet):
                return event.packet
        return None

    def _conversation(self, first: Packet, source: str) -> Conversation:
        left = [event.at for event in self._heard.seen if event.place == source and event.packet.key == first.key]
        talk = Conversation(first, min(left, default=0))
        packets = [event.packet for event in self._heard.seen if event.at >= talk.since]
        packets += [run.packet for visit in self._stays for run in visit.runs]
        learning = True
        while learning:  # a rewrite seen at one place makes answers known at another
            learning = sum(talk.learn(packet) for packet in packets) > 0
        return talk

    def _crossed(self, talk: Conversation) -> list[tuple[Direction, Seen]]:
        """Return the exchange's packets on interfaces, in order: what was there before it is about something else."""
        found = [(direction, event) for event in self._heard.seen if event.at >= talk.since
                 and (direction := talk.direction(event.packet)) is not None]
        return sorted(found, key=lambda each: each[1].at)

    def _first_reply(self, talk: Conversation) -> Packet | None:
        for direction, event in self._crossed(talk):
            if direction == "reply" and not event.packet.is_redirect:
                return event.packet
        for visit in self._stays:
            if talk.direction(visit.first) == "reply" and not visit.first.is_redirect:
                return visit.first
        return None

    def _way(self, direction: Direction, packet: Packet, talk: Conversation) -> list[Hop]:
        """Return the hops of one packet, of its first attempt where it was sent again."""
        mine = first_attempt([event for way, event in self._crossed(talk)
                              if way == direction and event.packet.key == packet.key])
        stays = [visit for visit in self._stays
                 if visit.first.key == packet.key and talk.direction(visit.first) == direction]
        hops: list[Hop] = []
        told: set[tuple[str, Entry]] = set()
        for segment in correlate.segments(mine, firsts(stays, _stay)):
            place = segment.place
            entries = self._entries(place, segment.first) if direction == "request" else []
            entries = [entry for entry in entries if (place, entry) not in told]  # lo brings it to the same place again
            told |= {(place, entry) for entry in entries}
            around = correlate.Around(self._facts.links(place), self._facts.rule_text, self._facts.routed,
                                      self._facts.policy, entries)
            hops += correlate.hops(segment, direction, around)
        return hops

    def _passages(self, talk: Conversation) -> list[Passage]:
        """Return every packet of the exchange, in the order in which they first showed."""
        found: dict[tuple[Direction, Key, int], list[Seen]] = {}
        count: dict[Hashable, int] = {}
        for direction, event in self._crossed(talk):
            where = direction, event.packet.key, _where(event)
            nth = count[where] = count.get(where, 0) + 1
            found.setdefault((direction, event.packet.key, nth), []).append(event)
        return [Passage(events[0].at, direction, events[0].packet.what, events[0].packet.carried, again=nth > 1,
                        crossed=tuple(event.crossing for event in events))
                for (direction, _, nth), events in found.items()]


def _where(event: Seen) -> Hashable:
    """Return what only a packet that was sent again has in common with itself: a loop lowers its TTL."""
    return event.place, event.interface, event.outgoing, event.packet.ttl, event.packet.addresses


def first_attempt(events: Sequence[Seen]) -> list[Seen]:
    """Return the interfaces that a packet crossed, in order, without those of its being sent again.

    NAT may have given it another port by then, where the connection that the first attempt opened was over at once.
    """
    found: dict[Hashable, Seen] = {}
    sent = [event.at for event in events if _where(event) == _where(events[0])]
    for event in events:
        port = event.place, event.interface, event.outgoing, event.packet.ttl
        if len(sent) > 1 and event.at >= sent[1] and any(
                (other.place, other.interface, other.outgoing, other.packet.ttl) == port for other in found.values()):
            continue
        found.setdefault(_where(event), event)
    return list(found.values())


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
