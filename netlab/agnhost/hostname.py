"""agnhost serve-hostname: answer with the host name, over HTTP, TCP or UDP."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, Final

from netlab import daemon
from netlab.agnhost import http, sockets
from netlab.errors import UsageError
from netlab.flags import Flag, parse

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

FLAGS: Final = (
    Flag("port", "int", 9376, "port"),
    Flag("http", "bool", False, "answer HTTP (the default when nothing else is asked for)"),
    Flag("tcp", "bool", False, "answer TCP connections"),
    Flag("udp", "bool", False, "answer datagrams"),
    Flag("close", "bool", False, "close HTTP connections after each answer"),
    Flag("tls-cert", "string", "", ignored=True), Flag("tls-key", "string", "", ignored=True),
)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    flags = parse("agnhost serve-hostname", argv, FLAGS)
    if flags["tcp"] and flags["http"]:
        raise UsageError("Can't server TCP and HTTP on the same port")
    as_http = flags["http"] or not (flags["tcp"] or flags["udp"])
    return daemon.run(lambda stop: serve(flags["port"], stop, tcp=flags["tcp"], udp=flags["udp"], as_http=as_http,
                                         close=flags["close"]))


async def serve(port: int, stop: asyncio.Event, *, as_http: bool, tcp: bool, udp: bool, close: bool) -> None:
    """Answer until `stop` is set."""
    name = socket.gethostname()
    loop = asyncio.get_running_loop()
    opened: list[asyncio.BaseTransport | asyncio.Server] = []
    if udp:
        opened += [(await loop.create_datagram_endpoint(lambda: _Udp(name), sock=one))[0]
                   for one in sockets.listen(port, socket.SOCK_DGRAM)]
    if tcp:
        opened += [await asyncio.start_server(lambda _, writer: _tell(writer, name), sock=one)
                   for one in sockets.listen(port)]
    log.info("Serving on port %d: %s", port, name)

    async def answer(_: web.Request) -> web.Response:
        response = http.text(name)
        if close:
            response.headers["Connection"] = "close"
        return response

    try:
        if as_http:
            await http.serve({"*": answer}, sockets.listen(port), stop)
        else:
            await stop.wait()
    finally:
        for item in opened:
            item.close()


async def _tell(writer: asyncio.StreamWriter, name: str) -> None:
    writer.write(name.encode() + b"\n")
    writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._answer = name.encode()

    def connection_made(self, transport: Any) -> None:  # Python 3.11's is no DatagramTransport by type
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002 - the protocol's
        self._transport.sendto(self._answer, addr)
