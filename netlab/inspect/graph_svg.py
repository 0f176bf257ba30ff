"""A graph of chains drawn as SVG: layers from left to right, as packets go. A layout of our own, and pure.

Each node stands one layer behind the furthest of those that lead to it. Edges that pass over layers get a bend in each
of them, so that they go around what stands there; nodes and bends are sorted by the mean place of their neighbours, a
few times in both directions, which takes most crossings out.
"""

from __future__ import annotations

import html
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from netlab.inspect.graph import Edge, Graph, Node

_CHAR: Final = 7.2
_LINE: Final = 16
_PAD: Final = 10
_ROW: Final = 22
_BEND: Final = 14
_COLORS: Final = {"hook": ("#dbeafe", "#1d4ed8"), "chain": ("#f8fafc", "#475569"), "endpoint": ("#dcfce7", "#15803d"),
                  "verdict": ("#fee2e2", "#b91c1c")}
_WRAP: Final = 44
_LABEL: Final = 36
_ROUNDS: Final = 8


@dataclass
class _Box:
    """A node, or (with no node) a bend of an edge that passes over this layer."""

    name: str
    layer: int
    node: Node | None = None
    lines: tuple[str, ...] = ()
    before: list[_Box] = field(default_factory=list)
    after: list[_Box] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    across: float = 0.0
    """For a bend: how far the edge runs straight, over the width of its layer."""

    @property
    def width(self) -> float:
        return max((len(line) for line in self.lines), default=0) * _CHAR + 2 * _PAD if self.node else 0.0

    @property
    def height(self) -> float:
        return len(self.lines) * _LINE + _PAD if self.node else _BEND


def draw(value: Graph, title: str) -> str:
    """Return a graph as an SVG document, at most a few thousand points wide, readable in light and dark."""
    boxes, ways = _layered(value)
    layers: list[list[_Box]] = [[] for _ in range(max((box.layer for box in boxes), default=0) + 1)]
    for box in boxes:
        layers[box.layer].append(box)
    _sort(layers)
    gaps = _gaps(value.edges, ways, len(layers))
    width, height = _place(layers, gaps)
    crowded = Counter(edge.target for edge in value.edges if edge.label)
    drawn = [_edge(edge, way, crowded[edge.target] > 1) for edge, way in zip(value.edges, ways, strict=True)]
    body = [*(line for lines in drawn for line in lines[:1]), *(line for lines in drawn for line in lines[1:]),
            *(line for box in boxes if box.node for line in _node(box))]
    return "\n".join((
        (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
         f'height="{height:.0f}" font-family="ui-monospace, DejaVu Sans Mono, monospace" font-size="12">'),
        f"<title>{_text(title)}</title>",
        ('<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
         '<path d="M0 0 L8 4 L0 8 z" fill="#64748b"/></marker></defs>'),
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<text x="16" y="24" font-size="14" font-weight="bold" fill="#0f172a">{_text(title)}</text>',
        *body, "</svg>\n"))


def _layered(value: Graph) -> tuple[list[_Box], list[list[_Box]]]:
    """Return all boxes, bends included, and each edge's way through them."""
    layer = {node.name: 0 for node in value.nodes}
    edges = [edge for edge in value.edges if edge.source != edge.target]
    for _ in value.nodes:  # the longest way decides; kube-proxy's chains have no circles, others' may
        moved = False
        for edge in edges:
            if layer[edge.target] <= layer[edge.source] and layer[edge.source] + 1 < len(value.nodes):
                layer[edge.target], moved = layer[edge.source] + 1, True
        if not moved:
            break
    last = max(layer.values(), default=0)
    for node in value.nodes:
        if node.kind in ("endpoint", "verdict"):  # where ways end: on one line
            layer[node.name] = last
    by_name = {node.name: _Box(node.name, layer[node.name], node, tuple(_lines(node))) for node in value.nodes}
    boxes, ways = list(by_name.values()), []
    for number, edge in enumerate(value.edges):
        way = [by_name[edge.source]]
        for step in range(layer[edge.source] + 1, layer[edge.target]):
            way.append(_Box(f"bend {number} {step}", step))
            boxes.append(way[-1])
        way.append(by_name[edge.target])
        for one, other in pairwise(way):
            one.after.append(other)
            other.before.append(one)
        ways.append(way)
    return boxes, ways


def _lines(node: Node) -> Iterator[str]:
    for line in node.label.split("\n"):
        yield from textwrap.wrap(line, _WRAP, break_on_hyphens=False) or [""]


def _sort(layers: Sequence[list[_Box]]) -> None:
    for number in range(_ROUNDS):
        forth = number % 2 == 0
        for layer in (layers if forth else reversed(layers)):
            places = {id(box): at for each in layers for at, box in enumerate(each)}
            old = {id(box): at for at, box in enumerate(layer)}

            def mean(box: _Box, places: dict[int, int] = places, old: dict[int, int] = old,
                     forth: bool = forth) -> float:
                near = box.before if forth else box.after
                return sum(places[id(each)] for each in near) / len(near) if near else old[id(box)]
            layer.sort(key=mean)


def _gaps(edges: Sequence[Edge], ways: Sequence[list[_Box]], count: int) -> list[float]:
    """Return the room behind each layer: for the longest label that stands there."""
    gaps = [60.0] * count
    for edge, way in zip(edges, ways, strict=True):
        if edge.label and len(way) > 1:
            last = way[-1].node
            at = way[0].layer if last is not None and last.kind == "verdict" else way[-2].layer
            longest = max(len(line) for line in _label(edge.label))
            gaps[at] = max(gaps[at], longest * 6.1 + 50)
    return gaps


def _place(layers: Sequence[list[_Box]], gaps: Sequence[float]) -> tuple[float, float]:
    heights = [sum(box.height + _ROW for box in layer) for layer in layers]
    tallest = max(heights, default=0.0)
    x = 16.0
    for layer, gap in zip(layers, gaps, strict=True):
        width = max((box.width for box in layer), default=0.0)
        y = 44 + (tallest - sum(box.height + _ROW for box in layer)) / 2
        for box in layer:
            box.x, box.y, box.across = x, y, 0.0 if box.node else width
            y += box.height + _ROW
        x += width + gap
    _straighten(layers)
    bottom = max((box.y + box.height for layer in layers for box in layer), default=44.0)
    return x - (gaps[-1] if gaps else 0) + 16, bottom + 16


def _straighten(layers: Sequence[list[_Box]]) -> None:
    """Move boxes towards their neighbours, as far as those above and below leave room."""
    for _ in range(4):
        for layer in layers:
            for at, box in enumerate(layer):
                near = [*box.before, *box.after]
                if not near:
                    continue
                wish = sum(each.y + each.height / 2 for each in near) / len(near) - box.height / 2
                low = layer[at - 1].y + layer[at - 1].height + _ROW if at else 44.0
                high = layer[at + 1].y - _ROW - box.height if at + 1 < len(layer) else float("inf")
                box.y = max(low, min(wish, max(high, low)))


def _node(box: _Box) -> Iterator[str]:
    assert box.node is not None
    fill, stroke = _COLORS[box.node.kind]
    round_ = {"endpoint": box.height / 2, "verdict": 2, "hook": 10}.get(box.node.kind, 4)
    yield (f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{round_:.0f}" '
           f'fill="{fill}" stroke="{stroke}"/>')
    for at, line in enumerate(box.lines):
        yield (f'<text x="{box.x + box.width / 2:.1f}" y="{box.y + _PAD / 2 + (at + 0.75) * _LINE:.1f}" '
               f'text-anchor="middle" fill="#0f172a">{_text(line)}</text>')


def _edge(edge: Edge, way: Sequence[_Box], crowded: bool) -> list[str]:
    """Return the line of an edge, and behind it its label: at its end, or before it where others have theirs there."""
    points = [(way[0].x + way[0].width, way[0].y + way[0].height / 2)]
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for box in way[1:]:
        (x1, y1), (x2, y2) = points[-1], (box.x, box.y + box.height / 2)
        bend = (x2 - x1) / 2
        path += f" C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
        if box.across:
            path += f" L{x2 + box.across:.1f} {y2:.1f}"
        points.append((x2 + box.across, y2))
    found = [f'<path d="{path}" fill="none" stroke="#94a3b8" stroke-width="1.3" marker-end="url(#tip)"/>']
    if edge.label:
        lines = _label(edge.label)
        x, y = points[-1]
        if crowded:  # 60 % along the last curve: there lines are still apart
            x, y = points[-2][0] + (x - points[-2][0]) * 0.6, points[-2][1] * 0.352 + y * 0.648 + 4
        longest = max(len(line) for line in lines) * 6.1
        top = y - 6 - (len(lines) - 1) * 12
        if way[-1].node is not None and way[-1].node.kind == "verdict":  # many lead there: said where each begins
            crowded = False
            x, y = points[0]
            x, top = x + longest + 26, y + 14
        if crowded:
            x = min(x + longest / 2 + 12, points[-1][0])
        found.append(f'<rect x="{x - 14 - longest:.1f}" y="{top - 10:.1f}" width="{longest + 4:.1f}" '
                     f'height="{len(lines) * 12 + 2}" fill="#ffffff" fill-opacity="0.8"/>')
        found += [f'<text x="{x - 12:.1f}" y="{top + at * 12:.1f}" text-anchor="end" font-size="10" '
                  f'fill="#334155">{_text(line)}</text>' for at, line in enumerate(lines)]
    return found


def _label(text: str) -> list[str]:
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, _LABEL, break_on_hyphens=False)]
    return lines if len(lines) <= 4 else [*lines[:3], f"… {len(lines) - 3} more"]


def _text(text: str) -> str:
    return html.escape(text, quote=False)
