"""Userspace mode's rules: whatever goes to a Service is turned aside to a port of this process on this node.

For teaching: upstream's kube-proxy had this mode until v1.25 (kubernetes: pkg/proxy/userspace/proxier.go). Two chains
for addresses of Services ("portals") and two for node ports, one of each for packets that come in from Pods and other
machines, one for packets of the node itself: REDIRECT sends the former to the address of the interface that they came
in by, while the node's own have to be given an address that is no loopback one, or answers would come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from netlab.netfilter.model import HOOKS, Chain, Rule, Ruleset, Table
from netlab.proxy.addresses import join
from netlab.proxy.rules import TableChain
from netlab.proxy.services import ServicePort

PORTALS_CONTAINER: Final = "KUBE-PORTALS-CONTAINER"
PORTALS_HOST: Final = "KUBE-PORTALS-HOST"
NODE_PORT_CONTAINER: Final = "KUBE-NODEPORT-CONTAINER"
NODE_PORT_HOST: Final = "KUBE-NODEPORT-HOST"
NON_LOCAL: Final = "KUBE-NODEPORT-NON-LOCAL"

CHAINS: Final[tuple[TableChain, ...]] = (
    ("filter", NON_LOCAL), ("nat", PORTALS_CONTAINER), ("nat", PORTALS_HOST), ("nat", NODE_PORT_CONTAINER),
    ("nat", NODE_PORT_HOST))

_EVERYWHERE: Final = ("0.0.0.0", "::")
_PORTALS: Final = '-m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules"'
_LAST: Final = ('-m addrtype --dst-type LOCAL -m comment --comment '
                '"handle service NodePorts; NOTE: this must be the last rule in the chain"')

FIRST_JUMPS: Final[Mapping[TableChain, Rule]] = {
    ("filter", "INPUT"): Rule("INPUT", '-m comment --comment "Ensure that non-local NodePort traffic can flow"',
                              NON_LOCAL),
    ("nat", "PREROUTING"): Rule("PREROUTING", _PORTALS, PORTALS_CONTAINER),
    ("nat", "OUTPUT"): Rule("OUTPUT", _PORTALS, PORTALS_HOST),
}
"""Jumps that stand above all other rules of their chain."""

LAST_JUMPS: Final[Mapping[TableChain, Rule]] = {
    ("nat", "PREROUTING"): Rule("PREROUTING", _LAST, NODE_PORT_CONTAINER),
    ("nat", "OUTPUT"): Rule("OUTPUT", _LAST, NODE_PORT_HOST),
}
"""Jumps that stand below them."""


def served(port: ServicePort) -> bool:
    """Tell whether this mode can serve a port: it speaks TCP and UDP."""
    return port.protocol in ("tcp", "udp")


def rules(port: ServicePort, proxy_port: int, listens: str, host_ip: str) -> Iterator[tuple[TableChain, Rule]]:
    """Yield the rules of one Service port, in the order in which they stand.

    Args:
        port: the port.
        proxy_port: where this process listens for it.
        listens: the address it listens on, `0.0.0.0` or `::` for all.
        host_ip: an address of this node that is no loopback one; "" where there is none, and then the node's own
            packets are left alone.
    """
    for place, rule in _rules(port, proxy_port, listens, host_ip):
        if place[1] not in (PORTALS_HOST, NODE_PORT_HOST) or host_ip or listens not in _EVERYWHERE:
            yield place, rule


def _rules(port: ServicePort, proxy_port: int, listens: str, host_ip: str) -> Iterator[tuple[TableChain, Rule]]:
    everywhere = listens in _EVERYWHERE
    to_host = f"DNAT --to-destination {join(host_ip if everywhere else listens, proxy_port)}"
    aside = f"REDIRECT --to-ports {proxy_port}" if everywhere else to_host
    yield _rule(PORTALS_CONTAINER, _match(port, port.port, port.cluster_ip), aside)
    yield _rule(PORTALS_HOST, _match(port, port.port, port.cluster_ip), to_host)
    for ip in port.external_ips:
        match = _match(port, port.port, ip)
        # Not what Pods send over the node's bridge: that is to leave for the outside, unless the address is here.
        yield _rule(PORTALS_CONTAINER, f"{match} -m physdev ! --physdev-is-in", aside)
        yield _rule(PORTALS_CONTAINER, f"{match} -m addrtype --dst-type LOCAL", aside)
        yield _rule(PORTALS_HOST, f"{match} -m addrtype --dst-type LOCAL", to_host)
    for ip in port.load_balancer_ips:
        yield _rule(PORTALS_CONTAINER, _match(port, port.port, ip), aside)
        yield _rule(PORTALS_HOST, _match(port, port.port, ip), to_host)
    if port.node_port:
        yield _rule(NODE_PORT_CONTAINER, _match(port, port.node_port), aside)
        yield _rule(NODE_PORT_HOST, _match(port, port.node_port), to_host)
        yield ("filter", NON_LOCAL), Rule(NON_LOCAL, f"{_match(port, proxy_port)} -m state --state NEW", "ACCEPT")


def _rule(chain: str, match: str, target: str) -> tuple[TableChain, Rule]:
    return ("nat", chain), Rule(chain, match, target)


def _match(port: ServicePort, number: int, ip: str = "") -> str:
    to = f" -d {ip}/{128 if ':' in ip else 32}" if ip else ""
    return f"-m comment --comment {port.name} -p {port.protocol} -m {port.protocol} --dport {number}{to}"


def chains(ports: Iterable[tuple[ServicePort, int]], listens: str, host_ip: str) -> dict[TableChain, tuple[Rule, ...]]:
    """Return all five chains for some Service ports and the ports that this process listens on for them."""
    found: dict[TableChain, list[Rule]] = {place: [] for place in CHAINS}
    for port, proxy_port in ports:
        for place, rule in rules(port, proxy_port, listens, host_ip):
            found[place].append(rule)
    return {place: tuple(each) for place, each in found.items()}


def text(wanted: Mapping[TableChain, tuple[Rule, ...]], inserts: Iterable[TableChain] = (),
         appends: Iterable[TableChain] = ()) -> str:
    """Return one restore text: the chains anew, and the jumps that are missing, on top or at the end."""
    tops, ends = tuple(inserts), tuple(appends)
    parts = []
    for table in ("filter", "nat"):
        lines = [f"*{table}", *(f":{chain} - [0:0]" for owner, chain in wanted if owner == table)]
        lines += [f"-I {chain} 1 {_tail(FIRST_JUMPS[owner, chain])}" for owner, chain in tops if owner == table]
        lines += [LAST_JUMPS[place].text for place in ends if place[0] == table]
        lines += [rule.text for (owner, _), each in wanted.items() if owner == table for rule in each]
        parts.append("\n".join((*lines, "COMMIT\n")))
    return "".join(parts)


def _tail(rule: Rule) -> str:
    return rule.text.removeprefix(f"-A {rule.chain} ")


def whole(wanted: Mapping[TableChain, tuple[Rule, ...]]) -> Ruleset:
    """Return the tables of a node that has nothing but these rules."""
    tables = {}
    for table in ("filter", "nat"):
        made: dict[str, Chain] = {}
        for hook in HOOKS[table]:
            jumps = [jumps[table, hook] for jumps in (FIRST_JUMPS, LAST_JUMPS) if (table, hook) in jumps]
            made[hook] = Chain(hook, tuple(jumps), "ACCEPT")
        made |= {name: Chain(name, each) for (owner, name), each in wanted.items() if owner == table}
        tables[table] = Table(table, made)
    return Ruleset(tables)
