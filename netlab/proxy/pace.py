"""When to sync: at once after quiet, with a breath between bursts, and again after a failure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Pace:
    """A bounded frequency. All times are seconds of one monotonic clock, passed in.

    After quiet, up to `burst` syncs may follow one another without a pause (a Service and its endpoints come in several
    objects); each second of `every` earns one of them back. Failures are tried again after 1, 2, 4 ... `longest`.
    """

    every: float = 1.0
    burst: int = 10
    longest: float = 30.0
    _tokens: float = field(default=0.0, init=False)
    _at: float = field(default=0.0, init=False)
    _wanted: float | None = field(default=None, init=False)
    _retry: float | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def want(self, now: float) -> None:
        """Something changed."""
        if self._wanted is None:
            self._wanted = now

    @property
    def waiting_since(self) -> float | None:
        """Return when the oldest change came that no sync has begun to write, None when there is none."""
        return self._wanted

    def due(self, now: float) -> float | None:
        """Return when the next sync should start, None as long as nothing asks for one."""
        times = [] if self._retry is None else [self._retry]
        if self._wanted is not None:
            missing = 1.0 - self._earned(now)
            times.append(now + missing * self.every if missing > 0 else now)
        return min(times, default=None)

    def started(self, now: float) -> None:
        """A sync begins and takes up all that was wanted."""
        self._tokens, self._at = max(0.0, self._earned(now) - 1.0), now
        self._wanted = self._retry = None

    def ended(self, now: float, *, failed: bool) -> None:
        """The sync is over."""
        self._failures = self._failures + 1 if failed else 0
        self._retry = now + min(self.longest, 2.0 ** (self._failures - 1)) if failed else None

    def _earned(self, now: float) -> float:
        gained = (now - self._at) / self.every if self.every > 0 else float(self.burst)
        return min(float(self.burst), self._tokens + max(0.0, gained))
