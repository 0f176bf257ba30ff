"""The loop of a capture: taps follow what a source finds, frames go out ten times a second, until something ends it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from netlab.errors import NetlabError, NetnsGone
from netlab.trace.capture import Recorder, Total

TICK: Final = 0.1
SOON: Final = 0.05
"""Seconds until the next look for a namespace that is to come, such as that of a Pod just scheduled."""


@dataclass(frozen=True)
class Found:
    """A namespace to listen in. The descriptor goes to whoever asked."""

    place: str
    fd: int


class Source(Protocol):
    """Finds the namespaces to listen in, again and again."""

    async def look(self) -> tuple[Sequence[Found], bool]:
        """Return what there is now, and whether more is about to come."""

    async def changed(self) -> None:
        """Wait until there is reason to look again."""


async def record(recorder: Recorder, source: Source, stop: asyncio.Event, *, duration: float = 0,
                 began: Callable[[int, Sequence[str]], None] = lambda _places, _absent: None) -> Total:
    """Capture until `stop` is set, `duration` seconds are over (0: no end), or the recorder is full.

    It also ends, without an error, when the source can find nothing any more: the lab is down; `Total.why` says so.
    `began` is told how many places are listened in, once that is so, and which interfaces asked for none of them has.

    Raises:
        NotFound: an interface is asked for by name, and no place has it.
        NetnsGone, OSError: nothing can be listened to; BrokenPipeError: nobody reads what is written.
    """
    loop = asyncio.get_running_loop()
    why = ""
    try:
        more = await _follow_once(recorder, source, loop)
        began(len(recorder.places), recorder.absent())
        follow = asyncio.ensure_future(_follow(recorder, source, loop, soon=more))
        deadline = loop.time() + duration if duration else None
        try:
            while not stop.is_set() and not recorder.full and (deadline is None or loop.time() < deadline):
                left = TICK if deadline is None else min(TICK, max(deadline - loop.time(), 0))
                stopping = asyncio.ensure_future(stop.wait())
                await asyncio.wait({stopping, follow}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                recorder.emit()
                if follow.done():
                    follow.result()
        except NetlabError as error:  # what was caught until then is worth no less
            why = str(error)
        finally:
            follow.cancel()
            await asyncio.gather(follow, return_exceptions=True)
    finally:
        for fd in recorder.descriptors:
            loop.remove_reader(fd)
    return replace(recorder.finish(), why=why)


async def _follow(recorder: Recorder, source: Source, loop: asyncio.AbstractEventLoop, *, soon: bool) -> None:
    while True:
        try:
            async with asyncio.timeout(SOON if soon else None):
                await source.changed()
        except TimeoutError:
            pass
        soon = await _follow_once(recorder, source, loop)


async def _follow_once(recorder: Recorder, source: Source, loop: asyncio.AbstractEventLoop) -> bool:
    """Let the taps be those of the namespaces that are there; returns whether more is about to come."""
    found, soon = await source.look()
    try:
        inodes = {each.place: os.fstat(each.fd).st_ino for each in found}
        for place, inode in list(recorder.places.items()):
            if inodes.get(place) != inode:
                tap = recorder.remove(place)
                loop.remove_reader(tap.fileno())
                tap.close()
        for each in found:
            if each.place not in recorder.places:
                try:
                    added = recorder.add(each.place, each.fd, inodes[each.place])
                except NetnsGone:
                    soon = True
                    continue
                if added is not None:
                    loop.add_reader(added.fileno(), recorder.drain, each.place)
    finally:
        for each in found:
            os.close(each.fd)
    return soon
