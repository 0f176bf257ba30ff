"""What was predicted beside what the kernel did: where they part, hop by hop. Pure.

A branch that a random rule chose is no disagreement, nor is a source port that masquerade chose. Bridges' own
interfaces are left out: whether a frame that DNAT turned round shows there depends on the neighbour cache
(br_netfilter).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

from netlab.netfilter import normalise, parse
from netlab.trace.branch import Branch, Prediction
from netlab.trace.endings import NOBODY
from netlab.trace.event import PERHAPS, Direction, Hop, Trace
from netlab.trace.verdict import GOOD
from netlab.trace.world import World

Status = Literal["agrees", "differs", "unsure", "skipped"]
_PORT: Final = re.compile(r":\d+$")


@dataclass(frozen=True)
class Difference:
    """The first hop at which a prediction and a trace part; "" for nothing."""

    direction: Direction
    place: str
    predicted: str
    observed: str


@dataclass(frozen=True)
class Agreement:
    """`differs` is loud; `unsure` means that something on the way is not modelled, and `words` say what."""

    status: Status
    words: str = ""
    differences: tuple[Difference, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return the field `prediction` of a trace's JSON."""
        return {"status": self.status, "words": self.words, "differences": [
            {"direction": each.direction, "place": each.place, "predicted": each.predicted, "observed": each.observed}
            for each in self.differences]}


def addresses(trace: Trace) -> frozenset[tuple[str, int]]:
    """Return the destinations that the request had on its way."""
    return frozenset((hop.packet.destination, hop.packet.dport) for hop in trace.request)


def compare(predicted: Prediction, observed: Trace, world: World) -> Agreement:
    """Return whether one of the predicted ways is the observed one.

    Args:
        predicted: all ways that dice allow.
        observed: what the kernel told.
        world: what the prediction was made from.
    """
    if observed.lost or observed.warnings:
        return Agreement("skipped", "the trace is not whole")
    if not predicted.branches:
        return Agreement("skipped", "nothing was predicted")
    bridges = {(space.place, link.name) for space in world.spaces.values() for link in space.links.values()
               if link.kind == "bridge" or space.unseen}
    best: tuple[int, Branch, tuple[Difference, ...]] | None = None
    for branch in predicted.branches:
        far, found = _differences(branch, observed, bridges)
        if not found:
            words = (f"as predicted ({len(branch.request)} hops), up to the program, which did not answer"
                     if _unanswered(branch, observed) else f"as predicted ({len(branch.hops)} hops)")
            words += ", as far as is known here" if _leaves(branch) else ""
            return Agreement("agrees", words if branch.certain else f"{words}, though not all of it could be judged")
        if best is None or far > best[0]:
            best = far, branch, found
    assert best is not None
    _, branch, found = best
    if predicted.left:
        return Agreement("unsure", f"{predicted.left} or more of its ways were not followed", found)
    if not branch.certain:
        return Agreement("unsure", "; ".join(branch.doubts) or "a rule on the way asks what is not modelled", found)
    return Agreement("differs", "", found)


def _differences(branch: Branch, observed: Trace,
                 bridges: set[tuple[str, str]]) -> tuple[int, tuple[Difference, ...]]:
    """Return how far both go together, and the first difference of each kind."""
    found: list[Difference] = []
    far, last = 0, branch.reply or branch.request
    ways: tuple[tuple[Direction, Sequence[Hop], Sequence[Hop]], ...] = (
        ("request", branch.request, observed.request), ("reply", branch.reply, observed.reply))
    for direction, said, seen in ways:
        if direction == "request" and not seen and branch.outcome.status not in GOOD:
            continue  # the kernel did not even make the packet, and none was expected to arrive
        if direction == "reply" and branch.request[-1].text.endswith(NOBODY) and (
                not said or (not seen and observed.outcome.status == "timeout")):
            continue  # whether the kernel gave up asking for the neighbour while the trace still listened is chance
        if direction == "reply" and (_unanswered(branch, observed) or (_leaves(branch) and not said)):
            continue
        for select in (_crossing, _rule, _nat):
            right = _told(seen, select, bridges)
            left = _settled(_told(said, select, bridges), right)
            for (key, words, place, _), (other, heard, where, _) in zip(left, right, strict=False):
                if key != other and "" not in (key[-1], other[-1]):
                    found.append(Difference(direction, where or place, words, heard))
                    break
                far += 1
            else:
                if len(left) > len(right) or (len(left) < len(right) and not (_leaves(branch) and said is last)):
                    _, words, place, _ = (left if len(left) > len(right) else right)[min(len(left), len(right))]
                    longer = len(left) > len(right)
                    found.append(Difference(direction, place, words if longer else "", "" if longer else words))
        if found:
            break
    if not found and not _unanswered(branch, observed) and not _leaves(branch):
        found += _ends(branch, observed)
    return far, tuple(found)


def _unanswered(branch: Branch, observed: Trace) -> bool:
    """Tell whether a datagram came to its socket as predicted and nothing was said: what a program says is its own."""
    return (observed.protocol == "udp" and observed.outcome.status == "timeout" and not observed.reply
            and branch.outcome.status in GOOD and bool(observed.request) and observed.request[-1].kind == "deliver")


def _leaves(branch: Branch) -> bool:
    """Tell whether a prediction ends where a packet leaves what is known."""
    return branch.outcome.status == "sent"


def _ends_of(hop: Hop) -> tuple[str, str]:
    old, _, new = hop.text.partition(" ")[2].partition(" (")[0].partition(" → ")
    return old, new


_Key = tuple[str, ...]
_Told = tuple[_Key, str, str, bool]
"""What is compared, its words, where, and whether it is there without a doubt."""


def _told(hops: Iterable[Hop], select: Any, bridges: set[tuple[str, str]]) -> list[_Told]:
    return [(key, hop.text if hop.kind != "rule" else f"{hop.table} {hop.chain} {hop.text}", hop.place,
             hop.verdict != PERHAPS)
            for hop in hops if (hop.place, hop.interface) not in bridges and (key := select(hop)) is not None]


def _settled(said: Sequence[_Told], seen: Sequence[_Told]) -> list[_Told]:
    """Return what was said, of what may be there or not only what was seen at that place."""
    found: list[_Told] = []
    for each in said:
        if each[3] or (len(found) < len(seen) and seen[len(found)][0] == each[0]):
            found.append(each)
    return found


def _crossing(hop: Hop) -> _Key | None:
    return (hop.place, hop.way, hop.interface) if hop.kind == "iface" else None


def _rule(hop: Hop) -> _Key | None:
    if hop.kind == "policy":
        return (hop.place, hop.table, hop.chain, "policy DROP") if hop.verdict == "DROP" else None
    if hop.kind != "rule":
        return None
    if hop.text.startswith("("):  # it was changed since, and has no words any more
        return hop.place, hop.table, hop.chain, ""
    return hop.place, hop.table, hop.chain, _canonical(hop.chain, hop.text)


@lru_cache(maxsize=4096)
def _canonical(chain: str, text: str) -> str:
    if text and not text.startswith(("-", "!")):
        from netlab.netfilter import nft

        return nft.meaning(text)
    return repr(normalise.canonical(parse.rule(chain, text)))


def _nat(hop: Hop) -> _Key | None:
    if hop.kind != "nat":
        return None
    old, new = _ends_of(hop)
    if hop.verdict in ("SNAT", "un-SNAT"):  # the port is whatever was free
        old, new = _PORT.sub("", old), _PORT.sub("", new)
    return (hop.place, hop.verdict, old, new) if old != new else None


def _ends(branch: Branch, observed: Trace) -> list[Difference]:
    good, was = branch.outcome.status in GOOD, observed.outcome.status in GOOD
    if good == was and (good or not observed.request or branch.reply or _end(branch.request) == _end(observed.request)):
        return []
    said = branch.outcome.status + (f": {branch.outcome.why}" if branch.outcome.why else "")
    heard = observed.outcome.status + (f": {observed.outcome.why}" if observed.outcome.why else "")
    return [Difference("reply" if branch.reply else "request", observed.outcome.place or branch.outcome.place, said,
                       heard)]


def _end(hops: Sequence[Hop]) -> str:
    return hops[-1].place if hops else ""
