"""Random comparisons for long: bounded in time, by seeds that can be given again, and each difference is told.

    NETLAB_SEEDS="1 2 3" NETLAB_SEED_SECONDS=500 pytest -m soak -s tests/trace/test_agree.py -k 'for_long and ip6tables-nft'

Without NETLAB_SEEDS one is drawn; it is printed, with what was compared. What differs does not end the run.
"""

from __future__ import annotations

import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

TALLY: Counter[str] = Counter()
"""How many packets agreed with their prediction, or what else came of it."""

_ROUND = 20
"""Worlds between two looks at the clock: hypothesis begins a new draw for each round."""


def seeds() -> Sequence[int]:
    return [int(each) for each in os.environ.get("NETLAB_SEEDS", "").split()] or [random.randrange(1_000_000)]


def for_long(name: str, check: Callable[..., None], **worlds: st.SearchStrategy[Any]) -> None:
    """Check random worlds until each seed's time is over, and fail with every difference that was found."""
    seconds, wrong = float(os.environ.get("NETLAB_SEED_SECONDS", "60")), []
    for number in seeds():
        TALLY.clear()
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end:
            _round(check, end, f"{number}.{turn}", wrong, worlds)
            turn += 1
        print(f"\n{name}, seed {number}: {dict(TALLY)}, {len(wrong)} differences so far", flush=True)
    assert not wrong, "\n\n".join(wrong)


def _round(check: Callable[..., None], end: float, number: str, wrong: list[str],
           worlds: dict[str, st.SearchStrategy[Any]]) -> None:
    @seed(number)
    @settings(max_examples=_ROUND, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(**worlds)
    def compared(**world: Any) -> None:
        if time.monotonic() > end:
            return
        TALLY["worlds"] += 1
        try:
            check(**world)
        except AssertionError:
            TALLY["differences"] += 1
            wrong.append(f"{number}: {world}\n{traceback.format_exc(limit=-1)}")
            print(wrong[-1], flush=True)

    compared()
