"""Watches as client-go opens them: many over one HTTP/2 connection. Just enough of RFC 9113 to open streams and count.

Windows are opened as wide as they go, so that a run of seconds never waits for an update of ours; what the server asks
to be answered (settings, pings) is.
"""

from __future__ import annotations

import ssl
import time

from netlab.lab.load import BUFFER, Connection, Target

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_WIDEST = 2**31 - 1
_INITIAL_WINDOW = 4


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _literal(row: tuple[str, str]) -> bytes:
    """Return a header as HPACK's literal without indexing (RFC 7541, 6.2.2); both parts under 127 bytes."""
    return b"\0" + b"".join(bytes((len(text),)) + text.encode() for text in row)


class Streams(Connection):
    """One connection with many watches: counts the lines of all, and notes when those of the first came."""

    def __init__(self, wrapped: ssl.SSLSocket, target: Target, path: str, count: int) -> None:
        super().__init__(wrapped)
        self.lines = dict.fromkeys(range(1, 2 * count, 2), 0)
        self.times: list[float] = []
        self.broken = ""
        self._rest = b""
        settings = _INITIAL_WINDOW.to_bytes(2) + _WIDEST.to_bytes(4)
        sent = [_PREFACE, _frame(_SETTINGS, 0, 0, settings), _frame(_WINDOW, 0, 0, (_WIDEST - 65_535).to_bytes(4))]
        head = b"".join(map(_literal, ((":method", "GET"), (":scheme", "https"), (":path", path),
                                       (":authority", target.host), ("accept", "application/json"))))
        sent += [_frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, head) for stream in self.lines]
        self.send(b"".join(sent))

    def received(self, count: int) -> None:
        data = self._rest + BUFFER[:count]
        at = 0
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at:at + 3])
            if end > len(data):
                break
            self._take(data[at + 3], data[at + 4], int.from_bytes(data[at + 5:at + 9]), data, at + 9, end)
            at = end
        self._rest = bytes(data[at:])

    def _take(self, kind: int, flags: int, stream: int, data: bytes, begin: int, end: int) -> None:
        if kind == _DATA:
            self.lines[stream] += data.count(b"\n", begin, end)
            if stream == 1:
                self.times += [time.perf_counter()] * (self.lines[1] - len(self.times))
            if flags & _END_STREAM:
                self.broken = f"stream {stream} has ended"
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self.send(_frame(kind, _ACK, 0, bytes(data[begin:end]) if kind == _PING else b""))
        elif kind in (_RESET, _GOAWAY):
            self.broken = f"the server refused stream {stream}"
