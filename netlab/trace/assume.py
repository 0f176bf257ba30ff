"""The world of a prediction from API objects alone: the simplest network that carries such a cluster. Pure.

Each node has an `eth0` on one network with all others and a bridge `cni0` with its Pods; routes lead to the other
nodes' Pod ranges by their addresses. That is what bridge, host-local and host-gw make. Rules are those that kube-proxy
would write.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Final, TypeVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import UsageError
from netlab.netfilter.model import Ruleset
from netlab.netfilter.nft import NftTable
from netlab.netfilter.nft_eval import Book
from netlab.netfilter.stations import Beside
from netlab.trace.routing import Route
from netlab.trace.target import Objects, names
from netlab.trace.world import End, Link, Space, World

NETWORK: Final = "network"
OUTSIDE: Final = "outside"
_OUTSIDE: Final = {4: ("192.0.2.10", "192.0.2.1"), 6: ("2001:db8::10", "2001:db8::1")}
_ALL: Final = {4: "0.0.0.0/0", 6: "::/0"}
_BITS: Final = {4: 32, 6: 128}


T = TypeVar("T")


class Lazy(Mapping[int, T]):
    """What a node has for one family, such as its rules, worked out when a packet comes there."""

    def __init__(self, family: int, make: Callable[[], T]) -> None:
        self._family, self._make = family, make
        self._made: T | None = None

    def __getitem__(self, family: int) -> T:
        if family != self._family:
            raise KeyError(family)
        if self._made is None:
            self._made = self._make()
        return self._made

    def __iter__(self) -> Iterator[int]:
        return iter((self._family,))

    def __len__(self) -> int:
        return 1


def known(objects: Sequence[Object]) -> Objects:
    """Return the objects as destinations are looked up in."""
    def of(kind: str) -> list[Object]:
        return [each for each in objects if each.get("kind") == kind]

    return Objects(of("Service"), of("Pod"), of("Node"), {OUTSIDE: [_OUTSIDE[4][0], _OUTSIDE[6][0]]})


def world(objects: Sequence[Object], rules: Callable[[str], Ruleset | NftTable], *, family: int = 4) -> World:
    """Return the world of a cluster.

    Args:
        objects: its Nodes, Pods and Services.
        rules: what kube-proxy would write on a node, by the node's name; in nftables mode its table.
        family: 4 or 6.

    Raises:
        UsageError: there is no Node with an address of the family.
    """
    nodes = {meta.name(each): address for each in objects if each.get("kind") == "Node"
             and (address := _of(family, _node_ips(each)))}
    if not nodes:
        raise UsageError(f"there is no Node with an IPv{family} address among the objects",
                         hint="such as from: kubectl get svc,endpointslices,nodes,pods -A -o yaml")
    ranges = {meta.name(each): _of(family, (each.get("spec") or {}).get("podCIDRs") or
                                   [(each.get("spec") or {}).get("podCIDR") or ""])
              for each in objects if each.get("kind") == "Node"}
    pods = {f"pod/{meta.key(each)}": (str((each.get("spec") or {}).get("nodeName", "")), address)
            for each in objects if each.get("kind") == "Pod" and not (each.get("spec") or {}).get("hostNetwork")
            and (each.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
            and (address := _of(family, [entry["ip"] for entry in (each.get("status") or {}).get("podIPs") or ()] or
                                [(each.get("status") or {}).get("podIP") or ""]))}
    outside, router = _OUTSIDE[family]
    bits = _BITS[family]
    spaces = {
        OUTSIDE: Space(OUTSIDE, {"eth0": Link("eth0", "veth", far=End(NETWORK, OUTSIDE), cidrs=(f"{outside}/{bits}",))},
                       (Route(_ALL[family], "eth0", router),)),
        NETWORK: _network(nodes, ranges, family, objects)}
    for name, address in nodes.items():
        mine = {place: ip for place, (node, ip) in pods.items() if node == name}
        spaces[f"node/{name}"] = _node(name, address, nodes, ranges, mine, pods, family,
                                       partial(rules, name))
        gateway = _gateway(ranges.get(name, ""), address)
        for number, (place, ip) in enumerate(mine.items()):
            routes = [Route(_ALL[family], "eth0", gateway)]
            if _holds(ranges.get(name, ""), ip):
                routes.append(Route(ranges[name], "eth0"))
            link = Link("eth0", "veth", far=End(f"node/{name}", f"veth{number}"), cidrs=(f"{ip}/{bits}",))
            spaces[place] = Space(place, {"eth0": link}, tuple(routes))
    notes = ("each node has a bridge cni0 for its Pods, an eth0 on one network with the others, routes to their Pods",
             "rules are those that kube-proxy would write; every port is listened on")
    return World(spaces, names(known(objects)), notes)


def _network(nodes: Mapping[str, str], ranges: Mapping[str, str], family: int, objects: Sequence[Object]) -> Space:
    outside, router = _OUTSIDE[family]
    bits = _BITS[family]
    links = {"br0": Link("br0", "bridge", cidrs=(f"{router}/{bits}",)),
             OUTSIDE: Link(OUTSIDE, "veth", far=End(OUTSIDE, "eth0"), cidrs=(f"{router}/{bits}",))}
    links |= {name: Link(name, "veth", master="br0", far=End(f"node/{name}", "eth0")) for name in nodes}
    routes = [Route(f"{address}/{bits}", "br0") for address in nodes.values()]
    routes.append(Route(f"{outside}/{bits}", OUTSIDE))
    routes += [Route(cidr, "br0", nodes[node]) for node, cidr in ranges.items() if cidr and node in nodes]
    first = next(iter(nodes.values()))
    for each in objects:  # what a load balancer sends to some node
        if each.get("kind") == "Service":
            ingress = ((each.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
            asked = [entry.get("ip", "") for entry in ingress] + list((each.get("spec") or {}).get("externalIPs") or ())
            routes += [Route(f"{ip}/{bits}", "br0", first) for ip in asked if ip and _of(family, [ip])
                       and ip not in nodes.values()]
    return Space(NETWORK, links, tuple(routes))


def _node(name: str, address: str, nodes: Mapping[str, str], ranges: Mapping[str, str], mine: Mapping[str, str],
          pods: Mapping[str, tuple[str, str]], family: int,
          rules: Callable[[], Ruleset | NftTable]) -> Space:
    bits = _BITS[family]
    gateway = _gateway(ranges.get(name, ""), address)
    links = {"lo": Link("lo"), "eth0": Link("eth0", "veth", far=End(NETWORK, name), cidrs=(f"{address}/{bits}",)),
             "cni0": Link("cni0", "bridge", cidrs=(f"{gateway}/{bits}",) if gateway != address else ())}
    links |= {f"veth{number}": Link(f"veth{number}", "veth", master="cni0", hairpin=True, far=End(place, "eth0"))
              for number, place in enumerate(mine)}
    routes = [Route(_ALL[family], "eth0", _OUTSIDE[family][1])]
    routes += [Route(f"{other}/{bits}", "eth0") for node, other in nodes.items() if node != name]
    routes += [Route(cidr, "eth0", nodes[node]) for node, cidr in ranges.items() if cidr and node in nodes
               and node != name]
    if ranges.get(name):
        routes.append(Route(ranges[name], "cni0"))
    for node, ip in pods.values():  # those that their node's range does not hold
        if node == name:
            routes.append(Route(f"{ip}/{bits}", "cni0"))
        elif node in nodes and not _holds(ranges.get(node, ""), ip):
            routes.append(Route(f"{ip}/{bits}", "eth0", nodes[node]))
    made = cache(rules)
    return Space(f"node/{name}", links, tuple(routes), rules=Lazy(family, lambda: _iptables(made())),
                 beside=Lazy(family, lambda: _nftables(made())), bridge_calls=frozenset({4, 6}))


def _iptables(made: Ruleset | NftTable) -> Ruleset:
    return made if isinstance(made, Ruleset) else Ruleset()


def _nftables(made: Ruleset | NftTable) -> Beside:
    return Beside() if isinstance(made, Ruleset) else Beside(books=(Book(made),))


def cluster_cidr(objects: Sequence[Object], family: int = 4) -> str:
    """Return the smallest range that holds all nodes' Pod ranges, "" when no node has one."""
    found = [ipaddress.ip_network(cidr) for each in objects if each.get("kind") == "Node"
             and (cidr := _of(family, (each.get("spec") or {}).get("podCIDRs") or [
                 (each.get("spec") or {}).get("podCIDR") or ""]))]
    if not found:
        return ""
    whole = found[0]
    while not all(each.subnet_of(whole) for each in found):  # type: ignore[arg-type]
        whole = whole.supernet()
    return str(whole)


def _node_ips(node: Object) -> list[str]:
    listed = (node.get("status") or {}).get("addresses") or ()
    return [str(each["address"]) for each in listed if each.get("type") == "InternalIP"]


def _of(family: int, texts: Sequence[str]) -> str:
    return next((text for text in texts if text and (":" in text) == (family == 6)), "")


def _gateway(cidr: str, otherwise: str) -> str:
    return str(ipaddress.ip_network(cidr)[1]) if cidr else otherwise


def _holds(cidr: str, ip: str) -> bool:
    return bool(cidr) and ipaddress.ip_address(ip) in ipaddress.ip_network(cidr)
