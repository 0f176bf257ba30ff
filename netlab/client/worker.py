"""Workers over a queue: take a key, bring the world in line with it, try again later if that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from netlab.client.workqueue import QueueClosed, WorkQueue
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)

Key = TypeVar("Key")


async def run_workers(queue: WorkQueue[Key], reconcile: Callable[[Key], Awaitable[float | None]], *,
                      stop: asyncio.Event, workers: int = 4, name: str = "") -> None:
    """Run `reconcile(key)` for the keys of `queue` until `stop` is set, up to `workers` of them at a time.

    What `reconcile` returns, if anything, is the seconds after which the key wants another look. When it raises, the
    key comes back with a growing delay; errors of ours are one line in the log, others are bugs with a traceback.
    What is under way when `stop` is set is cancelled.
    """
    tasks = [asyncio.ensure_future(_work(queue, reconcile, name)) for _ in range(workers)]
    try:
        await stop.wait()
    finally:
        queue.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _work(queue: WorkQueue[Key], reconcile: Callable[[Key], Awaitable[float | None]], name: str) -> None:
    while True:
        try:
            key = await queue.get()
        except QueueClosed:
            return
        try:
            again = await reconcile(key)
        except Exception as error:  # a worker outlives any single key
            delay = queue.add_after_failure(key)
            if isinstance(error, ApiError) and error.reason in ("Conflict", "AlreadyExists"):
                log.debug("%s: %s: %s; again in %.3f s", name, key, error, delay)
            elif isinstance(error, NetlabError):
                log.warning("%s: %s: %s; again in %.3f s", name, key, error, delay)
            else:
                log.exception("%s: %s failed; again in %.3f s", name, key, delay)
        else:
            queue.forget(key)
            if again is not None:
                queue.add_after(key, again)
        finally:
            queue.done(key)
