"""Read and write file descriptors without blocking the event loop."""

from __future__ import annotations

import asyncio
import errno
import os

BLOCK = 1 << 16


async def read(fd: int, size: int = BLOCK) -> bytes:
    """Return what is there, at most `size` bytes, waiting for the first; b"" at the end (a closed terminal, too)."""
    while True:
        try:
            return os.read(fd, size)
        except BlockingIOError:
            await _ready(fd, write=False)
        except OSError as error:
            if error.errno == errno.EIO:  # the last process has closed the other side of a terminal
                return b""
            raise


async def write(fd: int, data: bytes) -> None:
    """Write all of it.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view):]
        except BlockingIOError:
            await _ready(fd, write=True)
        except OSError as error:
            raise BrokenPipeError(error.errno, os.strerror(error.errno or 0)) from error


async def _ready(fd: int, *, write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def done() -> None:
        if not ready.done():
            ready.set_result(None)

    (loop.add_writer if write else loop.add_reader)(fd, done)
    try:
        await ready
    finally:
        (loop.remove_writer if write else loop.remove_reader)(fd)
