"""Whether connections were spread as evenly as the dice say, or whether chance alone would hardly do this.

Pearson's chi-square test against the nominal shares, on first packets that the dice sent: connections of clients that
session affinity sent back are no throw of the dice and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 5
"""Expected connections per endpoint below which the test says nothing (the usual rule of thumb)."""


@dataclass(frozen=True)
class Fairness:
    """The test's result. `p` is the chance of a difference at least as large, None when there are too few to judge."""

    connections: int
    remembered: int
    needed: int
    p: float | None = None
    statistic: float = 0.0
    freedom: int = 0

    @property
    def words(self) -> str:
        """Return the result in a sentence."""
        left_out = "" if not self.remembered else (
            f"; {self.remembered} of clients that were sent back to the endpoint they had are left out")
        if self.p is None:
            return f"too few connections to judge ({self.connections}, {self.needed} are needed){left_out}"
        chance = (f"chance alone differs at least as much in {_of_hundred(self.p)} "
                  f"(chi-square {self.statistic:.1f}, {self.freedom} degree{'s' if self.freedom != 1 else ''} of "
                  f"freedom, {self.connections} connections)")
        verdict = "even" if self.p >= 0.05 else "perhaps uneven" if self.p >= 0.001 else "not even"
        return f"{verdict}: {chance}{left_out}"


def _of_hundred(p: float) -> str:
    if p < 0.001:
        return "fewer than 1 of 1000 cases"
    return f"{p * 1000:.0f} of 1000 cases" if p < 0.01 else f"{p * 100:.0f} of 100 cases"


def judge(parts: Sequence[tuple[float, int]], *, remembered: int = 0) -> Fairness | None:
    """Return the result for endpoints as (nominal share, connections that the dice sent); None for fewer than two.

    Args:
        parts: shares add up to 1.
        remembered: connections that session affinity decided, not among them.
    """
    open_parts = [(share, count) for share, count in parts if share > 0]
    if len(open_parts) < 2:
        return None
    total = sum(count for _, count in open_parts)
    needed = math.ceil(LEAST / min(share for share, _ in open_parts))
    if total < needed:
        return Fairness(total, remembered, needed)
    statistic = sum((count - total * share) ** 2 / (total * share) for share, count in open_parts)
    freedom = len(open_parts) - 1
    return Fairness(total, remembered, needed, survival(statistic, freedom), statistic, freedom)


def survival(statistic: float, freedom: int) -> float:
    """Return the probability that chi-square with so many degrees of freedom is at least `statistic`.

    >>> round(survival(3.841, 1), 3), round(survival(5.991, 2), 3)
    (0.05, 0.05)
    """
    half = statistic / 2
    if half <= 0:
        return 1.0
    # Q(a + 1, x) = Q(a, x) + x^a e^-x / gamma(a + 1), from Q(1/2, x) = erfc(sqrt x) or Q(1, x) = e^-x.
    at = 0.5 if freedom % 2 else 1.0
    found = math.erfc(math.sqrt(half)) if freedom % 2 else math.exp(-half)
    while at < freedom / 2:
        found += math.exp(at * math.log(half) - half - math.lgamma(at + 1))
        at += 1
    return min(max(found, 0.0), 1.0)
