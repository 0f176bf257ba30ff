"""What a failed handshake is answered with, and what the log says: real connections to a real server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from asyncio import sslproto
from collections.abc import Callable
from pathlib import Path

import pytest

from netlab.handshake import TlsProtocol
from netlab.lab.pki import Authority
from netlab.serving.dynamic import Files, Serving


@pytest.fixture(params=["pyOpenSSL", "ssl"])
def context(request: pytest.FixtureRequest, tmp_path: Path) -> ssl.SSLContext:
    """A server's settings, of both kinds that programs have."""
    pair = Authority("ca", now=time.time()).server("s", names=["127.0.0.1"])
    (tmp_path / "crt").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    if request.param == "pyOpenSSL":
        return Serving(Files(str(tmp_path / "crt"), str(tmp_path / "key"))).context.for_asyncio()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    return made


def _plain(port: int, first: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(first)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while data := raw.recv(4096):
                found += data
    return found


def _http(port: int) -> str:
    return _plain(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").decode()


def _nonsense(port: int) -> str:
    _plain(port, b"\x00" * 64)
    return ""


def _leaving(port: int) -> str:
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    return ""


def _suspicious(port: int) -> str:
    return _client(port, ssl.create_default_context())


def _old(port: int) -> str:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("AES128-SHA256")
    return _client(port, made)


def _client(port: int, made: ssl.SSLContext) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            made.wrap_socket(raw, server_hostname="127.0.0.1")
        except ssl.SSLError as error:
            return error.reason or ""
    return ""


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("does", "seen", "logged"), [
    pytest.param(_http, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
                 "client sent an HTTP request to an HTTPS server", id="HTTP"),
    pytest.param(_nonsense, "", "tls: first record does not look like a TLS handshake", id="no TLS"),
    pytest.param(_leaving, "", "EOF", id="nothing"),
    pytest.param(_suspicious, "CERTIFICATE_VERIFY_FAILED", "remote error: tls: unknown certificate authority",
                 id="who does not know the server's authority"),
    pytest.param(_old, "ALERT_HANDSHAKE_FAILURE", "tls: no cipher suite supported by both client and server",
                 id="a suite that the server has not"),
])
def test_a_failed_handshake(context: ssl.SSLContext, does: Callable[[int], str], seen: str, logged: str,
                            caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sslproto, "SSLProtocol", TlsProtocol)
    caplog.set_level(logging.INFO, "netlab.handshake")
    if does is _old and isinstance(context, ssl.SSLContext):
        context.set_ciphers("ECDHE+AESGCM")

    async def body() -> str:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        found = await asyncio.to_thread(does, server.sockets[0].getsockname()[1])
        await asyncio.to_thread(_until, lambda: bool(caplog.records))
        server.close()
        return found

    found = asyncio.run(body())
    assert found.endswith(seen)
    (line,) = caplog.messages
    assert line.startswith("http: TLS handshake error from 127.0.0.1:")
    assert line.partition("127.0.0.1:")[2].partition(": ")[2] == logged
