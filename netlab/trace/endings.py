"""How a predicted way ends: at a socket, by a rule, without a route or a neighbour; and what the sender hears. Pure."""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from netlab.netfilter.matching import Packet as Flowing
from netlab.trace import branch, refusals, routing
from netlab.trace.branch import Branch, Going, Question
from netlab.trace.event import Outcome
from netlab.trace.hooks import Hooks, Only
from netlab.trace.packet import join
from netlab.trace.routing import Asked
from netlab.trace.world import Space, World

NOT_TAKEN: Final = "no program and no kernel part there takes its protocol"
NOBODY: Final = "nobody answers"
"""The kernel asks for a neighbour three times, a second apart, before it tells the sender."""


class Endings(Hooks, ABC):
    """Closes ways. Whoever leads packets through namespaces says how a place sends the answer."""

    def __init__(self, world: World, question: Question, only: Only | None) -> None:
        super().__init__(only)
        self._world, self._question = world, question

    @abstractmethod
    def send(self, going: Going, place: str) -> Iterator[Branch]:
        """Let a place send a packet of its own."""

    @abstractmethod
    def over(self, going: Going, space: Space, interface: str, next_hop: str) -> Iterator[Branch]:
        """Let a packet cross a cable."""

    # --- how a way ends ----------------------------------------------------------------------------------------------

    def delivered(self, going: Going, space: Space) -> Iterator[Branch]:
        if going.ended is not None:
            yield self._answered(going, space)
            return
        protocol, port = going.packet.protocol, going.packet.dport
        if protocol in space.lacks:
            yield from self.error(going, space, branch.NO_PROTOCOL, f"{space.place}: {NOT_TAKEN}",
                                  "is the protocol's module loaded?")
            return
        going = self.add(going, space.place, "deliver", f"arrived at {space.place}")
        open_ = space.listeners is None or protocol not in ("tcp", "udp", "sctp") or (protocol, port) in space.listeners
        if going.family == 4 and not space.local(going.packet.dst):
            yield self._foreign(going, space, open_=open_)
            return
        turned = Flowing(going.packet.dst, going.packet.src, protocol, going.packet.dport, going.packet.sport)
        reply = replace(going, packet=turned, ended=going.hops, hops=(), ttl=64, length=0, flow=None, backward=False,
                        role="answer" if open_ else "reset")
        if not open_ and protocol == "udp":
            reply = self._as_error(reply, going, space, branch.UNREACHABLE_PORT)
        for each in self._sources(reply, space) if open_ and protocol == "udp" else (reply,):
            yield from self.send(each, space.place)

    def _sources(self, reply: Going, space: Space) -> Iterator[Going]:
        """Yield a datagram's answer from the address that was asked, and from another that the kernel would choose.

        A socket that is bound to no address has the kernel choose, unless its program says otherwise (IP_PKTINFO).
        """
        packet = reply.packet
        route = space.route(packet.dst)
        chosen = space.source(route, packet.dst) if route is not None and route.kind == "unicast" else ""
        if chosen in ("", packet.src) or not space.complete or ipaddress.ip_address(packet.src).is_loopback:
            yield reply
            return
        doubt = (f"{space.place}: the program there may answer from {packet.src}, which was asked, or from {chosen}, "
                 f"which the kernel chooses towards {packet.dst}")
        reply = replace(reply, certain=False, doubts=(*reply.doubts, doubt))
        yield reply
        yield replace(reply, packet=replace(packet, src=chosen))

    def _foreign(self, going: Going, space: Space, *, open_: bool) -> Branch:
        """Close the way of a packet that a local route of another table kept here: IPv4 sends from own addresses."""
        address = going.packet.dst
        if open_:
            doubt = f"{space.place}: a program there answers from {address} if it may (IP_TRANSPARENT)"
            going = replace(going, certain=False, doubts=(*going.doubts, doubt))
        return self._died(going, space.place, f"{space.place} does not answer from {address}, which is not its own: it "
                          "has the packet by a local route of another table than `local`", "timeout",
                          "a program that answers there needs IP_TRANSPARENT")

    def _answered(self, going: Going, space: Space) -> Branch:
        """Close the way of an answer that reached a socket."""
        request = going.ended or ()
        asked = request[0].packet if request else going.seen()
        last = request[-1].packet if request else asked
        place = request[-1].place if request else ""
        if going.role in ("answer", "reset"):
            expected = (asked.destination, asked.source) == (going.packet.src, going.packet.dst)
            ports = going.packet.protocol.startswith("icmp") or asked.dport == going.packet.sport
            if not (expected and ports) or space.place != self._question.source:
                source = join(going.packet.src, going.packet.sport)
                return self.die(going, space.place, f"the answer came from {source} and not from {asked.to}: "
                                 "the sender does not know it", "timeout", "the answer must pass the node that "
                                 "rewrote the request, where conntrack rewrites it back")
        going = self.add(going, space.place, "deliver", f"back at {space.place}")
        name = self._world.names.get(last.destination, place)
        if going.role == "answer":
            good = {"tcp": "connected", "sctp": "connected"}.get(self._question.protocol, "replied")
            return self._end(going, Outcome(good, last.to, name))
        if going.role == "reset":
            return self._end(going, Outcome(
                "refused", last.to, name, place=place, why=f"nothing listens on {last.to} at {place}",
                fix=refusals.closed(request)))
        return self._heard(going, place)

    def _heard(self, going: Going, place: str) -> Branch:
        """Close a way that was answered with an ICMP error, or with a reset on the way."""
        request = going.ended or ()
        last = request[-1].packet if request else going.seen()
        name = self._world.names.get(last.destination, "")
        words = "port unreachable" if going.role == "reset" else going.seen().what
        status = "refused" if "port unreachable" in words else "unreachable"
        dropped = next((hop for hop in reversed(request) if hop.kind == "drop"), None)
        why = dropped.text if dropped else f"nothing listens on {last.to} at {place}"
        return self._end(going, Outcome(status, last.to, name, place=place, why=why))

    def gone(self, going: Going, place: str, interface: str) -> Branch:
        """Close a way that leaves what is known."""
        by = f" by {interface}" if interface else ""
        to = join(going.packet.dst, going.packet.dport)
        going = self.add(going, place, "deliver", f"leaves {place}{by} for {to}")
        if going.ended is not None and going.role in ("error", "reset"):
            return self._heard(going, place)
        return self._end(going, Outcome("sent", to, self._world.names.get(going.packet.dst, "")))

    def stopped(self, going: Going, space: Space, verdict: str) -> Iterator[Branch]:
        """Close a way that a rule or a policy ended; REJECT answers."""
        last = going.hops[-1]
        if last.kind == "policy":
            yield self.die(going, space.place, f"no rule accepted it, and the policy of {last.table} {last.chain} is "
                            "DROP", "timeout", f"a rule in {last.chain} must accept it")
            return
        deed = "rejected" if verdict == "REJECT" else "dropped"
        why = f"{deed} by {last.table} {last.chain}: {last.comment or last.rule}"
        if verdict != "REJECT":
            yield self.die(going, space.place, why, "timeout", "")
            return
        if refusals.resets(going.reject):
            dead = self.add(going, space.place, "drop", why)
            turned = Flowing(going.packet.dst, going.packet.src, "tcp", going.packet.dport, going.packet.sport)
            if going.port:  # nf_send_reset: straight back by the port, as the addresses are now, and no rule sees it
                back = routing.of_packet(turned) if going.family == 6 else Asked(turned.dst, turned.src)
                if not space.leads(space.route(turned.dst, back), turned.src):  # it is looked for all the same
                    fix = f"without a route to {turned.dst} {space.place} does not even tell the sender"
                    yield self._died(dead, space.place, why, "timeout", fix)
                    return
                reset = replace(dead, packet=turned, ended=dead.hops, hops=(), role="reset", ttl=64)
                yield from self.over(self.crossed(reset, space.place, going.port, "out"), space, going.port, turned.dst)
                return
            yield from self.send(replace(dead, packet=turned, ended=dead.hops, hops=(), role="reset", ttl=64,
                                         backward=True), space.place)
            return
        if _redirects(going, space):
            doubt = (f"{space.place} may send {going.packet.src} an ICMP redirect first, as it forwards by the "
                     "interface that the packet came in by, and then no error within a second (icmp_ratelimit)")
            going = replace(going, certain=False, doubts=tuple(dict.fromkeys((*going.doubts, doubt))))
        kind = {going.family: refusals.error(going.reject, going.family)}
        yield from self.error(going, space, kind, why, "")

    def nobody(self, going: Going, space: Space, interface: str, next_hop: str) -> Iterator[Branch]:
        why = f"{space.place} asks on {interface} who has {next_hop}, and {NOBODY}"
        fix = f"no interface behind {interface} has {next_hop}: is the Pod gone, or the node down?"
        if self._world.severed(space.place, interface, next_hop):
            doubt = (f"{space.place}: a link on the way to {next_hop} is down, and a neighbour that was known before "
                     "is not asked for anew at once")
            going = replace(going, certain=False, doubts=tuple(dict.fromkeys((*going.doubts, doubt))))
        own = going.packet.iif in ("", "lo")
        bridged = going.packet.iif == interface and space.links[interface].kind == "bridge"
        link = space.links[interface]
        leads_out = link.kind != "bridge" or any(port.far is None for port in space.ports(interface))
        if space.edge and leads_out:
            yield self.gone(self.crossed(going, space.place, interface, "out"), space.place, interface)
        elif own or bridged:
            yield self.die(going, space.place, why, "unreachable", fix)
        else:
            yield from self.error(going, space, branch.UNREACHABLE_HOST, why, fix)

    def error(self, going: Going, space: Space, kind: dict[int, tuple[int, int]], why: str,
               fix: str) -> Iterator[Branch]:
        """Close a way and answer with an ICMP error, unless it was an answer or an error itself."""
        dead = self.add(going, space.place, "drop", why)
        if going.ended is not None:
            yield self._died(dead, space.place, why, "timeout", fix)
            return
        for each in self.send(self._as_error(replace(dead, ended=dead.hops, hops=()), going, space, kind), space.place):
            outcome = each.outcome
            if outcome.status in ("refused", "unreachable"):
                outcome = replace(outcome, place=space.place, why=why, fix=fix)
            yield replace(each, outcome=outcome)

    def _as_error(self, reply: Going, cause: Going, space: Space, kind: dict[int, tuple[int, int]]) -> Going:
        """Return the ICMP error that answers a packet; it comes from the packet's destination where that is local."""
        source = cause.packet.dst if space.local(cause.packet.dst) else ""
        if not source and cause.family == 6:
            source = _six_source(cause, space)
        protocol = "icmp" if cause.family == 4 else "icmpv6"
        return replace(reply, packet=Flowing(source, cause.packet.src, protocol, state="RELATED"), role="error", ttl=64,
                       icmp=kind[cause.family], inner=cause.tuple, flow=cause.flow, backward=True)

    def die(self, going: Going, place: str, why: str, status: str, fix: str) -> Branch:
        return self._died(self.add(going, place, "drop", why), place, why, status, fix)

    def _died(self, going: Going, place: str, why: str, status: str, fix: str) -> Branch:
        last = (going.ended or going.hops)[-1].packet
        if going.ended is not None:
            why, status = f"the answer dies on its way back: {why}", "timeout"
        return self._end(going, Outcome(status, last.to, self._world.names.get(last.destination, ""), place=place,
                                        why=why, fix=fix))

    def _end(self, going: Going, outcome: Outcome) -> Branch:
        request, reply = (going.hops, ()) if going.ended is None else (going.ended, going.hops)
        return Branch(request, reply, outcome, going.probability, going.certain, going.doubts)


def _redirects(going: Going, space: Space) -> bool:
    """Tell whether the sender is on the link that a packet goes back to: that takes an error's place in the rate.

    ip_rt_send_redirect and icmp_send count by the same entry of the sender (inet_peer); IPv6 counts by the destination.
    """
    packet = going.packet
    routed = next((hop for hop in reversed(going.hops) if hop.kind == "route"), None)
    if going.family == 6 or not packet.iif or packet.iif != packet.oif or routed is None or not (
            routed.place == space.place and routed.text.startswith("forwarded")):
        return False
    home = space.route(packet.src)
    return home is not None and home.interface == packet.iif and not home.gateway


def _six_source(cause: Going, space: Space) -> str:
    """Return where an ICMPv6 error comes from: the interface that the packet came in by, or seems to (icmp6_send)."""
    packet = cause.packet
    device = packet.oif if cause.turned and packet.oif else packet.iif
    return space.primary(device, packet.src) if device in space.links else ""
