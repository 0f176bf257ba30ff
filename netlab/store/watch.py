"""Watches: every event of some keys after a revision, each once, in order.

A watch subscribes, then takes the history after its revision, then what is new. All of that happens in one step of the
event loop, and events are published in the same step that makes them visible to readers: nothing can fall between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from netlab.store.errors import WatchCut
from netlab.store.model import Event, prefix_end

_AT_ONCE = 50
"""Eager readers that are handed to in one step of the event loop."""


class Watch:
    """One reader's view. Use `next()` in a loop, or `async for events in watch`; `close()` when done.

    Not for several tasks at once. `eager`, if set, is asked to take what has come while the reader waits, and says
    whether it did; only if not is the reader woken. A call costs a fraction of waking a task, which is what matters
    where one event goes to a thousand readers.
    """

    __slots__ = ("_cut", "_handed", "_hub", "_limit", "_pending", "_waiter", "eager", "end", "key", "queued")

    def __init__(self, hub: Hub, key: bytes, end: bytes | None, *, revision: int, limit: int) -> None:
        self.key, self.end = key, end
        self._hub, self._limit, self._handed = hub, limit, revision
        self._pending: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None
        self._cut = ""
        self.eager: Callable[[Sequence[Event]], bool] | None = None
        self.queued = False

    @property
    def revision(self) -> int:
        """Return the revision up to which every event was handed out: a bookmark's resourceVersion."""
        return self._handed if self._pending or self._cut else max(self._hub.revision, self._handed)

    async def next(self, timeout: float | None = None) -> list[Event]:
        """Wait for events and return all there are, in order of revision; [] after `timeout` seconds without one.

        Raises:
            WatchCut: the reader fell more than `limit` events behind, or the store closed. What was handed out
                before is complete up to the error's `revision`.
        """
        await self.ready(timeout)
        return self.take()

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until there is something to take, be it the end, or until `timeout` seconds have passed."""
        if not self._pending and not self._cut:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = None if timeout is None else loop.call_later(timeout, self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()

    def take(self) -> list[Event]:
        """Return what is there without waiting.

        Raises:
            WatchCut: see `next`.
        """
        if self._cut:
            raise WatchCut(self._cut, self._handed)
        events, self._pending = self._pending, []
        if events:
            self._handed = events[-1].kv.mod_revision
        return events

    def close(self) -> None:
        """End the watch; a waiting `next` raises WatchCut. Twice is fine."""
        self.cut("closed by its reader")

    def cut(self, reason: str) -> None:
        """End the watch and free its queue."""
        if not self._cut:
            self._cut = reason
            self._pending = []
            self._hub.remove(self)
            self._wake()

    def start(self, history: list[Event]) -> None:
        """Queue the history that the reader asked for; it does not count as falling behind."""
        self._pending = history
        self._limit += len(history)

    def offer(self, events: Sequence[Event]) -> None:
        """Queue events for the reader; too many cut the watch off."""
        self._pending += events
        if len(self._pending) > self._limit:
            self.cut(f"the reader is more than {self._limit} events behind")
        elif self._waiter is not None:
            if self.eager is None:
                self._wake()
            elif not self.queued:
                self.queued = True
                self._hub.queue(self)

    def hand_over(self) -> None:
        """Have `eager` take what has come, or else wake the reader. If that one is not waiting, it comes by itself."""
        self.queued = False
        if self._waiter is None or not self._pending:
            return
        taken = False
        try:
            taken = self.eager is not None and self.eager(self._pending)
        finally:  # the reader takes what `eager` fails at
            if taken:
                self.take()
            else:
                self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def covers(self, key: bytes) -> bool:
        """Tell whether this watch is about the key."""
        if self.end is None:
            return key.startswith(self.key)
        if not self.end:
            return key == self.key
        return key >= self.key and (self.end == b"\0" or key < self.end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
                 ) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        while True:
            yield await self.next()


class Hub:
    """All watches of a store. Finding those of an event costs one look-up per distinct prefix length, however many."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._by_prefix: dict[bytes, dict[Watch, None]] = {}
        self._lengths: tuple[int, ...] = ()
        self._by_key: dict[bytes, dict[Watch, None]] = {}
        self._ranges: dict[Watch, None] = {}
        self._reaching: list[tuple[int, asyncio.Future[None]]] = []
        self._queue: deque[Watch] = deque()

    def queue(self, watch: Watch) -> None:
        """Hand over to this watch soon: a few at a time, so that others get their turn, and what comes meanwhile for
        those that wait longest is handed to them together.
        """
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._queue.append(watch)

    def _hand_over(self) -> None:
        try:
            for _ in range(min(len(self._queue), _AT_ONCE)):
                self._queue.popleft().hand_over()
        finally:  # one that fails is logged by the loop; the others get theirs all the same
            if self._queue:
                asyncio.get_running_loop().call_soon(self._hand_over)

    async def reach(self, revision: int, seconds: float) -> bool:
        """Wait until a revision is published, but no longer than so many seconds. Returns whether it is."""
        if revision <= self.revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reaching.append((revision, future))
        await asyncio.wait([future], timeout=seconds)
        self._reaching = [row for row in self._reaching if row[1] is not future]
        return revision <= self.revision

    def __len__(self) -> int:
        return len(self._ranges) + sum(map(len, self._by_prefix.values())) + sum(map(len, self._by_key.values()))

    def add(self, key: bytes, end: bytes | None, *, history: Iterable[Event], revision: int, limit: int) -> Watch:
        """Subscribe and queue the history after `revision`. `end` is None for a prefix, b"" for one key."""
        if end is not None and end == prefix_end(key):
            end = None
        watch = Watch(self, key, end, revision=revision, limit=limit)
        if end is None:
            self._by_prefix.setdefault(key, {})[watch] = None
            self._measure()
        elif not end:
            self._by_key.setdefault(key, {})[watch] = None
        else:
            self._ranges[watch] = None
        watch.start([event for event in history if watch.covers(event.kv.key)])
        return watch

    def remove(self, watch: Watch) -> None:
        """Forget a watch."""
        self._ranges.pop(watch, None)
        for table in (self._by_prefix, self._by_key):
            of_key = table.get(watch.key, {})
            of_key.pop(watch, None)
            if not of_key:
                table.pop(watch.key, None)
        self._measure()

    def publish(self, events: Sequence[Event], revision: int) -> None:
        """Hand new events to the watches they concern; they are complete up to `revision`."""
        self.revision = revision
        if self._reaching:
            self._wake_reached()
        for event in events:
            key, one = event.kv.key, (event,)
            for length in self._lengths:
                if (watches := self._by_prefix.get(key[:length])) and length <= len(key):
                    for watch in tuple(watches):
                        watch.offer(one)
            for watch in tuple(self._by_key.get(key, ())):
                watch.offer(one)
            for watch in tuple(self._ranges):
                if watch.covers(key):
                    watch.offer(one)

    def _wake_reached(self) -> None:
        for revision, future in self._reaching:
            if revision <= self.revision and not future.done():
                future.set_result(None)

    def close(self, reason: str = "the store closed") -> None:
        """Cut all watches off."""
        for watches in (*self._by_prefix.values(), *self._by_key.values(), self._ranges):
            for watch in tuple(watches):
                watch.cut(reason)

    def _measure(self) -> None:
        self._lengths = tuple(sorted({len(prefix) for prefix in self._by_prefix}))
