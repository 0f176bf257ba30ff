"""The plugin forward: hand questions to other servers, as bytes, and their answers back."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from netlab.dns.chain import Next, within
from netlab.dns.message import Reply, Request, read_reply
from netlab.errors import TemporaryError

_READ_SECONDS: Final = 2.0
_TOTAL_SECONDS: Final = 5.0
_REST_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Config:
    """The options. `upstreams` are (address, port); `zones` what is handed on, `exceptions` what is not."""

    zones: tuple[str, ...]
    upstreams: tuple[tuple[str, int], ...]
    exceptions: tuple[str, ...] = ()
    force_tcp: bool = False
    prefer_udp: bool = False
    policy: str = "random"
    max_concurrent: int = 0


class Forward:
    """Asks one upstream after the other until one answers; one that does not is left alone for a moment."""

    name = "forward"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._resting: dict[tuple[str, int], float] = {}
        self._turn = 0
        self._open = 0

    async def serve(self, request: Request, following: Next) -> Reply:
        """Ask the upstreams for names of our zones.

        Raises:
            TemporaryError: none answered, or there are none.
        """
        config = self._config
        if not any(within(request.name, zone) for zone in config.zones) \
                or any(within(request.name, zone) for zone in config.exceptions):
            return await following(request)
        if not config.upstreams:
            raise TemporaryError("there is no upstream name server to ask")
        if config.max_concurrent and self._open >= config.max_concurrent:
            raise TemporaryError(f"concurrent queries exceeded maximum {config.max_concurrent}")
        self._open += 1
        try:
            async with asyncio.timeout(_TOTAL_SECONDS):
                return await self._ask_all(request)
        except TimeoutError:
            raise TemporaryError("no upstream name server answered in time") from None
        finally:
            self._open -= 1

    async def _ask_all(self, request: Request) -> Reply:
        trouble = "no upstream name server answered"
        for upstream in self._order():
            try:
                reply = await self._ask(upstream, request)
                self._resting.pop(upstream, None)
                return reply
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                self._resting[upstream] = asyncio.get_running_loop().time() + _REST_SECONDS
                said = "i/o timeout" if isinstance(error, TimeoutError) else str(error)
                trouble = f"{upstream[0]}:{upstream[1]}: {said}"
        raise TemporaryError(trouble)

    def _order(self) -> Sequence[tuple[str, int]]:
        """Return the upstreams by policy, those that rest at the end."""
        listed = list(self._config.upstreams)
        if self._config.policy == "random":
            random.shuffle(listed)
        elif self._config.policy == "round_robin":
            self._turn = (self._turn + 1) % len(listed)
            listed = listed[self._turn:] + listed[:self._turn]
        now = asyncio.get_running_loop().time()
        return sorted(listed, key=lambda one: self._resting.get(one, 0.0) > now)

    async def _ask(self, upstream: tuple[str, int], request: Request) -> Reply:
        question = random.randbytes(2) + request.raw[2:]
        tcp = self._config.force_tcp or (request.tcp and not self._config.prefer_udp)
        async with asyncio.timeout(_READ_SECONDS):
            answer = await (_tcp if tcp else _udp)(upstream, question)
        reply = read_reply(answer)
        if reply.truncated and request.tcp and not tcp:
            async with asyncio.timeout(_READ_SECONDS):
                reply = read_reply(await _tcp(upstream, question))
        return reply


async def _udp(upstream: tuple[str, int], question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in upstream[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:  # a socket, and so a source port, for each question
        one.setblocking(False)
        await loop.sock_connect(one, upstream)
        await loop.sock_sendall(one, question)
        while True:
            answer = await loop.sock_recv(one, 65535)
            if len(answer) >= 12 and answer[:2] == question[:2] and answer[2] & 0x80:
                return answer  # anything else is a stray, or somebody's guess


async def _tcp(upstream: tuple[str, int], question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*upstream)
    try:
        writer.write(len(question).to_bytes(2, "big") + question)
        await writer.drain()
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = await reader.readexactly(size)
    finally:
        writer.close()
    if answer[:2] != question[:2]:
        raise ValueError("an answer to another question")
    return answer
