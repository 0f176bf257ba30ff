"""Running a command in a place with this process's own standard streams: pipes stay pipes, a terminal a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import termios
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence

from netlab.errors import NetnsGone, NotFound
from netlab.kernel import libc
from netlab.lab.places import Place, Places, enter_lab
from netlab.lab.state import LabRecord
from netlab.runtime.shimclient import ShimClient, Streams

_CHUNK = 1 << 16


def run(lab: LabRecord, text: str, argv: Sequence[str], *, tty_wanted: bool, env: Mapping[str, str]) -> int:
    """Run a command in a place to its end and return its exit code (128+n when signal n ended it).

    Args:
        text: the place, e.g. `pod/client`.
        tty_wanted: give it a terminal if we have one on both standard input and output.
        env: variables beside those that the place has by itself.
    """
    interactive = tty_wanted and os.isatty(0) and os.isatty(1)
    places = Places(lab)
    place = asyncio.run(places.resolve(text))
    if place.node:
        return asyncio.run(_in_shim(places, place, argv, interactive=interactive, env=env))
    return _in_netns(lab, place, argv, env)


def shell_argv(place: str) -> list[str]:
    """Return the command of an interactive shell there: bash if the place has it."""
    if place in ("outside", "fabric"):
        return ["bash", "--norc"] if shutil.which("bash") else ["sh"]
    return ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash --norc; else exec sh; fi"]


def _in_netns(lab: LabRecord, place: Place, argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Become the command: in another network, and nothing else changed."""
    (namespace,) = Places(lab).own(place.name)
    enter_lab(lab)
    try:
        libc.setns(namespace.fd, libc.CLONE_NEWNET)
    except OSError as error:
        raise NetnsGone(f"cannot enter {place.name}: {error.strerror}", errno=error.errno or 0) from None
    try:
        os.execvpe(argv[0], list(argv), {**os.environ, **env})
    except OSError as error:
        raise NotFound(f"cannot run {argv[0]}: {error.strerror}") from None


async def _in_shim(places: Places, place: Place, argv: Sequence[str], *, interactive: bool,
                   env: Mapping[str, str]) -> int:
    width, height = shutil.get_terminal_size()
    given = {**env, "TERM": os.environ.get("TERM", "xterm")} if interactive else dict(env)
    async with ShimClient(places.shim(place.node)) as shim:
        streams = await shim.exec(place.target, list(argv), tty=interactive, stdin=True, env=given, width=width,
                                  height=height)
        loop = asyncio.get_running_loop()
        with _raw_terminal() if interactive else contextlib.nullcontext():
            resizes: set[asyncio.Task[None]] = set()

            def resized() -> None:
                task = loop.create_task(streams.resize(*shutil.get_terminal_size()))
                resizes.add(task)
                task.add_done_callback(resizes.discard)

            if interactive:
                loop.add_signal_handler(signal.SIGWINCH, resized)
            feeding = asyncio.create_task(_feed(streams, interactive=interactive))
            outputs = [_copy(streams.stdout, 1)]
            if streams.stderr >= 0:
                outputs.append(_copy(streams.stderr, 2))
            ending = asyncio.create_task(streams.wait())
            await asyncio.gather(*outputs)
            code = await ending
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        streams.close()
        return code


async def _feed(streams: Streams, *, interactive: bool) -> None:
    """Copy our standard input to the command; its end is passed on, but not into a terminal."""
    target = streams.stdin
    await _copy(0, target)
    if not interactive:
        streams.stdin = -1
        os.close(target)


async def _copy(source: int, target: int) -> None:
    """Copy until the end. A reader that is gone ends it too."""
    while True:
        await _ready(source, write=False)
        try:
            data = memoryview(os.read(source, _CHUNK))
        except BlockingIOError:
            continue
        except OSError:  # EIO: a terminal whose last process has ended
            return
        if not data:
            return
        while data:
            try:
                data = data[os.write(target, data):]
            except BlockingIOError:
                await _ready(target, write=True)
            except OSError:
                return


async def _ready(fd: int, *, write: bool) -> None:
    """Wait until a descriptor can be read or written; a regular file always can."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add: Callable[..., None] = loop.add_writer if write else loop.add_reader
    try:
        add(fd, _resolve, future)
    except OSError:  # epoll takes no regular files
        await asyncio.sleep(0)
        return
    try:
        await future
    finally:
        (loop.remove_writer if write else loop.remove_reader)(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Pass every key on as it is; what the terminal was set to comes back at the end."""
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead stays
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
