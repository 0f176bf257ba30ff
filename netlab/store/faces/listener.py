"""One port for gRPC and HTTP/1.1, as etcd has it: what a connection says first tells which it is."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from netlab.errors import UsageError
from netlab.store.faces.face import Face

if TYPE_CHECKING:
    from aiohttp import web

    from netlab.store.faces.v3 import V3

_PREFACE = b"PRI "
"""What HTTP/2 begins with (RFC 9113, section 3.4)."""
HELLO_SECONDS = 30.0
_PORT = 2379


def tls(*, certificate: str, key: str, client_ca: str) -> ssl.SSLContext:
    """Return a server's settings, TLS 1.2 and up.

    Args:
        certificate: PEM file of the server's own.
        key: PEM file.
        client_ca: PEM file; with it clients must show a certificate of this CA, or are turned away in the handshake, as
            etcd does it (an API server asks for them otherwise: netlab.serving).

    Raises:
        UsageError: one of the files is missing or no PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"TLS files {certificate}, {key}, {client_ca}: {error}") from error
    return context


def address(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether it is https.

    Raises:
        UsageError: this is no URL to listen on.
    """
    try:
        parts = urlsplit(url)
        port = _PORT if parts.port is None else parts.port
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise UsageError(f'"{url}": want a URL such as https://127.0.0.1:2379')
    return parts.hostname, port, parts.scheme == "https"


class Listener:
    """Serves a store on some URLs."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Fork] = set()
        self._v3: V3 | None = None
        self._web: web.Server | None = None

    async def start(self, urls: Sequence[str], context: ssl.SSLContext | None) -> list[int]:
        """Listen. Returns the ports.

        Raises:
            UsageError: an address cannot be bound, or wants TLS where there is none.
        """
        ports = []
        for url in urls:
            host, port, secure = address(url)
            if secure and context is None:
                raise UsageError(f"{url}: a certificate and a key are needed for https")
            try:
                server = await asyncio.get_running_loop().create_server(
                    lambda: _Fork(self), host, port, ssl=context if secure else None, backlog=256, reuse_address=True)
            except OSError as error:
                raise UsageError(f"cannot listen on {url}: {error.strerror or error}") from error
            self._servers.append(server)
            ports.append(int(server.sockets[0].getsockname()[1]))
        return ports

    async def close(self) -> None:
        """Stop listening and end all connections."""
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.abort()
        if self._web is not None:
            await self._web.shutdown(0.1)

    def grpc(self) -> asyncio.Protocol:
        """Return the protocol of a gRPC connection; the first one imports what it takes."""
        if self._v3 is None:
            from netlab.store.faces.v3 import V3

            self._v3 = V3(self.face)
        return self._v3.protocol()

    def http(self) -> asyncio.Protocol:
        """Return the protocol of an HTTP/1.1 connection."""
        if self._web is None:
            from netlab.store.faces import pages

            self._web = pages.server(self.face)
        return cast("asyncio.Protocol", self._web())

    def joined(self, connection: _Fork) -> Callable[[], None]:
        """Note a connection; the returned function forgets it."""
        self._connections.add(connection)
        return lambda: self._connections.discard(connection)


class _Fork(asyncio.Protocol):
    """A new connection: waits for its first bytes, then stays between the transport and the protocol they ask for."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._inner: asyncio.Protocol | None = None
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._left = self._listener.joined(self)
        self._timer = asyncio.get_running_loop().call_later(HELLO_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
            return
        self._first += data
        if len(self._first) < len(_PREFACE) and _PREFACE.startswith(self._first):
            return
        self._timer.cancel()
        listener = self._listener
        self._inner = listener.grpc() if self._first.startswith(_PREFACE) else listener.http()
        first, self._first = self._first, b""
        self._inner.connection_made(self._transport)
        self._inner.data_received(first)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._left()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def abort(self) -> None:
        self._transport.abort()
