"""Trace one exchange: open the taps, arm the namespaces, send, listen until it is quiet, and put it all in order.

One loop over descriptors that belong to many namespaces; setns happens only while they are opened. When this process
dies, its sockets take everything along: taps, log groups, and the nft tables, which their sockets own.
"""

from __future__ import annotations

import selectors
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from netlab.errors import KernelError, NotFound
from netlab.kernel import link, lookup, nft
from netlab.kernel.netns import inside
from netlab.kernel.rtnl import Rtnl
from netlab.kernel.taps import LegacyTrace, NftTrace, PacketTap, RuleHit, protocol_filter
from netlab.trace import correlate, rulebook, visits
from netlab.trace.conversation import Conversation
from netlab.trace.correlate import Seen
from netlab.trace.event import Direction, Hop, Trace
from netlab.trace.packet import ICMP, ICMPV6, UDP, Key, Packet, join, parse, parse_headers
from netlab.trace.send import Answer, Protocol, Sender
from netlab.trace.verdict import Ask, conclude

CONTROL_PLANE_PORTS: Final = (6443, 10250, 2379, 2380)
"""TCP ports that a lab's own components talk over all the time; left out unless they are what is traced."""

QUIET: Final = 0.03
"""Seconds without an event after the answer, until the trace is over: events come out of order by far less."""

ARM_ALL: Final = 48
"""Up to this many namespaces are armed all; beyond, Pods other than the sender only have a tap."""


@dataclass(frozen=True)
class Tap:
    """A namespace to listen in: `place` is `node/worker1`, `pod/default/web-1`, `outside`; `node` is a Pod's node."""

    place: str
    netns_fd: int
    node: str = ""


@dataclass(frozen=True)
class Request:
    """What to send: from `source` (a place among the taps) to an address."""

    source: str
    address: str
    port: int = 0
    protocol: Protocol = "tcp"
    timeout: float = 3.0
    payload: bytes = b""
    source_address: str = ""


@dataclass
class _Listening:
    """Everything heard so far, by place."""

    seen: list[Seen] = field(default_factory=list)
    hits: dict[str, list[RuleHit]] = field(default_factory=dict)
    lost: int = 0
    _first: Key | None = None
    _keys: dict[tuple[str, int], Key] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)

    def dropped(self, sender: Sender) -> bool:
        """Tell whether the first packet was dropped by a rule or a policy."""
        for place, hits in self.hits.items():
            for hit in hits[self._read.get(place, 0):]:
                if hit.network and (packet := parse_headers(hit.network, hit.transport)) is not None:
                    self._keys[place, hit.visit] = packet.key
                    if self._first is None and sender.is_first(packet):
                        self._first = packet.key
                if hit.verdict == "DROP" and self._first is not None and \
                        self._keys.get((place, hit.visit)) == self._first:
                    return True
            self._read[place] = len(hits)
        return False


def trace(request: Request, taps: Sequence[Tap], names: Mapping[str, str] | None = None, *, target: str = "") -> Trace:
    """Send one exchange and return all that the kernel told about it. Takes as long as the exchange and ~50 ms.

    Args:
        request: what to send.
        taps: every namespace that it might cross.
        names: names by IP address, for the words of the outcome.
        target: what the user called the destination.

    Raises:
        NotFound: the source is not among the taps.
        KernelError: the source may not send such a packet at all.
    """
    by_place = {tap.place: tap.netns_fd for tap in taps}
    if request.source not in by_place:
        raise NotFound(f"no place {request.source} to send from", hint=f"places: {', '.join(sorted(by_place))}")
    heard = _Listening()
    with ExitStack() as stack:
        sender = Sender(by_place[request.source], request.protocol, request.address, request.port,
                        payload=request.payload, source=request.source_address)
        stack.callback(sender.close)
        warnings = _listen(stack, request, sender, taps, heard)
        open_still = stack.pop_all()
    # The kernel takes some 10 ms for each tap and each table that goes; meanwhile there is much to be read and sorted.
    closing = threading.Thread(target=open_still.close, name="close the taps")
    closing.start()
    try:
        return _told(request, sender, heard, by_place, names or {}, target, warnings)
    finally:
        closing.join()


def _told(request: Request, sender: Sender, heard: _Listening, by_place: Mapping[str, int], names: Mapping[str, str],
          target: str, warnings: Sequence[str]) -> Trace:
    """Put what was heard in order."""
    books: dict[str, rulebook.RuleBook] = {}

    def book(place: str) -> rulebook.RuleBook:
        if place not in books:
            legacy = any(hit.legacy for hit in heard.hits.get(place, ()))
            books[place] = rulebook.load(by_place[place], legacy=legacy)
        return books[place]

    crossed = {event.place for event in heard.seen} | {place for place, hits in heard.hits.items() if hits}
    links = {place: _links(by_place[place]) for place in crossed}
    stays = [visit for place, hits in heard.hits.items() if hits
             for visit in visits.collect(place, hits, book(place).hooks)]
    first = _first_packet(sender, request.source, heard.seen, stays)
    there: list[Hop] = []
    back: list[Hop] = []
    packets: list[tuple[int, Direction, str]] = []
    if first is not None:
        talk = _conversation(first, heard.seen, stays)
        there = _way("request", first, talk, heard.seen, stays, links, book)
        came = _first_reply(talk, heard.seen, stays)
        if came is not None:
            back = _way("reply", came, talk, heard.seen, stays, links, book)
        packets = _packets(talk, request.source, heard.seen)

    def route(place: str, packet: Packet, iif: str) -> lookup.RouteAnswer:
        return lookup.route(by_place[place], packet.destination, source=packet.source, iif=iif)

    answer = _wire_time(sender.answer, packets)
    ask = Ask(route, lambda place, address: lookup.neighbor_state(by_place[place], address))
    outcome, there, back = conclude(answer, there, back, names, ask)
    return Trace(request.source, target or join(request.address, request.port), request.protocol,
                 join(request.address, request.port), tuple(there), tuple(back), outcome, tuple(packets), heard.lost,
                 tuple(warnings))


def _listen(stack: ExitStack, request: Request, sender: Sender, taps: Sequence[Tap], heard: _Listening) -> list[str]:
    """Open everything, send, and read until the answer is in and it has been quiet for a while."""
    warnings: list[str] = []
    loop = stack.enter_context(selectors.DefaultSelector())
    readers: list[tuple[str, PacketTap | NftTrace | LegacyTrace]] = []
    few = len(taps) <= ARM_ALL
    for tap in taps:
        sources: list[PacketTap | NftTrace | LegacyTrace] = [
            PacketTap(tap.netns_fd, filter=protocol_filter(sender.number, ICMP, ICMPV6, UDP))]
        if few or tap.place == request.source or not tap.place.startswith("pod/"):
            try:
                sources.append(NftTrace(tap.netns_fd))
                if _legacy_in_use(tap.netns_fd):
                    sources.append(LegacyTrace(tap.netns_fd))
                stack.enter_context(nft.armed(tap.netns_fd, *_matches(sender, request)))
            except KernelError as error:
                warnings.append(f"{tap.place}: no rules in this trace: {error}")
        for source in sources:
            stack.callback(source.close)
            loop.register(source.fileno(), selectors.EVENT_READ, (tap.place, source))
            readers.append((tap.place, source))
    sender.start()
    if not sender.answer.status:
        loop.register(sender.fileno(), selectors.EVENT_WRITE if sender.wants_write else selectors.EVENT_READ, None)
    end = time.monotonic() + request.timeout
    quiet_until = time.monotonic() + QUIET
    closed = False
    while True:
        now = time.monotonic()
        answered = bool(sender.answer.status)
        if answered and not closed:  # a TCP connection is closed properly, in view of the taps
            closed = True
            if sender.fileno() in loop.get_map():
                loop.unregister(sender.fileno())
            sender.close_if_connected()
            quiet_until = now + QUIET
        if (answered and now >= quiet_until) or now >= end:
            break
        for key, _ in loop.select(max(min(quiet_until if answered else end, end) - now, 0.001)):
            if key.data is None:
                sender.ready()
                continue
            place, source = key.data
            if _take(place, source, heard):
                quiet_until = time.monotonic() + QUIET
                if heard.dropped(sender):  # nobody will answer: no need to wait for that
                    end = min(end, time.monotonic() + 2 * QUIET)
    for place, source in readers:
        _take(place, source, heard)
    for _, source in readers:
        if isinstance(source, NftTrace | LegacyTrace):
            heard.lost += source.lost
    return warnings


def _take(place: str, source: PacketTap | NftTrace | LegacyTrace, heard: _Listening) -> bool:
    if isinstance(source, PacketTap):
        frames = source.read()
        for frame in frames:
            packet = parse(frame.data)
            if packet is not None:
                heard.seen.append(Seen(frame.at, place, frame.interface, frame.outgoing, packet))
        return False  # taps hear strangers too: only rule events keep a trace open
    hits = source.read()
    heard.hits.setdefault(place, []).extend(hits)
    return bool(hits)


def _matches(sender: Sender, request: Request) -> list[str]:
    name = {"tcp": "tcp", "udp": "udp", "icmp": "icmp"}[request.protocol]
    errors = ["meta l4proto { icmp, ipv6-icmp }"]
    if name == "icmp":
        return errors
    ports = ", ".join(str(p) for p in CONTROL_PLANE_PORTS if p != request.port)
    if name == "tcp":
        return [f"tcp sport != {{ {ports} }} tcp dport != {{ {ports} }}", *errors]
    return [f"meta l4proto {sender.number}", *errors]


def _wire_time(answer: Answer, packets: Sequence[tuple[int, Direction, str]]) -> Answer:
    """Replace the sender's own stop watch, which this process' other work slows, by the time between the packets."""
    went = next((at for at, direction, _ in packets if direction == "request"), 0)
    came = next((at for at, direction, _ in packets if direction == "reply"), 0)
    return replace(answer, seconds=(came - went) / 1e9) if went and came and answer.status else answer


def _legacy_in_use(netns: int) -> bool:
    with inside(netns):
        try:
            with open("/proc/thread-self/net/ip_tables_names") as file:
                return bool(file.read().strip())
        except OSError:
            return False


def _links(netns: int) -> dict[int, correlate.Link]:
    with Rtnl(netns) as sock:
        found = link.links(sock)
    names = {entry.ifindex: entry.name for entry in found}
    return {entry.ifindex: correlate.Link(entry.name, names.get(entry.master, ""), entry.kind == "bridge")
            for entry in found}


def _first_packet(sender: Sender, source: str, seen: Sequence[Seen], stays: Sequence[visits.Visit]) -> Packet | None:
    for visit in stays:  # before any NAT of the sender's own namespace
        if visit.place == source and visit.local and sender.is_first(visit.first):
            return visit.first
    for event in seen:
        if event.place == source and event.outgoing and sender.is_first(event.packet):
            return event.packet
    return None


def _conversation(first: Packet, seen: Sequence[Seen], stays: Sequence[visits.Visit]) -> Conversation:
    talk = Conversation(first)
    packets = [event.packet for event in seen] + [run.packet for visit in stays for run in visit.runs]
    learning = True
    while learning:  # a rewrite seen at one place makes answers known at another
        learning = sum(talk.learn(packet) for packet in packets) > 0
    return talk


def _first_reply(talk: Conversation, seen: Sequence[Seen], stays: Sequence[visits.Visit]) -> Packet | None:
    for event in sorted(seen, key=lambda e: e.at):
        if talk.direction(event.packet) == "reply":
            return event.packet
    for visit in stays:
        if talk.direction(visit.first) == "reply":
            return visit.first
    return None


def _way(direction: Direction, packet: Packet, talk: Conversation, seen: Sequence[Seen], stays: Sequence[visits.Visit],
         links: Mapping[str, Mapping[int, correlate.Link]], book: Callable[[str], rulebook.RuleBook]) -> list[Hop]:
    """Return the hops of one packet, of its first attempt where it was sent again."""
    mine = sorted((s for s in seen if s.packet.key == packet.key and talk.direction(s.packet) == direction),
                  key=lambda s: s.at)
    again = [s.at for s in mine
             if (s.place, s.interface, s.outgoing) == (mine[0].place, mine[0].interface, mine[0].outgoing)]
    attempts = len(again)
    if attempts > 1 and again[1] - again[0] > 100_000_000:  # a retransmission comes 200 ms or more later
        mine = [s for s in mine if s.at < again[1]]
    else:
        attempts = 1
    visited: dict[str, list[visits.Visit]] = {}
    for visit in stays:
        if visit.first.key == packet.key and talk.direction(visit.first) == direction:
            visited.setdefault(visit.place, []).append(visit)
    chosen = [visit for found in visited.values() for visit in found[:max(len(found) // attempts, 1)]]
    hops: list[Hop] = []
    for segment in correlate.segments(mine, chosen):
        hops += correlate.hops(segment, direction, links.get(segment.place, {}),
                               lambda place, hit: book(place).text(hit))
    return hops


def _packets(talk: Conversation, source: str, seen: Sequence[Seen]) -> list[tuple[int, Direction, str]]:
    """Return every packet of the exchange as the sender's own interface had it."""
    found: list[tuple[int, Direction, str]] = []
    for event in sorted(seen, key=lambda e: e.at):
        direction = talk.direction(event.packet)
        if direction and event.place == source and event.outgoing == (direction == "request"):
            found.append((event.at, direction, event.packet.what))
    return found

