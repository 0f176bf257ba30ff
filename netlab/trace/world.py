"""What a prediction is made from: namespaces with their links, routes and rules, and who owns which address. Pure.

A `World` is read from a lab (`survey.py`), or put together from saved text or API objects (`assume.py`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from netlab.netfilter import matching
from netlab.netfilter.ipsets import IpSet
from netlab.netfilter.model import Ruleset
from netlab.netfilter.stations import Beside, Order
from netlab.trace import routing
from netlab.trace.routing import LOCAL, USUAL, Asked, Route


@dataclass(frozen=True)
class End:
    """One end of a cable: a place and an interface there."""

    place: str
    interface: str


@dataclass(frozen=True)
class Link:
    """An interface. `master` is its bridge, `far` the other end of a veth, `cidrs` its addresses with prefix lengths.

    `hairpin`: a bridge's port that sends frames back where they came from. `rp_filter` is 0 (off), 1 (strict) or 2
    (loose). `mtu` 0 is not known. `forwards` names the families of which packets that come in by it are forwarded.
    `localnet`: 127.0.0.0/8 may come in and leave by it (route_localnet), which is believed where it is not known.
    """

    name: str
    kind: str = ""
    up: bool = True
    mtu: int = 0
    master: str = ""
    hairpin: bool = False
    far: End | None = None
    cidrs: tuple[str, ...] = ()
    rp_filter: int = 0
    forwards: frozenset[int] = frozenset({4, 6})
    localnet: bool = True


@dataclass(frozen=True)
class Space:
    """One network namespace.

    `policies` are its routing rules by family (4, 6), where these are not the usual ones; `rules` its iptables tables
    by family, `beside` what else has rules there. `bridge_calls` names the families whose bridged packets meet its
    rules. `listeners` are (protocol, port) of its sockets, None when not known; `recent` the entries of `-m recent`
    lists; `lacks` the transport protocols that its kernel does not have. `by_source`: of several next hops its kernel
    takes for a packet of its own one whose interface has the packet's source (Linux 6.15). `sets` are
    ipset's, as far as their contents are known.
    `edge`: what is beyond its cables is not known, so a packet that leaves is told of no further. `complete` is False
    when it may have more addresses than those listed. `unseen`: it is assumed, and nobody listens there. `doubts` are
    words for what is not modelled here.
    """

    place: str
    links: Mapping[str, Link] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    policies: Mapping[int, tuple[routing.Rule, ...]] = field(default_factory=dict)
    rules: Mapping[int, Ruleset] = field(default_factory=dict)
    beside: Mapping[int, Beside] = field(default_factory=dict)
    bridge_calls: frozenset[int] = frozenset()
    listeners: Container[tuple[str, int]] | None = None
    recent: frozenset[tuple[str, str]] = frozenset()
    lacks: frozenset[str] = frozenset()
    by_source: bool = True
    sets: Mapping[str, IpSet] = field(default_factory=dict)
    edge: bool = False
    complete: bool = True
    unseen: bool = False
    doubts: tuple[str, ...] = ()

    @cached_property
    def owned(self) -> Mapping[str, str]:
        """Return the interface of each address."""
        return {cidr.partition("/")[0]: link.name for link in self.links.values() for cidr in link.cidrs}

    @cached_property
    def broadcasts(self) -> frozenset[str]:
        """Return the broadcast addresses of its IPv4 networks."""
        networks = [ipaddress.ip_interface(cidr).network for link in self.links.values() for cidr in link.cidrs
                    if ":" not in cidr]
        return frozenset(str(each.broadcast_address) for each in networks if each.prefixlen < 31)

    def order(self, family: int) -> Order:
        """Return the base chains of a family's tables in the kernel's order."""
        if family not in self._orders:
            self._orders[family] = Order(
                self.rules.get(family) or Ruleset(), family, self.beside.get(family) or Beside()
            )
        return self._orders[family]

    @cached_property
    def _orders(self) -> dict[int, Order]:
        return {}

    @cached_property
    def host(self) -> SpaceHost:
        """Return the namespace as rules ask for it."""
        return SpaceHost(self)

    def local(self, address: str) -> bool:
        """Tell whether an address is this namespace's own."""
        return address in self.owned or ipaddress.ip_address(address).is_loopback

    def forwards(self, family: int, interface: str) -> bool:
        """Tell whether packets that come in by an interface are forwarded."""
        link = self.links.get(interface)
        return link is None or family in link.forwards

    def localnet(self, interface: str) -> bool:
        """Tell whether loopback addresses of IPv4 may come in and leave by an interface."""
        link = self.links.get(interface)
        return interface == "lo" or link is None or link.localnet

    def leads(self, way: Route | None, source: str) -> bool:
        """Tell whether a packet of this place's own gets on its way by a route."""
        if way is None or way.kind not in ("unicast", "local"):
            return False
        return ":" in source or not source.startswith("127.") or self.localnet(way.interface)

    def route(self, address: str, asked: Asked | None = None) -> Route | None:
        """Return the route to an address, by the routing rules where there are others than usual.

        Args:
            address: the destination.
            asked: the packet, of which rules may ask more; None for one of this host's own without anything special.
        """
        own = Route(f"{address}/{128 if ':' in address else 32}", "lo", source=address, kind="local", table=LOCAL)
        rules = self.policies.get(6 if ":" in address else 4) or USUAL
        return routing.decide(rules, self._tables, replace(asked, destination=address) if asked else Asked(address),
                              local=own if self.local(address) else None)

    def ways(self, route: Route, source: str = "") -> tuple[tuple[Route, float], ...]:
        """Return a route by each of its next hops that a packet may take, and how likely that is.

        Args:
            route: the route.
            source: the packet's source where it is one of this host's own, else "".
        """
        found = route.ways()
        if len(found) < 2 or not source or ":" in source or route.grouped or not self.by_source:
            return found
        mine = [each for each in found if self.primary(each[0].interface, _next(each[0], source)) == source]
        share = sum(each[1] for each in mine)  # fib_select_multipath: what matches counts more than the hash
        return tuple((way, part / share) for way, part in mine) or found

    @cached_property
    def _tables(self) -> Mapping[int, list[Route]]:
        return routing.by_table(self.routes)

    def source(self, route: Route, towards: str) -> str:
        """Return the address that a packet on this route is sent from: the route's own, or the interface's.

        Of several, the one in the next hop's network is taken (inet_select_addr).
        """
        if route.source:
            return route.source
        return self.primary(route.interface, _next(route, towards))

    def primary(self, interface: str, towards: str) -> str:
        """Return the address of an interface that is used towards another one; else one of another interface."""
        def mine(link: Link) -> Iterator[str]:
            for cidr in link.cidrs:
                address = ipaddress.ip_interface(cidr)
                if (":" in towards) == (":" in cidr) and not address.is_link_local and not address.is_loopback:
                    yield cidr

        link = self.links.get(interface)
        listed = list(mine(link)) if link else []
        near = [cidr for cidr in listed if matching.within(towards, cidr)]
        others = [cidr for other in self.links.values() for cidr in mine(other)]
        return next(iter([*near, *listed, *others]), "").partition("/")[0]

    def ports(self, bridge: str) -> Iterator[Link]:
        """Yield the ports of a bridge."""
        return (link for link in self.links.values() if link.master == bridge)


class SpaceHost(matching.Host):
    """A namespace in the words of `netfilter.matching`."""

    def __init__(self, space: Space) -> None:
        super().__init__(frozenset(space.owned), {}, space.recent, space.complete, space.sets)
        object.__setattr__(self, "_space", space)

    def route(self, address: str) -> matching.Route | None:
        """Return the route in the words of rules; None where there is none."""
        space: Space = self._space  # type: ignore[attr-defined]
        found = space.route(address)
        if found is None or found.kind not in ("unicast", "local"):
            return None
        return matching.Route(found.interface, space.source(found, address))

    def kind(self, address: str, device: str = "") -> str | None:
        """Return what an address is, as `fib` and inet_addr_type have it."""
        space: Space = self._space  # type: ignore[attr-defined]
        if device and self.local(address):
            return "local" if space.owned.get(address, "lo") == device else "unicast"
        if ":" not in address and address in space.broadcasts:
            return "broadcast"
        if ":" in address and not self.local(address) and self.complete:
            found = space.route(address)
            return "unicast" if found is not None and found.kind == "unicast" else "unreachable"
        return super().kind(address, device)

    def way(self, address: str, source: str, mark: int = 0, iif: str = "", wanted: str = "") -> str | None:
        """Return the interface that `fib` finds for an address."""
        space: Space = self._space  # type: ignore[attr-defined]
        if wanted and ipaddress.ip_address(address).is_link_local:  # every link has that network
            return wanted if wanted in space.links else ""
        found = space.route(address, Asked(address, source, iif or "lo", mark=mark))
        if found is None or found.kind != "unicast":
            return ""
        return wanted if wanted in found.interfaces else found.interface  # fib_info_nh_uses_dev

    def masquerade(self, interface: str, towards: str) -> str:
        """Return the address that masquerading gives: the interface's own, whatever the route's source is."""
        space: Space = self._space  # type: ignore[attr-defined]
        if interface not in space.links or interface == "lo":
            return super().masquerade(interface, towards)
        near = next((_next(way, towards) for route in routing.sorted_routes(space.routes)
                     if matching.within(towards, route.dst)
                     for way, _ in route.ways() if way.interface == interface), towards)
        return space.primary(interface, near)

    def primary(self, interface: str, like: str) -> str:
        """Return the address of an interface that REDIRECT takes."""
        space: Space = self._space  # type: ignore[attr-defined]
        return space.primary(interface, like)


def _next(route: Route, towards: str) -> str:
    """Return the next hop's address where it is of the packet's family, else that which the packet is for."""
    return route.gateway if route.gateway and (":" in route.gateway) == (":" in towards) else towards


@dataclass(frozen=True)
class World:
    """All that a prediction knows. `names` are the names of addresses, `notes` what had to be assumed."""

    spaces: Mapping[str, Space]
    names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def way(self, place: str, interface: str, address: str, seen: frozenset[End] = frozenset(), *,
            whole: bool = False) -> bool:
        """Tell whether a frame for the owner of `address` finds it when it leaves by this interface.

        `whole`: as if no link were down.
        """
        mine = self.spaces[place].links[interface]
        end = mine.far
        if end is None or end in seen or end.place not in self.spaces or not (mine.up or whole):
            return False
        space = self.spaces[end.place]
        link = space.links.get(end.interface)
        if link is None or not (link.up or whole):
            return False
        if not link.master:
            return address in space.owned
        if address in space.owned:
            return True
        return any(self.way(end.place, port.name, address, seen | {end}, whole=whole)
                   for port in space.ports(link.master) if port.name != end.interface)

    def severed(self, place: str, interface: str, address: str) -> bool:
        """Tell whether the owner of `address` would be found by this interface, or bridge, if no link were down."""
        space = self.spaces[place]
        bridged = space.links[interface].kind == "bridge"
        return any(self.way(place, each.name, address, whole=True)
                   for each in (space.ports(interface) if bridged else [space.links[interface]]))
