from __future__ import annotations

from netlab.proxy.pace import Pace


def run(pace: Pace, at: float, *, failed: bool = False) -> None:
    pace.started(at)
    pace.ended(at, failed=failed)


def test_the_first_change_after_quiet_goes_at_once():
    pace = Pace(1.0)
    assert pace.due(100.0) is None
    pace.want(100.0)
    assert pace.due(100.0) == 100.0


def test_a_burst_is_let_through_and_then_slowed_down():
    pace = Pace(1.0, burst=3)
    times, now = [], 100.0
    for _ in range(6):
        pace.want(now)
        now = max(now, pace.due(now))
        run(pace, now)
        times.append(round(now - 100, 6))
    assert times == [0, 0, 0, 1, 2, 3]


def test_quiet_earns_the_burst_back():
    pace = Pace(1.0, burst=2)
    for _ in range(2):
        pace.want(0.0)
        run(pace, 0.0)
    pace.want(0.0)
    assert pace.due(0.0) == 1.0
    assert pace.due(10.0) == 10.0


def test_changes_that_come_together_are_one_sync():
    pace = Pace(1.0, burst=1)
    for at in (1.0, 1.1, 1.2):
        pace.want(at)
    assert pace.waiting_since == 1.0
    run(pace, 1.2)
    assert pace.due(1.3) is None


def test_failures_are_tried_again_later_and_later():
    pace = Pace(1.0, burst=100, longest=30.0)
    waits, now = [], 0.0
    for _ in range(7):
        run(pace, now, failed=True)
        waits.append(pace.due(now) - now)
        now = pace.due(now)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    run(pace, now)
    assert pace.due(now) is None


def test_a_change_does_not_wait_for_a_retry():
    pace = Pace(1.0)
    run(pace, 5.0, failed=True)
    pace.want(5.1)
    assert pace.due(5.1) == 5.1


def test_no_least_time_at_all():
    pace = Pace(0.0, burst=1)
    for _ in range(3):
        pace.want(1.0)
        assert pace.due(1.0) == 1.0
        run(pace, 1.0)
