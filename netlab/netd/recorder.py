"""Netd's flight recorder: which rules, routes, links and settings a node's kernel held, beside the store's revisions.

It looks twice a second whether something may have changed, and reads only then; reading takes at most a twentieth of
the time, so states that last shorter than that are missed where rules are many. What has changed goes to a file, with
the time and the revision that the API server was at just then. Files begin with a whole state; the oldest go when they
are too old or too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

from netlab.errors import NetlabError
from netlab.kernel import iptables, nft_listing, survey, sysctl
from netlab.kernel.netns import OWN, open_netns
from netlab.kernel.rulewatch import RuleWatch, Stamp
from netlab.netfilter import history
from netlab.netfilter.model import HOOKS

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
PATIENCE: Final = 20
"""For each second of reading, so many seconds pass before the next one."""
MOST_BYTES: Final = 16 << 20
MOST_SECONDS: Final = 3600.0
_FRESH: Final = 1 << 18
"""A file is long enough for the next one to begin when it has so many bytes and eight times those of a whole state."""
_TRACERS: Final = "netlab-trace"
_TRACED_SECONDS: Final = 5.0


class Recorder:
    """Writes the history of the network namespace that it runs in.

    Args:
        folder: where the files go.
        revision: asks the API server for the revision that it is at.
        most_bytes: of all files together.
    """

    def __init__(self, folder: Path, revision: Callable[[], Awaitable[int]], *, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._revision, self._most = folder, revision, most_bytes
        self._known: dict[str, int] = {}
        self._file: Path | None = None
        self._whole = self._last = 0
        self._said = ""

    async def run(self) -> None:
        """Look and write, until cancelled."""
        watch = RuleWatch(history.SYSCTLS)
        netns = open_netns(OWN)
        seen: Stamp | None = None
        traced = 0.0
        try:
            while True:
                now = time.monotonic()
                stamp = watch.stamp(now)
                cost = 0.0
                if stamp != seen and not (traced := await self._tracers(traced, now)):
                    rules = seen is None or stamp.rules != seen.rules
                    seen = stamp
                    try:
                        cost = await self.look(netns, rules=rules)
                        self._say("")
                    except (NetlabError, OSError, ValueError) as error:
                        self._say(f"history: {error}")
                await asyncio.sleep(max(LOOK_SECONDS, cost * PATIENCE))
        finally:
            watch.close()

    async def _tracers(self, since: float, now: float) -> float:
        """Return since when somebody traces here, 0 for nobody or for too long: those tables are no news."""
        there = any(name.startswith(_TRACERS) for _, name in await asyncio.to_thread(nft_listing.names))
        if not there or (since and now - since > _TRACED_SECONDS):
            return 0.0
        return since or now

    async def look(self, netns: int, *, rules: bool = True) -> float:
        """Read what is held, and write what of it is new; return the seconds that reading took.

        Without `rules` these are as they were: links come and go with every Pod, and rules cost more to read.
        """
        began, now = time.monotonic(), time.time()
        rules = rules or self._going_on() is None
        state = await asyncio.to_thread(read if rules else read_network, netns)
        hashes = {**({} if rules else self._known), **{key: hash(text) for key, text in state.items()}}
        change: dict[str, str | None] = {key: text for key, text in state.items()
                                         if self._known.get(key) != hashes[key]}
        change |= dict.fromkeys(self._known.keys() - hashes.keys())
        cost = time.monotonic() - began
        if change or self._file is None:
            with contextlib.suppress(NetlabError, TimeoutError):  # without the API server as it was last known
                self._last = max(self._last, await self._revision())
            await asyncio.to_thread(self._write, now, state, change)
            self._known = hashes
        return cost

    def _going_on(self) -> Path | None:
        """Return the file that the next state goes to; None where it begins one."""
        full = self._file is None or self._file.stat().st_size > max(_FRESH, 8 * self._whole)
        return None if full else self._file

    def _write(self, now: float, state: dict[str, str], change: dict[str, str | None]) -> None:
        going_on = self._going_on()
        if going_on is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._folder / f"{int(now * 1000):015d}"
            whole = history.record(now, self._last, state)
            self._whole = len(whole)
            self._file.write_bytes(whole)
        else:
            with going_on.open("ab") as file:
                file.write(history.record(now, self._last, change))
        self._prune(now)

    def _prune(self, now: float) -> None:
        """Remove the oldest files while all are too big, or they ended too long ago; the newest stays."""
        files = sorted(self._folder.iterdir())
        sizes = [each.stat() for each in files]
        total = sum(each.st_size for each in sizes)
        for file, told in list(zip(files, sizes, strict=True))[:-1]:
            if total <= self._most and now - told.st_mtime <= MOST_SECONDS:
                break
            file.unlink()
            total -= told.st_size

    def _say(self, words: str) -> None:
        if words and words != self._said:
            log.warning("%s", words)
        self._said = words


def read(netns: int) -> dict[str, str]:
    """Return what a namespace holds, as the parts of a history: iptables of both backends, nftables, routes."""
    tables = [each for each in nft_listing.names(netns) if not each[1].startswith(_TRACERS)]
    legacy = iptables.tables_in_use(netns)
    state: dict[str, str] = {}
    own = []
    families: tuple[tuple[Literal["IPv4", "IPv6"], str], ...] = (("IPv4", "ip"), ("IPv6", "ip6"))
    for family, word in families:
        mine = [each for each in tables if each[0] == word and each[1] in HOOKS]
        own += mine
        backends: tuple[tuple[Literal["nft", "legacy"], bool], ...] = (
            ("nft", bool(mine)), ("legacy", bool(legacy[family])))
        for backend, there in backends:
            if there:
                tool = iptables.find(family, backend)
                state |= history.parts(iptables.save(tool, netns=netns), f"{family} {backend}")
    for table in tables:
        if table not in own:
            state[history.nft_part(*table)] = nft_listing.listing([table], netns)
    state[history.TABLES] = json.dumps([" ".join(each) for each in tables])
    return state | read_network(netns)


def read_network(netns: int) -> dict[str, str]:
    """Return a namespace's routes, routing rules, links and settings, as parts of a history: some milliseconds."""
    found = survey.survey(netns)
    names = {port.link.ifindex: port.link.name for port in found.ports}
    cidrs: dict[int, list[str]] = {}
    for address in found.addresses:
        cidrs.setdefault(address.ifindex, []).append(address.cidr)
    routes = [[each.dst, names.get(each.ifindex, ""), each.gateway, each.source, each.metric, each.kind, each.table,
               each.origin, [[names.get(index, ""), *more] for index, *more in each.hops], each.grouped]
              for each in found.routes]
    links = [[each.name, each.kind, each.up, each.mtu, names.get(each.master, "") if each.master else "", port.hairpin,
              cidrs.get(each.ifindex, []), found.rp_filter.get(each.ifindex, 0), sorted(found.forwards[each.ifindex]),
              each.ifindex in found.localnet]
             for port in found.ports for each in (port.link,)]
    settings = {"bridge_calls": sorted(found.bridge_calls), "sysctls": sysctl.read_all(history.SYSCTLS, netns)}
    return {history.ROUTES: json.dumps(routes), history.POLICIES: json.dumps(found.policies),
            history.LINKS: json.dumps(links), history.SETTINGS: json.dumps(settings)}
