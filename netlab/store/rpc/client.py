"""A client of etcd's v3 API: one connection, to whichever of its endpoints answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from grpclib.client import Channel, Stream, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError

from netlab.errors import TemporaryError, UsageError
from netlab.store.rpc import codec
from netlab.store.rpc.corked import CorkedChannel

Response = TypeVar("Response")

UNREACHABLE = (OSError, StreamTerminatedError, asyncio.TimeoutError)
_WINDOW = 64 * 1024 * 1024


class _Codec(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        assert isinstance(message, message_type)
        return codec.encode(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return codec.decode(data, message_type)


class Client:
    """Calls methods by name. `endpoints` are URLs, or host:port for plain text; `window` is in bytes."""

    def __init__(self, endpoints: Sequence[str], context: ssl.SSLContext | None, *, window: int = _WINDOW) -> None:
        if not endpoints:
            raise UsageError("no etcd endpoint is named")
        self.endpoints = [_endpoint(text) for text in endpoints]
        self._context, self._window, self._at = context, window, 0
        self._channel: Channel | None = None

    @property
    def endpoint(self) -> str:
        """Return the URL that is spoken to."""
        host, port, secure = self.endpoints[self._at]
        return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def call(self, method: str, request: Any, kind: type[Response], *, timeout: float = 5.0) -> Response:
        """Return the answer to a call that has one; `method` is such as "KV/Range".

        Raises:
            GRPCError: the server refuses.
            TemporaryError: no endpoint answers. Whether a write took place is then not known.
        """
        said: BaseException | None = None
        for _ in self.endpoints:
            try:
                async with asyncio.timeout(timeout):
                    unary = UnaryUnaryMethod(self._open(), f"/etcdserverpb.{method}", type(request), kind)
                    response: Response = await unary(request)  # a head without a time is always the same
                    return response
            except UNREACHABLE as error:
                said = error
            except GRPCError as error:
                if error.status is not Status.UNAVAILABLE:
                    raise
                said = error
            self.turn()
        raise TemporaryError(f"etcd at {self._all()} does not answer: {_words(said)}")

    @asynccontextmanager
    async def stream(self, method: str, request: type, response: type, *, timeout: float | None = None,
                     ) -> AsyncIterator[Stream[Any, Any]]:
        """Open a call that goes on; both sides may send. Raises GRPCError, and whatever is in UNREACHABLE."""
        stream: Stream[Any, Any] = self._open().request(
            f"/etcdserverpb.{method}", Cardinality.STREAM_STREAM, request, response, timeout=timeout)
        async with stream:
            yield stream

    def turn(self) -> None:
        """Go on with the next endpoint, on a new connection."""
        self.close()
        self._at = (self._at + 1) % len(self.endpoints)

    def close(self) -> None:
        """End the connection. Twice is fine; the next call opens another."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _open(self) -> Channel:
        if self._channel is None:
            host, port, secure = self.endpoints[self._at]
            config = Configuration(http2_connection_window_size=self._window,
                                   http2_stream_window_size=self._window)
            context = self._context if secure else None
            self._channel = CorkedChannel(host, port, ssl=context, codec=_Codec(), config=config)
        return self._channel

    def _all(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port, _ in self.endpoints)


def _words(error: BaseException | None) -> str:
    if isinstance(error, GRPCError):
        return error.message or error.status.name
    return str(error) or "no answer in time"


def _endpoint(text: str) -> tuple[str, int, bool]:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or 2379
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f'"{text}": want an endpoint such as https://127.0.0.1:2379')
    return parts.hostname, port, parts.scheme == "https"
