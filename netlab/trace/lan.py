"""The network between the nodes, where nobody listens in it: a cable that leads out of what is known. Pure.

On a real node the interface towards the other nodes ends in a network card or in another namespace. Nodes that are on
one subnet by their addresses are taken to reach each other there, as they have to for host-gw and for kind.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from netlab.trace.world import End, Link, Space

NETWORK: Final = "network"
_BRIDGE: Final = "lan"
_NOT_OUT: Final = frozenset({"bridge", "vxlan", "dummy", "ipip", "sit", "ip6tnl", "tun", "wireguard"})


def joined(spaces: Mapping[str, Space]) -> dict[str, Space]:
    """Return namespaces whose ways out end in networks, one of each subnet, that they have in common.

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
    for number, (_, ends) in enumerate(sorted(groups.items())):
        fresh = [end for end in ends if found[end.place].links[end.interface].far is None]
        place = f"{NETWORK}{number or ''}"
        ports = {f"port{n}": Link(f"port{n}", "veth", master=_BRIDGE, far=end) for n, end in enumerate(fresh)}
        found[place] = Space(place, {_BRIDGE: Link(_BRIDGE, "bridge"), **ports}, edge=True, unseen=True)
        for name, port in ports.items():
            end = port.far
            assert end is not None
            mine = found[end.place]
            found[end.place] = replace(mine, links={**mine.links, end.interface: replace(
                mine.links[end.interface], far=End(place, name))})
    return found


def _leads_out(link: Link) -> bool:
    return (link.far is None and link.up and link.name != "lo" and link.kind not in _NOT_OUT and not link.master
            and bool(link.cidrs))
