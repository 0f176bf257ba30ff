"""Which packets a host drops for their addresses, before any rule or route is asked. Pure."""

from __future__ import annotations

import ipaddress

from netlab.netfilter.matching import Packet
from netlab.trace.world import Space


def martian(space: Space, packet: Packet, interface: str) -> str:
    """Return why a packet from outside is dropped for its addresses, "" where it is not.

    IPv4 drops what has an address of its own as its source, and what is for 127.0.0.0/8 where that may not travel
    (fib_validate_source, ip_route_input_slow). IPv6 has a check of loopback addresses alone (ip6_rcv_core).
    """
    if ":" not in packet.dst:
        if space.local(packet.src):
            return f"{space.place} drops what comes in from outside with its own address {packet.src} (martian source)"
        return f"{space.place} drops what comes in by {interface} for {packet.dst} (route_localnet is 0)" \
            if packet.dst.startswith("127.") and not space.localnet(interface) else ""
    loopback = next((each for each in (packet.src, packet.dst) if ipaddress.ip_address(each).is_loopback), "")
    return f"{space.place} drops what comes in from outside with the loopback address {loopback}" if loopback else ""
