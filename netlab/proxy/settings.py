"""The facts about a node and the choices of its administrator that rules depend on, for one address family."""

from __future__ import annotations

from dataclasses import dataclass

from netlab.proxy.addresses import Family, is_everything

INVALID_COUNTER = "ct_state_invalid_dropped_pkts"
LOCALHOST_COUNTER = "localhost_nps_accepted_pkts"
"""The nfacct objects that the rules count into (kubernetes: pkg/proxy/metrics)."""


@dataclass(frozen=True, slots=True)
class LocalDetector:
    """How to tell that a packet comes from a Pod of this node (KEP-2450): by source network, or by interface.

    `match` is the condition in iptables' words, `-s 10.244.0.0/16` or `-i veth+`; "" when there is no way to tell.
    """

    match: str = ""

    @property
    def local(self) -> str:
        """Return the condition for traffic of local Pods."""
        return self.match

    @property
    def not_local(self) -> str:
        """Return the condition for all other traffic."""
        return f"! {self.match}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything but Services and endpoints. Two equal settings and the same objects give the same rules.

    `node_ip` is the node's own address of this family, "" when unknown. `node_port_addresses` are the networks that
    node ports are served on, () for every local address; `node_addresses` the node's own addresses to choose from.
    `counters` names the nfacct objects that exist. `conntrack_liberal` is the sysctl nf_conntrack_tcp_be_liberal.
    `service_cidrs` are the networks of cluster addresses, as far as the API server tells.
    """

    family: Family = "IPv4"
    node: str = ""
    node_ip: str = ""
    zone: str = ""
    detector: LocalDetector = LocalDetector()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    random_fully: bool = True
    localhost_node_ports: bool = True
    node_port_addresses: tuple[str, ...] = ()
    node_addresses: tuple[str, ...] = ()
    counters: frozenset[str] = frozenset()
    conntrack_liberal: bool = False
    service_cidrs: tuple[str, ...] = ()

    @property
    def own_ip(self) -> str:
        """Return the node's address of this family; loopback's, as upstream has it, for a Node that tells none."""
        return self.node_ip or ("::1" if self.family == "IPv6" else "127.0.0.1")

    @property
    def mark(self) -> str:
        """Return the bit that marks what is to be masqueraded, in the form that kube-proxy writes."""
        return f"0x{1 << self.masquerade_bit:08x}"

    @property
    def everywhere(self) -> bool:
        """Tell whether node ports are served on every address of the node."""
        return not self.node_port_addresses or any(is_everything(each) for each in self.node_port_addresses)
