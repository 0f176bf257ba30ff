"""agnhost echo-server (netlab's own): tell what arrived and where, as JSON, over HTTP, TCP and UDP.

An answer holds `protocol`, `client` and `server` (address:port as this end sees them), `host`, and where the
environment tells them (POD_NAME, POD_NAMESPACE, POD_IP, NODE_NAME, by the downward API) `pod`, `namespace`, `podIP`
and `node`; HTTP adds `method`, `path`, `headers` and `body`, TCP (one line, one answer) and UDP add `received`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from netlab import daemon
from netlab.agnhost import http, sockets
from netlab.flags import Flag, parse

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

FLAGS: Final = (
    Flag("http-port", "int", 8080, "HTTP port; -1 for none"),
    Flag("udp-port", "int", 8081, "UDP port; -1 for none"),
    Flag("tcp-port", "int", 8082, "TCP port; -1 for none"),
)
_ENVIRONMENT: Final = {"pod": "POD_NAME", "namespace": "POD_NAMESPACE", "podIP": "POD_IP", "node": "NODE_NAME"}


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    flags = parse("agnhost echo-server", argv, FLAGS)
    return daemon.run(lambda stop: serve(flags["http-port"], flags["tcp-port"], flags["udp-port"], stop))


async def serve(http_port: int, tcp_port: int, udp_port: int, stop: asyncio.Event) -> None:
    """Answer until `stop` is set."""
    loop = asyncio.get_running_loop()
    opened: list[asyncio.BaseTransport | asyncio.Server] = []
    if udp_port >= 0:
        opened += [(await loop.create_datagram_endpoint(_Udp, sock=one))[0]
                   for one in sockets.listen(udp_port, socket.SOCK_DGRAM)]
    if tcp_port >= 0:
        opened += [await asyncio.start_server(_tcp, sock=one) for one in sockets.listen(tcp_port)]
    log.info("echo server on HTTP %d, TCP %d, UDP %d", http_port, tcp_port, udp_port)
    try:
        if http_port >= 0:
            await http.serve({"*": _http}, sockets.listen(http_port), stop)
        else:
            await stop.wait()
    finally:
        for item in opened:
            item.close()


def seen(protocol: str, peer: Any, here: Any) -> dict[str, Any]:
    """Return what every answer holds."""
    told = {"protocol": protocol, "client": sockets.join(*peer[:2]), "server": sockets.join(*here[:2]),
            "host": socket.gethostname()}
    return told | {key: os.environ[name] for key, name in _ENVIRONMENT.items() if os.environ.get(name)}


async def _http(request: web.Request) -> web.Response:
    assert request.transport is not None
    told = seen("http", request.transport.get_extra_info("peername"), request.transport.get_extra_info("sockname"))
    told |= {"method": request.method, "path": request.path_qs, "headers": dict(request.headers),
             "body": (await request.read()).decode(errors="replace")}
    response = http.text(json.dumps(told) + "\n")
    response.content_type = "application/json"
    return response


async def _tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    about = seen("tcp", writer.get_extra_info("peername"), writer.get_extra_info("sockname"))
    try:
        while line := await reader.readline():
            received = line.decode(errors="replace").rstrip("\r\n")
            writer.write(json.dumps(about | {"received": received}).encode() + b"\n")
            await writer.drain()
    except (OSError, ValueError):
        pass  # the client went away, or its line is longer than a line may be
    finally:
        writer.close()


class _Udp(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:  # Python 3.11's is no DatagramTransport by type
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        told = seen("udp", addr, self._transport.get_extra_info("sockname"))
        self._transport.sendto(json.dumps(told | {"received": data.decode(errors="replace")}).encode(), addr)
