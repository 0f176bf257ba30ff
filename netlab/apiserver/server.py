"""The transport: TLS and HTTP/1.1 by aiohttp, turned into `http.Request` and back; no handler knows aiohttp."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any, cast

import orjson
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from netlab import daemon
from netlab.apiserver import negotiate, status, websocket
from netlab.apiserver.http import Handler, Large, Reply, Request, Response, Upgrade, split_target
from netlab.errors import ApiError, UsageError

log = logging.getLogger(__name__)

BODY_LIMIT = 3 * 1024 * 1024
"""Bytes of a request's body; upstream's limit for resource requests."""
BODY_SECONDS = 30.0
HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 120.0
"""A connection without a complete request's head for so long is closed: idle clients and slow-loris alike."""
SEND_SECONDS = 60.0
"""A client that takes nothing for so long is cut off."""
_HIGH_WATER = 1024 * 1024
_AT_ONCE = 63 * 1024
"""Bytes that any transport takes without a wait, when nothing else waits in it."""
_PORTION = 63 * 1024
"""Bytes of a large answer that are sent at once; 32 to 256 KiB were measured."""
_TURN = 4
"""Portions of a large answer after which others have their turn."""
_READING = ("GET", "HEAD")


class Server:
    """One listening socket, one handler. `start` returns when it accepts connections."""

    def __init__(self, handler: Handler, context: ssl.SSLContext | None) -> None:
        self._handler, self._context = handler, context
        self._web = web.Server(self._serve, access_log=None, keepalive_timeout=IDLE_SECONDS,
                               auto_decompress=True, handler_cancellation=True,
                               max_line_size=64 * 1024, max_field_size=64 * 1024, lingering_time=1.0,
                               logger=_transport_log)
        self._listeners: list[asyncio.Server] = []
        self.in_flight = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; port 0 lets the kernel choose. Returns the port.

        Raises:
            UsageError: the address cannot be bound.
        """
        extra: dict[str, Any] = {"ssl_handshake_timeout": HANDSHAKE_SECONDS} if self._context else {}
        try:
            listener = await asyncio.get_running_loop().create_server(
                self._web, host, port, ssl=self._context, backlog=1024, reuse_address=True, **extra)
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        for listening in listener.sockets:
            daemon.watchful(listening)
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def close(self, grace: float) -> None:
        """Stop accepting, give requests in flight `grace` seconds, then close every connection."""
        for listener in self._listeners:
            listener.close()
        self._web.pre_shutdown()  # idle connections go at once, the others after their answer
        await self._web.shutdown(grace)

    async def _serve(self, raw: web.BaseRequest) -> web.StreamResponse:
        try:
            path, query, raw_query = split_target(raw.raw_path)
        except ValueError as error:
            return web.Response(body=orjson.dumps(status.bad_request(f"the query can't be read: {error}").status()),
                                status=400, content_type="application/json")
        transport = raw.transport
        request = Request(raw.method, path, query, _text(raw.headers), _Body(raw), raw_query,
                          peer=raw.remote or "", certificates=transport.get_extra_info("peercert") or () if transport
                          else ())
        self.in_flight += 1
        try:
            response: Response
            if raw.method in _READING:
                response = await self._handler(request)
            else:  # a client that goes away must not leave a write half done
                response = await asyncio.shield(self._handler(request))
            return await _send(raw, request, response)
        except ApiError as error:
            return _plain(request, error_reply(error, request))
        except asyncio.CancelledError:
            request.gone = True
            raise
        except Exception as error:
            log.exception("%s %s", request.method, path)
            return _plain(request, error_reply(status.internal(f"{type(error).__name__}: {error}"), request))
        finally:
            self.in_flight -= 1
            if request.seat is not None and not request.gone:
                request.seat.leave()


def _text(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers that can be written down: bytes that are no UTF-8 are replaced."""
    if all(value.isascii() for value in headers.values()):
        return headers
    return CIMultiDict((name, value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
                       for name, value in headers.items())


class _Quiet(logging.Filter):
    """What is no HTTP is told in one line: whose fault it is needs no traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record of a client's error."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (HttpProcessingError, web.RequestPayloadError)):
            said = " ".join(str(error).split())
            record.msg, record.args = f"{record.getMessage()}: {said[:200]!r}", ()
            record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
        return True


_transport_log = logging.getLogger(f"{__name__}.http")
_transport_log.addFilter(_Quiet())


def error_reply(error: ApiError, request: Request) -> Reply:
    """Return an error as the Status that goes over the wire: in protobuf for a client that takes nothing else."""
    headers = {}
    if "retryAfterSeconds" in error.details:
        headers["Retry-After"] = str(error.details["retryAfterSeconds"])
    form = negotiate.Form(protobuf=negotiate.only_protobuf(request.headers.get("Accept", "")) and error.code != 406)
    body, content_type = negotiate.dump(form, orjson.dumps(error.status()))
    return Reply(body, error.code, content_type, headers)


class _Body:
    """Reads a request's body when first asked for it."""

    __slots__ = ("_data", "_raw", "waiting")

    def __init__(self, raw: web.BaseRequest) -> None:
        self._raw = raw
        self._data: bytes | None = None
        self.waiting = False

    async def __call__(self) -> bytes:
        if self._data is None:
            self.waiting = True
            self._data = await _body(self._raw)
            self.waiting = False
        return self._data


async def _body(raw: web.BaseRequest) -> bytes:
    if (raw.content_length or 0) > BODY_LIMIT:
        raise status.too_large(BODY_LIMIT)
    if not raw.body_exists:
        return b""
    try:
        if raw.content.is_eof():  # it came with the head, as most do
            whole = raw.content.read_nowait()
            if len(whole) > BODY_LIMIT:
                raise status.too_large(BODY_LIMIT)
            return whole
        async with asyncio.timeout(BODY_SECONDS):
            pieces, size = [], 0
            async for piece in raw.content.iter_any():
                size += len(piece)
                if size > BODY_LIMIT:
                    raise status.too_large(BODY_LIMIT)
                pieces.append(piece)
    except TimeoutError:
        raise ApiError(408, "Timeout", f"the body of the request did not arrive within {BODY_SECONDS:g} s") from None
    except web.HTTPException as error:
        raise status.bad_request(f"error reading the body: {error}") from None
    except (ValueError, web.PayloadAccessError, web.RequestPayloadError) as error:
        raise status.bad_request(f"error reading the body: {' '.join(str(error).split())}") from None
    return b"".join(pieces)


def _headers(request: Request, headers: dict[str, str], content_type: str) -> dict[str, str] | Any:
    merged: CIMultiDict[str] = CIMultiDict(headers)
    merged["Content-Type"] = content_type
    merged["Cache-Control"], merged["Server"] = "no-cache, private", "netlab"
    if request.flow is not None:
        merged["X-Kubernetes-Pf-Flowschema-Uid"], merged["X-Kubernetes-Pf-Prioritylevel-Uid"] = request.flow
    for text in request.warnings:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
        merged.add("Warning", f'299 - "{quoted}"')
    return merged


class _Whole(web.StreamResponse):
    """A usual answer, head and body at once: what aiohttp weighs for any kind of answer is known of these."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status=status)
        self._fields, self._content = headers, body

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send all of it."""
        self._keep_alive = request.keep_alive
        head = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {text}" for name, text in self._fields.items()),
                f"Content-Length: {len(self._content)}", f"Date: {_date(int(time.time()))}",
                *(() if request.keep_alive else ("Connection: close",)), "\r\n"]
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write("\r\n".join(head).encode() + self._content)
        if transport.get_write_buffer_size():
            await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send no more."""


@lru_cache(maxsize=4)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _usual(raw: web.BaseRequest, reply: Reply) -> bool:
    """Tell whether nothing is special about how an answer is sent."""
    return (reply.status in (200, 201) and not reply.headers and raw.method != "HEAD"
            and raw.version == HttpVersion11)


def _plain(request: Request, reply: Reply) -> web.Response:
    body = b"" if request.method == "HEAD" else reply.body
    return web.Response(body=body, status=reply.status, headers=_headers(request, reply.headers, reply.content_type))


async def _large(raw: web.BaseRequest, request: Request, reply: Reply) -> web.StreamResponse:
    """Send megabytes piece by piece: given at once they are copied again for every piece that the socket takes."""
    stream = web.StreamResponse(status=reply.status, headers=_headers(request, reply.headers, reply.content_type))
    if isinstance(reply, Large):
        pieces: Iterable[bytes | memoryview] = reply.pieces()
        stream.enable_chunked_encoding()
    else:
        view = memoryview(reply.body)
        pieces = (view[at:at + _PORTION] for at in range(0, len(view), _PORTION))
        stream.content_length = len(view)
    try:
        await stream.prepare(raw)
        sink = _Sink(stream, raw.transport)
        for number, piece in enumerate(pieces):
            await sink.write(piece)
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
    except ConnectionError:
        stream.force_close()
    return stream


async def _send(raw: web.BaseRequest, request: Request, response: Response) -> web.StreamResponse:
    if isinstance(response, Reply):
        if (isinstance(response, Large) or len(response.body) > 2 * _PORTION) and request.method != "HEAD":
            return await _large(raw, request, response)
        if _usual(raw, response):
            return _Whole(response.status, _headers(request, {}, response.content_type), response.body)
        return _plain(request, response)
    if isinstance(response, Upgrade):
        return await _upgrade(raw, response)
    if response.messages and websocket.asked(request):
        return await websocket.send(raw, request, response, SEND_SECONDS)
    stream = web.StreamResponse(status=response.status,
                                headers=_headers(request, response.headers, response.content_type))
    stream.enable_chunked_encoding()
    if raw.transport is not None:
        raw.transport.set_write_buffer_limits(high=_HIGH_WATER)
    try:
        await stream.prepare(raw)
        await response.run(_Sink(stream, raw.transport))
    except ConnectionError:
        stream.force_close()
    except Exception:
        log.exception("%s %s: the stream broke off", request.method, request.path)
        if raw.transport is not None:
            raw.transport.abort()
    return stream


class _Sink:
    def __init__(self, stream: web.StreamResponse, transport: asyncio.Transport | None) -> None:
        self._stream, self._transport = stream, transport

    async def write(self, data: bytes | memoryview) -> None:
        if len(data) < _AT_ONCE and self._transport is not None and not self._transport.get_write_buffer_size():
            await self._stream.write(data)  # does not wait: a timeout would cost more than the write
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._stream.write(data)
        except TimeoutError:
            raise ConnectionResetError("the client takes nothing") from None

    def free(self) -> bool:
        transport = self._transport
        return transport is not None and not transport.get_write_buffer_size() and not transport.is_closing()

    def post(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))  # one record, one send


async def _upgrade(raw: web.BaseRequest, response: Upgrade) -> web.StreamResponse:
    answer = web.StreamResponse(status=101, headers=response.headers)
    answer.force_close()
    await answer.prepare(raw)
    duplex = _Duplex(raw)
    try:
        await response.run(duplex)
    finally:
        duplex.close()
    return answer


class _Duplex:
    """The raw connection: aiohttp's protocol feeds what it reads to this object once it is set as its parser."""

    def __init__(self, raw: web.BaseRequest) -> None:
        self._protocol: Any = raw.protocol
        self._transport = cast(asyncio.Transport, raw.transport)
        self._sink: Callable[[bytes], None] = lambda _data: None
        self._closed: Callable[[], None] = lambda: None

    def on_data(self, sink: Callable[[bytes], None], closed: Callable[[], None]) -> None:
        self._sink, self._closed = sink, closed
        self._protocol.set_parser(self)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes from aiohttp (its name for this call)."""
        self._sink(bytes(data))
        return False, b""

    def feed_eof(self) -> None:
        """Take the end of the client's bytes from aiohttp (its name for this call)."""
        self._closed()

    async def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        await self._protocol._drain_helper()  # noqa: SLF001 - the one way to wait for aiohttp's own flow control

    def pause(self, paused: bool) -> None:
        if self._transport.is_closing():
            return
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        if not self._transport.is_closing():
            self._transport.close()
