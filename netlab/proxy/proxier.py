"""One address family of one node: takes in objects, and writes the rules that follow from them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import KernelError, NetlabError, RestoreRejected
from netlab.kernel import conntrack as kernel_conntrack
from netlab.kernel import iptables, nfacct
from netlab.netfilter import parse
from netlab.proxy import conntrack, layout, names
from netlab.proxy.addresses import Family
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import PIECE, Change, Wanted, deletions, texts
from netlab.proxy.services import bad_addresses
from netlab.proxy.settings import INVALID_COUNTER, LOCALHOST_COUNTER, Settings
from netlab.proxy.tracker import LARGE, Tracker, rebuild

log = logging.getLogger(__name__)

FULL_EVERY = 3600.0
"""Seconds after which everything is written anew, whoever may have meddled with it."""

_ONE_PIECE = 1 << 30
"""Chains of one transaction for legacy iptables, which reads and writes the whole table whatever is changed."""

_HOOKS = {table: tuple(hook for owner, hook in layout.JUMPS if owner == table) for table, _ in layout.JUMPS}

TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(frozen=True)
class Health:
    """What the health check servers of Services need: (port, number of ready endpoints here) by Service."""

    node_ports: dict[str, int]
    local_endpoints: dict[str, int]


class Proxier:
    """The rules of one address family in this process' network namespace.

    Handlers call `service` and `slice` whenever they like; `sync` writes what has come in. After a failed sync, and
    when `flushed` finds a canary gone, the next sync writes everything.
    """

    def __init__(self, settings: Settings, tool: iptables.Iptables, metrics: Metrics, *,
                 netns: int | None = None) -> None:
        self.settings = settings
        self.tool = tool
        self.netns = netns
        self.tracker = Tracker(settings.family)
        self.full = True
        self._metrics = metrics
        self._wanted = Wanted(settings)
        self._last_full = 0.0
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
            self._metrics.add("sync_proxy_rules_service_changes_total", self.family)
            for text in bad_addresses(service) if service else ():
                log.warning("Service %s: %r is no address; it is left out", key, text)
        return changed

    def slice(self, key: str, slice_: Object | None) -> bool:
        """Take in an EndpointSlice, None when it is gone; returns whether there is something to write."""
        changed = self.tracker.slice(key, slice_)
        if changed:
            self._metrics.add("sync_proxy_rules_endpoint_changes_total", self.family)
            self._note_trigger(slice_)
        return changed

    def configure(self, settings: Settings) -> bool:
        """Take other settings; returns whether they are news (then all is to be written)."""
        settings = replace(settings, counters=self.settings.counters)
        if settings == self.settings:
            return False
        self.settings = settings
        self.full = True
        return True

    def full_age(self, now: float) -> float:
        """Return how many seconds ago everything was written; 0 in a large cluster, where that is not repeated."""
        return 0.0 if self.tracker.large else now - self._last_full

    async def flushed(self) -> bool:
        """Tell whether a canary is gone, that is, whether somebody emptied a table under us."""
        for table in layout.CANARY_TABLES:
            if not await asyncio.to_thread(iptables.chain_exists, self.tool, table, names.CANARY, netns=self.netns):
                log.warning("%s: chain %s is gone from table %s: somebody flushed it", self.family, names.CANARY, table)
                self.full = True
                return True
        return False

    async def sync(self, now: float) -> Change:
        """Write what changed, or everything when that is due. `now` is monotonic.

        Raises:
            NetlabError: it could not be written; the next sync writes everything.
        """
        began = time.perf_counter()
        large = self.tracker.large
        full = self.full or (now - self._last_full > FULL_EVERY and not large)
        self.full = False  # whoever sets it from here on means the next sync
        try:
            change = await self._full(large) if full else await self._partial()
        except NetlabError as error:
            self.full = True
            if isinstance(error, KernelError):
                self._failed(error, partial=not full)
            raise
        if full:
            self._last_full = now
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

    async def _full(self, large: bool) -> Change:
        self._make_counters()
        self.tracker.take_changed()
        self._wanted = Wanted(self.settings)
        rebuild(self.tracker, self._wanted, self.tracker.services())
        saved = await asyncio.to_thread(iptables.outline, self.tool, _HOOKS, netns=self.netns)
        change = self._wanted.take_all(parse.outline(saved))
        await self._write(change)
        log.info("%s: wrote all rules of %d Services%s (%s)", self.family, len(set(self.tracker.services())),
                 f", more than {LARGE} endpoints" if large else "", self.tool)
        return change

    async def _partial(self) -> Change:
        rebuild(self.tracker, self._wanted, self.tracker.take_changed())
        change = self._wanted.take_changes()
        if change:
            await self._write(change)
        return change

    async def _write(self, change: Change) -> None:
        size = PIECE if self.tool.backend == "nft" else _ONE_PIECE
        if not self._complained:
            await self._restore("".join(texts(change, size=size)))
            return
        # The last write failed. A stale chain that a foreign rule jumps to must not keep the others from being written.
        await self._restore("".join(texts(replace(change, stale=()), size=size)))
        for text in deletions(change):
            try:
                await self._restore(text)
            except KernelError as error:
                log.warning("%s: a chain that nobody needs stays: %s", self.family, error)

    async def _restore(self, text: str) -> None:
        """Run all transactions of a text in one process: on a node of many chains, starting it is what costs."""
        await asyncio.to_thread(iptables.restore, self.tool, text, netns=self.netns, where=self.settings.node)

    def _make_counters(self) -> None:
        found = set()
        for name in (INVALID_COUNTER, LOCALHOST_COUNTER):
            try:
                nfacct.ensure(name, self.netns)
                found.add(name)
            except KernelError as error:
                log.debug("no nfacct counter %s: %s", name, error)
        self.settings = replace(self.settings, counters=frozenset(found))

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
            flows = kernel_conntrack.flows(self.netns, protocol="udp", ipv6=self.family == "IPv6")
            gone = kernel_conntrack.delete(conntrack.stale(flows, ports), self.netns)
        except KernelError as error:
            log.warning("%s: cannot clean conntrack: %s", self.family, error)
            return
        self._metrics.observe("conntrack_reconciler_sync_duration_seconds", time.perf_counter() - began, self.family)
        self._metrics.add("conntrack_reconciler_deleted_entries_total", self.family, by=gone)

    def _note_trigger(self, slice_: Object | None) -> None:
        text = meta.annotations(slice_).get(TRIGGER, "") if slice_ else ""
        try:
            at = meta.parse_timestamp(text) if text else 0.0
        except ValueError:
            return
        if at > self._started:
            self._triggers.append(at)

    def _failed(self, error: KernelError, *, partial: bool) -> None:
        self._metrics.add("sync_proxy_rules_iptables_restore_failures_total", self.family)
        if partial:
            self._metrics.add("sync_proxy_rules_iptables_partial_restore_failures_total", self.family)
        if str(error) != self._complained:  # once for the same trouble, however often it is tried
            hint = " (everything is written again)" if isinstance(error, RestoreRejected) else ""
            log.error("%s: %s%s", self.family, error, hint)
            self._complained = str(error)

    def _measure(self, change: Change, *, full: bool, seconds: float) -> None:
        """Count what a sync did. What costs time to count is left to `report`."""
        metrics, family = self._metrics, self.family
        kind = "full" if full else "partial"
        metrics.observe("sync_proxy_rules_duration_seconds", seconds, family)
        metrics.observe(f"sync_{kind}_proxy_rules_duration_seconds", seconds, family)
        now = time.time()
        metrics.put("sync_proxy_rules_last_timestamp_seconds", now, family)
        for at in self._triggers:
            metrics.observe("network_programming_duration_seconds", now - at, family)
        self._triggers.clear()
        for table in ("filter", "nat"):
            metrics.put("sync_proxy_rules_iptables_last", change.rules(table), table, family)

    def report(self) -> None:
        """Put into the metrics what is counted only when somebody asks."""
        metrics, family = self._metrics, self.family
        for table in ("filter", "nat"):
            metrics.put("sync_proxy_rules_iptables_total", self._wanted.rules(table), table, family)
        for policy in ("internal", "external"):
            lacking = sum(policy in block.no_local for block in self._wanted.blocks())
            metrics.put("sync_proxy_rules_no_local_endpoints_total", lacking, policy, family)
        waiting = len(self.tracker.changed)
        metrics.put("sync_proxy_rules_service_changes_pending", waiting, family)
        metrics.put("sync_proxy_rules_endpoint_changes_pending", waiting, family)


def count_nfacct(metrics: Metrics, netns: int | None = None) -> None:
    """Put the packets that the kernel counted into the metrics."""
    try:
        found = nfacct.counters(netns)
    except KernelError:
        return
    metrics.put("iptables_ct_state_invalid_dropped_packets_total", found.get(INVALID_COUNTER, (0, 0))[0])
    metrics.put("iptables_localhost_nodeports_accepted_packets_total", found.get(LOCALHOST_COUNTER, (0, 0))[0])

