"""The Pods that wait for a node: ready to be tried, backing off, or waiting for the cluster to change.

Rules as in k8s:pkg/scheduler/backend/queue: highest priority first, then the longest waiting; a Pod that did not fit
waits until something happens that one of the filters which refused it cares about; a failed Pod backs off 1 to 10 s,
but a scheduler with nothing else to do takes it at once (KEP-5142).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from netlab.scheduler.model import Pod


class Event(StrEnum):
    """What can happen in a cluster that may make room for a Pod."""

    NODE_ADDED = "node added"
    NODE_ALLOCATABLE = "a node's capacity changed"
    NODE_LABELS = "a node's labels changed"
    NODE_TAINTS = "a node's taints changed"
    POD_ADDED = "a Pod was bound"
    POD_UPDATED = "a bound Pod changed"
    POD_DELETED = "a bound Pod went away"


@dataclass
class Entry:
    """One waiting Pod. Times are seconds of the queue's clock."""

    pod: Pod
    since: float
    attempts: int = 0
    refused_by: frozenset[Event] = frozenset()
    """The events that may help; empty after an error, which nothing but time helps."""
    ready_at: float = 0.0
    failed: bool = False
    order: tuple[int, float, int] = field(default=(0, 0.0, 0))


class SchedulingQueue:
    """The queue. All but `pop` are plain calls."""

    def __init__(self, clock: Callable[[], float], *, first_backoff: float = 1.0, longest_backoff: float = 10.0,
                 longest_wait: float = 300.0) -> None:
        self._clock = clock
        self._first, self._longest, self._flush = first_backoff, longest_backoff, longest_wait
        self._entries: dict[str, Entry] = {}
        self._active: list[tuple[tuple[int, float, int], str]] = []
        self._backoff: list[tuple[float, int, str]] = []
        self._parked: dict[str, Entry] = {}
        self._flying: dict[str, Entry] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def counts(self) -> dict[str, int]:
        """Return how many Pods are active, backing off and unschedulable, for /metrics."""
        states = {"active": 0, "backoff": 0, "unschedulable": len(self._parked)}
        for uid, entry in self._entries.items():
            if uid not in self._parked:
                states["backoff" if entry.ready_at > self._clock() else "active"] += 1
        return states

    def add(self, one: Pod) -> None:
        """Put a new or changed Pod in; it is tried soon."""
        if one.uid in self._flying:
            self._flying[one.uid].pod = one
            return
        entry = self._entries.get(one.uid) or Entry(one, self._clock())
        entry.pod = one
        self._activate(entry)

    def update(self, one: Pod) -> None:
        """Take over a Pod's new state without a reason to try it again."""
        entry = self._entries.get(one.uid) or self._flying.get(one.uid)
        if entry is None:
            self.add(one)
        else:
            entry.pod = one

    def remove(self, uid: str) -> None:
        """Forget a Pod: it is bound, deleted, or somebody else's."""
        self._entries.pop(uid, None)
        self._parked.pop(uid, None)
        self._flying.pop(uid, None)

    def find(self, uid: str) -> Pod | None:
        """Return a waiting Pod."""
        entry = self._entries.get(uid) or self._flying.get(uid)
        return entry.pod if entry else None

    def waiting(self) -> list[Pod]:
        """Return all Pods that wait, in no order."""
        return [entry.pod for entry in self._entries.values()]

    def take(self) -> Entry | None:
        """Return the Pod to try now, None if there is none. Give it to `refuse` or `fail`, or `remove` it, later."""
        now = self._clock()
        while self._backoff and self._backoff[0][0] <= now:
            _, _, uid = heapq.heappop(self._backoff)
            entry = self._entries.get(uid)
            if entry is not None and uid not in self._parked and entry.ready_at <= now:
                self._activate(entry)
        for uid in [uid for uid, entry in self._parked.items() if entry.ready_at + self._flush <= now]:
            self._activate(self._parked[uid])
        while self._active:
            order, uid = heapq.heappop(self._active)
            entry = self._entries.get(uid)
            if entry is not None and entry.order == order and uid not in self._parked:
                return self._fly(entry)
        for _, _, uid in sorted(self._backoff):
            entry = self._entries.get(uid)
            if entry is not None and uid not in self._parked and not entry.failed:
                return self._fly(entry)
        return None

    async def pop(self) -> Entry:
        """Wait for a Pod to try."""
        while True:
            entry = self.take()
            if entry is not None:
                return entry
            self._changed.clear()
            times = [at for at, _, uid in self._backoff if uid in self._entries]
            times += [entry.ready_at + self._flush for entry in self._parked.values()]
            try:
                async with asyncio.timeout(max(0.001, min(times) - self._clock()) if times else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def refuse(self, entry: Entry, events: frozenset[Event]) -> None:
        """A tried Pod fits nowhere: it waits for one of `events`."""
        if self._flying.pop(entry.pod.uid, None) is None:
            return
        entry.refused_by, entry.failed, entry.ready_at = events, False, self._clock() + self._delay(entry)
        self._entries[entry.pod.uid] = self._parked[entry.pod.uid] = entry

    def fail(self, entry: Entry) -> None:
        """Trying a Pod met an error: it is tried again after its back-off."""
        if self._flying.pop(entry.pod.uid, None) is None:
            return
        entry.failed, entry.ready_at = True, self._clock() + self._delay(entry)
        self._entries[entry.pod.uid] = entry
        self._back_off(entry)

    def happened(self, event: Event, *, helps: Callable[[Pod], bool] = lambda _: True) -> None:
        """Something changed: the Pods that were refused by a filter which cares are tried again."""
        for uid, entry in list(self._parked.items()):
            if event in entry.refused_by and helps(entry.pod):
                del self._parked[uid]
                if entry.ready_at <= self._clock():
                    self._activate(entry)
                else:
                    self._back_off(entry)

    def _activate(self, entry: Entry) -> None:
        uid = entry.pod.uid
        self._parked.pop(uid, None)
        entry.ready_at, entry.failed = 0.0, False
        entry.order = (-entry.pod.priority, entry.since, next(self._numbers))
        self._entries[uid] = entry
        heapq.heappush(self._active, (entry.order, uid))
        self._changed.set()

    def _back_off(self, entry: Entry) -> None:
        heapq.heappush(self._backoff, (entry.ready_at, next(self._numbers), entry.pod.uid))
        self._changed.set()

    def _fly(self, entry: Entry) -> Entry:
        del self._entries[entry.pod.uid]
        entry.attempts += 1
        self._flying[entry.pod.uid] = entry
        return entry

    def _delay(self, entry: Entry) -> float:
        return float(min(self._first * 2.0 ** min(entry.attempts - 1, 30), self._longest))
