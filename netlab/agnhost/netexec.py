"""agnhost netexec: the server that Kubernetes' network tests ask who is there, who asks, and to ask others."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import tempfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from netlab import daemon
from netlab.agnhost import dial, http, sockets
from netlab.flags import Flag, Flags, parse

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

FLAGS: Final = (
    Flag("http-port", "int", 8080, "HTTP port"),
    Flag("udp-port", "int", 8081, "UDP port; -1 for none"),
    Flag("sctp-port", "int", -1, ignored=True),
    Flag("http-override", "string", "", "path of which / gives the answer"),
    Flag("udp-listen-addresses", "list", [], "addresses to listen on for UDP"),
    Flag("sctp-listen-addresses", "list", [], ignored=True),
    Flag("tls-cert-file", "string", "", "serve HTTPS with this certificate"),
    Flag("tls-private-key-file", "string", "", "and this key"),
    Flag("delay-shutdown", "int", 0, "seconds to go on serving after SIGTERM"),
)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    flags = parse("agnhost netexec", argv, FLAGS)
    return daemon.run(lambda stop: serve(flags, stop))


async def serve(flags: Flags, stop: asyncio.Event) -> None:
    """Answer HTTP and UDP until `stop` is set."""
    tls = None
    if flags["tls-cert-file"]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(flags["tls-cert-file"], flags["tls-private-key-file"])
    datagrams: list[tuple[asyncio.DatagramTransport, Udp]] = []
    if flags["udp-port"] >= 0:
        loop = asyncio.get_running_loop()
        listening = sockets.listen(flags["udp-port"], socket.SOCK_DGRAM, flags["udp-listen-addresses"])
        datagrams = [await loop.create_datagram_endpoint(Udp, sock=one) for one in listening]
        log.info("Started UDP server on port %d", flags["udp-port"])
    server = Netexec(flags["http-override"], stop)
    ended = asyncio.Event()

    async def end() -> None:
        await stop.wait()
        await asyncio.sleep(0 if server.asked_to_end else flags["delay-shutdown"])
        ended.set()

    listening = sockets.listen(flags["http-port"])
    log.info("Started HTTP server on port %d", flags["http-port"])
    waiting = asyncio.create_task(end())
    try:
        await http.serve(server.handlers(), listening, ended, tls=tls)
    finally:
        waiting.cancel()
        for transport, _ in datagrams:
            transport.close()


class Udp(asyncio.DatagramProtocol):
    """The UDP verbs: hostname, echo TEXT, clientip, serverport; silence for anything else."""

    def connection_made(self, transport: Any) -> None:  # Python 3.11's is no DatagramTransport by type
        """Remember where to answer."""
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one datagram."""
        verb, _, rest = data.decode(errors="replace").strip().partition(" ")
        answer = {"hostname": socket.gethostname(), "echo": rest, "clientip": sockets.join(*addr[:2]),
                  "serverport": str(self._transport.get_extra_info("sockname")[1])}.get(verb.lower())
        if answer is None:
            log.info("unknown UDP command from %s: %r", sockets.join(*addr[:2]), verb)
            return
        self._transport.sendto(answer.encode(), addr)


class Netexec:
    """The HTTP paths. `asked_to_end` tells that /shutdown was called."""

    def __init__(self, override: str, stop: asyncio.Event) -> None:
        self._override, self._stop = override, stop
        self.asked_to_end = False

    def handlers(self) -> dict[str, http.Handler]:
        """Return the handlers by path."""
        paths: dict[str, http.Handler] = {
            "/clientip": self.client_ip, "/dial": self.dial, "/echo": self.echo, "/exit": self.exit,
            "/header": self.header, "/healthz": self.healthy, "/readyz": self.healthy, "/hostname": self.hostname,
            "/hostName": self.hostname, "/redirect": self.redirect, "/serverport": self.server_port,
            "/shell": self.shell, "/shutdown": self.shutdown, "/upload": self.upload, "*": self.root}
        told = {path: _told(handler) for path, handler in paths.items()}
        if self._override:
            told["*"] = told.get(self._override, told["*"])
        return told

    async def root(self, _: web.Request) -> web.Response:
        """Tell the time."""
        return http.text(f"NOW: {datetime.now(UTC).isoformat(' ')}")

    async def client_ip(self, request: web.Request) -> web.Response:
        """Tell the client's address and port, as this server sees them."""
        peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
        return http.text(sockets.join(*peer[:2]))

    async def server_port(self, request: web.Request) -> web.Response:
        """Tell the port the connection came to."""
        here = request.transport.get_extra_info("sockname") if request.transport else ("", 0)
        return http.text(str(here[1]))

    async def header(self, request: web.Request) -> web.Response:
        """Tell one of the request's headers: ?key=NAME."""
        key = request.query.get("key", "")
        return http.text(request.headers.get(key, "") if key else "")

    async def hostname(self, _: web.Request) -> web.Response:
        """Tell the host name, which is the Pod's name."""
        return http.text(socket.gethostname())

    async def healthy(self, _: web.Request) -> web.Response:
        """Say that all is well."""
        return http.text("")

    async def echo(self, request: web.Request) -> web.Response:
        """Say ?msg= with the status ?code=."""
        form = await _form(request)
        code = form.get("code", "")
        status = int(code) if code.isdigit() and 100 <= int(code) < 600 else 200
        return http.text(form.get("msg", ""), status)

    async def redirect(self, request: web.Request) -> web.Response:
        """Redirect to ?location= with ?code=."""
        from aiohttp import web
        form = await _form(request)
        code = form.get("code", "")
        status = int(code) if code.isdigit() and 300 <= int(code) < 400 else 302
        return web.Response(status=status, headers={"Location": form.get("location", "/")})

    async def exit(self, request: web.Request) -> web.Response:
        """End the process with ?code=, after ?wait= seconds of grace or ?timeout=."""
        form = await _form(request)
        code = int(form["code"]) if form.get("code", "").lstrip("-").isdigit() else 0
        wait = form.get("wait", form.get("timeout", "0")).rstrip("s")
        delay = float(wait) if wait.replace(".", "", 1).isdigit() else 0.0
        asyncio.get_running_loop().call_later(delay, os._exit, code & 0xFF)
        return http.text("")

    async def shutdown(self, _: web.Request) -> web.Response:
        """Close the server and end."""
        self.asked_to_end = True
        asyncio.get_running_loop().call_later(0.05, self._stop.set)
        return http.text("")

    async def shell(self, request: web.Request) -> web.Response:
        """Run ?cmd= by a shell; tell its output as {"output": ..., "error": ...}."""
        form = await _form(request)
        command = form.get("cmd", form.get("shellCommand", ""))
        child = await asyncio.create_subprocess_exec("/bin/sh", "-c", command, stdout=asyncio.subprocess.PIPE,
                                                     stderr=asyncio.subprocess.STDOUT)
        out, _ = await child.communicate()
        answer = {"output": out.decode(errors="replace")} if out else {}
        if child.returncode:
            answer["error"] = f"exit status {child.returncode}"
        return http.text(http.encoded(answer))

    async def upload(self, request: web.Request) -> web.Response:
        """Keep the form's `file`, executable, and tell its path as {"output": ...}."""
        form = await request.post()
        field = form.get("file")
        if field is None or isinstance(field, (str, bytes, bytearray)):
            return http.text(http.encoded({"error": "http: no such file"}))
        with tempfile.NamedTemporaryFile(dir="/uploads" if os.path.isdir("/uploads") else None, prefix="upload-",
                                         delete=False) as kept:
            kept.write(field.file.read())
            os.fchmod(kept.fileno(), 0o700)
        return http.text(http.encoded({"output": kept.name}))

    async def dial(self, request: web.Request) -> web.Response:
        """Ask another server ?tries= times: ?host= ?port= ?protocol=http|udp|tcp ?request=; tell answers and errors."""
        form = await _form(request)
        protocol, host = form.get("protocol", "http").lower() or "http", form.get("host", "")
        question = form.get("request", "hostname") or "hostname"
        tries = form.get("tries", "") or "1"
        if not form.get("port", "").isdigit() or not tries.isdigit() or protocol not in ("http", "udp", "tcp"):
            return http.text(f"invalid request parameter: {dict(form)}", 400)
        port = int(form["port"])
        responses: list[str] = []
        errors: list[str] = []
        for _ in range(int(tries)):
            try:
                if protocol == "http":
                    responses.append(await dial.http(host, port, question, 5.0))
                else:
                    ask = dial.udp if protocol == "udp" else dial.tcp
                    responses.append((await ask(host, port, question.encode(), 5.0)).decode(errors="replace"))
            except (OSError, TimeoutError, ValueError) as error:
                errors.append(dial.reason(error))
            except Exception as error:  # noqa: BLE001 - whatever the HTTP client says is the answer
                errors.append(dial.reason(error))
        return http.text(http.encoded({"responses": responses} | ({"errors": errors} if errors else {})))


def _told(handler: http.Handler) -> http.Handler:
    """Return the handler with a line in the log for each request: tests of what calls whom look for it."""
    async def handle(request: web.Request) -> web.StreamResponse:
        log.info("GET %s", request.path_qs)
        return await handler(request)

    return handle


async def _form(request: web.Request) -> dict[str, str]:
    """Return the query and, of a form POST, the body's fields."""
    fields = dict(request.query)
    if request.method == "POST":
        fields |= {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
    return fields
