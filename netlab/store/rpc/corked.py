"""A connection that sends once in a step of the event loop what all calls of this step have to say.

grpclib writes head and body of each message by themselves. Each would be a system call here and a wake-up of the etcd,
and many writers would spend more on these than on what they say.
"""

from __future__ import annotations

import asyncio
from typing import Any

from grpclib.client import Channel
from grpclib.protocol import H2Protocol


class Corked:
    """A transport that gathers what is written until the loop's next step."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send bytes, soon."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Send what waits, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._transport.write(b"".join(waiting))


class CorkedChannel(Channel):
    """A channel whose connection is corked."""

    def _protocol_factory(self) -> H2Protocol:
        return _Protocol(super()._protocol_factory())


class _Protocol(H2Protocol):
    def __init__(self, like: H2Protocol) -> None:
        super().__init__(like.handler, like.config, like.h2_config)

    def connection_made(self, transport: Any) -> None:
        """Begin on this transport."""
        super().connection_made(Corked(transport))  # type: ignore[arg-type]  # has all that is used of one
