"""The world of a prediction, read from the kernel: every namespace's links, routes, settings, rules and listeners."""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from netlab.errors import KernelError, NetnsGone, Unsupported
from netlab.kernel import iptables, survey
from netlab.kernel.nft import TRACE_TABLE
from netlab.kernel.survey import Survey
from netlab.netfilter.model import HOOKS, Ruleset
from netlab.netfilter.parse import parse
from netlab.trace import lan
from netlab.trace.listen import Tap
from netlab.trace.world import End, Link, Route, Space, World

_NFT_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_MAIN_TABLES: Final = (253, 254)


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
    far = _far_ends(here, found)
    with ThreadPoolExecutor(4) as pool:
        rules = dict(zip([tap.place for tap in here], pool.map(lambda tap: _rules(tap.netns_fd, family), here),
                         strict=True))
    spaces = {tap.place: _space(tap, found[tap.place], far, *rules[tap.place], family, lazy=lazy) for tap in here}
    return World(spaces if alone else lan.joined(spaces), names or {})


def _space(tap: Tap, read: Survey, far: Mapping[End, End], rules: Ruleset | None, doubts: Sequence[str],
           family: int, *, lazy: bool) -> Space:
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
            read.rp_filter.get(each.ifindex, 0))
    routes = tuple(Route(entry.dst, names.get(entry.ifindex, ""), entry.gateway, entry.source, entry.metric,
                         entry.kind)  # type: ignore[arg-type]
                   for entry in read.routes if entry.table in _MAIN_TABLES)
    unsaid = [*doubts]
    if read.policies:
        unsaid.append(f"{tap.place} has routing rules (ip rule), which are not followed here")
    listening = Listeners(tap.netns_fd) if lazy else survey.listeners(tap.netns_fd)
    return Space(tap.place, links, routes, {family: rules} if rules else {}, read.forwards, read.bridge_calls,
                 listening, survey.recent(tap.netns_fd) if rules else frozenset(),
                 doubts=tuple(f"{tap.place}: {text}" for text in unsaid))


def _rules(netns: int, family: int) -> tuple[Ruleset | None, tuple[str, ...]]:
    """Return a namespace's iptables rules of one family, of both backends, and what else it has."""
    try:
        tables = survey.nft_tables(netns)
        legacy = bool(iptables.tables_in_use(netns)["IPv4" if family == 4 else "IPv6"])
    except (KernelError, NetnsGone):
        return None, ()
    kernels = _NFT_FAMILIES_OF[family]
    by_nft = [name for number, name in tables if number == kernels and name in HOOKS]
    native = [f"{_NFT_FAMILIES.get(number, number)} {name}" for number, name in tables
              if name != TRACE_TABLE and number in (kernels, 1, 7, 5) and not (number == kernels and name in HOOKS)]
    parts = []
    doubts = [f"the nftables table {name} is not followed here" for name in native]
    which = "IPv4" if family == 4 else "IPv6"
    try:
        if by_nft:
            parts.append(parse(iptables.save(iptables.find(which, "nft"), netns=netns)))
        if legacy:
            parts.append(parse(iptables.save(iptables.find(which, "legacy"), netns=netns)))
    except (KernelError, Unsupported, NetnsGone) as error:
        return None, (f"its rules cannot be read: {error}",)
    if len(parts) == 2 and any(list(part.table(name).rules()) for part in parts[1:] for name in part.tables) and any(
            list(parts[0].table(name).rules()) for name in parts[0].tables):
        doubts.append("it has rules of both iptables backends: only those of nf_tables are followed here")
    best = max(parts, key=lambda part: sum(1 for name in part.tables for _ in part.table(name).rules()), default=None)
    return best, tuple(doubts)


_NFT_FAMILIES_OF: Final = {4: 2, 6: 10}


def _far_ends(taps: Sequence[Tap], found: Mapping[str, Survey]) -> dict[End, End]:
    """Find the other end of every cable: by the indices of both ends, and where these are not enough by namespace."""
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
            if len(fits) > 1 and port.peer_nsid >= 0:
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
