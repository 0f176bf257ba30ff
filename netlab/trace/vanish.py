"""Why a packet went no further although no rule says so: the route it would take, its neighbour, what came back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from netlab.kernel.lookup import RouteAnswer
from netlab.trace.event import Hop
from netlab.trace.packet import SCTP, TCP, UDP, Packet
from netlab.trace.reasons import REASONS, Cause, Death, words

_OUTSIDE: Final = ("NETFILTER_DROP", "TC_INGRESS", "TC_EGRESS")
_SYN: Final = 2
_ENDS: Final = 0b101
"""FIN and RST."""

_LOOK: Final = "look at what that does with such packets"


@dataclass(frozen=True)
class Ask:
    """Questions to the kernel of a place.

    `route(place, packet, iif)`: the route that the packet would take there, having come in by `iif` ("" for none).
    `neighbor(place, address)`: the state of a neighbour's entry there ("failed", "reachable", ..., "" for none).
    `counted(place, name)`: by how much one of its counters (nstat's names) has grown during the trace.
    `setting(place, name)`: a sysctl there, "" when there is none of that name.
    `held(place, interface, side)`: what stands at an interface before (`ingress`) or behind (`egress`) IP's hooks.
    `straight(place, interface)`: the bridge of a port that sends nothing back by it (no hairpin), "" for any other.
    """

    route: Callable[[str, Packet, str], RouteAnswer]
    neighbor: Callable[[str, str], str]
    counted: Callable[[str, str], int] = lambda place, name: 0  # noqa: ARG005
    setting: Callable[[str, str], str] = lambda place, name: ""  # noqa: ARG005
    held: Callable[[str, str, str], str] = lambda place, interface, side: ""  # noqa: ARG005
    straight: Callable[[str, str], str] = lambda place, interface: ""  # noqa: ARG005


def vanished(hops: Sequence[Hop], reply: Sequence[Hop], names: Mapping[str, str], ask: Ask,
             death: Death | None = None) -> Cause | None:
    """Return why a packet ended without a rule; None when it seems to have arrived.

    Args:
        hops: its way, not empty.
        reply: the way of what came back; [] for nothing.
        names: names by IP address.
        ask: questions to the kernel.
        death: its end as BPF told it.
    """
    last = hops[-1]
    error = reply[0].packet if reply and reply[0].packet.is_icmp_error else None
    if reply and (error is None or reply[0].place != last.place):
        return None
    here = [*takewhile(lambda hop: hop.place == last.place, reversed(hops))][::-1]  # it may have been there before
    routed = next((hop for hop in reversed(here) if hop.kind == "route"), None)
    if last.kind == "rule" and last.target in ("DNAT", "REDIRECT") and not any(hop.way for hop in here):
        return _sent_nowhere(last)
    if death is not None and death.reason == "NO_SOCKET":
        return words(death) if error is None else None  # it has arrived, and the answer says the rest
    if routed is not None and not routed.interface:
        if death is not None and death.reason in REASONS and death.reason != "NO_SOCKET":
            return words(death)
        return None  # for this place itself: what the program there says is the answer
    came_in = next((hop.interface for hop in reversed(here) if hop.way == "in"), "")
    if (turned := _turned(hops[0], last, came_in, ask, death)) is not None:
        return turned
    if last.kind == "iface" and last.way == "out":
        return words(death) if death is not None and death.reason in REASONS else \
            Cause(f"it left {last.place} by {last.interface}, and no namespace saw it again",
                  _look_for(hops, here, names))
    if error is not None and (told := _told_by_icmp(last, error)) is not None:
        return told
    if routed is not None:
        return _stuck(last, routed, ask, death)
    if came_in == "lo":  # routed when it was sent; only a program's answer says more
        return words(death) if death is not None and death.reason in REASONS else None
    inside = any(hop.place.startswith(("node/", "pod/")) for hop in hops)
    return _unrouted(last, came_in, error, names, ask, death, beyond=not inside)


def _turned(first: Hop, last: Hop, came_in: str, ask: Ask, death: Death | None) -> Cause | None:
    """Return why a packet did not get back to its own sender, as one has to whose Service chose the sender itself."""
    reason, function = (death.reason, death.function) if death is not None else ("", "")
    place, source = last.place, last.packet.source
    if came_in and first.packet.source == last.packet.destination and first.place != place:
        bridge = ask.straight(place, came_in)
        if bridge and (last.way != "out" or last.interface == bridge):
            why = f"the bridge {bridge} of {place} sends nothing back by the port {came_in}, where the packet came from"
            return Cause(why, f"hairpin mode: bridge link set dev {came_in} hairpin on", reason, function)
    if (last.way, last.packet.family) == ("in", 2) and came_in != "lo" and \
            (first.place, first.packet.source) == (place, source):
        return Cause(f"{place} has sent it, and drops what comes back with its own address {source} as the source",
                     "it must be rewritten on such a way: masquerade what turns round", reason, function)
    return None


def _look_for(hops: Sequence[Hop], here: Sequence[Hop], names: Mapping[str, str]) -> str:
    """Return where to look for a packet that left a place and came nowhere."""
    last = hops[-1]
    routed = next((hop for hop in reversed(hops) if hop.kind == "route"), None)
    if not any(hop.way == "in" for hop in here) or routed in here:
        return f"look at the other end of {last.interface}, at routes and neighbours"
    next_hop = (routed.route.gateway if routed is not None and routed.route is not None else "") or \
        last.packet.destination
    name = names.get(next_hop, "")
    whose = f"{next_hop} ({name})" if name else next_hop
    return f"a bridge passed it on: is the link of {whose} up? Without a port for it a bridge sends to all others"


def _sent_nowhere(last: Hop) -> Cause:
    """Return why a packet of a place's own met no chain behind a nat rule: no route led there."""
    rule = f"{last.table} {last.chain}: {last.comment or last.rule}"
    if last.packet.source.startswith("127."):
        return Cause(f"{last.packet.source} does not leave {last.place}, where it was sent by {rule}",
                     "sysctl -w net.ipv4.conf.all.route_localnet=1 there, or ask another address of it")
    return Cause(f"{last.place} has no route to where it was sent by {rule}",
                 "look at ip route and ip rule there; a route that refuses (blackhole, prohibit) counts as none")


def _told_by_icmp(last: Hop, error: Packet) -> Cause | None:
    """Return what an ICMP error of the place where the packet ended says for itself."""
    if error.what in ("fragmentation needed", "packet too big"):
        return Cause(f"{last.place} cannot pass it on: too long for the next link, and not to be fragmented (DF)",
                     "lower the sender's MTU, or let it do path MTU discovery")
    if "exceeded" in error.what:
        return Cause(f"its time to live (TTL) ran out at {last.place}",
                     "send it with a larger TTL; if it passes the same place again and again, the routes make a loop")
    if error.what in ("administratively prohibited", "host prohibited", "network prohibited"):
        return None  # a rule's or a `prohibit` route's: the route will tell
    return None


def _unrouted(last: Hop, came_in: str, error: Packet | None, names: Mapping[str, str], ask: Ask,
              death: Death | None, *, beyond: bool) -> Cause | None:
    """Return why there is no sign of a routing decision behind the last hop; `beyond`: no node has seen the packet."""
    place, packet = last.place, last.packet
    name = names.get(packet.destination, "")
    target = packet.destination + (f" ({name})" if name else "")
    if (death is not None and death.reason == "IP_RPFILTER") or ask.counted(place, "TcpExtIPReversePathFilter"):
        return Cause(f"{place} dropped it by its reverse path filter: its route back to {packet.source} leads out of "
                     f"another interface than {came_in}",
                     "mend the route to the source, or be content with any: sysctl -w "
                     f"net.ipv4.conf.{came_in}.rp_filter=2 there", "IP_RPFILTER")
    if death is not None and death.reason in REASONS and death.reason not in (
            "IP_INNOROUTES", "IP_OUTNOROUTES", "IP_INADDRERRORS", "NEIGH_FAILED", *_OUTSIDE):
        return words(death)
    six = packet.family != 2
    route = ask.route(place, packet, came_in)
    off = _not_forwarding(place, came_in, six, ask) if came_in and route.kind != "local" else ""
    if off and not (six and route.words):  # a route of IPv6 refuses before forwarding is asked for
        return Cause(f"{place} does not forward: {off} is 0 there", f"sysctl -w {off}=1 there")
    if route.words and name.startswith("svc/") and beyond:
        return Cause(f"{place} has {route.words} for {target}",
                     "beyond the nodes nobody knows a Service's addresses: use a node port, or give it a route to "
                     f"a node, as a router would: at {place}, ip route add {packet.destination} via a node's address")
    if route.words and name.startswith("svc/"):
        return Cause(f"no rule had another destination for it, and {place} has {route.words} for {target}",
                     _no_such_port(packet, name))
    if route.words and not packet.is_icmp_error:
        known = route.words
        if "rp_filter" in known and death is not None:
            known = "a `blackhole` route"  # BPF would have said IP_RPFILTER
        return Cause(f"{place} has {known} for {target}",
                     f"there: ip route get {packet.destination} from {packet.source} iif {came_in or 'lo'}")
    if came_in and (last.kind, last.way) == ("iface", "in") and (held := ask.held(place, came_in, "ingress")):
        why = f"it came in at {place} by {came_in}, and no rule or socket of it was seen to get it: {held} is there"
        return Cause(why, _LOOK, *((death.reason, death.function) if death else ()))
    if death is not None and death.reason in REASONS:
        return words(death)
    if error is not None:
        return Cause(f"{place} answered with ICMP: {error.what}", "look at its routes and neighbours")
    if route.kind == "unicast" and came_in:
        return words(death) if death is not None else \
            Cause(f"{place} did not forward it; its route leads to {route.interface}",
                  "is forwarding on there, and is something held back before iptables (tc, XDP)?")
    return None


def _not_forwarding(place: str, came_in: str, six: bool, ask: Ask) -> str:
    """Return the setting that keeps a place from forwarding what comes in by an interface, "" for none."""
    def own(name: str) -> str:
        words = ("net", "ipv6" if six else "ipv4", "conf", came_in, name)
        return ("/" if "." in came_in else ".").join(words)  # sysctl takes both

    if six:
        whole = "net.ipv6.conf.all.forwarding"
        return whole if ask.setting(place, whole) == "0" and ask.setting(place, own("force_forwarding")) != "1" else ""
    return next((name for name in ("net.ipv4.ip_forward", own("forwarding")) if ask.setting(place, name) == "0"), "")


def _no_such_port(packet: Packet, service: str) -> str:
    protocol = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}.get(packet.protocol, "")
    if not protocol:
        return "a Service's address exists in rules for its ports only and answers no ping: ping a Pod"
    if protocol == "tcp" and packet.flags & _SYN and packet.flags & _ENDS:
        return f"{packet.what} begins no connection: conntrack calls it invalid, and nat leaves such packets alone"
    return (f"has {service} the port {packet.dport}/{protocol}, and does kube-proxy run where the packet came in? "
            f"netlab rules {service} shows the ports that have rules")


def _stuck(last: Hop, routed: Hop, ask: Ask, death: Death | None) -> Cause | None:
    """Return why a packet with an interface to leave by did not leave."""
    held = ask.held(last.place, routed.interface, "egress")
    if death is not None and death.reason in REASONS and death.reason not in ("NEIGH_FAILED", "NEIGH_DEAD") and not (
            held and death.reason in _OUTSIDE):
        return words(death)
    if routed.text.startswith("bridged"):
        if held and (death is None or death.reason in _OUTSIDE):
            return Cause(f"the bridge {routed.interface} of {last.place} did not pass it on: {held} is there", _LOOK)
        return words(death) if death is not None else None
    used = routed.route
    next_hop = (used.gateway if used is not None else "") or last.packet.destination
    if ask.neighbor(last.place, next_hop) in ("failed", "incomplete", "") or \
            (death is not None and death.reason == "NEIGH_FAILED"):
        return Cause(f"{last.place} asked on {routed.interface} who has {next_hop}, and nobody answered",
                     f"no interface behind {routed.interface} has {next_hop}: is the Pod gone, or the node down?")
    if held:
        return Cause(f"{last.place} chose {routed.interface} for it, and it never left there: {held} is there", _LOOK)
    return Cause(f"{last.place} chose {routed.interface} for it, and it never left there",
                 f"is {routed.interface} up? a queue (tc) or a rule outside iptables may hold it back")
