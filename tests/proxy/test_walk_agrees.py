"""The walk through the rules against the kernel: whatever one says of a packet, the other must do."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netlab.kernel import iptables
from netlab.netfilter import parse
from netlab.netfilter.going import Outcome
from netlab.netfilter.matching import Packet
from netlab.netfilter.normalise import differences
from netlab.netfilter.walk import receive, send
from netlab.proxy.settings import LocalDetector
from tests.proxy.builders import NODE_IP, a_port, a_service, a_slice, an_endpoint, rules_for
from tests.proxy.network import FAR, HOST, OUTSIDE, PODS, Network

pytestmark = pytest.mark.root

SLICE_PORTS = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
IFACES = {"client": "cni0", "web-1": "cni0", "web-2": "cni0", "outside": "eth0", "node": ""}
SOURCES = {**PODS, "outside": OUTSIDE, "node": ""}

endpoint = st.builds(
    lambda ip, state: an_endpoint(ip, "node2" if ip in FAR else "node1", ready=state == "ready", serving=state != "dead",
                                  terminating=state != "ready"),
    st.sampled_from([PODS["web-1"], PODS["web-2"], *FAR]), st.sampled_from(["ready", "ready", "ready", "dying", "dead"]))


@dataclass(frozen=True)
class Try:
    place: str
    address: str
    port: int
    protocol: str


clusters = st.fixed_dictionaries({
    "endpoints": st.lists(endpoint, max_size=5, unique_by=lambda each: each["addresses"][0]),
    "external": st.sampled_from(["Cluster", "Local"]), "internal": st.sampled_from(["Cluster", "Local"]),
    "ranges": st.sampled_from([None, ["192.0.2.0/24"], ["203.0.113.0/24"], ["10.244.0.0/16", "172.30.0.0/24"]]),
    "detector": st.sampled_from(["-s 10.244.0.0/16", "-i cni0", "-i to-+", ""]), "masquerade_all": st.booleans(),
})
# The node's own packets to addresses that are nobody's here would leave for the wire: only what stays is asked.
tries = st.builds(Try, st.sampled_from(sorted(SOURCES)), st.sampled_from(["10.96.0.10", NODE_IP, "198.51.100.1", "198.51.100.2"]),
                  st.sampled_from([80, 30080]), st.just("tcp")) | st.builds(
    Try, st.sampled_from(sorted(SOURCES)), st.sampled_from(["10.96.0.10", NODE_IP]), st.sampled_from([53, 30053]), st.just("udp"))


def rules_of(cluster):
    service = a_service(type="LoadBalancer", externalIPs=["198.51.100.1"], ingress=["198.51.100.2"],
                        ports=[a_port(node_port=30080), a_port(53, "dns", "UDP", 30053)],
                        externalTrafficPolicy=cluster["external"], internalTrafficPolicy=cluster["internal"],
                        **({"loadBalancerSourceRanges": cluster["ranges"]} if cluster["ranges"] else {}))
    return rules_for(service, a_slice(endpoints=cluster["endpoints"], ports=SLICE_PORTS),
                     detector=LocalDetector(cluster["detector"]), masquerade_all=cluster["masquerade_all"])


def said(outcomes: tuple[Outcome, ...], wish: Try) -> set[tuple[str, str]]:
    """Return what may be seen from the client: (server, source that it sees), or how the packet dies."""
    result = set()
    servers = {f"{ip}:{port}" for ip in (PODS["web-1"], PODS["web-2"], *FAR) for port in (8080, 5353)}
    for each in outcomes:
        assert each.certain
        place = f"{each.packet.dst}:{each.packet.dport}"
        if each.verdict in ("DROP", "REJECT"):
            result.add((each.verdict, ""))
        elif place in servers:
            result.add((place, each.packet.src))
        else:  # untouched: no server has that address
            result.add(("REJECT" if HOST.local(each.packet.dst) else "LOST", ""))
    return result


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture,
                                                                 HealthCheck.too_slow], derandomize=True)
@given(cluster=clusters, wishes=st.lists(tries, min_size=3, max_size=8, unique=True))
def test_where_packets_go(net: Network, cluster, wishes):
    rules = rules_of(cluster)
    net.load(rules)
    kept = parse.parse(iptables.save(iptables.find(), netns=net.places["node"]))
    assert differences(rules, kept) == [], "the kernel holds what was written, in its own spelling"
    for wish in wishes:
        packet = Packet(SOURCES[wish.place], wish.address, wish.protocol, dport=wish.port, iif=IFACES[wish.place])
        walk = send if wish.place == "node" else receive
        predicted = said(walk(rules, packet, HOST), wish)
        assert said(walk(kept, packet, HOST), wish) == predicted, "the kernel's own words say the same"
        if ("LOST", "") in predicted:
            continue  # what is nobody's goes out of the lab by the default route, where nothing answers or everything
        # Whoever is dropped waits in vain; one try tells, the others would only cost time.
        alive = {each for each in predicted if each[1]}
        answer = net.ask(wish.place, wish.address, wish.port, wish.protocol, wait=0.15 if not alive else 1.5)
        if answer.failure == "HERE":
            assert not alive
            continue
        seen = (answer.failure, "") if answer.failure else (answer.server, answer.seen)
        assert seen in predicted, (wish, predicted)
