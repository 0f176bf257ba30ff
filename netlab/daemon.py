"""How every long-running program of netlab starts and stops: one event loop, ended by SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
from asyncio import sslproto
from collections.abc import Awaitable, Callable

from netlab.errors import NetlabError

log = logging.getLogger(__name__)

_TLS_BUFFER = 32 * 1024
"""Bytes that are set aside, and touched, for each TLS connection: asyncio's 256 KiB are 250 MB for 1,000 watches."""


def run(main: Callable[[asyncio.Event], Awaitable[int | None]]) -> int:
    """Run `main(stop)` in a new event loop until it returns. Returns the exit code (None counts as 0).

    `stop` is set by SIGTERM and SIGINT; `main` then has to come to its end by itself (Kubernetes waits the Pod's
    grace period before SIGKILL). An error of ours is logged as one line and gives 1; any other exception is a bug
    and is logged with its traceback.
    """
    sslproto.SSLProtocol.max_size = _TLS_BUFFER

    async def body() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            return await main(stop) or 0
        except NetlabError as error:
            log.error("%s%s", error, f" ({error.hint})" if error.hint else "")
            return 1

    try:
        return asyncio.run(body())
    except KeyboardInterrupt:
        return 130
    except Exception:
        log.exception("ended by an unexpected error")
        return 1


def listen_host(text: str) -> str | None:
    """Return a bind address as asyncio wants it: None, every address of both families, for the wildcard of either.

    So does Go's net.Listen: 0.0.0.0 is heard on IPv6 too, unless the network is called tcp4.
    """
    host = text.strip("[]")
    return None if host in ("", "0.0.0.0", "::") else host


async def first(*awaitables: Awaitable[object]) -> None:
    """Wait until the first of these ends, cancel the others, and re-raise what the ended ones raised."""
    tasks = [asyncio.ensure_future(a) for a in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
