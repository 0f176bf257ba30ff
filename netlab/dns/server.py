"""The sockets of one port: UDP and TCP, in front of the chains of its zones.

An answer that stays right until the cluster changes is kept as bytes, by the question's bytes: asked again, only the
id is new.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from netlab.dns.chain import Chain, choose
from netlab.dns.message import REFUSED, SERVFAIL, BadMessage, Reply, Request, pack, parse
from netlab.errors import NetlabError, UsageError

log = logging.getLogger(__name__)

_KEPT: Final = 20_000
_IDLE_SECONDS: Final = 10.0
_BUSY: Final = 5_000
_CONNECTIONS: Final = 1_000


class Server:
    """One port. `chains` may be exchanged while it runs; `generation` tells when kept answers are old."""

    def __init__(self, chains: Sequence[Chain], generation: Callable[[], int]) -> None:
        self.chains = list(chains)
        self._generation = generation
        self._kept: dict[tuple[bool, bytes], bytes] = {}
        self._kept_at = -1
        self._open: list[asyncio.BaseTransport | asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0

    async def start(self, port: int, addresses: Sequence[str] = ()) -> None:
        """Listen on the given addresses, or on all.

        Raises:
            UsageError: the port is taken, or needs a right we lack.
        """
        loop = asyncio.get_running_loop()
        for one in _sockets(port, socket.SOCK_DGRAM, addresses):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), sock=one)
            self._open.append(transport)
        for one in _sockets(port, socket.SOCK_STREAM, addresses):
            self._open.append(await asyncio.start_server(self._tcp, sock=one))

    def close(self) -> None:
        """Stop listening and forget open questions."""
        for item in self._open:
            item.close()
        for task in self._tasks:
            task.cancel()

    def exchange(self, chains: Sequence[Chain]) -> None:
        """Answer by other chains from now on."""
        self.chains = list(chains)
        self._kept.clear()

    async def ask(self, request: Request) -> Reply:
        """Answer a question by the chain that its name belongs to."""
        chain = choose(self.chains, request.name)
        if chain is None:
            return Reply(REFUSED)
        try:
            return await chain.ask(request)
        except NetlabError:
            return Reply(SERVFAIL)
        except Exception:
            log.exception("no answer for %s %s", request.name, request.type_name)
            return Reply(SERVFAIL)

    def kept(self, data: bytes, *, tcp: bool) -> bytes | None:
        """Return the answer to bytes that were asked before, if it still holds."""
        generation = self._generation()
        if generation != self._kept_at:
            self._kept.clear()
            self._kept_at = generation
            return None
        body = self._kept.get((tcp, data[2:]))
        return data[:2] + body if body is not None else None

    async def answer(self, data: bytes, *, tcp: bool, client: tuple[Any, ...]) -> bytes:
        """Return the bytes to send back, b"" for none."""
        host = f"[{client[0]}]" if ":" in client[0] else client[0]
        generation = self._generation()
        try:
            request = parse(data, tcp=tcp, client=f"{host}:{client[1]}")
        except BadMessage as bad:
            return bad.reply
        reply = await self.ask(request)
        packed = pack(request, reply)
        if reply.lasting and generation == self._kept_at and len(self._kept) < _KEPT:
            self._kept[tcp, data[2:]] = packed[2:]
        return packed

    def answer_soon(self, data: bytes, transport: asyncio.DatagramTransport, client: tuple[Any, ...]) -> None:
        """Answer a datagram that has not been asked before."""
        if len(self._tasks) >= _BUSY:
            return  # the client asks again; a queue without end helps nobody
        task = asyncio.ensure_future(self._answer_datagram(data, transport, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_datagram(self, data: bytes, transport: asyncio.DatagramTransport,
                               client: tuple[Any, ...]) -> None:
        packed = await self.answer(data, tcp=False, client=client)
        if packed:
            transport.sendto(packed, client)

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = writer.get_extra_info("peername") or ("", 0)
        self._connections += 1
        try:
            while self._connections <= _CONNECTIONS:
                async with asyncio.timeout(_IDLE_SECONDS):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(size)
                packed = self.kept(data, tcp=True) or await self.answer(data, tcp=True, client=client)
                if not packed:
                    return
                writer.write(len(packed).to_bytes(2, "big") + packed)
                async with asyncio.timeout(_IDLE_SECONDS):
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # the client has gone, or is too slow
        finally:
            self._connections -= 1
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:  # Python 3.11's is no DatagramTransport by type
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        packed = self._server.kept(data, tcp=False)
        if packed is not None:
            self._transport.sendto(packed, addr)
        else:
            self._server.answer_soon(data, self._transport, addr)


def _sockets(port: int, kind: int, addresses: Sequence[str]) -> list[socket.socket]:
    opened: list[socket.socket] = []
    for address in addresses or ("0.0.0.0", "::"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            one = socket.socket(family, kind)
        except OSError:
            continue  # a machine without this family
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.setblocking(False)
            one.bind((address, port))
        except OSError as error:
            one.close()
            if address == "::" and opened:
                continue  # IPv6 is switched off here
            for other in opened:
                other.close()
            raise UsageError(f"listen on {address} port {port}: {error.strerror}") from None
        opened.append(one)
    return opened
