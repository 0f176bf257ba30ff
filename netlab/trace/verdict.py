"""How the exchange ended, where, why, and what would mend it: one sentence from the hops and what the kernel says.

The reasons are found without privileged tracing: the last hop, rule verdicts, the ICMP error that came back, and a
question to the kernel (`ask_route`, `ask_neighbor`) about the route that the lost packet would have taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from netlab.kernel.lookup import RouteAnswer
from netlab.trace.event import Direction, Hop, Outcome
from netlab.trace.packet import Packet, join
from netlab.trace.send import Answer

AskRoute = Callable[[str, Packet, str], RouteAnswer]
AskNeighbor = Callable[[str, str], str]
_GOOD = ("connected", "replied")


def conclude(answer: Answer, request: Sequence[Hop], reply: Sequence[Hop], names: Mapping[str, str],
             ask_route: AskRoute, ask_neighbor: AskNeighbor) -> tuple[Outcome, list[Hop], list[Hop]]:
    """Return the outcome, and the two ways with a last hop (deliver or drop) where one is known.

    Args:
        answer: what the sending socket saw.
        request: the way there, in order.
        reply: the way back, [] when nothing came back.
        names: names by IP address, for the words.
        ask_route: the route that a packet would take at a place, having come in by an interface ("" for none).
        ask_neighbor: the state of a neighbour's entry at a place.
    """
    there, back = list(request), list(reply)
    status = answer.status or "timeout"
    last = there[-1].packet if there else None
    endpoint = join(last.destination, last.dport if not last.is_icmp else 0) if last else ""
    outcome = Outcome(status, endpoint, names.get(last.destination, "") if last else "", seconds=answer.seconds)
    dropped = _rule_drop(there)
    if dropped is None and status not in _GOOD and not _answered(back):
        dropped = _silent_end(there, names, ask_route, ask_neighbor)
    if dropped is None and there and there[-1].kind in ("iface", "route"):
        there.append(_hop(there[-1], "deliver", f"arrived at {there[-1].place}"))
    if dropped is not None:
        there.append(_hop(there[-1], "drop", dropped[0]) if there else _nowhere(dropped[0], "request", last))
    elif back and status not in _GOOD:
        lost = _rule_drop(back)
        if lost is not None:
            back.append(_hop(back[-1], "drop", f"the answer: {lost[0]}"))
            return replace(outcome, place=back[-1].place, why=f"the answer died on its way back: {lost[0]}", fix=lost[1]), there, back
    if status in _GOOD:
        if back and back[-1].kind == "iface":
            back.append(_hop(back[-1], "deliver", f"back at {back[-1].place}"))
        return replace(outcome, endpoint=endpoint), there, back
    if dropped is not None:
        return replace(outcome, place=there[-1].place, why=dropped[0], fix=dropped[1]), there, back
    if back:
        return _from_answer(outcome, back, names), there, back
    place = there[-1].place if there else ""
    why = (f"it arrived at {place}, and nothing came back" if there
           else f"the kernel refused to send it: {_words(answer)}")
    fix = "see whether the program there listens on that port and answers" if there else "look at the routes of the sender"
    return replace(outcome, place=place, why=why, fix=fix), there, back


def _rule_drop(hops: Sequence[Hop]) -> tuple[str, str] | None:
    """Return (why, fix) of the first rule or policy that ended the packet."""
    for hop in hops:
        if hop.kind == "policy" and hop.verdict == "DROP":
            return (f"the policy of {hop.table} {hop.chain} is DROP and no rule accepted it",
                    f"a rule in {hop.chain} must accept it, or the policy be ACCEPT")
        if hop.kind == "rule" and hop.verdict in ("DROP", "REJECT"):
            deed = "rejected" if hop.verdict == "REJECT" else "dropped"
            about = f" ({hop.comment})" if hop.comment else ""
            return f"{deed} by a rule in {hop.table} {hop.chain}{about}: {hop.rule}", _fix(hop)
    return None


def _fix(hop: Hop) -> str:
    if "has no endpoints" in hop.comment:
        return "no Pod behind the Service is ready: look at its selector and at its Pods' readiness"
    if "no local endpoints" in hop.comment:
        return "its traffic policy is Local and this node has no ready Pod of it"
    if "not accepted by KUBE-FW" in hop.comment:
        return "the client is in none of the Service's loadBalancerSourceRanges"
    if hop.chain.startswith("KUBE-"):
        return "the rule is kube-proxy's: look at the Service named in its comment"
    return f"Kubernetes did not write this rule: delete it (iptables -t {hop.table} -D {hop.chain} …) or accept the packet before it"


def _answered(back: Sequence[Hop]) -> bool:
    return bool(back)


def _silent_end(hops: Sequence[Hop], names: Mapping[str, str], ask_route: AskRoute,
                ask_neighbor: AskNeighbor) -> tuple[str, str] | None:
    """Return (why, fix) for a packet that vanished without a rule; None when it seems to have arrived."""
    if not hops:
        return None
    last = hops[-1]
    name = names.get(last.packet.destination, "")
    target = last.packet.destination + (f" ({name})" if name else "")
    came_in = next((hop.interface for hop in reversed(hops) if hop.place == last.place and hop.way == "in"), "")
    if last.kind == "iface" and last.way == "out":
        return (f"it left {last.place} by {last.interface} and no namespace saw it again",
                f"nothing answers for {target} there: look at the other end of {last.interface}, at the routes and neighbours")
    here = [hop for hop in hops if hop.place == last.place]
    routed = next((hop for hop in reversed(here) if hop.kind == "route"), None)
    if routed is not None and routed.interface:
        answer = ask_route(last.place, last.packet, came_in)
        next_hop = answer.gateway or last.packet.destination
        state = ask_neighbor(last.place, next_hop)
        if state in ("failed", "incomplete", ""):
            return (f"{last.place} forwarded it to {routed.interface}, but nobody there answers for {next_hop} (neighbour {state or 'unknown'})",
                    f"no interface behind {routed.interface} has the address {next_hop}: is the Pod gone, or the node down?")
        return (f"{last.place} forwarded it to {routed.interface} and it never left", "is the interface up?")
    if routed is None and came_in and not last.packet.is_icmp_error:
        answer = ask_route(last.place, last.packet, came_in)
        if answer.words:
            return (f"{last.place} has {answer.words} for {target}",
                    f"look at: ip route get {last.packet.destination} from {last.packet.source} iif {came_in}")
        if answer.kind == "unicast" and len({hop.interface for hop in here if hop.kind == "iface"}) == 1 and here[0].kind == "iface" \
                and answer.interface != came_in and answer.interface:
            return (f"{last.place} did not forward it (it would go to {answer.interface})",
                    "is net.ipv4.ip_forward 1 there, and the reverse path right (rp_filter)?")
    return None


def _from_answer(outcome: Outcome, back: Sequence[Hop], names: Mapping[str, str]) -> Outcome:
    first = back[0]
    packet = first.packet
    where = names.get(packet.source, packet.source)
    if packet.is_icmp_error:
        why = f"{first.place} answered with ICMP: {packet.what}"
        fix = {"port unreachable": "nothing listens on that port", "fragmentation needed": "lower the sender's MTU"}.get(
            packet.what, f"{first.place} has no way to it: look at its routes and neighbours")
        return replace(outcome, place=first.place, why=why, fix=fix)
    if packet.flags & 4:
        return replace(outcome, place=first.place, why=f"{where} answered with a reset: nothing listens on port {packet.sport}",
                       fix="start the program, or mend the Service's targetPort")
    return replace(outcome, place=back[-1].place, why="the answer was on its way back and did not arrive",
                   fix="look at the last hop of the reply")


def _hop(last: Hop, kind: str, text: str) -> Hop:
    return replace(last, at=None, kind=kind, text=text, way="", table="", chain="", rule="",  # type: ignore[arg-type]
                   comment="", verdict="", target="")


def _nowhere(text: str, direction: Direction, packet: Packet | None) -> Hop:
    return Hop(None, "", direction, "drop", text, packet or Packet(2, 0, "", ""))


def _words(answer: Answer) -> str:
    import os

    return os.strerror(answer.errno) if answer.errno else "nothing was seen of it"
