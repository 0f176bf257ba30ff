"""Which route a packet takes: routing rules by priority, then the longest prefix of the table that they name. Pure.

ip-rule(8) has the words; net/core/fib_rules.c and net/ipv4/fib_rules.c the order and what suppresses an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from netlab.netfilter import matching
from netlab.netfilter.nft_values import protocol_number

RouteKind = Literal["unicast", "local", "blackhole", "unreachable", "prohibit", "throw"]
LOCAL: Final = 255
MAIN: Final = 254
_DEFAULT: Final = 253


class NextHop(NamedTuple):
    """One of a route's several next hops; the kernel takes it as often as its weight says."""

    interface: str
    gateway: str = ""
    weight: int = 1


@dataclass(frozen=True)
class Route:
    """One route. `kind` other than unicast refuses or ends the search; `gateway` "" is on the link itself.

    `origin` is the network that packets must come from, "" for any. `rule` is the priority of the routing rule that
    refused by itself, -1 where the route is one. `hops` are its next hops where there are several, of which
    `interface` and `gateway` are the first; `grouped`: they are a group of nexthop objects. `among` tells of how many
    next hops this one was taken.
    """

    dst: str
    interface: str = ""
    gateway: str = ""
    source: str = ""
    metric: int = 0
    kind: RouteKind = "unicast"
    table: int = MAIN
    origin: str = ""
    rule: int = -1
    hops: tuple[NextHop, ...] = ()
    grouped: bool = False
    among: int = 0

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Return the interfaces that it leads out by."""
        return tuple(dict.fromkeys(hop.interface for hop in self.hops)) or (self.interface,)

    def ways(self) -> tuple[tuple[Route, float], ...]:
        """Return the route by each of its next hops, and how likely that is.

        Which one it is, the kernel decides by a hash of a packet's addresses (and ports, or IPv6's flow label) with a
        secret that it tells nobody (fib_multipath_hash, rt6_multipath_hash).
        """
        total = sum(hop.weight for hop in self.hops)
        return tuple((replace(self, interface=hop.interface, gateway=hop.gateway, hops=(), among=len(self.hops)),
                      hop.weight / total) for hop in self.hops) or ((self, 1.0),)


@dataclass(frozen=True)
class Rule:
    """One routing rule. Ranges are from and to, marks value and mask; "", 0 and None ask for nothing.

    `action` is lookup, goto, nop, blackhole, unreachable or prohibit. `suppress` is the prefix length up to which an
    answer does not count, -1 for none. `strange` are conditions that are not known here.
    """

    priority: int
    action: str = "lookup"
    table: int = MAIN
    target: int = 0
    source: str = ""
    destination: str = ""
    mark: tuple[int, int] | None = None
    iif: str = ""
    oif: str = ""
    tos: int = 0
    protocol: int = 0
    sport: tuple[int, int] | None = None
    dport: tuple[int, int] | None = None
    suppress: int = -1
    inverted: bool = False
    strange: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A packet as routing sees it. What a host sends itself comes in by `lo`; `oif` only where a socket is bound."""

    destination: str
    source: str = ""
    iif: str = "lo"
    oif: str = ""
    mark: int = 0
    tos: int = 0
    protocol: str = ""
    sport: int = 0
    dport: int = 0


USUAL: Final = (Rule(0, table=LOCAL), Rule(32766, table=MAIN), Rule(32767, table=_DEFAULT))
"""What the kernel begins with."""


def of_packet(packet: matching.Packet, *, iif: str = "lo", tos: int = 0) -> Asked:
    """Return what routing is asked for a packet."""
    return Asked(packet.dst, packet.src, iif, mark=packet.mark, tos=tos, protocol=packet.protocol, sport=packet.sport,
                 dport=packet.dport)


def by_table(routes: Iterable[Route]) -> dict[int, list[Route]]:
    """Return routes by table, the longest prefix and the lowest metric first."""
    found: dict[int, list[Route]] = {}
    for route in sorted_routes(routes):
        found.setdefault(route.table, []).append(route)
    return found


def sorted_routes(routes: Iterable[Route]) -> list[Route]:
    """Return routes with the longest prefix and the lowest metric first."""
    return sorted(routes, key=lambda each: (-prefix_length(each), each.metric))


def prefix_length(route: Route) -> int:
    """Return how many bits of a destination a route asks for."""
    _, slash, bits = route.dst.partition("/")
    return int(bits) if slash else 128 if ":" in route.dst else 32


def decide(rules: Sequence[Rule], tables: Mapping[int, Sequence[Route]], asked: Asked, *,
           local: Route | None) -> Route | None:
    """Return the route that a packet takes, None for none.

    Args:
        rules: in the order of their priority.
        tables: routes as `by_table` gives them.
        asked: the packet.
        local: the route of the local table, where the destination is this host's.
    """
    at = 0
    while at < len(rules):
        rule = rules[at]
        at += 1
        if not fits(rule, asked) or rule.action == "nop":
            continue
        if rule.action == "goto":  # one that leads nowhere is passed over
            at = next((n for n in range(at, len(rules)) if rules[n].priority == rule.target), at)
            continue
        if rule.action != "lookup":
            return Route(asked.destination, kind=rule.action, rule=rule.priority)  # type: ignore[arg-type]
        found = local if rule.table == LOCAL else _in_table(tables.get(rule.table, ()), asked)
        good = found is not None and found.kind in ("unicast", "local")  # what refuses is not suppressed
        if found is None or (good and rule.suppress >= 0 and prefix_length(found) <= rule.suppress):
            continue
        return found
    return None


def _in_table(routes: Iterable[Route], asked: Asked) -> Route | None:
    """Return a table's route; `throw` says that the table has none."""
    for route in routes:
        if not matching.within(asked.destination, route.dst):
            continue
        if route.origin and not (asked.source and matching.within(asked.source, route.origin)):
            continue
        if asked.oif and asked.oif not in route.interfaces and route.interface:
            continue
        return None if route.kind == "throw" else route
    return None


def fits(rule: Rule, asked: Asked) -> bool:
    """Tell whether a routing rule is for a packet."""
    return _fits(rule, asked) != rule.inverted


def _fits(rule: Rule, asked: Asked) -> bool:
    if rule.iif not in ("", asked.iif) or rule.oif not in ("", asked.oif):
        return False
    if rule.mark is not None and (rule.mark[0] ^ asked.mark) & rule.mark[1]:
        return False
    if rule.source and not (asked.source and matching.within(asked.source, rule.source)):
        return False
    if rule.destination and not matching.within(asked.destination, rule.destination):
        return False
    if rule.tos and rule.tos != asked.tos:
        return False
    if rule.protocol and rule.protocol != protocol_number(asked.protocol):
        return False
    return all(span is None or span[0] <= port <= span[1]
               for span, port in ((rule.sport, asked.sport), (rule.dport, asked.dport)))


__all__ = ["LOCAL", "MAIN", "USUAL", "Asked", "NextHop", "Route", "RouteKind", "Rule", "by_table", "decide", "fits",
           "of_packet", "prefix_length", "sorted_routes"]
