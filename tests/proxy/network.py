"""A real network around one node: Pods on its bridge, a second node's Pods behind a cable, a client from outside.

    client, web-1, web-2 ── cni0 ─ node ─ eth0 ── wire ── far (Pods of the other node), outside

All have an IPv4 and an IPv6 address. The node has the rules under test. Every server answers with its own address and the
one it saw the client under.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from netlab.kernel import iptables, netns
from netlab.netfilter import render
from netlab.netfilter.matching import Host, Route
from netlab.netfilter.model import Ruleset
from tests.proxy.builders import NODE_IP

BRIDGE_IP = "10.244.1.1"
PODS = {"client": "10.244.1.9", "web-1": "10.244.1.5", "web-2": "10.244.1.6"}
FAR = ("10.244.2.5", "10.244.2.6")
OUTSIDE = "192.0.2.77"
BRIDGE_IP6, NODE_IP6, OUTSIDE6 = "fd00:10:244:1::1", "fd00:172::11", "2001:db8:77::77"
PODS6 = {"client": "fd00:10:244:1::9", "web-1": "fd00:10:244:1::5", "web-2": "fd00:10:244:1::6"}
FAR6 = ("fd00:10:244:2::5", "fd00:10:244:2::6")
SERVICES6, BALANCERS6 = "fd00:96::/64", "2001:db8:99::/64"
TCP_PORTS, UDP_PORTS = (8080, 8443), (5353,)
HOST = Host(frozenset({NODE_IP, BRIDGE_IP}), {
    "10.244.1.0/24": Route("cni0", BRIDGE_IP), "172.30.0.0/24": Route("eth0", NODE_IP),
    "10.244.2.0/24": Route("eth0", NODE_IP), "192.0.2.0/24": Route("eth0", NODE_IP), "0.0.0.0/0": Route("eth0", NODE_IP)})


@dataclass
class Answer:
    """What came of one try: the server's `ip:port` and the source that it saw, or how the try died."""

    server: str = ""
    seen: str = ""
    failure: str = ""


@dataclass
class Network:
    places: dict[str, int] = field(default_factory=dict)
    servers: list[socket.socket] = field(default_factory=list)
    thread: threading.Thread | None = None
    stop: tuple[int, int] = (-1, -1)

    def ip(self, place: str, *commands: str) -> None:
        """Run lines of `ip -batch` in a place."""
        with netns.inside(self.places[place]):
            subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)

    def sysctl(self, place: str, **values: str) -> None:
        with netns.inside(self.places[place]):
            for name, value in values.items():
                with open(f"/proc/sys/net/{name.replace('__', '/')}", "w") as file:
                    file.write(value)

    def cable(self, place: str, name: str, other: str, peer: str) -> None:
        with netns.inside(self.places[place]):
            subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns",
                            f"/proc/self/fd/{self.places[other]}"], check=True, pass_fds=[self.places[other]])

    def load(self, rules: Ruleset, tool: iptables.Iptables | None = None) -> None:
        """Give the node these tables in place of what it has, and forget its connections."""
        iptables.restore(tool or iptables.find(), render.ruleset(rules), netns=self.places["node"], flush=True)

    def ask(self, place: str, address: str, port: int, protocol: str = "tcp", wait: float = 0.4,
            source_port: int = 0) -> Answer:
        """Try once from a place; `wait` is how long a try without any answer takes to count as dropped."""
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with netns.socket_in(self.places[place], socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
            sock.settimeout(wait)
            try:
                if source_port:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind(("", source_port))
                sock.connect((address, port))
                if protocol == "udp":
                    sock.send(b"hello")
                server, _, seen = sock.recv(200).decode().partition(" ")
                return Answer(server, seen)
            except ConnectionRefusedError:
                return Answer(failure="REJECT")
            except PermissionError:  # the sender's own OUTPUT chain killed it, by REJECT or by DROP
                return Answer(failure="HERE")
            except TimeoutError:
                return Answer(failure="DROP")

    def serve(self) -> None:
        for place, ips in {**{name: (ip, PODS6[name]) for name, ip in PODS.items() if name != "client"}, "far": FAR + FAR6}.items():
            for ip in ips:
                family = socket.AF_INET6 if ":" in ip else socket.AF_INET
                for kind, ports in ((socket.SOCK_STREAM, TCP_PORTS), (socket.SOCK_DGRAM, UDP_PORTS)):
                    for port in ports:
                        sock = netns.socket_in(self.places[place], family, kind)
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        sock.bind((ip, port))
                        if kind == socket.SOCK_STREAM:
                            sock.listen(64)
                        self.servers.append(sock)
        self.stop = os.pipe()
        self.thread = threading.Thread(target=self._answer, daemon=True)
        self.thread.start()

    def _answer(self) -> None:
        with selectors.DefaultSelector() as selector:
            for sock in self.servers:
                selector.register(sock, selectors.EVENT_READ)
            selector.register(self.stop[0], selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    sock = key.fileobj
                    if not isinstance(sock, socket.socket):
                        return
                    host, number = sock.getsockname()[:2]
                    me = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
                    with suppress(OSError):
                        if sock.type == socket.SOCK_STREAM:
                            taken, peer = sock.accept()
                            taken.sendall(f"{me} {peer[0]}".encode())
                            taken.close()
                        else:
                            _, peer = sock.recvfrom(100)
                            sock.sendto(f"{me} {peer[0]}".encode(), peer)

    def close(self) -> None:
        if self.thread is not None:
            os.write(self.stop[1], b"x")
            self.thread.join(timeout=5)
            os.close(self.stop[0])
            os.close(self.stop[1])
        for sock in self.servers:
            sock.close()
        for fd in self.places.values():
            os.close(fd)


def build() -> Network:
    net = Network()
    net.places = {place: netns.new_netns() for place in ("wire", "node", "far", "outside", *PODS)}
    for place in net.places:
        net.sysctl(place, ipv6__conf__default__accept_dad="0", ipv6__conf__default__dad_transmits="0")
        net.ip(place, "link set lo up")
    net.ip("wire", "link add br0 type bridge", "link set br0 up")
    for place, address in (("node", NODE_IP), ("far", "172.30.0.12"), ("outside", "172.30.0.77")):
        net.cable("wire", f"to-{place}", place, "eth0")
        net.ip("wire", f"link set to-{place} master br0 up")
        net.ip(place, f"addr add {address}/24 dev eth0", "link set eth0 up")
    net.ip("node", "link add cni0 type bridge", f"addr add {BRIDGE_IP}/24 dev cni0", "link set cni0 up",
           "route add 10.244.2.0/24 via 172.30.0.12", "route add 192.0.2.0/24 via 172.30.0.77",
           "route add default via 172.30.0.12")
    net.ip("far", "route add 10.244.1.0/24 via 172.30.0.11", "route add 192.0.2.0/24 via 172.30.0.77",
           "route add 10.96.0.0/16 via 172.30.0.11", *(f"addr add {ip}/32 dev lo" for ip in FAR))
    net.ip("outside", f"addr add {OUTSIDE}/32 dev lo",
           *(f"route add {to} via 172.30.0.11 src {OUTSIDE}" for to in ("10.96.0.0/16", "198.51.100.0/24", "10.244.1.0/24")),
           f"route add 10.244.2.0/24 via 172.30.0.12 src {OUTSIDE}", f"route change 172.30.0.0/24 dev eth0 src {OUTSIDE}")
    for pod, address in PODS.items():
        net.cable("node", f"to-{pod}", pod, "eth0")
        # Hairpin: bridge-nf rewrites a Pod's packet to itself on the bridge, which then has to send it back by its port.
        net.ip("node", f"link set to-{pod} master cni0 up", f"link set to-{pod} type bridge_slave hairpin on")
        net.ip(pod, f"addr add {address}/24 dev eth0", "link set eth0 up", f"route add default via {BRIDGE_IP}")
    net.sysctl("node", ipv4__ip_forward="1", ipv4__conf__all__route_localnet="1", ipv4__conf__all__rp_filter="0",
               ipv4__conf__all__send_redirects="0", ipv4__icmp_ratelimit="0", **{"bridge__bridge-nf-call-iptables": "1"})
    second_family(net)
    net.serve()
    return net


def second_family(net: Network) -> None:
    """Give every place an IPv6 address beside its IPv4 one, with the same routes; none is to wait for its duplicates."""
    net.sysctl("node", ipv6__conf__all__forwarding="1", ipv6__icmp__ratelimit="0", **{"bridge__bridge-nf-call-ip6tables": "1"})
    for place, address in (("node", NODE_IP6), ("far", "fd00:172::12"), ("outside", "fd00:172::77")):
        net.ip(place, f"addr add {address}/64 dev eth0 nodad")
    net.ip("node", f"addr add {BRIDGE_IP6}/64 dev cni0 nodad", "route add fd00:10:244:2::/64 via fd00:172::12",
           "route add 2001:db8:77::/64 via fd00:172::77", "route add default via fd00:172::12")
    net.ip("far", "route add fd00:10:244:1::/64 via fd00:172::11", f"route add 2001:db8:77::/64 via {NODE_IP6}",
           *(f"addr add {ip}/128 dev lo nodad" for ip in FAR6))
    net.ip("outside", f"addr add {OUTSIDE6}/128 dev lo nodad", f"route add {NODE_IP6}/128 dev eth0 src {OUTSIDE6}",
           *(f"route add {to} via {NODE_IP6} src {OUTSIDE6}" for to in (SERVICES6, BALANCERS6, "fd00:10:244:1::/64")))
    for pod, address in PODS6.items():
        net.ip(pod, f"addr add {address}/64 dev eth0 nodad", f"route add default via {BRIDGE_IP6}")
