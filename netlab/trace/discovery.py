"""Whether rules may drop neighbour discovery: IPv6 asks for its neighbours with packets that rules see. Pure.

What is asked and answered has no connection (nf_conntrack_icmpv6_error calls it untracked), and comes from an address
of the interface, often the link's own (ndisc_solicit, ndisc_recv_ns).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from netlab.netfilter.going import Walking
from netlab.netfilter.matching import Packet
from netlab.trace.world import Space, World

_SOLICIT: Final = (135, 0)
_ADVERTISE: Final = (136, 0)
_LINK: Final = "fe80::1"
_SO: Final = "may drop neighbour discovery, and then only neighbours that are known already are reached"


def doubt(world: World, space: Space, interface: str, next_hop: str, source: str) -> str:
    """Return words for a place whose rules may drop the question for a neighbour or its answer, "" for none.

    Args:
        world: all places.
        space: who asks.
        interface: where.
        next_hop: for whom.
        source: the address of the packet that waits for it.
    """
    end = space.links[interface].far
    owner = next((each for each in world.spaces.values() if next_hop in each.owned and each is not space), None)
    for where, hook, packet in _steps(space, interface, owner, next_hop, source):
        if _dropped(where, hook, packet):
            return f"{where.place}: {hook} {_SO}"
    far = world.spaces.get(end.place) if end is not None else None
    bridge = far.links[end.interface].master if far is not None and end is not None else ""
    if far is None or not bridge or 6 not in far.bridge_calls or next_hop in far.owned:
        return ""
    ask = _packet(source, _solicited(next_hop), _SOLICIT, iif=bridge, oif=bridge)
    return f"{far.place}: FORWARD on the bridge {bridge} {_SO}" if _dropped(far, "FORWARD", ask) else ""


def _steps(space: Space, interface: str, owner: Space | None, next_hop: str,
           source: str) -> Iterator[tuple[Space, str, Packet]]:
    """Yield the hooks that the question and the answer pass at both ends."""
    asked = _solicited(next_hop)
    there = owner.owned[next_hop] if owner is not None else ""
    for mine in dict.fromkeys((source if space.local(source) else _LINK, _LINK)):
        yield space, "OUTPUT", _packet(mine, asked, _SOLICIT, oif=interface)
        if owner is None:
            continue
        for hook in ("PREROUTING", "INPUT"):
            yield owner, hook, _packet(mine, asked, _SOLICIT, iif=there)
        yield owner, "OUTPUT", _packet(next_hop, mine, _ADVERTISE, oif=there)
        for hook in ("PREROUTING", "INPUT"):
            yield space, hook, _packet(next_hop, mine, _ADVERTISE, iif=interface)


def _packet(source: str, destination: str, said: tuple[int, int], *, iif: str = "", oif: str = "") -> Packet:
    return Packet(source, destination, "icmpv6", iif=iif, oif=oif, state="UNTRACKED", icmp=said, ttl=255, length=72,
                  here=not iif)


def _dropped(space: Space, hook: str, packet: Packet) -> bool:
    return any(each.verdict in ("DROP", "REJECT") for station in space.order(6).at(hook) if station.kind != "nat"
               for chain in station.chains for each in chain.run(Walking(packet), space.host))


def _solicited(address: str) -> str:
    """Return the multicast address that a neighbour's address is asked for at (RFC 4291, section 2.7.1)."""
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | int(
        ipaddress.IPv6Address(address)) & 0xFFFFFF))
