"""SPDY/3.1, the server's side, as far as Kubernetes' clients speak it: streams with headers, data both ways, their end.

https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/. Windows are neither kept nor announced, as in the
library of all those clients (moby/spdystream); who sends too fast is held back by the connection below.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

log = logging.getLogger(__name__)

_HEADER_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status")
_HEADER_VALUES = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8"
    "charset=iso-8859-1,utf-,*,enq=0.")
DICTIONARY: Final = b"".join(struct.pack(">I", len(word)) + word.encode() for word in (
    *_HEADER_NAMES.split(), "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
) + _HEADER_VALUES.encode()
"""What header blocks are compressed against (section 2.6.10.1): 1,423 bytes, Adler-32 e3c6a7c2."""

_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 6, 7, 8
_FIN = 1
_LARGEST_BLOCK = 1 << 14
"""Bytes of a control frame and of its header block, unpacked: Kubernetes' clients send a hundred."""
_REFUSED, _CANCEL = 3, 5
_MOST_STREAMS = 4096
"""Streams that may be open on one connection, a pair for each connection that is forwarded; more are refused."""
_WAITING_BYTES = 1 << 20
_PIECE_BYTES = 64
"""What keeping one piece of data costs beside the data, so that a million of one byte each are not a small thing."""
_DATA_BYTES = 1 << 15


class ByteStream(Protocol):
    """What SPDY is spoken over."""

    async def read(self) -> bytes:
        """Return what has come, b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Send; waits when the peer is slow. Raises ConnectionError when it is gone."""


class SpdyError(ConnectionError):
    """The peer broke the protocol."""


class SpdyStream:
    """One stream. `headers` are those that it was opened with."""

    def __init__(self, connection: Connection, number: int, headers: Mapping[str, str], *, ended: bool) -> None:
        self.number, self.headers = number, headers
        self._connection = connection
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._waiting = 0
        self._room = asyncio.Event()
        self._room.set()
        self._ended = self._closed = False
        self.broken = asyncio.Event()
        """Set when the peer has given the stream up, both ways."""
        if ended:
            self.take(b"", last=True)

    async def read(self) -> bytes:
        """Return the next data, b"" when the peer will send no more."""
        if self._ended and self._queue.empty():
            return b""
        data = await self._queue.get()
        self._waiting -= len(data) + _PIECE_BYTES
        if self._waiting < _WAITING_BYTES:
            self._room.set()
        return data

    async def write(self, data: bytes) -> None:
        """Send data. Raises ConnectionError when the peer has given the stream up."""
        if self.broken.is_set():
            raise ConnectionResetError(f"stream {self.number} was reset")
        for at in range(0, len(data), _DATA_BYTES):
            await self._connection.send_data(self.number, data[at:at + _DATA_BYTES])

    async def close(self) -> None:
        """Send no more: the peer reads the end. Twice is fine."""
        if not self._closed and not self.broken.is_set():
            self._closed = True
            await self._connection.send_data(self.number, b"", last=True)

    async def room(self) -> None:
        """Wait until what has come and not been read is little enough to take in more."""
        await self._room.wait()

    def take(self, data: bytes, *, last: bool) -> None:
        """Take in what the peer sent."""
        if self._ended:
            return
        if data:
            self._waiting += len(data) + _PIECE_BYTES
            if self._waiting >= _WAITING_BYTES:
                self._room.clear()
            self._queue.put_nowait(data)
        if last:
            self._ended = True
            self._room.set()
            self._queue.put_nowait(b"")

    def reset(self) -> None:
        """Take the end of both ways."""
        self.broken.set()
        self.take(b"", last=True)


class Connection:
    """A connection; `opened(stream)` is called for each stream that the client opens."""

    def __init__(self, below: ByteStream, opened: Callable[[SpdyStream], None]) -> None:
        self._below, self._opened = below, opened
        self._streams: dict[int, SpdyStream] = {}
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._buffer = bytearray()

    async def run(self) -> None:
        """Read frames until the client has gone.

        Raises:
            SpdyError: the client broke the protocol.
        """
        try:
            while len(head := await self._exactly(8)) == 8:
                word, rest = struct.unpack(">II", head)
                flags, length = rest >> 24, rest & 0xFFFFFF
                if not word & 0x80000000:
                    await self._take(word, length, last=bool(flags & _FIN))
                    continue
                if length > _LARGEST_BLOCK:
                    raise SpdyError("a control frame is too large")
                await self._handle(word & 0xFFFF, flags, await self._exactly(length))
        finally:
            for stream in self._streams.values():
                stream.take(b"", last=True)

    async def send_data(self, number: int, data: bytes, *, last: bool = False) -> None:
        """Send one data frame."""
        await self._below.write(struct.pack(">II", number, (_FIN << 24 if last else 0) | len(data)) + data)

    def forget(self, stream: SpdyStream) -> None:
        """Drop a stream that is over on both sides: what still comes for it waits for nobody to read it."""
        self._streams.pop(stream.number, None)
        stream.take(b"", last=True)

    async def _control(self, kind: int, body: bytes, flags: int = 0) -> None:
        await self._below.write(struct.pack(">II", 0x80030000 | kind, flags << 24 | len(body)) + body)

    async def _exactly(self, length: int) -> bytes:
        """Return the next bytes, fewer (or none) at the end."""
        while len(self._buffer) < length and (data := await self._below.read()):
            self._buffer += data
        return self._cut(length)

    def _cut(self, length: int) -> bytes:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    async def _take(self, number: int, length: int, *, last: bool) -> None:
        """Give a data frame to its stream as it comes in: whole, it may be 16 MB."""
        stream = self._streams.get(number)
        if stream is None:
            await self._control(_RST_STREAM, struct.pack(">II", number, _CANCEL))
        while length:
            self._buffer += b"" if self._buffer else await self._below.read()
            piece = self._cut(length)
            if not piece:
                return
            length -= len(piece)
            if stream is not None:
                await stream.room()
                stream.take(piece, last=False)
        if stream is not None and last:
            stream.take(b"", last=True)

    async def _handle(self, kind: int, flags: int, body: bytes) -> None:
        if kind == _SYN_STREAM and len(body) >= 10:
            number = struct.unpack_from(">I", body)[0] & 0x7FFFFFFF
            headers = self._read_headers(body[10:])
            if number in self._streams or number % 2 == 0:
                raise SpdyError(f"stream {number} can't be opened")
            if len(self._streams) >= _MOST_STREAMS:
                await self._control(_RST_STREAM, struct.pack(">II", number, _REFUSED))
                return
            stream = self._streams[number] = SpdyStream(self, number, headers, ended=bool(flags & _FIN))
            await self._control(_SYN_REPLY, struct.pack(">I", number) + self._no_headers())
            self._opened(stream)
        elif kind == _HEADERS and len(body) >= 4:
            self._read_headers(body[4:])  # only to keep the compression in step
        elif kind == _PING and len(body) == 4 and body[3] % 2:
            await self._control(_PING, body)
        elif kind == _RST_STREAM and len(body) >= 8:
            gone = self._streams.pop(struct.unpack_from(">I", body)[0], None)
            if gone is not None:
                gone.reset()

    def _read_headers(self, block: bytes) -> dict[str, str]:
        """Return a header block's pairs, names in lower case."""
        try:
            plain = self._inflate.decompress(block, _LARGEST_BLOCK)
            if self._inflate.unconsumed_tail:
                raise SpdyError("a header block is too large")
            (count,), at, found = struct.unpack_from(">I", plain), 4, {}
            for _ in range(count):
                pair = []
                for _ in range(2):
                    (length,) = struct.unpack_from(">I", plain, at)
                    if at + 4 + length > len(plain):
                        raise SpdyError("a header block is cut off")
                    pair.append(plain[at + 4:at + 4 + length].decode(errors="replace"))
                    at += 4 + length
                found[pair[0].lower()] = pair[1]
        except (zlib.error, struct.error) as error:
            raise SpdyError(f"a header block can't be read: {error}") from error
        return found

    def _no_headers(self) -> bytes:
        return self._deflate.compress(b"\0\0\0\0") + self._deflate.flush(zlib.Z_SYNC_FLUSH)
