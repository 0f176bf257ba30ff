"""The indexes of an Indexed Job as text: `1,3-5,7`, rising (batch/v1 JobStatus.completedIndexes)."""

from __future__ import annotations

from collections.abc import Iterator

Interval = tuple[int, int]


def intervals(text: str, completions: int) -> list[Interval]:
    """Return the intervals of a text, both ends included.

    Raises:
        ValueError: no intervals, not rising, or beyond `completions`.
    """
    found: list[Interval] = []
    for part in text.split(",") if text else ():
        first, last = _interval(part, completions)
        if found and found[-1][1] >= first:
            raise ValueError(f"non-increasing order, previous: {found[-1][1]}, current: {first}")
        found.append((first, last))
    return found


def overlap(one: str, other: str, completions: int) -> int | None:
    """Return the first index that is in both; parts that can't be read are passed over."""
    here, there = list(_readable(one, completions)), list(_readable(other, completions))
    a = b = 0
    while a < len(here) and b < len(there):
        (first, last), (begin, end) = here[a], there[b]
        if first <= end and begin <= last:
            return max(first, begin)
        if first <= begin:
            a += 1
        else:
            b += 1
    return None


def _readable(text: str, completions: int) -> Iterator[Interval]:
    for part in text.split(",") if text else ():
        try:
            yield _interval(part, completions)
        except ValueError:
            continue


def _interval(text: str, completions: int) -> Interval:
    ends = text.split("-")
    if len(ends) > 2:
        raise ValueError(f'the fragment "{text}" violates the requirement that an index interval can have at most two '
                         "parts separated by '-'")
    first, last = _index(ends[0], completions), _index(ends[-1], completions)
    if len(ends) == 2 and first >= last:
        raise ValueError(f"non-increasing order, previous: {first}, current: {last}")
    return first, last


def _index(text: str, completions: int) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f'cannot convert string to integer for index: "{text}"')
    if int(text) >= completions:
        raise ValueError(f'too large index: "{text}"')
    return int(text)
