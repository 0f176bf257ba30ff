"""agnhost test-webserver and liveness: the files of the container over HTTP; a server that is well for ten seconds."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netlab import daemon
from netlab.agnhost import http, sockets
from netlab.flags import Flag, parse

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

FLAGS: Final = (Flag("port", "int", 80, "port"),)
ROOT = Path("/")
WELL_SECONDS = 10.0


def main(argv: list[str]) -> int:
    """Serve the container's files until SIGTERM."""
    port = parse("agnhost test-webserver", argv, FLAGS)["port"]
    return daemon.run(lambda stop: http.serve({"*": file}, sockets.listen(port), stop))


async def file(request: web.Request) -> web.StreamResponse:
    """Answer a file, or the names in a directory as links; pages of other origins may ask as well."""
    from aiohttp import web

    open_to_all = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true",
                   "Cache-Control": "private"}
    asked = (ROOT / request.path.lstrip("/")).resolve()
    try:
        if asked.is_relative_to(ROOT) and asked.is_dir():
            if (asked / "index.html").is_file():
                return web.FileResponse(asked / "index.html", headers=open_to_all)
            names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in asked.iterdir())
            body = "<pre>\n" + "".join(f'<a href="{name}">{name}</a>\n' for name in names) + "</pre>\n"
            return web.Response(text=body, content_type="text/html", headers=open_to_all)
        if asked.is_relative_to(ROOT) and asked.is_file():
            return web.FileResponse(asked, headers=open_to_all)
    except OSError as error:
        return web.Response(status=403, text=f"{error.strerror}\n", headers=open_to_all)
    return web.Response(status=404, text="404 page not found\n", headers=open_to_all)


def liveness(argv: list[str]) -> int:
    """Say ok on /healthz for ten seconds, and 500 from then on; /started tells for how long this runs."""
    parse("agnhost liveness", argv, ())
    started = time.monotonic()

    async def health(_: web.Request) -> web.Response:
        lived = time.monotonic() - started
        return http.text("ok") if lived <= WELL_SECONDS else http.text(f"error: {lived:.6f}", 500)

    async def since(_: web.Request) -> web.Response:
        return http.text(f"{time.monotonic() - started:.9f}s")

    async def redirect(request: web.Request) -> web.Response:
        from aiohttp import web
        return web.Response(status=302, headers={"Location": request.query.get("loc", "/")})

    handlers: dict[str, http.Handler] = {"/healthz": health, "/started": since, "/redirect": redirect}
    return daemon.run(lambda stop: http.serve(handlers, sockets.listen(8080), stop))
