"""One address family of one node in iptables mode."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from netlab.errors import KernelError
from netlab.kernel import iptables, nfacct
from netlab.netfilter import parse
from netlab.proxy import layout, names
from netlab.proxy.family import FamilyProxier
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import PIECE, Change, Wanted, deletions, texts
from netlab.proxy.settings import INVALID_COUNTER, LOCALHOST_COUNTER, Settings
from netlab.proxy.tracker import LARGE, rebuild

log = logging.getLogger(__name__)

_ONE_PIECE = 1 << 30
"""Chains of one transaction for legacy iptables, which reads and writes the whole table whatever is changed."""

_HOOKS = {table: tuple(hook for owner, hook in layout.JUMPS if owner == table) for table, _ in layout.JUMPS}


class Proxier(FamilyProxier[Change]):
    """The rules of one address family, written by iptables-restore."""

    def __init__(self, settings: Settings, tool: iptables.Iptables, metrics: Metrics, *,
                 netns: int | None = None) -> None:
        super().__init__(settings, metrics, netns=netns)
        self.tool = tool
        self._wanted = Wanted(settings)

    async def flushed(self) -> bool:
        """Tell whether a canary is gone, that is, whether somebody emptied a table under us."""
        for table in layout.CANARY_TABLES:
            if not await asyncio.to_thread(iptables.chain_exists, self.tool, table, names.CANARY, netns=self.netns):
                log.warning("%s: chain %s is gone from table %s: somebody flushed it", self.family, names.CANARY, table)
                self.full = True
                return True
        return False

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

    def _count_failure(self, *, partial: bool) -> None:
        self._metrics.add("sync_proxy_rules_iptables_restore_failures_total", self.family)
        if partial:
            self._metrics.add("sync_proxy_rules_iptables_partial_restore_failures_total", self.family)

    def _count_written(self, change: Change) -> None:
        for table in ("filter", "nat"):
            self._metrics.put("sync_proxy_rules_iptables_last", change.rules(table), table, self.family)

    def report(self) -> None:
        """Put into the metrics what is counted only when somebody asks."""
        metrics, family = self._metrics, self.family
        for table in ("filter", "nat"):
            metrics.put("sync_proxy_rules_iptables_total", self._wanted.rules(table), table, family)
        for policy in ("internal", "external"):
            lacking = sum(policy in block.no_local for block in self._wanted.blocks())
            metrics.put("sync_proxy_rules_no_local_endpoints_total", lacking, policy, family)
        self._report_pending()


def count_nfacct(metrics: Metrics, netns: int | None = None) -> None:
    """Put the packets that the kernel counted into the metrics."""
    try:
        found = nfacct.counters(netns)
    except KernelError:
        return
    metrics.put("iptables_ct_state_invalid_dropped_packets_total", found.get(INVALID_COUNTER, (0, 0))[0])
    metrics.put("iptables_localhost_nodeports_accepted_packets_total", found.get(LOCALHOST_COUNTER, (0, 0))[0])

