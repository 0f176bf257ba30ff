"""TLS in asyncio as servers of Go have it: what a failed handshake is answered with, and what the log says of it.

Labs with a thousand watches want it lean, too.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from asyncio import sslproto
from typing import Any, Final

log = logging.getLogger(__name__)

_TLS_BUFFER = 64 * 1024
_buffer = bytearray(_TLS_BUFFER)
_view = memoryview(_buffer)

_PLAIN: Final = "client sent an HTTP request to an HTTPS server"
_ANSWER: Final = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_NO_TLS: Final = "tls: first record does not look like a TLS handshake"
_REASONS: Final = {
    "http request": _PLAIN,
    "wrong version number": _NO_TLS,
    "record layer failure": _NO_TLS,
    "packet length too long": _NO_TLS,
    "unsupported protocol": "tls: client offered only unsupported versions",
    "no shared cipher": "tls: no cipher suite supported by both client and server",
    "peer did not return a certificate": "tls: client didn't provide a certificate",
    "certificate verify failed": "tls: failed to verify certificate",
}
"""What OpenSSL calls it → what Go does."""
_ALERTS: Final = {
    "unknown ca": "unknown certificate authority",
    "certificate unknown": "unknown certificate",
    "certificate expired": "expired certificate",
    "certificate revoked": "revoked certificate",
    "protocol version": "protocol version not supported",
    "decrypt error": "error decrypting message",
    "unrecognized name": "unrecognized name",
}
"""The alerts of RFC 8446, section 6, that Go calls otherwise."""


class TlsProtocol(sslproto.SSLProtocol):
    """asyncio's TLS with one buffer for the bytes that come in, for all connections.

    What is read into it is taken out in the same step of the loop. One of 256 KiB for each connection, as asyncio has
    it, and be it one of 32, is most of what 1,000 watches weigh.
    """

    max_size = _TLS_BUFFER

    def __init__(self, *args: Any, **options: Any) -> None:
        self.max_size = 0  # type: ignore[misc]
        super().__init__(*args, **options)
        self.max_size = _TLS_BUFFER  # type: ignore[misc]
        self._ssl_buffer, self._ssl_buffer_view = _buffer, _view

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a TLS of our own is told the address first (see netlab.serving.tls)."""
        if (arrived := getattr(self._sslobj, "arrived", None)) is not None:  # type: ignore[attr-defined]
            arrived(transport.get_extra_info("sockname")[0])
        super().connection_made(transport)

    def _on_handshake_complete(self, handshake_exc: BaseException | type[BaseException] | None) -> None:
        transport: Any = self._transport
        if handshake_exc is not None and transport is not None:
            self._process_outgoing()  # type: ignore[attr-defined]  # the alert, which says why: asyncio forgets it
            if self._server_side:
                _failed(transport, failure(handshake_exc))
        super()._on_handshake_complete(handshake_exc)  # type: ignore[arg-type]


def _failed(transport: asyncio.Transport, reason: str) -> None:
    """Say in the log, and to who speaks no TLS at all, that there is no connection."""
    if reason == _PLAIN:
        transport.write(_ANSWER)
    host, port = (transport.get_extra_info("peername") or ("?", 0))[:2]
    log.info("http: TLS handshake error from %s: %s", f"[{host}]:{port}" if ":" in host else f"{host}:{port}", reason)


def failure(error: BaseException | type[BaseException]) -> str:
    """Say why a handshake failed, in the words of Go's net/http and crypto/tls."""
    if not isinstance(error, ssl.SSLError):
        return "EOF"
    reason = (error.reason or "").lower().replace("_", " ")
    _, alert, said = reason.partition(" alert ")
    if alert:
        return f"remote error: tls: {_ALERTS.get(said, said)}"
    return _REASONS.get(reason, f"tls: {reason or 'handshake failure'}")
