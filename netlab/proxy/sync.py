"""From the API server to the kernel: watch, wait for the right moment, write; again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.client.informer import Informer
from netlab.errors import ApiError, NetlabError
from netlab.proxy import endpoints
from netlab.proxy.addresses import Family
from netlab.proxy.family import FULL_EVERY, AnyProxier
from netlab.proxy.health import ProxyHealth
from netlab.proxy.metrics import Metrics
from netlab.proxy.pace import Pace
from netlab.proxy.service_health import ServiceHealth
from netlab.proxy.services import SELECTOR
from netlab.proxy.settings import Settings

log = logging.getLogger(__name__)

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

SERVICE_CIDRS = Resource("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", namespaced=False)
"""Where an API server says which networks it takes cluster addresses from (KEP-1880); not every one does."""


class Sync:
    """The loop of a node's kube-proxy, over all address families."""

    def __init__(self, client: Client, proxiers: Sequence[AnyProxier], *, node: str, pace: Pace, look_every: float,
                 health: ProxyHealth, checks: ServiceHealth, metrics: Metrics,
                 settings: Callable[[Object | None, Family], Settings], service_cidrs: bool = False,
                 standing: Callable[[], object] | None = None, external_ips: bool = True) -> None:
        """Make the loop.

        Args:
            client: the API server.
            proxiers: one per address family.
            node: this node's name.
            pace: how often rules may be written.
            look_every: seconds between looks at the canaries.
            health: told about every sync.
            checks: the health check servers of Services.
            metrics: where syncs are counted.
            settings: from the Node object and a family's name to that family's settings.
            service_cidrs: watch the networks of cluster addresses as well.
            standing: called in a thread once all rules stand for the first time.
            external_ips: serve what Services have in externalIPs.
        """
        self._standing = standing
        self._complaint = ""
        self._proxiers = proxiers
        self._pace, self._look_every = pace, look_every
        self._health, self._checks, self._metrics = health, checks, metrics
        self._settings = settings
        self._wake = asyncio.Event()
        self._services = Informer(client, "services", labels=SELECTOR,
                                  transform=_slim if external_ips else _without_external_ips)
        self._slices = Informer(client, "endpointslices.discovery.k8s.io", labels=endpoints.SELECTOR, transform=_slim)
        self._nodes = Informer(client, "nodes", fields=f"metadata.name={node}")
        self._services.add_handler(lambda key, _, new: self._told(lambda proxier: proxier.service(key, new)))
        self._slices.add_handler(lambda key, _, new: self._told(lambda proxier: proxier.slice(key, new)))
        self._cidrs = Informer(client, SERVICE_CIDRS) if service_cidrs else None
        self._client = client
        self._nodes.add_handler(lambda _key, _, new: self._node(new))

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        informers = (self._nodes, self._services, self._slices)
        tasks = [asyncio.create_task(informer.run(stop)) for informer in informers]
        tasks.append(asyncio.create_task(self._wake_at(stop)))
        try:
            for informer in informers:
                await _either(informer.synced, stop)
            if self._cidrs is not None and await self._serves_cidrs():
                self._cidrs.add_handler(lambda _key, _old, _new: self._networks())
                tasks.append(asyncio.create_task(self._cidrs.run(stop)))
                await _either(self._cidrs.synced, stop)
            self._want()
            await self._loop(stop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._checks.close()

    async def _loop(self, stop: asyncio.Event) -> None:
        look = time.monotonic() + self._look_every
        while not stop.is_set():
            self._wake.clear()
            now = time.monotonic()
            due = self._pace.due(now)
            if due is not None and due <= now:
                await self._sync()
            elif now >= look:
                look = now + self._look_every
                await self._look()
            else:
                until = look if due is None else min(due, look)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), until - now)

    async def _sync(self) -> None:
        """Write all families at once. What comes in meanwhile is written next time."""
        self._pace.started(time.monotonic())
        done = await asyncio.gather(*(self._sync_one(proxier) for proxier in self._proxiers))
        self._pace.ended(time.monotonic(), failed=not all(done))
        if all(done) and self._standing is not None:
            standing, self._standing = self._standing, None
            await self._stand(standing)
        for proxier in self._proxiers:
            if proxier.tracker.changed:
                self._health.queued(proxier.family, time.monotonic())
        found = [proxier.health() for proxier in self._proxiers]
        await self._checks.serve({key: port for each in found for key, port in each.node_ports.items()},
                                 {key: max(each.local_endpoints.get(key, 0) for each in found)
                                  for each in found for key in each.local_endpoints})

    async def _stand(self, standing: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(standing)
        except NetlabError as error:
            log.warning("what another mode wrote stays: %s", error)

    async def _sync_one(self, proxier: AnyProxier) -> bool:
        try:
            await proxier.sync(time.monotonic())
        except NetlabError:
            return False  # logged by the proxier, once for the same trouble
        self._health.updated(proxier.family, time.time())
        return True

    async def _look(self) -> None:
        """See whether the rules are still there."""
        for proxier in self._proxiers:
            try:
                if (await proxier.flushed() or proxier.untidy()
                        or proxier.full_age(time.monotonic()) > FULL_EVERY):
                    self._want()
            except NetlabError as error:
                said = f"{proxier.family}: cannot look at the canaries: {error}"
                (log.debug if said == self._complaint else log.warning)("%s", said)
                self._complaint = said

    def _told(self, tell: Callable[[AnyProxier], bool]) -> None:
        for proxier in self._proxiers:
            if tell(proxier):
                self._health.queued(proxier.family, time.monotonic())
                self._want()

    def _node(self, node: Object | None) -> None:
        self._health.see_node(node)
        for proxier in self._proxiers:
            if node is not None and proxier.configure(self._settings(node, proxier.family)):
                if self._services.synced.is_set():
                    log.info("%s: the node's addresses, networks or zone changed: writing all rules", proxier.family)
                self._health.queued(proxier.family, time.monotonic())
                self._want()

    async def _serves_cidrs(self) -> bool:
        try:
            await self._client.list(SERVICE_CIDRS)
        except ApiError as error:
            log.info("no ServiceCIDRs from this API server (%s): unused cluster addresses are not dropped", error)
            return False
        except NetlabError as error:
            log.warning("ServiceCIDRs: %s", error)
        return True

    def _networks(self) -> None:
        found = self._cidrs.all() if self._cidrs is not None else []
        cidrs = tuple(sorted({text for each in found for text in (each.get("spec") or {}).get("cidrs") or ()}))
        for proxier in self._proxiers:
            if proxier.serve_cidrs(cidrs):
                self._want()

    def _want(self) -> None:
        self._pace.want(time.monotonic())
        for proxier in self._proxiers:
            self._metrics.put("sync_proxy_rules_last_queued_timestamp_seconds", time.time(), proxier.family)
        self._wake.set()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()


def _slim(obj: Object) -> Object:
    """Return an object without what nobody here reads and what is most of its size: who set which field."""
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    if LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {name: value for name, value in metadata["annotations"].items()
                                   if name != LAST_APPLIED}
    return {**obj, "metadata": metadata}


def _without_external_ips(service: Object) -> Object:
    """Return a Service without its field externalIPs, which is deprecated since v1.36 (KEP-5707)."""
    spec = {name: value for name, value in service["spec"].items() if name != "externalIPs"}
    return {**_slim(service), "spec": spec}


async def _either(*events: asyncio.Event) -> None:
    """Wait until one of these is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
