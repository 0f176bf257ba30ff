"""One probe of each kind: HTTP, TCP, a command, gRPC's health service. They go from the node to the Pod's address.

Messages and limits: k8s:pkg/probe, k8s:pkg/kubelet/prober/prober.go.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from netlab.api.meta import Object
from netlab.errors import NetlabError, TemporaryError
from netlab.kubelet import grpc_health, spec

USER_AGENT = "kube-probe/1.36"
_BODY_BYTES = 10 * 1024
_REDIRECTS = 10


class Outcome(NamedTuple):
    """How a probe went. `ok` None: the probe itself could not be made, which counts as nothing."""

    ok: bool | None
    output: str = ""


Exec = Callable[[Sequence[str], float], Awaitable[tuple[int, bytes]]]
"""(command, timeout) → (exit code, output): runs a command in the probed container."""


class Probers:
    """The means to probe; one per kubelet."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def probe(self, probe: Object, wanted: Object, ip: str, run: Exec) -> Outcome:
        """Probe once.

        Args:
            probe: the container's livenessProbe, readinessProbe or startupProbe.
            wanted: the container, whose port names the probe may use.
            ip: the Pod's address.
            run: runs a command in the container.
        """
        seconds = float(probe.get("timeoutSeconds") or 1)
        try:
            if "exec" in probe:
                return await _command(probe["exec"], seconds, run)
            if "httpGet" in probe:
                return await self._http(probe["httpGet"], wanted, ip, seconds)
            if "tcpSocket" in probe:
                body = probe["tcpSocket"]
                return await _tcp(str(body.get("host") or ip), spec.port_number(wanted, body.get("port")), seconds)
            if "grpc" in probe:
                body = probe["grpc"]
                service, port = str(body.get("service") or ""), int(body["port"])
                return Outcome(*await grpc_health.check(ip, port, service, seconds))
        except ValueError as error:
            return Outcome(None, str(error))
        return Outcome(None, "missing probe handler")

    async def _http(self, body: Object, wanted: Object, ip: str, seconds: float) -> Outcome:
        host = str(body.get("host") or ip)
        scheme = str(body.get("scheme") or "HTTP").lower()
        port = spec.port_number(wanted, body.get("port"))
        path = str(body.get("path") or "/")
        url = f"{scheme}://{bracketed(host)}:{port}{path if path.startswith('/') else f'/{path}'}"
        status, said = await self.get(url, body.get("httpHeaders") or [], seconds)
        if status is None:
            return Outcome(False, said)
        if 200 <= status < 400:
            return Outcome(True, said)
        return Outcome(False, f"HTTP probe failed with statuscode: {status}")

    async def get(self, url: str, headers: Sequence[Object], seconds: float) -> tuple[int | None, str]:
        """GET a URL as a probe or hook does; (status, body), or (None, Go's words for what went wrong)."""
        if self._session is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one reads the system's authorities first
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=context),
                cookie_jar=aiohttp.DummyCookieJar())
        sent = {"User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
        for row in headers:
            if row.get("name", "").lower() == "accept" and not row.get("value"):
                sent.pop("Accept", None)
            else:
                sent = {k: v for k, v in sent.items() if k.lower() != row["name"].lower()}
                sent[str(row["name"])] = str(row.get("value") or "")
        first = urlsplit(url)
        try:
            async with asyncio.timeout(seconds):
                for _ in range(_REDIRECTS):
                    async with self._session.get(url, headers=sent, allow_redirects=False) as response:
                        text = (await response.content.read(_BODY_BYTES)).decode(errors="replace")
                        target = response.headers.get("Location", "")
                        if response.status not in (301, 302, 303, 307, 308) or not target:
                            return response.status, text
                        following = str(response.url.join(type(response.url)(target)))
                        if urlsplit(following).hostname != first.hostname:
                            return response.status, "Probe terminated redirects, Response body: " + text
                        url = following
                return None, f'Get "{url}": stopped after {_REDIRECTS} redirects'
        except TimeoutError:
            return None, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        except aiohttp.ClientConnectorError as error:
            return None, f'Get "{url}": {dial_words(bracketed(first.hostname or ""), first.port or 0, error.os_error)}'
        except (aiohttp.ServerDisconnectedError, ConnectionError):
            return None, f'Get "{url}": EOF'
        except (aiohttp.ClientError, ValueError) as error:
            return None, f'Get "{url}": {error}'


def bracketed(host: str) -> str:
    """Return a host as URLs write it."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def dial_words(host: str, port: int, error: OSError) -> str:
    """Word a failed connection as Go's net package does."""
    why = {errno.ECONNREFUSED: "connection refused", errno.EHOSTUNREACH: "no route to host",
           errno.ENETUNREACH: "network is unreachable", errno.ETIMEDOUT: "connection timed out",
           errno.ECONNRESET: "connection reset by peer"}.get(error.errno or 0, error.strerror or str(error))
    return f"dial tcp {host}:{port}: connect: {why}"


async def _command(body: Object, seconds: float, run: Exec) -> Outcome:
    command = body.get("command") or []
    try:
        code, output = await run(command, seconds)
    except TemporaryError:
        quoted = " ".join(command)
        return Outcome(False, f'command timed out: "{quoted}" timed out after {seconds:g}s')
    except NetlabError as error:
        return Outcome(None, str(error))
    return Outcome(code == 0, output[:_BODY_BYTES].decode(errors="replace"))


async def _tcp(host: str, port: int, seconds: float) -> Outcome:
    shown = bracketed(host)
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Outcome(False, f"dial tcp {shown}:{port}: i/o timeout")
    except OSError as error:
        return Outcome(False, dial_words(shown, port, error))
    writer.close()
    return Outcome(True)
