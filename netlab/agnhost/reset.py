"""agnhost tcp-reset: take a connection, read what comes first, and answer with a reset."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

from netlab import daemon
from netlab.agnhost import sockets
from netlab.flags import Flag, parse

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    flags = parse("agnhost tcp-reset", argv, (Flag("port", "int", 8080, "TCP port"),))
    return daemon.run(lambda stop: serve(flags["port"], stop))


async def serve(port: int, stop: asyncio.Event) -> None:
    """Reset every connection until `stop` is set."""
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        log.info("TCP request from %s", writer.get_extra_info("peername"))
        one = writer.get_extra_info("socket")
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() then sends RST
        writer.transport.abort()

    servers = [await asyncio.start_server(handle, sock=one) for one in sockets.listen(port)]
    await stop.wait()
    for server in servers:
        server.close()
