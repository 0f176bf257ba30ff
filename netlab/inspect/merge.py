"""Nodes whose rules for a Service are alike, told once: their counters are added up. Pure.

kube-proxy writes the same rules everywhere unless a traffic policy or a topology hint says otherwise, so on most
clusters one tree says it all, and a node that differs stands out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from netlab.inspect.service import Branch, Endpoint, PortRules

Shape: TypeAlias = tuple[object, ...]


def alike(found: Mapping[str, Sequence[PortRules]]) -> list[tuple[tuple[str, ...], tuple[PortRules, ...]]]:
    """Return (nodes, rules with the counters of all of them) for each different set of rules, in the nodes' order."""
    groups: dict[Shape, list[str]] = {}
    for node, ports in found.items():
        groups.setdefault(tuple(_port_shape(port) for port in ports), []).append(node)
    return [(tuple(nodes), _sum([found[node] for node in nodes])) for nodes in groups.values()]


def _port_shape(port: PortRules) -> Shape:
    return port.name, port.protocol, tuple(_branch_shape(entry) for entry in port.entries)


def _branch_shape(branch: Branch) -> Shape:
    return branch.table, branch.chain, branch.text, tuple(_branch_shape(inner) for inner in branch.rules)


def _sum(same: Sequence[Sequence[PortRules]]) -> tuple[PortRules, ...]:
    if len(same) == 1:
        return tuple(same[0])
    return tuple(replace(ports[0], entries=_branches([port.entries for port in ports]),
                         endpoints=_endpoints([port.endpoints for port in ports]))
                 for ports in zip(*same, strict=True))


def _branches(same: Sequence[tuple[Branch, ...]]) -> tuple[Branch, ...]:
    added = [replace(each[0], packets=sum(branch.packets for branch in each),
                     bytes=sum(branch.bytes for branch in each), rules=_branches([branch.rules for branch in each]))
             for each in zip(*same, strict=True)]
    total = sum(branch.packets for branch in added if branch.share is not None)
    return tuple(branch if branch.share is None else
                 replace(branch, observed=branch.packets / total if total else None) for branch in added)


def _endpoints(same: Sequence[tuple[Endpoint, ...]]) -> tuple[Endpoint, ...]:
    added = [replace(each[0], packets=sum(endpoint.packets for endpoint in each),
                     fresh=sum(endpoint.fresh for endpoint in each)) for each in zip(*same, strict=True)]
    total = sum(endpoint.packets for endpoint in added)
    return tuple(replace(endpoint, observed=endpoint.packets / total if total else None) for endpoint in added)
