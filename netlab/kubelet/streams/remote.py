"""One exec or attach, whatever carries it: bytes to stdin, from stdout and stderr, sizes of a terminal, and the end.

Protocol v4 and v5 of https://github.com/kubernetes/kubernetes/tree/master/staging/src/k8s.io/apimachinery/pkg/util/remotecommand
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from enum import IntEnum
from typing import Protocol

from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.kubelet.streams import fds
from netlab.runtime.shimclient import Streams

log = logging.getLogger(__name__)


class Channel(IntEnum):
    """The streams of a conversation, by their numbers on WebSocket."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4


class Carrier(Protocol):
    """What carries a conversation. After `receive` has returned None the client is gone."""

    async def receive(self) -> tuple[Channel, bytes | None] | None:
        """Return the next (channel, data) from the client; data None is the end of that channel."""

    async def send(self, channel: Channel, data: bytes) -> None:
        """Send data on a channel; waits when the client is slow. Raises ConnectionError when it is gone."""

    async def finish(self, status: Object) -> None:
        """Send the end's Status, and close."""


def success() -> Object:
    """Return the Status of a command that ended with 0."""
    return {"metadata": {}, "status": "Success"}


def exited(code: int) -> Object:
    """Return the Status of a command that ended with another code."""
    return {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]}}


def failed(message: str) -> Object:
    """Return the Status of a command that could not be run."""
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500}


async def converse(streams: Streams, carrier: Carrier, *, attached: bool = False) -> None:
    """Carry everything between a container's streams and a client until one of them ends.

    Args:
        streams: of an exec or attach; closed at the end.
        carrier: the client.
        attached: the process is not ours: its exit code is nobody's result.
    """
    for fd in (streams.stdin, streams.stdout, streams.stderr):
        if fd >= 0:
            os.set_blocking(fd, False)
    inward = asyncio.create_task(_inward(streams, carrier), name="from the client")
    outward = asyncio.create_task(_outward(streams, carrier, attached=attached), name="to the client")
    try:
        await asyncio.wait({inward, outward}, return_when=asyncio.FIRST_COMPLETED)
        if not outward.done():  # the client went away: the process keeps running, as upstream's
            outward.cancel()
        await asyncio.gather(outward, return_exceptions=True)
        if not outward.cancelled() and outward.exception() is None:
            await carrier.finish(outward.result())
    except ConnectionError as error:
        log.debug("the client of an exec went away: %s", error)
    finally:
        for task in (inward, outward):
            task.cancel()
        await asyncio.gather(inward, outward, return_exceptions=True)
        streams.close()


async def _inward(streams: Streams, carrier: Carrier) -> None:
    """Write what the client sends; returns when the client has gone."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(64)
    writer = asyncio.create_task(_stdin(streams, queue), name="stdin")
    try:
        while (received := await carrier.receive()) is not None:
            channel, data = received
            if channel is Channel.STDIN:
                await queue.put(data)
            elif channel is Channel.RESIZE and data:
                await _resize(streams, data)
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def _stdin(streams: Streams, queue: asyncio.Queue[bytes | None]) -> None:
    broken = streams.stdin < 0
    while True:
        data = await queue.get()
        if data is None:
            if streams.stdin >= 0 and not streams.tty:
                os.close(streams.stdin)
                streams.stdin = -1
            broken = True
        elif not broken:
            try:
                await fds.write(streams.stdin, data)
            except (BrokenPipeError, OSError):
                broken = True  # what comes is swallowed, as a shell's pipe into a closed program


async def _resize(streams: Streams, data: bytes) -> None:
    for line in data.splitlines():
        try:
            size = json.loads(line)
            await streams.resize(int(size["Width"]), int(size["Height"]))
        except (ValueError, KeyError, TypeError, NetlabError) as error:
            log.debug("a terminal size that can't be set: %s", error)


async def _outward(streams: Streams, carrier: Carrier, *, attached: bool) -> Object:
    """Send all output, then return the Status of the end."""
    async def pump(fd: int, channel: Channel) -> None:
        while data := await fds.read(fd):
            await carrier.send(channel, data)

    await asyncio.gather(*(pump(fd, channel) for fd, channel in ((streams.stdout, Channel.STDOUT),
                                                                 (streams.stderr, Channel.STDERR)) if fd >= 0))
    try:
        code = await streams.wait()
    except NetlabError as error:
        return success() if attached else failed(str(error))
    return success() if attached or code == 0 else exited(code)
