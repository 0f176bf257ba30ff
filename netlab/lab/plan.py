"""A lab on paper, pure: which nodes, with which names, addresses and roles; all later steps read it from here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from netlab.errors import UsageError

API_PORT = 6443
DOMAIN = "cluster.local"

Role = Literal["control-plane", "worker"]
Store = Literal["embedded", "etcd", "netlab-etcd"]
IpFamily = Literal["ipv4", "ipv6", "dual"]
"""kind's words for networking.ipFamily."""


@dataclass(frozen=True)
class Numbers:
    """The addresses of one family that a lab has beside those of its nodes, and its ranges where nothing is asked for.

    The router has an address on the fabric and one on the link to `outside`. The ranges are kind's.
    """

    underlay: str
    router: str
    outside: str
    outside_router: str
    pod_cidr: str
    service_cidr: str
    node_mask: int

    def on_fabric(self, ip: str) -> str:
        """Return an address of the fabric with its prefix length."""
        return f"{ip}/{self.underlay.partition('/')[2]}"

    def on_link(self, ip: str) -> str:
        """Return an address of the link to `outside` with its prefix length."""
        return f"{ip}/{64 if ':' in ip else 24}"


NUMBERS: Mapping[int, Numbers] = {
    4: Numbers("172.18.0.0/16", "172.18.0.1", "192.0.2.10", "192.0.2.1", "10.244.0.0/16", "10.96.0.0/16", 24),
    6: Numbers("fd00:172:18::/64", "fd00:172:18::1", "2001:db8::10", "2001:db8::1", "fd00:10:244::/56",
               "fd00:10:96::/112", 64)}
FAMILIES: Mapping[IpFamily, tuple[int, ...]] = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}

UNDERLAY = NUMBERS[4].underlay
ROUTER = NUMBERS[4].router
OUTSIDE = NUMBERS[4].outside
OUTSIDE_ROUTER = NUMBERS[4].outside_router
POD_CIDR = NUMBERS[4].pod_cidr
SERVICE_CIDR = NUMBERS[4].service_cidr
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"


@dataclass(frozen=True)
class Taint:
    """One taint that a node registers with."""

    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True)
class Node:
    """A node that is to be: `ips` are its addresses on the fabric, at most one of each family, the main one first.

    `taints` None leaves them to the role: a control plane with workers beside it takes no ordinary Pods. `pod_cidrs` ()
    leaves its Pod ranges to the controller manager; `dynamic_from` is the first address of Pods that ask for none.
    """

    name: str
    role: Role
    ips: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] | None = None
    pod_cidrs: tuple[str, ...] = ()
    dynamic_from: str = ""

    @property
    def ip(self) -> str:
        """Return the main address."""
        return self.ips[0]

    @property
    def control(self) -> bool:
        """Tell whether the control plane runs here."""
        return self.role == "control-plane"

    @property
    def mac(self) -> str:
        """Return a MAC address that shows the IP address, as Docker's bridge network has them."""
        return mac_of(self.ip)


@dataclass(frozen=True)
class NodeWish:
    """What is asked of a node: a name ("" for the usual one), labels, taints (None: those of its role)."""

    role: Role = "worker"
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] | None = None
    addresses: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    dynamic_from: str = ""


@dataclass(frozen=True)
class Lab:
    """What is to be built. `backend` is netd's: host-gw or vxlan.

    `pod_cidrs` and `service_cidrs` have one range of each family that the lab speaks, the main family first.
    `store` is where objects are kept: in the API server's process, or in `store_members` static Pods of an etcd.
    `kube_proxy` is laid over its KubeProxyConfiguration; `images` are images in place of ours, by component.
    """

    name: str
    nodes: tuple[Node, ...]
    backend: str = "host-gw"
    pod_cidrs: tuple[str, ...] = (POD_CIDR,)
    service_cidrs: tuple[str, ...] = (SERVICE_CIDR,)
    kube_proxy: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    store: Store = "embedded"
    store_members: int = 1

    @property
    def families(self) -> tuple[int, ...]:
        """Return 4 and 6, those that the lab speaks, the main one first."""
        return tuple(version(cidr) for cidr in self.service_cidrs)

    @property
    def numbers(self) -> tuple[Numbers, ...]:
        """Return the lab's own addresses, by family in that order."""
        return tuple(NUMBERS[family] for family in self.families)

    @property
    def control_planes(self) -> tuple[Node, ...]:
        """Return the nodes that run the control plane; the first one is where everybody connects."""
        return tuple(node for node in self.nodes if node.control)

    @property
    def api_url(self) -> str:
        """Return the API server's address inside the lab."""
        return f"https://{bracketed(self.control_planes[0].ip)}:{API_PORT}"

    @property
    def api_services(self) -> tuple[str, ...]:
        """Return the addresses of the Service `kubernetes`: the first of each range."""
        return tuple(str(ipaddress.ip_network(cidr)[1]) for cidr in self.service_cidrs)

    @property
    def dns_service(self) -> str:
        """Return the address of the cluster's DNS: the tenth of the main range, as kubeadm chooses it."""
        return str(ipaddress.ip_network(self.service_cidrs[0])[10])

    def node_masks(self) -> tuple[int, ...]:
        """Return the prefix length of a node's Pod range in each family: the usual one, or what all nodes fit into."""
        return tuple(max(NUMBERS[version(cidr)].node_mask,
                         ipaddress.ip_network(cidr).prefixlen + (len(self.nodes) - 1).bit_length())
                     for cidr in self.pod_cidrs)


def check_members(store: Store, members: int) -> int:
    """Return the number of members.

    Raises:
        UsageError: that store can't have so many.
    """
    if members not in ((1, 3, 5) if store == "etcd" else (1,)):
        raise UsageError(f"{members} members of the store {store}: " + (
            "choose 1, 3 or 5" if store == "etcd" else "only etcd has more than one"))
    return members


def _addresses(usual: tuple[str, ...], wish: NodeWish, wishes: Sequence[NodeWish]) -> tuple[str, ...]:
    """Return a node's addresses: those wished for, and in the families without one the first that nobody wishes for.

    Raises:
        UsageError: an address is not on the nodes' network.
    """
    taken = {address for each in wishes for address in each.addresses}
    found = []
    for ip in usual:
        mine = next((address for address in wish.addresses if version(address) == version(ip)), "")
        network = ipaddress.ip_network(NUMBERS[version(ip)].underlay)
        asked = ipaddress.ip_address(mine or ip)
        if asked not in network or asked in (network[0], network[1]):
            raise UsageError(f"the address {mine} of a node is not on the nodes' network {network}")
        number = int(ipaddress.ip_address(ip)) - int(network[0])
        while not mine and str(network[number]) in taken:
            number += 256
        found.append(mine or str(network[number]))
    return tuple(found)


def from_json(document: Mapping[str, Any]) -> Lab:
    """Return a lab as `dataclasses.asdict` and JSON have left it."""
    nodes = tuple(Node(**{**node, "ips": tuple(node["ips"]), "pod_cidrs": tuple(node["pod_cidrs"]),
                           "taints": None if node["taints"] is None else tuple(
                               Taint(**taint) for taint in node["taints"])}) for node in document["nodes"])
    return Lab(**{**document, "nodes": nodes, "pod_cidrs": tuple(document["pod_cidrs"]),
                  "service_cidrs": tuple(document["service_cidrs"])})


def version(text: str) -> int:
    """Return 4 or 6: the family of an address or a range."""
    return 6 if ":" in text else 4


def bracketed(ip: str) -> str:
    """Return an address as a URL and host:port have it."""
    return f"[{ip}]" if ":" in ip else ip


def mac_of(ip: str) -> str:
    """Return 02:42: and the four last bytes of an address."""
    return ":".join(["02", "42", *(f"{byte:02x}" for byte in ipaddress.ip_address(ip).packed[-4:])])


def make(name: str, *, workers: int, control_planes: int = 1, names: Sequence[str] = (), backend: str = "host-gw",
         pod_cidrs: Sequence[str] = (POD_CIDR,), service_cidrs: Sequence[str] = (SERVICE_CIDR,),
         wishes: Sequence[NodeWish] = (), kube_proxy: Mapping[str, Any] | None = None, store: Store = "embedded",
         store_members: int = 1) -> Lab:
    """Return the plan of a lab; node n (from 0) gets the address 172.18.0.(n+2), control planes first.

    Args:
        names: names of the workers, where `worker1`, `worker2`… are not wanted.
        wishes: what is asked of single nodes, the control plane's first; the nodes after the last one are plain.

    Raises:
        UsageError: numbers that no lab can have, or two nodes of one name.
    """
    if control_planes != 1 or any((wish.role == "control-plane") != (n == 0) for n, wish in enumerate(wishes)):
        raise UsageError("a lab has exactly one control-plane node")
    if not 0 <= workers <= 200:
        raise UsageError(f"{workers} workers: choose 0 to 200")
    usual = ["control-plane", *(names or [f"worker{number}" for number in range(1, workers + 1)])]
    nodes = []
    for number, (plain, wish) in enumerate(zip_longest(usual, wishes[:len(usual)])):
        wish = wish or NodeWish("worker" if number else "control-plane")
        ips = tuple(str(ipaddress.ip_network(NUMBERS[version(cidr)].underlay)[2 + number]) for cidr in service_cidrs)
        nodes.append(Node(wish.name or plain, wish.role, _addresses(ips, wish, wishes), wish.labels, wish.taints,
                          wish.pod_cidrs, wish.dynamic_from))
    ranges = [bool(node.pod_cidrs) for node in nodes]
    if any(ranges) and not all(ranges):
        raise UsageError("either all nodes have a podSubnet or none: the others' would be chosen without a look at it")
    twice = next((node.name for n, node in enumerate(nodes) if node.name in {one.name for one in nodes[:n]}), "")
    if twice:
        raise UsageError(f'two nodes are called "{twice}"')
    lab = Lab(name, tuple(nodes), backend, tuple(pod_cidrs), tuple(service_cidrs), dict(kube_proxy or {}),
              store=store, store_members=check_members(store, store_members))
    for cidr, mask in zip(lab.pod_cidrs, lab.node_masks(), strict=True):
        if mask > (30 if version(cidr) == 4 else 126):
            raise UsageError(f"the Pod range {cidr} is too small for {len(nodes)} nodes")
    return lab
