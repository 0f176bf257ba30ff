"""The program kube-proxy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from netlab import __version__, daemon, klog
from netlab.api.meta import Object, split_key
from netlab.client import config as client_config
from netlab.client.client import Client
from netlab.client.events import Recorder
from netlab.errors import NetlabError, NotFound, Unsupported
from netlab.flags import usage
from netlab.kernel import inotify, iptables, nft_table
from netlab.proxy import cleanup, host, nft_names, status
from netlab.proxy.addresses import FAMILIES, Family
from netlab.proxy.config import PROGRAM, Config, read, written
from netlab.proxy.config_check import doubts
from netlab.proxy.config_table import FLAGS
from netlab.proxy.family import AnyProxier
from netlab.proxy.health import ProxyHealth, application
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_proxier import NftProxier
from netlab.proxy.pace import Pace
from netlab.proxy.proxier import Proxier
from netlab.proxy.service_health import ServiceHealth
from netlab.proxy.settings import Settings
from netlab.proxy.sync import Sync
from netlab.proxy.user_proxier import LABEL, UserProxier

log = logging.getLogger(__name__)

_AGAIN = 5.0
"""Seconds between two tries to serve on a port that somebody else has, as upstream's."""


def main(argv: list[str]) -> int:
    """Run kube-proxy in this network namespace until SIGTERM. Returns the exit code."""
    try:
        config, flags = read(argv)
    except NetlabError as error:
        print(f"{PROGRAM}: {error}{f' ({error.hint})' if error.hint else ''}", file=sys.stderr)
        return 1
    if flags["help"]:
        print(usage(PROGRAM, "kube-proxy writes the rules that make Services work on one node.", FLAGS))
        return 0
    if flags["version"]:
        print(f"Kubernetes v{status.KUBERNETES} (netlab {__version__})")
        return 0
    if config.write_to:
        try:
            Path(config.write_to).write_text(written(config))
        except OSError as error:
            print(f"{PROGRAM}: cannot write {config.write_to}: {error.strerror}", file=sys.stderr)
            return 1
        return 0
    klog.setup(verbosity=config.verbosity)
    for field in config.doubled:
        log.warning("%s: the field %s is there twice: the last counts", config.file, field)
    for field in config.unknown:
        log.warning("%s: a KubeProxyConfiguration has no field %s: it is passed over", config.file, field)
    host.tune()
    return daemon.run(lambda stop: _run(config, stop))


async def _run(config: Config, stop: asyncio.Event) -> int:
    if config.cleanup:
        cleanup.run(_backend(config))
        cleanup.run_nft()
        return 0
    if config.init_only:
        host.prepare(config, host.settings(config, "IPv4", node=None))
        return 0
    nftables = config.mode == "nftables"
    tools = {} if nftables else find_tools(_backend(config))
    host.demand_rights(tools.values())
    liberal = bool(config["conntrack.tcpBeLiberal"]) or host.conntrack_liberal()

    def settings(node: Object | None, family: Family) -> Settings:
        return host.settings(config, family, node=node, addresses=host.own_addresses(),
                             random_fully=nftables or tools[family].random_fully,
                             conntrack_liberal=liberal)

    def proxier_of(family: Family, node: Object | None) -> AnyProxier:
        made = settings(node, family)
        if nftables:
            return NftProxier(made, metrics)
        if config.mode == "userspace":
            return UserProxier(
                made, tools[family], metrics, ports=config.proxy_ports(), listens=_listens(config, family)
            )
        return Proxier(made, tools[family], metrics, tidy_every=config.sync_period())

    if nftables:
        nft_table.held(socket.AF_INET, nft_names.TABLE)  # a kernel without nf_tables says so now
    if config.mode == "userspace":
        log.warning(LABEL)
        host.many_descriptors()
    host.guard(config["oomScoreAdj"])
    metrics, health = Metrics(config.mode), ProxyHealth(2 * config.sync_period())
    proxiers: list[AnyProxier] = []
    hard = bool(config["bindAddressHardFail"])
    servers = contextlib.AsyncExitStack()
    try:
        for field, app in (("healthzBindAddress", application(health, metrics)),
                           ("metricsBindAddress", status.application(config, metrics, proxiers))):
            await _serve(config[field], app, hard=hard, servers=servers)
        where = _client_config(config)
        async with Client(where, PROGRAM, tell=metrics.exchanges(where.server.partition("://")[2])) as client:
            node = await host.own_node(client, config.node, stop)
            if stop.is_set():
                return 0
            for family in host.families(config, node, tools):
                proxiers.append(proxier_of(family, node))
                host.prepare(config, proxiers[-1].settings)
            health.expect(*(proxier.family for proxier in proxiers))
            for doubt in doubts(config.values, config.mode, proxiers[0].family, dual=len(proxiers) > 1):
                log.info(doubt)
            written = ", ".join(f"{each.family} by {tools.get(each.family, 'nfnetlink')}" for each in proxiers)
            log.info("kube-proxy on node %s, mode %s, %s", config.node, config.mode, written)
            recorder = Recorder(client, PROGRAM, config.node)
            recorder.event(_reference("Node", config.node), "Normal", "Starting", "", action="StartKubeProxy")
            checks = ServiceHealth(health, lambda: host.listens(each.settings for each in proxiers), _teller(recorder))
            sync = Sync(client, proxiers, node=config.node, pace=Pace(config.min_sync_period()),
                        look_every=config.sync_period(), health=health, checks=checks, metrics=metrics,
                        settings=settings, service_cidrs=nftables,
                        standing=lambda: cleanup.take_over(config.mode, _backend(config)),
                        external_ips=config.gate("AllowServiceExternalIPs"))
            edited = _watch_file(config.file, stop)
            try:
                await sync.run(stop)
            finally:
                await recorder.close()
                code = edited()
    finally:
        for proxier in proxiers:
            await proxier.close()
        await servers.aclose()
    return code


def _watch_file(path: str, stop: asyncio.Event) -> Callable[[], int]:
    """End this process when its configuration file is edited, as upstream does: what starts it again reads the new one.

    Returns what ends the watch and returns the exit code.
    """
    if not path:
        return lambda: 0
    seen: list[str] = []

    def changed() -> None:
        log.error("%s was edited: ending, so that it is read anew", path)
        seen.append(path)
        stop.set()

    watcher = inotify.Inotify()
    watcher.watch(path, changed, inotify.CLOSE_WRITE | inotify.MOVE_SELF)

    def end() -> int:
        watcher.close()
        return 1 if seen else 0

    return end


def _reference(kind: str, name: str, namespace: str = "") -> Object:
    """Return what an event is about, as upstream names it: with a uid that is made of the name."""
    uid = f"{namespace}/{name}" if namespace else name
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace, "uid": uid}}


def _teller(recorder: Recorder) -> Callable[[str, str], None]:
    def tell(service: str, words: str) -> None:
        namespace, name = split_key(service)
        recorder.event(_reference("Service", name, namespace), "Warning", "FailedToStartServiceHealthcheck", words,
                       action="Listen")

    return tell


def find_tools(backend: iptables.Backend) -> dict[Family, iptables.Iptables]:
    """Return the programs of every family that there are some for.

    Raises:
        Unsupported: there are none at all.
    """
    found: dict[Family, iptables.Iptables] = {}
    lacking: list[Unsupported] = []
    for family in FAMILIES:
        try:
            found[family] = iptables.find(family, backend)
        except Unsupported as error:
            log.info("no %s: %s", family, error)
            lacking.append(error)
    if not found:
        raise lacking[0]
    return found


def _listens(config: Config, family: Family) -> str:
    """Return where userspace mode listens: --bind-address in its family, everywhere in the other."""
    address = str(config["bindAddress"])
    return address if (":" in address) == (family == "IPv6") else ""


def _backend(config: Config) -> iptables.Backend:
    return config.backend  # type: ignore[return-value]


def _client_config(config: Config) -> client_config.Config:
    path = config["clientConnection.kubeconfig"]
    if path or not config.master:
        found = client_config.load(path) if path else client_config.in_cluster()
        return replace(found, server=config.master.rstrip("/")) if config.master else found
    return client_config.Config(server=config.master.rstrip("/"))


async def _serve(address: str, app: web.Application, *, hard: bool, servers: contextlib.AsyncExitStack) -> None:
    """Serve on `host:port` until `servers` is closed; a port that is taken is tried again and again, unless `hard`."""
    if not address:
        return
    name, _, port = address.rpartition(":")
    if not port.isdigit():
        raise NotFound(f"{address!r} is no address and port", hint="such as 127.0.0.1:10249")
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    servers.push_async_callback(runner.cleanup)

    async def start() -> None:
        site = web.TCPSite(runner, daemon.listen_host(name), int(port))
        try:
            await site.start()
        except OSError:
            await site.stop()  # or the runner keeps it
            raise

    async def start_later() -> None:
        while True:
            await asyncio.sleep(_AGAIN)
            with contextlib.suppress(OSError):
                await start()
                log.info("serving on %s now", address)
                return

    try:
        await start()
    except OSError as error:
        said = f"cannot serve on {address}: {error.strerror or error}"
        if hard:
            raise Unsupported(said, hint="without --bind-address-hard-fail it is tried again") from None
        log.error("%s; it is tried again", said)
        servers.callback(asyncio.create_task(start_later()).cancel)
