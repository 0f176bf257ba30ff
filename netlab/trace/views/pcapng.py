"""A trace as one pcapng: every packet on every interface of every namespace, with hops and rules as comments."""

from __future__ import annotations

from collections.abc import Iterator

from netlab import __version__
from netlab.errors import UsageError
from netlab.trace import pcapng
from netlab.trace.event import Crossing, Trace
from netlab.trace.views import Subject
from netlab.trace.views.way import Step, ending, stays, title


def render(subject: Subject) -> bytes:
    """Return the file. Packets begin at their IP header: that is where the tracer listens.

    Raises:
        UsageError: the trace holds no packet's bytes.
    """
    trace = subject.trace
    crossed = sorted(_crossings(trace), key=lambda found: found[0].at)
    if not any(crossing.data for crossing, _ in crossed):
        raise UsageError("this trace holds no packets", hint="it was saved without them, or nothing was ever sent")
    numbers: dict[str, int] = {}
    hops = _hops(trace)
    blocks = [pcapng.section(f"netlab {__version__}", comments=[title(trace), ending(trace)[1]])]
    for crossing, _ in crossed:
        name = f"{crossing.place}:{crossing.interface}"
        if name not in numbers:
            numbers[name] = len(numbers)
            far = subject.links.get(f"{crossing.place} {crossing.interface}", "")
            blocks.append(pcapng.interface(name, link_type=pcapng.RAW_IP, description=f"to {far}" if far else ""))
    for crossing, words in crossed:
        if crossing.data:
            key = (crossing.at, crossing.place, crossing.interface, crossing.way)
            blocks.append(pcapng.packet(
                numbers[f"{crossing.place}:{crossing.interface}"], crossing.at, crossing.data,
                length=_length(crossing.data), way=crossing.way, comments=[words, *hops.get(key, ())]))
    return b"".join(blocks)


def _crossings(trace: Trace) -> Iterator[tuple[Crossing, str]]:
    for number, passage in enumerate(trace.passages, 1):
        for crossing in passage.crossed:
            again = ", sent again" if passage.again else ""
            yield crossing, (f"packet {number}, {passage.direction} {passage.what}{again}: "
                             f"{crossing.way} {crossing.interface} of {crossing.place}")
    for part in trace.parts:
        for crossing, words in _crossings(part.trace):
            yield crossing, f"{part.role}: {words}"


def _hops(trace: Trace) -> dict[tuple[int | None, str, str, str], list[str]]:
    """Return what happened between an interface and the next one, by the first of the two."""
    found: dict[tuple[int | None, str, str, str], list[str]] = {}
    for stay in stays(trace):
        ahead: list[str] = []
        here = ahead
        for step in stay.steps:
            if step.hop.kind == "iface":
                here = found.setdefault((step.hop.at, step.hop.place, step.hop.interface, step.hop.way), [])
                here += ahead
                ahead = []
            else:
                here.append(_words(step))
    for part in trace.parts:
        found |= _hops(part.trace)
    return found


def _words(step: Step) -> str:
    sign = {"nat": "=> ", "drop": "dropped: "}.get(step.hop.kind, "")
    return f"{sign}{step.words}" + (f"  # {step.hop.comment}" if step.hop.comment and step.hop.kind == "rule" else "")


def _length(data: bytes) -> int:
    """Return the whole packet's length as its IP header tells."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        return int.from_bytes(data[2:4], "big")
    return 40 + int.from_bytes(data[4:6], "big") if len(data) >= 40 else len(data)
