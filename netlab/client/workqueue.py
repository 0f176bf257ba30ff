"""A queue of keys to look at: each key once, never two workers on the same key, back-off per key.

The rules are those of client-go's util/workqueue: a key added while it waits is there once; one added while it is
worked on comes again after that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

Key = TypeVar("Key")


class WorkQueue(Generic[Key]):
    """The queue. For one event loop; all but `get` are plain calls."""

    def __init__(self, *, first_delay: float = 0.005, longest_delay: float = 60.0) -> None:
        """Make an empty queue; the delays are the bounds of `add_after_failure`'s back-off, in seconds."""
        self._ready: deque[Key] = deque()
        self._dirty: set[Key] = set()
        self._working: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._first_delay, self._longest_delay = first_delay, longest_delay

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: Key) -> None:
        """Ask for a look at `key`."""
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for a look in `seconds`; of several such wishes for one key the earliest counts."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        pending = self._later.get(key)
        if pending is not None:
            if pending.when() <= loop.time() + seconds:
                return
            pending.cancel()
        self._later[key] = loop.call_later(seconds, self._due, key)

    def add_after_failure(self, key: Key) -> float:
        """Ask for another look after a delay that doubles with each failure in a row; return the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._first_delay * 2.0 ** min(failures, 40), self._longest_delay)
        self.add_after(key, delay)
        return delay

    def failures(self, key: Key) -> int:
        """Return how often `key` failed in a row."""
        return self._failures.get(key, 0)

    def forget(self, key: Key) -> None:
        """`key` went well: its next failure starts with the first delay."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """Wait for a key and take it; call `done` with it later.

        Raises:
            QueueClosed: the queue was closed.
        """
        while not self._ready:
            if self._closed:
                raise QueueClosed
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if self._ready:  # the wake-up was meant for somebody
                    self._wake()
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._working.add(key)
        return key

    def done(self, key: Key) -> None:
        """Say that the work on `key` has ended, well or not."""
        self._working.discard(key)
        if key in self._dirty:
            self._ready.append(key)
            self._wake()

    def close(self) -> None:
        """Accept nothing more and end all `get`s."""
        self._closed = True
        self._ready.clear()
        for handle in self._later.values():
            handle.cancel()
        self._later.clear()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _due(self, key: Key) -> None:
        self._later.pop(key, None)
        self.add(key)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class QueueClosed(Exception):
    """The queue was closed."""
