"""The kubelet's own HTTPS server: what the API server asks it for (logs, exec, attach, port-forward), and its state.

After k8s:pkg/kubelet/server/server.go. Clients show a certificate of the cluster's client CA, or a token that the API
server vouches for; without either, or with one that is not good, the answer is 401.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from netlab import daemon
from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.kernel.inotify import Inotify
from netlab.kubelet import certificates, metrics, server_logs, server_streams
from netlab.kubelet.serving import Doors

if TYPE_CHECKING:
    from netlab.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)

_TRUST_SECONDS = 120.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves on --address:--port with TLS, and a plain healthz for this machine alone."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._runners: list[web.AppRunner] = []
        self._trusted: dict[str, float] = {}
        self._inotify: Inotify | None = None
        self._doors: Doors | None = None

    async def start(self) -> None:
        """Listen."""
        config = self._kubelet.config
        self._inotify = Inotify()
        logs, streams = server_logs.Logs(self._kubelet, self._inotify), server_streams.StreamServer(self._kubelet)
        application = web.Application(middlewares=[self._authenticate])
        application.router.add_get("/healthz", _healthy)
        application.router.add_get("/healthz/{check}", _healthy)
        application.router.add_get("/pods", self._pods)
        application.router.add_get("/runningpods/", self._pods)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/metrics/resource", self._metrics)
        application.router.add_get("/stats/summary", self._summary)
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs.serve)
        for verb in ("exec", "attach"):
            for middle in ("", "/{uid}"):
                application.router.add_route("*", f"/{verb}/{{namespace}}/{{pod}}{middle}/{{container}}",
                                             getattr(streams, verb))
        for middle in ("", "/{uid}"):
            application.router.add_route("*", f"/portForward/{{namespace}}/{{pod}}{middle}", streams.port_forward)
        self._doors = self._open()
        await self._listen(application, config.address, config.port, self._doors.for_asyncio())
        if config.healthz_port:
            plain = web.Application()
            plain.router.add_get("/healthz", _healthy)
            await self._listen(plain, config.healthz_address, config.healthz_port, None)

    async def close(self) -> None:
        """Stop listening; conversations end."""
        for runner in self._runners:
            await runner.cleanup()
        if self._inotify is not None:
            self._inotify.close()

    async def _listen(self, application: web.Application, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, daemon.listen_host(host), port, ssl_context=tls, reuse_address=True)
            await site.start()
        except OSError as error:
            raise NetlabError(f"can't listen on {host}:{port}: {error.strerror}") from error
        listening: Any = site._server  # noqa: SLF001 - TCPSite tells no other way
        for sock in listening.sockets:
            daemon.watchful(sock)
        self._runners.append(runner)

    def _open(self) -> Doors:
        config = self._kubelet.config
        certificate, key = config.certificate, config.key
        if not certificate:
            certificate, key = certificates.self_signed(config.root / "pki", config.node_name,
                                                        self._kubelet.node.host_ips())
        return Doors(certificate, key, config.client_ca)

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport
        shown = transport.get_extra_info("peercert") if transport is not None else ()
        certified = bool(shown) and self._doors is not None and self._doors.trusts(shown, time.time())
        nobody = self._kubelet.config.anonymous and not shown and "Authorization" not in request.headers
        if not (certified or nobody or await self._vouched(request)):
            return web.Response(status=401, text="Unauthorized\n")
        try:
            return await handler(request)
        except NetlabError as error:
            return web.Response(status=500, text=f"{error}\n")

    async def _vouched(self, request: web.Request) -> bool:
        """Ask the API server whether a bearer token is good; believe the answer for a while."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token or self._kubelet.client is None:
            return False
        now = time.monotonic()
        if self._trusted.get(token, 0.0) > now:
            return True
        review: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
                          "spec": {"token": token}}
        try:
            answer = await self._kubelet.client.create("tokenreviews.authentication.k8s.io", review)
        except NetlabError as error:
            log.info("a token could not be checked: %s", error)
            return False
        good = bool((answer.get("status") or {}).get("authenticated"))
        if good:
            self._trusted = {t: at for t, at in self._trusted.items() if at > now} | {token: now + _TRUST_SECONDS}
        return good

    async def _pods(self, _request: web.Request) -> web.Response:
        pods = [{**w.pod, "status": self._kubelet.reporter.last(w.uid) or w.pod.get("status") or {}}
                for w in self._kubelet.workers.values()]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=await metrics.text(self._kubelet), content_type="text/plain",
                            headers={"X-Content-Type-Options": "nosniff"})

    async def _summary(self, _request: web.Request) -> web.Response:
        return web.json_response(await metrics.summary(self._kubelet))


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok")
