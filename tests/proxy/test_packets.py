"""Real packets through the rules, in real namespaces: the kernel says where they went and under whose address."""

from __future__ import annotations

import asyncio
import functools

import pytest

from netlab.kernel import conntrack, iptables
from netlab.proxy.metrics import Metrics
from netlab.proxy.proxier import Proxier
from tests.proxy.builders import NODE_IP, a_port, a_service, a_settings, a_slice, an_endpoint, rules_for
from tests.proxy.network import BRIDGE_IP, FAR, OUTSIDE, PODS, Answer, Network

pytestmark = pytest.mark.root

LOCAL = [an_endpoint(PODS["web-1"]), an_endpoint(PODS["web-2"])]
REMOTE = [an_endpoint(ip, "node2") for ip in FAR]
SERVICE = a_service(type="LoadBalancer", externalIPs=["198.51.100.1"], ingress=["198.51.100.2"],
                    ports=[a_port(node_port=30080), a_port(53, "dns", "UDP", 30053)])
SLICE_PORTS = [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
TCP = [("10.96.0.10", 80), (NODE_IP, 30080), ("198.51.100.1", 80), ("198.51.100.2", 80)]
UDP = [("10.96.0.10", 53), (NODE_IP, 30053), ("198.51.100.1", 53), ("198.51.100.2", 53)]
WAYS = [(*each, "tcp") for each in TCP] + [(*each, "udp") for each in UDP]


def a_web(endpoints, **spec):
    service = a_service(**{**{key: value for key, value in SERVICE["spec"].items() if key != "clusterIP"},
                           "ingress": ["198.51.100.2"], **spec})
    return service, a_slice(endpoints=endpoints, ports=SLICE_PORTS)


def ends(net: Network, place: str, address: str, port: int, protocol: str, tries: int = 12) -> set[str]:
    return {answer.failure or answer.server for answer in (net.ask(place, address, port, protocol) for _ in range(tries))}


@pytest.mark.parametrize(("address", "port", "protocol"), WAYS)
@pytest.mark.parametrize("place", ["client", "outside"])
def test_every_address_reaches_an_endpoint(net: Network, place: str, address: str, port: int, protocol: str):
    net.load(rules_for(*a_web(LOCAL[:1])))
    answer = net.ask(place, address, port, protocol)
    assert answer.server == f"{PODS['web-1']}:{8080 if protocol == 'tcp' else 5353}"
    own = place == "client" and address == "10.96.0.10"
    assert answer.seen == (PODS["client"] if own else BRIDGE_IP)


@pytest.mark.parametrize("place", ["client", "node", "outside"])
def test_all_endpoints_get_their_share(net: Network, place: str):
    net.load(rules_for(*a_web(LOCAL + REMOTE)))
    assert ends(net, place, "10.96.0.10", 80, "tcp", 60) == {f"{ip}:8080" for ip in (PODS["web-1"], PODS["web-2"], *FAR)}


def test_a_pod_reaches_itself_through_its_service(net: Network):
    net.load(rules_for(*a_web(LOCAL[:1])))
    assert net.ask("web-1", "10.96.0.10", 80) == Answer(f"{PODS['web-1']}:8080", BRIDGE_IP)


def test_the_far_node_sees_the_pod_s_address_or_the_node_s(net: Network):
    net.load(rules_for(*a_web(REMOTE[:1])))
    assert net.ask("client", "10.96.0.10", 80).seen == PODS["client"]
    assert net.ask("client", NODE_IP, 30080).seen == NODE_IP
    net.load(rules_for(*a_web(REMOTE[:1]), masquerade_all=True))
    assert net.ask("client", "10.96.0.10", 80).seen == NODE_IP


def test_external_policy_local_keeps_the_client_s_address(net: Network):
    net.load(rules_for(*a_web(LOCAL[:1] + REMOTE, externalTrafficPolicy="Local")))
    for address, port in TCP[1:]:
        assert net.ask("outside", address, port) == Answer(f"{PODS['web-1']}:8080", OUTSIDE)
    assert ends(net, "client", NODE_IP, 30080, "tcp", 40) == {f"{ip}:8080" for ip in (PODS["web-1"], *FAR)}


@pytest.mark.parametrize(("address", "port", "protocol"), WAYS)
def test_no_endpoints_is_refused_at_once(net: Network, address: str, port: int, protocol: str):
    net.load(rules_for(*a_web([])))
    # What the node itself sends to an outside address leaves it: OUTPUT knows cluster addresses only, upstream's too.
    for place in ("client", "outside") if address.startswith("198.") else ("client", "node", "outside"):
        assert net.ask(place, address, port, protocol, wait=2.0).failure in ("REJECT", "HERE"), place


def test_no_local_endpoint_is_dropped(net: Network):
    net.load(rules_for(*a_web(REMOTE, externalTrafficPolicy="Local", internalTrafficPolicy="Local")))
    assert net.ask("outside", NODE_IP, 30080).failure == "DROP"
    assert net.ask("client", "10.96.0.10", 80).failure == "DROP"
    assert ends(net, "client", NODE_IP, 30080, "tcp") <= {f"{ip}:8080" for ip in FAR}


def test_source_ranges(net: Network):
    net.load(rules_for(*a_web(LOCAL, loadBalancerSourceRanges=["203.0.113.0/24"])))
    assert net.ask("outside", "198.51.100.2", 80).failure == "DROP"
    net.load(rules_for(*a_web(LOCAL, loadBalancerSourceRanges=["192.0.2.0/24"])))
    assert net.ask("outside", "198.51.100.2", 80).server


def test_a_node_port_on_localhost(net: Network):
    net.load(rules_for(*a_web(LOCAL[:1])))
    assert net.ask("node", "127.0.0.1", 30080) == Answer(f"{PODS['web-1']}:8080", BRIDGE_IP)


def test_affinity_brings_a_client_back(net: Network):
    net.load(rules_for(*a_web(LOCAL + REMOTE, sessionAffinity="ClientIP")))
    assert len(ends(net, "client", "10.96.0.10", 80, "tcp", 25)) == 1
    net.load(rules_for(*a_web(LOCAL + REMOTE)))
    assert len(ends(net, "client", "10.96.0.10", 80, "tcp", 60)) == 4


def test_legacy_backend_does_the_same(net: Network):
    net.load(rules_for())
    legacy = iptables.find("IPv4", "legacy")
    try:
        net.load(rules_for(*a_web(LOCAL[:1])), legacy)
        assert net.ask("outside", NODE_IP, 30080) == Answer(f"{PODS['web-1']}:8080", BRIDGE_IP)
    finally:
        iptables.restore(legacy, "".join(f"*{table}\nCOMMIT\n" for table in ("filter", "nat", "mangle")),
                         netns=net.places["node"], flush=True)


def test_conntrack_shows_the_rewriting_and_forgets_on_demand(net: Network):
    net.load(rules_for(*a_web(LOCAL[:1])))
    assert net.ask("client", "10.96.0.10", 53, "udp", source_port=4242).server
    found = [flow for flow in conntrack.flows(net.places["node"], protocol="udp") if flow.original.sport == 4242]
    assert [(flow.original.dst, flow.reply.src, flow.reply.sport) for flow in found] == [
        ("10.96.0.10", PODS["web-1"], 5353)]
    assert found[0].status & conntrack.DST_NAT
    assert conntrack.delete(found, net.places["node"]) == 1
    assert conntrack.delete(found, net.places["node"]) == 0


def test_a_udp_client_that_keeps_talking_is_moved_when_its_endpoint_goes(net: Network):
    net.load(rules_for())
    proxier = Proxier(a_settings(), iptables.find(), Metrics(), netns=net.places["node"])
    service, slices = a_web(LOCAL[:1])
    proxier.service("default/web", service)
    proxier.slice("default/web-1", slices)
    asyncio.run(proxier.sync(0.0))
    talk = functools.partial(net.ask, "client", "10.96.0.10", 53, "udp", source_port=4243)
    assert talk().server == f"{PODS['web-1']}:5353"
    proxier.slice("default/web-1", a_web(LOCAL[1:])[1])
    asyncio.run(proxier.sync(1.0))
    assert talk().server == f"{PODS['web-2']}:5353"
    proxier.slice("default/web-1", a_web(LOCAL[1:] + REMOTE)[1])
    asyncio.run(proxier.sync(2.0))
    assert talk().server == f"{PODS['web-2']}:5353", "an endpoint that still serves keeps its flows"
