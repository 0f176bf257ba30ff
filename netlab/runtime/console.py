"""What crictl and docker in a node's shell have in common: names to ids, tables, logs, and commands in containers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from netlab.errors import NetlabError, NotFound, UsageError
from netlab.runtime.cri import Container, Sandbox
from netlab.runtime.nodespec import SHIM_SOCKET
from netlab.runtime.shimclient import ShimClient, Streams

_POLL_SECONDS = 0.2

Command = Callable[[ShimClient, argparse.Namespace], Awaitable[int]]


def main(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Parse, run the chosen command (an async function in `run`), and say what went wrong in one line."""
    args = parser.parse_args(argv)

    async def body() -> int:
        async with ShimClient(SHIM_SOCKET) as client:
            command: Command = args.run
            return await command(client, args)

    try:
        return asyncio.run(body())
    except NetlabError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


def find(items: Sequence[Any], wanted: str, names: Callable[[Any], str] | None = None) -> Any:
    """Return the one item whose id begins with, or whose name is, `wanted`.

    Raises:
        NotFound: none.
        UsageError: several.
    """
    found = [item for item in items if item.id.startswith(wanted) or (names and names(item) == wanted)]
    if not found:
        raise NotFound(f"no such container: {wanted}")
    if len(found) > 1:
        raise UsageError(f"{wanted} means {len(found)} of them; give more of the id")
    return found[0]


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, the first being the heads."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def age(nanoseconds: int, now: float | None = None) -> str:
    """Return how long ago a time (nanoseconds since the epoch) was, as docker says it."""
    seconds = int((time.time() if now is None else now) - nanoseconds / 1e9)
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {word}{'s' if count > 1 else ''}"
    return f"{max(seconds, 0)} second{'s' if seconds != 1 else ''}"


def size(count: int, *, builtin: bool = False) -> str:
    """Return bytes as docker writes them."""
    if builtin:
        return "0B"
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}GB"


def split_image(text: str) -> tuple[str, str]:
    """Return (repository, tag) of a full image name."""
    head, _, tag = text.rpartition(":")
    return (head, tag) if head and "/" not in tag else (text, "<none>")


async def pods_first(client: ShimClient) -> list[tuple[Sandbox, list[Container]]]:
    """Return every sandbox with its containers, oldest first."""
    containers = await client.list_containers()
    return [(sandbox, [c for c in containers if c.sandbox_id == sandbox.id])
            for sandbox in await client.list_pod_sandboxes()]


async def show_log(container: Container, *, follow: bool, tail: int | None, timestamps: bool,
                   running: Callable[[], Awaitable[bool]]) -> int:
    """Print a container's log, stdout to stdout and stderr to stderr; `tail` None is all of it."""
    path = Path(container.log_path)
    if not container.log_path or not path.exists():
        raise NotFound(f"container {container.name} has no log")
    with path.open(errors="replace") as file:
        lines = file.readlines()
        for line in lines if tail is None else lines[max(0, len(lines) - tail):]:
            _show(line, timestamps=timestamps)
        while follow:
            if line := file.readline():
                _show(line, timestamps=timestamps)
            elif await running():
                await asyncio.sleep(_POLL_SECONDS)
            else:
                break
    return 0


def _show(line: str, *, timestamps: bool) -> None:
    stamp, _, rest = line.rstrip("\n").partition(" ")
    stream, _, rest = rest.partition(" ")
    part, _, text = rest.partition(" ")
    print((f"{stamp} " if timestamps else "") + text, end="" if part == "P" else "\n",
          file=sys.stderr if stream == "stderr" else sys.stdout, flush=True)


async def execute(client: ShimClient, container: str, argv: Sequence[str], *, interactive: bool,
                  terminal: bool) -> int:
    """Run a command in a container with our own streams and return its exit code."""
    if terminal and not (os.isatty(0) and os.isatty(1)):
        raise UsageError("the input device is not a TTY")
    width, height = shutil.get_terminal_size()
    streams = await client.exec(container, argv, tty=terminal, stdin=interactive, width=width, height=height)
    loop = asyncio.get_running_loop()
    with _raw() if terminal else contextlib.nullcontext():
        if terminal:
            tasks: set[asyncio.Task[None]] = set()
            loop.add_signal_handler(signal.SIGWINCH, lambda: tasks.add(
                loop.create_task(streams.resize(*shutil.get_terminal_size()))))
        feeding = loop.create_task(_feed(streams)) if interactive else None
        outputs = [loop.create_task(_copy(fd, to)) for fd, to in ((streams.stdout, 1), (streams.stderr, 2)) if fd >= 0]
        code = await streams.wait()
        await asyncio.wait(outputs, timeout=1)
        if feeding is not None:
            feeding.cancel()
    streams.close()
    return code


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


async def _feed(streams: Streams) -> None:
    await _copy(0, streams.stdin)
    if not streams.tty:
        os.close(streams.stdin)
        streams.stdin = -1


async def _copy(source: int, target: int) -> None:
    """Copy until the end of `source`. Waits for what comes; the target is this terminal or a pipe."""
    with contextlib.suppress(OSError):  # EIO: the terminal's other side is closed
        while True:
            await _readable(source)
            data = os.read(source, 1 << 16)
            if not data:
                return
            while data:
                data = data[os.write(target, data):]


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def is_ready() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(fd, is_ready)
    except PermissionError:  # a plain file always is
        return
    try:
        await ready
    finally:
        loop.remove_reader(fd)
