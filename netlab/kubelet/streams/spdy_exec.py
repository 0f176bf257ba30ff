"""Exec and attach over SPDY: a stream for each of error, stdin, stdout, stderr and resize."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from typing import Self

from netlab.api.meta import Object
from netlab.kubelet.streams.remote import Channel
from netlab.kubelet.streams.spdy import ByteStream, Connection, SpdyStream

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_OPEN_SECONDS = 30.0
_CLOSE_SECONDS = 2.0


class SpdyCarrier:
    """A conversation on one SPDY connection. Use as an async context manager: inside, all streams are open."""

    def __init__(self, below: ByteStream, wanted: Iterable[Channel]) -> None:
        self._wanted = {Channel.ERROR, *wanted}
        self._streams: dict[Channel, SpdyStream] = {}
        self._complete = asyncio.Event()
        self._connection = Connection(below, self._opened)
        self._received: asyncio.Queue[tuple[Channel, bytes | None] | None] = asyncio.Queue(16)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Wait for the streams.

        Raises:
            ConnectionError: the client has not opened all of them in time.
        """
        self._tasks.append(asyncio.create_task(self._run(), name="spdy"))
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._complete.wait()
        except TimeoutError:
            await self.__aexit__()
            missing = ", ".join(c.name.lower() for c in self._wanted - set(self._streams))
            raise ConnectionError(f"the client has not opened its streams in time: {missing}") from None
        for channel in (Channel.STDIN, Channel.RESIZE):
            if channel in self._streams:
                self._tasks.append(asyncio.create_task(self._pass_on(channel), name=f"spdy {channel.name}"))
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def receive(self) -> tuple[Channel, bytes | None] | None:
        """See Carrier."""
        return await self._received.get()

    async def send(self, channel: Channel, data: bytes) -> None:
        """See Carrier."""
        stream = self._streams.get(channel)
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: Object) -> None:
        """See Carrier. The client closes the connection, so that nothing under way is lost."""
        for channel in (Channel.STDOUT, Channel.STDERR):
            if channel in self._streams:
                await self._streams[channel].close()
        error = self._streams[Channel.ERROR]
        await error.write(json.dumps(status).encode())
        await error.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.shield(self._tasks[0])

    def _opened(self, stream: SpdyStream) -> None:
        name = stream.headers.get("streamtype", "").upper()
        if name in Channel.__members__:
            self._streams[Channel[name]] = stream
        if self._wanted <= set(self._streams):
            self._complete.set()

    async def _run(self) -> None:
        try:
            await self._connection.run()
        except ConnectionError:
            return
        finally:
            while self._received.full():
                self._received.get_nowait()
            self._received.put_nowait(None)

    async def _pass_on(self, channel: Channel) -> None:
        stream = self._streams[channel]
        while data := await stream.read():
            await self._received.put((channel, data))
        await self._received.put((channel, None))
