"""Parts of dates and spans of time, in UTC or a zone that is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from netlab.apiserver.cel.declarations import Does
from netlab.apiserver.cel.standard import quotient
from netlab.apiserver.cel.values import Timestamp

_MILLION = 10**6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET = re.compile(r"([-+]?)([0-9]{1,2}):([0-9]{2})\Z")


def _zone(name: str) -> tzinfo:
    offset = _OFFSET.match(name)
    if offset is not None and int(offset.group(2)) < 24 and int(offset.group(3)) < 60:
        span = timedelta(hours=int(offset.group(2)), minutes=int(offset.group(3)))
        return timezone(-span if offset.group(1) == "-" else span)
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # half a megabyte, for those who ask for one

    try:
        return ZoneInfo(name) if name and len(name) < 80 else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name}") from None


def _date(read: Callable[[datetime], int]) -> list[Does]:
    def plain(value: Timestamp) -> int:
        return read(_EPOCH + timedelta(microseconds=value.nanos // 1000))

    def zoned(value: Timestamp, zone: str) -> int:
        return read((_EPOCH + timedelta(microseconds=value.nanos // 1000)).astimezone(_zone(zone)))

    return [plain, zoned]


_DATES: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda day: day.year,
    "getMonth": lambda day: day.month - 1,
    "getDate": lambda day: day.day,
    "getDayOfMonth": lambda day: day.day - 1,
    "getDayOfYear": lambda day: day.timetuple().tm_yday - 1,
    "getDayOfWeek": lambda day: day.isoweekday() % 7,
    "getHours": lambda day: day.hour,
    "getMinutes": lambda day: day.minute,
    "getSeconds": lambda day: day.second,
    "getMilliseconds": lambda day: day.microsecond // 1000,
}
_SPANS = {"getHours": 3600 * 10**9, "getMinutes": 60 * 10**9, "getSeconds": 10**9}


def _span(nanos: int) -> Does:
    return lambda value: quotient(value.nanos, nanos)


TABLE: list[tuple[str, Does]] = [
    *(
        row
        for name, read in _DATES.items()
        for row in zip((f".{name}(timestamp) -> int", f".{name}(timestamp, string) -> int"), _date(read), strict=True)
    ),
    *((f".{name}(duration) -> int", _span(nanos)) for name, nanos in _SPANS.items()),
    (".getMilliseconds(duration) -> int", lambda value: quotient(value.nanos, _MILLION) % 1000),
]
