"""A histogram's counts and its text."""

from __future__ import annotations

from netlab.apiserver import histogram


def test_buckets_hold_all_that_is_no_more_than_their_bound() -> None:
    bounds = (0.5, 1.0)
    row = histogram.empty(bounds)
    for seconds in (0.5, 0.75, 1.5):
        histogram.count(row, bounds, seconds)
    assert list(histogram.lines("wait_seconds", 'verb="GET"', bounds, row)) == [
        'wait_seconds_bucket{verb="GET",le="0.5"} 1',
        'wait_seconds_bucket{verb="GET",le="1"} 2',
        'wait_seconds_bucket{verb="GET",le="+Inf"} 3',
        'wait_seconds_sum{verb="GET"} 2.750000',
        'wait_seconds_count{verb="GET"} 3']
