"""The program coredns: the cluster's name server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from netlab import daemon, klog
from netlab.client import config as client_config
from netlab.client.client import Client, user_agent
from netlab.client.config import Config
from netlab.client.informer import Informer
from netlab.dns import corefile, objects
from netlab.dns.build import Settings, build
from netlab.dns.chain import Plugin
from netlab.dns.message import Reply, Request
from netlab.dns.plugins.kubernetes import Config as KubernetesConfig
from netlab.dns.plugins.kubernetes import Kubernetes
from netlab.dns.server import Server
from netlab.dns.status import Pages
from netlab.errors import ManifestError, NetlabError, UsageError
from netlab.flags import Flag, Flags, parse, usage

log = logging.getLogger(__name__)

FLAGS: Final = (
    Flag("conf", "string", "Corefile", "the Corefile"),
    Flag("dns.port", "int", corefile.PORT, "port of server blocks that name none"),
    Flag("p", "int", corefile.PORT, ignored=True),
    Flag("quiet", "bool", False, ignored=True),
    Flag("kubeconfig", "string", "", "kubeconfig file; without one, the Pod's service account"),
    Flag("v", "int", 0, "log verbosity"),
    Flag("help", "bool", False, "this text"),
)


def main(argv: list[str]) -> int:
    """Run the name server. Returns the exit code."""
    try:
        flags = parse("coredns", argv, FLAGS)
    except UsageError as error:
        sys.stderr.write(f"coredns: {error}\n")
        return 1
    if flags["help"]:
        sys.stdout.write(usage("coredns", "coredns: the cluster's name server, by a Corefile.", FLAGS))
        return 0
    klog.setup(verbosity=flags["v"])
    return daemon.run(lambda stop: NameServer(flags).run(stop))


class NameServer:
    """Everything that one Corefile asks for, exchanged as a whole when it changes."""

    def __init__(self, flags: Flags) -> None:
        self._flags, self._file = flags, flags["conf"]
        self._generation = 0
        self._servers: dict[int, Server] = {}
        self._clusters: dict[tuple[bool, tuple[str, ...]], objects.Cluster] = {}
        self._plugins: list[Kubernetes] = []
        self._client: Client | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._ips: tuple[str, ...] = ()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, and for the lame duck's time after it.

        Raises:
            ManifestError: the Corefile is wrong.
            UsageError: a port cannot be had.
        """
        text = _read(self._file)
        settings = self._load(text, stop)
        pages = Pages()
        try:
            await self._listen(settings)
            await pages.serve({"/health": (settings.health, lambda: (200, "OK")),
                               "/ready": (settings.ready, self._readiness),
                               "/metrics": (settings.metrics, lambda: (200, settings.counters.text()))})
            log.info("serving %s", ", ".join(f"{zone or '.'}:{port}" for port, chains in settings.chains.items()
                                             for chain in chains for zone in chain.zones))
            await self._wait(settings, text, stop)
            await asyncio.sleep(settings.lameduck)
        finally:
            await pages.close()
            for server in self._servers.values():
                server.close()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            if self._client is not None:
                await self._client.close()

    def _load(self, text: str, stop: asyncio.Event) -> Settings:
        blocks = corefile.parse(text, self._file)
        self._plugins = []
        return build(blocks, self._file, lambda config: self._kubernetes(config, stop))

    async def _listen(self, settings: Settings) -> None:
        """Open the ports that are new, close those that are gone, exchange the chains of the others."""
        for port, chains in settings.chains.items():
            actual = self._flags["dns.port"] if port == corefile.PORT else port
            if actual in self._servers:
                self._servers[actual].exchange(chains)
                continue
            server = Server(chains, lambda: self._generation)
            await server.start(actual, settings.bind.get(port, ()))
            self._servers[actual] = server
        wanted = {self._flags["dns.port"] if port == corefile.PORT else port for port in settings.chains}
        for port in set(self._servers) - wanted:
            self._servers.pop(port).close()

    async def _wait(self, settings: Settings, text: str, stop: asyncio.Event) -> None:
        """Wait for the end; with `reload`, look at the Corefile now and then."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.reload or None):
                    await stop.wait()
            if stop.is_set():
                return
            try:
                now = _read(self._file)
                if now == text:
                    continue
                text = now
                plugins = self._plugins
                try:
                    settings = self._load(text, stop)
                except ManifestError:
                    self._plugins = plugins
                    raise
                await self._listen(settings)
                log.info("[INFO] Reloading complete")
            except NetlabError as error:
                log.error("the changed Corefile is not used: %s", error)

    def _readiness(self) -> tuple[int, str]:
        waiting = [plugin.name for plugin in self._plugins if not plugin.ready]
        return (503, ",".join(waiting)) if waiting else (200, "OK")

    def _kubernetes(self, config: KubernetesConfig, stop: asyncio.Event) -> Plugin:
        key = (config.pods == "verified", config.namespaces)
        if key not in self._clusters:
            self._clusters[key] = self._cluster(config, stop)
        plugin = Kubernetes(config, self._clusters[key], resolve=self._resolve, serial=lambda: int(time.time()),
                            server_ips=self._ips)
        self._plugins.append(plugin)
        return plugin

    def _cluster(self, config: KubernetesConfig, stop: asyncio.Event) -> objects.Cluster:
        if self._client is None:
            path = self._flags["kubeconfig"]
            settings = client_config.load(path) if path else client_config.in_cluster()
            self._client = Client(settings, user_agent("coredns"))
            self._ips = _own_ips(settings)
        client = self._client
        pods = Informer(client, "pods", transform=objects.slim_pod) if config.pods == "verified" else None
        cluster = objects.Cluster(Informer(client, "services", transform=objects.slim_service),
                                  Informer(client, "endpointslices.discovery.k8s.io", transform=objects.slim_slice),
                                  Informer(client, "namespaces", transform=objects.slim_namespace), pods,
                                  config.namespaces)
        cluster.on_change(self._changed)
        for informer in cluster.informers():
            task = asyncio.ensure_future(informer.run(stop))
            self._running.add(task)
            task.add_done_callback(self._ended)
        return cluster

    def _changed(self) -> None:
        self._generation += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an informer ended: %s", task.exception())

    async def _resolve(self, request: Request) -> Reply:
        """Ask ourselves, as a client would: for the names that aliases point to."""
        server = next(iter(self._servers.values()), None)
        return await server.ask(request) if server is not None else Reply()


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"cannot be read: {error}", file=file) from None


def _own_ips(settings: Config) -> tuple[str, ...]:
    """Return the address that we talk to the API server from: nothing is sent to learn it."""
    parts = urlsplit(settings.server)
    try:
        with socket.socket(socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET,
                           socket.SOCK_DGRAM) as one:
            one.connect((parts.hostname, parts.port or 443))
            return (str(one.getsockname()[0]),)
    except OSError:
        return ()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
