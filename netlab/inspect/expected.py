"""What the kube-proxy of a node would write for some objects, in its own mode or in the other one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netlab.api.meta import Object
from netlab.inspect import guess, nft_world
from netlab.inspect.holding import NFTABLES, Holding
from netlab.inspect.nft_world import NftWorld
from netlab.inspect.sources import KUBELETS
from netlab.inspect.world import World
from netlab.netfilter.model import Chain, Table
from netlab.proxy.addresses import Family, networks_of_family
from netlab.proxy.settings import Settings


def expected(held: Holding, objects: Sequence[Object], mode: str) -> Holding:
    """Return the rules of kube-proxy alone, with the settings that the node's present rules show.

    Args:
        held: what the node holds now.
        objects: Services, EndpointSlices, Nodes; ServiceCIDRs where they are at hand.
        mode: iptables or nftables.
    """
    family: Family = "IPv6" if held.ipv6 else "IPv4"
    node = next((each for each in objects
                 if each.get("kind") == "Node" and each["metadata"]["name"] == held.node), None)
    if mode == NFTABLES:
        return Holding(held.node, nft=NftWorld.of(objects, _nft_settings(held, objects, family, node)).table,
                       ipv6=held.ipv6)
    return Holding(held.node, rules=World.of(objects, _settings(held, family, node)).rules, ipv6=held.ipv6)


def only_proxys(held: Holding) -> Holding:
    """Return a node's rules without those that are not kube-proxy's, and without policies."""
    tables = {}
    for name, table in held.rules.tables.items():
        chains = {each.name: Chain(each.name, tuple(rule for rule in each.rules if each.name.startswith("KUBE-")
                                                    or rule.jump.startswith("KUBE-")), "ACCEPT" if each.policy else "")
                  for each in table.chains.values()
                  if each.policy or (each.name.startswith("KUBE-") and each.name not in KUBELETS)}
        tables[name] = Table(name, chains)
    return replace(held, rules=replace(held.rules, tables=tables), native=(), other=None)


def _settings(held: Holding, family: Family, node: Object | None) -> Settings:
    if held.mode != NFTABLES or held.nft is None:
        return guess.settings(held.rules, family, name=held.node, node=node, liberal=held.liberal)
    found = nft_world.settings(held.nft, family, name=held.node, node=node)
    # Without nodePortAddresses, iptables mode serves node ports everywhere, 127.0.0.1 included (KEP-3866).
    return replace(found, node_port_addresses=(), node_addresses=(), localhost_node_ports=family == "IPv4",
                   service_cidrs=(), conntrack_liberal=held.liberal)


def _nft_settings(held: Holding, objects: Sequence[Object], family: Family, node: Object | None) -> Settings:
    if held.mode == NFTABLES and held.nft is not None:
        return nft_world.settings(held.nft, family, name=held.node, node=node)
    world = World.of((), guess.settings(held.rules, family, name=held.node, node=node, liberal=held.liberal))
    cidrs = sorted({text for each in objects if each.get("kind") == "ServiceCIDR"
                    for text in (each.get("spec") or {}).get("cidrs") or ()})
    return nft_world.from_other_mode(replace(world, node=node), networks_of_family(cidrs, family))


