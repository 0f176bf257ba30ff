"""A trace cut into stays: one packet in one namespace, from where it came in to where it left or died. Pure.

The pictures share it: the same order of places, the same numbers, the same short words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from netlab.trace.event import Direction, Hop, Trace
from netlab.trace.render import bare
from netlab.trace.views import Subject

BAD: Final = ("DROP", "REJECT")


@dataclass(frozen=True)
class Step:
    """One hop. `number` counts interface crossings, drops and arrivals through the whole trace; 0 for the rest."""

    hop: Hop
    number: int
    words: str
    full: str


@dataclass(frozen=True)
class Stay:
    """Consecutive hops of one packet in one place."""

    place: str
    direction: Direction
    steps: tuple[Step, ...]


def stays(trace: Trace) -> list[Stay]:
    """Return all stays in order, the request's first. Chain policies that let the packet pass are left out."""
    found: list[Stay] = []
    number = 0
    for hops in (trace.request, trace.reply):
        steps: list[Step] = []
        for hop in hops:
            if (hop.kind == "policy" and hop.verdict != "DROP") or (hop.kind == "route" and not hop.interface):
                continue
            if steps and steps[-1].hop.place != hop.place:
                found.append(_stay(steps))
                steps = []
            counts = hop.kind in ("iface", "drop", "deliver")
            number += counts
            steps.append(Step(hop, number if counts else 0, short(hop), full(hop)))
        if steps:
            found.append(_stay(steps))
    return found


def _stay(steps: list[Step]) -> Stay:
    return Stay(steps[0].hop.place, steps[0].hop.direction, tuple(steps))


def short(hop: Hop) -> str:
    """Return a hop in few words; a rule without its comment."""
    if hop.kind in ("rule", "policy"):
        element = f"  [{hop.element}]" if hop.element else ""
        return f"{hop.table} {hop.chain}: {bare(hop.text)}{element}"
    return hop.text


def full(hop: Hop) -> str:
    """Return all that is known of a hop, in lines."""
    lines = [f"{hop.table} {hop.chain}: {hop.text}" if hop.kind in ("rule", "policy") else hop.text]
    lines += [f"# {hop.comment}"] if hop.comment else []
    lines += [f"element {hop.element}"] if hop.element else []
    lines += [f"by the rule {hop.rule}"] if hop.rule and hop.kind == "nat" else []
    lines += [f"kernel: {hop.reason} {hop.function}".rstrip()] if hop.reason else []
    lines += [hop.route.words] if hop.route is not None else []
    lines.append(f"{hop.packet} {hop.packet.what}, ttl {hop.packet.ttl}")
    return "\n".join(lines)


def bad(hop: Hop) -> bool:
    """Tell whether the packet came to its end here: a drop, or the rule or policy that ordered it."""
    return hop.kind == "drop" or hop.verdict in BAD


def groups(subject: Subject, listed: Iterable[Stay]) -> list[tuple[str, list[str]]]:
    """Return the places in the order of their first appearance, those of one node side by side.

    Returns:
        (node, its places) each; what is on no node is a group of its own with "".
    """
    found: dict[str, list[str]] = {}
    for stay in listed:
        places = found.setdefault(subject.node(stay.place) or f" {stay.place}", [])
        if stay.place not in places:
            places.append(stay.place)
    return [("" if key.startswith(" ") else key, places) for key, places in found.items()]


def ending(trace: Trace) -> tuple[bool, str]:
    """Return whether there was an answer, and how it ended in a sentence."""
    end = trace.outcome
    if end.status in ("connected", "replied"):
        place = f" ({end.endpoint_place})" if end.endpoint_place else ""
        took = f" in {end.seconds * 1000:.1f} ms" if end.seconds is not None else ""
        return True, f"{end.status}: {end.endpoint}{place}{took}"
    where = f" at {end.place}" if end.place else ""
    fix = f" - to mend it: {end.fix}" if end.fix else ""
    return False, f"{end.status}{where}: {end.why}{fix}"


def title(trace: Trace) -> str:
    """Return `pod/default/client → svc/web (10.96.0.10:80), tcp`."""
    name = f"{trace.target} ({trace.destination})" if trace.target != trace.destination else trace.destination
    return f"{trace.source} → {name}, {trace.protocol}"
