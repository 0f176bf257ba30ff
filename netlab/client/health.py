"""The small HTTPS server that every control plane component has: /healthz, /livez, /readyz, /metrics.

Without certificate files it makes itself a self-signed one, as upstream's components do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from netlab.client.doors import Doors
from netlab.client.guard import Guard
from netlab.errors import UsageError


@asynccontextmanager
async def serving(address: str, port: int, *, certificate: str = "", key: str = "", checks: Callable[[], str] = str,
                  metrics: Callable[[], str] = str, guard: Guard | None = None) -> AsyncIterator[None]:
    """Serve while the body runs; port 0 serves nothing.

    Args:
        address: where to listen.
        port: where to listen.
        certificate: path of a PEM certificate, "" for a self-signed one.
        key: path of its key.
        checks: returns what is wrong, "" while all is well.
        metrics: returns the text of /metrics (Prometheus).
        guard: says who may see what; without it all may.

    Raises:
        UsageError: the address is taken, or the files are no certificate and key.
    """
    if not port:
        yield
        return

    async def health(_: web.Request) -> web.Response:
        wrong = checks()
        return web.Response(text=wrong or "ok", status=500 if wrong else 200)

    async def numbers(_: web.Request) -> web.Response:
        return web.Response(text=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(middlewares=[guard.admit] if guard is not None else [])
    for path in ("/healthz", "/livez", "/readyz"):
        app.router.add_get(path, health)
    app.router.add_get("/metrics", numbers)
    doors = Doors(certificate, key, address)
    if guard is not None:
        guard.stand(doors)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address, port, ssl_context=doors.for_asyncio()).start()
        except OSError as error:
            raise UsageError(f"can't listen on {address}:{port}: {error.strerror or error}") from error
        yield
    finally:
        await runner.cleanup()
