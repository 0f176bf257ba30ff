"""What a node's network has to look like, from the Node objects of the API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Literal

from netlab.api import meta
from netlab.api.meta import Object

Backend = Literal["host-gw", "vxlan"]

NETWORK = "netlab"
DYNAMIC_FROM = "netlab.io/dynamic-from"
"""The annotation of a Node that says from which address on Pods get one that ask for none."""
BRIDGE = "cni0"
VERSION = "1.0.0"  # the highest that the plugins of Debian 12 speak: they can be put in the place of ours
MASQ_CHAIN = "NETLAB-MASQ"
FORWARD_CHAIN = "NETLAB-FORWARD"
VXLAN_OVERHEAD = {4: 50, 6: 70}  # bytes; outer IP, UDP and VXLAN headers and the inner Ethernet header


@dataclass(frozen=True)
class NodeView:
    """What matters of a Node: its name, its addresses on the underlay, its Pod ranges."""

    name: str
    ips: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    dynamic_from: str = ""
    """From which address on Pods get one that ask for none; "" for the range's first."""


@dataclass(frozen=True)
class Way:
    """How to reach another node's Pod range: by this gateway, which the link has to be trusted to reach."""

    dst: str
    gateway: str
    onlink: bool = False


@dataclass(frozen=True)
class Tunnel:
    """Another node's end of the overlay: VTEP address and Ethernet address, and the underlay address behind it."""

    vtep: str
    mac: str
    underlay: str


def view(node: Object) -> NodeView:
    """Read a Node. Addresses are its InternalIPs."""
    spec, status = node.get("spec", {}), node.get("status", {})
    ips = tuple(item["address"] for item in status.get("addresses") or () if item.get("type") == "InternalIP")
    cidrs = tuple(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else []))
    return NodeView(meta.name(node), ips, cidrs, meta.annotations(node).get(DYNAMIC_FROM, ""))


def conflist(pod_cidrs: Sequence[str], *, mtu: int, portmap: bool, dynamic_from: str = "") -> dict[str, Any]:
    """Return the CNI configuration of a node. `mtu` 0 leaves it to the kernel.

    A Pod may ask for its addresses (capability `ips`). Those that ask for none get one behind `dynamic_from` first.
    No ipMasq: it would rewrite the source of what Pods send to Pods of other nodes.
    """
    six = [cidr for cidr in pod_cidrs if ":" in cidr]
    four = [cidr for cidr in pod_cidrs if ":" not in cidr]
    routes = [{"dst": dst} for dst, listed in (("0.0.0.0/0", four), ("::/0", six)) if listed]
    bridge: dict[str, Any] = {"type": "bridge", "bridge": BRIDGE, "isGateway": True,
                              "ipMasq": False, "hairpinMode": True, "capabilities": {"ips": True},
                              "ipam": {"type": "host-local", "routes": routes,
                                       "ranges": [_ranges(cidr, dynamic_from) for cidr in pod_cidrs]}}
    if mtu:
        bridge["mtu"] = mtu
    plugins = [bridge]
    if portmap:
        plugins.append({"type": "portmap", "capabilities": {"portMappings": True}})
    return {"cniVersion": VERSION, "name": NETWORK, "plugins": plugins}


def _ranges(cidr: str, dynamic_from: str) -> list[dict[str, str]]:
    """Return the ranges of one family: with `dynamic_from` in it two, of which the upper one is given out first."""
    try:
        first = ip_address(dynamic_from)
    except ValueError:
        return [{"subnet": cidr}]
    network = ip_network(cidr)
    if first not in network or int(first) - 1 <= int(network[1]):
        return [{"subnet": cidr}]
    return [{"subnet": cidr, "rangeStart": str(first)}, {"subnet": cidr, "rangeEnd": str(first - 1)}]


def ways(me: NodeView, others: Iterable[NodeView], backend: Backend) -> tuple[Way, ...]:
    """Return the routes to the other nodes' Pod ranges.

    host-gw goes by the other node's own address, which has to be on the same link; vxlan by its VTEP's.
    """
    found = []
    for node in others:
        for cidr in node.pod_cidrs if node.name != me.name else ():
            gateway = vtep(cidr) if backend == "vxlan" else _ip_of(node, cidr)
            if gateway:
                found.append(Way(cidr, gateway, onlink=backend == "vxlan"))
    return tuple(sorted(found, key=lambda way: way.dst))


def tunnels(me: NodeView, others: Iterable[NodeView]) -> tuple[Tunnel, ...]:
    """Return the other nodes' ends of the overlay, one for each of their Pod ranges."""
    found = []
    for node in others:
        for cidr in node.pod_cidrs if node.name != me.name else ():
            underlay = _ip_of(node, me.ips[0] if me.ips else cidr) or (node.ips[0] if node.ips else "")
            if underlay:
                found.append(Tunnel(vtep(cidr), vtep_mac(node.pod_cidrs), underlay))
    return tuple(sorted(found, key=lambda tunnel: tunnel.vtep))


def vtep(cidr: str) -> str:
    """Return the overlay address of a node, the network address of its Pod range, as flannel has it."""
    return str(ip_network(cidr).network_address)


def vtep_mac(pod_cidrs: Sequence[str]) -> str:
    """Return the Ethernet address of a node's VTEP: all nodes can work it out, so none has to publish its own."""
    network = ip_network(pod_cidrs[0])
    end = max(4, -(-network.prefixlen // 8))  # the last bytes that the prefix reaches: those tell nodes apart
    return "0e:6c:" + network.network_address.packed[end - 4:end].hex(":")


def masquerade(cluster_cidrs: Sequence[str], family: Literal[4, 6], *, random_fully: bool) -> tuple[str, ...]:
    """Return the lines of the masquerade chain: what Pods send out of the cluster's range gets the node's address."""
    mine = [cidr for cidr in cluster_cidrs if ip_network(cidr).version == family]
    multicast = "224.0.0.0/4" if family == 4 else "ff00::/8"
    target = "MASQUERADE --random-fully" if random_fully else "MASQUERADE"
    inside = [f"-A {MASQ_CHAIN} -s {one} -d {other} -j RETURN" for one in mine for other in mine]
    return (*inside, *(f"-A {MASQ_CHAIN} -s {cidr} ! -d {multicast} -j {target}" for cidr in mine))


def masquerade_jump() -> str:
    """Return the line that leads to the masquerade chain."""
    return f'-A POSTROUTING -m comment --comment "netlab: Pods that talk to the world outside" -j {MASQ_CHAIN}'


def forward(cluster_cidrs: Sequence[str], family: Literal[4, 6]) -> tuple[str, ...]:
    """Return the lines of the forward chain, for nodes whose FORWARD policy drops."""
    mine = [cidr for cidr in cluster_cidrs if ip_network(cidr).version == family]
    return tuple(f"-A {FORWARD_CHAIN} -{side} {cidr} -j ACCEPT" for cidr in mine for side in "sd")


def forward_jump() -> str:
    """Return the line that leads to the forward chain."""
    return f'-A FORWARD -m comment --comment "netlab: to and from Pods" -j {FORWARD_CHAIN}'


def settings(cluster_cidrs: Sequence[str]) -> dict[str, int]:
    """Return the kernel settings without which a node forwards nothing."""
    wanted = {"net.ipv4.ip_forward": 1} if any(":" not in cidr for cidr in cluster_cidrs) else {}
    if any(":" in cidr for cidr in cluster_cidrs):
        wanted["net.ipv6.conf.all.forwarding"] = 1
    return wanted


def bridge_settings(cluster_cidrs: Sequence[str]) -> dict[str, int]:
    """Return the settings that bring bridged packets to iptables: a Pod's Service may be a Pod on the same bridge."""
    wanted = {"net.bridge.bridge-nf-call-iptables": 1} if any(":" not in cidr for cidr in cluster_cidrs) else {}
    if any(":" in cidr for cidr in cluster_cidrs):
        wanted["net.bridge.bridge-nf-call-ip6tables"] = 1
    return wanted


def check_cidrs(texts: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks of `--cluster-cidr`.

    Raises:
        ValueError: one is no network.
    """
    return tuple(ip_network(text) for text in texts)


def _ip_of(node: NodeView, like: str) -> str:
    """Return the node's address of the family that `like` (an address or a range) is of."""
    six = ":" in like
    return next((ip for ip in node.ips if (ip_address(ip).version == 6) == six), "")
