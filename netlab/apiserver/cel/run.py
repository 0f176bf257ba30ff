"""What evaluations may take: cost, memory, time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from netlab.apiserver.cel.ast import CelError

PER_CALL = 1_000_000
"""Cost that one evaluation may have."""
MEMORY = 16 << 20
"""Bytes that the texts and lists may take that one evaluation makes, roughly."""
_VISITS = 500_000
"""Items that comparisons in one evaluation may look at inside of structures."""
OUT = "validation failed due to running out of cost budget, no further validation rules will be run"
EXCEEDED = "operation cancelled: actual cost limit exceeded"


class Exceeded(Exception):
    """A run took too much. No CelError: `||` and its kin must not take it for a value's absence."""


class OutOfBudget(CelError):
    """A run took more than is left for all that are asked together."""


class Patience:
    """Processor time for the check of many expressions: a definition may hold as many as a request has room for."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds, self._until = seconds, time.thread_time() + seconds

    def spent(self) -> str:
        """Return what to say once it is used up, "" before."""
        if time.thread_time() <= self._until:
            return ""
        return (f"the check takes more than {self._seconds:g} seconds of the processor: write fewer or shorter "
                "expressions")


class Budget:
    """What several evaluations may take together: cost, and seconds of the processor; `within` a larger one."""

    def __init__(self, cost: int, seconds: float = 1.0, within: Budget | None = None) -> None:
        self.cost, self.seconds, self.within = cost, seconds, within
        self._started = 0.0
        self._before: list[tuple[Budget, float]] = []

    def run(self, values: Mapping[str, Any]) -> Run:
        """Begin an evaluation."""
        self._started = time.thread_time()
        self._before = [(one, one.seconds) for one in self._all()]
        return Run(values, PER_CALL, self._started + min(seconds for _, seconds in self._before))

    def take(self, run: Run) -> bool:
        """Take what an evaluation took; return whether there was enough."""
        cost, seconds = PER_CALL - max(run.left, 0), time.thread_time() - self._started
        for one, before in self._before:
            one.cost -= cost
            one.seconds = before - seconds  # not less what is left: evaluations inside of this one took of it, too
        return all(one.cost >= 0 and one.seconds >= 0 for one, _ in self._before)

    def _all(self) -> Iterator[Budget]:
        budget: Budget | None = self
        while budget is not None:
            yield budget
            budget = budget.within


class Run:
    """One evaluation."""

    __slots__ = ("_memory", "_until", "_visits", "left", "vars")

    def __init__(self, values: Mapping[str, Any], cost: int, until: float) -> None:
        self.vars = dict(values)
        self.left = cost
        """The cost that may still be spent. Steps that are taken often subtract by themselves: a call costs as much."""
        self._memory, self._visits, self._until = MEMORY, _VISITS, until

    def spend(self, cost: int) -> None:
        """Charge a step."""
        self.left -= cost
        if self.left < 0:
            raise Exceeded(EXCEEDED)

    def visit(self, count: int) -> None:
        """Count what a comparison looks at."""
        self._visits -= count
        if self._visits < 0:
            raise Exceeded(EXCEEDED)

    def grow(self, made: Any) -> Any:
        """Count what was made, and return it."""
        if isinstance(made, str):
            self._memory -= len(made) if made.isascii() else 4 * len(made)
        elif isinstance(made, bytes):
            self._memory -= len(made)
        elif isinstance(made, (list, dict)):
            self._memory -= 64 + 8 * len(made)
        if self._memory < 0:
            raise Exceeded(f"operation cancelled: memory limit of {MEMORY} bytes exceeded")
        return made

    def tick(self) -> None:
        """Look at the clock: once per some rounds of a loop."""
        if time.thread_time() > self._until:
            raise Exceeded("operation cancelled: it takes too long")
