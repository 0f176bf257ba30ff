"""One address family of one node: takes in objects, decides what is due, and looks after what all modes share."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import KernelError, NetlabError
from netlab.kernel import conntrack as kernel_conntrack
from netlab.proxy import conntrack
from netlab.proxy.addresses import Family
from netlab.proxy.endpoints import Endpoint
from netlab.proxy.metrics import Metrics
from netlab.proxy.services import ServicePort, bad_addresses
from netlab.proxy.settings import Settings
from netlab.proxy.tracker import Tracker

log = logging.getLogger(__name__)

ChangeT = TypeVar("ChangeT")

FULL_EVERY = 3600.0
"""Seconds after which everything is written anew, whoever may have meddled with it."""

_NUMBERS = re.compile(r"\d+")

TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True)
class Health:
    """What the health check servers of Services need: (port, number of ready endpoints here) by Service."""

    node_ports: dict[str, int]
    local_endpoints: dict[str, int]


class FamilyProxier(ABC, Generic[ChangeT]):
    """The rules of one address family in one network namespace; subclasses know how they are written.

    Handlers call `service` and `slice` whenever they like; `sync` writes what has come in. After a failed sync, and
    when `flushed` finds rules gone, the next sync writes everything.
    """

    def __init__(self, settings: Settings, metrics: Metrics, *, netns: int | None = None) -> None:
        self.settings = settings
        self.netns = netns
        self.tracker = Tracker(settings.family)
        self.full = True
        self._metrics = metrics
        self.large = False
        """Whether the last sync saw more endpoints than `tracker.LARGE`."""
        self._now = self._last_full = 0.0
        self._triggers: list[float] = []
        self._complained = ""
        self._started = time.time()

    @property
    def family(self) -> Family:
        """Return IPv4 or IPv6."""
        return self.settings.family

    def service(self, key: str, service: Object | None) -> bool:
        """Take in a Service, None when it is gone; returns whether there is something to write."""
        changed = self.tracker.service(key, service)
        if changed:
            self._metrics.add("sync_proxy_rules_service_changes_total")
            for text in bad_addresses(service) if service else ():
                log.warning("Service %s: %r is no address; it is left out", key, text)
        return changed

    def slice(self, key: str, slice_: Object | None) -> bool:
        """Take in an EndpointSlice, None when it is gone; returns whether there is something to write."""
        changed = self.tracker.slice(key, slice_)
        if changed:
            self._metrics.add("sync_proxy_rules_endpoint_changes_total")
            self._note_trigger(slice_)
        return changed

    def configure(self, settings: Settings) -> bool:
        """Take other settings; returns whether they are news (then all is to be written)."""
        settings = replace(settings, counters=self.settings.counters, service_cidrs=self.settings.service_cidrs)
        if settings == self.settings:
            return False
        self.settings = settings
        self.full = True
        return True

    def full_age(self, now: float) -> float:
        """Return how many seconds ago everything was written; 0 in a large cluster, where that is not repeated."""
        return 0.0 if self.tracker.large else now - self._last_full

    def serve_cidrs(self, cidrs: tuple[str, ...]) -> bool:  # noqa: ARG002 - modes that do not care
        """Take the networks of cluster addresses; returns whether they are news (then all is to be written)."""
        return False

    @abstractmethod
    async def flushed(self) -> bool:
        """Tell whether somebody emptied a table under us; then the next sync writes everything."""

    def untidy(self) -> bool:
        """Tell whether chains that nobody needs were left for a later sync."""
        return False

    @abstractmethod
    def report(self) -> None:
        """Put into the metrics what is counted only when somebody asks."""

    async def close(self) -> None:
        """Let go of what ends with this process; the rules stay, so that Services go on."""

    @abstractmethod
    async def _full(self, large: bool) -> ChangeT:
        """Write everything."""

    @abstractmethod
    async def _partial(self) -> ChangeT:
        """Write what changed."""

    @abstractmethod
    def _count_failure(self, *, partial: bool) -> None:
        """Count a sync that the kernel refused."""

    def _count_written(self, change: ChangeT) -> None:
        """Count what a sync wrote."""

    async def sync(self, now: float) -> ChangeT:
        """Write what changed, or everything when that is due. `now` is monotonic.

        Raises:
            NetlabError: it could not be written; the next sync writes everything.
        """
        began = time.perf_counter()
        self._now, large = now, self.tracker.large
        self.large = large
        full = self.full or (now - self._last_full > FULL_EVERY and not large)
        self.full = False  # whoever sets it from here on means the next sync
        try:
            change = await self._full(large) if full else await self._partial()
        except NetlabError as error:
            self.full = True
            self._failed(error, partial=not full)
            raise
        if full:
            self._last_full = now
        if self._complained:
            log.info("%s: all rules are written again", self.family)
            self._complained = ""
        await self._clean_conntrack()
        self._measure(change, full=full, seconds=time.perf_counter() - began)
        return change

    def health(self) -> Health:
        """Return what the health check servers of Services are to answer."""
        node_ports: dict[str, int] = {}
        local: dict[str, int] = {}
        for service in self.tracker.health_checked:
            ports = self.tracker.ports(service)
            node_ports[service] = ports[0].health_check_node_port
            local[service] = len({each.ip for port in ports for each in self.tracker.endpoints(port)
                                  if each.ready and each.node == self.settings.node})
        return Health(node_ports, local)

    async def _clean_conntrack(self) -> None:
        if not self.tracker.udp_changed:
            return
        self.tracker.udp_changed = False
        began = time.perf_counter()
        ports = [(port, self.tracker.endpoints(port)) for service in self.tracker.services()
                 for port in self.tracker.ports(service) if port.protocol == "udp"]
        if not ports:
            return
        try:
            gone = await asyncio.to_thread(self._delete_stale, ports)
        except KernelError as error:
            log.warning("%s: cannot clean conntrack: %s", self.family, error)
            return
        self._metrics.observe("conntrack_reconciler_sync_duration_seconds", time.perf_counter() - began, self.family)
        self._metrics.add("conntrack_reconciler_deleted_entries_total", self.family, by=gone)

    def _delete_stale(self, ports: list[tuple[ServicePort, tuple[Endpoint, ...]]]) -> int:
        flows = kernel_conntrack.flows(self.netns, protocol="udp", ipv6=self.family == "IPv6",
                                       to=conntrack.sought(port for port, _ in ports))
        return kernel_conntrack.delete(conntrack.stale(flows, ports), self.netns)

    def _note_trigger(self, slice_: Object | None) -> None:
        text = meta.annotations(slice_).get(TRIGGER, "") if slice_ else ""
        try:
            at = meta.parse_timestamp(text) if text else 0.0
        except ValueError:
            return
        if at > self._started:
            self._triggers.append(at)

    def _failed(self, error: NetlabError, *, partial: bool) -> None:
        self._count_failure(partial=partial)
        said = _NUMBERS.sub("", str(error))  # line numbers and seconds differ from try to try
        if said != self._complained:  # once for the same trouble, however often it is tried
            log.error("%s: %s; everything is written again, until it works", self.family, error)
            self._complained = said

    def _measure(self, change: ChangeT, *, full: bool, seconds: float) -> None:
        """Count what a sync did. What costs time to count is left to `report`."""
        metrics, family = self._metrics, self.family
        kind = "full" if full else "partial"
        metrics.observe("sync_proxy_rules_duration_seconds", seconds, family)
        metrics.observe(f"sync_{kind}_proxy_rules_duration_seconds", seconds, family)
        now = time.time()
        metrics.put("sync_proxy_rules_last_timestamp_seconds", now, family)
        for at in self._triggers:
            metrics.observe("network_programming_duration_seconds", max(0.0, now - at), family)
        self._triggers.clear()
        self._count_written(change)


AnyProxier: TypeAlias = FamilyProxier[Any]
"""A proxier of whatever mode."""
