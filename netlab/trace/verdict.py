"""How the exchange ended, where, why, and what would mend it: one sentence from the hops and what the kernel says.

The reasons are found without privileged tracing: the last hop, rule verdicts, the ICMP error that came back, and
questions to the kernel (`Ask`). Where BPF told of the packet's end, its words are added, and decide what is left open.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from netlab.trace.event import Hop, Outcome
from netlab.trace.packet import TCP, join
from netlab.trace.reasons import NOT_A_DEATH, Cause, Death
from netlab.trace.refusals import closed
from netlab.trace.send import Answer
from netlab.trace.vanish import Ask, vanished

GOOD: Final = ("connected", "replied")


def conclude(answer: Answer, request: Sequence[Hop], reply: Sequence[Hop], names: Mapping[str, str],
             ask: Ask, deaths: Sequence[Death] = ()) -> tuple[Outcome, list[Hop], list[Hop]]:
    """Return the outcome, and both ways closed by a last hop: deliver or drop.

    Args:
        answer: what the sending socket saw.
        request: the way there, in order; [] when the kernel never made the packet.
        reply: the way of the first packet that came back, [] when nothing did.
        names: names by IP address, for the words.
        ask: questions to the kernel.
        deaths: how packets of this exchange ended, as BPF told it.
    """
    if not request:
        status = answer.status or "timeout"
        why = f"the kernel did not send it: {os.strerror(answer.errno) if answer.errno else 'nothing was seen of it'}"
        return Outcome(status, why=why, fix="look at the sender's routes and addresses", seconds=answer.seconds), [], []
    good = answer.status in GOOD
    packet = request[-1].packet
    outcome = Outcome(answer.status or "timeout", packet.to, names.get(packet.destination, ""), seconds=answer.seconds,
                      answer=shown(answer.data))
    if good:
        at = request[-1].place
        return replace(outcome, endpoint_place=names.get(packet.destination, at)), _closed(request), _closed(reply)
    death = _death(request, deaths)
    cause = _rule(request) or vanished(request, reply, names, ask, death)
    if cause is not None:
        cause = _told(cause, death)
        lost = _lost(request, reply, names, ask, _death(reply, deaths))
        return _ended(outcome, request[-1].place, cause), _closed(request, cause), _closed(reply, lost)
    there = _closed(request)
    if not reply:
        why = f"it arrived at {there[-1].place}, and nothing came back"
        return replace(outcome, place=there[-1].place, why=why,
                       fix="see whether the program there listens on that port and answers"), there, []
    lost = _lost(request, reply, names, ask, _death(reply, deaths))
    if lost is not None:
        told = replace(lost, why=f"the answer died on its way back: {lost.why}")
        return _ended(outcome, reply[-1].place, told), there, _closed(reply, lost)
    back = _closed(reply)
    end = _answered(request, reply, names, _death(request, deaths))
    stranger = _unknown(request, reply) if end is None else None
    if stranger is not None:
        return _ended(outcome, back[-1].place, stranger), there, back
    if end is None:
        why = f"the answer was last seen at {back[-1].place}"
        return replace(outcome, place=back[-1].place, why=why, fix="look at the last hop of the reply"), there, back
    return _ended(outcome, _sender(reply[0], names), end), there, back


def _lost(request: Sequence[Hop], reply: Sequence[Hop], names: Mapping[str, str], ask: Ask,
          death: Death | None) -> Cause | None:
    """Return why an answer did not come back, None where it did or where nothing tells."""
    if not reply:
        return None
    back_at = reply[-1].place == request[0].place
    found = _rule(reply) or (None if back_at else vanished(reply, (), names, ask, death))
    return _told(found, death) if found is not None else None


def shown(data: bytes) -> str:
    """Return the first 200 bytes of a payload as text, with dots for what is none."""
    return "".join(c if c.isprintable() or c in "\r\n\t" else "." for c in data[:200].decode(errors="replace"))


def _answered(request: Sequence[Hop], reply: Sequence[Hop], names: Mapping[str, str],
              death: Death | None) -> Cause | None:
    """Return what a negative answer says: a reset, an ICMP error."""
    first = reply[0]
    reason, function = (death.reason, death.function) if death is not None else ("", "")
    if first.packet.flags & 4:
        who = names.get(first.packet.source) or _sender(first, names)
        asked = request[0].packet
        if asked.protocol == TCP and not asked.flags & 2:
            return Cause(f"{who} answered with a reset: it knows no connection that such a packet belongs to",
                         "a connection begins with SYN", reason, function)
        return Cause(f"{who} answered with a reset: nothing listens on {request[-1].packet.to}",
                     closed(request), reason, function)
    if first.packet.is_icmp_error:
        fix = "nothing listens on that port there" if first.packet.what == "port unreachable" else \
            "look at the routes, rules and neighbours of that place"
        return Cause(f"{_sender(first, names)} answered with ICMP: {first.packet.what}", fix, reason, function)
    return None


def _sender(first: Hop, names: Mapping[str, str]) -> str:
    """Return the place that an answer comes from, or its address where it came in from beyond all namespaces."""
    if first.kind == "iface" and first.way == "in":
        return names.get(first.packet.source, first.packet.source)
    return first.place


def _unknown(request: Sequence[Hop], reply: Sequence[Hop]) -> Cause | None:
    """Return what is wrong with an answer that came to the sender from somewhere it never asked."""
    asked, back = request[0].packet, reply[-1].packet
    same = back.is_icmp or back.sport == asked.dport
    if reply[-1].place != request[0].place or (same and back.source == asked.destination):
        return None
    return Cause(f"the answer came from {join(back.source, back.sport)} where {asked.to} was asked: nothing took the "
                 f"DNAT back, and {reply[-1].place} knows no such connection",
                 "answers have to pass the hooks that rewrote the request: between two Pods of one bridge that takes "
                 f"sysctl net.bridge.bridge-nf-call-{'ip6' if ':' in back.source else 'ip'}tables=1")


def _death(hops: Sequence[Hop], deaths: Sequence[Death]) -> Death | None:
    """Return the end of this packet: the first one told of at the place where it was last seen."""
    if not hops:
        return None
    key, place = hops[0].packet.key, hops[-1].place
    return next((death for death in sorted(deaths, key=lambda d: d.at) if death.packet.key == key
                 and death.place == place and death.reason not in NOT_A_DEATH), None)


def _told(cause: Cause, death: Death | None) -> Cause:
    return cause if death is None or cause.reason else replace(cause, reason=death.reason, function=death.function)


def _ended(outcome: Outcome, place: str, cause: Cause) -> Outcome:
    return replace(outcome, place=place, why=cause.why, fix=cause.fix, reason=cause.reason)


def _closed(hops: Sequence[Hop], cause: Cause | None = None) -> list[Hop]:
    """Return the hops with a last one that says how the way ended."""
    if not hops:
        return []
    last = hops[-1]
    text = f"arrived at {last.place}" if last.direction == "request" else f"back at {last.place}"
    if last.kind == "iface" and last.way == "out":  # nobody listens at the other end
        text = f"left {last.place} by {last.interface}"
    if cause is None:
        return [*hops, Hop(None, last.place, last.direction, "deliver", text, last.packet)]
    return [*hops, Hop(None, last.place, last.direction, "drop", cause.why, last.packet, reason=cause.reason,
                       function=cause.function)]


def _rule(hops: Sequence[Hop]) -> Cause | None:
    """Return the rule or policy that ended the packet."""
    for hop in hops:
        if hop.kind == "policy" and hop.verdict == "DROP":
            return Cause(f"no rule accepted it, and the policy of {hop.table} {hop.chain} is DROP",
                         f"a rule in {hop.chain} must accept it, or its policy be ACCEPT")
        if hop.kind == "rule" and hop.verdict in ("DROP", "REJECT"):
            deed = "rejected" if hop.verdict == "REJECT" else "dropped"
            return Cause(f"{deed} by {hop.table} {hop.chain}: {hop.comment or hop.element or hop.rule}", _mend(hop))
    return None


def _mend(hop: Hop) -> str:
    if "has no endpoints" in hop.comment:
        return "no Pod behind the Service is ready: look at its selector and at its Pods' readiness"
    if "no local endpoints" in hop.comment:
        return "its traffic policy is Local and this node has no ready Pod of it"
    if "not accepted by KUBE-FW" in hop.comment:
        return "the client is in none of the Service's loadBalancerSourceRanges"
    if "invalid ports" in hop.comment:
        return "a Service answers at its ports only, and to no ping: kubectl get service shows its ports"
    if "--ctstate INVALID" in hop.rule or "ct state invalid" in hop.rule:
        return ("conntrack knows no connection that it could belong to: a connection begins with SYN alone, and all of "
                "its packets, both ways, must pass here")
    if hop.chain.startswith("KUBE-POD-") or "policy" in hop.comment.lower():
        return "a NetworkPolicy selects that Pod and none of its rules lets this in: kubectl describe networkpolicy"
    if hop.chain.startswith("KUBE-") or hop.table == "kube-proxy":
        return "the rule is kube-proxy's: look at the Service that its comment names"
    tool = "iptables" if hop.packet.family == socket.AF_INET else "ip6tables"
    how = f"{tool} -t {hop.table} -D {hop.chain} {hop.rule}" if hop.rule.startswith("-") else \
        f"nft -a list ruleset shows its handle, in table {hop.table}, chain {hop.chain}"
    return f"Kubernetes did not write this rule: delete it ({how}), or accept the packet before it"
