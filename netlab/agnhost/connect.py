"""agnhost connect: can this host be reached? Silence and 0 if so; else TIMEOUT, REFUSED, DNS or OTHER, and 1."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from typing import Final

from netlab.agnhost import dial, sockets
from netlab.errors import UsageError
from netlab.flags import Flag, parse

FLAGS: Final = (
    Flag("timeout", "duration", 0.0, "how long to wait; 0 is for as long as the kernel tries"),
    Flag("protocol", "string", "tcp", "tcp or udp"),
    Flag("udp-data", "string", "test", "what to send; any answer counts"),
)


def main(argv: list[str]) -> int:
    """Try once; say how it failed."""
    flags = parse("agnhost connect", argv, FLAGS)
    if len(flags.args) != 1:
        raise UsageError("usage: agnhost connect HOST:PORT [--timeout=5s] [--protocol=tcp|udp]")
    if flags["protocol"] not in ("tcp", "udp"):
        raise UsageError(f"unsupported protocol {flags['protocol']!r}, supported ones are tcp and udp")
    try:
        host, port = sockets.split(flags.args[0])
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        print("OTHER")
        return 1
    said = asyncio.run(attempt(host, port, flags["protocol"], flags["timeout"] or None, flags["udp-data"].encode()))
    if said:
        print(said)
    return 1 if said else 0


async def attempt(host: str, port: int, protocol: str, timeout: float | None, data: bytes) -> str:
    """Return "" when it worked, else one word and, for OTHER, why."""
    try:
        if protocol == "udp":
            await dial.udp(host, port, data, timeout or 1e6)
            return ""
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return ""
    except TimeoutError:
        return "TIMEOUT"
    except socket.gaierror:
        return "DNS"
    except OSError as error:
        if error.errno == errno.ECONNREFUSED or "[Errno 111] Connect call failed" in str(error):
            return "REFUSED"
        if error.errno == errno.ETIMEDOUT:
            return "TIMEOUT"
        sys.stderr.write(f"{error}\n")
        return "OTHER"
