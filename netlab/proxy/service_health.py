"""Health check node ports: how a load balancer learns which nodes have an endpoint of a Service.

One HTTP server per Service with externalTrafficPolicy Local and type LoadBalancer
(kubernetes: pkg/proxy/healthcheck/service_health.go).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from netlab.api.meta import split_key
from netlab.proxy.health import ProxyHealth

log = logging.getLogger(__name__)


class ServiceHealth:
    """The servers, one per port.

    `addresses` returns what they listen on: where node ports are served. `refused` is told of a Service whose port
    cannot be listened on, and why.
    """

    def __init__(self, health: ProxyHealth, addresses: Callable[[], tuple[str, ...]] = lambda: ("0.0.0.0",),
                 refused: Callable[[str, str], None] = lambda _service, _words: None) -> None:
        self._tell = refused
        self._health = health
        self._addresses = addresses
        self._runners: dict[str, tuple[int, tuple[str, ...], web.AppRunner]] = {}
        self._local: dict[str, int] = {}
        self._refused: set[tuple[str, int]] = set()

    async def serve(self, node_ports: Mapping[str, int], local_endpoints: Mapping[str, int]) -> None:
        """Start and stop servers so that exactly these Services have one, and say how many endpoints are here."""
        self._local = dict(local_endpoints)
        self._refused &= set(node_ports.items())
        addresses = self._addresses()
        for service, (port, served, runner) in list(self._runners.items()):
            if node_ports.get(service) != port or served != addresses:
                log.info("Closing the health check server of %s on port %d", service, port)
                del self._runners[service]
                await runner.cleanup()
        for service, port in node_ports.items():
            if service not in self._runners:
                await self._start(service, port, addresses)

    async def close(self) -> None:
        """Stop all servers."""
        await self.serve({}, {})

    async def _start(self, service: str, port: int, addresses: tuple[str, ...]) -> None:
        app = web.Application()

        async def answer(_: web.Request) -> web.Response:
            return self._answer(service)

        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            for address in addresses:
                await web.TCPSite(runner, address, port).start()
        except OSError as error:
            await runner.cleanup()
            if (service, port) not in self._refused:
                words = f"cannot serve the health check of {service} on port {port}: {error.strerror}"
                log.error(words)
                self._tell(service, words)
                self._refused.add((service, port))
            return
        self._runners[service] = (port, addresses, runner)
        log.info("Opened the health check server of %s on port %d", service, port)

    def _answer(self, service: str) -> web.Response:
        count = self._local.get(service, 0)
        well = self._health.healthy(time.monotonic())
        namespace, name = split_key(service)
        body = {"service": {"namespace": namespace, "name": name}, "localEndpoints": count, "serviceProxyHealthy": well}
        return web.json_response(body, status=200 if count and well else 503, headers={
            "X-Content-Type-Options": "nosniff", "X-Load-Balancing-Endpoint-Weight": str(count)})
