"""Counters of two moments as packets and bytes per second. Pure: the time between them is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from netlab.inspect.listing import Row

Place: TypeAlias = tuple[str, str, str, str]
"""A node, a table, a chain and a rule's text."""


@dataclass(frozen=True)
class Rate:
    """What one rule saw in a second, over all nodes that were looked at; totals since its counter began."""

    row: Row
    packets: float
    bytes: float
    total: int


def counters(found: Sequence[tuple[list[str], Row]]) -> dict[tuple[object, ...], Row]:
    """Return the rules that count, by what tells them apart."""
    return {(tuple(nodes), row.table, row.chain, row.text, row.number if not row.about else 0): row
            for nodes, row in found if row.packets is not None}


def between(before: Mapping[tuple[object, ...], Row], after: Mapping[tuple[object, ...], Row], seconds: float,
            ) -> list[Rate]:
    """Return the rates of the rules of the second look; a rule that is new, or whose counter began anew, began at 0."""
    rates = []
    for key, row in after.items():
        old = before.get(key)
        packets, count = row.packets or 0, row.bytes or 0
        was, had = (old.packets or 0, old.bytes or 0) if old is not None else (0, 0)
        if packets < was:
            was = had = 0
        rates.append(Rate(row, (packets - was) / seconds, max(count - had, 0) / seconds, packets))
    return rates
