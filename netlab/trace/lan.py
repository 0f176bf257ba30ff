"""The network between the nodes, where nobody listens in it: a cable that leads out of what is known. Pure.

On a real node the interface towards the other nodes ends in a network card or in another namespace. Nodes that are on
one subnet by their addresses are taken to reach each other there, as they have to for host-gw and for kind.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from netlab.trace.world import End, Link, Space

NETWORK: Final = "network"
_BRIDGE: Final = "lan"
_NOT_OUT: Final = frozenset({"bridge", "vxlan", "dummy", "ipip", "sit", "ip6tnl", "tun", "wireguard"})


def joined(spaces: Mapping[str, Space]) -> dict[str, Space]:
    """Return namespaces whose ways out end in networks that they have in common, by their subnets.

    A packet to an address that none of them has is told of as far as the way out.
    """
    found = dict(spaces)
    groups: dict[str, list[End]] = defaultdict(list)
    for space in spaces.values():
        for link in space.links.values():
            if _leads_out(link):
                for cidr in link.cidrs:
                    network = ipaddress.ip_interface(cidr).network
                    if not network.is_link_local and network.num_addresses > 1:
                        groups[str(network)].append(End(space.place, link.name))
                found[space.place] = replace(found[space.place], edge=True)
    for number, ends in enumerate(_networks(groups)):
        place = f"{NETWORK}{number or ''}"
        ports = {f"port{n}": Link(f"port{n}", "veth", master=_BRIDGE, far=end) for n, end in enumerate(ends)}
        found[place] = Space(place, {_BRIDGE: Link(_BRIDGE, "bridge"), **ports}, edge=True, unseen=True)
        for name, end in zip(ports, ends, strict=True):
            mine = found[end.place]
            found[end.place] = replace(mine, links={**mine.links, end.interface: replace(
                mine.links[end.interface], far=End(place, name))})
    return found


def _networks(groups: Mapping[str, Sequence[End]]) -> list[tuple[End, ...]]:
    """Return the interfaces of each network: subnets that have one in common, as in dual stack, are on one network."""
    found: list[dict[End, None]] = []
    for _, ends in sorted(groups.items()):
        mine = dict.fromkeys(ends)
        for other in [each for each in found if not each.keys().isdisjoint(mine)]:
            mine = other | mine
            found.remove(other)
        found.append(mine)
    return [tuple(each) for each in found]


def _leads_out(link: Link) -> bool:
    return (link.far is None and link.up and link.name != "lo" and link.kind not in _NOT_OUT and not link.master
            and bool(link.cidrs))
