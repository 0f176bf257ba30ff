"""A two-node cluster network made by hand: the smallest thing that has every hop the tracer must tell of.

client and web-1 on node1, web-2 on node2, an underlay bridge between the nodes; no API, no component.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from netlab.kernel import link, netns, route
from netlab.kernel.rtnl import Rtnl
from netlab.trace.run import Tap

PODS = {"client": ("node1", "10.244.1.2"), "web-1": ("node1", "10.244.1.3"), "web-2": ("node2", "10.244.2.3")}
NODES = {"node1": ("172.18.0.2", "10.244.1.1"), "node2": ("172.18.0.3", "10.244.2.1")}
FORWARDS = ("sysctl -qw net.ipv4.ip_forward=1", "sysctl -eqw net.ipv4.conf.cni0.forwarding=1",
            "sysctl -eqw net.ipv4.conf.eth0.forwarding=1", "ip neigh flush dev eth0 nud failed", "ip -6 neigh flush dev eth0 nud failed")
"""What makes a node forward all again, whichever setting was turned off.

A host of IPv6 that is no router passes over routes whose next hop did not answer it before: so that is forgotten.
"""


_SIXES = ((r"10\.244\.0\.0/16", r"fd00:244::/48"), (r"10\.244\.(\d+)\.(\d+)", r"fd00:244:0:\1::\2"),
          (r"172\.18\.0\.(\d+)", r"fd00:18::\1"), (r"10\.96\.0\.(\d+)", r"fd00:96::\1"), (r"0\.0\.0\.0/0", "::/0"),
          (r"::(\w+)/(?:24|16)\b", r"::\1/64"), (r"/32\b", "/128"))


def six(text: str) -> str:
    """The same words with the IPv6 addresses of an IPv6 network."""
    for old, new in _SIXES:
        text = re.sub(old, new, text)
    return text


@dataclass
class Network:
    family: int = 4
    tool: str = "iptables"
    places: dict[str, int] = field(default_factory=dict)
    stops: list[object] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def taps(self) -> list[Tap]:
        return [Tap(place, fd) for place, fd in self.places.items()]

    def names(self) -> dict[str, str]:
        return {self.at(ip): f"pod/default/{name}" for name, (_, ip) in PODS.items()}

    def at(self, text: str) -> str:
        """Words with IPv4 addresses in this network's family."""
        return six(text) if self.family == 6 else text

    def sh(self, place: str, command: str) -> str:
        with netns.inside(self.places[place]):
            done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, place: str, port: int, kind: int = socket.SOCK_STREAM) -> None:
        """Listen in a Pod: TCP accepts and closes after its client, UDP echoes."""
        sock = netns.socket_in(self.places[place], socket.AF_INET6 if self.family == 6 else socket.AF_INET, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", port))
        self.stops.append(sock)
        if kind == socket.SOCK_STREAM:
            sock.listen()

        def accept() -> None:
            """An end left open would answer a later connection from the same masqueraded port as its own."""
            with suppress(OSError):
                while True:
                    connection, _ = sock.accept()
                    with connection, suppress(OSError):
                        connection.settimeout(2)
                        while connection.recv(2048):
                            pass

        def echo() -> None:
            with suppress(OSError):
                while True:
                    data, peer = sock.recvfrom(2048)
                    if peer is None:  # shut down
                        return
                    sock.sendto(b"answer to " + data, peer)

        thread = threading.Thread(target=accept if kind == socket.SOCK_STREAM else echo, daemon=True)
        thread.start()
        self.threads.append(thread)

    def serve_all(self) -> None:
        """Listen in every Pod, on TCP 8080 and UDP 5353."""
        for pod in PODS:
            self.serve(f"pod/default/{pod}", 8080)
            self.serve(f"pod/default/{pod}", 5353, socket.SOCK_DGRAM)

    def close(self) -> None:
        for sock in self.stops:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
            sock.close()  # type: ignore[attr-defined]
        for thread in self.threads:
            thread.join(timeout=2)
        for fd in self.places.values():
            os.close(fd)


def build(family: int = 4) -> Network:
    net = Network(family)

    def place(name: str) -> int:
        fd = net.places[name] = netns.new_netns()
        # before an address is known to be nobody else's, an IPv6 neighbour is not asked for
        net.sh(name, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")
        return fd

    fabric = place("fabric")
    with Rtnl(fabric) as sock:
        link.set_up(sock, "lo")
        link.add_bridge(sock, "br0")
    for node, (ip, gateway) in NODES.items():
        fd = place(f"node/{node}")
        with Rtnl(fabric) as sock:
            link.add_veth(sock, node, "eth0", peer_netns=fd, master="br0")
        with Rtnl(fd) as sock:
            link.set_up(sock, "lo", "eth0")
            link.add_address(sock, "eth0", net.at(f"{ip}/16"))
            link.add_bridge(sock, "cni0")
            link.add_address(sock, "cni0", net.at(f"{gateway}/24"))
        net.sh(f"node/{node}", "sysctl -qw net.ipv4.ip_forward=1")
    for node in NODES:
        other = "node2" if node == "node1" else "node1"
        with Rtnl(net.places[f"node/{node}"]) as sock:
            index = link.get(sock, "eth0").ifindex
            sock.send(route.new_route(route.Route(net.at(NODES[other][1].rsplit(".", 1)[0] + ".0/24"), net.at(NODES[other][0]), index)))
            sock.send(route.new_route(route.Route(net.at("0.0.0.0/0"), net.at("172.18.0.1"), index)))
    for pod, (node, ip) in PODS.items():
        fd = place(f"pod/default/{pod}")
        with Rtnl(net.places[f"node/{node}"]) as sock:
            link.add_veth(sock, f"v-{pod}", "eth0", peer_netns=fd, master="cni0")
            sock.send(link.change_port(f"v-{pod}", hairpin=True))
        with Rtnl(fd) as sock:
            link.set_up(sock, "lo", "eth0")
            link.add_address(sock, "eth0", net.at(f"{ip}/24"))
            sock.send(route.new_route(route.Route(net.at("0.0.0.0/0"), net.at(NODES[node][1]), link.get(sock, "eth0").ifindex)))
    return net


SERVICE = """*filter
:KUBE-SERVICES - [0:0]
-A FORWARD -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.99/32 -p tcp -m comment --comment "default/none has no endpoints" -m tcp --dport 80 -j REJECT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-WEB - [0:0]
:KUBE-SEP-TWO - [0:0]
:KUBE-SVC-UDP - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-WEB
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-SVC-UDP
-A KUBE-SVC-WEB -m comment --comment "default/web:http -> 10.244.2.3:8080" -j KUBE-SEP-TWO
-A KUBE-SVC-UDP -p udp -m udp -j DNAT --to-destination 10.244.2.3:5353
-A KUBE-SEP-TWO -s 10.244.2.3/32 -m comment --comment "default/web:http" -j KUBE-MARK-MASQ
-A KUBE-SEP-TWO -p tcp -m comment --comment "default/web:http" -m tcp -j DNAT --to-destination 10.244.2.3:8080
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
"""
