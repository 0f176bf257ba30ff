"""The option ipMasq: hide a container behind its node's address (pkg/ip/ipmasq_iptables_linux.go).

Each container has a chain that accepts what goes to its own subnet and masquerades the rest. On several nodes that
rewrites Pod-to-Pod traffic between nodes, which Kubernetes forbids; there the node's agent masquerades instead.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_interface

from netlab.cni import nat


def add(network: str, container_id: str, addresses: Collection[str]) -> None:
    """Masquerade what leaves these addresses ("10.1.0.7/24") for elsewhere than their subnets."""
    chain = nat.chain_name("", network, container_id)
    whose = nat.comment(network, container_id)
    for family, listed in nat.families(addresses).items():
        multicast = "ff00::/8" if family == "IPv6" else "224.0.0.0/4"
        lines = nat.emptied(nat.rules(family), chain)
        for text in listed:
            address = ip_interface(text)
            lines += [f"-A {chain} -d {address.network} {whose} -j ACCEPT",
                      f"-A {chain} ! -d {multicast} {whose} -j MASQUERADE",
                      f"-A POSTROUTING -s {address.ip}/{address.max_prefixlen} {whose} -j {chain}"]
        nat.write(family, lines)


def remove(network: str, container_id: str, addresses: Collection[str]) -> None:
    """Undo `add`; fine when it is undone. Without addresses both families are looked at."""
    chain = nat.chain_name("", network, container_id)
    for family in nat.families(addresses or ("0.0.0.0", "::")):
        _drop(family, {chain})


def collect(network: str, valid: Collection[str]) -> None:
    """Undo `add` for every container of a network but the valid ids."""
    for family in nat.families(("0.0.0.0", "::")):
        _drop(family, nat.stale_chains(nat.rules(family), "", network, valid))


def _drop(family: nat.Family, chains: Collection[str]) -> None:
    lines = nat.removal(nat.rules(family), chains)
    if lines:
        nat.write(family, lines)
