"""agnhost porter: serve on every port that a variable names: SERVE_PORT_80=foo answers "foo" on port 80.

SERVE_TLS_PORT_443 does so over TLS, with CERT_FILE and KEY_FILE or a certificate of its own for localhost;
SERVE_SCTP_PORT_9000 over SCTP, to whoever connects.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from netlab import daemon
from netlab.agnhost import http, sockets
from netlab.errors import KernelError, UsageError
from netlab.flags import Flag, parse

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

_NAME = re.compile(r"SERVE_(TLS_|SCTP_|)PORT_(\d+)\Z")
FLAGS = (Flag("json-response", "bool", help="answer the value with the request's method, as JSON"),)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    flags = parse("agnhost porter", argv, FLAGS)
    chosen = wanted(os.environ)
    if not chosen:
        log.warning("no variable SERVE_PORT_<port> is set: nothing to serve")
    return daemon.run(lambda stop: serve(chosen, stop, as_json=flags["json-response"]))


def wanted(environ: Mapping[str, str]) -> dict[tuple[str, int], str]:
    """Return what to answer by protocol ("", "TLS", "SCTP") and port."""
    return {(found[1].removesuffix("_"), int(found[2])): value for name, value in environ.items()
            if (found := _NAME.match(name))}


async def serve(ports: Mapping[tuple[str, int], str], stop: asyncio.Event, *, as_json: bool = False) -> None:
    """Answer on all ports until `stop` is set.

    Raises:
        KernelError: a port is taken, or the kernel has no SCTP.
        UsageError: CERT_FILE or KEY_FILE can't be used.
    """
    def handler(body: str) -> http.Handler:
        async def answer(request: web.Request) -> web.Response:
            if not as_json:
                return http.text(body)
            response = http.text(http.encoded({"Method": request.method, "Body": body}, ordered=False))
            response.content_type = "application/json"
            return response
        return answer

    tls = _tls() if any(protocol == "TLS" for protocol, _ in ports) else None
    servers = []
    for (protocol, port), body in ports.items():
        if protocol == "SCTP":
            servers.append(_sctp(port, body, stop))
        else:
            servers.append(http.serve({"*": handler(body)}, sockets.listen(port), stop,
                                      tls=tls if protocol == "TLS" else None))
    await asyncio.gather(stop.wait(), *servers)


def _tls() -> ssl.SSLContext:
    from netlab.client.tls import self_signed, server_context

    certificate, key = os.environ.get("CERT_FILE", ""), os.environ.get("KEY_FILE", "")
    if not certificate and not key:
        return server_context(self_signed())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"can't use CERT_FILE={certificate} and KEY_FILE={key}: {error}") from error
    return context


async def _sctp(port: int, body: str, stop: asyncio.Event) -> None:
    """Write the value to everybody who connects, and hang up."""
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    except OSError as error:
        raise KernelError(f"listen on SCTP port {port}: {error.strerror}", errno=error.errno or 0) from None
    loop = asyncio.get_running_loop()

    async def answer() -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            with connection:
                await loop.sock_sendall(connection, body.encode())

    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        try:
            listener.bind(("0.0.0.0", port))
            listener.listen(128)
        except OSError as error:
            raise KernelError(f"listen on SCTP port {port}: {error.strerror}", errno=error.errno or 0) from None
        await daemon.first(stop.wait(), answer())
