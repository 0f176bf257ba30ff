"""Predictions as text for people and as JSON for programs, every hop labelled as what it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from netlab.trace.agree import Agreement
from netlab.trace.branch import Branch, Prediction
from netlab.trace.document import as_json as trace_json
from netlab.trace.event import Trace
from netlab.trace.packet import join
from netlab.trace.render import as_text as trace_text

SCHEMA: Final = "netlab.prediction/v1"
_LABEL: Final = "   predicted  "
_YELLOW, _RED, _DIM, _BOLD, _END = "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


def trace_of(prediction: Prediction, branch: Branch) -> Trace:
    """Return one way in the shape of a trace."""
    asked = prediction.question
    return Trace(asked.source, prediction.target, asked.protocol, join(asked.address, asked.port), branch.request,
                 branch.reply, branch.outcome)


def as_text(prediction: Prediction, *, color: bool = False, ways: int = 1,
            links: Mapping[str, str] | None = None) -> str:
    """Return the prediction for a terminal: the likeliest `ways` whole, the others in one line each."""
    paint = _paint if color else _plain
    lines = [paint(_BOLD, "PREDICTION: nothing was sent")]
    count = len(prediction.branches)
    for number, branch in enumerate(prediction.branches[:ways], 1):
        if count > 1 or not branch.certain:
            lines += ["", paint(_YELLOW, f"way {number} of {count}, {_share(branch)}")]
        text = trace_text(trace_of(prediction, branch), color=color, links=links)
        lines += [_labelled(line) for line in text.splitlines()]
        lines += [paint(_YELLOW, f"not followed here: {doubt}") for doubt in branch.doubts]
    rest = prediction.branches[ways:]
    if rest:
        lines += ["", "or else:", *(f"  {_share(each):>8}  {_words(each)}" for each in rest)]
    if prediction.left:
        lines.append(f"  and {prediction.left} more ways")
    lines += [paint(_DIM, f"assumed: {note}") for note in prediction.notes]
    return "\n".join(lines)


def as_json(prediction: Prediction) -> dict[str, Any]:
    """Return the prediction as JSON: each branch is a trace's document with its probability, each hop is labelled."""
    asked = prediction.question
    branches = []
    for branch in prediction.branches:
        document = trace_json(trace_of(prediction, branch))
        for hop in document["hops"]:
            hop["predicted"] = True
        branches.append({"probability": round(branch.probability, 9), "certain": branch.certain,
                         "doubts": list(branch.doubts), **document})
    return {"schema": SCHEMA, "predicted": True, "source": asked.source, "target": prediction.target,
            "destination": join(asked.address, asked.port), "protocol": asked.protocol, "branches": branches,
            "left": prediction.left, "assumed": list(prediction.notes)}


def compared(agreement: Agreement, *, color: bool = False) -> str:
    """Return how prediction and trace compare: one quiet line, or a loud piece of text."""
    paint = _paint if color else _plain
    if agreement.status != "differs":
        word = {"agrees": agreement.words, "unsure": f"not predicted: {agreement.words}",
                "skipped": f"not compared with a prediction: {agreement.words}"}[agreement.status]
        return paint(_DIM, word)
    lines = [paint(_RED, "PREDICTED OTHERWISE: the rules and routes read before the packet say something else")]
    for each in agreement.differences:
        lines.append(paint(_RED, f"  {each.direction}, at {each.place}:"))
        lines.append(f"    predicted  {each.predicted or 'nothing'}")
        lines.append(f"    observed   {each.observed or 'nothing'}")
    lines.append("either something changed just then, or the kernel does what netlab does not know of")
    return "\n".join(lines)


def beside(before: Prediction, after: Prediction, *, color: bool = False) -> str:
    """Return what a change does to a packet's way: both outcomes, and the first rule at which the ways part."""
    paint = _paint if color else _plain
    lines = [paint(_BOLD, "PREDICTION: nothing was sent, nothing was changed"), "", *_outcomes("as it is", before),
             *_outcomes("with the change", after), ""]
    parted = parting(before, after)
    if parted is None:
        lines.append("the change makes no difference for this packet")
    else:
        place, old, new = parted
        lines += [paint(_YELLOW, f"the first difference is at {place}:"), f"  as it is         {old or 'nothing'}",
                  f"  with the change  {new or 'nothing'}"]
    notes = dict.fromkeys((*before.notes, *after.notes))
    return "\n".join([*lines, *(paint(_DIM, f"assumed: {note}") for note in notes)])


def beside_json(before: Prediction, after: Prediction) -> dict[str, Any]:
    """Return both predictions and where they part as JSON."""
    parted = parting(before, after)
    return {"schema": SCHEMA, "predicted": True, "before": as_json(before), "after": as_json(after),
            "difference": None if parted is None else {"place": parted[0], "before": parted[1], "after": parted[2]}}


def parting(before: Prediction, after: Prediction) -> tuple[str, str, str] | None:
    """Return (place, words before, words after) of the first rule, or hop, that is not on both sides.

    Of several ways those that are on one side only are laid beside the nearest of the other side.
    """
    old, new = ([_steps(branch) for branch in each.branches] for each in (before, after))
    shares = [[round(branch.probability, 6) for branch in each.branches] for each in (before, after)]
    if sorted(map(tuple, old)) == sorted(map(tuple, new)) and sorted(shares[0]) == sorted(shares[1]):
        return None
    best: tuple[int, tuple[str, str, str]] | None = None
    for steps in [each for each in old if each not in new] or old:
        for others in [each for each in new if each not in old] or new:
            far = next((at for at, (one, two) in enumerate(zip(steps, others, strict=False)) if one != two),
                       min(len(steps), len(others)))
            one, two = (each[far] if far < len(each) else ("", "") for each in (steps, others))
            if best is None or far > best[0]:
                best = far, (one[0] or two[0], one[1], two[1])
    if best is None:
        return None
    if not any(best[1][1:]):  # the same rules with other odds
        odds = [", ".join(f"{share:.1%}" for share in each[:8]) for each in shares]
        return best[1][0], odds[0], odds[1]
    return best[1]


def _labelled(line: str) -> str:
    """Say of a line what it is, in the column where a trace has the time."""
    if line.startswith(" " * len(_LABEL)):
        return _LABEL + line[len(_LABEL):]
    if line.startswith("sent: "):
        return "what is beyond is not known"
    return line.replace("connected to ", "would connect to ", 1).replace("an answer from ", "would be answered by ", 1)


def _steps(branch: Branch) -> list[tuple[str, str]]:
    kinds = ("rule", "policy", "nat", "route", "drop", "deliver")
    return [(hop.place, f"{hop.table} {hop.chain} {hop.text}".strip()) for hop in branch.hops if hop.kind in kinds]


def _outcomes(title: str, prediction: Prediction) -> Iterator[str]:
    yield f"{title}:"
    for branch in prediction.branches[:8]:
        yield f"  {_share(branch):>8}  {_words(branch)}"
    if len(prediction.branches) > 8:
        yield f"  and {len(prediction.branches) - 8 + prediction.left} more ways"


def _share(branch: Branch) -> str:
    return f"{branch.probability:.1%}" if branch.certain else "perhaps"


def _words(branch: Branch) -> str:
    end = branch.outcome
    at = f" ({end.endpoint_place})" if end.endpoint_place and end.endpoint_place != end.endpoint else ""
    return f"{end.status}: {end.endpoint}{at}" + (f", {end.why}" if end.why else "")


def _paint(style: str, text: str) -> str:
    return f"{style}{text}{_END}" if style else text


def _plain(style: str, text: str) -> str:  # noqa: ARG001
    return text
