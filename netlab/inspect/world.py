"""What kube-proxy would write on a node for a set of API objects, with the object behind every chain and rule.

Chains carry hashes of names, so the same objects give the same chains whoever wrote them: what is worked out here is
compared with what the kernel holds, be it from netlab's kube-proxy or from upstream's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from netlab.api.meta import Object
from netlab.inspect.known import Known
from netlab.netfilter import normalise
from netlab.netfilter.model import Rule, Ruleset
from netlab.proxy import names
from netlab.proxy.addresses import address
from netlab.proxy.endpoints import Endpoint, slice_endpoints
from netlab.proxy.plan import Wanted, whole
from netlab.proxy.rules import block
from netlab.proxy.services import ServicePort
from netlab.proxy.settings import Settings
from netlab.proxy.tracker import Tracker

Meaning: TypeAlias = tuple[object, ...]
"""An opaque value: equal for two rules of one chain that do the same, whatever their comments say."""

_ROLES = (("KUBE-SVC-", "cluster"), ("KUBE-SVL-", "local"), ("KUBE-EXT-", "external"), ("KUBE-FW-", "firewall"),
          (names.FORMER_EXTERNAL, "older"))


@dataclass(frozen=True)
class Place:
    """Where an endpoint stands in the API: an EndpointSlice and the index into its `endpoints`."""

    slice: Object
    index: int
    endpoint: Endpoint

    @property
    def entry(self) -> Object:
        """Return the entry of the slice."""
        found: Object = self.slice["endpoints"][self.index]
        return found


@dataclass(frozen=True)
class Owner:
    """What a chain is for: `role` is cluster, local, external, firewall or endpoint (then `address` is ip:port).

    `older` is what an older kube-proxy had for what comes from outside to a Service with a Local policy.
    """

    role: str
    port: ServicePort
    address: str = ""


@dataclass(frozen=True)
class World:
    """The objects of a cluster as one node's kube-proxy sees them.

    `rules` are the tables that it would write. `owners` are all chains that the objects could give on any node, used on
    this one or not; `made` the rules of Service ports by (table, chain), those that every node has left out.
    `places` are all endpoints by (chain of the endpoint), usable or not; `used` the chains of those in use here.
    """

    settings: Settings
    services: Mapping[str, Object]
    slices: Mapping[str, tuple[Object, ...]]
    node: Object | None
    rules: Ruleset
    owners: Mapping[str, Owner]
    made: Mapping[tuple[str, str], Sequence[tuple[Rule, ServicePort]]]
    places: Mapping[str, tuple[Place, ...]]
    used: frozenset[str]
    pods: Mapping[str, Object] = field(default_factory=dict)
    """Pods with a network of their own, by address."""
    _makers: dict[tuple[str, str], dict[Meaning, ServicePort]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, objects: Iterable[Object], settings: Settings) -> World:
        """Work out a node's rules. Of the objects, Services, EndpointSlices and Nodes matter."""
        objects = list(objects)
        known = Known.of(objects, settings)
        pods: dict[str, Object] = {}
        for each in objects:
            if each.get("kind") == "Pod" and not (each.get("spec") or {}).get("hostNetwork"):
                pods |= {entry["ip"]: each for entry in (each.get("status") or {}).get("podIPs") or () if "ip" in entry}
        return cls(settings, known.services, known.slices, known.node,
                   *_worked_out(known.tracker, settings, known.slices), pods)

    def service_of(self, table: str, rule: Rule) -> str:
        """Return the Service, `namespace/name`, that a rule is about: by the chain it is in, or by what it does."""
        owner = self.owners.get(rule.chain) or self.owners.get(rule.jump)
        port = owner.port if owner else self.maker(table, rule)
        return port.service if port else ""

    def maker(self, table: str, rule: Rule) -> ServicePort | None:
        """Return the Service port that kube-proxy would write such a rule for; None when it would not, or for none."""
        place = (table, rule.chain)
        if place not in self._makers:  # meanings cost time: only those of chains that somebody asks about
            self._makers[place] = {meaning(each): port for each, port in self.made.get(place, ())}
        return self._makers[place].get(meaning(rule))


def _worked_out(tracker: Tracker, settings: Settings, slices: Mapping[str, tuple[Object, ...]]) -> tuple[
        Ruleset, dict[str, Owner], dict[tuple[str, str], list[tuple[Rule, ServicePort]]],
        dict[str, tuple[Place, ...]], frozenset[str]]:
    wanted = Wanted(settings)
    owners: dict[str, Owner] = {}
    by_chain: dict[tuple[str, str], list[tuple[Rule, ServicePort]]] = {}
    places: dict[str, tuple[Place, ...]] = {}
    used: set[str] = set()
    comments = not tracker.large
    for service in tracker.services():
        blocks = []
        for port, choice in tracker.choice(service, settings):
            made = block(port, choice, settings, comments=comments)
            blocks.append(made)
            code = names.digest(port.name + port.protocol)
            owners |= {prefix + code: Owner(role, port) for prefix, role in _ROLES}
            for place in _places(port, slices.get(service, ()), settings):
                chain = names.endpoint_chain(port.name, port.protocol, place.endpoint.text)
                owners[chain] = Owner("endpoint", port, place.endpoint.text)
                places[chain] = (*places.get(chain, ()), place)
            used |= {names.endpoint_chain(port.name, port.protocol, each.text) for each in choice.reachable}
            for chain, rules in made.rules():
                by_chain["nat", chain] = [(rule, port) for rule in rules]
            for at, rule in made.shared:
                by_chain.setdefault(at, []).append((rule, port))
        wanted.set(service, blocks)
    return whole(wanted), owners, by_chain, places, frozenset(used)


def _places(port: ServicePort, slices: Iterable[Object], settings: Settings) -> Iterator[Place]:
    for each in slices:
        for endpoint in slice_endpoints(each, settings.family).get((port.port_name, port.protocol), ()):
            for index, entry in enumerate(each.get("endpoints") or ()):
                if address((entry.get("addresses") or [""])[0]) == endpoint.ip:
                    yield Place(each, index, endpoint)
                    break


def meaning(rule: Rule) -> Meaning:
    """Return what a rule does, its chain's name included, its comments left out."""
    chain, parts, *rest = normalise.canonical(rule)
    assert isinstance(parts, tuple)
    return chain, tuple(part for part in parts if part[0] != "comment" and part[:2] != ("recent", "--mask")), *rest


def conditions(rule: Rule) -> frozenset[object]:
    """Return the conditions of a rule as comparable values: with more of them, it matches less."""
    parts = meaning(rule)[1]
    assert isinstance(parts, tuple)
    return frozenset(parts)
