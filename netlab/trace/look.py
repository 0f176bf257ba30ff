"""The world of a prediction, read from the kernel: every namespace's links, routes, settings, rules and listeners."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from netlab.errors import KernelError, NetnsGone, Unsupported, UsageError
from netlab.kernel import edges, ipset, iptables, nft_listing, survey
from netlab.kernel.nft import TRACE_TABLES
from netlab.kernel.survey import Survey
from netlab.netfilter import ipsets
from netlab.netfilter.model import HOOKS, Ruleset
from netlab.netfilter.parse import parse
from netlab.netfilter.stations import Beside, not_known
from netlab.trace import lan, routing
from netlab.trace.listen import Tap
from netlab.trace.routing import NextHop, Route
from netlab.trace.world import End, Link, Space, World

if TYPE_CHECKING:
    from netlab.netfilter.nft_eval import Book

Family = Literal["IPv4", "IPv6"]
_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_INCOMPATIBLE: Final = re.compile(r"^# Table `(\w+)' (?:is|contains) incompatible", re.MULTILINE)


class Listeners(Container[tuple[str, int]]):
    """The listening sockets of a namespace, read when somebody asks: 10 ms, as the kernel looks through all sockets."""

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._found: frozenset[tuple[str, int]] | None = None

    def __contains__(self, item: object) -> bool:
        if self._found is None:
            self._found = survey.listeners(self._netns)
        return item in self._found


def world(taps: Sequence[Tap], names: Mapping[str, str] | None = None, *, family: int = 4,
          lazy: bool = False, alone: bool = True) -> World:
    """Read all namespaces: about 1 ms each, and 10 ms for the rules of each that has some.

    Args:
        taps: the namespaces.
        names: names by IP address.
        family: 4 or 6, whose rules are read.
        lazy: listening sockets are read only where a packet arrives; the descriptors have to stay open until then.
        alone: cables that end in none of the namespaces lead nowhere; else into networks that nodes have in common.
    """
    found: dict[str, Survey] = {}
    for tap in taps:
        try:
            found[tap.place] = survey.survey(tap.netns_fd)
        except (KernelError, NetnsGone):
            continue  # a Pod that ends just now
    here = [tap for tap in taps if tap.place in found]
    far = _far_ends(here, found, sure=alone)
    with ThreadPoolExecutor(4) as pool:
        rules = dict(zip([tap.place for tap in here], pool.map(lambda tap: _rules(tap.netns_fd, family), here),
                         strict=True))
    spaces = {tap.place: _space(tap, found[tap.place], far, rules[tap.place], family, lazy=lazy) for tap in here}
    return World(spaces if alone else lan.joined(spaces), names or {})


def _space(tap: Tap, read: Survey, far: Mapping[End, End], has: _Read, family: int, *, lazy: bool) -> Space:
    names = {port.link.ifindex: port.link.name for port in read.ports}
    cidrs: dict[int, list[str]] = {}
    for address in read.addresses:
        cidrs.setdefault(address.ifindex, []).append(address.cidr)
    links = {}
    for port in read.ports:
        each = port.link
        links[each.name] = Link(
            each.name, each.kind, each.up, each.mtu, names.get(each.master, "") if each.master else "", port.hairpin,
            far.get(End(tap.place, each.name)), tuple(cidrs.get(each.ifindex, ())),
            read.rp_filter.get(each.ifindex, 0), read.forwards[each.ifindex], each.ifindex in read.localnet)
    routes = tuple(Route(entry.dst, names.get(entry.ifindex, ""), entry.gateway, entry.source, entry.metric,
                         entry.kind, entry.table, entry.origin,  # type: ignore[arg-type]
                         hops=tuple(NextHop(names.get(index, ""), via, weight) for index, via, weight in entry.hops),
                         grouped=entry.grouped) for entry in read.routes)
    policies = {version: tuple(routing.Rule(*each) for each in listed) for version, listed in read.policies.items()}
    listening = Listeners(tap.netns_fd) if lazy else survey.listeners(tap.netns_fd)
    return Space(tap.place, links, routes, policies, {family: has.rules} if has.rules else {}, {family: has.beside},
                 read.bridge_calls, listening,
                 survey.recent(tap.netns_fd) if has.rules else frozenset(),
                 survey.lacks(tap.netns_fd), by_source=_by_source(os.uname().release), sets=has.sets,
                 doubts=doubts(tap.place, (*has.doubts, *(
                     f"{edge.words.partition(':')[0]} at the {edge.side} of {edge.interface} is not followed here"
                     for edge in edges.filters(tap.netns_fd, names))), policies[family]))


def _by_source(release: str) -> bool:
    """Tell whether a kernel prefers, of several next hops, those whose interface has a packet's source: since 6.15."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= (6, 15)


def doubts(place: str, unknown: Iterable[str], policies: Iterable[routing.Rule]) -> tuple[str, ...]:
    """Return a place's doubts in words: what is not known of its rules, and of its routing rules."""
    strange = (f"{', '.join(rule.strange)} of ip rule {rule.priority} is not followed here"
               for rule in policies if rule.strange)
    return tuple(f"{place}: {text}" for text in (*unknown, *strange))


@dataclass(frozen=True)
class _Read:
    """The rules of a namespace, of one family."""

    rules: Ruleset | None = None
    beside: Beside = field(default_factory=Beside)
    doubts: tuple[str, ...] = ()
    sets: ipsets.Sets = field(default_factory=dict)


def _rules(netns: int, family: int) -> _Read:
    """Return a namespace's rules of one family: iptables' of both backends, and nftables' own tables."""
    try:
        tables = [(_FAMILIES.get(number, str(number)), name) for number, name in survey.nft_tables(netns)
                  if not name.startswith(TRACE_TABLES)]
        legacy = bool(iptables.tables_in_use(netns)["IPv4" if family == 4 else "IPv6"])
    except (KernelError, NetnsGone):
        return _Read()
    mine = "ip" if family == 4 else "ip6"
    native = [(kind, name) for kind, name in tables if kind == "inet" or (kind == mine and name not in HOOKS)]
    which: Family = "IPv4" if family == 4 else "IPv6"
    parts = []
    books: tuple[Book, ...] = ()
    try:
        if any(kind == mine and name in HOOKS for kind, name in tables):
            text = iptables.save(iptables.find(which, "nft"), netns=netns)
            strange = _INCOMPATIBLE.findall(text)  # written by nft under a name of iptables'
            native += [(mine, name) for name in strange]
            found = parse(text)
            parts.append(replace(found, tables={name: each for name, each in found.tables.items()
                                                if name not in strange}))
        if legacy:
            parts.append(parse(iptables.save(iptables.find(which, "legacy"), netns=netns)))
        if native:
            books = _books(nft_listing.listing(native, netns))
    except (KernelError, Unsupported, NetnsGone, UsageError) as error:  # of usage: what no reader here understands
        return _Read(doubts=(f"its rules cannot be read: {error}",))
    beside = Beside(tuple(parts[1:]), books, tuple(f"{kind} {name}" for kind, name in tables))
    first = parts[0] if parts else None
    asked = any("--match-set" in rule.match for each in parts for table in each.tables.values()
                for chain in table.chains.values() for rule in chain.rules)
    return _Read(first, beside, not_known(first, family, beside), ipsets.parse(ipset.save(netns)) if asked else {})


def _books(listing: str) -> tuple[Book, ...]:
    from netlab.netfilter import (  # where there are nftables only: it takes as long to import as all the rest
        nft,
        nft_eval,
    )

    return tuple(nft_eval.Book(table) for table in nft.parse(listing))


def _far_ends(taps: Sequence[Tap], found: Mapping[str, Survey], *, sure: bool) -> dict[End, End]:
    """Find the other end of every cable: by the indices of both ends, and where these are not enough by namespace.

    `sure`: all ends are among these namespaces, so that the only one with the right indices is the one.
    """
    by_index: dict[int, list[tuple[Tap, survey.Port]]] = {}
    for tap in taps:
        for port in found[tap.place].ports:
            by_index.setdefault(port.link.ifindex, []).append((tap, port))
    fds = {tap.place: tap.netns_fd for tap in taps}
    numbers: dict[str, dict[int, str]] = {}
    ends: dict[End, End] = {}
    for tap in taps:
        for port in found[tap.place].ports:
            here = End(tap.place, port.link.name)
            if port.link.kind != "veth" or here in ends:
                continue
            fits = [(other, far) for other, far in by_index.get(port.link.peer, ())
                    if far.link.kind == "veth" and far.link.peer == port.link.ifindex
                    and (other.place != tap.place) == (port.peer_nsid >= 0)]
            if len(fits) > sure and port.peer_nsid >= 0:
                if tap.place not in numbers:
                    numbers[tap.place] = survey.names_of(fds[tap.place], {
                        other: fd for other, fd in fds.items() if other != tap.place})
                fits = [(other, far) for other, far in fits if numbers[tap.place].get(port.peer_nsid) == other.place]
            if len(fits) == 1:
                ends[here] = End(fits[0][0].place, fits[0][1].link.name)
                ends[ends[here]] = here
    return ends


def family_of(address: str) -> int:
    """Return 4 or 6."""
    return ipaddress.ip_address(address).version
