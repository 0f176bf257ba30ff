"""How every long-running program of netlab starts and stops: one event loop, ended by SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from asyncio import sslproto
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from netlab.errors import NetlabError
from netlab.handshake import TlsProtocol

log = logging.getLogger(__name__)

_THRIFT_SECONDS = 2.0
_TRIM_BYTES = 2 << 20
_COLLECT_BYTES = 8 << 20
"""What a process has to grow by for it to be worth a millisecond (to trim), or tens of them (to look for garbage)."""
SILENCE: tuple[int, int, int] = (30, 10, 3)
"""Seconds of silence before the other end of a connection is asked for a sign, seconds between questions, how many."""


def run(main: Callable[[asyncio.Event], Awaitable[int | None]]) -> int:
    """Run `main(stop)` in a new event loop until it returns. Returns the exit code (None counts as 0).

    `stop` is set by SIGTERM and SIGINT; `main` then has to come to its end by itself (Kubernetes waits the Pod's
    grace period before SIGKILL). An error of ours is logged as one line and gives 1; any other exception is a bug
    and is logged with its traceback.
    """
    sslproto.SSLProtocol = TlsProtocol  # type: ignore[misc]

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


async def thrifty() -> None:
    """Now and then give the kernel back what a burst has left free, until cancelled.

    malloc keeps it: a thousand connections that have ended are 30 MB that lie between what is still in use.
    """
    trim = None
    kept = collected = _resident()
    while True:
        await asyncio.sleep(_THRIFT_SECONDS)
        if (now := _resident()) > kept + _TRIM_BYTES:
            if trim is None:
                import ctypes  # where a program has no burst, it does without

                trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)  # glibc's
            if now > collected + _COLLECT_BYTES:
                gc.collect()
            trim(0)
            kept = _resident()
            collected = kept if now > collected + _COLLECT_BYTES else min(collected, kept)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def listen_host(text: str) -> str | None:
    """Return a bind address as asyncio wants it: None, every address of both families, for the wildcard of either.

    So does Go's net.Listen: 0.0.0.0 is heard on IPv6 too, unless the network is called tcp4.
    """
    host = text.strip("[]")
    return None if host in ("", "0.0.0.0", "::") else host


def watchful(sock: Any) -> None:
    """Let a socket, and every connection that it accepts, end when the other end is gone without a word.

    A machine that lost its power or its cable sends no FIN; the kernel's own two hours would keep whatever waits for
    it, followed logs and watches, and what these wait for in turn. A peer that only takes nothing is not gone.
    """
    idle, interval, count = SILENCE
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


def watchful_socket(info: tuple[Any, ...]) -> socket.socket:
    """Return a new socket for one of getaddrinfo's rows, as aiohttp asks for them."""
    made = socket.socket(*info[:3])
    watchful(made)
    return made


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
