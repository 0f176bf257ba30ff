"""Progress as kind shows it: one line per step on a terminal, and nothing at all in a pipe."""

from __future__ import annotations

import os
import sys

from netlab.lab.progress import Progress


class TerminalProgress(Progress):
    """Prints ` ✓ step` lines; the current step's line is rewritten as it goes."""

    def __init__(self) -> None:
        super().__init__()
        self._colour = "NO_COLOR" not in os.environ

    def step(self, words: str) -> None:
        """Begin a step."""
        super().step(words)
        self._line(self._dim("•"), words, end="")

    def note(self, detail: str) -> None:
        """Show how the current step goes."""
        self._line(self._dim("•"), f"{self._words} {self._dim(detail)}", end="")

    def done(self) -> None:
        """Tick the current step off."""
        if self._words:
            took = self.elapsed() - self._since
            self._line(self._tint("✓", 32), f"{self._words} {self._dim(f'{took:.1f}s')}", end="\n")
        super().done()

    def failed(self) -> None:
        """Cross the current step."""
        if self._words:
            self._line(self._tint("✗", 31), self._words, end="\n")
        super().failed()

    def _line(self, sign: str, words: str, *, end: str) -> None:
        sys.stderr.write(f"\r\033[K {sign} {words}{end}")
        sys.stderr.flush()

    def _tint(self, text: str, colour: int) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colour else text

    def _dim(self, text: str) -> str:
        return self._tint(text, 2)


def choose(*, quiet: bool = False) -> Progress:
    """Return the progress for this standard error: a terminal's, or one that stays silent."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return TerminalProgress() if terminal and not quiet else Progress()


def waterfall(progress: Progress, width: int = 40) -> str:
    """Return the steps as bars over time, and the moments between them."""
    total = max(progress.elapsed(), 1e-3)
    rows = []
    for step in progress.steps:
        left = int(step.begin / total * width)
        bar = " " * left + "█" * max(1, int((step.end - step.begin) / total * width))
        rows.append((step.begin, f"{step.end - step.begin:7.3f}s", bar[:width + 1], step.words))
    for words, at in progress.marks:
        rows.append((at, f"@{at:6.3f}s", " " * min(int(at / total * width), width) + "┆", words))
    rows.sort(key=lambda row: row[0])
    return "\n".join(f"{took}  {bar:<{width + 1}}  {words}" for _, took, bar, words in rows)
