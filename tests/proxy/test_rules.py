"""Where packets go with the rules of a Service, and a few things that only the rules' own words show."""

from __future__ import annotations

import pytest

from netlab.netfilter.matching import Host, Packet, Route
from netlab.netfilter.walk import receive, send
from netlab.proxy.settings import LOCALHOST_COUNTER, LocalDetector
from tests.proxy.builders import NODE_IP, a_port, a_service, a_slice, an_endpoint, rules_for

HOST = Host(frozenset({NODE_IP, "10.244.1.1"}),
            {"10.244.1.0/24": Route("cni0", "10.244.1.1"), "0.0.0.0/0": Route("eth0", NODE_IP)})
HERE, THERE = an_endpoint("10.244.1.5"), an_endpoint("10.244.2.5", "node2")
BOTH = [HERE, THERE]
POD, NODE, OUTSIDE = "10.244.1.9", NODE_IP, "192.0.2.77"


def flow(rules, source: str, dst: str, dport: int = 80, protocol: str = "tcp", host: Host = HOST) -> set[str]:
    """Return how a packet may end: `10.244.1.5:8080`, with ` masq` where its source is the node's, or a verdict."""
    packet = Packet(source, dst, protocol, dport=dport, iif="" if source == NODE else "cni0" if source == POD else "eth0")
    result = set()
    for outcome in (send if source == NODE else receive)(rules, packet, host):
        assert outcome.certain
        if outcome.verdict in ("SEND", "DELIVER"):
            changed = " masq" if outcome.packet.src != source else ""
            result.add(f"{outcome.packet.dst}:{outcome.packet.dport}{changed}")
        else:
            result.add(outcome.verdict)
    return result


LOCAL, REMOTE = "10.244.1.5:8080", "10.244.2.5:8080"


@pytest.mark.parametrize(("source", "expected"), [
    pytest.param(POD, {LOCAL, REMOTE}, id="a Pod keeps its address"),
    pytest.param(OUTSIDE, {f"{LOCAL} masq", f"{REMOTE} masq"}, id="from outside is masqueraded"),
    pytest.param(NODE, {f"{LOCAL} masq", REMOTE}, id="the node: towards its own Pods by the bridge's address"),
])
def test_cluster_ip(source: str, expected: set[str]):
    assert flow(rules_for(a_service(), a_slice(endpoints=BOTH)), source, "10.96.0.10") == expected


def test_masquerade_all():
    rules = rules_for(a_service(), a_slice(endpoints=BOTH), masquerade_all=True)
    assert flow(rules, POD, "10.96.0.10") == {f"{LOCAL} masq", f"{REMOTE} masq"}


@pytest.mark.parametrize(("detector", "masqueraded"), [
    (LocalDetector(), False), (LocalDetector("-s 10.244.0.0/16"), True), (LocalDetector("-i cni0"), True),
    (LocalDetector("-i cni+"), True)])
def test_detectors_of_local_traffic(detector: LocalDetector, masqueraded: bool):
    rules = rules_for(a_service(), a_slice(), detector=detector)
    assert flow(rules, POD, "10.96.0.10") == {LOCAL}
    assert flow(rules, OUTSIDE, "10.96.0.10") == {f"{LOCAL} masq" if masqueraded else LOCAL}


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_protocols(protocol: str):
    rules = rules_for(a_service(ports=[a_port(protocol=protocol)]), a_slice(ports=[
        {"name": "http", "port": 8080, "protocol": protocol}]))
    assert flow(rules, POD, "10.96.0.10", protocol=protocol.lower()) == {LOCAL}
    other = "udp" if protocol == "TCP" else "tcp"
    assert flow(rules, POD, "10.96.0.10", protocol=other) == {"10.96.0.10:80"}


@pytest.mark.parametrize("spec", [{}, {"type": "NodePort", "ports": [a_port(node_port=30080)]},
                                  {"externalIPs": ["198.51.100.1"]}, {"type": "LoadBalancer", "ingress": ["198.51.100.2"]}])
def test_without_endpoints_every_address_is_rejected(spec):
    rules = rules_for(a_service(**spec), a_slice(endpoints=[]))
    addresses = [("10.96.0.10", 80)]
    addresses += [(NODE_IP, 30080)] if spec.get("type") == "NodePort" else []
    addresses += [("198.51.100.1", 80)] if "externalIPs" in spec else []
    addresses += [("198.51.100.2", 80)] if "ingress" in spec else []
    for address, port in addresses:
        for source in (POD, OUTSIDE):
            assert flow(rules, source, address, port) == {"REJECT"}, (source, address)
    assert not [name for name in rules.table("nat").chains if name.startswith(("KUBE-SVC", "KUBE-SEP", "KUBE-EXT"))]


def test_hairpin_is_masqueraded():
    rules = rules_for(a_service(), a_slice(endpoints=BOTH))
    assert flow(rules, POD, "10.96.0.10") == {LOCAL, REMOTE}
    self_talk = receive(rules, Packet("10.244.1.5", "10.96.0.10", dport=80, iif="cni0"), HOST)
    assert {(each.packet.dst, each.packet.src) for each in self_talk} == {
        ("10.244.1.5", "10.244.1.1"), ("10.244.2.5", "10.244.1.5")}


EXTERNAL = {"ports": [a_port(node_port=30080)], "type": "LoadBalancer", "externalIPs": ["198.51.100.1"],
            "ingress": ["198.51.100.2"]}
WAYS = [pytest.param(NODE_IP, 30080, id="node port"), pytest.param("198.51.100.1", 80, id="external address"),
        pytest.param("198.51.100.2", 80, id="load balancer")]


@pytest.mark.parametrize(("address", "port"), WAYS)
def test_external_policy_cluster(address: str, port: int):
    rules = rules_for(a_service(**EXTERNAL), a_slice(endpoints=BOTH))
    for source in (POD, OUTSIDE):
        assert flow(rules, source, address, port) == {f"{LOCAL} masq", f"{REMOTE} masq"}


@pytest.mark.parametrize(("address", "port"), WAYS)
def test_external_policy_local_keeps_the_source_and_stays_here(address: str, port: int):
    rules = rules_for(a_service(**EXTERNAL, externalTrafficPolicy="Local"), a_slice(endpoints=BOTH))
    assert flow(rules, OUTSIDE, address, port) == {LOCAL}
    assert flow(rules, POD, address, port) == {LOCAL, REMOTE}, "Pods of the cluster may go to any node"
    assert flow(rules, NODE, address, port) == {f"{LOCAL} masq", REMOTE}, "and so may the node"


@pytest.mark.parametrize(("address", "port"), WAYS)
def test_external_policy_local_without_local_endpoints_drops_what_comes_from_outside(address: str, port: int):
    rules = rules_for(a_service(**EXTERNAL, externalTrafficPolicy="Local"), a_slice(endpoints=[THERE]))
    assert flow(rules, OUTSIDE, address, port) == {"DROP"}
    assert flow(rules, POD, address, port) == {REMOTE}


def test_internal_policy_local():
    spec = {"internalTrafficPolicy": "Local"}
    assert flow(rules_for(a_service(**spec), a_slice(endpoints=BOTH)), POD, "10.96.0.10") == {LOCAL}
    assert flow(rules_for(a_service(**spec), a_slice(endpoints=[THERE])), POD, "10.96.0.10") == {"DROP"}
    assert flow(rules_for(a_service(**spec), a_slice(endpoints=[])), POD, "10.96.0.10") == {"REJECT"}


def test_internal_policy_local_beside_external_policy_cluster():
    rules = rules_for(a_service(internalTrafficPolicy="Local", **EXTERNAL), a_slice(endpoints=[THERE]))
    assert flow(rules, POD, "10.96.0.10") == {"DROP"}
    assert flow(rules, OUTSIDE, NODE_IP, 30080) == {f"{REMOTE} masq"}


@pytest.mark.parametrize(("source", "expected"), [
    pytest.param("203.0.113.7", {f"{LOCAL} masq"}, id="allowed"), pytest.param(OUTSIDE, {"DROP"}, id="not allowed"),
    pytest.param(POD, {"DROP"}, id="nor a Pod")])
def test_source_ranges_guard_the_load_balancer_alone(source: str, expected: set[str]):
    rules = rules_for(a_service(**EXTERNAL, loadBalancerSourceRanges=["203.0.113.0/24"]), a_slice())
    assert flow(rules, source, "198.51.100.2") == expected
    assert flow(rules, OUTSIDE, NODE_IP, 30080) == {f"{LOCAL} masq"}
    assert flow(rules, OUTSIDE, "198.51.100.1") == {f"{LOCAL} masq"}


def test_a_node_within_the_ranges_may_use_the_balancer_s_address_as_its_own():
    host = Host(HOST.addresses | {"198.51.100.2"}, HOST.routes)
    ranges = {"loadBalancerSourceRanges": ["172.30.0.0/24"]}
    packet = Packet("198.51.100.2", "198.51.100.2", dport=80)
    open_to_node = rules_for(a_service(**EXTERNAL, **ranges), a_slice())
    assert {each.packet.dst for each in send(open_to_node, packet, host)} == {"10.244.1.5"}
    others = rules_for(a_service(**EXTERNAL, loadBalancerSourceRanges=["203.0.113.0/24"]), a_slice())
    assert [each.verdict for each in send(others, packet, host)] == ["DROP"]


def test_terminating_endpoints_serve_when_no_other_does():
    dying = an_endpoint("10.244.1.5", ready=False, serving=True, terminating=True)
    assert flow(rules_for(a_service(), a_slice(endpoints=[dying])), POD, "10.96.0.10") == {LOCAL}
    assert flow(rules_for(a_service(), a_slice(endpoints=[dying, THERE])), POD, "10.96.0.10") == {REMOTE}


def test_zone_hints():
    slices = a_slice(endpoints=[an_endpoint("10.244.1.5", zones=("a",)), an_endpoint("10.244.2.5", "node2", zones=("b",))])
    assert flow(rules_for(a_service(), slices, zone="b"), POD, "10.96.0.10") == {REMOTE}


@pytest.mark.parametrize(("settings", "dst", "reached"), [
    pytest.param({}, NODE_IP, True, id="any address of the node"),
    pytest.param({}, "10.244.1.1", True, id="the bridge's too"),
    pytest.param({}, "127.0.0.1", True, id="loopback"),
    pytest.param({"localhost_node_ports": False}, "127.0.0.1", False, id="loopback switched off"),
    pytest.param({"node_port_addresses": ("172.30.0.0/24",), "node_addresses": (NODE_IP, "10.244.1.1", "127.0.0.1")},
                 NODE_IP, True, id="wanted network"),
    pytest.param({"node_port_addresses": ("172.30.0.0/24",), "node_addresses": (NODE_IP, "10.244.1.1", "127.0.0.1")},
                 "10.244.1.1", False, id="other network"),
])
def test_where_node_ports_are_served(settings, dst: str, reached: bool):
    rules = rules_for(a_service(type="NodePort", ports=[a_port(node_port=30080)]), a_slice(), **settings)
    outcome = flow(rules, NODE, dst, 30080)
    assert (outcome == {f"{LOCAL} masq"}) is reached


def test_ipv6_has_rules_of_its_own_and_no_node_ports_on_loopback():
    service = a_service(ip="fd00:96::10", type="NodePort", ports=[a_port(node_port=30080)])
    slices = a_slice(family="IPv6", endpoints=[an_endpoint("fd00:244:1::5")])
    rules = rules_for(service, slices, family="IPv6", node_ip="2001:db8::11", detector=LocalDetector("-s fd00:244::/56"),
                      localhost_node_ports=False)
    host = Host(frozenset({"2001:db8::11"}), {"::/0": Route("eth0", "2001:db8::11")})
    to_cluster = receive(rules, Packet("fd00:244:1::9", "fd00:96::10", dport=80, iif="cni0"), host)
    assert {each.packet.dst for each in to_cluster} == {"fd00:244:1::5"}
    tail = rules.chain("nat", "KUBE-SERVICES").rules[-1]
    assert "! -d ::1/128" in tail.match
    assert not rules.chain("filter", "KUBE-FIREWALL").rules
    assert "DNAT --to-destination [fd00:244:1::5]:8080" in {rule.target for rule in rules.table("nat").rules()}


def test_affinity_comes_before_the_dice():
    rules = rules_for(a_service(sessionAffinity="ClientIP"), a_slice(endpoints=BOTH))
    (chain,) = (chain for name, chain in rules.table("nat").chains.items() if name.startswith("KUBE-SVC-"))
    known, dice = chain.rules[1:3], chain.rules[3:]
    assert all("--rcheck --seconds 10800 --reap" in rule.match for rule in known)
    assert [rule.jump for rule in known] == [rule.jump for rule in dice]
    assert "--probability 0.5000000000" in dice[0].match
    assert "statistic" not in dice[1].match


def test_health_check_node_port_is_let_in_even_without_local_endpoints():
    service = a_service(type="LoadBalancer", ingress=["198.51.100.2"], externalTrafficPolicy="Local",
                        healthCheckNodePort=30999)
    for endpoints in ([HERE], [THERE], []):
        (rule,) = rules_for(service, a_slice(endpoints=endpoints)).chain("filter", "KUBE-NODEPORTS").rules
        assert (rule.target, "--dport 30999" in rule.match) == ("ACCEPT", True)


def test_counters_only_where_they_exist():
    service = a_service(type="NodePort", ports=[a_port(node_port=30080)])
    plain = rules_for(service, a_slice())
    counted = rules_for(service, a_slice(), counters=frozenset({LOCALHOST_COUNTER}))
    assert len(plain.chain("nat", "KUBE-NODEPORTS").rules) == 1
    assert len(counted.chain("nat", "KUBE-NODEPORTS").rules) == 2
    assert "nfacct" not in plain.chain("filter", "KUBE-FORWARD").rules[0].match


@pytest.mark.parametrize(("settings", "rules"), [({}, 3), ({"conntrack_liberal": True}, 2)])
def test_invalid_packets_are_dropped_unless_conntrack_is_liberal(settings, rules: int):
    assert len(rules_for(**settings).chain("filter", "KUBE-FORWARD").rules) == rules


def test_mark_bit():
    assert rules_for(masquerade_bit=3).chain("nat", "KUBE-MARK-MASQ").rules[0].target == "MARK --or-mark 0x00000008"


def test_many_endpoints_make_a_large_cluster_without_comments_on_the_way_to_endpoints():
    many = [a_slice(name=f"web-{n}", endpoints=[an_endpoint(f"10.{n}.0.{i}") for i in range(1, 101)]) for n in range(11)]
    rules = rules_for(a_service(), *many)
    endpoints = [rule for rule in rules.table("nat").rules() if rule.chain.startswith("KUBE-SEP-")]
    assert len(endpoints) == 2200
    assert not any("comment" in rule.match for rule in endpoints)
    assert "comment" in rules.chain("nat", "KUBE-SERVICES").rules[0].match


@pytest.mark.parametrize(("objects", "filter_rules", "nat_rules"), [
    pytest.param([], 4, 5, id="nothing"),
    pytest.param([a_service(), a_slice(endpoints=BOTH)], 4, 5 + 2 + 3 * 2, id="cluster address, two endpoints"),
    pytest.param([a_service()], 5, 5, id="cluster address, none"),
    pytest.param([a_service(**EXTERNAL, loadBalancerSourceRanges=["203.0.113.0/24"]), a_slice(endpoints=BOTH)],
                 5, 5 + 10 + 3 * 2, id="balancer with node port, external address, source range"),
    pytest.param([a_service(**EXTERNAL, loadBalancerSourceRanges=["203.0.113.0/24"])], 8, 5, id="the same, no endpoint"),
])
def test_number_of_rules(objects, filter_rules: int, nat_rules: int):
    rules = rules_for(*objects, counters=frozenset({LOCALHOST_COUNTER}))
    counted = {table: sum(rule.chain not in ("INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING")
                          for rule in rules.table(table).rules()) for table in ("filter", "nat")}
    assert counted == {"filter": filter_rules, "nat": nat_rules}
