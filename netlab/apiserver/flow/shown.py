"""What is told of priority and fairness: metrics under upstream's names, and the pages of /debug."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from netlab.api import meta
from netlab.apiserver import histogram
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.flow.level import BUCKETS, Flow, Level, Queue
from netlab.apiserver.http import Reply

ROOT = "/debug/api_priority_and_fairness/"
_PREFIX = "apiserver_flowcontrol"
_LEAST = 8
_DETAILS = ("UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")


def metrics(levels: Sequence[Level], flows: Sequence[Flow]) -> Iterator[str]:
    """Yield the lines of Prometheus' text form."""
    of_level = {id(level): f'priority_level="{level.name}"' for level in levels}
    of_flow = [(f'flow_schema="{flow.name}",{of_level[id(flow.level)]}', flow) for flow in flows]
    yield from _family("dispatched_requests_total", "counter", "Number of requests executed by API Priority and "
                       "Fairness subsystem", ((labels, flow.dispatched) for labels, flow in of_flow))
    yield from _family("rejected_requests_total", "counter", "Number of requests rejected by API Priority and Fairness "
                       "subsystem", ((f'{labels},reason="{reason}"', count) for labels, flow in of_flow
                                     for reason, count in sorted(flow.rejected.items())))
    yield from _family("current_executing_requests", "gauge", "Number of requests in initial (for a WATCH) or any (for "
                       "a non-WATCH) execution stage", ((labels, flow.executing) for labels, flow in of_flow))
    yield from _family("current_inqueue_requests", "gauge", "Number of requests currently pending in queues",
                       ((labels, flow.waiting) for labels, flow in of_flow))
    for name, said, values in (
            ("current_executing_seats", "Concurrency (number of seats) occupied by the currently executing requests",
             [level.executing for level in levels]),
            ("current_inqueue_seats", "Number of seats currently pending in queues",
             [level.waiting_seats for level in levels]),
            ("nominal_limit_seats", "Nominal number of execution seats configured for each priority level",
             [level.limits.nominal for level in levels]),
            ("lower_limit_seats", "Configured lower bound on number of seats available to each priority level",
             [level.limits.lower for level in levels]),
            ("upper_limit_seats", "Configured upper bound on number of seats available to each priority level",
             [level.limits.upper for level in levels]),
            ("current_limit_seats", "current derived number of execution seats available to each priority level",
             [level.limit for level in levels])):
        yield from _family(name, "gauge", said, zip(of_level.values(), values, strict=True))
    yield from _waits(of_flow)


def _family(name: str, kind: str, said: str, rows: Iterable[tuple[str, int]]) -> Iterator[str]:
    yield f"# HELP {_PREFIX}_{name} {said}"
    yield f"# TYPE {_PREFIX}_{name} {kind}"
    for labels, value in rows:
        yield f"{_PREFIX}_{name}{{{labels}}} {value}"


def _waits(flows: Iterable[tuple[str, Flow]]) -> Iterator[str]:
    name = f"{_PREFIX}_request_wait_duration_seconds"
    yield f"# HELP {name} Length of time a request spent waiting in its queue"
    yield f"# TYPE {name} histogram"
    for labels, flow in flows:
        for executed, row in sorted(flow.waited.items()):
            yield from histogram.lines(name, f'execute="{executed}",{labels}', BUCKETS, row)


def page(path: str, levels: Sequence[Level], *, details: bool, since: float) -> Reply | None:
    """Answer one of the pages, None where there is none; `since`: monotonic time of the Unix epoch (s)."""
    what = path.removeprefix(ROOT)
    if what == "dump_priority_levels":
        rows = [("PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
                 "DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests"),
                *(_level(level) for level in levels)]
    elif what == "dump_queues":
        rows = [("PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
                 "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum"),
                *(_queue(level, queue) for level in levels for queue in level.queues)]
    elif what == "dump_requests":
        rows = [("PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher",
                 "ArriveTime", "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
                 *(_DETAILS if details else ())),
                *(row for level in levels for row in _requests(level, since, details=details))]
    else:
        return None
    return Reply("".join(_aligned(rows)).encode(), 200, "text/plain; charset=utf-8", {
        "X-Content-Type-Options": "nosniff"})


def _level(level: Level) -> tuple[str, ...]:
    idle = not (level.seats or level.waiting)
    return (level.name, str(len(level.busy)), _bool(idle), "false", str(level.waiting), str(len(level.seats)),
            str(level.dispatched), str(level.rejected), str(level.timed_out), str(level.cancelled))


def _queue(level: Level, queue: Queue) -> tuple[str, ...]:
    wanted = str(queue.waiting)
    return (level.name, str(queue.index), str(len(queue.requests)), str(queue.executing), str(queue.seats),
            f"{queue.virtual:.8f}ss", wanted, wanted, f"{queue.waiting:.8f}ss")


def _requests(level: Level, since: float, *, details: bool) -> Iterator[tuple[str, ...]]:
    for seat in level.seats:
        at = _time(seat.since - since)
        index = "-1" if seat.queue is None else str(seat.queue.index)
        yield (level.name, seat.flow.name, index, "-1", seat.distinguisher, at, str(seat.width), "0", "0s", at,
               *(_about(seat.about) if details else ()))
    for queue in level.busy:
        for place, one in enumerate(queue.requests):
            yield (level.name, one.flow.name, str(queue.index), str(place), one.distinguisher,
                   _time(one.arrived - since), str(one.width), "0", "0s", "0001-01-01T00:00:00Z",
                   *(_about(one.about) if details else ()))


def _about(asked: Attributes) -> tuple[str, ...]:
    path = asked.path or (f"/apis/{asked.group}/{asked.version}" if asked.group else f"/api/{asked.version}")
    return (asked.user.name, asked.verb, path, asked.namespace, asked.name, asked.version, asked.resource,
            asked.subresource)


def _time(seconds: float) -> str:
    return meta.micro_timestamp(seconds)


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(_LEAST, *(len(row[at]) + 2 for row in rows)) for at in range(len(rows[0]))]
    for row in rows:
        cells = [f"{cell},".ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "".join(cells[:-1]) + row[-1] + "\n"
