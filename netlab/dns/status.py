"""Health, readiness and counters over HTTP: /health on 8080, /ready on 8181, /metrics on 9153."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

Page = Callable[[], tuple[int, str]]


class Pages:
    """Small HTTP servers, one for each address, that answer one path each."""

    def __init__(self) -> None:
        self._runners: list[web.AppRunner] = []

    async def serve(self, pages: Mapping[str, tuple[tuple[str, int] | None, Page]]) -> None:
        """Serve pages by path; an address of None leaves one out."""
        for path, (address, page) in pages.items():
            if address is None:
                continue
            app = web.Application()
            app.router.add_get(path, _handler(page))
            runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
            await runner.setup()
            self._runners.append(runner)
            await web.TCPSite(runner, address[0] or None, address[1], reuse_address=True).start()

    async def close(self) -> None:
        """Stop serving."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        status, text = page()
        return web.Response(status=status, text=text)
    return answer
