"""A trace as a mermaid sequence diagram: namespaces as participants, rules as notes (https://mermaid.js.org)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from netlab.trace.event import Hop
from netlab.trace.views import Subject
from netlab.trace.views.way import Stay, bad, ending, groups, stays, title

_WIDEST = 110
_SPECIAL = re.compile(r"[#;<>{}\"`\\%]|[\x00-\x1f\x7f]")


def render(subject: Subject) -> str:
    """Return the diagram's text, for a ```mermaid block in Markdown."""
    listed = stays(subject.trace)
    alias: dict[str, str] = {}
    lines = ["sequenceDiagram", f"  %% {_comment(title(subject.trace))}", "  autonumber"]
    for node, places in groups(subject, listed):
        if node and len(places) > 1:
            lines.append(f"  box rgb(244,246,248) {_safe(node)}")
        for place in places:
            alias[place] = f"p{len(alias)}"
            lines.append(f"  participant {alias[place]} as {_safe(place)}")
        if node and len(places) > 1:
            lines.append("  end")
    if listed:
        lines += [f"  Note over {alias[listed[0].place]}: {_safe(f'{part.role}: {part.words}')}"
                  for part in subject.trace.parts]
    for before, stay in zip([None, *listed], listed, strict=False):
        lines += _stay(before, stay, alias)
    good, words = ending(subject.trace)
    if listed:
        last = alias[listed[-1].place]
        lines.append(f"  Note over {last}: {'✓' if good else '✗'} {_safe(words)}")
    return "\n".join(lines) + "\n"


def _stay(before: Stay | None, stay: Stay, alias: dict[str, str]) -> Iterator[str]:
    me = alias[stay.place]
    packet = stay.steps[0].hop.packet
    what = f"{packet.what} {packet}"
    if before is not None and before.direction == stay.direction:
        via = f"{_last(before, 'out')} ⇒ {_last(stay, 'in')}".strip(" ⇒")
        yield f"  {alias[before.place]}{'->>' if stay.direction == 'request' else '-->>'}{me}: {_safe(what)}" + (
            f"<br/>{_safe(via)}" if via else "")
    else:
        yield f"  Note over {me}: {stay.direction.upper()} {_safe(what)}"
    notes = [_safe(_mark(step.hop) + _cut(step.words)) for step in stay.steps if step.hop.kind != "iface"]
    if notes:
        yield f"  Note over {me}: {'<br/>'.join(notes)}"
    if any(step.hop.kind == "drop" for step in stay.steps):
        yield f"  {me}-x{me}: {_safe(next(step.words for step in stay.steps if step.hop.kind == 'drop'))}"


def _last(stay: Stay, way: str) -> str:
    found = [step.hop.interface for step in stay.steps if step.hop.kind == "iface" and step.hop.way == way]
    return (found[-1] if way == "out" else found[0]) if found else ""


def _mark(hop: Hop) -> str:
    if bad(hop):
        return "✗ "
    return {"nat": "=> ", "deliver": "✓ "}.get(hop.kind, "")


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST - 1]}…"


def _safe(text: str) -> str:
    """Return text in which nothing means anything to mermaid: its entities are `#` and the code point."""
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};" if ord(found[0]) >= 32 else " ", text)


def _comment(text: str) -> str:
    return re.sub(r"[\x00-\x1f{}]", " ", text)
