"""What a long piece of work tells whoever watches it; and the record of how long its steps took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One finished step: seconds from the beginning of the work."""

    words: str
    begin: float
    end: float


@dataclass
class Progress:
    """Steps one after another, and marks (moments) in between. This one stays silent; a terminal's prints.

    `notes` are sentences for the end: what the user should know though the work is done.
    """

    begun: float = field(default_factory=time.monotonic)
    steps: list[Step] = field(default_factory=list)
    marks: list[tuple[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _words: str = ""
    _since: float = 0.0

    def step(self, words: str) -> None:
        """Begin a step; the one before is done."""
        self.done()
        self._words, self._since = words, self.elapsed()

    def note(self, detail: str) -> None:
        """Say how the current step goes, such as `2/3`."""

    def mark(self, words: str) -> None:
        """Record a moment."""
        self.marks.append((words, self.elapsed()))

    def done(self) -> None:
        """End the current step, if there is one."""
        if self._words:
            self.steps.append(Step(self._words, self._since, self.elapsed()))
            self._words = ""

    def failed(self) -> None:
        """End the current step as one that went wrong."""
        self._words = ""

    def elapsed(self) -> float:
        """Return the seconds since the work began."""
        return time.monotonic() - self.begun
