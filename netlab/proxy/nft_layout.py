"""What every node has in nftables mode, whatever its Services: sets and maps, base chains, and the chains between.

The order of hooks is what makes it work: a load balancer's firewall looks at packets before their destination is
rewritten, rejecting needs the hooks behind routing, and nat comes in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from netlab.proxy import nft_names as names
from netlab.proxy.layout import node_port_ips
from netlab.proxy.nft_rules import Key, ip_word, mark, not_local
from netlab.proxy.settings import Settings

TABLE_COMMENT: Final = "rules for kube-proxy"


@dataclass(frozen=True, slots=True)
class SetKind:
    """The declaration of a set, or of a map when its type has a value."""

    type: str
    comment: str

    @property
    def word(self) -> str:
        """Return nft's word for it."""
        return "map" if " : " in self.type else "set"


@dataclass(frozen=True, slots=True)
class Fixed:
    """A node's table without Services. `hooks` are base chains' own lines, `chains` rules, `comments` of chains."""

    sets: Mapping[str, SetKind] = field(default_factory=dict)
    hooks: Mapping[str, str] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)
    elements: Mapping[Key, str] = field(default_factory=dict)


HOOKS: Final[Mapping[str, str]] = {
    "filter-prerouting-pre-dnat": "type filter hook prerouting priority dstnat - 10; policy accept;",
    "filter-output-pre-dnat": "type filter hook output priority -110; policy accept;",
    "filter-input": "type filter hook input priority filter; policy accept;",
    "filter-forward": "type filter hook forward priority filter; policy accept;",
    "filter-output": "type filter hook output priority filter; policy accept;",
    "nat-prerouting": "type nat hook prerouting priority dstnat; policy accept;",
    "nat-output": "type nat hook output priority -100; policy accept;",
    "nat-postrouting": "type nat hook postrouting priority srcnat; policy accept;",
}

_JUMPS: Final[Mapping[str, tuple[str, ...]]] = {
    "filter-prerouting-pre-dnat": ("ct state new jump firewall-check",),
    "filter-output-pre-dnat": ("ct state new jump firewall-check",),
    "filter-input": ("ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"),
    "filter-forward": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
    "filter-output": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
    "nat-prerouting": ("jump services",),
    "nat-output": ("jump services",),
    "nat-postrouting": ("jump masquerading",),
}


def fixed(settings: Settings) -> Fixed:
    """Return the table of a node that has no Services."""
    # What is jumped to comes first, so that the chains can be written in this order.
    chains = {names.REJECT: ("reject",), **dict(_checks(settings)), "services": tuple(_services(settings)),
              "masquerading": tuple(_masquerading(settings)), **_JUMPS}
    elements = {} if settings.everywhere else {(names.NODEPORT_IPS, ip): "" for ip in node_port_ips(settings)
                                               if not ip.startswith("127.")}
    return Fixed(dict(_sets(settings)), HOOKS, chains,
                 {names.REJECT: "helper for @no-endpoint-services / @no-endpoint-nodeports"}, elements)


def _sets(settings: Settings) -> Iterator[tuple[str, SetKind]]:
    address = "ipv6_addr" if settings.family == "IPv6" else "ipv4_addr"
    to_port = "inet_proto . inet_service"
    yield names.HAIRPIN, SetKind(f"{address} . {address} . {to_port}", "service hairpin connections")
    yield names.CLUSTER_IPS, SetKind(address, "Active ClusterIPs")
    if not settings.everywhere:
        yield names.NODEPORT_IPS, SetKind(address, "IPs that accept NodePort traffic")
    for name, key, comment in (
            (names.NO_ENDPOINT_SERVICES, f"{address} . {to_port}",
             "vmap to drop or reject packets to services with no endpoints"),
            (names.NO_ENDPOINT_NODEPORTS, to_port,
             "vmap to drop or reject packets to service nodeports with no endpoints"),
            (names.FIREWALL_IPS, f"{address} . {to_port}",
             "destinations that are subject to LoadBalancerSourceRanges"),
            (names.SERVICE_IPS, f"{address} . {to_port}", "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
            (names.SERVICE_NODEPORTS, to_port, "NodePort traffic")):
        yield name, SetKind(f"{key} : verdict", comment)


def _checks(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    ip = ip_word(settings)
    to_port = f"{ip} daddr . meta l4proto . th dport vmap"
    there = _not_loopback(settings) if settings.everywhere else f"{ip} daddr @{names.NODEPORT_IPS}"
    yield "nodeport-endpoints-check", (f"{there} meta l4proto . th dport vmap @{names.NO_ENDPOINT_NODEPORTS}",)
    yield "service-endpoints-check", (f"{to_port} @{names.NO_ENDPOINT_SERVICES}",)
    yield "firewall-check", (f"{to_port} @{names.FIREWALL_IPS}",)
    rules = [f'{ip} daddr @{names.CLUSTER_IPS} reject comment "Reject traffic to invalid ports of ClusterIPs"']
    cidrs = settings.service_cidrs
    if cidrs:
        where = cidrs[0] if len(cidrs) == 1 else f"{{ {', '.join(cidrs)} }}"
        rules.append(f'{ip} daddr {where} drop comment "Drop traffic to unallocated ClusterIPs"')
    yield "cluster-ips-check", tuple(rules)


def _services(settings: Settings) -> Iterator[str]:
    ip = ip_word(settings)
    if settings.masquerade_all:
        yield f'{ip} daddr @{names.CLUSTER_IPS} {mark(settings)} comment "masquerade clusterIP traffic"'
    elif match := not_local(settings.detector, ip):
        yield (f"{ip} daddr @{names.CLUSTER_IPS} {match} {mark(settings)} "
               'comment "masquerade clusterIP traffic from outside cluster"')
    yield f"{ip} daddr . meta l4proto . th dport vmap @{names.SERVICE_IPS}"
    there = f"{ip} daddr @{names.NODEPORT_IPS}"
    if settings.everywhere:
        there = f"fib daddr type local {_not_loopback(settings)}"
    yield f"{there} meta l4proto . th dport vmap @{names.SERVICE_NODEPORTS}"


def _masquerading(settings: Settings) -> Iterator[str]:
    ip, bit = ip_word(settings), settings.mark
    yield (f"meta mark & {bit} != 0x00000000 meta mark set meta mark ^ {bit} "  # a packet may come through here again
           "masquerade fully-random")
    yield (f"ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @{names.HAIRPIN} "
           "masquerade fully-random")


def _not_loopback(settings: Settings) -> str:
    return "ip6 daddr != ::1" if settings.family == "IPv6" else "ip daddr != 127.0.0.0/8"
