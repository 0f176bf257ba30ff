"""The times of a CronJob: five fields as cron has them, or a word that begins with @.

The sentences are those of github.com/robfig/cron/v3, the parser that clients have got to know through upstream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class _Range(NamedTuple):
    low: int
    high: int
    names: Mapping[str, int]


_MONTHS = {name: at for at, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)}
_DAYS = {name: at for at, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS = (_Range(0, 59, {}), _Range(0, 23, {}), _Range(1, 31, {}), _Range(1, 12, _MONTHS), _Range(0, 6, _DAYS))
_WORDS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_DURATION = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+\Z|[-+]?0\Z")
_NUMBER = re.compile(r"[-+]?[0-9]+\Z")


def complaint(schedule: str) -> str:
    """Return what is wrong with a schedule, "" if nothing is. A leading TZ= or CRON_TZ= is skipped unread."""
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        schedule = schedule.partition(" ")[2].strip()
    if schedule.startswith("@"):
        return _word(schedule)
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        return f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: [{' '.join(fields)}]"
    try:
        for text, limits in zip(fields, _FIELDS, strict=True):
            for part in filter(None, text.split(",")):
                _check(part, limits)
    except ValueError as error:
        return str(error)
    return ""


def _word(text: str) -> str:
    if text in _WORDS:
        return ""
    if not text.startswith("@every "):
        return f"unrecognized descriptor: {text}"
    length = text.removeprefix("@every ")
    return "" if _DURATION.match(length) else \
        f'failed to parse duration {text}: time: invalid duration "{length}"'


def _check(text: str, limits: _Range) -> None:
    """Check one part of a field: `*`, `?`, a number or a range of two, each with a step behind a slash.

    Raises:
        ValueError: it is none of them.
    """
    numbers, slash, step = text.partition("/")
    low, hyphen, high = numbers.partition("-")
    if low in ("*", "?"):
        begin, end = limits.low, limits.high
    else:
        begin = _number(low, limits.names)
        if "-" in high:
            raise ValueError(f"too many hyphens: {text}")
        end = _number(high, limits.names) if hyphen else limits.high if slash else begin
    if "/" in step:
        raise ValueError(f"too many slashes: {text}")
    stride = _number(step, {}) if slash else 1
    if begin < limits.low:
        raise ValueError(f"beginning of range ({begin}) below minimum ({limits.low}): {text}")
    if end > limits.high:
        raise ValueError(f"end of range ({end}) above maximum ({limits.high}): {text}")
    if begin > end:
        raise ValueError(f"beginning of range ({begin}) beyond end of range ({end}): {text}")
    if not stride:
        raise ValueError(f"step of range should be a positive number: {text}")


def _number(text: str, names: Mapping[str, int]) -> int:
    if (named := names.get(text.lower())) is not None:
        return named
    if not _NUMBER.match(text):
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 0:
        raise ValueError(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)
