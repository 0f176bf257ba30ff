"""agnhost porter: serve on every port that a variable names: SERVE_PORT_80=foo answers "foo" on port 80."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from netlab import daemon
from netlab.agnhost import http, sockets
from netlab.flags import parse

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

_NAME = re.compile(r"SERVE_PORT_(\d+)\Z")


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    parse("agnhost porter", argv, ())
    return daemon.run(lambda stop: serve(wanted(os.environ), stop))


def wanted(environ: Mapping[str, str]) -> dict[int, str]:
    """Return what to answer on which port."""
    return {int(found[1]): value for name, value in environ.items() if (found := _NAME.match(name))}


async def serve(ports: Mapping[int, str], stop: asyncio.Event) -> None:
    """Answer on all ports until `stop` is set."""
    def handler(body: str) -> http.Handler:
        async def answer(request: web.Request) -> web.Response:  # noqa: ARG001 - a handler
            return http.text(body)
        return answer

    if not ports:
        log.warning("no variable SERVE_PORT_<port> is set: nothing to serve")
    servers = [http.serve({"*": handler(body)}, sockets.listen(port), stop) for port, body in ports.items()]
    await asyncio.gather(stop.wait(), *servers)
