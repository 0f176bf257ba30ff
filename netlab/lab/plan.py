"""A lab on paper, pure: which nodes, with which names, addresses and roles; all later steps read it from here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Final, Literal, get_args

from netlab.api.node_labels import may_label
from netlab.errors import UsageError
from netlab.lab.external import External, Way

API_PORT = 6443
DOMAIN = "cluster.local"

Role = Literal["control-plane", "worker"]
CONTROL_ROLE: Final = "node-role.kubernetes.io/control-plane"
NOT_BALANCED: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
Store = Literal["embedded", "etcd", "netlab-etcd", "external"]
STORES: tuple[Store, ...] = get_args(Store)
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

    @property
    def beyond(self) -> str:
        """Return the network of the link to `outside`."""
        return str(ipaddress.ip_interface(self.on_link(self.outside)).network)

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
    def given_labels(self) -> Mapping[str, str]:
        """Return the labels that an administrator gives it, such as its role: its kubelet may not."""
        role = dict.fromkeys((CONTROL_ROLE, NOT_BALANCED), "") if self.control else {}
        return {**role, **{key: value for key, value in self.labels.items() if not may_label(key)}}

    @property
    def own_labels(self) -> Mapping[str, str]:
        """Return the labels that its kubelet registers it with."""
        return {key: value for key, value in self.labels.items() if may_label(key)}

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

    `pod_cidrs` and `service_cidrs` have one range of each family that the lab speaks, the main family first; so have
    `node_cidrs`, the nodes' networks, and `routers`, the addresses of their router. Both are () for the usual ones.
    `store` is where objects are kept: in the API server's process, in `store_members` static Pods of an etcd, or in the
    etcd `external`, to which the `ways` lead.
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
    node_cidrs: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    external: External | None = None
    ways: tuple[Way, ...] = ()

    @property
    def families(self) -> tuple[int, ...]:
        """Return 4 and 6, those that the lab speaks, the main one first."""
        return tuple(version(cidr) for cidr in self.service_cidrs)

    @property
    def numbers(self) -> tuple[Numbers, ...]:
        """Return the lab's own addresses, by family in that order."""
        usual = tuple(NUMBERS[family] for family in self.families)
        return tuple(replace(one, underlay=cidr, router=router) for one, cidr, router in zip(
            usual, self.node_cidrs, self.routers, strict=True)) if self.node_cidrs else usual

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


def _addresses(cidr: str, wishes: Sequence[NodeWish]) -> tuple[str, list[str]]:
    """Return the router's address on a network of nodes, and each node's: the one wished for, else the next free one.

    Raises:
        UsageError: an address is not on the network, or wished for twice, or there are too few.
    """
    network = ipaddress.ip_network(cidr)
    asked = [next((ip for ip in wish.addresses if version(ip) == network.version), "") for wish in wishes]
    wanted = [ip for ip in asked if ip]
    ends = (network[0], network[-1]) if network.version == 4 else (network[0],)
    for ip in wanted:
        if ipaddress.ip_address(ip) not in network or ipaddress.ip_address(ip) in ends:
            raise UsageError(f"the address {ip} of a node is not on the nodes' network {network}")
        if wanted.count(ip) > 1:
            raise UsageError(f"two nodes have the address {ip}")
    free = (str(ip) for ip in network.hosts() if str(ip) not in wanted)
    try:
        return next(free), [ip or next(free) for ip in asked]
    except (StopIteration, RuntimeError):
        raise UsageError(f"the nodes' network {network} is too small for {len(wishes)} nodes and a router") from None


def from_json(document: Mapping[str, Any]) -> Lab:
    """Return a lab as `dataclasses.asdict` and JSON have left it."""
    nodes = tuple(Node(**{**node, "ips": tuple(node["ips"]), "pod_cidrs": tuple(node["pod_cidrs"]),
                           "taints": None if node["taints"] is None else tuple(
                               Taint(**taint) for taint in node["taints"])}) for node in document["nodes"])
    external = document.get("external")
    return Lab(**{**document, "nodes": nodes,
                  "external": External(**{**external, "endpoints": tuple(external["endpoints"])}) if external else None,
                  "ways": tuple(Way(**way) for way in document.get("ways") or ()),
                  "pod_cidrs": tuple(document["pod_cidrs"]),
                  "service_cidrs": tuple(document["service_cidrs"]),
                  **{key: tuple(document.get(key) or ()) for key in ("node_cidrs", "routers")}})


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
         store_members: int = 1, node_cidrs: Sequence[str] = (), external: External | None = None) -> Lab:
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
    asked = [wish or NodeWish("worker" if number else "control-plane")
             for number, (_, wish) in enumerate(zip_longest(usual, wishes[:len(usual)]))]
    underlays = tuple(node_cidrs) or tuple(NUMBERS[version(cidr)].underlay for cidr in service_cidrs)
    routers, columns = zip(*(_addresses(cidr, asked) for cidr in underlays), strict=True)
    nodes = [Node(wish.name or plain, wish.role, ips, wish.labels, wish.taints, wish.pod_cidrs, wish.dynamic_from)
             for plain, wish, ips in zip(usual, asked, zip(*columns, strict=True), strict=True)]
    ranges = [bool(node.pod_cidrs) for node in nodes]
    if any(ranges) and not all(ranges):
        raise UsageError("either all nodes have a podSubnet or none: the others' would be chosen without a look at it")
    twice = next((node.name for n, node in enumerate(nodes) if node.name in {one.name for one in nodes[:n]}), "")
    if twice:
        raise UsageError(f'two nodes are called "{twice}"')
    lab = Lab(name, tuple(nodes), backend, tuple(pod_cidrs), tuple(service_cidrs), dict(kube_proxy or {}),
              store=store, store_members=check_members(store, store_members), node_cidrs=underlays,
              routers=routers, external=external)
    for cidr, mask in zip(lab.pod_cidrs, lab.node_masks(), strict=True):
        if mask > (30 if version(cidr) == 4 else 126):
            raise UsageError(f"the Pod range {cidr} is too small for {len(nodes)} nodes")
    return lab
