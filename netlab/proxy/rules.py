"""The rules of one Service port (kubernetes: pkg/proxy/iptables/proxier.go, syncProxyRules).

A packet comes from KUBE-SERVICES or KUBE-NODEPORTS. Traffic to the cluster address goes to SVC (any endpoint) or SVL
(endpoints of this node); traffic to an outside address goes first through FW (is the source allowed?) and EXT (must it
be masqueraded?). SVC and SVL throw the dice, SEP rewrites the destination. What has no endpoint is refused in the
filter table, because nat may not drop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from netlab.netfilter.model import Rule
from netlab.proxy import names
from netlab.proxy.addresses import contains
from netlab.proxy.endpoints import Endpoint
from netlab.proxy.services import ServicePort
from netlab.proxy.settings import LOCALHOST_COUNTER, Settings
from netlab.proxy.topology import Choice

TableChain = tuple[str, str]
"""A table's and a chain's name."""


@dataclass(frozen=True, slots=True)
class Block:
    """What one Service port puts into the tables.

    `chains` are its own chains in nat, each behind those that it jumps to; `shared` are its rules in the chains that
    all Services share. `no_local` names the traffic policies (`internal`, `external`) that lack a local endpoint.
    """

    chains: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    shared: tuple[tuple[TableChain, Rule], ...] = ()
    no_local: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Chains:
    """The names of a port's chains."""

    cluster: str
    local: str
    external: str
    firewall: str

    @classmethod
    def of(cls, port: ServicePort) -> _Chains:
        code = names.digest(port.name + port.protocol)
        return cls(f"KUBE-SVC-{code}", f"KUBE-SVL-{code}", f"KUBE-EXT-{code}", f"KUBE-FW-{code}")


def block(port: ServicePort, choice: Choice, settings: Settings, *, comments: bool = True) -> Block:
    """Return the rules of a Service port.

    `comments=False` leaves out the comments on the way to an endpoint, as kube-proxy does in large clusters.
    """
    chains = _Chains.of(port)
    internal = choice.local if port.internal_local else choice.cluster
    external = choice.local if port.external_local else choice.cluster
    no_local = frozenset(policy for policy, found in (("internal", internal), ("external", external))
                         if choice.any and not found)
    return Block(dict(_own_chains(port, choice, settings, chains, comments)) if choice.any else {},
                 tuple(_shared(port, settings, chains, any_endpoint=choice.any, internal=bool(internal),
                               external=bool(external))), no_local)


def has_firewall(port: ServicePort) -> bool:
    """Tell whether a port's load balancer addresses are open to some sources only."""
    return bool(port.load_balancer_ips and port.source_ranges)


def _shared(port: ServicePort, settings: Settings, chains: _Chains, *, any_endpoint: bool, internal: bool,
            external: bool) -> Iterator[tuple[TableChain, Rule]]:
    name, match = port.name, f"-m {port.protocol} -p {port.protocol}"
    refusal = f'"{name} has no local endpoints"' if any_endpoint else f'"{name} has no endpoints"'
    verdict = "DROP" if any_endpoint else "REJECT"
    refused = f"-m comment --comment {refusal}"
    entry = chains.local if port.internal_local else chains.cluster
    if internal:
        yield _nat(names.SERVICES, f'-m comment --comment "{name} cluster IP" {match} -d {port.cluster_ip} '
                                   f"--dport {port.port}", entry)
    else:
        yield _filter(names.SERVICES, f"{refused} {match} -d {port.cluster_ip} --dport {port.port}", verdict)
    for ip in port.external_ips:
        if any_endpoint:
            yield _nat(names.SERVICES, f'-m comment --comment "{name} external IP" {match} -d {ip} '
                                       f"--dport {port.port}", chains.external)
        if not external:
            yield _filter(names.EXTERNAL_SERVICES, f"{refused} {match} -d {ip} --dport {port.port}", verdict)
    guarded = any_endpoint and has_firewall(port)
    for ip in port.load_balancer_ips:
        to_ip = f"{match} -d {ip} --dport {port.port}"
        if any_endpoint:
            yield _nat(names.SERVICES, f'-m comment --comment "{name} loadbalancer IP" {to_ip}',
                       chains.firewall if guarded else chains.external)
        if guarded:
            yield _filter(names.PROXY_FIREWALL, f'-m comment --comment "{name} traffic not accepted by '
                                                f'{chains.firewall}" {to_ip}', "DROP")
        if not external:
            yield _filter(names.EXTERNAL_SERVICES, f"{refused} {to_ip}", verdict)
    if port.node_port:
        if any_endpoint:
            yield from _node_port(port, settings, chains.external)
        if not external:
            yield _filter(names.EXTERNAL_SERVICES, f"{refused} -m addrtype --dst-type LOCAL {match} "
                                                   f"--dport {port.node_port}", verdict)
    if port.health_check_node_port:
        yield _filter(names.NODE_PORTS, f'-m comment --comment "{name} health check node port" -m tcp -p tcp '
                                        f"--dport {port.health_check_node_port}", "ACCEPT")


def _node_port(port: ServicePort, settings: Settings, target: str) -> Iterator[tuple[TableChain, Rule]]:
    said = f"-m comment --comment {port.name} -m {port.protocol} -p {port.protocol}"
    if settings.localhost_node_ports and settings.family == "IPv4" and LOCALHOST_COUNTER in settings.counters:
        yield _nat(names.NODE_PORTS, f"{said} -d 127.0.0.0/8 --dport {port.node_port} -m nfacct "
                                     f"--nfacct-name {LOCALHOST_COUNTER}", target)
    yield _nat(names.NODE_PORTS, f"{said} --dport {port.node_port}", target)


def _nat(chain: str, match: str, target: str) -> tuple[TableChain, Rule]:
    return ("nat", chain), Rule(chain, match, target)


def _filter(chain: str, match: str, target: str) -> tuple[TableChain, Rule]:
    return ("filter", chain), Rule(chain, match, target)


def _own_chains(port: ServicePort, choice: Choice, settings: Settings, chains: _Chains,
                comments: bool) -> Iterator[tuple[str, tuple[Rule, ...]]]:
    targets = {each.text: names.endpoint_chain(port.name, port.protocol, each.text) for each in choice.reachable}
    for endpoint in choice.reachable:
        chain = targets[endpoint.text]
        yield chain, tuple(_endpoint_rules(port, endpoint, chain, comments))
    entry = chains.local if port.internal_local else chains.cluster
    for chain, endpoints in ((chains.cluster, choice.cluster), (chains.local, choice.local)):
        if endpoints:
            head = _masquerade_head(port, settings, chain) if chain == entry else ()
            yield chain, (*head, *_spread(port, chain, endpoints, targets, comments))
    if port.externally_accessible:
        external = bool(choice.local if port.external_local else choice.cluster)
        yield chains.external, tuple(_external(port, settings, chains, reachable=external))
    if has_firewall(port):
        yield chains.firewall, tuple(_firewall(port, settings, chains))


def _masquerade_head(port: ServicePort, settings: Settings, chain: str) -> tuple[Rule, ...]:
    """Return the rule that marks traffic to the cluster address which may come back another way."""
    match = (f'-m comment --comment "{port.name} cluster IP" -m {port.protocol} -p {port.protocol} '
             f"-d {port.cluster_ip} --dport {port.port}")
    if settings.masquerade_all:
        return (Rule(chain, match, names.MARK_MASQ),)
    if settings.detector.match:
        return (Rule(chain, f"{match} {settings.detector.not_local}", names.MARK_MASQ),)
    return ()


def _spread(port: ServicePort, chain: str, endpoints: Sequence[Endpoint], targets: Mapping[str, str],
            comments: bool) -> Iterator[Rule]:
    """Spread evenly: with n endpoints, rule k (from 0) takes 1/(n-k) of what reaches it."""
    said = [f'-m comment --comment "{port.name} -> {each.text}"' if comments else "" for each in endpoints]
    if port.affinity_seconds:
        for comment, endpoint in zip(said, endpoints, strict=True):
            target = targets[endpoint.text]
            yield Rule(chain, f"{comment} -m recent --name {target} --rcheck --seconds {port.affinity_seconds} "
                              f"--reap".lstrip(), target)
    for k, endpoint in enumerate(endpoints):
        left = len(endpoints) - k
        dice = f" -m statistic --mode random --probability {probability(left)}" if left > 1 else ""
        yield Rule(chain, (said[k] + dice).lstrip(), targets[endpoint.text])


@lru_cache(maxsize=4096)
def probability(among: int) -> str:
    """Return 1/n in the digits that kube-proxy writes.

    >>> probability(3)
    '0.3333333333'
    """
    return f"{1 / among:.10f}"


def _endpoint_rules(port: ServicePort, endpoint: Endpoint, chain: str, comments: bool) -> Iterator[Rule]:
    said = f"-m comment --comment {port.name} " if comments else ""
    yield Rule(chain, f"{said}-s {endpoint.ip}", names.MARK_MASQ)  # back to itself: the answer must pass the node
    seen = f"-m recent --name {chain} --set " if port.affinity_seconds else ""
    yield Rule(chain, f"{said}{seen}-m {port.protocol} -p {port.protocol}", f"DNAT --to-destination {endpoint.text}")


def _external(port: ServicePort, settings: Settings, chains: _Chains, *, reachable: bool) -> Iterator[Rule]:
    chain, name = chains.external, port.name
    if not port.external_local:
        yield Rule(chain, f'-m comment --comment "masquerade traffic for {name} external destinations"',
                   names.MARK_MASQ)
    else:
        if settings.detector.match:
            yield Rule(chain, f'-m comment --comment "pod traffic for {name} external destinations" '
                              f"{settings.detector.local}", chains.cluster)
        from_node = "-m addrtype --src-type LOCAL"
        yield Rule(chain, f'-m comment --comment "masquerade LOCAL traffic for {name} external destinations" '
                          f"{from_node}", names.MARK_MASQ)
        yield Rule(chain, f'-m comment --comment "route LOCAL traffic for {name} external destinations" {from_node}',
                   chains.cluster)
    if reachable:
        yield Rule(chain, "", chains.local if port.external_local else chains.cluster)


def _firewall(port: ServicePort, settings: Settings, chains: _Chains) -> Iterator[Rule]:
    """Let the allowed sources through; what falls out of the chain keeps its address and is dropped in filter."""
    said = f'-m comment --comment "{port.name} loadbalancer IP"'
    for source in port.source_ranges:
        yield Rule(chains.firewall, f"{said} -s {source}", chains.external)
    if any(contains(source, settings.own_ip) for source in port.source_ranges):
        # A node that holds the balancer's address itself talks to it from that address.
        for ip in port.load_balancer_ips:
            yield Rule(chains.firewall, f"{said} -s {ip}", chains.external)
    yield Rule(chains.firewall,
               f'-m comment --comment "other traffic to {port.name} will be dropped by {names.PROXY_FIREWALL}"')
