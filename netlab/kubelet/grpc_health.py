"""gRPC's health check (grpc.health.v1.Health/Check) in one call, spoken directly: frames of HTTP/2 and one message.

Only what this one question needs: our header block uses literals without Huffman or table, and of the server's answer
only the DATA of our stream is read. RFC 9113 section 4, RFC 7541 section 6.2.2, the gRPC health checking protocol.
"""

from __future__ import annotations

import asyncio
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 1, 4, 1, 8
_LARGEST = 1 << 20
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


async def check(host: str, port: int, service: str, seconds: float) -> tuple[bool, str]:
    """Ask whether `service` ("" for the whole server) is serving; (ok, words for an event)."""
    shown = f"[{host}]" if ":" in host else host
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_PREFACE + _frame(_SETTINGS, 0, 0) + _request(f"{shown}:{port}", service))
                status = await _answer(reader, writer)
            finally:
                writer.close()
    except TimeoutError:
        return False, (f'timeout: failed to connect service "{shown}:{port}" within {seconds:g}s: '
                       "context deadline exceeded")
    except (OSError, asyncio.IncompleteReadError) as error:
        return False, f'error: failed to connect service at "{shown}:{port}": {error}'
    if status is None:
        return False, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
    state = _STATES.get(status, str(status))
    if status == 1:
        return True, f"service healthy (responded with {state!r})".replace("'", '"')
    return False, f'service unhealthy (responded with "{state}")'


def _frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


def _literal(name: str, value: str) -> bytes:
    def text(data: bytes) -> bytes:
        if len(data) < 127:
            return bytes((len(data),)) + data
        rest, out = len(data) - 127, bytearray((127,))
        while rest >= 128:
            out.append(rest % 128 + 128)
            rest //= 128
        out.append(rest)
        return bytes(out) + data

    return b"\x00" + text(name.encode()) + text(value.encode())


def _request(authority: str, service: str) -> bytes:
    headers = {":method": "POST", ":scheme": "http", ":path": "/grpc.health.v1.Health/Check", ":authority": authority,
               "content-type": "application/grpc", "te": "trailers", "user-agent": "kube-probe/1.36"}
    block = b"".join(_literal(name, value) for name, value in headers.items())
    name = service.encode()
    message = b"\x0a" + bytes((len(name),)) + name if 0 < len(name) < 128 else b""
    body = b"\x00" + struct.pack(">I", len(message)) + message
    return _frame(_HEADERS, _END_HEADERS, 1, block) + _frame(_DATA, _END_STREAM, 1, body)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
    """Read frames until our stream ends; the health status, or None if the server gave none."""
    body = b""
    while True:
        head = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        if length > _LARGEST:
            raise OSError("a frame of the answer is too large")
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind in (_RST, _GOAWAY):
            return None
        elif stream == 1 and kind == _DATA:
            body += payload[1:length - payload[0]] if flags & _PADDED else payload
            if len(body) >= 5 and len(body) >= 5 + int.from_bytes(body[1:5], "big"):
                return _status(body[5:5 + int.from_bytes(body[1:5], "big")])
        if stream == 1 and flags & _END_STREAM and kind in (_DATA, _HEADERS):
            return None


def _status(message: bytes) -> int:
    """Return field 1 of HealthCheckResponse; a field with its default value is not on the wire."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
