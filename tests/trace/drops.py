"""Ways for a packet to die, each with what must be said of it: used as root and in a user namespace.

Run as a program it tries all of them without BPF and prints what was said, as JSON: `python -m tests.trace.drops`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from netlab.kernel import netns
from netlab.trace.craft import Craft
from netlab.trace.event import Trace
from netlab.trace.run import Request, trace
from tests.trace import topology

CLIENT = "pod/default/client"


@dataclass(frozen=True)
class Case:
    """`place` and `why` are what any trace must say; `reason` what BPF must add (kernels differ)."""

    name: str
    setup: tuple[tuple[str, str], ...]
    to: tuple[str, int]
    place: str
    why: str
    reason: str
    fix: str = ""
    status: str = "timeout"
    protocol: str = "tcp"
    payload: bytes = b""
    craft: Craft | None = None

    def request(self, *, bpf: bool) -> Request:
        return Request(CLIENT, *self.to, self.protocol, timeout=1.0, payload=self.payload, craft=self.craft, bpf=bpf)  # type: ignore[arg-type]


WEB = ("10.244.2.3", 8080)
POLICY = ("iptables -N KUBE-POD-FW-1; iptables -I FORWARD -d 10.244.2.3 -j KUBE-POD-FW-1; "
          "iptables -A KUBE-POD-FW-1 -m comment --comment 'NetworkPolicy default/deny-all: nothing lets it in' -j DROP")
FAST_ARP = "sysctl -qw net.ipv4.neigh.cni0.mcast_solicit=1 net.ipv4.neigh.cni0.retrans_time_ms=100"
GUARD = "nft 'table %s guard { chain c { type filter hook %s priority 0; tcp dport 8080 drop; }; }'"
STEAL = ("ip link add dev sink type bridge; tc qdisc add dev eth0 clsact; tc filter add dev eth0 %s protocol ip u32 match u16 8080 0xffff at 22 "
         "action mirred egress redirect dev sink")
CASES = (
    Case("no endpoints", (), ("10.96.0.99", 80), "node/node1",
         "rejected by filter KUBE-SERVICES: default/none has no endpoints", "NETFILTER_DROP", "selector", "refused"),
    Case("network policy", (("node/node2", POLICY),), WEB, "node/node2",
         "dropped by filter KUBE-POD-FW-1: NetworkPolicy default/deny-all: nothing lets it in", "NETFILTER_DROP",
         "NetworkPolicy"),
    Case("chain policy", (("node/node1", "iptables -P FORWARD DROP"),), WEB, "node/node1",
         "no rule accepted it, and the policy of filter FORWARD is DROP", "NETFILTER_DROP", "FORWARD"),
    Case("foreign rule", (("node/node1", "iptables -A FORWARD -p tcp -j DROP"),), WEB, "node/node1",
         "dropped by filter FORWARD: -p tcp -j DROP", "NETFILTER_DROP", "Kubernetes did not write this rule"),
    Case("no route", (("node/node1", "ip route del default"),), ("203.0.113.9", 80), "node/node1",
         "no route for 203.0.113.9", "IP_INNOROUTES", "ip route get", "unreachable"),
    Case("blackhole", (("node/node1", "ip route add blackhole 10.244.2.3/32"),), WEB, "node/node1",
         "a `blackhole` route", "NOT_SPECIFIED", "ip route get"),
    Case("prohibit", (("node/node1", "ip route add prohibit 10.244.2.3/32"),), WEB, "node/node1",
         "a `prohibit` route", "NOT_SPECIFIED", "ip route get", "unreachable"),
    Case("reverse path", (("node/node2", "sysctl -qw net.ipv4.conf.all.rp_filter=1; ip route replace 10.244.1.0/24 dev cni0"),),
         WEB, "node/node2", "reverse path filter", "IP_RPFILTER", "rp_filter"),
    Case("not forwarded", (("node/node1", "sysctl -qw net.ipv4.ip_forward=0"),), WEB, "node/node1",
         "does not forward: net.ipv4.ip_forward is 0", "IP_INADDRERRORS|IP_INNOROUTES|NOT_SPECIFIED", "sysctl -w"),
    Case("not forwarded from there", (("node/node1", "sysctl -qw net.ipv4.conf.cni0.forwarding=0"),), WEB, "node/node1",
         "does not forward: net.ipv4.conf.cni0.forwarding is 0", "IP_INADDRERRORS|IP_INNOROUTES|NOT_SPECIFIED", "sysctl -w"),
    Case("too long", (("node/node1", "ip link set eth0 mtu 1280"),), ("10.244.2.3", 5353), "node/node1",
         "too long for the next link", "PKT_TOO_BIG", "MTU", "unreachable", protocol="udp", payload=b"x" * 1400),
    Case("too far", (), WEB, "node/node1", "its time to live (TTL) ran out at node/node1", "IP_INHDR", "TTL", "unreachable",
         craft=Craft(ttl=1)),
    Case("closed port", (), ("10.244.2.3", 81), "pod/default/web-2", "answered with a reset", "NO_SOCKET", "listens on",
         "refused"),
    Case("closed UDP port", (), ("10.244.2.3", 99), "pod/default/web-2", "port unreachable", "NO_SOCKET", "listens",
         "refused", protocol="udp"),
    Case("nobody there", (("node/node2", FAST_ARP),), ("10.244.2.9", 80), "node/node2",
         "asked on cni0 who has 10.244.2.9, and nobody answered", "NEIGH_FAILED", "is the Pod gone", "unreachable"),
    Case("cable down", (("fabric", "ip link set node2 down"),), WEB, "fabric", "", "NO_TX_TARGET"),
    Case("queue", (("node/node1", "tc qdisc add dev eth0 root tbf rate 1kbit burst 16 limit 16"),), WEB, "node/node1", "", "QDISC_DROP", "tc"),
    Case("netdev at a Pod", (("pod/default/web-2", GUARD % ("netdev", "ingress device eth0")),), WEB, "pod/default/web-2",
         "no rule or socket of it was seen to get it: the chain c of nftables' table netdev guard is there",
         "NETFILTER_DROP|NETFILTER_INGRESS", "look at what that does"),
    Case("inet at a node", (("node/node2", GUARD % ("inet", "ingress device eth0")),), WEB, "node/node2",
         "the chain c of nftables' table inet guard is there", "NETFILTER_DROP|NETFILTER_INGRESS"),
    Case("netdev at a port", (("node/node1", GUARD % ("netdev", "ingress device v-client")),), WEB, "node/node1",
         "it came in at node/node1 by v-client", "NETFILTER_DROP|NETFILTER_INGRESS"),
    Case("netdev on the way out", (("node/node1", GUARD % ("netdev", "egress device eth0")),), WEB, "node/node1",
         "it never left there: the chain c of nftables' table netdev guard is there", "NETFILTER_DROP|NETFILTER_EGRESS"),
    Case("tc at a Pod", (("pod/default/web-2", STEAL % "ingress"),), WEB, "pod/default/web-2",
         "a tc filter (u32): tc filter show dev eth0 ingress is there", "|TC_INGRESS|OTHERHOST|NOT_SPECIFIED"),
    Case("tc on the way out", (("node/node1", STEAL % "egress"),), WEB, "node/node1",
         "a tc filter (u32): tc filter show dev eth0 egress is there", "|TC_EGRESS|OTHERHOST|NOT_SPECIFIED"),
)


def die(case: Case, *, bpf: bool) -> Trace:
    """Build the network, break it, send, and return the trace."""
    net = topology.build()
    try:
        for node in topology.NODES:
            with netns.inside(net.places[f"node/{node}"]):
                subprocess.run(["iptables-nft-restore"], input=topology.SERVICE, text=True, check=True)
        net.serve("pod/default/web-2", 8080)
        net.sh(CLIENT, "ping -c 1 -W 5 10.244.2.3")  # bridges forward, neighbours are known
        for place, command in case.setup:
            net.sh(place, command)
        return trace(case.request(bpf=bpf), net.taps(), net.names())
    finally:
        net.close()


if __name__ == "__main__":
    said = {}
    for case in CASES:
        if not sys.argv[1:] or case.name in sys.argv[1:]:
            end = die(case, bpf=False).outcome
            said[case.name] = {"status": end.status, "place": end.place, "why": end.why, "fix": end.fix}
    json.dump(said, sys.stdout)
