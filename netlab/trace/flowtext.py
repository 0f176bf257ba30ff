"""Flows of `--follow` as lines for people and as JSON lines for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from netlab.trace.document import as_json as trace_json
from netlab.trace.follow import Closing, Told
from netlab.trace.verdict import GOOD

SCHEMA: Final = "netlab.flow/v1"
END: Final = "netlab.flow-end/v1"
_RED, _GREEN, _DIM, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[0m"


def line(told: Told, *, color: bool = False) -> str:
    """Return one line: when, what, from where, to where, and how it ended."""
    trace, end = told.trace, told.trace.outcome
    when = datetime.fromtimestamp(told.at / 1e9).strftime("%H:%M:%S.%f")[:-3]
    endpoint = f" ⇒ {end.endpoint_place} {end.endpoint}".replace("  ", " ") if _another(told) else ""
    took = f" {end.seconds * 1000:.1f} ms" if end.seconds is not None else ""
    words = f"{told.status}{took}"
    if not told.good:
        reason = f" (kernel: {end.reason})" if end.reason else ""
        words += f" at {end.place}: {end.why}{reason}"
    if color:
        words = f"{_GREEN if told.status in GOOD else _DIM if told.good else _RED}{words}{_PLAIN}"
    return f"{when} {trace.protocol:<4} {trace.source} → {trace.target}{endpoint}  {words}"


def closing(end: Closing) -> str:
    """Return the last line."""
    lost = ", ".join(f"{count} {kind}" for kind, count in end.lost.items() if count)
    sample = f", 1 in {end.sample} looked at" if end.sample > 1 else ""
    told = f"the kernel could not hand over {lost}: flows or hops may be missing" if lost else "no event was lost"
    return f"{end.shown} of {end.flows} flows shown in {end.seconds:.1f} s{sample}, {end.dropped} failed; {told}"


def as_json(told: Told, *, hops: bool = False, nodes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return one flow as docs/trace.schema.json describes it (`$defs/flow`), with all hops if asked."""
    trace, end = told.trace, told.trace.outcome
    first = trace.request[0].packet if trace.request else None
    found: dict[str, Any] = {
        "schema": SCHEMA, "t": round(told.at / 1e9, 6), "protocol": trace.protocol,
        "source": first.of if first is not None else "", "sourceName": trace.source,
        "destination": trace.destination, "destinationName": trace.target if trace.target != trace.destination else "",
        "endpoint": end.endpoint, "endpointName": end.endpoint_place, "status": told.status, "place": end.place,
        "why": end.why, "fix": end.fix, "reason": end.reason,
        "ms": None if end.seconds is None else round(end.seconds * 1000, 3)}
    if hops:
        found["hops"] = trace_json(trace, nodes)["hops"]
    return found


def closing_json(end: Closing) -> dict[str, Any]:
    """Return the last line as JSON (`$defs/end`)."""
    return {"schema": END, "seconds": round(end.seconds, 3), "flows": end.flows, "shown": end.shown,
            "dropped": end.dropped, "sample": end.sample, "lost": dict(end.lost)}


def _another(told: Told) -> bool:
    """Tell whether the endpoint is worth a word: it is known, and not what the flow was sent to."""
    end = told.trace.outcome
    return bool(end.endpoint) and end.endpoint != told.trace.destination
