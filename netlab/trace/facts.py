"""What the kernel knows of the places that a packet crossed: rules, links, routes, neighbours, counters.

Read where they are asked for, and kept: one trace's questions are about one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netlab.errors import KernelError
from netlab.kernel import counters, edges, lookup, nft, survey, sysctl
from netlab.kernel.taps import RuleHit
from netlab.trace import correlate, rulebook
from netlab.trace.correlate import Seen
from netlab.trace.event import RouteUsed
from netlab.trace.packet import Packet


class Facts:
    """Facts by place. `legacy` tells where iptables-legacy is at work; `before` holds counters as they were."""

    def __init__(self, by_place: Mapping[str, int], legacy: Callable[[str], bool],
                 before: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._by_place, self._legacy, self._before = by_place, legacy, before or {}
        self._books: dict[str, rulebook.RuleBook] = {}
        self._generations: dict[str, int] = {}
        self._links: dict[str, dict[int, correlate.Link]] = {}
        self._lookups: dict[str, lookup.Lookup] = {}
        self._edges: dict[str, tuple[edges.Edge, ...]] = {}

    def renew(self) -> None:
        """Forget what may have changed: links, routes and neighbours, and rules where they did."""
        self._links.clear()
        self._lookups.clear()
        self._edges.clear()
        for place in list(self._books):
            if self._legacy(place) or nft.generation(self._by_place[place]) != self._generations[place]:
                del self._books[place]

    def forget(self, place: str) -> None:
        """Forget a place that is no more."""
        for kept in (self._links, self._lookups, self._edges, self._books, self._generations):
            kept.pop(place, None)

    def book(self, place: str) -> rulebook.RuleBook:
        """Return the rules of a place."""
        if place not in self._books:
            self._generations[place] = nft.generation(self._by_place[place])
            self._books[place] = rulebook.load(self._by_place[place], legacy=self._legacy(place))
        return self._books[place]

    def hooks(self, place: str) -> Mapping[tuple[str, str], str]:
        """Return the hook of each base chain of a place."""
        return self.book(place).hooks

    def rule_text(self, place: str, hit: RuleHit, packet: Packet) -> rulebook.RuleText:
        """Return the words of a rule that a packet met."""
        return self.book(place).text(hit, packet)

    def policy(self, place: str, hit: RuleHit) -> str:
        """Return the verdict of a base chain's policy."""
        return self.book(place).policy(hit)

    def links(self, place: str) -> Mapping[int, correlate.Link]:
        """Return the interfaces of a place."""
        if place not in self._links:
            found = self._lookup(place).links
            self._links[place] = {
                index: correlate.Link(entry.name, found[entry.master].name if entry.master in found else "",
                                      entry.kind == "bridge") for index, entry in found.items()}
        return self._links[place]

    def astray(self, event: Seen) -> bool:
        """Tell whether a frame for somebody else came to an interface that is no bridge's port: a flooded copy."""
        return event.stray and not any(entry.name == event.interface and entry.master
                                       for entry in self.links(event.place).values())

    def routed(self, place: str, packet: Packet, iif: str, mark: int) -> RouteUsed | None:
        """Return the routing decision for a packet: the kernel is asked anew, right after the trace."""
        found = self._lookup(place).route(packet.destination, source=packet.source, iif=iif, mark=mark)
        if not found.kind:
            return None
        if found.kind != "unicast":
            return RouteUsed(found.kind, found.table, found.prefix, "", found.interface)
        next_hop = found.gateway or packet.destination
        entry = self._lookup(place).neighbor(next_hop, found.interface)
        return RouteUsed(found.kind, found.table, found.prefix, found.gateway, found.interface, next_hop,
                         entry.state if entry is not None else "", entry.mac if entry is not None else "")

    def route(self, place: str, packet: Packet, iif: str) -> lookup.RouteAnswer:
        """Return the kernel's answer about a packet's route."""
        return self._lookup(place).route(packet.destination, source=packet.source, iif=iif)

    def neighbor(self, place: str, address: str) -> str:
        """Return the state of a neighbour's entry, "" for none."""
        found = self._lookup(place).neighbor(address)
        return found.state if found is not None else ""

    def counted(self, place: str, name: str) -> int:
        """Return by how much a counter has grown."""
        if place not in self._before:
            return 0
        return counters.read(self._by_place[place]).get(name, 0) - self._before[place].get(name, 0)

    def setting(self, place: str, name: str) -> str:
        """Return a sysctl of a place, "" when there is none of that name."""
        try:
            return sysctl.read(name, self._by_place[place])
        except KernelError:
            return ""

    def held(self, place: str, interface: str, side: str) -> str:
        """Return what stands at an interface outside of IP's hooks and may hold packets back, in words; "" for nothing.

        Args:
            place: where.
            interface: its name.
            side: ingress or egress.
        """
        if place not in self._edges:
            names = {index: entry.name for index, entry in self._lookup(place).links.items()}
            self._edges[place] = edges.edges(self._by_place[place], names)
        return " and ".join(edge.words for edge in self._edges[place]
                            if edge.side in ("", side) and edge.interface in ("", interface))

    def straight(self, place: str, interface: str) -> str:
        """Return the bridge of a port that sends nothing back where it came from, "" for another interface."""
        port = next((each for each in survey.survey(self._by_place[place]).ports if each.link.name == interface), None)
        found = self.links(place).get(port.link.ifindex) if port is not None and not port.hairpin else None
        return found.master if found is not None else ""

    def _lookup(self, place: str) -> lookup.Lookup:
        if place not in self._lookups:
            self._lookups[place] = lookup.Lookup(self._by_place[place])
        return self._lookups[place]
