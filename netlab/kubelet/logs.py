"""Read a container's log (CRI format) as `kubectl logs` wants it: the end of it, since a time, or as it grows.

Each line of the file is `TIME STREAM TAGS TEXT`; tag P says that the text goes on in the next line
(k8s:pkg/kubelet/kuberuntime/logs/logs.go).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from netlab.kernel.inotify import GROWTH, Inotify

_BLOCK = 1 << 16
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Wish:
    """What part of a log is wanted, as core/v1 PodLogOptions. `since` is Unix seconds; `tail`, `limit` -1 for all."""

    follow: bool = False
    tail: int = -1
    since: float = 0.0
    timestamps: bool = False
    limit: int = -1
    stream: str = "All"


async def read(path: Path, wish: Wish, alive: Callable[[], bool], inotify: Inotify) -> AsyncGenerator[bytes]:
    """Yield the log's text in pieces.

    Args:
        path: the file.
        wish: which part of it.
        alive: tells whether the container may still write; following ends with it.
        inotify: tells of growth.
    """
    left = wish.limit
    async with contextlib.aclosing(_blocks(path, wish, alive, inotify)) as blocks:
        async for block in blocks:
            piece = b"".join(shown for line in block.splitlines(keepends=True) if (shown := _shown(line, wish)))
            if wish.limit >= 0:
                piece, left = piece[:left], left - len(piece)
            if piece:
                yield piece
            if wish.limit >= 0 and left <= 0:
                return


async def _blocks(path: Path, wish: Wish, alive: Callable[[], bool], inotify: Inotify) -> AsyncGenerator[bytes]:
    """Yield the file from where the wish begins, in pieces that end with whole lines."""
    grown = asyncio.Event()
    file: BinaryIO = path.open("rb")
    end = inotify.watch(path, grown.set, GROWTH) if wish.follow else _nothing
    try:
        if wish.tail >= 0:
            file.seek(tail_offset(file, wish.tail))
        rest = b""
        last = False
        while True:
            grown.clear()
            was_alive = alive()
            data = file.read(_BLOCK)
            if data:
                whole, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    yield whole + newline
                continue
            if not wish.follow or last:
                break
            fresh = _replaced(path, file)
            if fresh is not None:
                file.close()
                end()
                file, end = fresh, inotify.watch(path, grown.set, GROWTH)
                continue
            if not was_alive:
                last = True  # one more look: the last lines may have come while we asked
                await asyncio.sleep(0.02)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await grown.wait()
        if rest:
            yield rest
    finally:
        end()
        file.close()


def tail_offset(file: BinaryIO, lines: int) -> int:
    """Return where the last `lines` lines of a file begin."""
    size = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return size
    at, found = size, 0
    while at > 0:
        start = max(0, at - _BLOCK)
        file.seek(start)
        block = file.read(at - start)
        position = len(block) - (1 if at == size and block.endswith(b"\n") else 0)
        while (position := block.rfind(b"\n", 0, position)) >= 0:
            found += 1
            if found == lines:
                return start + position + 1
        at = start
    return 0


def _shown(line: bytes, wish: Wish) -> bytes:
    """Return what a line of the file shows, b"" when it is not wanted."""
    words = line.split(b" ", 3)
    if len(words) < 4:
        return b""
    at, stream, tags, text = words
    if wish.stream not in ("All", "") and stream != wish.stream.lower().encode():
        return b""
    if wish.since and _time(at) < wish.since:
        return b""
    if tags.split(b":", 1)[0] == b"P":
        text = text.removesuffix(b"\n")
    return at + b" " + text if wish.timestamps else text


def _time(text: bytes) -> float:
    """Return Unix seconds; nanoseconds are cut to what Python's clock has."""
    head, dot, rest = text.decode(errors="replace").partition(".")
    digits = rest.rstrip("Z").partition("+")[0]
    try:
        whole = datetime.fromisoformat((head if dot else head.removesuffix("Z")) + "+00:00").timestamp()
        return whole + (float(f"0.{digits}") if dot and digits.isdigit() else 0.0)
    except ValueError:
        return 0.0


def _replaced(path: Path, file: BinaryIO) -> BinaryIO | None:
    """Open the file anew if it was put aside, as rotation does."""
    try:
        info = path.stat()
    except OSError:
        return None
    return path.open("rb") if info.st_ino != os.fstat(file.fileno()).st_ino else None


def _nothing() -> None:
    """End a watch that there is none of."""
