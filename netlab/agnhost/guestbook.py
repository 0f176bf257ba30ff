"""agnhost guestbook: the tutorial's front end and its key-value store, in one program.

A store (`--backend-port`) keeps values and hands each `set` on to the replicas that registered with it (`--replicaof`);
the front end (`--http-port`) sends reads to `agnhost-replica` and writes to `agnhost-primary`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from netlab import daemon
from netlab.agnhost import dial, http, sockets
from netlab.flags import Flag, parse

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

FLAGS: Final = (
    Flag("http-port", "int", 80, "port of the front end"),
    Flag("backend-port", "int", 6379, "port of the stores"),
    Flag("replicaof", "string", "", "the primary to register with"),
    Flag("slaveof", "string", "", "older word for --replicaof"),
)
PAGE: Final = """<html><head><title>Guestbook</title></head><body><h1>Guestbook</h1>
<form action="guestbook"><input type="hidden" name="cmd" value="set"><input type="hidden" name="key" value="messages">
<input name="value"><input type="submit"></form></body></html>
"""


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    flags = parse("agnhost guestbook", argv, FLAGS)
    primary = flags["replicaof"] or flags["slaveof"]
    book = Guestbook(flags["backend-port"])
    return daemon.run(lambda stop: book.serve(flags["http-port"], primary, stop))


class Guestbook:
    """Values, and who gets a copy."""

    def __init__(self, backend_port: int) -> None:
        self._port = backend_port
        self._values: dict[str, str] = {}
        self._replicas: list[str] = []

    async def serve(self, port: int, primary: str, stop: asyncio.Event) -> None:
        """Answer until `stop` is set."""
        handlers: dict[str, http.Handler] = {
            "/": self.page, "/register": self.register, "/get": self.get, "/set": self.set,
            "/guestbook": self.guestbook, "/healthz": self.healthy}
        tasks = [http.serve(handlers, sockets.listen(number), stop) for number in dict.fromkeys((port, self._port))]
        if primary:
            tasks.append(self._register_with(primary, stop))
        await asyncio.gather(*tasks)

    async def page(self, _: web.Request) -> web.Response:
        """Return the page."""
        response = http.text(PAGE)
        response.content_type = "text/html"
        return response

    async def healthy(self, _: web.Request) -> web.Response:
        """Say that all is well."""
        return http.text("ok")

    async def register(self, request: web.Request) -> web.Response:
        """Take ?host= for a replica."""
        host = request.query.get("host") or (request.remote or "")
        if host not in self._replicas:
            self._replicas.append(host)
        return http.text(http.encoded({"data": host}))

    async def get(self, request: web.Request) -> web.Response:
        """Return the value of ?key=."""
        return http.text(http.encoded({"data": self._values.get(request.query.get("key", ""), "")}))

    async def set(self, request: web.Request) -> web.Response:
        """Keep ?value= as ?key=, here and on the replicas."""
        key, value = request.query.get("key", ""), request.query.get("value", "")
        self._values[key] = value
        query = urlencode({"key": key, "value": value})
        results = await asyncio.gather(*(dial.http(host, self._port, f"set?{query}", 5.0) for host in self._replicas),
                                       return_exceptions=True)
        for host, result in zip(self._replicas, results, strict=True):
            if isinstance(result, BaseException):
                log.warning("replica %s did not take %r: %s", host, key, dial.reason(result))
        return http.text(http.encoded({"data": "Updated"}))

    async def guestbook(self, request: web.Request) -> web.Response:
        """Send ?cmd=get to the replicas and ?cmd=set to the primary."""
        command = request.query.get("cmd", "")
        if command not in ("get", "set"):
            return http.text(f"unknown cmd {command!r}", 400)
        host = "agnhost-primary" if command == "set" else "agnhost-replica"
        query = urlencode({key: request.query.get(key, "") for key in ("key", "value")})
        try:
            return http.text(await dial.http(host, self._port, f"{command}?{query}", 5.0))
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the page shows it
            return http.text(f"{host}: {dial.reason(error)}", 500)

    async def _register_with(self, primary: str, stop: asyncio.Event) -> None:
        host, _, port = primary.partition(":")
        while not stop.is_set():
            try:
                await dial.http(host, int(port or self._port), "register", 5.0)
                return
            except Exception as error:  # noqa: BLE001 - the primary may come up after us
                log.info("cannot register with %s yet: %s", primary, dial.reason(error))
            await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=1.0)
