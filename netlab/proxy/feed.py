"""What is made part by part on the event loop's thread while another thread gives it to the kernel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


async def feed(parts: AsyncIterator[T], work: Callable[[Iterator[T]], None]) -> None:
    """Let `work` take parts in a thread as they come to be. Between two of them others have a turn on the loop.

    An error while they are made is raised in the thread as well, so that no half of a text is taken. When `work` fails,
    the parts are made to their end first: what they were made from is then known to be worked out.
    """
    made: SimpleQueue[T | BaseException | None] = SimpleQueue()
    working = asyncio.create_task(asyncio.to_thread(work, _taken(made)))
    try:
        async for part in parts:
            made.put(part)
            _give_way()
            await asyncio.sleep(0)
    except BaseException as error:
        made.put(error)
        await asyncio.gather(working, return_exceptions=True)
        raise
    made.put(None)
    await working


def _give_way() -> None:
    """Let the thread take a part: it waits for Python's lock, which this one else holds until another asks for it."""
    time.sleep(5e-5)


def _taken(made: SimpleQueue[T | BaseException | None]) -> Iterator[T]:
    while (part := made.get()) is not None:
        if isinstance(part, BaseException):
            raise part
        yield part
