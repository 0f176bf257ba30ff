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
from typing import NamedTuple

from netlab.netfilter import parse
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

    `chains` are its own chains in nat, each behind those that it jumps to, as the lines that write its rules: there are
    tens of thousands, which are only written and compared. `shared` are its rules in the chains that all Services
    share. `no_local` names the traffic policies (`internal`, `external`) that lack a local endpoint.
    """

    chains: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[tuple[TableChain, Rule], ...] = ()
    no_local: frozenset[str] = frozenset()

    def rules(self) -> Iterator[tuple[str, tuple[Rule, ...]]]:
        """Yield its own chains with their rules as values."""
        for name, lines in self.chains.items():
            yield name, parse.rules(lines.splitlines())


class _Chains(NamedTuple):
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
    no_local = frozenset[str]()
    if choice.any and not (internal and external):
        no_local = frozenset(policy for policy, found in (("internal", internal), ("external", external)) if not found)
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
                comments: bool) -> Iterator[tuple[str, str]]:
    targets = {each.text: names.endpoint_chain(port.name, port.protocol, each.text) for each in choice.reachable}
    for endpoint in choice.reachable:
        chain = targets[endpoint.text]
        yield chain, _endpoint(port, endpoint, chain, comments)
    entry = chains.local if port.internal_local else chains.cluster
    for chain, endpoints in ((chains.cluster, choice.cluster), (chains.local, choice.local)):
        if endpoints:
            head = _masquerade_head(port, settings, chain) if chain == entry else ()
            yield chain, "\n".join((*head, *_spread(port, chain, endpoints, targets, comments)))
    if port.externally_accessible:
        external = bool(choice.local if port.external_local else choice.cluster)
        yield chains.external, "\n".join(_external(port, settings, chains, reachable=external))
    if has_firewall(port):
        yield chains.firewall, "\n".join(_firewall(port, settings, chains))


def _masquerade_head(port: ServicePort, settings: Settings, chain: str) -> tuple[str, ...]:
    """Return the rule that marks traffic to the cluster address which may come back another way."""
    if not (settings.masquerade_all or settings.detector.match):
        return ()
    source = "" if settings.masquerade_all else f"{settings.detector.not_local} "
    rule = (f'-A {chain} -m comment --comment "{port.name} cluster IP" -m {port.protocol} -p {port.protocol} '
            f"-d {port.cluster_ip} --dport {port.port} {source}-j {names.MARK_MASQ}")
    return (rule,)


def _spread(port: ServicePort, chain: str, endpoints: Sequence[Endpoint], targets: Mapping[str, str],
            comments: bool) -> Iterator[str]:
    """Spread evenly: with n endpoints, rule k (from 0) takes 1/(n-k) of what reaches it."""
    heads = [f'-A {chain} -m comment --comment "{port.name} -> {each.text}" ' if comments else f"-A {chain} "
             for each in endpoints]
    if port.affinity_seconds:
        for head, endpoint in zip(heads, endpoints, strict=True):
            target = targets[endpoint.text]
            yield f"{head}-m recent --name {target} --rcheck --seconds {port.affinity_seconds} --reap -j {target}"
    left = len(endpoints)
    for head, endpoint in zip(heads, endpoints, strict=True):
        dice = f"-m statistic --mode random --probability {probability(left)} " if left > 1 else ""
        yield f"{head}{dice}-j {targets[endpoint.text]}"
        left -= 1


@lru_cache(maxsize=4096)
def probability(among: int) -> str:
    """Return 1/n in the digits that kube-proxy writes.

    >>> probability(3)
    '0.3333333333'
    """
    return f"{1 / among:.10f}"


def _endpoint(port: ServicePort, endpoint: Endpoint, chain: str, comments: bool) -> str:
    """Mark what goes back to where it comes from, since the answer must pass the node; rewrite the destination."""
    said = f"-m comment --comment {port.name} " if comments else ""
    seen = f"-m recent --name {chain} --set " if port.affinity_seconds else ""
    return (f"-A {chain} {said}-s {endpoint.ip} -j {names.MARK_MASQ}\n"
            f"-A {chain} {said}{seen}-m {port.protocol} -p {port.protocol} -j DNAT --to-destination {endpoint.text}")


def _external(port: ServicePort, settings: Settings, chains: _Chains, *, reachable: bool) -> Iterator[str]:
    name, rule = port.name, f"-A {chains.external}"
    if not port.external_local:
        yield f'{rule} -m comment --comment "masquerade traffic for {name} external destinations" -j {names.MARK_MASQ}'
    else:
        if settings.detector.match:
            yield (f'{rule} -m comment --comment "pod traffic for {name} external destinations" '
                   f"{settings.detector.local} -j {chains.cluster}")
        from_node = "-m addrtype --src-type LOCAL"
        yield (f'{rule} -m comment --comment "masquerade LOCAL traffic for {name} external destinations" '
               f"{from_node} -j {names.MARK_MASQ}")
        yield (f'{rule} -m comment --comment "route LOCAL traffic for {name} external destinations" '
               f"{from_node} -j {chains.cluster}")
    if reachable:
        yield f"{rule} -j {chains.local if port.external_local else chains.cluster}"


def _firewall(port: ServicePort, settings: Settings, chains: _Chains) -> Iterator[str]:
    """Let the allowed sources through; what falls out of the chain keeps its address and is dropped in filter."""
    rule = f'-A {chains.firewall} -m comment --comment "{port.name} loadbalancer IP"'
    for source in port.source_ranges:
        yield f"{rule} -s {source} -j {chains.external}"
    if any(contains(source, settings.own_ip) for source in port.source_ranges):
        # A node that holds the balancer's address itself talks to it from that address.
        for ip in port.load_balancer_ips:
            yield f"{rule} -s {ip} -j {chains.external}"
    yield (f"-A {chains.firewall} -m comment "
           f'--comment "other traffic to {port.name} will be dropped by {names.PROXY_FIREWALL}"')
