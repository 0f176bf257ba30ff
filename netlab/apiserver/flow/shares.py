"""How many seats each priority level has: by its shares, and by what others lend it. Pure.

k8s:staging/src/k8s.io/apiserver/pkg/util/flowcontrol (apf_controller.go, conc_alloc.go)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from netlab.api.meta import Object

_DEFAULT_SHARES = 30
_SMOOTH = 0.977
_LEAST = 0.001
_ROUNDS = 60


class Limits(NamedTuple):
    """Seats of a level: by its shares, with all that may be lent lent, with all that may be borrowed borrowed."""

    nominal: int
    lower: int
    upper: int

    @property
    def first(self) -> int:
        """Return what a level begins with: half of what may be lent is."""
        return self.nominal - (self.nominal - self.lower) // 2


class Item(NamedTuple):
    """What a level must get, may get, and would like to have."""

    lower: float
    upper: float
    target: float


def limits(levels: Mapping[str, Object], total: int) -> dict[str, Limits]:
    """Return the limits of levels by name, of their specs; `total`: seats of the server."""
    parts = {name: spec.get("exempt") or {} if spec.get("type") == "Exempt" else spec.get("limited") or {}
             for name, spec in levels.items()}
    shares = {name: _or(part.get("nominalConcurrencyShares"), 0 if levels[name].get("type") == "Exempt"
                        else _DEFAULT_SHARES) for name, part in parts.items()}
    whole = sum(shares.values())
    found: dict[str, Limits] = {}
    for name, part in parts.items():
        nominal = math.ceil(total * shares[name] / whole) if whole else 0
        lendable = round(nominal * _or(part.get("lendablePercent"), 0) / 100)
        borrowing = part.get("borrowingLimitPercent")
        more = total if borrowing is None else round(nominal * borrowing / 100)
        found[name] = Limits(nominal, nominal - lendable, nominal + more)
    return found


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def smoothed(before: float, average: float, deviation: float) -> float:
    """Return the demand that counts: it rises at once and falls slowly."""
    envelope = average + deviation
    return max(envelope, _SMOOTH * before + (1 - _SMOOTH) * envelope)


def lend(total: float, items: Sequence[Item]) -> list[float]:
    """Return the seats of each: its target times one factor for all, within its bounds, so that they add up."""
    lowest, highest = sum(item.lower for item in items), sum(item.upper for item in items)
    if total <= lowest:
        return [item.lower * total / lowest if lowest else 0.0 for item in items]
    if total >= highest:
        return [item.upper for item in items]
    low, high = 0.0, max(item.upper / max(item.target, _LEAST) for item in items)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if sum(_bounded(item, middle) for item in items) < total:
            low = middle
        else:
            high = middle
    return [_bounded(item, high) for item in items]


def _bounded(item: Item, factor: float) -> float:
    return min(item.upper, max(item.lower, max(item.target, _LEAST) * factor))
