"""A trace as text for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from netlab.trace.document import began
from netlab.trace.event import Hop, Trace
from netlab.trace.verdict import GOOD

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
    lines: list[str] = []
    for part in trace.parts:
        if part.role == "resolution":
            lines += [paint(_BOLD, f"RESOLUTION  {part.words}"),
                      *as_text(part.trace, color=color, policies=policies, links=links).splitlines(), ""]
    name = f"{trace.target} ({trace.destination})" if trace.target != trace.destination else trace.destination
    crafted = f", made by hand: {trace.crafted}" if trace.crafted else ""
    lines.append(paint(_BOLD, f"{trace.source} → {name}, {trace.protocol}{crafted}"))
    start = began(trace)
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
    for part in trace.parts:
        if part.role != "resolution":
            lines += ["", paint(_BOLD, f"{part.role.upper()}  {part.words}"),
                      *as_text(part.trace, color=color, policies=policies, links=links).splitlines()]
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
        if hop.element:
            text += f"  [{hop.element}]"
        return f"{when}  {hop.table + ' ' + hop.chain:<29} {text}{note}"
    if hop.kind == "route" and hop.route is not None:
        return f"{when}  {hop.text}{paint(_DIM, f'  ({hop.route.words})')}"
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
        if trace.protocol == "tcp" and end.answer:
            yield f"it said: {end.answer.splitlines()[0]}"
    else:
        where = f" at {end.place}" if end.place else ""
        told = paint(_DIM, f"  (kernel: {end.reason})") if end.reason else ""
        yield paint(_RED, f"{end.status}{where}: {end.why}") + told
        if end.fix:
            yield f"to mend it: {end.fix}"
    shown = [next((each for each in trace.passages if each.direction == way), None) for way in ("request", "reply")]
    more = [passage.what + (f" {passage.payload} B" if passage.payload else "") + (" again" if passage.again else "")
            for passage in trace.passages if not any(passage is each for each in shown)]
    if more:
        yield paint(_DIM, f"{len(more)} more packets: " + ", ".join(more[:10]))
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
