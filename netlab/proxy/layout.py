"""What every node has, whatever its Services: jumps out of the built-in chains, shared chains, canaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from netlab.netfilter.model import Rule
from netlab.proxy import names
from netlab.proxy.addresses import contains, family
from netlab.proxy.rules import TableChain
from netlab.proxy.settings import INVALID_COUNTER, Settings

_NEW: Final = "-m conntrack --ctstate NEW"
_EXTERNAL: Final = f'{_NEW} -m comment --comment "kubernetes externally-visible service portals"'
_HEALTH: Final = '-m comment --comment "kubernetes health check service ports"'
_PORTALS: Final = '-m comment --comment "kubernetes service portals"'
_FORWARDING: Final = '-m comment --comment "kubernetes forwarding rules"'
_BALANCER: Final = f'{_NEW} -m comment --comment "kubernetes load balancer firewall"'

JUMPS: Final[Mapping[TableChain, tuple[Rule, ...]]] = {
    ("filter", "INPUT"): (
        Rule("INPUT", "", names.KUBELET_FIREWALL),
        Rule("INPUT", _BALANCER, names.PROXY_FIREWALL),
        Rule("INPUT", _HEALTH, names.NODE_PORTS),
        Rule("INPUT", _EXTERNAL, names.EXTERNAL_SERVICES),
    ),
    ("filter", "FORWARD"): (
        Rule("FORWARD", _BALANCER, names.PROXY_FIREWALL),
        Rule("FORWARD", _FORWARDING, names.FORWARD),
        Rule("FORWARD", f"{_NEW} {_PORTALS}", names.SERVICES),
        Rule("FORWARD", _EXTERNAL, names.EXTERNAL_SERVICES),
    ),
    ("filter", "OUTPUT"): (
        Rule("OUTPUT", "", names.KUBELET_FIREWALL),
        Rule("OUTPUT", _BALANCER, names.PROXY_FIREWALL),
        Rule("OUTPUT", f"{_NEW} {_PORTALS}", names.SERVICES),
    ),
    ("nat", "PREROUTING"): (Rule("PREROUTING", _PORTALS, names.SERVICES),),
    ("nat", "OUTPUT"): (Rule("OUTPUT", _PORTALS, names.SERVICES),),
    ("nat", "POSTROUTING"): (
        Rule("POSTROUTING", '-m comment --comment "kubernetes postrouting rules"', names.POSTROUTING),
    ),
}
"""The rules in built-in chains, in the order in which they are to stand above all foreign ones."""

KUBELETS: Final = frozenset({("filter", "INPUT"), ("filter", "OUTPUT")})
"""Where a jump to KUBE-FIREWALL belongs to the kubelet as well, so that a cleanup leaves it."""

CANARY_TABLES: Final = ("mangle", "nat", "filter")
"""Each holds an empty chain KUBE-PROXY-CANARY: when it is gone, somebody flushed the table."""

SHARED: Final[tuple[TableChain, ...]] = (
    ("filter", names.SERVICES), ("filter", names.EXTERNAL_SERVICES), ("filter", names.FORWARD),
    ("filter", names.NODE_PORTS), ("filter", names.PROXY_FIREWALL),
    ("nat", names.MARK_MASQ), ("nat", names.POSTROUTING), ("nat", names.NODE_PORTS), ("nat", names.SERVICES),
)
"""The chains that all Services share. KUBE-SERVICES of nat comes last: it is what opens the way to the others."""


def fixed_rules(settings: Settings) -> Iterator[tuple[TableChain, Rule]]:
    """Yield the rules of the shared chains that depend on no Service, except the tail of nat's KUBE-SERVICES."""
    chain, mark = names.POSTROUTING, settings.mark
    yield ("nat", chain), Rule(chain, f"-m mark ! --mark {mark}/{mark}", "RETURN")
    yield ("nat", chain), Rule(chain, "", f"MARK --xor-mark {mark}")  # a packet may come through here again
    masquerade = "MASQUERADE --random-fully" if settings.random_fully else "MASQUERADE"
    yield ("nat", chain), Rule(chain, '-m comment --comment "kubernetes service traffic requiring SNAT"', masquerade)
    yield ("nat", names.MARK_MASQ), Rule(names.MARK_MASQ, "", f"MARK --or-mark {mark}")
    if settings.family == "IPv4" and settings.localhost_node_ports:
        # route_localnet lets neighbours speak to 127.0.0.1 (CVE-2020-8558); the kubelet writes the same rule.
        yield ("filter", names.KUBELET_FIREWALL), Rule(
            names.KUBELET_FIREWALL, '-m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 '
            "! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", "DROP")
    chain = names.FORWARD
    if not settings.conntrack_liberal:
        counted = f" -m nfacct --nfacct-name {INVALID_COUNTER}" if INVALID_COUNTER in settings.counters else ""
        yield ("filter", chain), Rule(chain, f"-m conntrack --ctstate INVALID{counted}", "DROP")
    yield ("filter", chain), Rule(chain, f"{_FORWARDING} -m mark --mark {mark}/{mark}", "ACCEPT")
    yield ("filter", chain), Rule(chain, '-m comment --comment "kubernetes forwarding conntrack rule" '
                                         "-m conntrack --ctstate RELATED,ESTABLISHED", "ACCEPT")


def node_port_tail(settings: Settings) -> Iterator[Rule]:
    """Yield the last rules of nat's KUBE-SERVICES: what is for this node itself may be for a node port."""
    chain = names.SERVICES
    said = '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
    if settings.everywhere:
        but = " ! -d ::1/128" if settings.family == "IPv6" else ""
        but = but or ("" if settings.localhost_node_ports else " ! -d 127.0.0.0/8")
        yield Rule(chain, f"{said} -m addrtype --dst-type LOCAL{but}", names.NODE_PORTS)
        return
    for ip in node_port_ips(settings):
        yield Rule(chain, f"{said} -d {ip}", names.NODE_PORTS)


def node_port_ips(settings: Settings) -> tuple[str, ...]:
    """Return the node's addresses that node ports are served on when only some are wanted."""
    found = []
    for ip in settings.node_addresses:
        loopback = ip == "::1" or ip.startswith("127.")
        if loopback and (settings.family == "IPv6" or not settings.localhost_node_ports):
            continue
        if family(ip) == settings.family and any(contains(net, ip) for net in settings.node_port_addresses):
            found.append(ip)
    return tuple(found)
