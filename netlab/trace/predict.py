"""Where a packet will go, hop by hop and rule by rule, without sending it. Pure.

The walk through one namespace's rules is `netfilter.walk`'s; here is what is around it, as Linux has it: routing,
conntrack and the un-NAT of answers, bridges that show their frames to iptables (br_netfilter), cables, VXLAN, and the
ways to die that no rule orders. Where rules throw dice the prediction branches; where something is not modelled it
goes on and says so. What comes out are a trace's hops, so that both can be laid side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from netlab.errors import NotFound
from netlab.netfilter.matching import UNKNOWN_INTERFACE
from netlab.netfilter.matching import Packet as Flowing
from netlab.trace import branch, discovery
from netlab.trace.branch import Branch, Going, Prediction, Question
from netlab.trace.endings import Endings
from netlab.trace.hooks import UNROUTED, Only
from netlab.trace.martians import martian
from netlab.trace.packet import join
from netlab.trace.routing import Asked, Route
from netlab.trace.world import Space, World

MOST: Final = 256
"""Ways that are followed at most."""

_DEEP: Final = 400
"""Hops after which a packet counts as going in circles."""

_EPHEMERAL: Final = 40000

def predict(world: World, question: Question, *, target: str = "", only: Only | None = None,
            most: int = MOST) -> Prediction:
    """Return every way that the packet may take, there and back.

    Args:
        world: what is known.
        question: the packet.
        target: what the user called the destination.
        only: where dice fall, follow the ways whose packet this likes, if it likes any: for one that was observed.
        most: follow at most so many ways.

    Raises:
        NotFound: the world has no such place, or the place no such interface.
    """
    if question.source not in world.spaces:
        raise NotFound(f"no place {question.source} to send from", hint=f"places: {', '.join(sorted(world.spaces))}")
    packet = Flowing(question.source_address, question.address, question.protocol,
                     question.source_port or (_EPHEMERAL if question.protocol in ("tcp", "udp", "sctp") else 0),
                     question.port, mark=question.mark)
    walker = _Predictor(world, question, only)
    going = Going(packet, ttl=question.ttl, length=question.length)
    if question.interface:
        space = world.spaces[question.source]
        if space.links and question.interface not in (*space.links, UNKNOWN_INTERFACE):
            raise NotFound(f"{question.source} has no interface {question.interface}",
                           hint=f"it has {', '.join(space.links)}")
        ways = walker.arrive(going, question.source, question.interface, "")
    else:
        ways = walker.send(going, question.source)
    found = list(islice(ways, most))
    left = sum(1 for _ in islice(ways, most))
    merged: dict[tuple[object, ...], Branch] = {}
    for each in found:
        key = (*((hop.place, hop.kind, hop.text) for hop in each.hops), each.outcome.status, each.certain)
        old = merged.get(key)
        merged[key] = replace(each, probability=each.probability + old.probability) if old else each
    ordered = sorted(merged.values(), key=lambda each: (not each.certain, -round(each.probability, 9)))
    return Prediction(question, target or join(question.address, question.port), tuple(ordered), left, world.notes)


class _Predictor(Endings):
    """Leads one packet, and its answer, through a world."""

    # --- leaving and coming ------------------------------------------------------------------------------------------

    def send(self, going: Going, place: str) -> Iterator[Branch]:
        """Let a place send a packet of its own."""
        space = self._world.spaces[place]
        going = replace(going, packet=replace(going.packet, iif="", oif=""), port="")
        for first, route in self.taken(self.asked(going), space, own=True):
            source = first.packet.src or (space.source(route, first.packet.dst) if _leads(route) and route else "")
            if source and not first.packet.src and first.packet.protocol in ("tcp", "udp") and first.family == 4:
                again = self.asked(replace(first, packet=replace(first.packet, src=source)))  # ip_route_connect
                for each, way in self.taken(again, space, own=True):
                    yield from self._begun(each, space, way, source)
            else:
                yield from self._begun(first, space, route, source)

    def _begun(self, going: Going, space: Space, route: Route | None, source: str) -> Iterator[Branch]:
        """Let a packet of this place's own leave by a route, from an address that its sender settled on."""
        place = space.place
        if route is None or not _leads(route):
            yield self.die(going, place, f"{place} has {_refusal(route)} for {going.packet.dst}", "unreachable",
                            "give it a route")
            return
        if not source:
            yield self.die(going, place, f"{place} has no address to send from to {going.packet.dst}", "unreachable",
                            "give it an address of that family")
            return
        going = replace(going, packet=replace(going.packet, src=source, oif=route.interface))
        for verdict, after in self.hook(self.tracked(going, space), space, "OUTPUT"):
            if verdict and verdict != UNROUTED:
                yield from self.stopped(after, space, verdict)
                continue
            for each, way in self.taken(after, space, own=True):  # nat OUTPUT may have changed it; the source stays
                if verdict or way is None or not space.leads(way, source):
                    why, fix = f"{place} has {_refusal(way)} for {each.packet.dst}", "give it a route"
                    if way is not None and _leads(way):
                        why = f"{source} does not leave {place} by {way.interface}"
                        fix = "sysctl net.ipv4.conf.all.route_localnet=1 there"
                    yield self.die(each, place, why, "unreachable", fix)
                    continue
                yield from self._leave(replace(each, packet=replace(each.packet, oif=way.interface)), space, way)

    def arrive(self, going: Going, place: str, interface: str, frame: str) -> Iterator[Branch]:
        """Let a packet come in; `frame` is the address whose owner the frame is for, "" for this namespace."""
        space = self._world.spaces[place]
        if len(going.hops) > _DEEP:
            yield self.die(going, place, "it goes in circles", "timeout", "two routes point at each other")
            return
        going = self.crossed(going, place, interface, "in")
        link = space.links.get(interface)
        bridge = link.master if link else ""
        logical = bridge or interface
        calls = bool(bridge) and going.family in space.bridge_calls
        going = replace(going, packet=replace(going.packet, iif=logical, oif=""), port=interface if calls else "")
        to_us = not bridge or not frame or frame in space.owned
        if bridge and not calls and not to_us:
            yield from self._bridged(going, space, bridge, interface, frame)  # no rule sees what only passes a bridge
            return
        if going.family == 6 and not calls and interface != "lo" and (why := martian(space, going.packet, interface)):
            yield self.die(going, place, why, "timeout", "the source must be rewritten on the way")  # before any hook
            return
        before = going.packet.dst
        for verdict, after in self.hook(self.tracked(going, space), space, "PREROUTING"):
            if verdict:
                yield from self.stopped(after, space, verdict)
            elif calls and after.packet.dst != before:
                for each, way in self.taken(self.asked(after, logical), space):
                    if after.family == 6 and not _leads(way):  # br_nf_pre_routing_finish_ipv6 says nothing
                        yield self.die(each, place, f"{place} has {_refusal(way)} for {after.packet.dst}, and a bridge "
                                       "tells nobody of what DNAT sent there", "timeout", "give it a route")
                        continue
                    routable = going.family == 6 or space.forwards(4, bridge)  # IPv4 needs a whole route there
                    if way is not None and way.kind == "unicast" and way.interface == bridge and routable:
                        yield from self._bridged(each, space, bridge, interface, way.gateway or after.packet.dst)
                    else:
                        yield from self._routed(self.crossed(each, place, bridge, "in"), space, logical)
            elif to_us:
                yield from self._routed(self.crossed(after, place, bridge, "in") if bridge else after, space, logical)
            else:
                yield from self._bridged(after, space, bridge, interface, frame)

    def _routed(self, going: Going, space: Space, interface: str) -> Iterator[Branch]:
        """Decide about a packet that came in: for this host, on to another, or not at all."""
        for each, route in self.taken(replace(going, asked=self.asked(going, interface).asked), space):
            yield from self._routed_by(replace(each, asked=going.asked), space, interface, route)

    def _routed_by(self, going: Going, space: Space, interface: str, route: Route | None) -> Iterator[Branch]:
        """Take the way that routing has found."""
        place, packet = space.place, going.packet
        link = space.links.get(interface)
        if interface != "lo" and (why := martian(space, packet, interface)):
            yield self.die(going, place, why, "timeout", "the source must be rewritten on the way")
            return
        if link is not None and link.rp_filter and interface != "lo" and going.family == 4:
            home = space.route(packet.src, Asked(packet.src, packet.dst, tos=going.tos, protocol=packet.protocol,
                                                 sport=packet.sport, dport=packet.dport))
            if home is None or home.kind != "unicast" or (link.rp_filter == 1 and interface not in home.interfaces):
                yield self.die(going, place, f"{place} drops it by its reverse path filter: {packet.src} is not behind "
                                f"{interface}", "timeout", f"sysctl net.ipv4.conf.{interface}.rp_filter=2")
                return
        if route is not None and route.kind == "local":
            going = self.add(going, place, "route", "for this host itself")
            for verdict, after in self.hook(going, space, "INPUT"):
                if verdict:
                    yield from self.stopped(after, space, verdict)
                else:
                    yield from self.delivered(self.kept(after, space), space)
            return
        leads = route is not None and route.kind == "unicast"  # a route of IPv6 refuses before forwarding is asked for
        came = route.interface if route is not None and leads and going.family == 6 and going.turned else interface
        if not space.forwards(going.family, came) and (leads or going.family == 4):
            setting = f"ipv4.conf.{came}" if going.family == 4 else "ipv6.conf.all"
            yield self.die(going, place, f"{place} does not forward what comes in by {interface}", "timeout",
                            f"sysctl net.{setting}.forwarding=1 there")
            return
        if route is None or not leads:
            yield from self._refused(going, space, route)
            return
        if going.ttl <= 1:
            yield from self.error(going, space, branch.EXPIRED, "its time to live ended", "send it with a higher TTL")
            return
        going = replace(going, ttl=going.ttl - 1, packet=replace(packet, oif=route.interface))
        out = space.links.get(route.interface)
        if out is not None and out.mtu and going.length > out.mtu:
            yield from self.error(going, space, branch.TOO_BIG, f"{going.length} bytes are too long for "
                                   f"{route.interface}, whose MTU is {out.mtu}", "lower the sender's MTU")
            return
        going = self.add(going, place, "route", f"forwarded to {route.interface}", interface=route.interface)
        for verdict, after in self.hook(going, space, "FORWARD"):
            if verdict:
                yield from self.stopped(after, space, verdict)
            else:
                yield from self._leave(after, space, route)

    def _refused(self, going: Going, space: Space, route: Route | None) -> Iterator[Branch]:
        why = f"{space.place} has {_refusal(route)} for {going.packet.dst}"
        name = self._world.names.get(going.packet.dst, "")
        if name.startswith("svc/"):
            why = f"no rule had another destination for it, and {why}"
        if route is not None and route.kind == "blackhole":
            yield self.die(going, space.place, why, "timeout", "remove the route")
            return
        refused = route.kind if route is not None and (route.rule < 0 or route.kind == "prohibit") else ""
        kind = {"prohibit": branch.PROHIBITED, "unreachable": branch.NO_HOST}.get(refused, branch.UNREACHABLE_NET)
        fix = f"has {name} that port, and an endpoint?" if name.startswith("svc/") else "give it a route"
        yield from self.error(going, space, kind, why, fix)

    def _leave(self, going: Going, space: Space, route: Route) -> Iterator[Branch]:
        """Send a packet out by a route, after POSTROUTING."""
        next_hop = route.gateway or going.packet.dst
        if route.among:
            words = f"by {next_hop}, one of {route.among} next hops to {route.dst}"
            going = self.add(going, space.place, "route", words, interface=route.interface)
        for verdict, after in self.hook(going, space, "POSTROUTING"):
            if verdict:
                yield from self.stopped(after, space, verdict)
                continue
            after = self.kept(after, space)
            if route.kind == "local" or route.interface == "lo":
                yield from self._loop(after, space)
                continue
            yield from self._transmit(after, space, route.interface, next_hop)

    def _loop(self, going: Going, space: Space) -> Iterator[Branch]:
        """Bring a packet from lo to a socket of the same host; conntrack knows it already."""
        going = self.crossed(self.crossed(going, space.place, "lo", "out"), space.place, "lo", "in")
        going = replace(going, packet=replace(going.packet, iif="lo", oif=""))
        for verdict, after in self.hook(going, space, "PREROUTING"):
            if verdict:
                yield from self.stopped(after, space, verdict)
            else:
                yield from self._routed(after, space, "lo")

    def _transmit(self, going: Going, space: Space, interface: str, next_hop: str) -> Iterator[Branch]:
        """Put a packet on an interface, for the owner of `next_hop`."""
        place, link = space.place, space.links.get(interface)
        if link is None or (link.far is None and link.kind not in ("bridge", "vxlan")):
            if space.edge:
                yield self.gone(self.crossed(going, place, interface, "out") if interface else going, place, interface)
            else:
                yield self.die(going, place, f"{interface or 'its interface'} leads nowhere that is known", "timeout",
                                "")
            return
        if link.kind == "vxlan":
            yield from self._tunnelled(going, space, interface, next_hop)
            return
        if link.kind == "bridge":
            port = next((each.name for each in space.ports(interface) if self._world.way(place, each.name, next_hop)),
                        "")
            if not port:
                yield from self.nobody(going, space, interface, next_hop)
                return
            going = self.crossed(going, place, interface, "out")
            yield from self.over(self.crossed(going, place, port, "out"), space, port, next_hop)
            return
        if not self._world.way(place, interface, next_hop):
            yield from self.nobody(going, space, interface, next_hop)
            return
        going = self._asking(going, space, interface, next_hop)
        yield from self.over(self.crossed(going, place, interface, "out"), space, interface, next_hop)

    def _asking(self, going: Going, space: Space, interface: str, next_hop: str) -> Going:
        """Doubt a packet whose neighbour may not be found: IPv6 asks with packets, which rules can drop."""
        if going.family == 4:
            return going
        doubt = discovery.doubt(self._world, space, interface, next_hop, going.packet.src)
        if not doubt:
            return going
        return replace(going, certain=False, doubts=tuple(dict.fromkeys((*going.doubts, doubt))))

    def over(self, going: Going, space: Space, interface: str, next_hop: str) -> Iterator[Branch]:
        """Cross a cable: the far namespace knows neither mark nor connection."""
        end = space.links[interface].far
        assert end is not None
        if end.place != space.place:
            going = replace(going, flow=None, backward=False,
                            packet=replace(going.packet, mark=0, state="NEW", snat=False, dnat=False))
        yield from self.arrive(going, end.place, end.interface, next_hop)

    def _bridged(self, going: Going, space: Space, bridge: str, came: str, frame: str) -> Iterator[Branch]:
        """Pass a frame from one port of a bridge to another, by iptables where br_netfilter is on."""
        port = next((each for each in space.ports(bridge)
                     if (each.name != came or each.hairpin) and self._world.way(space.place, each.name, frame)), None)
        calls = going.family in space.bridge_calls
        if port is None:
            back_out = space.links[came]
            if self._world.way(space.place, came, frame) and not back_out.hairpin:
                yield self.die(going, space.place, f"the bridge {bridge} sends nothing back to the port {came}",
                                "timeout", f"bridge link set dev {came} hairpin on")
            else:
                yield from self.nobody(going, space, bridge, frame)
            return
        if not calls:
            yield from self.over(self.crossed(going, space.place, port.name, "out"), space, port.name, frame)
            return
        going = replace(going, packet=replace(going.packet, oif=bridge))
        going = self.add(going, space.place, "route", f"bridged by {bridge}", interface=bridge)
        for verdict, after in self.hook(going, space, "FORWARD"):
            if verdict:
                yield from self.stopped(after, space, verdict)
                continue
            for ending, last in self.hook(after, space, "POSTROUTING"):
                if ending:
                    yield from self.stopped(last, space, ending)
                else:
                    last = self.crossed(self.kept(last, space), space.place, port.name, "out")
                    yield from self.over(last, space, port.name, frame)

    def _tunnelled(self, going: Going, space: Space, interface: str, next_hop: str) -> Iterator[Branch]:
        """Send a packet in VXLAN to the namespace that has the far end of the tunnel."""
        far = next(((other, link) for other in self._world.spaces.values() for link in other.links.values()
                    if link.kind == "vxlan" and other.place != space.place
                    and any(cidr.partition("/")[0] == next_hop for cidr in link.cidrs)), None)
        if far is None:
            yield from self.nobody(going, space, interface, next_hop)
            return
        other, device = far
        going = self.crossed(going, space.place, interface, "out")
        outer, via = "", None
        for address, owner in other.owned.items():
            via = space.route(address)
            if owner != device.name and via is not None and via.kind == "unicast" and via.interface != interface and \
                    self._world.way(space.place, via.interface, via.gateway or address):
                outer = address
                break
        if not outer or via is None:
            yield self.die(going, space.place, f"no way to the tunnel's far end at {other.place}", "timeout",
                            "look at the nodes' own routes")
            return
        going = replace(going, tunnel=(space.source(via, outer), outer, 0))
        for place, name, way in self._wire(space.place, via.interface, via.gateway or outer):
            going = self.crossed(going, place, name, way)
        going = replace(going, tunnel=None, flow=None, backward=False,
                        packet=replace(going.packet, mark=0, state="NEW", snat=False, dnat=False))
        yield from self.arrive(going, other.place, device.name, "")

    def _wire(self, place: str, interface: str, address: str) -> Iterator[tuple[str, str, str]]:
        """Yield the interfaces between a namespace and the owner of an address on its link."""
        yield place, interface, "out"
        end = self._world.spaces[place].links[interface].far
        while end is not None:
            yield end.place, end.interface, "in"
            space = self._world.spaces[end.place]
            master = space.links[end.interface].master
            if not master or address in space.owned:
                return
            port = next((each for each in space.ports(master) if each.name != end.interface
                         and self._world.way(end.place, each.name, address)), None)
            if port is None:
                return
            yield end.place, port.name, "out"
            end = port.far


def _refusal(route: Route | None) -> str:
    if route is None:
        return "no route"
    return f"a `{route.kind}` route" if route.rule < 0 else f"a rule that says {route.kind} (ip rule {route.rule})"


def _leads(route: Route | None) -> bool:
    return route is not None and route.kind in ("unicast", "local")


__all__ = ["MOST", "Question", "predict"]
