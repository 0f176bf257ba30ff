"""What kube-proxy would write on a node in nftables mode, with the object behind every chain, set and element."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from netlab.api.meta import Object, labels
from netlab.inspect.known import Known
from netlab.inspect.world import Owner, Place, World
from netlab.netfilter import nft
from netlab.netfilter.nft import NftTable
from netlab.proxy import host
from netlab.proxy import nft_names as names
from netlab.proxy.addresses import Family, of_family
from netlab.proxy.endpoints import slice_endpoints
from netlab.proxy.nft_plan import NftWanted
from netlab.proxy.nft_render import text
from netlab.proxy.nft_rules import Key, block
from netlab.proxy.services import ServicePort
from netlab.proxy.settings import LocalDetector, Settings
from netlab.proxy.topology import ZONE_LABEL

_ROLES = (("service-", "cluster"), ("local-", "local"), ("external-", "external"), ("firewall-", "firewall"))


@dataclass(frozen=True)
class NftWorld:
    """The objects of a cluster as one node's kube-proxy sees them in nftables mode.

    `table` is what it would write. `owners` are all chains and affinity sets that the objects could give on any node,
    `elements` who wants an element of a shared set or map, by (set, key). `places` are endpoints by their address.
    """

    settings: Settings
    services: Mapping[str, Object]
    slices: Mapping[str, tuple[Object, ...]]
    node: Object | None
    table: NftTable
    owners: Mapping[str, Owner]
    elements: Mapping[Key, tuple[ServicePort, ...]]
    places: Mapping[tuple[str, str, str], tuple[Place, ...]]

    @classmethod
    def of(cls, objects: Iterable[Object], settings: Settings) -> NftWorld:
        """Work out a node's table. Of the objects, Services, EndpointSlices and Nodes matter."""
        known = Known.of(objects, settings)
        wanted = NftWanted(settings)
        owners: dict[str, Owner] = {}
        elements: dict[Key, tuple[ServicePort, ...]] = {}
        places: dict[tuple[str, str, str], tuple[Place, ...]] = {}
        for service in known.tracker.services():
            blocks = []
            for port, choice in known.tracker.choice(service, settings):
                made = block(port, choice, settings)
                blocks.append(made)
                base = names.hashed(names.port_path(port))
                owners |= {prefix + base: Owner(role, port) for prefix, role in _ROLES}
                for at in made.elements:
                    elements[at] = (*elements.get(at, ()), port)
                for place in _places(port, known.slices.get(service, ()), settings):
                    end = names.endpoint_name(port, place.endpoint.ip, place.endpoint.port)
                    owners |= {f"{kind}-{end}": Owner("endpoint", port, place.endpoint.text)
                               for kind in ("endpoint", "affinity")}
                    where = (port.name, port.protocol, place.endpoint.text)
                    places[where] = (*places.get(where, ()), place)
            wanted.set(service, blocks)
        (table,) = nft.parse(text(wanted))
        return cls(settings, known.services, known.slices, known.node, table, owners, elements, places)

    def port_of(self, port: ServicePort) -> list[Place]:
        """Return all endpoints of a Service port."""
        return [place for (name, protocol, _), found in self.places.items()
                if (name, protocol) == (port.name, port.protocol) for place in found]


def _places(port: ServicePort, slices: Sequence[Object], settings: Settings) -> Iterator[Place]:
    for each in slices:
        found = {end.ip: end for end in slice_endpoints(each, settings.family).get(
            (port.port_name, port.protocol), ())}
        for index, entry in enumerate(each.get("endpoints") or ()):
            end = found.get((entry.get("addresses") or [""])[0])
            if end is not None:
                yield Place(each, index, end)


_BIT = re.compile(r"meta mark & (0x[0-9a-f]+) != 0x0")
_OUTSIDE = re.compile(r"@cluster-ips (?:ip6? saddr|iifname) != (\S+) meta mark")


def settings(table: NftTable, family: Family, *, name: str, node: Object | None = None) -> Settings:
    """Return the settings that a node's table follows, read off its rules.

    Args:
        table: kube-proxy's table as the node holds it.
        family: of which addresses.
        name: the node's.
        node: its Node object.
    """
    ips = of_family(host.node_ips(node), family)
    said = [nft.meaning(rule.text) for rule in table.chain("services").rules]
    marks = [found for rule in table.chain("masquerading").rules if (found := _BIT.search(nft.meaning(rule.text)))]
    heads = [each for each in said if f"@{names.CLUSTER_IPS}" in each and "mark set" in each]
    detector = LocalDetector()
    if heads and (found := _OUTSIDE.search(heads[0])):
        value = found[1].strip('"')
        detector = LocalDetector(f"-s {value}" if "saddr" in heads[0] else f"-i {value.replace('*', '+')}")
    listed = tuple(table.elements(names.NODEPORT_IPS)) if names.NODEPORT_IPS in table.sets else ()
    chosen = names.NODEPORT_IPS in table.sets
    return Settings(
        family=family, node=name, node_ip=ips[0] if ips else "", zone=labels(node or {}).get(ZONE_LABEL, ""),
        detector=detector, masquerade_all=bool(heads) and not detector.match,
        masquerade_bit=int(marks[0][1], 16).bit_length() - 1 if marks else 14, localhost_node_ports=False,
        node_port_addresses=tuple(f"{ip}/{128 if ':' in ip else 32}" for ip in listed or ips[:1]) if chosen else (),
        node_addresses=listed, service_cidrs=_cidrs(table))


def _cidrs(table: NftTable) -> tuple[str, ...]:
    for rule in table.chain("cluster-ips-check").rules:
        found = re.search(r"daddr (\{[^}]*\}|[0-9a-f]\S*) drop", rule.text)
        if found:
            return tuple(each.strip() for each in found[1].strip("{} ").split(","))
    return ()


def from_other_mode(world: World, cidrs: tuple[str, ...] = ()) -> Settings:
    """Return for a node in iptables mode the settings that nftables mode would have with the same configuration.

    Node ports are served on the node's first address there unless addresses are named.
    """
    made = world.settings
    ips = of_family(host.node_ips(world.node), made.family)[:1]
    networks = made.node_port_addresses or tuple(f"{ip}/{128 if ':' in ip else 32}" for ip in ips)
    return replace(made, node_port_addresses=networks, node_addresses=made.node_addresses or ips,
                   localhost_node_ports=False, service_cidrs=cidrs)
