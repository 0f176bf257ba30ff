"""A priority level while it runs: its seats, its queues, and who waits there. Pure, but for the futures in it.

k8s:staging/src/k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset/queueset.go. Queues take turns by start-time
fair queueing: each has a virtual time, which a request that leaves it takes forward by its seats.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from netlab.api.meta import Object
from netlab.apiserver import histogram
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.flow.shares import Limits

BUCKETS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
"""Upper bounds in seconds of how long requests waited."""
_LONGEST_RETRY = 32


class Flow:
    """A FlowSchema that is in use: which level its requests go to, and what became of them."""

    __slots__ = ("dispatched", "distinguisher", "executing", "level", "name", "rejected", "uids", "waited", "waiting")

    def __init__(self, name: str, uids: tuple[str, str], level: Level, distinguisher: str) -> None:
        self.name, self.uids, self.level, self.distinguisher = name, uids, level, distinguisher
        self.dispatched = self.executing = self.waiting = 0
        self.rejected: Counter[str] = Counter()
        self.waited: dict[str, list[float]] = {}

    def count_wait(self, seconds: float, *, executed: bool) -> None:
        """Note how long a request waited that was in a queue."""
        row = self.waited.setdefault("true" if executed else "false", histogram.empty(BUCKETS))
        histogram.count(row, BUCKETS, seconds)


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in a queue; `turn` is set to its seat when it may go on, to None when it has waited too long."""

    flow: Flow
    width: int
    distinguisher: str
    arrived: float
    turn: asyncio.Future[Seat | None]
    about: Attributes
    queued: bool = True


@dataclass(slots=True, eq=False)
class Queue:
    """One of a level's queues."""

    index: int
    requests: deque[Waiting] = field(default_factory=deque)
    virtual: float = 0.0
    executing: int = 0
    seats: int = 0
    waiting: int = 0
    """Seats that the requests in it want."""


class Seat:
    """What a request holds while it is served (`width` seats). `leave` may be called more than once."""

    __slots__ = ("about", "distinguisher", "flow", "leave_to", "queue", "since", "width")

    def __init__(self, flow: Flow, width: int, since: float, about: Attributes, distinguisher: str,
                 queue: Queue | None, leave_to: Callable[[Seat], None]) -> None:
        self.flow, self.width, self.since, self.about = flow, width, since, about
        self.distinguisher, self.queue, self.leave_to = distinguisher, queue, leave_to

    def leave(self) -> None:
        """Give it back."""
        if self.width:
            self.leave_to(self)
            self.width = 0


class Level:
    """A priority level. `limit` is how many seats it has now, `leaving` those that are free in the next turn."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.exempt = False
        self.limits, self.limit = Limits(0, 0, 0), 0
        self.executing = self.leaving = self.waiting = self.waiting_seats = 0
        self.queues: list[Queue] = []
        self.hand, self.length = 0, 0
        self.busy: dict[Queue, None] = {}
        self.seats: dict[Seat, None] = {}
        """What is held now, in the order of time."""
        self.virtual = self.share = 0.0
        self.marked = False
        self.dispatched = self.rejected = self.timed_out = self.cancelled = 0
        self.demand = Demand()
        self.retry = Retry()

    def configure(self, spec: Object, found: Limits) -> None:
        """Take up a spec and the limits that follow of all; what waits stays in its queue."""
        self.exempt = spec.get("type") == "Exempt"
        if self.limits != found:
            self.limits, self.limit = found, found.first
        queuing = ((spec.get("limited") or {}).get("limitResponse") or {}).get("queuing")
        response = ((spec.get("limited") or {}).get("limitResponse") or {}).get("type")
        wanted = 0 if self.exempt or response != "Queue" else int((queuing or {}).get("queues", 64))
        self.hand, self.length = (int((queuing or {}).get(name, default)) for name, default in (
            ("handSize", 8), ("queueLengthLimit", 50)))
        self.hand = min(self.hand, wanted)
        if wanted != len(self.queues):
            self.queues = [Queue(index) for index in range(wanted)]  # what is in `busy` is served to its end

    @property
    def widest(self) -> int:
        """Return how many seats one request may take: 15 % of the level's."""
        return max(-(-self.limits.nominal * 15 // 100), 1)

    def fits(self, width: int) -> bool:
        """Tell whether there are seats for a request; one alone always fits."""
        return self.executing + width <= self.limit or (not self.executing and self.limit > 0)

    def choose(self, flow: Flow, distinguisher: str) -> Queue:
        """Return the queue that a request belongs into: of those its flow is dealt the one with the least in it."""
        dealt = deal(flow.name, distinguisher, len(self.queues), self.hand)
        return min((self.queues[index] for index in dealt), key=_load)

    def put(self, queue: Queue, one: Waiting) -> None:
        """Let a request wait."""
        if not queue.requests:
            queue.virtual = max(queue.virtual, self.virtual)
            self.busy[queue] = None
        queue.requests.append(one)
        queue.waiting += one.width
        self.waiting += 1
        self.waiting_seats += one.width
        one.flow.waiting += 1

    def take(self) -> tuple[Queue, Waiting] | None:
        """Return who is next and fits, with the queue that he left; None: nobody."""
        if not self.busy:
            return None
        queue = min(self.busy, key=lambda found: (found.virtual, found.index))
        one = queue.requests[0]
        if not self.fits(one.width):
            return None
        self.virtual = queue.virtual
        queue.virtual += one.width
        self.drop(queue, one)
        return queue, one

    def drop(self, queue: Queue, one: Waiting) -> None:
        """Take a request out of its queue, if it is still there."""
        if not one.queued:
            return
        one.queued = False
        queue.requests.remove(one)
        queue.waiting -= one.width
        if not queue.requests:
            self.busy.pop(queue, None)
        self.waiting -= 1
        self.waiting_seats -= one.width
        one.flow.waiting -= 1


def _load(queue: Queue) -> int:
    return queue.seats + queue.waiting


@lru_cache(maxsize=4096)
def deal(schema: str, distinguisher: str, queues: int, hand: int) -> tuple[int, ...]:
    """Return the queues of a flow: a hand dealt from a deck of them, the same for the same flow (shuffle sharding)."""
    value = int.from_bytes(hashlib.sha256(f"{schema}\0{distinguisher}".encode()).digest()[:8], "little")
    left, dealt = list(range(queues)), []
    for _ in range(hand):
        value, at = divmod(value, len(left))
        dealt.append(left.pop(at))
    return tuple(dealt)


class Demand:
    """How many seats were wanted over time, since the last `reset`."""

    __slots__ = ("_last", "_seats", "_since", "_squares", "_sum", "most", "smooth")

    def __init__(self) -> None:
        self._last = self._since = 0.0
        self._seats = self._sum = self._squares = 0.0
        self.most = 0
        self.smooth = 0.0

    def at(self, now: float, seats: int) -> None:
        """Note how many are wanted from now on."""
        gone = now - self._last
        self._sum += self._seats * gone
        self._squares += self._seats * self._seats * gone
        self._last, self._seats = now, seats
        self.most = max(self.most, seats)

    def reset(self, now: float) -> tuple[float, float, int]:
        """Return average, standard deviation and the most since the last time, and begin anew."""
        self.at(now, int(self._seats))
        length = now - self._since
        average = self._sum / length if length > 0 else self._seats
        spread = max(self._squares / length - average * average, 0.0) ** 0.5 if length > 0 else 0.0
        found = average, spread, self.most
        self._since, self._sum, self._squares, self.most = now, 0.0, 0.0, int(self._seats)
        return found


class Retry:
    """After how many seconds who was refused shall come again: twice as many while many are, at most 32."""

    def __init__(self) -> None:
        self.seconds = 1
        self._history: deque[tuple[int, int]] = deque(maxlen=_LONGEST_RETRY + 1)
        self._second, self._count, self._changed = 0, 0, 0

    def refused(self, now: float) -> int:
        """Note a refusal; returns what it says."""
        second = int(now)
        if second == self._second:
            self._count += 1
            return self.seconds
        self._history.append((self._second, self._count))
        self._second, self._count = second, 1
        lately = sum(count for at, count in self._history if second - self.seconds <= at < second)
        if second - self._changed >= self.seconds and lately >= 3 * self.seconds:
            self.seconds, self._changed = min(self.seconds * 2, _LONGEST_RETRY), second
        elif lately < self.seconds and self.seconds > 1:
            self.seconds -= 1
        return self.seconds
