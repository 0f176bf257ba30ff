"""A packet in the hooks of one namespace: the rules that it meets there, and what conntrack makes of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from netlab.netfilter.going import Hit, NftHit, Outcome, Walking
from netlab.netfilter.matching import Packet as Flowing
from netlab.netfilter.matching import State
from netlab.netfilter.stations import CONNTRACK, Station, bindings
from netlab.netfilter.targets import ASKS_A_PROGRAM
from netlab.netfilter.terms import comment
from netlab.trace import nftwords, routing
from netlab.trace.branch import Flow, Going, back
from netlab.trace.correlate import CONTINUING, FINAL, NAT_TARGETS
from netlab.trace.event import PERHAPS, Hop
from netlab.trace.packet import join
from netlab.trace.routing import Route
from netlab.trace.world import Space

Only = Callable[[Flowing], bool]
"""Whether a packet is one of those that were observed, where dice decide what it becomes."""

UNROUTED: Final = "UNROUTED"
"""The verdict on a packet of this place's own that nat OUTPUT has sent where no route leads."""


def _leads(space: Space, going: Going) -> bool:
    return space.leads(space.route(going.packet.dst, going.asked), going.packet.src)


def _routed_anew(station: Station, before: Flowing, after: Flowing) -> bool:
    """Tell whether a packet of this host's own is routed again: what filter chains change does not count."""
    if station.kind == "nat":
        return after.dst != before.dst
    return station.kind == "route" and (after.dst, after.src, after.mark) != (before.dst, before.src, before.mark)


class Hooks:
    """Leads packets through the hooks of namespaces and writes down what happens."""

    def __init__(self, only: Only | None) -> None:
        self._only = only

    # --- hops --------------------------------------------------------------------------------------------------------

    def crossed(self, going: Going, place: str, interface: str, way: str) -> Going:
        text = f"{way} {interface}"
        if going.tunnel is not None:
            text += f" in VXLAN: {going.tunnel[0]} → {going.tunnel[1]}"
        return self.add(going, place, "iface", text, interface=interface, way=way)

    def add(self, going: Going, place: str, kind: str, text: str, **more: str) -> Going:
        hop = Hop(None, place, going.direction, kind, text, going.seen(), **more)  # type: ignore[arg-type]
        return replace(going, hops=(*going.hops, hop))

    def asked(self, going: Going, iif: str = "lo") -> Going:
        """Ask routing for a packet as it is now."""
        return replace(going, asked=routing.of_packet(going.packet, iif=iif, tos=going.tos))

    def taken(self, going: Going, space: Space, *, own: bool = False) -> Iterator[tuple[Going, Route | None]]:
        """Yield the route that a packet takes as it was asked last, by each next hop that it may take."""
        asked = going.asked or routing.of_packet(going.packet)
        route = space.route(asked.destination, asked)
        if route is None or not route.hops:
            yield going, route
            return
        key = space.place, asked.source, asked.destination, route
        if key in going.picks:
            yield going, going.picks[key]
            return
        for way, share in space.ways(route, asked.source if own else ""):
            yield replace(going, picks={**going.picks, key: way}, probability=going.probability * share), way

    # --- rules -------------------------------------------------------------------------------------------------------

    def hook(self, going: Going, space: Space, hook: str) -> Iterator[tuple[str, Going]]:
        """Lead a packet through all chains of a hook; yield "" and it as it came out, or DROP, REJECT, UNROUTED."""
        if space.doubts and not set(space.doubts) <= set(going.doubts):
            going = replace(going, doubts=(*going.doubts, *space.doubts), certain=False)
        yield from self._stations(self._dressed(going, space), space, hook, space.order(going.family).at(hook))

    def _dressed(self, going: Going, space: Space) -> Going:
        """Give a packet what rules may ask of it."""
        flow, packet = going.flow, going.packet
        return replace(going, packet=replace(
            packet, ctmark=flow.mark if flow else 0, reply=going.backward, original=flow.original[1:] if flow else None,
            confirmed=flow is not None and (space.place, flow.original) in going.flows, flags=going.flags,
            icmp=going.said if packet.protocol.startswith("icmp") else None, ttl=going.ttl,
            length=going.length or None, here=not packet.iif))

    def _stations(self, going: Going, space: Space, hook: str,
                  stations: tuple[Station, ...]) -> Iterator[tuple[str, Going]]:
        if not stations:
            yield "", going
            return
        station, rest = stations[0], stations[1:]
        if station.kind == "nat":
            going = self._late(going, space, station, hook)
            remembered = self._remembered(going, space, hook)
            if remembered is not None:
                if hook == "OUTPUT" and _routed_anew(station, going.packet, remembered.packet):
                    remembered = self.asked(remembered)  # nf_nat_ipv4_local_fn: an error about what was masqueraded
                yield from self._stations(remembered, space, hook, rest)
                return
        for each in self._outcomes(going, space, hook, station):
            hops = self._hits(going, space, each.hits)
            dead = each.verdict in ("DROP", "REJECT")
            if dead and hops and hops[-1].target in (*ASKS_A_PROGRAM, "TPROXY"):
                hops[-1] = replace(hops[-1], verdict="DROP")
            if dead and (not hops or hops[-1].verdict not in ("DROP", "REJECT")):
                base = station.chains[0]
                hops.append(Hop(None, space.place, going.direction, "policy", "policy DROP", going.seen(),
                                table=base.table, chain=base.name, verdict="DROP"))
            after = self._after(going, space, each, hops)
            if dead:
                yield each.verdict, after
                continue
            if hook == "OUTPUT" and _routed_anew(station, going.packet, after.packet):
                after = self.asked(after)
                if not _leads(space, after):
                    yield UNROUTED, after  # ip_route_me_harder fails, and no later chain sees the packet
                    continue
            if station.kind == "nat":
                after = self._settled(self._told(after, space, going.packet, hops), hook)
            yield from self._stations(after, space, hook, rest)

    def _outcomes(self, going: Going, space: Space, hook: str, station: Station) -> Sequence[Outcome]:
        """Ask the chains of one place. Those before conntrack do not know of its connection yet."""
        packet = going.packet
        early = station.priority <= CONNTRACK and hook in ("PREROUTING", "OUTPUT") and packet.iif != "lo"
        asked = replace(packet, state="INVALID", ctmark=0, reply=False, original=None) if early else packet
        start = Walking(asked, learnt=frozenset(each for place, each in going.learnt if place == space.place))
        if station.kind == "nat":
            chains = station.chains if packet.state == "NEW" and going.flow is not None else ()
            outcomes = list(bindings(chains, start, space.host))
        else:
            outcomes = list(station.chains[0].run(start, space.host))
        if self._only is not None and len(outcomes) > 1:
            outcomes = [each for each in outcomes if self._only(each.packet)] or outcomes
        if not early:
            return outcomes
        tracked = {"state": packet.state, "ctmark": packet.ctmark, "reply": packet.reply, "original": packet.original}
        return [each if each.packet.state == "UNTRACKED" else replace(each, packet=replace(
            each.packet, **tracked)) for each in outcomes]  # type: ignore[arg-type]

    def _after(self, going: Going, space: Space, outcome: Outcome, hops: Sequence[Hop]) -> Going:
        """Return a packet as it comes out of a chain."""
        packet, flow, flows = outcome.packet, going.flow, going.flows
        if packet.state == "UNTRACKED":
            flow = None
        elif flow is not None and packet.ctmark != flow.mark:
            flow = replace(flow, mark=packet.ctmark)
            flows = {key: flow if key[0] == space.place and old.original == flow.original else old
                     for key, old in flows.items()}
        learnt = going.learnt | {(space.place, each) for each in outcome.learnt}
        doubts = tuple(dict.fromkeys((*going.doubts, *(f"{space.place}: {each}" for each in outcome.doubts))))
        return replace(going, packet=packet, hops=(*going.hops, *hops), flow=flow, flows=flows, learnt=learnt,
                       probability=going.probability * outcome.probability, reject=outcome.reject,
                       certain=going.certain and outcome.certain, doubts=doubts)

    def _late(self, going: Going, space: Space, station: Station, hook: str) -> Going:
        """Write what a reset meets that belongs to a connection which never came as far as POSTROUTING.

        It asks the chains for the connection's source (nf_nat_inet_fn), and is rewritten as an answer all the same.
        """
        if going.role != "reset" or going.flow is None or going.flow.sourced or going.packet.state != "RELATED" or \
                hook != "POSTROUTING":
            return going
        asked = next(bindings(station.chains, Walking(replace(going.packet, state="NEW")), space.host), None)
        hops = self._hits(going, space, asked.hits) if asked else []
        return replace(going, hops=(*going.hops, *hops))

    def _hits(self, going: Going, space: Space, hits: Sequence[Hit | NftHit]) -> list[Hop]:
        hops: list[Hop] = []
        for hit in hits:
            hops.append(self._hit(going, space, hit, hops[-1].comment if hops else ""))
        return hops

    def _hit(self, going: Going, space: Space, hit: Hit | NftHit, before: str) -> Hop:
        if isinstance(hit, NftHit):
            return self._nft_hit(going, space, hit, before)
        rule = hit.rule
        line = rule.text.removeprefix(f"-A {rule.chain}").strip()
        name = rule.jump
        verdict = ("CONTINUE" if name in ("", *CONTINUING) else name if name in FINAL else
                   "GOTO" if rule.goto else "JUMP")
        words = comment(rule.match)
        if not hit.sure:
            verdict, words = PERHAPS, f"perhaps: {words}" if words else "perhaps"
        return Hop(None, space.place, going.direction, "rule", line, going.seen(), table=hit.table, chain=hit.chain,
                   rule=line, comment=words, verdict=verdict, target=name)

    def _nft_hit(self, going: Going, space: Space, hit: NftHit, before: str) -> Hop:
        element = nftwords.element(hit.element) if hit.element is not None else ""
        line = hit.rule.line
        said = nftwords.said(element, line, hit.target if hit.verdict in ("JUMP", "GOTO") else "", hit.chain)
        verdict = hit.target if hit.target in NAT_TARGETS else hit.verdict
        return Hop(None, space.place, going.direction, "rule", line, going.seen(), table=hit.table, chain=hit.chain,
                   rule=line, comment=nftwords.without_endpoints(said, before, hit.chain, hit.verdict, line),
                   verdict=verdict, target=hit.target, element=element)

    def _told(self, going: Going, space: Space, before: Flowing, hops: list[Hop] | None) -> Going:
        """Write nat hops for what became of the addresses; `hops` are the rules that ordered it, None for memory."""
        now, rule = going.packet, next((hop for hop in reversed(hops or ()) if hop.target in NAT_TARGETS), None)
        undone = hops is None and going.backward
        by = "" if rule else " (conntrack remembers)"
        bare = now.protocol.startswith("icmp")
        for name, old, new in (("un-SNAT" if undone else "DNAT", (before.dst, before.dport), (now.dst, now.dport)),
                               ("un-DNAT" if undone else "SNAT", (before.src, before.sport), (now.src, now.sport))):
            if old != new:
                text = f"{name} {_place(*old, bare=bare)} → {_place(*new, bare=bare)}{by}"
                going = self.add(going, space.place, "nat", text, verdict=name,
                                 rule=rule.rule if rule else "", comment=rule.comment if rule else "")
        return going

    # --- conntrack ---------------------------------------------------------------------------------------------------

    def tracked(self, going: Going, space: Space) -> Going:
        """Find the connection of a packet that just came in or was made here, or begin one."""
        if going.role == "error" and going.inner is not None:
            related = going.flow or next((flow for (place, _), flow in going.flows.items() if place == space.place
                                          and going.inner in (flow.now, flow.original)), None)
            packet = replace(going.packet, state="RELATED")
            return replace(going, flow=related, backward=True,
                           packet=_rewritten(packet, related) if related else packet)
        if going.role == "reset" and going.flow is not None:  # REJECT hangs it onto the connection that it ends
            return replace(going, packet=replace(going.packet, state="RELATED"))
        key = going.tuple
        flow = going.flows.get((space.place, key))
        if flow is None:
            state: State = "INVALID" if going.role in ("answer", "reset") and key[0] == "tcp" else "NEW"
            begun = Flow(key, key)
            return replace(going, flow=begun, backward=False, packet=replace(going.packet, state=state))
        backward = key == back(flow.now)
        state = "ESTABLISHED" if backward or going.ended is not None else "NEW"
        return replace(going, flow=flow, backward=backward, packet=_rewritten(replace(going.packet, state=state), flow))

    def _remembered(self, going: Going, space: Space, hook: str) -> Going | None:
        """Rewrite a packet from conntrack's memory; None when the nat chains have to be asked."""
        flow = going.flow
        if flow is None:
            return going if going.role == "error" or going.packet.state == "UNTRACKED" else None
        at_destination = hook in ("PREROUTING", "OUTPUT")
        before = going.packet
        if going.role == "error":
            return self._error_rewritten(going, space, flow, at_destination=at_destination)
        if going.backward:
            _, source, sport, destination, dport = back(flow.original)
            packet = (replace(before, dst=destination, dport=dport) if at_destination else
                      replace(before, src=source, sport=sport))
        elif flow.destined if at_destination else flow.sourced:
            _, source, sport, destination, dport = flow.now
            packet = (replace(before, dst=destination, dport=dport) if at_destination else
                      replace(before, src=source, sport=sport))
        else:
            return None
        return self._told(replace(going, packet=packet), space, before, None)

    def _error_rewritten(self, going: Going, space: Space, flow: Flow, *, at_destination: bool) -> Going:
        """Rewrite an ICMP error as the answer that it stands for, and what it carries."""
        before = going.packet
        if at_destination:
            packet = replace(before, dst=flow.original[1]) if flow.now[1:3] != flow.original[1:3] else before
            return self._told(replace(going, packet=packet), space, before, None)
        packet = replace(before, src=flow.original[3]) if flow.now[3:] != flow.original[3:] else before
        return self._told(replace(going, packet=packet, inner=flow.original), space, before, None)

    def _settled(self, going: Going, hook: str) -> Going:
        """Take into the connection what the nat chains of a hook made of a packet."""
        flow = going.flow
        if flow is None or going.backward:
            return going
        if hook in ("PREROUTING", "OUTPUT"):
            return replace(going, flow=replace(flow, now=going.tuple, destined=True))
        return replace(going, flow=replace(flow, now=going.tuple, sourced=True))

    def kept(self, going: Going, space: Space) -> Going:
        """Put the connection into the namespace's table: it left, or reached a socket."""
        flow = going.flow
        if flow is None or going.backward or going.role == "error":
            return going
        flows = {**going.flows, (space.place, flow.original): flow, (space.place, back(flow.now)): flow}
        return replace(going, flows=flows)


def _rewritten(packet: Flowing, flow: Flow) -> Flowing:
    """Tell a packet which of its connection's ends are rewritten."""
    return replace(packet, dnat=flow.now[3:] != flow.original[3:], snat=flow.now[1:3] != flow.original[1:3])


def _place(address: str, port: int, *, bare: bool) -> str:
    return join(address, 0 if bare else port)
