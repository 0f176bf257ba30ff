"""From events of many namespaces to one way: which segment came after which, and what happened inside each. Pure.

A *segment* is one packet's stay in one namespace: the interfaces it came in by, the rules it met, the interfaces it
left by. Interface events carry the kernel's clock, which all namespaces share, so they order the segments; rules
carry none and are slotted by hook (PREROUTING after the first interface, the bridge's own event after that, and so
on), which is where the kernel runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netlab.kernel.taps import RuleHit
from netlab.trace import nftwords
from netlab.trace.event import Crossing, Direction, Entry, Hop, Kind, RouteUsed, Way
from netlab.trace.packet import Packet
from netlab.trace.rulebook import RuleText
from netlab.trace.visits import Run, Visit

RuleTexts = Callable[[str, RuleHit, Packet], RuleText]
"""Words for (place, hit, the packet as it came into the chain)."""
FINAL = ("ACCEPT", "DROP", "REJECT", "RETURN", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "QUEUE", "NFQUEUE")
CONTINUING = ("MARK", "CONNMARK", "LOG", "NFLOG", "TRACE", "CT", "TCPMSS", "TOS", "DSCP", "SET", "NOTRACK", "CHECKSUM")
NAT_TARGETS = ("DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP")


@dataclass(frozen=True)
class Seen:
    """A packet on an interface."""

    at: int
    place: str
    interface: str
    outgoing: bool
    packet: Packet
    data: bytes = b""
    stray: bool = False

    @property
    def crossing(self) -> Crossing:
        """Return this as a trace tells it."""
        return Crossing(self.at, self.place, self.interface, "out" if self.outgoing else "in", self.packet, self.data)


@dataclass(frozen=True)
class Link:
    """What correlation needs to know of an interface: its name and, for a bridge's port, the bridge's name."""

    name: str
    master: str = ""
    bridge: bool = False


@dataclass
class Segment:
    """One stay in one namespace."""

    place: str
    seen: list[Seen] = field(default_factory=list)
    visit: Visit | None = None

    @property
    def at(self) -> int | None:
        """Return the time of the first interface event."""
        return self.seen[0].at if self.seen else None

    @property
    def local(self) -> bool:
        """Tell whether the packet was made here."""
        return self.seen[0].outgoing if self.seen else self.visit is not None and self.visit.local

    @property
    def first(self) -> Packet:
        """Return the packet as it came in or was made here."""
        if self.visit is not None and (self.local or not self.seen):
            return self.visit.first
        return self.seen[0].packet


def segments(seen: Iterable[Seen], visits: Iterable[Visit]) -> list[Segment]:
    """Build the stays of one packet (all arguments speak of the same one), in the order they happened."""
    result: list[Segment] = []
    by_place: dict[str, list[Segment]] = {}
    for event in sorted(seen, key=lambda e: e.at):
        mine = by_place.setdefault(event.place, [])
        if not mine or (mine[-1].seen[-1].outgoing and not event.outgoing):
            mine.append(Segment(event.place))
            result.append(mine[-1])
        mine[-1].seen.append(event)
    for visit in visits:
        free = [s for s in by_place.get(visit.place, []) if s.visit is None and s.local == visit.local
                and (visit.local or s.seen[0].packet.addresses == visit.first.addresses)]
        if free:
            free[0].visit = visit
        elif visit.local and not any(s.local for s in by_place.get(visit.place, [])):
            alone = Segment(visit.place, visit=visit)  # it never reached an interface: it died in its own OUTPUT
            by_place.setdefault(visit.place, []).append(alone)
            result.insert(0, alone)
    return result


@dataclass(frozen=True)
class Around:
    """What is known of a place beside what was heard: its links, its rules' words, its routes, its new entries."""

    links: Mapping[int, Link]
    rule_text: RuleTexts
    routed: Callable[[str, Packet, str, int], RouteUsed | None]
    policy: Callable[[str, RuleHit], str]
    entries: Sequence[Entry] = ()


def hops(segment: Segment, direction: Direction, around: Around) -> list[Hop]:
    """Return the hops of one stay, in the order in which the kernel walks."""
    visit = segment.visit
    by_name = {link.name: link for link in around.links.values()}
    ins = [s for s in segment.seen if not s.outgoing]
    outs = [s for s in segment.seen if s.outgoing]
    writer = _Writer(segment.place, direction, around, packet=segment.first)
    first = visit.hooks("PREROUTING") if visit is not None else []
    before = _before_rewrite(ins, first) or 1
    for event in ins[:before]:
        writer.iface(event)
    writer.runs(first)
    for event in ins[before:]:
        writer.iface(event)
    if visit is not None:
        _route(writer, visit, ins, outs, by_name)
        for event in outs[:_handed_back(ins, outs, by_name)]:
            writer.iface(event)
            outs = outs[1:]
        writer.runs(visit.hooks("INPUT", "FORWARD", "OUTPUT"))
        last = visit.hooks("POSTROUTING")
        if segment.local and last:
            writer.route("sent by", last[0], last[0].oif, "")
        before = _before_rewrite(outs, last)
        for event in outs[:before]:
            writer.iface(event)
        outs = outs[before:]
        writer.runs(last)
        if visit.hooks("INPUT") or last:
            writer.tracked(around.entries)
    for event in outs:
        writer.iface(event)
    return writer.hops


def _handed_back(ins: Sequence[Seen], outs: Sequence[Seen], by_name: Mapping[str, Link]) -> int:
    """Return 1 when the bridge's own interface came before FORWARD, else 0.

    A frame that DNAT sent to another port of its bridge never goes up to IP: br_netfilter sends it out by the bridge
    once its neighbour is known, and FORWARD is run there, between bridge and port.
    """
    if not ins or not outs or any(by_name.get(event.interface, Link("")).bridge for event in ins):
        return 0
    master = by_name.get(ins[0].interface, Link("")).master
    return 1 if master and outs[0].interface == master else 0


def _before_rewrite(passed: Sequence[Seen], runs: Sequence[Run]) -> int:
    """Return how many of these interfaces the packet passed before this hook rewrote it.

    Where a bridge's port and the bridge itself are passed, br_netfilter decides which of them comes first: with it
    PREROUTING runs at the port, before the bridge, and POSTROUTING of a packet that goes back to the bridge it came
    from (hairpin) at the port, behind the bridge. Only the addresses tell, so 0 where nothing was rewritten.
    """
    if not runs or runs[0].packet.addresses == runs[-1].packet.addresses:
        return 0
    count = 0
    for event in passed:
        if event.packet.addresses != runs[0].packet.addresses:
            break
        count += 1
    return count


def _route(writer: _Writer, visit: Visit, ins: Sequence[Seen], outs: Sequence[Seen],
           by_name: Mapping[str, Link]) -> None:
    forward, arrived = visit.hooks("FORWARD"), visit.hooks("INPUT")
    came = next((by_name[s.interface] for s in reversed(ins) if s.interface in by_name), None)
    iif = (came.master or came.name) if came is not None else ""
    if forward:
        run = forward[0]
        bridge = _bridged(ins, outs, by_name)
        if bridge:
            writer.add("route", f"bridged by {bridge}", run.packet, interface=writer.name_of(run.oif))
        else:
            writer.route("forwarded to", run, run.oif, iif)
    elif arrived:
        writer.route("for this host itself", arrived[0], 0, iif)


def _bridged(ins: Sequence[Seen], outs: Sequence[Seen], by_name: Mapping[str, Link]) -> str:
    """Return the bridge's name when the frame went from port to port without touching the IP layer."""
    if not ins or not outs or any(by_name.get(s.interface, Link("")).bridge for s in (*ins, *outs)):
        return ""
    master = by_name.get(ins[0].interface, Link("")).master
    return master if master and by_name.get(outs[0].interface, Link("")).master == master else ""


class _Writer:
    """Writes hops one after the other and notices when the packet's addresses have changed in between."""

    def __init__(self, place: str, direction: Direction, around: Around, *, packet: Packet | None) -> None:
        self.hops: list[Hop] = []
        self._place, self._direction, self._around = place, direction, around
        self._packet = packet
        self._nat: RuleText | None = None
        self._nat_at = 0
        self._comment = ""

    def iface(self, event: Seen) -> None:
        self._rewritten(event.packet)
        way: Way = "out" if event.outgoing else "in"
        text = f"{way} {event.interface}"
        if event.packet.tunnel is not None:
            outer_source, outer, vni = event.packet.tunnel
            text += f" in VXLAN {vni}: {outer_source} → {outer}"
        self.hops.append(Hop(event.at, self._place, self._direction, "iface", text, event.packet,
                             interface=event.interface, way=way))

    def add(self, kind: Kind, text: str, packet: Packet, *, interface: str = "",
            route: RouteUsed | None = None) -> None:
        """Write a hop of another kind."""
        self._rewritten(packet)
        self.hops.append(Hop(None, self._place, self._direction, kind, text, packet, interface=interface, route=route))

    def name_of(self, index: int) -> str:
        """Return an interface's name."""
        return self._around.links.get(index, Link(f"interface {index}")).name

    def route(self, words: str, run: Run, oif: int, iif: str) -> None:
        """Write the routing decision that led to this run; `oif` is 0 for a packet that stays here."""
        way = self.name_of(oif) if oif else ""
        used = self._around.routed(self._place, run.packet, iif, run.mark)
        self.add("route", f"{words} {way}".rstrip(), run.packet, interface=way, route=used)

    def tracked(self, entries: Iterable[Entry]) -> None:
        """Write the conntrack entries that were made for this packet, now that its last hook has confirmed them."""
        packet = self._packet
        for entry in entries if packet is not None else ():
            words = (f"conntrack: new {entry.protocol} entry {entry.source} → {entry.destination}, "
                     f"answers from {entry.reply_source} → {entry.reply_destination}")
            self.hops.append(Hop(None, self._place, self._direction, "conntrack", words, packet, entry=entry))  # type: ignore[arg-type]

    def runs(self, runs: Iterable[Run]) -> None:
        for run in runs:
            self._rewritten(run.packet)
            if run.marker:
                continue
            for hit in run.hits:
                self._hit(run, hit)

    def _hit(self, run: Run, hit: RuleHit) -> None:
        if hit.kind == "return":
            return
        packet = run.packet
        if hit.kind == "policy":
            policy = self._around.policy(self._place, hit)
            self.hops.append(Hop(None, self._place, self._direction, "policy", f"policy {policy}", packet,
                                 table=hit.table, chain=hit.chain, verdict=policy))
            return
        text = self._around.rule_text(self._place, hit, packet)
        text = replace(
            text, comment=nftwords.without_endpoints(text.comment, self._comment, hit.chain, hit.verdict, text.line)
        )
        self._comment = text.comment
        verdict = hit.verdict or ("CONTINUE" if text.target in ("", *CONTINUING) else
                                  text.target if text.target in FINAL else "JUMP")
        if text.target in NAT_TARGETS:
            self._nat, self._nat_at = text, len(self.hops)
            verdict = text.target
        elif text.target == "REJECT":
            verdict = "REJECT"
        self.hops.append(Hop(None, self._place, self._direction, "rule", text.line, packet, table=hit.table,
                             chain=hit.chain, rule=text.line, comment=text.comment, verdict=verdict,
                             target=hit.target or text.target, element=text.element))

    def _rewritten(self, packet: Packet) -> None:
        """Write a nat hop when the packet is not what it was."""
        before, self._packet = self._packet, packet
        if before is None or before.addresses == packet.addresses:
            return
        rule = self._nat
        self._nat = None
        if rule is not None and not rule.element and (element := nftwords.chosen(rule.line, packet)):
            self.hops[self._nat_at] = replace(self.hops[self._nat_at], element=element)
        changes = []
        remembered = not rule and self._direction == "reply"
        if before.to != packet.to:
            changes.append(("un-SNAT" if remembered else "DNAT", before.to, packet.to))
        if before.of != packet.of:
            changes.append(("un-DNAT" if remembered else "SNAT", before.of, packet.of))
        for name, old, new in changes:
            by = "" if rule else " (conntrack remembers)"
            self.hops.append(Hop(None, self._place, self._direction, "nat", f"{name} {old} → {new}{by}", packet,
                                 rule=rule.line if rule else "", comment=rule.comment if rule else "", verdict=name))
