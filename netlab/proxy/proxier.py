"""One address family of one node in iptables mode."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import replace

from netlab.errors import KernelError, RestoreRejected
from netlab.kernel import iptables, nfacct
from netlab.netfilter import parse
from netlab.netfilter.model import Ruleset
from netlab.proxy import layout, names
from netlab.proxy.family import FamilyProxier
from netlab.proxy.feed import feed
from netlab.proxy.metrics import Metrics
from netlab.proxy.plan import (
    PIECE,
    Change,
    Wanted,
    closing_texts,
    deletions,
    opening,
    piece_size,
    service_lines,
    texts,
    transaction,
)
from netlab.proxy.settings import INVALID_COUNTER, LOCALHOST_COUNTER, Settings
from netlab.proxy.tracker import LARGE, rebuild

log = logging.getLogger(__name__)

_ONE_PIECE = 1 << 30
"""Chains of one transaction for legacy iptables, which reads and writes the whole table whatever is changed."""

_GROUP = 100
"""Services whose rules are worked out at a time."""

_HOOKS = {table: tuple(hook for owner, hook in layout.JUMPS if owner == table) for table, _ in layout.JUMPS}


class Proxier(FamilyProxier[Change]):
    """The rules of one address family, written by iptables-restore."""

    def __init__(self, settings: Settings, tool: iptables.Iptables, metrics: Metrics, *,
                 netns: int | None = None, lock_wait: int = 5, tidy_every: float = 30.0) -> None:
        """Make the proxier.

        Args:
            lock_wait: seconds to wait for the lock that legacy iptables share.
            tidy_every: seconds that have to lie between two deletions of chains in a large cluster.
        """
        super().__init__(settings, metrics, netns=netns)
        self.lock_wait = lock_wait
        self.tool = tool
        self._wanted = Wanted(settings)
        self._large = False
        self._countable = True
        self._stuck: set[str] = set()
        self._tidy_every, self._tidied = tidy_every, -math.inf
        self._left: set[str] = set()

    async def flushed(self) -> bool:
        """Tell whether a canary is gone, that is, whether somebody emptied a table under us."""
        for table in layout.CANARY_TABLES:
            if not await asyncio.to_thread(iptables.chain_exists, self.tool, table, names.CANARY, netns=self.netns):
                log.warning("%s: chain %s is gone from table %s: somebody flushed it", self.family, names.CANARY, table)
                self.full = True
                return True
        return False

    def untidy(self) -> bool:
        """Tell whether a large cluster's chains that nobody needs wait for their deletion."""
        return bool(self._left)

    def _spare(self, change: Change) -> Change:
        """Leave chains that nobody needs for later where the cluster is large and some were deleted not long ago.

        They cost nothing but memory; to delete them, the kernel has to look for every jump to them.
        """
        stale = self._left.union(change.stale).difference(change.chains)
        if self.large and self._now - self._tidied <= self._tidy_every:
            self._left = stale
            return replace(change, stale=())
        self._left, self._tidied = set(), self._now
        return replace(change, stale=tuple(sorted(stale)))

    async def _full(self, large: bool) -> Change:
        self._make_counters()
        looking = asyncio.create_task(asyncio.to_thread(self._look))
        changed = self.tracker.take_changed()
        if (self.settings, large) != (self._wanted.settings, self._large):
            self._wanted, self._large = Wanted(self.settings), large
            changed = set(self.tracker.services())
        try:
            change = await (self._with_care(looking, changed) if self._complained else self._streamed(looking, changed))
        except BaseException as error:
            self.tracker.changed |= changed  # some may not have been worked out
            if not (isinstance(error, RestoreRejected) and "nfacct" in error.text and self._countable):
                raise
            log.warning("%s: this kernel takes no nfacct match (%s): rules do without", self.family, error)
            self._countable = False
            return await self._full(large)
        log.info("%s: wrote all rules of %d Services%s (%s)", self.family, len(set(self.tracker.services())),
                 f", more than {LARGE} endpoints" if large else "", self.tool)
        return change

    def _look(self) -> Ruleset:
        """Return what the kernel holds, as far as a full sync needs to know."""
        return parse.outline(iptables.outline(self.tool, _HOOKS, netns=self.netns))

    async def _with_care(self, looking: Awaitable[Ruleset], changed: Iterable[str]) -> Change:
        rebuild(self.tracker, self._wanted, changed)
        kernel = await looking
        change = self._spare(self._wanted.take_all(kernel))
        await self._write(change, piece_size(len(kernel.table("nat").chains)))
        return change

    async def _streamed(self, looking: Awaitable[Ruleset], changed: set[str]) -> Change:
        """Write everything in one process, which works on one part while the next is worked out here."""
        kernel = await looking if self.tool.backend == "nft" else None
        size = piece_size(len(kernel.table("nat").chains)) if kernel is not None else 0
        change = Change()

        async def parts() -> AsyncIterator[str]:
            nonlocal change
            for part in self._service_parts(changed, size):
                yield part
            change = self._spare(self._wanted.take_all(kernel if kernel is not None else await looking))
            closing = closing_texts(change)
            if kernel is None:  # legacy has one transaction for nat, which is open still
                yield next(closing).removeprefix("*nat\n")
            for part in closing:
                yield part

        await feed(parts(), self._restore)
        return change

    def _service_parts(self, changed: set[str], size: int) -> Iterator[str]:
        """Yield nat's text with the own chains of all Services, those that changed worked out anew.

        `size` is the least number of chains of a transaction; 0 makes one transaction of all, and leaves it open.
        """
        lines, count = [opening(self._wanted.settings)], 0
        if not size:
            yield "*nat\n"
        services = sorted(changed.union(self._wanted.services()))
        for at in range(0, len(services), _GROUP):
            group = services[at:at + _GROUP]
            rebuild(self.tracker, self._wanted, [service for service in group if service in changed])
            text, chains = service_lines(self._wanted.blocks_of(group))
            lines.append(text)
            count += chains
            if not size:
                yield "".join(lines)
            elif count >= size or at + _GROUP >= len(services):
                yield transaction("nat", "".join(lines))
            else:
                continue
            lines, count = [], 0
        if not size:
            yield "".join(lines)
        elif lines:
            yield transaction("nat", "".join(lines))

    async def _partial(self) -> Change:
        rebuild(self.tracker, self._wanted, self.tracker.take_changed())
        change = self._spare(self._wanted.take_changes())
        if change:
            await self._write(change)
        return change

    async def _write(self, change: Change, size: int = PIECE) -> None:
        if self.tool.backend == "legacy":
            size = _ONE_PIECE
        if not self._complained:
            await self._restored("".join(texts(change, size=size)))
            return
        # The last write failed. A stale chain that a foreign rule jumps to must not keep the others from being written.
        await self._restored("".join(texts(replace(change, stale=()), size=size)))
        for text in deletions(change):
            try:
                await self._restored(text)
            except RestoreRejected as error:
                (log.debug if error.text in self._stuck else log.warning)(
                    "%s: a chain that nobody needs stays: %s", self.family, error)
                self._stuck.add(error.text)

    async def _restored(self, text: str) -> None:
        await asyncio.to_thread(self._restore, text)

    def _restore(self, text: str | Iterable[str]) -> None:
        """Run all transactions of a text in one process: on a node of many chains, starting it is what costs."""
        iptables.restore(self.tool, text, netns=self.netns, wait=self.lock_wait, where=self.settings.node)

    def _make_counters(self) -> None:
        found = set()
        for name in (INVALID_COUNTER, LOCALHOST_COUNTER) if self._countable else ():
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


def count_nfacct(metrics: Metrics, netns: int | None = None) -> None:
    """Put the packets that the kernel counted into the metrics."""
    try:
        found = nfacct.counters(netns)
    except KernelError:
        return
    metrics.put("iptables_ct_state_invalid_dropped_packets_total", found.get(INVALID_COUNTER, (0, 0))[0])
    metrics.put("iptables_localhost_nodeports_accepted_packets_total", found.get(LOCALHOST_COUNTER, (0, 0))[0])

