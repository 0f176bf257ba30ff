"""Ears in many namespaces at once: packet sockets, rule traces, new conntrack entries, drops; read in one loop.

setns happens only while the sockets are opened. When this process dies, they take everything along: taps, log groups,
and the nft tables, which their sockets own.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from netlab.errors import KernelError, NetlabError, Unsupported
from netlab.kernel import link, netns, nft, stamps
from netlab.kernel.conntrack import Flow, NewFlows
from netlab.kernel.drops import DropTrace
from netlab.kernel.netns import inside
from netlab.kernel.rtnl import Rtnl
from netlab.kernel.taps import LegacyTrace, NftTrace, PacketTap, RuleHit
from netlab.trace.correlate import Seen
from netlab.trace.packet import TCP, Key, Packet, parse, parse_headers
from netlab.trace.reasons import FATAL, Death

ARM_ALL: Final = 48
"""Up to this many namespaces are armed all; beyond, Pods other than the sender only have a tap."""


@dataclass(frozen=True)
class Tap:
    """A namespace to listen in: `place` is `node/worker1`, `pod/default/web-1`, `outside`; `node` is a Pod's node."""

    place: str
    netns_fd: int
    node: str = ""


@dataclass
class Heard:
    """Everything heard so far, by place."""

    seen: list[Seen] = field(default_factory=list)
    hits: dict[str, list[RuleHit]] = field(default_factory=dict)
    flows: dict[str, list[Flow]] = field(default_factory=dict)
    deaths: list[Death] = field(default_factory=list)
    lost: int = 0
    _first: Key | None = None
    _keys: dict[tuple[str, int], Key] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)

    def dropped(self, is_first: Callable[[Packet], bool]) -> bool:
        """Tell whether the first packet was dropped by a rule or a policy."""
        for place, hits in self.hits.items():
            for hit in hits[self._read.get(place, 0):]:
                if hit.network and (packet := parse_headers(hit.network, hit.transport)) is not None:
                    self._keys[place, hit.visit] = packet.key
                    if self._first is None and is_first(packet):
                        self._first = packet.key
                if hit.verdict == "DROP" and self._first is not None and \
                        self._keys.get((place, hit.visit)) == self._first:
                    return True
            self._read[place] = len(hits)
        return any(death.reason in FATAL and (death.packet.key == self._first or is_first(death.packet))
                   for death in self.deaths)


    def awaits_a_proxy(self, is_first: Callable[[Packet], bool]) -> bool:
        """Tell whether TCP was turned aside to a userspace proxy, which has neither opened nor ended one of its own."""
        first = next((event.packet for event in self.seen if is_first(event.packet)), None)
        if first is None or any((event.packet.sport, event.packet.dport) == (first.dport, first.sport) and
                                event.packet.flags & 5 for event in self.seen):  # FIN or RST
            return False
        asked = {place for place, hits in self.hits.items() if any(
            hit.kind == "rule" and hit.verdict == "ACCEPT" and hit.chain.startswith(_TURNED_ASIDE) for hit in hits)}
        came = {(event.place, event.packet.key) for event in self.seen if event.place in asked and (
            not event.outgoing or event.interface == "lo")}
        opened = {event.place for event in self.seen if event.place in asked and event.outgoing
                  and event.packet.protocol == TCP and event.packet.flags & 18 == 2
                  and (event.place, event.packet.key) not in came}
        return bool(asked - opened)


_TURNED_ASIDE: Final = ("KUBE-PORTALS-", "KUBE-NODEPORT-")
"""What the chains of kube-proxy's userspace mode begin with."""

Source = PacketTap | NftTrace | LegacyTrace | NewFlows | DropTrace


class Ears:
    """The open sockets of all namespaces, and the loop that reads them."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.warnings: list[str] = []
        self.loop: selectors.BaseSelector = selectors.DefaultSelector()
        self._stamps = stamps.keep()
        self._arms: list[tuple[str, nft.Nft]] = []
        self._gone = {"frames": 0, "rules": 0, "drops": 0}
        self._sources: list[tuple[str, Source]] = []
        self._drops: DropTrace | None = None
        self._places: dict[int, tuple[str, int]] = {}
        self._interfaces: dict[int, dict[int, str]] = {}

    @property
    def bpf(self) -> bool:
        """Tell whether the kernel tells why packets are dropped."""
        return self._drops is not None

    def ask_for_drops(self, taps: Sequence[Tap], *, insist: bool = False) -> None:
        """Have drops in these namespaces told, where this kernel and process may.

        Raises:
            NetlabError: they cannot be, and the caller insists.
        """
        try:
            self._drops = DropTrace(tap.netns_fd for tap in taps)
        except (NetlabError, OSError) as error:
            if insist:
                raise Unsupported(f"no drop reasons by BPF: {error}", hint="netlab doctor; --no-bpf") from None
            return
        for tap in taps:
            self._places[netns.inode(tap.netns_fd)] = tap.place, tap.netns_fd
        self._add("", self._drops)

    def open(self, tap: Tap, matches: Sequence[str], filter: Sequence[tuple[int, int, int, int]], *,
             armed: bool) -> None:
        """Listen in one namespace: to frames that pass `filter`, if `armed` also to rules that `matches` meet."""
        self._add(tap.place, PacketTap(tap.netns_fd, filter=filter))
        inode = netns.inode(tap.netns_fd)
        if self._drops is not None and inode not in self._places:  # it came later
            self._drops.add(tap.netns_fd)
            self._places[inode] = tap.place, tap.netns_fd
        if not armed:
            return
        try:
            self._add(tap.place, NftTrace(tap.netns_fd))
            if legacy_in_use(tap.netns_fd):
                self._add(tap.place, LegacyTrace(tap.netns_fd))
            with suppress(KernelError):  # a kernel without conntrack
                self._add(tap.place, NewFlows(tap.netns_fd))
            self._arms.append((tap.place, nft.arm(tap.netns_fd, *matches)))
        except KernelError as error:
            self.warnings.append(f"{tap.place}: no rules in this trace: {error}")

    def take(self, place: str, source: Source) -> bool:
        """Read one socket; tell whether rules were heard (taps hear strangers too)."""
        if isinstance(source, PacketTap):
            for frame in source.read():
                packet = parse(frame.data)
                if packet is not None:
                    self.heard.seen.append(Seen(frame.at, place, frame.interface, frame.outgoing, packet, frame.data,
                                                frame.stray))
            return False
        if isinstance(source, NewFlows):
            self.heard.flows.setdefault(place, []).extend(source.read())
            return False
        if isinstance(source, DropTrace):
            return self._take_drops(source)
        hits = source.read()
        self.heard.hits.setdefault(place, []).extend(hits)
        return bool(hits)

    def take_all(self) -> None:
        """Read every socket a last time, and count what was lost."""
        for place, source in self._sources:
            self.take(place, source)
        self.heard.lost = sum(source.count_lost() for _, source in self._sources)

    def lost_by_kind(self) -> dict[str, int]:
        """Return how many frames, rule messages and drops the kernel could not hand over."""
        found = dict(self._gone)
        for _, source in self._sources:
            found[_kind(source)] += source.count_lost()
        return found

    def leave(self, place: str) -> None:
        """Let go of one namespace, after a last look."""
        mine = [source for where, source in self._sources if where == place]
        for source in mine:
            self.take(place, source)
            self._gone[_kind(source)] += source.count_lost()
            self.loop.unregister(source.fileno())
        _free(mine, [arm for where, arm in self._arms if where == place])
        self._sources = [entry for entry in self._sources if entry[0] != place]
        self._arms = [entry for entry in self._arms if entry[0] != place]
        for inode, (where, _) in list(self._places.items()):
            if where == place:
                del self._places[inode]
                self._interfaces.pop(inode, None)

    def close(self) -> None:
        """Close everything. The kernel takes some 10 ms for each tap and each table that goes, so all go at once."""
        self.loop.close()
        _free([source for _, source in self._sources], [arm for _, arm in self._arms])
        if self._stamps is not None:
            self._stamps.close()
        self._sources, self._arms, self._drops = [], [], None

    def _take_drops(self, source: DropTrace) -> bool:
        for drop in source.read():
            packet = parse(drop.data)
            if packet is None or drop.netns not in self._places:
                continue
            place, fd = self._places[drop.netns]
            if drop.netns not in self._interfaces:
                with Rtnl(fd) as sock:
                    self._interfaces[drop.netns] = {entry.ifindex: entry.name for entry in link.links(sock)}
            name = self._interfaces[drop.netns].get(drop.ifindex, "")
            self.heard.deaths.append(Death(drop.at, place, name, drop.reason, drop.location, packet))
        return False

    def _add(self, place: str, source: Source) -> None:
        self.loop.register(source.fileno(), selectors.EVENT_READ, (place, source))
        self._sources.append((place, source))


def _kind(source: Source) -> str:
    return "frames" if isinstance(source, PacketTap) else "drops" if isinstance(source, DropTrace) else "rules"


def _free(sources: Sequence[Source], arms: Sequence[nft.Nft]) -> None:
    with ThreadPoolExecutor(min(len(sources) + 1, 64)) as pool:
        closing = pool.map(lambda source: source.close(), sources)
        nft.close_all(arms)
        list(closing)


def legacy_in_use(netns: int) -> bool:
    """Tell whether a namespace has tables of iptables-legacy."""
    with inside(netns):
        for name in ("ip_tables_names", "ip6_tables_names"):
            try:
                with open(f"/proc/thread-self/net/{name}") as file:
                    if file.read().strip():
                        return True
            except OSError:
                continue
    return False
