"""The facts of upstream's own tables: what goes in, what has to come out.

Sources in kubernetes: pkg/proxy/topology_test.go, endpointslicecache_test.go, endpointschangetracker_test.go,
conntrack/cleanup_test.go, iptables/number_generated_rules_test.go, and the packet flows of iptables/proxier_test.go
and nftables/proxier_test.go. Flows go through the walk here; that the kernel agrees with it is tested elsewhere.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from netlab.kernel.conntrack import Direction, Flow
from netlab.proxy import host
from netlab.proxy.config import read
from netlab.proxy.conntrack import stale
from netlab.proxy.endpoints import Endpoint, merged, slice_endpoints
from netlab.proxy.services import ServicePort, service_ports
from netlab.proxy.tracker import Tracker
from tests.proxy.builders import NODE_IP, a_node, a_port, a_service, a_slice, an_endpoint, rules_for
from tests.proxy.test_rules import BOTH, HERE, HOST, LOCAL, NODE, OUTSIDE, POD, REMOTE, flow
from tests.proxy.test_topology import BOTH_LOCAL, ETP_LOCAL, ITP_LOCAL, PLAIN, chosen, dying, ep

ITP_ONLY = ITP_LOCAL._replace(node_port=30080)

# Four endpoints hinted for zones a, b, c and a; three zones; the node is in one of them.
HINTED = [ep(3, zones="a"), ep(4, zones="b"), ep(5, zones="c"), ep(6, zones="a")]
HINTED_HERE = [ep(3, zones="a", node="here"), ep(4, zones="b", node="here"), ep(5, zones="c"), ep(6, zones="a")]
NODES = [ep(3, nodes="here", zones="a"), ep(4, nodes="n2", zones="b"), ep(5, nodes="n3", zones="c"), ep(6, nodes="n4", zones="a")]


@pytest.mark.parametrize(("port", "endpoints", "place", "expected"), [
    pytest.param(PLAIN, HINTED, {}, ([3, 6], [], [3, 6], True), id="hints of all: own zone"),
    pytest.param(PLAIN, HINTED, {"zone": "d"}, ([3, 4, 5, 6], [], [3, 4, 5, 6], True), id="a zone that nobody is hinted for"),
    pytest.param(PLAIN, HINTED[:1], {"zone": ""}, ([3], [], [3], True), id="a node without a zone"),
    pytest.param(PLAIN, HINTED[:1], {"zone": "b"}, ([3], [], [3], True), id="node in another zone"),
    pytest.param(ETP_LOCAL, HINTED_HERE, {}, ([3, 6], [3, 4], [3, 4, 6], True), id="external local: local ones whatever their zone"),
    pytest.param(ITP_ONLY, HINTED_HERE, {}, ([3, 6], [3, 4], [3, 4, 6], True), id="internal local: the same"),
    pytest.param(PLAIN, [*HINTED[:3], ep(6, zones="a", ready=False)], {}, ([3], [], [3], True), id="not ready in the own zone"),
    pytest.param(PLAIN, [ep(3, zones="a", ready=False), *HINTED[1:3], ep(6, zones="a", ready=False)], {}, ([4, 5], [], [4, 5], True),
                 id="none ready in the own zone"),
    pytest.param(PLAIN, [*HINTED[:2], ep(5), HINTED[3]], {}, ([3, 4, 5, 6], [], [3, 4, 5, 6], True), id="one without a hint"),
    pytest.param(PLAIN, [ep(3, zones="a b c"), ep(4, zones="b c"), ep(5, zones="b d"), ep(6, zones="c")], {"zone": "c"},
                 ([3, 4, 6], [], [3, 4, 6], True), id="several zones in a hint"),
    pytest.param(PLAIN, NODES, {}, ([3], [], [3], True), id="own node"),
    pytest.param(PLAIN, NODES, {"node": "n9"}, ([3, 6], [], [3, 6], True), id="no hint for this node: own zone"),
    pytest.param(PLAIN, NODES, {"node": "n9", "zone": "d"}, ([3, 4, 5, 6], [], [3, 4, 5, 6], True), id="nor for its zone: all"),
    pytest.param(PLAIN, [*NODES[:3], ep(6, zones="a")], {}, ([3, 6], [], [3, 6], True), id="not all have a node: own zone"),
    pytest.param(PLAIN, [ep(3, nodes="here n2"), ep(4, nodes="n2")], {}, ([3], [], [3], True), id="several nodes in a hint"),
    pytest.param(PLAIN, [ep(3, nodes="here", ready=False), ep(4, nodes="n2")], {}, ([4], [], [4], True), id="own node not ready: all"),
    pytest.param(PLAIN, [ep(0, ready=False), ep(1, ready=False)], {}, ([], [], [], False), id="cluster, none ready"),
    pytest.param(PLAIN, [ep(0, ready=False), ep(1)], {}, ([1], [], [1], True), id="cluster, one ready"),
    pytest.param(PLAIN, [dying(0, node="here"), dying(1)], {}, ([0, 1], [], [0, 1], True), id="cluster, all terminating"),
    pytest.param(ITP_LOCAL, [], {}, ([], [], [], False), id="internal local, none"),
    pytest.param(ITP_LOCAL, [ep(0), ep(1)], {}, ([], [], [], True), id="internal local, all remote"),
    pytest.param(ITP_LOCAL, [ep(0, node="here"), ep(1, node="here")], {}, ([], [0, 1], [0, 1], True), id="internal local, all local"),
    pytest.param(ITP_LOCAL, [ep(0, node="here"), ep(1)], {}, ([], [0], [0], True), id="internal local, some local"),
    pytest.param(ITP_LOCAL, [ep(0), ep(1, node="here")], {}, ([], [1], [1], True), id="internal only: no cluster endpoints"),
    pytest.param(ITP_ONLY, [ep(0, node="here"), ep(1)], {}, ([0, 1], [0], [0, 1], True), id="internal local, external cluster"),
    pytest.param(ETP_LOCAL, [ep(0, node="here"), ep(1)], {}, ([0, 1], [0], [0, 1], True), id="internal cluster, external local"),
    pytest.param(BOTH_LOCAL, [ep(0, node="here"), ep(1)], {}, ([0, 1], [0], [0, 1], True), id="both local"),
    pytest.param(BOTH_LOCAL, [ep(0), ep(1)], {}, ([0, 1], [], [0, 1], True), id="both local, all remote"),
    pytest.param(BOTH_LOCAL, [dying(0), dying(1)], {}, ([0, 1], [], [0, 1], True), id="both local, all remote and terminating"),
    pytest.param(ETP_LOCAL, [ep(0), ep(1, ready=False, serving=False, node="here"), dying(2, node="here"), dying(3)], {},
                 ([0], [2], [0, 2], True), id="external local, a terminating one here"),
    pytest.param(PLAIN._replace(external_local=True), [ep(0), ep(1, node="here")], {}, ([0, 1], [], [0, 1], True),
                 id="external local without anything external"),
    pytest.param(ETP_LOCAL, [ep(0, zones="a", node="here"), ep(1, zones="b", node="here"), ep(2, zones="a"), ep(3, zones="b")], {},
                 ([0, 2], [0, 1], [0, 1, 2], True), id="zone and place disagree: both lists together"),
])
def test_topology(port: ServicePort, endpoints, place, expected):
    assert chosen(endpoints, port, **place) == expected


SERVING, NOT_SERVING, DELETED = "10.240.0.4", "10.240.1.5", "10.240.2.6"
ADDRESSES = {"10.96.0.10": "cluster", "192.168.99.100": "external", "1.2.3.4": "balancer"}


def conntrack_cases():
    """Yield (protocol, destination, its port, endpoint, its port, whether the entry goes)."""
    for ip in ADDRESSES:
        yield "udp", ip, 8000, SERVING, 8080, True  # the endpoint's port changed, its address did not
        for number in (8000, 3000):
            yield "udp", ip, number, ip, 0, number == 8000  # from before there was a rule
    for end, protocol in itertools.product((SERVING, NOT_SERVING, DELETED), ("tcp", "udp", "sctp")):
        gone = protocol == "udp" and end != SERVING
        for ip, number in itertools.product(ADDRESSES, (8000, 3000)):
            yield protocol, ip, number, end, 9090, gone and number == 8000
        yield protocol, "172.30.0.11", 32000, end, 9090, gone


def test_conntrack_cleanup():
    service = a_service(externalIPs=["192.168.99.100"], ingress=["1.2.3.4"], type="LoadBalancer", ports=[
        a_port(8000, protocol, protocol, 0 if protocol == "TCP" else 32000) for protocol in ("TCP", "UDP", "SCTP")])
    ends = slice_endpoints(a_slice(endpoints=[an_endpoint(SERVING, serving=True), an_endpoint(NOT_SERVING, serving=False)],
                                   ports=[{"name": protocol, "port": 9090, "protocol": protocol} for protocol in ("TCP", "UDP", "SCTP")]),
                           "IPv4")
    ports = [(port, ends[port.port_name, port.protocol]) for port in service_ports(service, "IPv4")]
    cases = list(conntrack_cases())
    assert len(cases) == 3 + 6 + 63
    flows = [Flow(protocol, Direction("10.244.1.9", ip, 4000, number), Direction(end, "10.244.1.9", end_port, 4000))
             for protocol, ip, number, end, end_port, _ in cases]
    assert list(stale(flows, ports)) == [entry for entry, case in zip(flows, cases, strict=True) if case[-1]]


BALANCER = {"type": "LoadBalancer", "externalIPs": ["1.2.3.4"], "ingress": ["1.2.3.4"], "loadBalancerSourceRanges": [" 1.2.3.4/28"]}


@pytest.mark.parametrize(("kind", "services", "endpoints", "filter_rules", "nat_rules"), [
    ("ClusterIP", 0, 0, 4, 5), ("ClusterIP", 1, 0, 5, 5), ("ClusterIP", 1, 1, 4, 10), ("ClusterIP", 1, 2, 4, 13),
    ("ClusterIP", 1, 10, 4, 37), ("ClusterIP", 10, 0, 14, 5), ("ClusterIP", 10, 1, 4, 55), ("ClusterIP", 10, 2, 4, 85),
    ("ClusterIP", 10, 10, 4, 325), ("LoadBalancer", 0, 0, 4, 5), ("LoadBalancer", 1, 0, 8, 5), ("LoadBalancer", 1, 1, 5, 17),
    ("LoadBalancer", 1, 2, 5, 20), ("LoadBalancer", 1, 10, 5, 44), ("LoadBalancer", 10, 0, 44, 5), ("LoadBalancer", 10, 1, 14, 125),
    ("LoadBalancer", 10, 2, 14, 155), ("LoadBalancer", 10, 10, 14, 395)])
def test_number_of_rules(kind: str, services: int, endpoints: int, filter_rules: int, nat_rules: int):
    """A balancer's Service has a node port too here: one more rule in each table than upstream's without one."""
    objects = []
    for n in range(services):
        objects.append(a_service(f"s{n}", ip=f"10.96.0.{n + 1}", **(BALANCER if kind == "LoadBalancer" else {}), ports=[
            a_port(80 + n, node_port=30000 + n if kind == "LoadBalancer" else 0)]))
        objects.append(a_slice(f"s{n}", [an_endpoint(f"10.244.1.{e + 1}") for e in range(endpoints)]))
    rules = rules_for(*objects)
    counts = [sum(len(chain.rules) for name, chain in rules.table(table).chains.items() if name.startswith("KUBE-"))
              for table in ("filter", "nat")]
    assert counts == [filter_rules, nat_rules]


DNS = [a_port(80, "http"), a_port(443, "https"), a_port(53, "dns-udp", "UDP"), a_port(53, "dns-tcp"), a_port(53, "dns-sctp", "SCTP")]
DNS_SLICE = [{"name": name, "port": number, "protocol": protocol} for name, number, protocol in (
    ("http", 80, "TCP"), ("https", 8443, "TCP"), ("dns-udp", 53, "UDP"), ("dns-tcp", 5353, "TCP"), ("dns-sctp", 53, "SCTP"))]
ONE, TWO = "10.244.1.5", "10.244.2.5"


@pytest.mark.parametrize(("source", "to", "number", "protocol", "expected"), [
    pytest.param(POD, "10.96.1.1", 80, "tcp", {f"{ONE}:80"}, id="simple"),
    pytest.param(ONE, "10.96.1.1", 80, "tcp", {f"{ONE}:80 masq"}, id="hairpin"),
    pytest.param(POD, "10.96.1.2", 80, "tcp", {f"{ONE}:80", f"{TWO}:80"}, id="two endpoints"),
    pytest.param(POD, "10.96.1.2", 443, "tcp", {f"{ONE}:8443", f"{TWO}:8443"}, id="another target port"),
    pytest.param(POD, "10.96.1.2", 53, "tcp", {f"{ONE}:5353", f"{TWO}:5353"}, id="one number, three protocols: TCP"),
    pytest.param(POD, "10.96.1.2", 53, "udp", {f"{ONE}:53", f"{TWO}:53"}, id="UDP"),
    pytest.param(POD, "10.96.1.2", 53, "sctp", {f"{ONE}:53", f"{TWO}:53"}, id="SCTP"),
    pytest.param(POD, "10.96.1.2", 80, "udp", {"10.96.1.2:80"}, id="no such protocol: untouched"),
    pytest.param(POD, "10.96.1.1", 443, "tcp", {"10.96.1.1:443"}, id="another Service's port: untouched"),
])
def test_cluster_ip(source: str, to: str, number: int, protocol: str, expected: set[str]):
    rules = rules_for(a_service("one", ip="10.96.1.1"), a_slice("one", [an_endpoint(ONE)], ports=DNS_SLICE[:1]),
                      a_service("two", ip="10.96.1.2", ports=DNS), a_slice("two", [an_endpoint(ONE), an_endpoint(TWO, "node2")], ports=DNS_SLICE))
    assert flow(rules, source, to, number, protocol) == expected


ALLOWED, BLOCKED = "203.0.113.2", "203.0.113.130"


@pytest.mark.parametrize(("source", "to", "number", "expected"), [
    pytest.param(POD, "10.96.0.10", 80, {LOCAL}, id="Pod to cluster address"),
    pytest.param(ALLOWED, NODE_IP, 30080, {f"{LOCAL} masq"}, id="outside to node port"),
    pytest.param(BLOCKED, NODE_IP, 30080, {f"{LOCAL} masq"}, id="node ports know no source ranges"),
    pytest.param(ALLOWED, "1.2.3.4", 80, {f"{LOCAL} masq"}, id="allowed to the first balancer"),
    pytest.param(ALLOWED, "5.6.7.8", 80, {f"{LOCAL} masq"}, id="allowed to the second"),
    pytest.param(BLOCKED, "1.2.3.4", 80, {"DROP"}, id="blocked at the first"), pytest.param(BLOCKED, "5.6.7.8", 80, {"DROP"}, id="at the second"),
    pytest.param(POD, "1.2.3.4", 80, {"DROP"}, id="a Pod at the first"), pytest.param(POD, "5.6.7.8", 80, {"DROP"}, id="at the second too"),
    pytest.param(NODE, "1.2.3.4", 80, {f"{LOCAL} masq"}, id="the node is within the ranges"),
    pytest.param(NODE, "5.6.7.8", 80, {f"{LOCAL} masq"}, id="the node at the second"),
    pytest.param("1.2.3.4", "1.2.3.4", 80, {f"{LOCAL} masq"}, id="the node by the first's address"),
    pytest.param("5.6.7.8", "5.6.7.8", 80, {f"{LOCAL} masq"}, id="by the second's"),
])
def test_load_balancer(source: str, to: str, number: int, expected: set[str]):
    rules = rules_for(a_service(type="LoadBalancer", ingress=["1.2.3.4", "5.6.7.8"], ports=[a_port(node_port=30080)],
                                loadBalancerSourceRanges=["172.30.0.0/24", " 203.0.113.0/25"]), a_slice(endpoints=[HERE]))
    assert flow(rules, source, to, number) == expected


EVERY_WAY = {"type": "LoadBalancer", "externalIPs": ["198.51.100.1"], "ingress": ["198.51.100.2"], "ports": [a_port(node_port=30080)]}
OUTER = [("198.51.100.1", 80), ("198.51.100.2", 80), (NODE_IP, 30080)]


@pytest.mark.parametrize(("source", "to", "number"), [(POD, "10.96.0.10", 80), *((source, *to) for source in (POD, OUTSIDE) for to in OUTER)])
@pytest.mark.parametrize("endpoints", [[], [an_endpoint("10.244.1.5", ready=False)],
                                       [an_endpoint("10.244.1.5", ready=False, serving=False, terminating=True)]])
def test_no_endpoints(source: str, to: str, number: int, endpoints):
    assert flow(rules_for(a_service(**EVERY_WAY), a_slice(endpoints=endpoints)), source, to, number) == {"REJECT"}


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
@pytest.mark.parametrize(("source", "to", "number"), [(POD, "10.96.0.10", 80), *((source, *to) for source in (POD, OUTSIDE) for to in OUTER)])
def test_external_traffic_policy(policy: str, source: str, to: str, number: int):
    rules = rules_for(a_service(**EVERY_WAY, externalTrafficPolicy=policy, healthCheckNodePort=30000), a_slice(endpoints=BOTH))
    both = {LOCAL, REMOTE}
    if to == "10.96.0.10":
        wanted = both
    elif policy == "Cluster":
        wanted = {f"{each} masq" for each in both}
    else:
        wanted = both if source == POD else {LOCAL}
    assert flow(rules, source, to, number) == wanted


def at(ip: str, node: str, state: str):
    return an_endpoint(ip, node, **{"ready": {"ready": True, "serving": True, "terminating": False},
                                    "dying": {"ready": False, "serving": True, "terminating": True},
                                    "dead": {"ready": False, "serving": False, "terminating": True}}[state])


def ends(*numbers: int) -> set[str]:
    return {f"10.244.{1 if n < 5 else 2}.1{n}:8080" for n in numbers}


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
@pytest.mark.parametrize(("states", "everywhere", "here"), [
    pytest.param([(1, "ready"), (2, "ready"), (3, "dying"), (4, "dead"), (5, "ready")], {1, 2, 5}, {1, 2}, id="ready ones exist"),
    pytest.param([(2, "dying"), (3, "dying"), (4, "dead"), (5, "ready")], {5}, {2, 3}, id="only terminating ones here"),
    pytest.param([(2, "dying"), (3, "dying"), (4, "dead"), (5, "dying")], {2, 3, 5}, {2, 3}, id="only terminating ones anywhere"),
    pytest.param([(5, "dying")], {5}, set(), id="a terminating one elsewhere"),
    pytest.param([(4, "dead"), (5, "dead")], None, None, id="nothing that serves"),
])
def test_terminating_endpoints(policy: str, states, everywhere, here):
    endpoints = [at(f"10.244.{1 if n < 5 else 2}.1{n}", "node1" if n < 5 else "node2", state) for n, state in states]
    rules = rules_for(a_service(**EVERY_WAY, externalTrafficPolicy=policy), a_slice(endpoints=endpoints))
    from_pod, from_outside = flow(rules, POD, "10.96.0.10"), flow(rules, OUTSIDE, "198.51.100.2")
    if everywhere is None:
        assert (from_pod, from_outside) == ({"REJECT"}, {"REJECT"})
        return
    assert from_pod == ends(*everywhere)
    assert from_outside == ((ends(*here) or {"DROP"}) if policy == "Local" else {f"{each} masq" for each in ends(*everywhere)})


@pytest.mark.parametrize(("addresses", "other", "loopback"), [
    pytest.param([], True, True, id="everywhere"), pytest.param(["0.0.0.0/0"], True, True, id="everywhere in so many words"),
    pytest.param(["172.30.0.0/24", "2001:db8::/64"], False, False, id="one network"),
    pytest.param(["172.30.0.0/24", "192.168.1.0/24"], True, False, id="two networks"),
    pytest.param(["172.30.0.0/24", "127.0.0.0/8"], False, True, id="with loopback"),
    pytest.param(["172.30.0.0/24", "127.0.0.0/16"], False, True, id="with a part of loopback"),
    pytest.param(["2001:db8::/64"], True, True, id="none of this family: everywhere"),
    pytest.param(["primary"], False, False, id="primary"),
])
@pytest.mark.parametrize("localhost", [True, False])
def test_node_ports(addresses: list[str], other: bool, loopback: bool, localhost: bool):
    config, _ = read([f"--nodeport-addresses={','.join(addresses)}", f"--iptables-localhost-nodeports={localhost}",
                      "--hostname-override=node1", "--cluster-cidr=10.244.0.0/16"])
    made = host.settings(config, "IPv4", node=a_node(), addresses=("127.0.0.1", NODE_IP, "192.168.1.2", "10.244.1.1", "2001:db8::1"))
    assert made.localhost_node_ports == (loopback and localhost)
    fields = {name: getattr(made, name) for name in ("localhost_node_ports", "node_port_addresses", "node_addresses")}
    rules = rules_for(a_service(type="NodePort", ports=[a_port(node_port=30080)]), a_slice(endpoints=BOTH), **fields)
    node = replace(HOST, addresses=HOST.addresses | {"192.168.1.2"})
    reached = {f"{LOCAL} masq", f"{REMOTE} masq"}
    assert flow(rules, POD, "10.96.0.10", host=node) == {LOCAL, REMOTE}
    for source in (OUTSIDE, POD):
        assert flow(rules, source, NODE_IP, 30080, host=node) == reached
        assert (flow(rules, source, "192.168.1.2", 30080, host=node) == reached) is other
    assert (flow(rules, NODE, "127.0.0.1", 30080, host=node) != {"127.0.0.1:30080"}) is (loopback and localhost)


def texts(*slices) -> list[str]:
    return [each.text for each in merged([slice_endpoints(each, "IPv4") for each in slices], ("http", "tcp"))]


NAMED, OTHER = [{"name": "http", "port": 80, "protocol": "TCP"}], [{"name": "http", "port": 8080, "protocol": "TCP"}]


@pytest.mark.parametrize(("slices", "expected"), [
    pytest.param([], [], id="no slice"),
    pytest.param([a_slice(endpoints=[an_endpoint("10.0.1.1"), an_endpoint("10.0.1.2")], ports=NAMED)], ["10.0.1.1:80", "10.0.1.2:80"], id="one"),
    pytest.param([a_slice(name="a", endpoints=[an_endpoint("10.0.1.1")], ports=NAMED), a_slice(name="b", endpoints=[an_endpoint("10.0.2.1")], ports=NAMED)],
                 ["10.0.1.1:80", "10.0.2.1:80"], id="two, same port"),
    pytest.param([a_slice(name="a", endpoints=[an_endpoint("10.0.1.1")], ports=NAMED), a_slice(name="b", endpoints=[an_endpoint("10.0.1.1")], ports=OTHER)],
                 ["10.0.1.1:80", "10.0.1.1:8080"], id="two, another number under one name"),
    pytest.param([a_slice(name="a", endpoints=[an_endpoint("10.0.1.1"), an_endpoint("10.0.1.2")], ports=NAMED),
                  a_slice(name="b", endpoints=[an_endpoint("10.0.1.2"), an_endpoint("10.0.1.3")], ports=NAMED)],
                 ["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"], id="overlapping"),
    pytest.param([a_slice(endpoints=[an_endpoint("10.0.1.1", ready=False), an_endpoint("10.0.1.2")], ports=NAMED)],
                 ["10.0.1.1:80", "10.0.1.2:80"], id="not ready ones are known as well"),
    pytest.param([a_slice(endpoints=[an_endpoint("10.0.1.1")], ports=[{"name": "http", "protocol": "TCP"}])], [], id="no number"),
    pytest.param([a_slice(endpoints=[an_endpoint("2001:db8::1")], ports=NAMED)], [], id="an address of the wrong family"),
    pytest.param([a_slice(endpoints=[{"addresses": []}, an_endpoint("10.0.1.2")], ports=NAMED)], ["10.0.1.2:80"], id="one without an address"),
])
def test_endpoints_of_slices(slices, expected: list[str]):
    assert texts(*slices) == expected


def test_which_changes_of_slices_are_changes():
    tracker = Tracker("IPv4")
    one, two = a_slice(name="one", ports=NAMED), a_slice(name="one", endpoints=[an_endpoint("10.244.1.6")], ports=NAMED)
    assert [tracker.slice("default/one", each) for each in (None, one, one, two, two, one, None, None)] == [
        False, True, False, True, False, True, True, False]
    moved = {**one, "metadata": {**one["metadata"], "labels": {"kubernetes.io/service-name": "other"}}}
    tracker.take_changed()
    assert tracker.slice("default/one", one)
    assert tracker.slice("default/one", moved)
    assert tracker.take_changed() == {"default/web", "default/other"}, "a slice that moves changes both Services"
    assert tracker.slice("default/one", {**moved, "metadata": {**moved["metadata"], "labels": {}}}), "nobody's any more"


def test_which_changes_of_services_are_changes():
    """Ports as upstream's service map counts them: 3 + 3 + 2 + 2, then one Service loses a port and the others go."""
    tracker = Tracker("IPv4")
    services = {
        "a": a_service("a", ip="172.30.55.4", ports=[a_port(1234, "x", "UDP"), a_port(1235, "y", "UDP"), a_port(1236, "z", "SCTP")]),
        "b": a_service("b", ip="172.30.55.10", type="NodePort", ports=[a_port(345, "x", "UDP", 678), a_port(344, "y", "TCP", 677), a_port(343, "z", "SCTP", 676)]),
        "c": a_service("c", ip="172.30.55.11", type="LoadBalancer", ingress=["1.2.3.4"], ports=[a_port(8675, "x", "UDP", 30061), a_port(8676, "y", "UDP", 30062)]),
        "d": a_service("d", ip="172.30.55.12", type="LoadBalancer", ingress=["5.6.7.8"], externalTrafficPolicy="Local", healthCheckNodePort=345,
                       ports=[a_port(8677, "x", "UDP", 30063), a_port(8678, "y", "UDP", 30064)])}

    def count() -> tuple[int, set[str]]:
        return sum(len(tracker.ports(key)) for key in tracker.services()), set(tracker.health_checked)

    assert all(tracker.service(f"default/{name}", each) for name, each in services.items())
    assert count() == (10, {"default/d"})
    assert not tracker.service("default/d", services["d"]), "told twice"
    assert tracker.service("default/a", a_service("a", ip="172.30.55.4", ports=[a_port(1235, "y", "UDP")]))
    assert all(tracker.service(f"default/{name}", None) for name in "bcd")
    assert count() == (1, set())
    for ignored in (a_service("a", ip="None"), a_service("a", ip="172.30.55.4", type="ExternalName"),
                    a_service("a", ip="172.30.55.4", labels={"service.kubernetes.io/service-proxy-name": "other"})):
        tracker.service("default/a", ignored)
        assert count() == (0, set())


def test_an_endpoint_here_and_there_is_known_once():
    """Upstream's slices of one Service may name one Pod twice; with the same place it makes no difference which counts."""
    found = merged([slice_endpoints(a_slice(name=name, endpoints=[an_endpoint("10.0.1.1", node)], ports=NAMED), "IPv4")
                    for name, node in (("a", "node1"), ("b", "node1"))], ("http", "tcp"))
    assert found == (Endpoint("10.0.1.1", 80, "10.0.1.1:80", "node1"),)
