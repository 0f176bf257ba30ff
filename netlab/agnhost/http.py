"""One HTTP server for all subcommands: handlers on sockets, until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(handlers: Mapping[str, Handler], sockets: Sequence[socket.socket], stop: asyncio.Event, *,
                tls: ssl.SSLContext | None = None, grace: float = 1.0) -> None:
    """Answer HTTP on listening sockets until `stop` is set; open requests then have `grace` seconds left.

    `handlers` are by path; "*" takes every path that no other does. Any method is taken, as Go's mux does.
    """
    from aiohttp import web
    app = web.Application(client_max_size=1 << 30)
    for path, handler in sorted(handlers.items(), key=lambda item: item[0] == "*"):
        app.router.add_route("*", "/{rest:.*}" if path == "*" else path, handler)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=grace)
    await runner.setup()
    try:
        for one in sockets:
            await web.SockSite(runner, one, ssl_context=tls).start()
        await stop.wait()
    finally:
        await runner.cleanup()


def text(body: str, status: int = 200) -> web.Response:
    """Return a plain answer."""
    from aiohttp import web
    return web.Response(text=body, status=status)


_ESCAPED = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


def encoded(answer: object, *, ordered: bool = True) -> str:
    """Return JSON as Go's encoder writes it: compact, safe to stand in HTML; a map in the order of its keys."""
    return json.dumps(answer, separators=(",", ":"), sort_keys=ordered, ensure_ascii=False).translate(_ESCAPED)
