"""Predictions against the kernel in nftables mode: random clusters, foreign nft tables beside kube-proxy's, packets."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.kernel import netns
from netlab.proxy.nft_render import nft_wanted_for, text
from netlab.proxy.settings import LocalDetector
from netlab.trace import foresee, look
from netlab.trace.run import Request, trace
from tests.proxy.builders import a_port, a_service, a_settings, a_slice
from tests.trace.test_agree import SLICE_PORTS, SOME, WISHES, Try, clusters
from tests.trace.test_agree import net as network
from tests.trace.topology import NODES, Network

pytestmark = pytest.mark.root
net = network

FOREIGN = (
    "",
    "chain f { type filter hook forward priority filter - 1; policy accept; tcp dport { 8080, 90-95 } drop; }",
    ("chain f { type filter hook forward priority 0; policy drop; ct state established,related accept; "
     "ip daddr 10.244.2.0/24 accept; }"),
    ("chain f { type filter hook forward priority 5; ip saddr . tcp dport { 10.244.1.0/24 . 8080-8090 } "
     "reject with tcp reset; }"),
    "chain f { type filter hook forward priority filter; ip daddr 10.244.2.3 reject with icmpx admin-prohibited; }",
    "chain o { type filter hook output priority filter; ct original ip daddr 10.96.0.10 ct direction original reject; }",
    ("chain p { type filter hook prerouting priority -110; ip daddr @vips tcp dport 80 counter drop; } "
     "set vips { type ipv4_addr; flags interval; elements = { 10.96.0.0/16 } }"),
    ("chain p { type filter hook prerouting priority mangle; fib daddr type local meta mark set 7; } "
     "chain i { type filter hook input priority filter; meta mark & 0xf == 7 tcp flags syn / syn,ack jump no; } "
     "chain no { tcp dport 81 drop; return; }"),
    ("chain p { type filter hook prerouting priority raw; ip daddr 10.244.1.3 notrack; } "
     "chain f { type filter hook forward priority filter; ct state vmap { untracked : drop, new : accept }; }"),
    ("chain f { type filter hook forward priority filter; meta l4proto vmap { icmp : goto ping, tcp : continue }; "
     "oifname \"v-*\" ct mark set 3; } chain ping { icmp type echo-request drop; }"),
    ("chain n { type nat hook prerouting priority dstnat - 20; tcp dport 81 dnat ip to 10.244.1.3:8080; "
     "ip daddr 172.18.0.2 tcp dport 30080 redirect to :81; }"),
    "chain s { type nat hook postrouting priority srcnat - 5; ct status dnat ip daddr 10.244.1.0/24 masquerade; }",
    "chain f { type filter hook forward priority filter; limit rate 1000/second accept; }",
    ("chain r { type filter hook prerouting priority filter; fib saddr . iif oif missing drop; "
     "ip saddr != { 10.0.0.0/8, 172.18.0.0/16 } drop; }"),
    ("chain m { type filter hook prerouting priority mangle; jhash ip saddr mod 2 seed 0x5 vmap { 0 : jump a, 1 : jump b }; } "
     "chain a { counter; } chain b { meta mark set 9; }"),
)
KERNEL = ("", "", "", "sysctl -qw net.ipv4.ip_forward=0", "ip route add blackhole 10.244.1.3/32",
          "sysctl -qw net.bridge.bridge-nf-call-iptables=0")


def written(family: str, body: str) -> str:
    """Return a table as nft reads it: it wants line ends where people write spaces."""
    if family == "ip":  # knows no abstract errors
        body = body.replace("icmpx", "icmp")
    for old, new in (("; ", ";\n"), ("} chain", "}\nchain"), ("} set", "}\nset"), ("; }", ";\n}")):
        body = body.replace(old, new)
    return f"table {family} guard {{\n{body}\n}}\n"


def prepare(net: Network, cluster: dict[str, Any]) -> None:
    service = a_service(type="NodePort", ports=[a_port(node_port=30080), a_port(53, "dns", "UDP", 30053)],
                        externalTrafficPolicy=cluster["external"], internalTrafficPolicy=cluster["internal"],
                        sessionAffinity=cluster["affinity"])
    objects = (service, a_slice(endpoints=cluster["endpoints"], ports=SLICE_PORTS))
    for node, (ip, _) in NODES.items():
        made = text(nft_wanted_for(objects, a_settings(
            node=node, node_ip=ip, detector=LocalDetector(cluster["detector"]), masquerade_all=cluster["masquerade_all"],
            node_addresses=(ip,), node_port_addresses=(f"{ip}/32",), service_cidrs=("10.96.0.0/16",))))
        if node == cluster["node"] and cluster["foreign"]:
            made += written(cluster["family"], cluster["foreign"])
        with netns.inside(net.places[f"node/{node}"]):
            subprocess.run(["nft", "-f", "-"], input="flush ruleset\n" + made, text=True, check=True)
        net.sh(f"node/{node}", "conntrack -F 2>/dev/null; sysctl -qw net.ipv4.ip_forward=1 "
               "net.bridge.bridge-nf-call-iptables=1; ip route flush type blackhole; true")
    if cluster["kernel"]:
        net.sh(f"node/{cluster['node']}", cluster["kernel"])


def check(net: Network, cluster: dict[str, Any], wishes: list[Try]) -> None:
    prepare(net, cluster)
    for wish in wishes:
        world = look.world(net.taps(), net.names())
        request = Request(wish.place, wish.address, wish.port, wish.protocol, timeout=0.4, payload=b"question")
        observed = trace(request, net.taps(), net.names())
        found = foresee.compared(world, request, observed)
        assert found.status in ("agrees", "unsure") or observed.lost, (wish, found, observed.outcome)
        assert found.status != "unsure" or "limit rate" in found.words, (wish, found)


@SOME(max_examples=6, derandomize=True)
@given(cluster=clusters, foreign=st.sampled_from(FOREIGN), family=st.sampled_from(["ip", "inet"]),
       kernel=st.sampled_from(KERNEL), wishes=WISHES)
def test_no_packet_goes_otherwise_than_predicted(net: Network, cluster: dict[str, Any], foreign: str, family: str,
                                                 kernel: str, wishes: list[Try]) -> None:
    check(net, cluster | {"foreign": foreign, "family": family, "kernel": kernel}, wishes)


@pytest.mark.soak
@SOME(max_examples=300)
@given(cluster=clusters, foreign=st.sampled_from(FOREIGN), family=st.sampled_from(["ip", "inet"]),
       kernel=st.sampled_from(KERNEL), wishes=WISHES)
def test_no_packet_goes_otherwise_than_predicted_for_long(net: Network, cluster: dict[str, Any], foreign: str,
                                                          family: str, kernel: str, wishes: list[Try]) -> None:
    check(net, cluster | {"foreign": foreign, "family": family, "kernel": kernel}, wishes)
