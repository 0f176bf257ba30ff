"""When to forget history (pure)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Retention:
    """How much history is kept: not longer than `seconds`, at most so many `revisions` and `bytes` of old values.

    The API server of upstream keeps five minutes; the other two bound the memory in a burst. A reader that comes back
    later gets "compacted" and lists again.
    """

    seconds: float = 300.0
    revisions: int = 10_000
    bytes: int = 32 << 20


class Retainer:
    """Remembers when which revision was reached, and tells what to compact to."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self._reached: deque[tuple[float, int]] = deque()

    def due(self, now: float, revision: int, compacted: int, revision_over_bytes: int) -> int:
        """Return the revision to compact to, 0 when nothing is worth it yet. Call it every second or so.

        Args:
            now: seconds, on any clock that does not jump.
            revision: the newest one.
            compacted: the last one compacted to.
            revision_over_bytes: to where the limit on bytes asks to compact.
        """
        if not self._reached or self._reached[-1][1] != revision:
            self._reached.append((now, revision))
        limit = now - self.retention.seconds
        while len(self._reached) > 1 and self._reached[1][0] <= limit:
            self._reached.popleft()
        at, old = self._reached[0]
        target = max(old if at <= limit else 0, revision - self.retention.revisions, revision_over_bytes)
        return target if target > compacted else 0
