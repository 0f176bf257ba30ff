"""The cables of a lab: the fabric (a bridge and a router), one eth0 per node, and `outside`, a host beyond the router.

```
outside 192.0.2.10 ── 192.0.2.1 [router in the fabric] 172.18.0.1 ── br0 ── eth0 of each node, 172.18.0.2…
outside 2001:db8::10 ── 2001:db8::1 … fd00:172:18::1 ── br0 ── fd00:172:18::2…      where the lab speaks IPv6
```
Nothing is named in the host: every namespace is a descriptor of the caller's and dies with it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netlab.errors import KernelError
from netlab.kernel import link, netns, route, sysctl
from netlab.kernel.rtnl import Rtnl
from netlab.lab import plan
from netlab.lab.plan import Lab, Node

BRIDGE = "br0"

# A router asks for its neighbours from its link-local address, which duplicate detection would keep back for a second
# or two; nobody else is on these links.
_NO_DETECTION = {"net.ipv6.conf.default.accept_dad": 0}
_NODE_SETTINGS = {
    **_NO_DETECTION,
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
}
_FABRIC_SETTINGS = {
    **_NO_DETECTION,
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.bridge.bridge-nf-call-iptables": 0,
    "net.bridge.bridge-nf-call-ip6tables": 0,
}


@dataclass
class Network:
    """The namespaces of a lab, by descriptor."""

    lab: Lab
    fabric: int
    outside: int
    nodes: dict[str, int]

    def close(self) -> None:
        """Let go of every namespace; the kernel takes links, addresses and rules with them."""
        for fd in (self.fabric, self.outside, *self.nodes.values()):
            with contextlib.suppress(OSError):
                os.close(fd)


def mark(lab: str) -> str:
    """Return the alias that every link of a lab bears."""
    return f"netlab:{lab}"


def port_name(node: Node, number: int) -> str:
    """Return the name of a node's port on the fabric: the node's own where it fits (15 bytes), else a number."""
    return node.name if len(node.name) <= 15 and node.name not in (BRIDGE, "outside", "lo") else f"port{number}"


def make(lab: Lab) -> Network:
    """Make and cable all namespaces of a lab (about 2 ms a node).

    Raises:
        KernelError: the kernel refused; nothing is left.
    """
    network = Network(lab, netns.new_netns(), netns.new_netns(), {})
    try:
        with _rtnl(network.fabric) as fabric:
            _settings(network.fabric, _FABRIC_SETTINGS)
            bridge = link.add_bridge(fabric, BRIDGE, mark=mark(lab.name), mac=plan.mac_of(lab.numbers[0].router))
            fabric.send(link.change("lo", up=True), *(link.new_address(bridge.ifindex, one.on_fabric(one.router))
                                                      for one in lab.numbers))
            fabric.send(*(link.new_address(bridge.ifindex, f"{way.address}/{128 if ':' in way.address else 32}")
                          for way in lab.ways if not way.loopback))
            _outside(network, fabric)
            for number, node in enumerate(lab.nodes):
                network.nodes[node.name] = netns.new_netns()
                _cable(network, fabric, bridge.ifindex, node, number)
    except BaseException:
        network.close()
        raise
    return network


def renew(network: Network, name: str) -> None:
    """Give a crashed node a fresh namespace behind the same descriptor: a machine that boots has no rules yet."""
    number, node = next((n, node) for n, node in enumerate(network.lab.nodes) if node.name == name)
    with _rtnl(network.fabric) as fabric:
        link.remove(fabric, port_name(node, number))
        fresh = netns.new_netns()
        os.dup2(fresh, network.nodes[name], inheritable=False)  # /run/netns links name the number
        os.close(fresh)
        _cable(network, fabric, link.get(fabric, BRIDGE).ifindex, node, number)


def ways(network: Network, place: str) -> tuple[list[list[str | int]], list[socket.socket]]:
    """Listen in the fabric, or on a control-plane node, for what is meant for an external etcd.

    Args:
        network: which.
        place: "fabric", or a node's name.

    Returns:
        Where connections to each socket have to be passed on to, and the sockets; the caller closes them.

    Raises:
        KernelError: somebody else listens there.
    """
    control = {node.name for node in network.lab.control_planes}
    found = [way for way in network.lab.ways if (place == "fabric") != way.loopback and place in ("fabric", *control)]
    sockets: list[socket.socket] = []
    with netns.inside(network.fabric if place == "fabric" else network.nodes[place]):
        for way in found:
            sock = socket.socket(socket.AF_INET6 if ":" in way.address else socket.AF_INET,
                                 socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            sockets.append(sock)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((way.address, way.port))
                sock.listen(256)
            except OSError as error:
                raise KernelError(f"cannot listen for the etcd on {way.address} port {way.port} of {place}: "
                                  f"{error.strerror}") from None
    return [[way.host, way.port] for way in found], sockets


def _outside(network: Network, fabric: Rtnl) -> None:
    lab, numbers = network.lab, network.lab.numbers
    fabric.send(link.new_veth("outside", "eth0", peer_netns=network.outside, mac=plan.mac_of(numbers[0].outside_router),
                              peer_mac=plan.mac_of(numbers[0].outside)),
                link.change("outside", up=True, alias=mark(lab.name)))
    index = link.get(fabric, "outside").ifindex
    fabric.send(*(link.new_address(index, one.on_link(one.outside_router)) for one in numbers))
    _configure(network.outside, [(one.on_link(one.outside), one.outside_router) for one in numbers], lab.name)
    link.settle(fabric, "outside")


def _cable(network: Network, fabric: Rtnl, bridge: int, node: Node, number: int) -> None:
    lab, port = network.lab, port_name(node, number)
    fd = network.nodes[node.name]
    _settings(fd, _NODE_SETTINGS)
    fabric.send(link.new_veth(port, "eth0", peer_netns=fd, peer_mac=node.mac, master=bridge),
                link.change(port, up=True, alias=mark(lab.name)))
    _configure(fd, [(one.on_fabric(ip), one.router) for ip, one in zip(node.ips, lab.numbers, strict=True)], lab.name)
    link.settle(fabric, port)


def _configure(fd: int, wanted: Sequence[tuple[str, str]], lab: str) -> None:
    """Set up eth0 with these (address, gateway)."""
    with _rtnl(fd) as sock:
        eth0 = link.get(sock, "eth0").ifindex
        sock.send(link.change("lo", up=True), link.change(eth0, up=True, alias=mark(lab)),
                  *(link.new_address(eth0, address) for address, _ in wanted),
                  *(route.new_route(route.Route("::/0" if ":" in gateway else "0.0.0.0/0", gateway, eth0))
                    for _, gateway in wanted))
        link.settle(sock, eth0)


def _settings(fd: int, wanted: dict[str, int]) -> None:
    with netns.inside(fd):
        for name, value in wanted.items():
            sysctl.set_if_possible(name, value)


@contextlib.contextmanager
def _rtnl(fd: int) -> Iterator[Rtnl]:
    sock = Rtnl(fd)
    try:
        yield sock
    finally:
        sock.close()
