"""What the client does to connections: sockets that notice when nobody is there, and streams cut into lines."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

from netlab.imports import without_system_roots

with without_system_roots():
    import aiohttp


def watchful_socket(info: tuple[Any, ...]) -> socket.socket:
    """Make a socket that notices within half a minute that the other node is gone."""
    family, kind, protocol = info[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
    return made


async def lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Cut a stream into lines of any length (aiohttp's own readline has a limit)."""
    parts: list[bytes] = []
    async for chunk in stream.iter_any():
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for other in others:
            line = b"".join(parts)
            if line.strip():
                yield line
            parts = [other]
    if b"".join(parts).strip():
        raise aiohttp.ClientPayloadError("the stream ended in the middle of an event")
