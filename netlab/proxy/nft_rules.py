"""The rules of one Service port in nftables mode (kubernetes: pkg/proxy/nftables/README.md and proxier.go).

Verdict maps take a packet from its destination to its Service's chain in one step, however many Services there are:
`service-*` and `local-*` throw the dice and rewrite the destination, `external-*` decides about masquerading first,
`firewall-*` drops sources that a load balancer does not take. What has no endpoint is in maps of its own, which the
filter chains ask. Chains of endpoints exist only where a client is to come back to the same one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from netlab.proxy import nft_names as names
from netlab.proxy.addresses import contains
from netlab.proxy.endpoints import Endpoint
from netlab.proxy.services import ServicePort
from netlab.proxy.settings import LocalDetector, Settings
from netlab.proxy.topology import Choice

_LONGEST_COMMENT = 128
"""Characters that nft takes; a namespace's, a Service's and a port's name together may be longer."""

Key = tuple[str, str]
"""A set's or map's name and the key of one of its elements."""


@dataclass(frozen=True, slots=True)
class NftBlock:
    """What one Service port puts into the table.

    `chains` are its own, each behind those that it jumps to. `sets` are its affinity sets with their timeouts in
    seconds. `elements` go into the sets and maps that all Services share, each with what stands behind its key: ""
    in a set, ` : goto CHAIN` in a map. `no_local` names the traffic policies that lack a local endpoint.
    """

    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sets: Mapping[str, int] = field(default_factory=dict)
    elements: Mapping[Key, str] = field(default_factory=dict)
    no_local: frozenset[str] = frozenset()


class _Chains(NamedTuple):
    """The names of a port's chains."""

    cluster: str
    local: str
    external: str
    firewall: str

    @classmethod
    def of(cls, port: ServicePort) -> _Chains:
        base = names.hashed(names.port_path(port))
        return cls(f"service-{base}", f"local-{base}", f"external-{base}", f"firewall-{base}")


def block(port: ServicePort, choice: Choice, settings: Settings) -> NftBlock:
    """Return what a Service port needs."""
    chains = _Chains.of(port)
    internal = bool(choice.local if port.internal_local else choice.cluster)
    external = bool(choice.local if port.external_local else choice.cluster)
    no_local = frozenset[str]()
    if choice.any and not (internal and external):
        no_local = frozenset(policy for policy, found in (("internal", internal), ("external", external)) if not found)
    sets: dict[str, int] = {}
    if port.affinity_seconds:
        sets = {_affinity(port, each): port.affinity_seconds for each in choice.reachable}
    return NftBlock(dict(_own_chains(port, choice, settings, chains, external=external)), sets,
                    dict(_elements(port, choice, settings, chains, internal=internal, external=external)), no_local)


def mark(settings: Settings) -> str:
    """Return the statement that asks for masquerading."""
    return f"meta mark set meta mark | {settings.mark}"


def local(detector: LocalDetector, ip: str) -> str:
    """Return the match for traffic of local Pods; "" when there is no way to tell. `ip` is `ip` or `ip6`."""
    return _detected(detector, ip, "")


def not_local(detector: LocalDetector, ip: str) -> str:
    """Return the match for all other traffic."""
    return _detected(detector, ip, "!= ")


def ip_word(settings: Settings) -> str:
    """Return nft's word for the family's header and table: `ip` or `ip6`."""
    return "ip6" if settings.family == "IPv6" else "ip"


def _detected(detector: LocalDetector, ip: str, operator: str) -> str:
    option, _, value = detector.match.partition(" ")
    if option == "-s":
        return f"{ip} saddr {operator}{value}"
    if option == "-i":
        return f'iifname {operator}"{value[:-1]}*"' if value.endswith("+") else f'iifname {operator}"{value}"'
    return ""


def _affinity(port: ServicePort, endpoint: Endpoint) -> str:
    return f"affinity-{names.endpoint_name(port, endpoint.ip, endpoint.port)}"


def _elements(port: ServicePort, choice: Choice, settings: Settings, chains: _Chains, *, internal: bool,
              external: bool) -> Iterator[tuple[Key, str]]:
    verdict = "drop" if choice.any else f"goto {names.REJECT}"
    said = f' comment "{port.name[:_LONGEST_COMMENT]}"'
    to_port = f"{port.protocol} . {port.port}"
    yield (names.CLUSTER_IPS, port.cluster_ip), ""
    if internal:
        entry = chains.local if port.internal_local else chains.cluster
        yield (names.SERVICE_IPS, f"{port.cluster_ip} . {to_port}"), f" : goto {entry}"
    else:
        yield (names.NO_ENDPOINT_SERVICES, f"{port.cluster_ip} . {to_port}"), f"{said} : {verdict}"
    for ip in (*port.external_ips, *port.load_balancer_ips):
        if choice.any:
            yield (names.SERVICE_IPS, f"{ip} . {to_port}"), f" : goto {chains.external}"
        if not external:
            yield (names.NO_ENDPOINT_SERVICES, f"{ip} . {to_port}"), f"{said} : {verdict}"
    if port.source_ranges:
        for ip in port.load_balancer_ips:
            yield (names.FIREWALL_IPS, f"{ip} . {to_port}"), f"{said} : goto {chains.firewall}"
    if port.node_port:
        key = f"{port.protocol} . {port.node_port}"
        if choice.any:
            yield (names.SERVICE_NODEPORTS, key), f" : goto {chains.external}"
        if not external:
            yield (names.NO_ENDPOINT_NODEPORTS, key), f"{said} : {verdict}"
    for each in choice.reachable:
        if each.node == settings.node:
            yield (names.HAIRPIN, f"{each.ip} . {each.ip} . {port.protocol} . {each.port}"), ""


def _own_chains(port: ServicePort, choice: Choice, settings: Settings, chains: _Chains, *,
                external: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    ip = ip_word(settings)
    if choice.any and port.affinity_seconds:
        for each in choice.reachable:
            name = names.endpoint_name(port, each.ip, each.port)
            yield f"endpoint-{name}", (f"update @affinity-{name} {{ {ip} saddr }}",
                                       f"meta l4proto {port.protocol} dnat to {each.text}")
    for chain, endpoints in ((chains.cluster, choice.cluster), (chains.local, choice.local)):
        if endpoints:
            yield chain, tuple(_spread(port, endpoints, ip))
    if choice.any and port.externally_accessible:
        yield chains.external, tuple(_external(port, settings, chains, ip, reachable=external))
    if port.load_balancer_ips and port.source_ranges:
        yield chains.firewall, (_firewall(port, settings, ip),)


def _spread(port: ServicePort, endpoints: Sequence[Endpoint], ip: str) -> Iterator[str]:
    """Let one throw of the dice choose among n endpoints, or the one that knows the client."""
    count = len(endpoints)
    if not port.affinity_seconds:
        ends = ", ".join(f"{at} : {each.ip} . {each.port}" for at, each in enumerate(endpoints))
        yield f"meta l4proto {port.protocol} dnat {ip} to numgen random mod {count} map {{ {ends} }}"
        return
    found = [names.endpoint_name(port, each.ip, each.port) for each in endpoints]
    for name in found:
        yield f"{ip} saddr @affinity-{name} goto endpoint-{name}"
    ends = ", ".join(f"{at} : goto endpoint-{name}" for at, name in enumerate(found))
    yield f"numgen random mod {count} vmap {{ {ends} }}"


def _external(port: ServicePort, settings: Settings, chains: _Chains, ip: str, *, reachable: bool) -> Iterator[str]:
    if not port.external_local:
        yield f'{mark(settings)} comment "masquerade"'
    else:
        if match := local(settings.detector, ip):
            yield f'{match} goto {chains.cluster} comment "short-circuit pod traffic"'
        yield f'fib saddr type local {mark(settings)} comment "masquerade local traffic"'
        yield f'fib saddr type local goto {chains.cluster} comment "short-circuit local traffic"'
    if reachable:
        yield f"goto {chains.local if port.external_local else chains.cluster}"


def _firewall(port: ServicePort, settings: Settings, ip: str) -> str:
    sources = list(port.source_ranges)
    if any(contains(source, settings.own_ip) for source in sources):
        # A node that holds the balancer's address itself talks to it from that address.
        sources += port.load_balancer_ips
    found = [_short(each) for each in _collapsed(sources)]
    # nft makes the same of a set of one; written as a set by netlink it would be one.
    allowed = found[0] if len(found) == 1 else f"{{ {', '.join(found)} }}"
    return f"{ip} saddr != {allowed} drop"


def _collapsed(networks: Sequence[str]) -> Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return the same addresses in as few networks as can be: some versions of nft refuse a set that overlaps."""
    v4 = [ipaddress.IPv4Network(each) for each in networks if ":" not in each]
    v6 = [ipaddress.IPv6Network(each) for each in networks if ":" in each]
    return [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]


def _short(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)
