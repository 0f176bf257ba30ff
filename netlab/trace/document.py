"""A trace as the JSON object that docs/trace.schema.json describes. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from netlab.trace.event import Crossing, Hop, Passage, Trace
from netlab.trace.packet import NAMES, Packet

SCHEMA: Final = "netlab.trace/v1"
_WORDS: Final = ("interface", "way", "table", "chain", "rule", "comment", "verdict", "target", "element", "reason",
                 "function")


def as_json(trace: Trace, nodes: Mapping[str, str] | None = None,
            links: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the trace as JSON.

    Args:
        trace: what to show.
        nodes: the node that each place is on, by place; places that are nodes need no entry.
        links: what is at the far end of interfaces, by `place interface`.
    """
    start = began(trace)
    end = trace.outcome
    crossed = {f"{hop.place} {hop.interface}" for hop in (*trace.request, *trace.reply) if hop.kind == "iface"}
    return {
        "schema": SCHEMA, "source": trace.source, "target": trace.target, "destination": trace.destination,
        "protocol": trace.protocol, "crafted": trace.crafted, "start": start,
        "outcome": {"status": end.status, "endpoint": end.endpoint, "endpointPlace": end.endpoint_place,
                    "place": end.place, "why": end.why, "fix": end.fix, "reason": end.reason, "answer": end.answer,
                    "ms": None if end.seconds is None else round(end.seconds * 1000, 3)},
        "hops": [_hop(hop, start, nodes or {}) for hop in (*trace.request, *trace.reply)],
        "packets": [_passage(number, passage, start) for number, passage in enumerate(trace.passages, 1)],
        "parts": [{"role": part.role, "words": part.words, "trace": as_json(part.trace, nodes, links)}
                  for part in trace.parts],
        "links": {key: words for key, words in sorted((links or {}).items()) if key in crossed},
        "bpf": trace.bpf, "lost": trace.lost, "warnings": list(trace.warnings),
    }


def began(trace: Trace) -> int:
    """Return the time of the first interface event, in ns since the epoch; 0 when there was none."""
    times = [passage.at for passage in trace.passages] + [hop.at for hop in (*trace.request, *trace.reply) if hop.at]
    return min(times, default=0)


def _ms(at: int | None, start: int) -> float | None:
    return round((at - start) / 1e6, 6) if at and start else None


def _hop(hop: Hop, start: int, nodes: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "t": _ms(hop.at, start),
        "node": hop.place.removeprefix("node/") if hop.place.startswith("node/") else nodes.get(hop.place, ""),
        "place": hop.place, "direction": hop.direction, "kind": hop.kind, "text": hop.text,
        "packet": _packet(hop.packet),
    }
    for key in _WORDS:
        value = getattr(hop, key)
        if value:
            found[key] = value
    if hop.packet.tunnel is not None:
        source, destination, vni = hop.packet.tunnel
        found["tunnel"] = {"source": source, "destination": destination, "vni": vni}
    if hop.route is not None:
        found["route"] = asdict(hop.route)
    if hop.entry is not None:
        entry = hop.entry
        found["conntrack"] = {"protocol": entry.protocol, "status": entry.status,
                              "original": {"source": entry.source, "destination": entry.destination},
                              "reply": {"source": entry.reply_source, "destination": entry.reply_destination}}
    return found


def _packet(packet: Packet) -> dict[str, Any]:
    found: dict[str, Any] = {"source": packet.of, "destination": packet.to, "what": packet.what, "ttl": packet.ttl,
                             "protocol": NAMES.get(packet.protocol, str(packet.protocol)), "length": packet.length}
    if packet.fragment is not None:
        found["fragment"] = {"offset": packet.fragment[0], "more": packet.fragment[1], "id": packet.identification}
    if packet.inner is not None:
        found["inner"] = _packet(packet.inner)
    return found


def _passage(number: int, passage: Passage, start: int) -> dict[str, Any]:
    return {"number": number, "t": _ms(passage.at, start) or 0, "direction": passage.direction, "what": passage.what,
            "payload": passage.payload, "again": passage.again,
            "crossed": [_crossing(crossing, start) for crossing in passage.crossed]}


def _crossing(crossing: Crossing, start: int) -> dict[str, Any]:
    return {"t": _ms(crossing.at, start), "place": crossing.place, "interface": crossing.interface,
            "way": crossing.way, "source": crossing.packet.of, "destination": crossing.packet.to,
            "data": base64.b64encode(crossing.data).decode()}
