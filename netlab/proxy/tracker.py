"""The Services and endpoints that a node's kube-proxy has been told of, and which Services changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netlab.api import meta
from netlab.api.meta import Object
from netlab.proxy.addresses import Family
from netlab.proxy.endpoints import Endpoint, PortKey, merged, service_of, slice_endpoints
from netlab.proxy.plan import Wanted
from netlab.proxy.rules import block
from netlab.proxy.services import ServicePort, ignored, service_ports
from netlab.proxy.settings import Settings
from netlab.proxy.topology import Choice, choose

LARGE = 1000
"""Endpoints past which a cluster counts as large and comments are left out of the chains of endpoints."""


class Tracker:
    """Objects in, changed Services out. Equal objects told twice are no change."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.changed: set[str] = set()
        self._ports: dict[str, tuple[ServicePort, ...]] = {}
        self._slices: dict[str, dict[str, dict[PortKey, tuple[Endpoint, ...]]]] = {}
        self._owner: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._total = 0
        self.health_checked: set[str] = set()
        """The Services whose health a load balancer asks for at a port of this node."""
        self.udp_changed = False
        """Whether endpoints for UDP changed since somebody last set this back."""

    def service(self, key: str, service: Object | None) -> bool:
        """Take in a Service, None when it is gone. Returns whether the rules may change."""
        ports = () if service is None else service_ports(service, self.family)
        if ports == self._ports.get(key, ()):
            return False
        if ports:
            self._ports[key] = ports
        else:
            del self._ports[key]
        self.changed.add(key)
        self._count(key)
        (self.health_checked.add if any(port.health_check_node_port for port in ports)
         else self.health_checked.discard)(key)
        return True

    def slice(self, key: str, slice_: Object | None) -> bool:
        """Take in an EndpointSlice, None when it is gone. Returns whether the rules may change."""
        owner = service_of(slice_) if slice_ is not None else ""
        found = slice_endpoints(slice_, self.family) if slice_ is not None and owner else {}
        former = self._owner.get(key, "")
        old = self._slices[former][key] if former else {}
        if found == old and (owner == former or not found):
            return False
        self.udp_changed = self.udp_changed or "udp" in [protocol for _, protocol in (*found, *old)]
        if former:
            del self._slices[former][key]
            self.changed.add(former)
            if not self._slices[former]:
                del self._slices[former]
            del self._owner[key]
            self._count(former)
        if found:
            self._slices.setdefault(owner, {})[key] = found
            self._owner[key] = owner
            self.changed.add(owner)
            self._count(owner)
        return True

    def take_changed(self) -> set[str]:
        """Return the Services that changed since the last take."""
        changed, self.changed = self.changed, set()
        return changed

    def services(self) -> Iterable[str]:
        """Return the keys of all Services that have rules."""
        return self._ports.keys()

    def ports(self, service: str) -> tuple[ServicePort, ...]:
        """Return the ports of a Service."""
        return self._ports.get(service, ())

    def endpoints(self, port: ServicePort) -> tuple[Endpoint, ...]:
        """Return all endpoints of a port, usable or not, sorted."""
        slices = self._slices.get(port.service)
        return merged(slices.values(), (port.port_name, port.protocol)) if slices else ()

    def choices(self, settings: Settings) -> Iterator[tuple[ServicePort, Choice]]:
        """Yield every port with the endpoints that this node uses."""
        for service in self._ports:
            yield from self.choice(service, settings)

    def choice(self, service: str, settings: Settings) -> Iterator[tuple[ServicePort, Choice]]:
        """Yield the ports of one Service with the endpoints that this node uses."""
        for port in self.ports(service):
            yield port, choose(self.endpoints(port), port, node=settings.node, zone=settings.zone)

    @property
    def large(self) -> bool:
        """Tell whether all Services together have more endpoints than `LARGE`."""
        return self._total > LARGE

    def _count(self, service: str) -> None:
        slices, former = self._slices.get(service), self._counts.pop(service, 0)
        if slices:
            keys = [(port.port_name, port.protocol) for port in self.ports(service)]
            self._counts[service] = sum([len(each.get(key, ())) for each in slices.values() for key in keys])
        self._total += self._counts.get(service, 0) - former


def rebuild(tracker: Tracker, wanted: Wanted, services: Iterable[str]) -> None:
    """Work out the rules of some Services anew."""
    comments = not tracker.large
    for service in services:
        wanted.set(service, [block(port, choice, wanted.settings, comments=comments)
                             for port, choice in tracker.choice(service, wanted.settings)])


def wanted_for(objects: Iterable[Object], settings: Settings) -> Wanted:
    """Return the rules of a node for a set of API objects, of which only Services and EndpointSlices matter."""
    tracker = Tracker(settings.family)
    for each in objects:
        if each.get("kind") == "Service" and not ignored(each):
            tracker.service(meta.key(each), each)
        elif each.get("kind") == "EndpointSlice":
            tracker.slice(meta.key(each), each)
    wanted = Wanted(settings)
    rebuild(tracker, wanted, tracker.services())
    return wanted
