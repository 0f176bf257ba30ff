"""Who may go on at once, who waits, and who is refused.

One process with one thread serves one request at a time, so seats alone would hardly ever be short: what needs no wait
is done before the next request is looked at. Hence turns. What is done in one turn of the event loop keeps its seat
until the next, and when a turn has lasted 20 ms, further requests of levels with queues wait: in the next turn they go
on in the order of fair queueing, levels by their shares and flows within a level alike, some at a time. What is exempt
goes on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.flow.level import Flow, Level, Seat, Waiting
from netlab.apiserver.flow.shares import Item, lend, smoothed

_SLICE = 0.020
_SEATS_A_TURN = 32
WAIT_SECONDS = 15.0
"""How long a request may wait: a quarter of upstream's --request-timeout."""
HOLD_SECONDS = 60.0
"""How long a request may hold its seat: upstream's --request-timeout."""


class Refused(Exception):
    """A request may not go on, and is not to wait (any longer). The text is upstream's reason."""


class Gate:
    """One per server. `monotonic` gives the time that `enter` and `wait` are told."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.marked: list[Level] = []
        self.turning = False
        self._began = 0.0
        self._busy: dict[Level, None] = {}

    def enter(self, flow: Flow, width: int, now: float, about: Attributes, distinguisher: str) -> Seat | None:
        """Return a seat if a request may go on at once; `now`: when it came."""
        level = flow.level
        if not self.turning:
            self.turn()
            self._began = now
        if not level.exempt and (level.waiting or not level.fits(width)
                                 or (now - self._began > _SLICE and level.queues)):
            return None
        seat = Seat(flow, width, now, about, distinguisher, None, self._left)
        self._seated(seat)
        return seat

    def _seated(self, seat: Seat) -> None:
        flow = seat.flow
        level = flow.level
        level.executing += seat.width
        level.dispatched += 1
        level.seats[seat] = None
        flow.executing += 1
        flow.dispatched += 1
        if not level.marked:
            level.marked = True
            self.marked.append(level)

    def _left(self, seat: Seat) -> None:
        flow, queue = seat.flow, seat.queue
        level = flow.level
        flow.executing -= 1
        level.leaving += seat.width
        del level.seats[seat]
        if queue is not None:
            queue.executing -= 1
            queue.seats -= seat.width
        self._mark(level)

    async def wait(self, flow: Flow, width: int, about: Attributes, distinguisher: str) -> Seat:
        """Return a seat when it is this request's turn.

        Raises:
            Refused: there is no queue, or it is full, or the wait was too long.
        """
        level, now = flow.level, self._monotonic()
        if not level.queues:
            raise self._refuse(flow, "concurrency-limit")
        queue = level.choose(flow, distinguisher)
        if len(queue.requests) >= level.length:
            raise self._refuse(flow, "queue-full")
        one = Waiting(flow, width, distinguisher, now, asyncio.get_running_loop().create_future(), about)
        level.put(queue, one)
        self._busy[level] = None
        self._mark(level)
        try:
            seat = await one.turn
        except BaseException:
            level.drop(queue, one)
            if one.turn.done() and not one.turn.cancelled() and (held := one.turn.result()) is not None:
                held.leave()
            flow.count_wait(self._monotonic() - now, executed=False)
            level.cancelled += 1
            flow.rejected["cancelled"] += 1
            raise
        flow.count_wait(self._monotonic() - now, executed=seat is not None)
        if seat is None:
            level.timed_out += 1
            raise self._refuse(flow, "time-out")
        return seat

    def expire(self, levels: Iterable[Level]) -> None:
        """Send away who has waited too long, and take seats back from who has had them too long.

        For somebody to call every second or so. A client that takes its answer a byte at a time has it, but no seat.
        """
        now = self._monotonic()
        for level in levels:
            for seat in tuple(level.seats):
                if seat.since > now - HOLD_SECONDS:
                    break
                seat.leave()
        late = now - WAIT_SECONDS
        for level in tuple(self._busy):
            for queue in tuple(level.busy):
                while queue.requests and queue.requests[0].arrived < late:
                    one = queue.requests[0]
                    level.drop(queue, one)
                    if not one.turn.done():
                        one.turn.set_result(None)

    def _refuse(self, flow: Flow, reason: str) -> Refused:
        flow.rejected[reason] += 1
        flow.level.rejected += reason != "time-out"
        return Refused(reason)

    def _mark(self, level: Level) -> None:
        if not level.marked:
            level.marked = True
            self.marked.append(level)
        if not self.turning:
            self.turn()

    def turn(self) -> None:
        """Have the next turn begun."""
        self.turning = True
        self._began = self._monotonic()
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.turning = False
        now = self._monotonic()
        marked, self.marked = self.marked, []
        for level in marked:
            level.marked = False
            level.demand.at(now, level.executing + level.waiting_seats)
            level.executing -= level.leaving
            level.leaving = 0
        if self._busy:
            self._dispatch(now)

    def _dispatch(self, now: float) -> None:
        """Let some of those who wait go on: of all levels that have free seats, in turns by their shares."""
        left = _SEATS_A_TURN
        ready = dict(self._busy)
        while ready and left > 0:
            level = min(ready, key=lambda found: found.share)
            found = level.take()
            if found is None:
                del ready[level]
                if not level.waiting:
                    del self._busy[level]
                continue
            queue, one = found
            least = min((other.share for other in self._busy), default=0.0)
            level.share = max(level.share, least) + one.width / max(level.limits.nominal, 1)
            left -= one.width
            if one.turn.done():  # gone, or too late
                continue
            queue.executing += 1
            queue.seats += one.width
            seat = Seat(one.flow, one.width, now, one.about, one.distinguisher, queue, self._left)
            self._seated(seat)
            one.turn.set_result(seat)
        if any(level.busy and level.fits(1) for level in self._busy) and not self.turning:
            self.turn()

    def adjust(self, levels: Iterable[Level], total: int) -> None:
        """Let levels lend and borrow seats by what they wanted since the last time; `total`: of the server."""
        now = self._monotonic()
        items: list[Item] = []
        limited: list[Level] = []
        for level in levels:
            average, spread, most = level.demand.reset(now)
            level.demand.smooth = smoothed(level.demand.smooth, average, spread)
            if level.exempt:
                level.limit = max(level.limits.lower, most)
                total -= level.limit
                continue
            lower = max(level.limits.lower, min(level.limits.nominal, most))
            items.append(Item(lower, level.limits.upper, max(lower, level.demand.smooth)))
            limited.append(level)
        for level, seats in zip(limited, lend(max(total, 0), items), strict=True):
            level.limit = round(seats)
            if level.waiting:
                self._mark(level)


class Plain:
    """So many requests at once may read, and so many write: --enable-priority-and-fairness=false."""

    def __init__(self, reading: int, writing: int) -> None:
        self._free = {True: reading, False: writing}
        self._bounded = {True: reading > 0, False: writing > 0}

    def enter(self, *, reads: bool, privileged: bool) -> Place | None:
        """Return a place; None: there are too many already."""
        if self._bounded[reads]:
            if self._free[reads] <= 0 and not privileged:
                return None
            self._free[reads] -= 1
        return Place(self, reads)

    def left(self, *, reads: bool) -> None:
        """Be told that one is free again."""
        if self._bounded[reads]:
            self._free[reads] += 1


class Place:
    """What a request holds of the `Plain`."""

    __slots__ = ("_plain", "_reads", "_there")

    def __init__(self, plain: Plain, reads: bool) -> None:
        self._plain, self._reads, self._there = plain, reads, True

    def leave(self) -> None:
        """Give it back."""
        if self._there:
            self._there = False
            self._plain.left(reads=self._reads)
