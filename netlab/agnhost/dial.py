"""Speaking to other servers: one TCP, UDP or HTTP question and its answer."""

from __future__ import annotations

import asyncio
import os
import socket


async def tcp(host: str, port: int, request: bytes, timeout: float, *, until_closed: bool = True) -> bytes:
    """Connect, send, and return what comes back until the other side closes (or, without `until_closed`, at once)."""
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read(-1 if until_closed else 1 << 16)
        finally:
            writer.close()


async def udp(host: str, port: int, request: bytes, timeout: float) -> bytes:
    """Send one datagram and return the answer."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    with socket.socket(found[0][0], socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        await loop.sock_connect(one, found[0][4])
        async with asyncio.timeout(timeout):
            await loop.sock_sendall(one, request)
            return await loop.sock_recv(one, 1 << 16)


async def http(host: str, port: int, path: str, timeout: float) -> str:
    """Return the body of a GET of `/path` on a connection of its own."""
    import aiohttp

    from netlab.agnhost.sockets import join
    limit = aiohttp.ClientTimeout(total=timeout)
    async with aiohttp.ClientSession(timeout=limit, connector=aiohttp.TCPConnector(force_close=True)) as session:
        async with session.get(f"http://{join(host, port)}/{path.lstrip('/')}") as response:
            return await response.text()


def reason(error: BaseException) -> str:
    """Say in few words why a question failed."""
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    cause = getattr(error, "os_error", None) or error
    number = getattr(cause, "errno", None)
    if isinstance(number, int) and number > 0 and not isinstance(cause, socket.gaierror):
        return os.strerror(number).lower()  # asyncio's own text names the address once more
    return getattr(cause, "strerror", None) or str(error) or type(error).__name__
