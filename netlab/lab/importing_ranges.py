"""The ranges of an imported cluster: where its nodes, its Pods and its Services have their addresses. Pure.

Networks differ in what a Node's podCIDR means. Most give a node's Pods addresses out of it. Others (Calico, Cilium with
pools of its own) leave it as it is and take blocks from a pool: there a node's range is where its Pods are.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from netlab.lab import plan

USUAL: Final = {4: 16, 6: 56}
"""Prefix lengths of a cluster's Pod range."""
_OF_NODE: Final = {4: (24, 25, 26, 27, 23, 22, 21, 20), 6: (64, 72, 80, 96, 112, 120, 122)}
"""Prefix lengths that are tried for a node's range, the first first."""
_ROOM: Final = 16  # addresses for Pods of the lab itself


@dataclass(frozen=True)
class PodRanges:
    """One family's: the range of all Pods, and each node's by its name. `moved` are Pods' addresses in none of them."""

    whole: str
    of: Mapping[str, str]
    moved: frozenset[str]


def pod_ranges(declared: Mapping[str, str], pods: Mapping[str, Collection[str]], taken: Sequence[str],
               extra: str = "") -> PodRanges | None:
    """Return the Pod ranges of one family, None when nothing tells of any.

    Args:
        declared: each node's podCIDR; "" where it has none.
        pods: the addresses of each node's Pods.
        taken: ranges and addresses that are no Pods'.
        extra: the name of one node more, which needs a range.
    """
    every = [ip for ips in pods.values() for ip in ips]
    known = {name: ipaddress.ip_network(cidr) for name, cidr in declared.items() if cidr}
    inside = sum(ipaddress.ip_address(ip) in known[name] for name in known for ip in pods.get(name, ()))
    if len(known) == len(declared) and inside * 2 >= len(every):
        chosen = {name: str(network) for name, network in known.items()}
    else:
        chosen = _blocks(declared, pods, taken)
    if not chosen:
        return None
    first = ipaddress.ip_network(next(iter(chosen.values())))
    for name in [*(name for name in declared if name not in chosen), *([extra] if extra else [])]:
        chosen[name] = free_range([*chosen.values(), *taken], _OF_NODE[first.version][0] if name in declared
                                  else first.prefixlen, list(chosen.values()))
    spare = free_range([*chosen.values(), *taken], first.prefixlen, list(chosen.values()))
    whole = _around([*chosen.values(), spare], USUAL[first.version], taken)
    moved = frozenset(ip for name, ips in pods.items() for ip in ips
                      if ipaddress.ip_address(ip) not in ipaddress.ip_network(chosen[name]))
    return PodRanges(whole, chosen, moved)


def _blocks(nodes: Iterable[str], pods: Mapping[str, Collection[str]], taken: Sequence[str]) -> dict[str, str]:
    """Return for each node with Pods the range that holds most of them, and nobody else's."""
    found: dict[str, str] = {}
    closed: list[Any] = [ipaddress.ip_network(one) for one in taken]
    every = numbers(ip for ips in pods.values() for ip in ips)
    for name in nodes:
        mine = numbers(pods.get(name, ()))
        networks = {ipaddress.ip_network(f"{ip}/{bits}", strict=False): rank for ip in pods.get(name, ())
                    for rank, bits in enumerate(_OF_NODE[plan.version(ip)])}
        good = [network for network in networks if _within(every, network) == _within(mine, network)
                and not any(network.version == one.version and network.overlaps(one) for one in closed)
                and int(network[1]) not in mine and network.num_addresses > len(mine) + _ROOM]
        if good:
            best = max(good, key=lambda network: (_within(mine, network), -networks[network]))
            found[name] = str(best)
            closed.append(best)
    return found


def numbers(addresses: Iterable[str]) -> list[int]:
    """Return addresses of one family as numbers, in order: what is in a network is a stretch of them."""
    return sorted(int(ipaddress.ip_address(ip)) for ip in addresses)


def _within(ordered: Sequence[int], network: Any) -> int:
    """Return how many of some numbers are addresses of a network."""
    return bisect_right(ordered, int(network[-1])) - bisect_left(ordered, int(network[0]))


def _around(cidrs: Sequence[str], usual: int, taken: Sequence[str]) -> str:
    """Return a network around all ranges: as large as usual, or smaller where that reaches into another range."""
    networks: list[Any] = [ipaddress.ip_network(cidr) for cidr in cidrs]
    whole = networks[0]
    while not all(each.subnet_of(whole) for each in networks):
        whole = whole.supernet()
    while whole.prefixlen > usual and not clash(str(whole.supernet()), taken):
        whole = whole.supernet()
    return str(whole)


def free_range(taken: Sequence[str], bits: int, near: Sequence[str]) -> str:
    """Return the first range of that prefix length behind one of `near` that overlaps with nothing."""
    last = max((ipaddress.ip_network(cidr) for cidr in near), key=lambda each: int(each[-1]))
    step = 1 << (last.max_prefixlen - bits)
    start = -(-(int(last[-1]) + 1) // step) * step
    while any(_overlap(type(last)((start, bits)), one) for one in taken):
        start += step
    return f"{type(last[0])(start)}/{bits}"


def _overlap(network: Any, other: str) -> bool:
    """Tell whether a network and a range, or an address, have something in common."""
    parsed: Any = ipaddress.ip_network(other)
    return bool(parsed.version == network.version and parsed.overlaps(network))


def dynamic_from(cidr: str, taken: Sequence[int]) -> str:
    """Return the first address of a range behind all that are taken, "" when there is no room for some Pods more."""
    network = ipaddress.ip_network(cidr)
    last = taken[bisect_right(taken, int(network[-1])) - 1] if _within(taken, network) else int(network[1])
    return str(ipaddress.ip_address(last + 1)) if last + _ROOM < int(network[-1]) else ""


def service_range(first: str, addresses: Collection[str]) -> str:
    """Return the range of one family's cluster addresses: it begins right before the Service `kubernetes` (`first`)."""
    parsed = [ipaddress.ip_address(ip) for ip in addresses]
    family = parsed[0].version
    if not first:
        return str(ipaddress.ip_network(f"{min(parsed, key=int)}/{16 if family == 4 else 112}", strict=False))
    base = ipaddress.ip_address(first) - 1
    bits, longest = (16, 30) if family == 4 else (112, 126)
    while bits < longest and int(base) & ((1 << (base.max_prefixlen - bits)) - 1):
        bits += 1  # the range has to begin where the API server's own Service says
    return str(ipaddress.ip_network(f"{base}/{bits}", strict=False))


def node_network(addresses: Sequence[str], usual: plan.Numbers) -> str:
    """Return the network of nodes: the usual one if it has room for all addresses beside its router's.

    Else the smallest around them with room for a router and a node more, at least a /24 or a /64; "" when that would be
    larger than a /8 or a /32.
    """
    network: Any = ipaddress.ip_network(usual.underlay)
    parsed: list[Any] = [ipaddress.ip_address(ip) for ip in addresses]
    if all(ip in network and int(ip) > int(network[1]) for ip in parsed):
        return str(network)
    network = ipaddress.ip_network(f"{parsed[0]}/{24 if network.version == 4 else 64}", strict=False)
    while not all(ip in network and ip not in (network[0], network[-1]) for ip in parsed) \
            or network.num_addresses < len(parsed) + 4:
        network = network.supernet()
    return str(network) if network.prefixlen >= (8 if network.version == 4 else 32) else ""


def clash(cidr: str, others: Iterable[str]) -> str:
    """Return the first of some ranges that overlaps with this one, "" for none."""
    network = ipaddress.ip_network(cidr)
    return next((other for other in others if _overlap(network, other)), "")
