"""Predictions against the kernel in nftables mode: random clusters, foreign nft tables beside kube-proxy's, packets."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.kernel import netns
from netlab.proxy.nft_render import nft_wanted_for, text
from netlab.proxy.settings import LocalDetector
from netlab.trace import look
from netlab.trace.agree import compare
from netlab.trace.branch import Question
from netlab.trace.craft import Craft
from netlab.trace.predict import predict
from netlab.trace.run import trace
from tests.proxy.builders import a_port, a_service, a_settings, a_slice, an_endpoint
from tests.trace import longrun, topology
from tests.trace.test_agree import (
    DOUBTS,
    HOPS,
    PLAIN,
    SLICE_PORTS,
    SOME,
    WISHES,
    Try,
    asked,
    clusters,
    sent,
    some,
    spelled,
)
from tests.trace.topology import FORWARDS, NODES, Network

pytestmark = pytest.mark.root

FOREIGN = (
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
RULES = (
    "ip rule add priority 10 to 10.244.2.3 iif cni0 ipproto tcp prohibit",
    ("ip rule add priority 10 from 10.244.1.0/24 table 100; ip route add 10.244.2.0/24 via 172.18.0.3 table 100; "
     "ip route add blackhole 10.244.1.3/32 table 100"),
    "ip rule add priority 10 fwmark 0x4000/0x4000 table 100; ip route add unreachable 10.244.1.3/32 table 100",
    "ip rule add priority 10 ipproto udp dport 5353 blackhole; ip rule add priority 11 to 10.244.2.0/24 unreachable",
    "ip rule add priority 10 fwmark 0x20 table 100; ip route add prohibit 10.96.0.10/32 table 100",
)
KERNEL = ("sysctl -qw net.ipv4.ip_forward=0", "ip route add blackhole 10.244.1.3/32",
          "sysctl -qw net.bridge.bridge-nf-call-iptables=0", *(OFF := (
              "sysctl -eqw net.ipv4.conf.cni0.forwarding=0", "sysctl -eqw net.ipv4.conf.eth0.forwarding=0",
              "sysctl -qw net.ipv4.ip_forward=0; ip route add prohibit 10.244.2.3/32")), HOPS, *RULES)


foreigns = st.lists(st.sampled_from(FOREIGN), max_size=2, unique=True).map("\n".join)


@pytest.fixture(scope="module", params=[4, 6])
def net(request: pytest.FixtureRequest) -> Iterator[Network]:
    made = topology.build(request.param)
    try:
        made.serve_all()
        yield made
    finally:
        made.close()


def written(net: Network, family: str, body: str, name: str = "guard") -> str:
    """Return a table as nft reads it: it wants line ends where people write spaces."""
    if family == "ip":  # knows no abstract errors
        body = body.replace("icmpx", "icmp")
    for old, new in (("; ", ";\n"), ("} chain", "}\nchain"), ("} set", "}\nset"), ("; }", ";\n}")):
        body = body.replace(old, new)
    if net.family == 6:
        body = re.sub(r"dnat ip to (\S+):(\d+)", r"dnat ip6 to [\1]:\2", body)
        body = re.sub(r"\bip (saddr|daddr)", r"ip6 \1", body).replace("ipv4_addr", "ipv6_addr")
        body = topology.six(body.replace("icmp type", "icmpv6 type").replace("{ icmp :", "{ ipv6-icmp :").replace(
            "with icmp ", "with icmpv6 ").replace("10.0.0.0/8, 172.18.0.0/16", "fc00::/7"))
    return f"table {'ip6' if (net.family, family) == (6, 'ip') else family} {name} {{\n{body}\n}}\n"


def prepare(net: Network, cluster: dict[str, Any]) -> None:
    sctp = [a_port(80, "sctp", "SCTP")] if "sctp" in cluster else []
    service = a_service(ip=net.at("10.96.0.10"), type="NodePort",
                        ports=[a_port(node_port=30080), a_port(53, "dns", "UDP", 30053), *sctp],
                        externalTrafficPolicy=cluster["external"], internalTrafficPolicy=cluster["internal"],
                        sessionAffinity=cluster["affinity"])
    listed = [{**each, "addresses": [net.at(each["addresses"][0])]} for each in cluster["endpoints"]]
    family = "IPv6" if net.family == 6 else "IPv4"
    ports = [*SLICE_PORTS, {"name": "sctp", "port": cluster.get("sctp", 0), "protocol": "SCTP"}]
    objects = (service, a_slice(endpoints=listed, ports=ports[:2 + len(sctp)], family=family))
    for node, (ip, _) in NODES.items():
        made = text(nft_wanted_for(objects, a_settings(
            family=family, node=node, node_ip=net.at(ip), detector=LocalDetector(net.at(cluster["detector"])),
            masquerade_all=cluster["masquerade_all"], node_addresses=(net.at(ip),),
            node_port_addresses=(f"{net.at(ip)}/{128 if net.family == 6 else 32}",))))
        if node == cluster["node"] and cluster["foreign"]:
            for number, body in enumerate(cluster["foreign"].split("\n")):
                made += written(net, cluster["family"], body, f"guard{number}")
        with netns.inside(net.places[f"node/{node}"]):
            subprocess.run(["nft", "-f", "-"], input="flush ruleset\n" + made, text=True, check=True)
        lines = [*FORWARDS, "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
                 "ip route flush type blackhole", "ip route flush type prohibit", "ip route flush table 100",
                 "ip route flush 10.244.2.3/32",
                 *(f"while ip rule del priority {each} 2>/dev/null; do :; done" for each in (10, 11))]
        net.sh(f"node/{node}", "conntrack -F; " + "; ".join(ruled(net, line) for line in lines) + "; true")
    if cluster["kernel"]:
        net.sh(f"node/{cluster['node']}", ruled(net, cluster["kernel"]))


def ruled(net: Network, line: str) -> str:
    line = spelled(net, line)
    return line.replace("ip rule", "ip -6 rule") if net.family == 6 else line


def check(net: Network, cluster: dict[str, Any], wishes: list[Try]) -> None:
    prepare(net, cluster)
    for wish in wishes:
        found, observed = sent(net, asked(net, wish))
        assert found.status in ("agrees", "unsure") or observed.lost, (wish, found, observed.outcome)
        assert found.status != "unsure" or any(each in found.words for each in ("limit rate", *DOUBTS)), (wish, found)


@SOME(max_examples=2, derandomize=True)
@given(cluster=clusters, foreign=foreigns, family=st.sampled_from(["ip", "inet"]),
       kernel=some(KERNEL), wishes=WISHES)
def test_no_packet_goes_otherwise_than_predicted(net: Network, cluster: dict[str, Any], foreign: str, family: str,
                                                 kernel: str, wishes: list[Try]) -> None:
    check(net, cluster | {"foreign": foreign, "family": family, "kernel": kernel}, wishes)


@pytest.mark.parametrize(("kernel", "wish"), list(zip(RULES, (
    Try("pod/default/client", "10.244.2.3", 8080, "tcp"), Try("pod/default/client", "10.96.0.10", 53, "udp"),
    Try("node/node2", "172.18.0.2", 30080, "tcp"), Try("pod/default/client", "10.96.0.10", 53, "udp"),
    Try("node/node1", "10.96.0.10", 80, "tcp")), strict=True)), ids=["iif", "from", "mark", "port", "route chain"])
def test_routing_rules_lead_as_predicted(net: Network, kernel: str, wish: Try) -> None:
    foreign = ("chain r { type route hook output priority mangle; tcp dport 80 meta mark set 0x20; } "
               "chain m { type filter hook output priority filter; udp dport 5353 meta mark set 0x20; }")
    cluster = {**PLAIN, "node": "node1", "family": "inet", "foreign": foreign, "kernel": kernel,
               "endpoints": [an_endpoint("10.244.1.3", "node1"), an_endpoint("10.244.2.3", "node2")]}
    check(net, cluster, [wish])


def test_what_a_node_sends_is_routed_before_it_has_a_source_in_ipv6(net: Network) -> None:
    check(net, {**PLAIN, "node": "node1", "family": "inet", "kernel": RULES[1]},
          [Try("node/node1", "10.244.1.3", 8080, "tcp"), Try("node/node1", "10.244.1.3", 5353, "udp")])


@pytest.mark.parametrize(("foreign", "kernel"), [
    ("chain f { type filter hook forward priority filter; ip daddr 10.244.2.3 reject; }", ""),
    ("", "ip route add prohibit 10.244.2.3/32")], ids=["reject", "prohibit"])
def test_an_error_about_what_dnat_turned_on_a_bridge_is_as_predicted(net: Network, foreign: str, kernel: str) -> None:
    cluster = {**PLAIN, "node": "node1", "family": "inet", "foreign": foreign, "kernel": kernel,
               "endpoints": [an_endpoint("10.244.2.3", "node2")]}
    check(net, cluster, [Try("pod/default/client", "10.96.0.10", 53, "udp")])


def test_what_comes_back_with_a_nodes_own_source_is_forwarded_in_ipv6_alone(net: Network) -> None:
    cluster = {**PLAIN, "family": "inet",
               "foreign": "chain n { type nat hook prerouting priority dstnat; tcp dport 81 dnat ip to 10.244.1.3:8080; }"}
    prepare(net, cluster)
    found, observed = sent(net, asked(net, Try("node/node1", "10.244.2.3", 81, "tcp")))
    assert found.status == "agrees" or observed.lost, found
    assert observed.request[-1].place == ("node/node1" if net.family == 4 else "pod/default/web-1")


@pytest.mark.parametrize("kernel", OFF)
@pytest.mark.parametrize("calls", [0, 1])
def test_forwarding_is_off_as_the_family_has_it(net: Network, kernel: str, calls: int) -> None:
    cluster = {**PLAIN, "node": "node1", "family": "inet", "endpoints": [an_endpoint("10.244.2.3", "node2")],
               "kernel": f"{kernel}; sysctl -qw net.bridge.bridge-nf-call-iptables={calls}"}
    check(net, cluster, [Try("pod/default/client", "10.96.0.10", 80, "tcp"), Try("pod/default/client", "10.244.2.3", 5353, "udp"),
                         Try("node/node2", "172.18.0.2", 30080, "tcp"), Try("pod/default/web-2", "10.244.1.3", 8080, "tcp")])
    cluster["endpoints"] = [an_endpoint("10.244.1.3", "node1")]  # its answer is the one that nat turns round on the bridge
    check(net, cluster, [Try("node/node2", "172.18.0.2", 30080, "tcp")])


@pytest.mark.parametrize("net", [6], indirect=True)
def test_a_route_of_ipv6_refuses_though_forwarding_is_off_and_is_told_as_the_cause(net: Network) -> None:
    prepare(net, {**PLAIN, "node": "node1", "family": "inet", "kernel": OFF[2]})
    found, observed = sent(net, asked(net, Try("pod/default/client", "10.244.2.3", 5353, "udp")))
    assert found.status == "agrees" or observed.lost, found
    assert (observed.outcome.status, "a `prohibit` route" in observed.outcome.why) == ("unreachable", True), observed.outcome


@pytest.mark.parametrize("net", [4], indirect=True)
@pytest.mark.parametrize("setting", ["all.route_localnet=0", "cni0.route_localnet=1", "cni0.route_localnet=0", "all.route_localnet=1"])
def test_what_is_sent_to_localhost_from_outside_gets_there_by_route_localnet_alone(net: Network, setting: str) -> None:
    foreign = "chain n { type nat hook prerouting priority dstnat; tcp dport 81 dnat ip to 127.0.0.1:8080; }"
    prepare(net, {**PLAIN, "node": "node1", "family": "ip", "foreign": foreign, "kernel": f"sysctl -qw net.ipv4.conf.{setting}"})
    for place, address in (("node/node2", "172.18.0.2"), ("pod/default/client", "10.244.1.1")):
        found, observed = sent(net, asked(net, Try(place, address, 81, "tcp")))
        assert found.status == "agrees" or observed.lost, (place, found, observed.outcome)
        there = setting in ("all.route_localnet=1", "cni0.route_localnet=1" if place.startswith("pod/") else "")
        assert observed.outcome.status == ("refused" if there else "timeout"), observed.outcome


@pytest.mark.parametrize("calls", [0, 1])
@pytest.mark.parametrize("to", ["10.244.1.1", "10.244.1.3", "10.96.0.10"])
@pytest.mark.parametrize("net", [6], indirect=True)  # IPv4 finds no neighbour on behalf of 127.0.0.1
def test_a_loopback_source_from_outside_is_dropped_as_predicted(net: Network, to: str, calls: int) -> None:
    prepare(net, {**PLAIN, "node": "node1", "family": "inet", "kernel": f"sysctl -qw net.bridge.bridge-nf-call-iptables={calls}",
                  "endpoints": [an_endpoint("10.244.1.3", "node1")]})
    request = replace(asked(net, Try("pod/default/client", to, 80, "tcp")), source_address="::1", craft=Craft())
    world = look.world(net.taps(), net.names(), family=6)
    observed = trace(request, net.taps(), net.names())
    found = compare(predict(world, Question(request.source, request.address, 80, source_address="::1")), observed, world)
    assert found.status == "agrees" or observed.lost, found
    assert observed.outcome.status == "timeout"


@pytest.mark.parametrize("foreign", ["", "chain f { type filter hook forward priority filter; sctp dport { 9000-9999 } drop; }",
                                     "chain o { type filter hook output priority filter; ip daddr 10.96.0.10 sctp dport 80 drop; }"])
def test_an_sctp_init_goes_as_predicted_whether_the_kernel_has_sctp_or_not(net: Network, foreign: str) -> None:
    cluster = {**PLAIN, "node": "node1", "family": "inet", "foreign": foreign, "sctp": 9899,
               "endpoints": [an_endpoint("10.244.2.3", "node2")]}
    prepare(net, cluster)
    for place in ("pod/default/client", "node/node1"):
        request = replace(asked(net, Try(place, "10.96.0.10", 80, "sctp")), craft=Craft(ttl=30))
        found, observed = sent(net, request)
        assert found.status == "agrees" or observed.lost, (found, observed.outcome)
        assert foreign or observed.request[-1].place == "pod/default/web-2"


@pytest.mark.parametrize("net", [6], indirect=True)
@pytest.mark.parametrize(("node", "foreign"), [
    ("node1", "chain p { type filter hook prerouting priority filter; ip6 saddr != fc00::/7 drop; }"),
    ("node2", "chain o { type filter hook output priority filter; icmpv6 type nd-neighbor-solicit drop; }"),
    ("node2", "chain i { type filter hook input priority filter; icmpv6 type nd-neighbor-advert drop; }")])
def test_that_rules_may_drop_neighbour_discovery_at_either_end_is_said(net: Network, node: str, foreign: str) -> None:
    prepare(net, {**PLAIN, "node": node, "family": "inet", "foreign": foreign})
    for each in NODES:
        net.sh(f"node/{each}", "ip -6 neigh flush dev eth0")
    found, _ = sent(net, asked(net, Try("pod/default/web-2", "172.18.0.2", 0, "icmp")))
    assert (found.status, "neighbour discovery" in found.words) == ("unsure", True) or found.words.endswith(
        "not all of it could be judged"), found


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_packet_goes_otherwise_than_predicted_for_long(net: Network) -> None:
    def one(cluster: dict[str, Any], foreign: str, family: str, kernel: str, wishes: list[Try]) -> None:
        check(net, cluster | {"foreign": foreign, "family": family, "kernel": kernel}, wishes)

    longrun.for_long(f"nftables, IPv{net.family}", one, cluster=clusters, foreign=foreigns,
                     family=st.sampled_from(["ip", "inet"]), kernel=some(KERNEL), wishes=WISHES)
