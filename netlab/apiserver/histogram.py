"""Prometheus histograms: a row counts what fell into each bucket, then all of it, then adds up the seconds.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def empty(bounds: Sequence[float]) -> list[float]:
    """Return the row of a histogram with these upper bounds (s, rising)."""
    return [0.0] * (len(bounds) + 2)


def count(row: list[float], bounds: Sequence[float], seconds: float) -> None:
    """Count a value."""
    for at, bound in enumerate(bounds):
        if seconds <= bound:
            row[at] += 1
            break
    row[-2] += 1
    row[-1] += seconds


def lines(name: str, labels: str, bounds: Sequence[float], row: Sequence[float]) -> Iterator[str]:
    """Give a row in the text form, with these labels (`a="b",c="d"`)."""
    total = 0.0
    for bound, number in zip(bounds, row, strict=False):
        total += number
        yield f'{name}_bucket{{{labels},le="{bound:g}"}} {total:g}'
    yield f'{name}_bucket{{{labels},le="+Inf"}} {row[-2]:g}'
    yield f"{name}_sum{{{labels}}} {row[-1]:.6f}"
    yield f"{name}_count{{{labels}}} {row[-2]:g}"
