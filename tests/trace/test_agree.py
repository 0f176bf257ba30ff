"""Predictions against the kernel: random clusters, random rules beside kube-proxy's, real packets; none may differ."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netlab.kernel import netns
from netlab.netfilter import render
from netlab.proxy.settings import LocalDetector
from netlab.trace import foresee, look
from netlab.trace.run import Request, trace
from tests.proxy.builders import a_port, a_service, a_slice, an_endpoint, rules_for
from tests.trace import topology
from tests.trace.topology import NODES, PODS, Network

pytestmark = pytest.mark.root

LIVE = {"10.244.1.2": "node1", "10.244.1.3": "node1", "10.244.2.3": "node2"}
NOBODY = {"10.244.1.77": "node1", "10.244.2.77": "node2"}
PLACES = ("pod/default/client", "pod/default/web-1", "pod/default/web-2", "node/node1", "node/node2")
SLICE_PORTS = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
FOREIGN = ("", "-A FORWARD -p tcp -m tcp --dport 8080 -j DROP", "-A FORWARD -d 10.244.2.0/24 -j REJECT",
           "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset", "-A INPUT -p tcp -m tcp --dport 81 -j DROP",
           "-A OUTPUT -d 10.96.0.10/32 -j REJECT --reject-with icmp-admin-prohibited",
           "-A FORWARD -m conntrack --ctstate ESTABLISHED -j DROP", "-A FORWARD -p icmp -j DROP",
           "-A FORWARD -m limit --limit 1000/sec -j ACCEPT")
KERNEL = ("", "", "", "sysctl -qw net.ipv4.ip_forward=0", "ip route add blackhole 10.244.1.3/32",
          "ip route add prohibit 10.244.2.3/32", "ip route add unreachable 10.96.0.10/32",
          "sysctl -qw net.bridge.bridge-nf-call-iptables=0", "sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
          "ip route del 10.244.1.0/24 via 172.18.0.2")


@dataclass(frozen=True)
class Try:
    place: str
    address: str
    port: int
    protocol: Any


endpoints = st.lists(st.builds(lambda ip, state: an_endpoint(ip, (LIVE | NOBODY)[ip], ready=state == "ready",
                                                             serving=state != "dead", terminating=state != "ready"),
                               st.sampled_from([*LIVE, *LIVE, *NOBODY]), st.sampled_from(["ready", "ready", "dying", "dead"])),
                     max_size=4, unique_by=lambda each: each["addresses"][0])
clusters = st.fixed_dictionaries({
    "endpoints": endpoints, "external": st.sampled_from(["Cluster", "Local"]),
    "internal": st.sampled_from(["Cluster", "Cluster", "Local"]), "affinity": st.sampled_from(["None", "None", "ClientIP"]),
    "detector": st.sampled_from(["-s 10.244.0.0/16", "-i cni0", ""]), "masquerade_all": st.booleans(),
    "foreign": st.sampled_from(FOREIGN), "policy": st.sampled_from(["ACCEPT", "ACCEPT", "ACCEPT", "DROP"]),
    "kernel": st.sampled_from(KERNEL), "node": st.sampled_from(sorted(NODES))})
tcp = st.builds(Try, st.sampled_from(PLACES), st.sampled_from(["10.96.0.10", "10.96.0.10", "172.18.0.2", "172.18.0.3"]),
                st.sampled_from([80, 80, 30080, 81]), st.just("tcp"))
direct = st.builds(Try, st.sampled_from(PLACES), st.sampled_from([*LIVE, "10.244.1.1"]),
                   st.sampled_from([8080, 81]), st.just("tcp"))
udp = st.builds(Try, st.sampled_from(PLACES), st.just("10.96.0.10"), st.sampled_from([53, 54]), st.just("udp"))
ping = st.builds(Try, st.sampled_from(PLACES), st.sampled_from([*LIVE, "172.18.0.2", "10.96.0.10"]), st.just(0), st.just("icmp"))


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    made = topology.build()
    try:
        for pod in PODS:
            made.serve(f"pod/default/{pod}", 8080)
            made.serve(f"pod/default/{pod}", 5353, socket.SOCK_DGRAM)
        yield made
    finally:
        made.close()


def prepare(net: Network, cluster: dict[str, Any]) -> None:
    service = a_service(type="NodePort", ports=[a_port(node_port=30080), a_port(53, "dns", "UDP", 30053)],
                        externalTrafficPolicy=cluster["external"], internalTrafficPolicy=cluster["internal"],
                        sessionAffinity=cluster["affinity"])
    for node, (ip, _) in NODES.items():
        place = f"node/{node}"
        rules = rules_for(service, a_slice(endpoints=cluster["endpoints"], ports=SLICE_PORTS), node=node, node_ip=ip,
                          detector=LocalDetector(cluster["detector"]), masquerade_all=cluster["masquerade_all"])
        text = render.ruleset(rules)
        if node == cluster["node"]:
            text = text.replace(":FORWARD ACCEPT", f":FORWARD {cluster['policy']}")
            text += f"*filter\n{cluster['foreign']}\nCOMMIT\n" if cluster["foreign"] else ""
        with netns.inside(net.places[place]):
            for line in ("iptables -F", "iptables -t nat -F"):
                subprocess.run(line.split(), check=True)
            # two texts: each of them flushes nothing but what it names
            pieces = text.rpartition("*filter\n") if node == cluster["node"] and cluster["foreign"] else (text, "", "")
            subprocess.run(["iptables-restore"], input=pieces[0], text=True, check=True)
            if pieces[2]:
                subprocess.run(["iptables-restore", "--noflush"], input=pieces[1] + pieces[2], text=True, check=True)
        net.sh(place, "conntrack -F 2>/dev/null; sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.eth0.rp_filter=0 "
               "net.ipv4.conf.all.rp_filter=0 net.bridge.bridge-nf-call-iptables=1; ip route flush type blackhole; "
               "ip route flush type prohibit; ip route flush type unreachable; true")
    net.sh("node/node2", "ip route replace 10.244.1.0/24 via 172.18.0.2")
    if cluster["kernel"].startswith("ip route del"):
        net.sh("node/node2", cluster["kernel"])
    elif cluster["kernel"]:
        net.sh(f"node/{cluster['node']}", cluster["kernel"])


def check(net: Network, cluster: dict[str, Any], wishes: list[Try]) -> None:
    prepare(net, cluster)
    for wish in wishes:
        world = look.world(net.taps(), net.names())
        request = Request(wish.place, wish.address, wish.port, wish.protocol, timeout=0.4, payload=b"question")
        observed = trace(request, net.taps(), net.names())
        found = foresee.compared(world, request, observed)
        assert found.status in ("agrees", "unsure") or observed.lost, (wish, found, observed.outcome)
        if found.status == "unsure":
            assert "limit" in cluster["foreign"], (wish, found)


# Not made smaller on failure: every try costs real packets, and the first failure tells all.
SOME = partial(settings, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
WISHES = st.lists(st.one_of(tcp, tcp, direct, udp, ping), min_size=1, max_size=3, unique=True)


@SOME(max_examples=7, derandomize=True)
@given(cluster=clusters, wishes=WISHES)
def test_no_packet_goes_otherwise_than_predicted(net: Network, cluster: dict[str, Any], wishes: list[Try]) -> None:
    check(net, cluster, wishes)


def test_a_program_that_does_not_answer_is_no_difference(net: Network) -> None:
    with netns.socket_in(net.places["pod/default/web-2"], socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("10.244.2.3", 99))
        world = look.world(net.taps(), net.names())
        request = Request("pod/default/client", "10.244.2.3", 99, "udp", timeout=0.4, payload=b"question")
        observed = trace(request, net.taps(), net.names())
    found = foresee.compared(world, request, observed)
    assert (observed.outcome.status, found.status) == ("timeout", "agrees"), found
    assert "did not answer" in found.words


@pytest.mark.parametrize("kind", ["blackhole", "prohibit", "unreachable"])
def test_a_nodes_own_packet_is_sent_where_no_route_leads(net: Network, kind: str) -> None:
    cluster = {"foreign": "", "masquerade_all": False, "policy": "ACCEPT", "detector": "-s 10.244.0.0/16",
               "affinity": "None", "internal": "Cluster", "external": "Cluster", "node": "node2",
               "kernel": f"ip route add {kind} 10.244.1.3/32", "endpoints": [an_endpoint("10.244.1.3", "node1")]}
    check(net, cluster, [Try("node/node2", "10.96.0.10", 53, "udp"), Try("node/node2", "10.96.0.10", 80, "tcp")])


@pytest.mark.soak
@SOME(max_examples=300)
@given(cluster=clusters, wishes=WISHES)
def test_no_packet_goes_otherwise_than_predicted_for_long(net: Network, cluster: dict[str, Any],
                                                          wishes: list[Try]) -> None:
    check(net, cluster, wishes)
