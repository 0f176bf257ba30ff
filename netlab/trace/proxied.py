"""A connection that ends in a proxy, and the one that the proxy opens for it (kube-proxy, userspace; the gate). Pure.

The kernel does not connect the two: they are different sockets of a program. What tells is that the first was led to
a port of the node by a rule of kube-proxy's, or went to the gate's, and that the node itself (the gate's other side)
sent a first packet of the same protocol right afterwards, for UDP with the same payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netlab.trace.correlate import Seen
from netlab.trace.event import Hop, Part, Passage, Trace
from netlab.trace.packet import TCP, Packet
from netlab.trace.send import Answer
from netlab.trace.verdict import GOOD
from netlab.trace.visits import Visit


def first_packet(first: Packet | None, request: Sequence[Hop], passages: Sequence[Passage], seen: Sequence[Seen],
                 stays: Sequence[Visit], relay: str = "") -> Packet | None:
    """Return the first packet of the proxy's own connection; None when no proxy took part, or it opened none.

    `relay`: the place from which the program at the destination passes connections on, if that is known.
    """
    if first is None or not request or not passages or not (relay or _led_to_a_proxy(request)):
        return None
    place = relay or request[-1].place
    accepted = _accepted(first, passages, request[-1].place)
    if accepted is None:
        return None
    ended = min((passage.at for passage in passages if passage.direction == "reply"
                 and ("FIN" in passage.what or "RST" in passage.what)), default=0)
    mine = {(crossing.packet.key, crossing.packet.addresses) for passage in passages for crossing in passage.crossed}
    mine.add((first.key, first.addresses))  # nat OUTPUT may have rewritten it before any interface saw it
    found: list[tuple[int, Packet]] = []
    for visit in stays:  # the packet before any NAT of the node's own
        packet = visit.first
        if visit.place == place and visit.local and _opens(packet, first) and \
                (packet.key, packet.addresses) not in mine:
            left = [event.at for event in seen if event.place == place and event.outgoing and event.at > accepted
                    and event.packet.key == packet.key]
            found += [(min(left), packet)] if left and not (ended and min(left) > ended) else []
    return min(found, key=lambda entry: entry[0])[1] if found else None


def unserved(request: Sequence[Hop], passages: Sequence[Passage]) -> str:
    """Return what to say of a connection that a proxy took and ended without opening one of its own."""
    if not request or not _led_to_a_proxy(request) or not any("RST" in each.what for each in passages
                                                              if each.direction == "reply"):
        return ""
    return (f"kube-proxy on {request[-1].place} took the connection and ended it: has the Service an endpoint that is "
            "ready?")


def _accepted(first: Packet, passages: Sequence[Passage], place: str) -> int | None:
    """Return when the proxy had the connection: TCP's third packet, or the datagram, has come in there. None: never."""
    requests = [passage for passage in passages if passage.direction == "request" and not passage.again]
    there = [(crossing.at, crossing.packet) for passage in requests
             for crossing in [c for c in passage.crossed if c.place == place and c.way == "in"][:1]]
    if not there:
        return passages[0].at
    if first.protocol != TCP:
        return there[0][0]
    return there[1][0] if len(there) > 1 and not there[1][1].flags & 4 else None


def answer(came: Packet | None) -> Answer:
    """Return what the proxy saw, from the first packet that came back."""
    if came is None:
        return Answer()
    if came.flags & 4 or came.what == "port unreachable":
        return Answer("refused")
    if came.is_icmp_error:
        return Answer("unreachable")
    return Answer("connected" if came.protocol == TCP else "replied")


def joined(trace: Trace, second: Trace, relay: str = "") -> Trace:
    """Return the trace with the proxy's connection as a part; its endpoint is the one that answered in the end."""
    end = second.outcome
    who = f"the gate, whose other side is {relay}," if relay else f"kube-proxy on {trace.request[-1].place}"
    words = f"{who} opened a connection of its own to {second.destination}"
    outcome, warnings = trace.outcome, trace.warnings
    if end.status in GOOD:
        outcome = replace(outcome, endpoint=end.endpoint, endpoint_place=end.endpoint_place)
    else:
        warnings = (*warnings, f"the proxy's own connection: {end.status} at {end.place}: {end.why}")
    return replace(trace, outcome=outcome, warnings=warnings, parts=(*trace.parts, Part("proxied", words, second)))


def _led_to_a_proxy(request: Sequence[Hop]) -> bool:
    """Tell whether a rule of the userspace mode sent the packet to a port of its own node, and it arrived there."""
    led = any(hop.kind == "rule" and hop.target in ("REDIRECT", "DNAT") and
              hop.chain.startswith(("KUBE-PORTALS-", "KUBE-NODEPORT-")) for hop in request)
    return led and request[-1].kind == "deliver" and request[-1].place.startswith("node/")


def _opens(packet: Packet, first: Packet) -> bool:
    if packet.protocol != first.protocol:
        return False
    return packet.flags & 18 == 2 if packet.protocol == TCP else packet.payload[:12] == first.payload[:12]
