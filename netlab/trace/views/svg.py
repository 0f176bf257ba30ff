"""A trace as a drawing: a lane for each namespace, the packet's way numbered through them, top to bottom.

A stay in a namespace is a box with what happened there, a line each; where a packet goes over to another namespace,
the line it leaves by and the line it comes in by stand at one height, so that every cable is a level arrow. One
self-contained file: no script, no font and no picture from elsewhere. Texts too long for their lane end in an
ellipsis, and carry everything in a tooltip. Units are pixels.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from netlab.trace.views import Subject
from netlab.trace.views.way import Stay, Step, bad, ending, groups, stays, title

LINE: Final = 17
PAD: Final = 8
GAP: Final = 34
"""Between lanes: room for an arrow."""
EM: Final = 6.7
"""Width of one character of the lines' font, which is monospaced, at 11 px; a little more than it is."""
NARROW, WIDE = 170, 560
HEAD: Final = 92
_INVALID: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

STYLE: Final = """
.lane{fill:#f6f8fa;stroke:#d0d7de}.node{fill:#fff;stroke:#57606a;stroke-dasharray:5 4}
.pod{fill:#ddf4ff}.h{font:600 13px system-ui,sans-serif;fill:#1f2328}.g{font:12px system-ui,sans-serif;fill:#57606a}
.t{font:600 17px system-ui,sans-serif;fill:#1f2328}
.l{font:11px ui-monospace,Menlo,'DejaVu Sans Mono',monospace;fill:#1f2328}
.stay{fill:#fff;stroke:#8c959f}.iface{font-weight:600}.rule,.policy{fill:#424a53}.route,.conntrack{fill:#57606a}
.nat{fill:#953800;font-weight:600}.drop,.bad{fill:#cf222e;font-weight:600}.deliver{fill:#1a7f37;font-weight:600}
.natbg{fill:#fff1e5}.badbg{fill:#ffebe9}.goodbg{fill:#dafbe1}.none{fill:none}
.request{stroke:#0969da}.reply{stroke:#8250df}
.way{fill:none;stroke-width:2}.dot.request{fill:#0969da}.dot.reply{fill:#8250df}.dot.end{fill:#cf222e}
.num{font:700 9px system-ui,sans-serif;fill:#fff;text-anchor:middle}.on{stroke:#bf8700;stroke-width:2}
"""


@dataclass(frozen=True)
class _Lane:
    """A namespace's column."""

    place: str
    node: str
    x: float
    width: float


def render(subject: Subject) -> str:
    """Return the drawing as an SVG document."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + drawing(subject)


def drawing(subject: Subject, first: int = 0) -> str:
    """Return the `<svg>` element, also for an HTML page; each line carries its number from `first` as `data-step`."""
    listed = stays(subject.trace)
    lanes = _lanes(subject, listed)
    tops = list(_tops(listed))
    bottom = max((top + _height(stay) for top, stay in zip(tops, listed, strict=True)), default=HEAD)
    width = max((lane.x + lane.width for lane in lanes.values()), default=0) + GAP
    width = max(width, 640.0)
    good, words = ending(subject.trace)
    last = textwrap.wrap(words, int((width - 2 * GAP) / EM)) or [""]
    height = bottom + 40 + LINE * len(last)
    body = [f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
            _cut_text(GAP, 30, "t", title(subject.trace), width)]
    said = "   ".join(f"{part.role}: {part.words}" for part in subject.trace.parts)
    body += [_cut_text(GAP, 44, "g", said, width)] if said else []
    body += _backgrounds(lanes.values(), bottom)
    step = first
    for index, (top, stay) in enumerate(zip(tops, listed, strict=True)):
        lane = lanes[stay.place]
        if index and listed[index - 1].direction == stay.direction:
            body.append(_arrow(lanes[listed[index - 1].place], lane, top + LINE / 2 + PAD / 2, stay))
        else:
            packet = stay.steps[0].hop.packet
            body.append(_text(lane.x + 10, top - 7, "g", f"{stay.direction.upper()}  {packet.what}  {packet}"))
        body += _stay(lane, top, stay, step)
        step += len(stay.steps)
    body += [_text(GAP, bottom + 34 + n * LINE, "l deliver" if good else "l drop", line) for n, line in enumerate(last)]
    marker = "".join(
        f'<marker id="{way}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{color}"/></marker>'
        for way, color in (("request", "#0969da"), ("reply", "#8250df")))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img"><title>{escape(title(subject.trace))}</title><style>{STYLE}</style>'
            f"<defs>{marker}</defs>\n" + "\n".join(body) + "\n</svg>\n")


def escape(text: str) -> str:
    """Return text for XML and HTML alike; characters that XML does not have at all become U+FFFD."""
    return html.escape(_INVALID.sub("\ufffd", text), quote=True)


def _lanes(subject: Subject, listed: Sequence[Stay]) -> dict[str, _Lane]:
    lanes: dict[str, _Lane] = {}
    x = float(GAP)
    for node, places in groups(subject, listed):
        for place in places:
            steps = [step for stay in listed if stay.place == place for step in stay.steps]
            longest = max(len(_sign(step) + step.words) for step in steps)
            width = min(max(longest * EM + 52, len(place) * 7.4 + 20, NARROW), WIDE)
            lanes[place] = _Lane(place, node, x, width)
            x += width + GAP
    return lanes


def _tops(listed: Sequence[Stay]) -> Iterator[float]:
    """Yield where each stay's box begins: at its predecessor's last line, where that is another lane's."""
    y = float(HEAD + 40)
    for before, stay in zip([None, *listed], listed, strict=False):
        if before is None:
            top = y
        elif before.direction != stay.direction:
            top = y + 40
        else:
            top = y - LINE - PAD if before.place != stay.place else y + 10
        yield top
        y = top + _height(stay)


def _height(stay: Stay) -> float:
    return len(stay.steps) * LINE + PAD


def _backgrounds(lanes: Iterable[_Lane], bottom: float) -> Iterator[str]:
    lanes = list(lanes)
    for node in dict.fromkeys(lane.node for lane in lanes if lane.node):
        mine = [lane for lane in lanes if lane.node == node]
        x, end = mine[0].x - GAP / 2 + 4, mine[-1].x + mine[-1].width + GAP / 2 - 4
        yield (f'<rect class="node" x="{x:.1f}" y="48" width="{end - x:.1f}" height="{bottom - 36:.1f}" rx="10"/>'
               + _text(x + 10, 66, "g", f"node {node}"))
    for lane in lanes:
        kind = "lane pod" if lane.place.startswith("pod/") else "lane"
        yield (f'<rect class="{kind}" x="{lane.x:.1f}" y="74" width="{lane.width:.1f}" height="{bottom - 66:.1f}" '
               'rx="7"/>'
               + _cut_text(lane.x + 10, HEAD, "h", lane.place, lane.width - 16))


def _stay(lane: _Lane, top: float, stay: Stay, first: int) -> Iterator[str]:
    x, width = lane.x + 6, lane.width - 12
    yield f'<rect class="stay" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_height(stay):.1f}" rx="5"/>'
    for index, step in enumerate(stay.steps):
        y = top + PAD / 2 + index * LINE
        yield (f'<g data-step="{first + index}"><title>{escape(step.full)}</title>'
               f'<rect class="{_ground(step)}" x="{x + 1.5:.1f}" y="{y:.1f}" width="{width - 3:.1f}" '
               f'height="{LINE}" rx="3"/>'
               f"{_badge(x + 13, y + LINE / 2, step, stay)}"
               f"{_cut_text(x + 26, y + 12.5, f'l {_class(step)}', _sign(step) + step.words, width - 32)}</g>")


def _badge(x: float, y: float, step: Step, stay: Stay) -> str:
    if not step.number:
        return ""
    color = "end" if bad(step.hop) else stay.direction
    return (f'<circle class="dot {color}" cx="{x:.1f}" cy="{y:.1f}" r="8" stroke="none"/>'
            f'<text class="num" x="{x:.1f}" y="{y + 3.2:.1f}">{step.number}</text>')


def _arrow(start: _Lane, end: _Lane, y: float, stay: Stay) -> str:
    if start.place == end.place:
        return ""
    right = end.x > start.x
    x1 = start.x + start.width - 6 if right else start.x + 6
    x2 = end.x + 6 if right else end.x + end.width - 6
    return (f'<path class="way {stay.direction}" d="M{x1:.1f} {y:.1f}H{x2:.1f}" marker-end="url(#{stay.direction})"/>')


def _class(step: Step) -> str:
    return "bad" if bad(step.hop) else step.hop.kind


def _ground(step: Step) -> str:
    return "badbg" if bad(step.hop) else {"nat": "natbg", "deliver": "goodbg"}.get(step.hop.kind, "none")


def _sign(step: Step) -> str:
    return "✗ " if bad(step.hop) else {"nat": "⇒ ", "deliver": "✓ "}.get(step.hop.kind, "")


def _text(x: float, y: float, style: str, text: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _cut_text(x: float, y: float, style: str, text: str, width: float) -> str:
    room = max(int(width / (EM if style.startswith("l") else 7.4)), 4)
    return _text(x, y, style, text if len(text) <= room else f"{text[:room - 1]}…")
