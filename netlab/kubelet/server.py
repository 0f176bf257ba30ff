"""The kubelet's own HTTPS server: what the API server asks it for (logs, exec, attach, port-forward), and its state.

After k8s:pkg/kubelet/server/server.go. Clients show a certificate of the cluster's client CA, or a token that the API
server vouches for; without either, or with one that is not good, the answer is 401. What they may do is asked of the
API server as well (authorization mode Webhook), and what they may not is answered 403.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from netlab import daemon
from netlab.client.delegation import ANONYMOUS, Asker, Tokens
from netlab.errors import NetlabError
from netlab.kernel.inotify import Inotify
from netlab.kubelet import certificates, metrics, server_logs, server_streams
from netlab.kubelet.authorize import Authorizer, asked
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
        self._tokens = Tokens(kubelet.client, _TRUST_SECONDS) if kubelet.client is not None else None
        self._authorizer: Authorizer | None = None
        self._inotify: Inotify | None = None
        self._doors: Doors | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            NetlabError: the port or the certificates can't be used, or there is no API server to ask who may do what.
        """
        config = self._kubelet.config
        self._inotify = Inotify()
        if config.webhook:
            if self._kubelet.client is None:
                raise NetlabError("no client provided, cannot use webhook authorization")
            self._authorizer = Authorizer(self._kubelet.client, config.node_name)
        logs, streams = server_logs.Logs(self._kubelet, self._inotify), server_streams.StreamServer(self._kubelet)
        application = web.Application(middlewares=[self._admit])
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
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        asker = await self._authenticated(request)
        if asker is None:
            return web.Response(status=401, text="Unauthorized\n")
        if self._authorizer is not None:
            verb, parts = asked(request.method, request.path)
            about = f"(user={asker.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(parts)}])\n"
            try:
                allowed = await self._authorizer.allows(asker, verb, parts)
            except NetlabError as error:
                log.error("who may do what could not be asked: %s", error)
                return web.Response(status=500, text=f"Authorization error {about}")
            if not allowed:
                return web.Response(status=403, text=f"Forbidden {about}")
        try:
            return await handler(request)
        except NetlabError as error:
            return web.Response(status=500, text=f"{error}\n")

    async def _authenticated(self, request: web.Request) -> Asker | None:
        """Return who asks; None when he shows nothing that is good."""
        transport = request.transport
        shown = transport.get_extra_info("peercert") if transport is not None else ()
        if shown and self._doors is not None:
            certified = self._doors.who(shown, time.time())
            if certified is not None:
                return certified
        if self._kubelet.config.anonymous and not shown and "Authorization" not in request.headers:
            return ANONYMOUS
        return await self._vouched(request)

    async def _vouched(self, request: web.Request) -> Asker | None:
        """Ask the API server whose a bearer token is; believe the answer for a while."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token or self._tokens is None:
            return None
        try:
            return await self._tokens.whose(token)
        except NetlabError as error:
            log.info("a token could not be checked: %s", error)
            return None

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
