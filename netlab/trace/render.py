"""A trace as text for people and as JSON for programs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from netlab.trace.event import Hop, Trace
from netlab.trace.verdict import GOOD

SCHEMA = "netlab.trace/v1"
_BOLD, _DIM, _RED, _GREEN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m"
_CYAN, _YELLOW, _END = "\x1b[36m", "\x1b[33m", "\x1b[0m"
_NOISE = re.compile(r'-m comment --comment ("(?:[^"\\]|\\.)*"|\S+) ?|-m (?:tcp|udp|sctp|icmp) ?')


def as_text(trace: Trace, *, color: bool = False, policies: bool = False,
            links: Mapping[str, str] | None = None) -> str:
    """Return the trace for a terminal.

    Args:
        trace: what to show.
        color: with ANSI colours.
        policies: also show every chain policy that the packet came to, not only those that dropped it.
        links: words for interfaces, by `place interface` (what is at their other end).
    """
    paint = _paint if color else _plain
    name = f"{trace.target} ({trace.destination})" if trace.target != trace.destination else trace.destination
    lines = [paint(_BOLD, f"{trace.source} → {name}, {trace.protocol}")]
    start = next((hop.at for hop in (*trace.request, *trace.reply) if hop.at), 0) or 0
    for title, hops in (("request", trace.request), ("reply", trace.reply)):
        if not hops:
            continue
        first = hops[0].packet
        lines += ["", paint(_BOLD, f"{title.upper()}  {first}  {first.what}")]
        place = ""
        for hop in hops:
            if hop.kind == "policy" and hop.verdict != "DROP" and not policies:
                continue
            if hop.kind == "route" and not hop.interface:
                continue  # the deliver hop says it
            if hop.place != place:
                place = hop.place
                lines.append(f"  {paint(_CYAN, place)}")
            lines.append(_line(hop, start, paint, links or {}))
    lines += ["", *_ending(trace, paint)]
    return "\n".join(lines)


def _line(hop: Hop, start: int, paint: Any, links: Mapping[str, str]) -> str:
    when = f"{(hop.at - start) / 1e6:9.3f} ms" if hop.at else " " * 12
    if hop.kind == "iface":
        far = links.get(f"{hop.place} {hop.interface}", "")
        return f"{when}  {hop.text}{paint(_DIM, f'  ({far})') if far else ''}"
    if hop.kind in ("rule", "policy"):
        text = bare(hop.text)
        if hop.verdict in ("DROP", "REJECT"):
            text = paint(_RED, text)
        note = paint(_DIM, f"  # {hop.comment}") if hop.comment else ""
        return f"{when}  {hop.table + ' ' + hop.chain:<29} {text}{note}"
    style = {"nat": _YELLOW, "drop": _RED, "deliver": _GREEN}.get(hop.kind, "")
    sign = {"nat": "=> ", "drop": "✗ ", "deliver": "✓ "}.get(hop.kind, "")
    return f"{when}  {paint(style, sign + hop.text)}"


def _ending(trace: Trace, paint: Any) -> Iterator[str]:
    end = trace.outcome
    took = f" in {end.seconds * 1000:.1f} ms" if end.seconds is not None else ""
    at = f" ({end.endpoint_place})" if end.endpoint_place else ""
    if end.status in GOOD:
        word = "connected to" if end.status == "connected" else "an answer from"
        yield paint(_GREEN, f"{word} {end.endpoint}{at}{took}")
    else:
        where = f" at {end.place}" if end.place else ""
        yield paint(_RED, f"{end.status}{where}: {end.why}")
        if end.fix:
            yield f"to mend it: {end.fix}"
    more = len(trace.packets) - 2
    if more > 0:
        yield paint(_DIM, f"{more} more packets: " + ", ".join(words for _, _, words in trace.packets[2:10]))
    if trace.lost:
        yield paint(_YELLOW, f"{trace.lost} times the kernel had more events than room: hops may be missing")
    for warning in trace.warnings:
        yield paint(_YELLOW, f"warning: {warning}")


def bare(rule: str) -> str:
    """Return a rule line without its comment and without the matches that its protocol implies."""
    return _NOISE.sub("", rule).strip()


def _paint(style: str, text: str) -> str:
    return f"{style}{text}{_END}" if style else text


def _plain(style: str, text: str) -> str:  # noqa: ARG001
    return text


def as_json(trace: Trace, nodes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the trace as the JSON object that docs/trace.schema.json describes.

    Args:
        trace: what to show.
        nodes: the node that each place is on, by place; places that are nodes need no entry.
    """
    start = next((hop.at for hop in (*trace.request, *trace.reply) if hop.at), None)
    end = trace.outcome
    return {
        "schema": SCHEMA, "source": trace.source, "target": trace.target, "destination": trace.destination,
        "protocol": trace.protocol,
        "outcome": {"status": end.status, "endpoint": end.endpoint, "endpointPlace": end.endpoint_place,
                    "place": end.place, "why": end.why, "fix": end.fix,
                    "ms": None if end.seconds is None else round(end.seconds * 1000, 3)},
        "hops": [_hop(hop, start, nodes or {}) for hop in (*trace.request, *trace.reply)],
        "packets": [{"t": round((at - (start or at)) / 1e6, 3), "direction": direction, "what": what}
                    for at, direction, what in trace.packets],
        "lost": trace.lost, "warnings": list(trace.warnings),
    }


def _hop(hop: Hop, start: int | None, nodes: Mapping[str, str]) -> dict[str, Any]:
    packet = hop.packet
    found: dict[str, Any] = {
        "t": round((hop.at - start) / 1e6, 3) if hop.at and start else None,
        "node": hop.place.removeprefix("node/") if hop.place.startswith("node/") else nodes.get(hop.place, ""),
        "place": hop.place, "direction": hop.direction, "kind": hop.kind, "text": hop.text,
        "packet": {"source": packet.of, "destination": packet.to, "what": packet.what, "ttl": packet.ttl},
    }
    for key in ("interface", "way", "table", "chain", "rule", "comment", "verdict", "target"):
        value = getattr(hop, key)
        if value:
            found[key] = value
    if packet.tunnel is not None:
        found["tunnel"] = {"source": packet.tunnel[0], "destination": packet.tunnel[1], "vni": packet.tunnel[2]}
    return found
