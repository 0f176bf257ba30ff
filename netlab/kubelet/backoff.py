"""Waiting longer after each failure, forgetting after a long quiet time. Time is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """How long the present wait is, and since when its key has been failing again."""

    delay: float
    updated: float


class Backoff:
    """Delays by key: the first is `initial` seconds, each next twice as long, up to `limit`.

    A key whose last event is more than twice `limit` (for containers: 600 s, KEP-4603) ago starts afresh.
    """

    def __init__(self, initial: float = 10.0, limit: float = 300.0) -> None:
        self.initial, self.limit = initial, limit
        self._entries: dict[str, Entry] = {}

    def delay(self, key: str) -> float:
        """Return the present delay in seconds, 0.0 if the key has none."""
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def until(self, key: str, since: float) -> float:
        """Return the time until which the key has to wait, counted from `since`; 0.0 for no wait."""
        entry = self._entries.get(key)
        if entry is None or since - entry.updated > 2 * self.limit:
            return 0.0
        return since + entry.delay

    def next(self, key: str, now: float) -> None:
        """Note one more try at `now`: what comes next waits longer."""
        entry = self._entries.get(key)
        if entry is None or now - entry.updated > 2 * self.limit:
            self._entries[key] = Entry(self.initial, now)
        else:
            self._entries[key] = Entry(min(entry.delay * 2, self.limit), now)

    def forget(self, prefix: str) -> None:
        """Forget every key that starts so."""
        for key in [k for k in self._entries if k.startswith(prefix)]:
            del self._entries[key]
