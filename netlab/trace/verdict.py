"""How the exchange ended, where, why, and what would mend it: one sentence from the hops and what the kernel says.

The reasons are found without privileged tracing: the last hop, rule verdicts, the ICMP error that came back, and a
question to the kernel (`Ask`) about the route that the lost packet would have taken and its next hop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from netlab.kernel.lookup import RouteAnswer
from netlab.trace.event import Hop, Outcome
from netlab.trace.packet import TCP, UDP, Packet
from netlab.trace.send import Answer

GOOD = ("connected", "replied")


@dataclass(frozen=True)
class Ask:
    """Questions to the kernel of a place.

    `route(place, packet, iif)`: the route that the packet would take there, having come in by `iif` ("" for none).
    `neighbor(place, address)`: the state of a neighbour's entry there ("failed", "reachable", ..., "" for none).
    """

    route: Callable[[str, Packet, str], RouteAnswer]
    neighbor: Callable[[str, str], str]


@dataclass(frozen=True)
class Cause:
    """Why a packet died, and what would mend it."""

    why: str
    fix: str


def conclude(answer: Answer, request: Sequence[Hop], reply: Sequence[Hop], names: Mapping[str, str],
             ask: Ask) -> tuple[Outcome, list[Hop], list[Hop]]:
    """Return the outcome, and both ways closed by a last hop: deliver or drop.

    Args:
        answer: what the sending socket saw.
        request: the way there, in order; [] when the kernel never made the packet.
        reply: the way of the first packet that came back, [] when nothing did.
        names: names by IP address, for the words.
        ask: questions to the kernel.
    """
    if not request:
        status = answer.status or "timeout"
        why = f"the kernel did not send it: {os.strerror(answer.errno) if answer.errno else 'nothing was seen of it'}"
        return Outcome(status, why=why, fix="look at the sender's routes and addresses", seconds=answer.seconds), [], []
    good = answer.status in GOOD
    packet = request[-1].packet
    outcome = Outcome(answer.status or "timeout", packet.to, names.get(packet.destination, ""), seconds=answer.seconds)
    cause = _rule(request) or (None if good else _vanished(request, reply, names, ask))
    there = _closed(request, cause)
    if good:
        at = request[-1].place
        return replace(outcome, endpoint_place=names.get(packet.destination, at)), there, _closed(reply, None)
    if cause is not None:
        return replace(outcome, place=there[-1].place, why=cause.why, fix=cause.fix), there, _closed(reply, None)
    if not reply:
        return replace(outcome, place=there[-1].place, why=f"it arrived at {there[-1].place}, and nothing came back",
                       fix="see whether the program there listens on that port and answers"), there, []
    lost = _rule(reply)
    back = _closed(reply, lost)
    if lost is not None:
        return replace(outcome, place=back[-1].place, why=f"the answer died on its way back: {lost.why}",
                       fix=lost.fix), there, back
    first = reply[0]
    if first.packet.flags & 4:
        who = names.get(first.packet.source, first.place)
        why = f"{who} answered with a reset: nothing listens on {request[-1].packet.to}"
        fix = "start the program there, or mend the Service's targetPort"
    elif first.packet.is_icmp_error:
        why, fix = f"{first.place} answered with ICMP: {first.packet.what}", "nothing listens on that port there"
    else:
        why, fix = f"the answer was last seen at {back[-1].place}", "look at the last hop of the reply"
    return replace(outcome, place=first.place, why=why, fix=fix), there, back


def _closed(hops: Sequence[Hop], cause: Cause | None) -> list[Hop]:
    """Return the hops with a last one that says how the way ended."""
    if not hops:
        return []
    last = hops[-1]
    text = f"arrived at {last.place}" if last.direction == "request" else f"back at {last.place}"
    return [*hops, Hop(None, last.place, last.direction, "drop" if cause else "deliver", cause.why if cause else text,
                       last.packet)]


def _rule(hops: Sequence[Hop]) -> Cause | None:
    """Return the rule or policy that ended the packet."""
    for hop in hops:
        if hop.kind == "policy" and hop.verdict == "DROP":
            return Cause(f"no rule accepted it, and the policy of {hop.table} {hop.chain} is DROP",
                         f"a rule in {hop.chain} must accept it, or its policy be ACCEPT")
        if hop.kind == "rule" and hop.verdict in ("DROP", "REJECT"):
            deed = "rejected" if hop.verdict == "REJECT" else "dropped"
            return Cause(f"{deed} by {hop.table} {hop.chain}: {hop.comment or hop.rule}", _mend(hop))
    return None


def _mend(hop: Hop) -> str:
    if "has no endpoints" in hop.comment:
        return "no Pod behind the Service is ready: look at its selector and at its Pods' readiness"
    if "no local endpoints" in hop.comment:
        return "its traffic policy is Local and this node has no ready Pod of it"
    if "not accepted by KUBE-FW" in hop.comment:
        return "the client is in none of the Service's loadBalancerSourceRanges"
    if hop.chain.startswith("KUBE-"):
        return "the rule is kube-proxy's: look at the Service that its comment names"
    return (f"Kubernetes did not write this rule: delete it (iptables -t {hop.table} -D {hop.chain} {hop.rule}), "
            "or accept the packet before it")


def _vanished(hops: Sequence[Hop], reply: Sequence[Hop], names: Mapping[str, str], ask: Ask) -> Cause | None:
    """Return why a packet ended without a rule; None when it seems to have arrived."""
    last = hops[-1]
    error = reply[0].packet if reply and reply[0].packet.is_icmp_error else None
    if reply and (error is None or reply[0].place != last.place):
        return None
    came_in = next((hop.interface for hop in reversed(hops) if hop.place == last.place and hop.way == "in"), "")
    here = [hop for hop in hops if hop.place == last.place]
    routed = next((hop for hop in reversed(here) if hop.kind == "route"), None)
    name = names.get(last.packet.destination, "")
    target = last.packet.destination + (f" ({name})" if name else "")
    if routed is not None and not routed.interface:
        return None  # for this place itself: what the program there says is the answer
    if last.kind == "iface" and last.way == "out":
        return Cause(f"it left {last.place} by {last.interface}, and no namespace saw it again",
                     f"look at the other end of {last.interface}, at routes and neighbours")
    route = ask.route(last.place, last.packet, came_in)
    if routed is not None:
        return _stuck(last, routed, route, ask)
    if error is not None and error.what == "fragmentation needed":
        return Cause(f"{last.place} cannot pass it on: too long for the next link, and not to be fragmented (DF)",
                     "lower the sender's MTU, or let it do path MTU discovery")
    if route.words and name.startswith("svc/"):
        return Cause(f"no rule had another destination for it, and {last.place} has {route.words} for {target}",
                     _no_such_port(last.packet, name))
    if route.words and last.packet.is_icmp_error is False:
        return Cause(f"{last.place} has {route.words} for {target}",
                     f"there: ip route get {last.packet.destination} from {last.packet.source} iif {came_in or 'lo'}")
    if error is not None:
        return Cause(f"{last.place} answered with ICMP: {error.what}", "look at its routes and neighbours")
    if route.kind == "unicast" and came_in:
        return Cause(f"{last.place} did not forward it; its route leads to {route.interface}",
                     "is net.ipv4.ip_forward 1 there, and does rp_filter let it pass?")
    return None


def _no_such_port(packet: Packet, service: str) -> str:
    protocol = {TCP: "tcp", UDP: "udp"}.get(packet.protocol, "")
    if not protocol:
        return "a Service's address exists in rules for its ports only and answers no ping: ping a Pod"
    return (f"has {service} the port {packet.dport}/{protocol}, and does kube-proxy run where the packet came in? "
            f"netlab rules {service} shows the ports that have rules")


def _stuck(last: Hop, routed: Hop, route: RouteAnswer, ask: Ask) -> Cause:
    next_hop = route.gateway or last.packet.destination
    if ask.neighbor(last.place, next_hop) in ("failed", "incomplete", ""):
        return Cause(f"{last.place} asked on {routed.interface} who has {next_hop}, and nobody answered",
                     f"no interface behind {routed.interface} has {next_hop}: is the Pod gone, or the node down?")
    return Cause(f"{last.place} chose {routed.interface} for it, and it never left there",
                 f"is {routed.interface} up? a queue (tc) or a rule outside iptables may hold it back")
