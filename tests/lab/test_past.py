"""Objects as they were, and what is said of a past that is compacted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netlab.errors import ApiError, NotFound
from netlab.lab import past


class Kept:
    """Two verbs of a client whose server keeps the revisions from `oldest` to `newest`."""

    def __init__(self, oldest: int, newest: int) -> None:
        self.oldest, self.newest, self.asked = oldest, newest, 0

    async def list(self, _resource: str, *, revision: str = "", exact: bool = False) -> tuple[list[Any], str]:
        self.asked += 1
        if exact and int(revision) < self.oldest:
            raise ApiError(410, "Expired", f"The resourceVersion for the provided list is too old: {revision}")
        if exact and int(revision) > self.newest:
            raise ApiError(504, "Timeout", "Too large resource version")
        return [{"metadata": {"name": "x"}}], revision or str(self.newest)


@pytest.mark.parametrize("oldest", [2, 40, 999, 1000])
def test_a_compacted_revision_is_refused_with_the_oldest_that_is_kept(oldest: int) -> None:
    kept = Kept(oldest, 1000)
    with pytest.raises(NotFound, match=f"revision 1 is compacted: the oldest that is kept is {oldest}$"):
        asyncio.run(past.objects(kept, "1"))  # type: ignore[arg-type]
    assert kept.asked < 20


def test_a_kept_revision_is_told_and_one_to_come_refused() -> None:
    found = asyncio.run(past.objects(Kept(10, 1000), "10"))  # type: ignore[arg-type]
    assert {each["kind"] for each in found} == {"Service", "EndpointSlice", "Node", "Pod"}
    with pytest.raises(NotFound, match="revision 2000"):
        asyncio.run(past.objects(Kept(10, 1000), "2000"))  # type: ignore[arg-type]
