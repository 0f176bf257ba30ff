"""One address family of one node in nftables mode."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from dataclasses import replace

from netlab.errors import KernelError, Unsupported
from netlab.kernel import nft_table
from netlab.kernel.nft_batch import Writer
from netlab.proxy import nft_names
from netlab.proxy.addresses import networks_of_family
from netlab.proxy.family import FamilyProxier
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_plan import Change, NftWanted, change_text, deletions, full_texts, rebuild
from netlab.proxy.nft_rules import ip_word
from netlab.proxy.settings import Settings
from netlab.proxy.tracker import LARGE

log = logging.getLogger(__name__)

_WHOLE = 1 << 30


class NftProxier(FamilyProxier[Change]):
    """The rules of one address family, in a table of their own."""

    def __init__(self, settings: Settings, metrics: Metrics, *, netns: int | None = None) -> None:
        super().__init__(settings, metrics, netns=netns)
        self._wanted = NftWanted(settings)
        self._stale: set[str] = set()
        self._anew = False

    def serve_cidrs(self, cidrs: tuple[str, ...]) -> bool:
        """Take the networks of cluster addresses; returns whether they are news (then all is to be written)."""
        found = networks_of_family(cidrs, self.family)
        if found == self.settings.service_cidrs:
            return False
        self.settings = replace(self.settings, service_cidrs=found)
        self.full = True
        return True

    async def flushed(self) -> bool:
        """Tell whether the table or some of its chains are gone; then the next sync writes everything."""
        held = await self._held()
        wanted = {*self._wanted.fixed.chains, *self._wanted.chains()}
        if held is None or not wanted <= held.chains:
            log.warning("%s: chains are gone from table %s: somebody flushed it", self.family, nft_names.TABLE)
            self.full = True
            return True
        return False

    def report(self) -> None:
        """Put into the metrics what is counted only when somebody asks."""
        for policy in ("internal", "external"):
            lacking = sum(policy in block.no_local for block in self._wanted.blocks())
            self._metrics.put("sync_proxy_rules_no_local_endpoints_total", lacking, policy, self.family)

    async def _full(self, large: bool) -> Change:
        changed: Iterable[str] = self.tracker.take_changed()
        if self._wanted.settings != self.settings:
            self._wanted = NftWanted(self.settings)
            changed = self.tracker.services()
        wanted = self._wanted
        rebuild(self.tracker, wanted, changed)
        wanted.forget_changes()
        held = await self._held(elements=True)
        if self._anew and held is not None:  # what is there stood in the way once: replace it, in one step
            text = f"delete table {ip_word(self.settings)} {nft_names.TABLE}\n"
            texts: Iterable[str] = [text + "\n".join(full_texts(wanted, (), {}, size=_WHOLE))]
            self._stale.clear()
        else:
            held = held or nft_table.Held()
            texts = full_texts(wanted, held.chains, held.sets, held.elements)
            self._stale = set(held.chains) - {*wanted.chains(), *wanted.fixed.chains}
        self._anew = True
        await asyncio.to_thread(self._run, texts)
        self._anew = False
        log.info("%s: wrote all rules of %d Services%s (nftables)", self.family, len(set(self.tracker.services())),
                 f", more than {LARGE} endpoints" if large else "")
        return Change(wanted.sets(), wanted.chains(), {}, wanted.elements())

    async def _partial(self) -> Change:
        rebuild(self.tracker, self._wanted, self.tracker.take_changed())
        change = self._wanted.take_changes()
        self._stale = self._stale.difference(change.chains).union(change.stale_chains)
        if change or self._stale:
            await asyncio.to_thread(self._run, [change_text(change, self.settings)] if change else [])
        return change

    def _run(self, texts: Iterable[str]) -> None:
        """Run transactions, and then delete what chains are left empty."""
        nft = Writer(self.netns)
        try:
            for text in texts:
                try:
                    nft.run(text)
                except Unsupported as error:
                    log.debug("%s: by libnftables: %s", self.family, error)
                    self._run_by_library(text)
            if not self._stale:
                return
            try:
                # Not with the rest: before Linux 6.2 a map's former target counts as in use for a moment longer.
                nft.run(deletions(sorted(self._stale), self.settings))
                self._stale.clear()
            except KernelError as error:
                self._metrics.add("sync_proxy_rules_nftables_cleanup_failures_total", self.family)
                log.debug("%s: empty chains stay until the next sync: %s", self.family, error)
        finally:
            nft.close()

    def _run_by_library(self, text: str) -> None:
        nft = nft_table.open_nft(self.netns)
        try:
            nft.run(text)
        finally:
            nft.close()

    async def _held(self, *, elements: bool = False) -> nft_table.Held | None:
        family = socket.AF_INET6 if self.family == "IPv6" else socket.AF_INET
        return await asyncio.to_thread(nft_table.held, family, nft_names.TABLE, self.netns, elements=elements)

    def _count_failure(self, *, partial: bool) -> None:  # noqa: ARG002 - one counter for both
        self._metrics.add("sync_proxy_rules_nftables_sync_failures_total", self.family)
