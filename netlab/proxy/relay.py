"""Userspace mode's work: carry bytes between clients and endpoints, many connections in one event loop.

Both ends of a TCP connection are this process's: the endpoint sees the node as its client, and connections end with
the process. (kubernetes: pkg/proxy/userspace/proxysocket.go, until v1.25; unlike there, each direction of a connection
is closed by itself, so that a client which has said all it has to say still gets its answer.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import dataclass, field

from netlab.kernel import netns as namespaces
from netlab.proxy.addresses import join
from netlab.proxy.balancer import Balancer

log = logging.getLogger(__name__)

CONNECT_SECONDS = (0.25, 0.5, 1.0, 2.0)
"""How long each try of an endpoint may take; each try takes the next endpoint."""

UDP_SECONDS = 10.0
"""How long a UDP client is remembered that says nothing and gets nothing."""

_CHUNK, _BACKLOG, _MOST_DATAGRAM = 65536, 1024, 65535


@dataclass
class Relay:
    """The listening side of one Service port. `name` is for the log, `netns` where sockets are made (None: here)."""

    name: str
    protocol: str
    balancer: Balancer
    netns: int | None = None
    ipv6: bool = False
    port: int = 0
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    _listener: socket.socket | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _clients: dict[tuple[str, int], _UdpClient] = field(default_factory=dict)

    def open(self, address: str, port: int) -> None:
        """Listen. Port 0 lets the kernel choose.

        Raises:
            OSError: the port is taken, or the address not here.
        """
        sock = self._socket()
        try:
            if self.protocol == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.ipv6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, port))
            if self.protocol == "tcp":
                sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
        self.port, self._listener = sock.getsockname()[1], sock
        work = self._accept(sock) if self.protocol == "tcp" else self._datagrams(sock)
        self._tasks.append(asyncio.create_task(work))

    async def close(self) -> None:
        """Take no more clients. TCP connections that are there go on; UDP clients lose their endpoint."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for client in list(self._clients.values()):
            client.close()
        self._clients.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def abort(self) -> list[str]:
        """Close and end every connection; returns who was connected, `10.244.1.9:40000 to 10.244.2.3:8080` each."""
        await self.close()
        ended = [task for task in self.connections if not task.done()]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        return sorted(task.get_name() for task in ended)

    def _socket(self) -> socket.socket:
        family = socket.AF_INET6 if self.ipv6 else socket.AF_INET
        kind = socket.SOCK_STREAM if self.protocol == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(family, kind) if self.netns is None else namespaces.socket_in(self.netns, family, kind)
        sock.setblocking(False)
        return sock

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, peer = await loop.sock_accept(listener)
            except OSError as error:  # out of descriptors, or a client that is gone already
                log.warning("%s: cannot take a connection: %s", self.name, error.strerror or error)
                await asyncio.sleep(0.05)
                continue
            task = asyncio.create_task(self._serve(client, peer[0]), name=join(*peer[:2]))
            self.connections.add(task)
            task.add_done_callback(self.connections.discard)

    async def _serve(self, client: socket.socket, address: str) -> None:
        with client:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            endpoint = await self._connect(address)
            if endpoint is None:
                return
            with endpoint:
                _say_where(endpoint)
                endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                both = [asyncio.create_task(_copy(client, endpoint)), asyncio.create_task(_copy(endpoint, client))]
                try:
                    await asyncio.gather(*both)
                except OSError as error:
                    log.debug("%s: a connection broke: %s", self.name, error)
                finally:
                    for task in both:
                        task.cancel()
                    await asyncio.gather(*both, return_exceptions=True)

    async def _connect(self, client: str) -> socket.socket | None:
        loop = asyncio.get_running_loop()
        for tried, seconds in enumerate(CONNECT_SECONDS):
            endpoint = self.balancer.next(client, time.monotonic(), anew=tried > 0)
            if not endpoint:
                log.info("%s has no endpoint for %s", self.name, client)
                return None
            try:
                sock = self._socket()
            except OSError as error:  # out of descriptors
                log.warning("%s: cannot serve %s: %s", self.name, client, error.strerror or error)
                return None
            try:
                async with asyncio.timeout(seconds):
                    await loop.sock_connect(sock, _address(endpoint))
            except (OSError, TimeoutError) as error:
                sock.close()
                log.info("%s: no connection to %s: %s", self.name, endpoint, error or "no answer")
                continue
            except BaseException:
                sock.close()
                raise
            return sock
        return None

    async def _datagrams(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(UDP_SECONDS):
                    data, peer = await loop.sock_recvfrom(listener, _MOST_DATAGRAM)
            except TimeoutError:
                self._forget_idle()
                continue
            except OSError as error:  # an earlier answer found nobody
                log.debug("%s: %s", self.name, error)
                continue
            client = self._clients.get(peer[:2]) or self._new_client(listener, peer)
            if client is not None:
                client.send(data)
            self._forget_idle()

    def _new_client(self, listener: socket.socket, peer: tuple[str, int]) -> _UdpClient | None:
        endpoint = self.balancer.next(peer[0], time.monotonic())
        if not endpoint:
            log.info("%s has no endpoint for %s", self.name, peer[0])
            return None
        try:
            sock = self._socket()
        except OSError as error:  # out of descriptors
            log.warning("%s: cannot serve %s: %s", self.name, peer[0], error.strerror or error)
            return None
        try:
            sock.connect(_address(endpoint))
        except OSError as error:  # there is no way to it
            log.info("%s: no way to %s: %s", self.name, endpoint, error.strerror or error)
            sock.close()
            return None
        client = _UdpClient(endpoint, sock, listener, peer, time.monotonic())
        self._clients[peer[:2]] = client
        return client

    def drop_gone(self) -> None:
        """Let UDP clients whose endpoint is gone have another one."""
        for key, client in list(self._clients.items()):
            if client.endpoint not in self.balancer.endpoints:
                client.close()
                del self._clients[key]

    def _forget_idle(self) -> None:
        now = time.monotonic()
        for key, client in list(self._clients.items()):
            if now - client.seen > UDP_SECONDS:
                client.close()
                del self._clients[key]


@dataclass
class _UdpClient:
    """A client's way to its endpoint and back."""

    endpoint: str
    sock: socket.socket
    listener: socket.socket
    peer: tuple[str, int]
    seen: float

    def __post_init__(self) -> None:
        asyncio.get_running_loop().add_reader(self.sock, self._answered)

    def send(self, data: bytes) -> None:
        self.seen = time.monotonic()
        with contextlib.suppress(OSError):  # as on a real network: it may be lost
            self.sock.send(data)

    def _answered(self) -> None:
        self.seen = time.monotonic()
        with contextlib.suppress(OSError):
            self.listener.sendto(self.sock.recv(_MOST_DATAGRAM), self.peer)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Carry one direction until its sender has ended it; then end it for the receiver as well."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _say_where(endpoint: socket.socket) -> None:
    """Put the endpoint into the name of the task that serves a connection, for the list of who was connected."""
    task = asyncio.current_task()
    if task is not None:
        task.set_name(f"{task.get_name()} to {join(*endpoint.getpeername()[:2])}")


def _address(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)
