"""One address family of one node in nftables mode."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace

from netlab.errors import KernelError, Unsupported
from netlab.kernel import nft_table
from netlab.kernel.nft_batch import Encoder, Writer
from netlab.proxy import nft_names
from netlab.proxy.addresses import networks_of_family
from netlab.proxy.family import FamilyProxier
from netlab.proxy.feed import feed
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_plan import Change, NftWanted, change_text, deletions, full_texts, rebuild
from netlab.proxy.nft_rules import ip_word
from netlab.proxy.settings import Settings
from netlab.proxy.tracker import LARGE

log = logging.getLogger(__name__)

_WHOLE = 1 << 30


@dataclass(frozen=True)
class _Batch:
    """A transaction as messages, None where only libnftables knows what its text means."""

    text: str
    data: bytes | None


def _encoded(text: str) -> _Batch:
    try:
        return _Batch(text, Encoder().encode(text))
    except Unsupported as error:
        log.debug("by libnftables: %s", error)
        return _Batch(text, None)


class NftProxier(FamilyProxier[Change]):
    """The rules of one address family, in a table of their own."""

    def __init__(self, settings: Settings, metrics: Metrics, *, netns: int | None = None) -> None:
        super().__init__(settings, metrics, netns=netns)
        self._wanted = NftWanted(settings)
        self._stale: set[str] = set()
        self._anew = False
        self._writer: Writer | None = None

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
        changed = self.tracker.take_changed()
        if self._wanted.settings != self.settings:
            self._wanted = NftWanted(self.settings)
            changed = set(self.tracker.services())
        try:
            await self._write_all(changed)
        except BaseException:
            self.tracker.changed |= changed  # some may not have been worked out
            raise
        log.info("%s: wrote all rules of %d Services%s (nftables)", self.family, len(set(self.tracker.services())),
                 f", more than {LARGE} endpoints" if large else "")
        return Change()  # nobody asks what it was: everything

    async def _write_all(self, changed: set[str]) -> None:
        """Write everything: the kernel works on one transaction while the next is worked out here."""
        found = await self._held(elements=True)
        held = found or nft_table.Held()
        wanted, services = self._wanted, self._worked_out(changed)
        if self._anew and found:  # what is there stood in the way once: replace it, in one step
            text = f"delete table {ip_word(self.settings)} {nft_names.TABLE}\n"
            texts = iter([text + "\n".join(full_texts(wanted, (), {}, services=services, size=_WHOLE))])
            held = nft_table.Held()
        else:
            if any(held.sets.values()):
                services = iter(list(services))
            texts = full_texts(wanted, held.chains, held.sets, held.elements, services=services)

        async def batches() -> AsyncIterator[_Batch]:
            for text in texts:
                yield _encoded(text)
            wanted.forget_changes()
            self._stale = set(held.chains) - {*wanted.chains(), *wanted.fixed.chains}

        self._anew = True
        await feed(batches(), self._send)
        self._anew = False

    def _worked_out(self, changed: set[str]) -> Iterator[str]:
        """Yield the keys of all Services, those that changed worked out anew when it is their turn."""
        for service in sorted(changed.union(self._wanted.services())):
            if service in changed:
                rebuild(self.tracker, self._wanted, [service])
            if self._wanted.blocks_of(service):
                yield service

    async def _partial(self) -> Change:
        rebuild(self.tracker, self._wanted, self.tracker.take_changed())
        change = self._wanted.take_changes()
        self._stale = self._stale.difference(change.chains).union(change.stale_chains)
        if change or self._stale:
            await asyncio.to_thread(self._send, [_encoded(change_text(change, self.settings))] if change else [])
        return change

    def _send(self, batches: Iterable[_Batch]) -> None:
        """Run transactions, and then delete what chains are left empty."""
        # One socket for all syncs: to close it, the kernel waits until all that was deleted is freed, 5 to 20 ms.
        nft = self._writer = self._writer or Writer(self.netns)
        try:
            for batch in batches:
                if batch.data is None:
                    self._run_by_library(batch.text)
                else:
                    nft.send(batch.data, batch.text)
        except BaseException:
            nft.close()  # what else it was told is of no more interest
            self._writer = None
            raise
        if not self._stale:
            return
        try:
            # Not with the rest: before Linux 6.2 a map's former target counts as in use for a moment longer.
            nft.run(deletions(sorted(self._stale), self.settings))
            self._stale.clear()
        except KernelError as error:
            self._metrics.add("sync_proxy_rules_nftables_cleanup_failures_total", self.family)
            log.debug("%s: empty chains stay until the next sync: %s", self.family, error)

    def _run_by_library(self, text: str) -> None:
        nft = nft_table.open_nft(self.netns)
        try:
            nft.run(text)
        finally:
            nft.close()

    async def close(self) -> None:
        """Close the socket; the rules stay, so that Services go on."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _held(self, *, elements: bool = False) -> nft_table.Held | None:
        family = socket.AF_INET6 if self.family == "IPv6" else socket.AF_INET
        return await asyncio.to_thread(nft_table.held, family, nft_names.TABLE, self.netns, elements=elements)

    def _count_failure(self, *, partial: bool) -> None:  # noqa: ARG002 - one counter for both
        self._metrics.add("sync_proxy_rules_nftables_sync_failures_total", self.family)
