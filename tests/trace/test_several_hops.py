"""Routes with several next hops: the kernel hashes with a secret, so each of them is a way that a packet may take."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from netlab.kernel import link
from netlab.kernel.rtnl import Rtnl
from netlab.lab.history import _route
from netlab.netd import recorder
from netlab.netfilter import history
from netlab.trace import look, machine
from netlab.trace.branch import Prediction, Question
from netlab.trace.predict import predict
from netlab.trace.routing import NextHop, Route
from tests.trace import topology
from tests.trace.test_agree import Try, asked, sent, spelled
from tests.trace.topology import FORWARDS, Network

WEIGHTED = "nexthop via 172.18.0.3 weight 3 nexthop via 172.18.0.99"


@pytest.fixture(scope="module", params=[4, 6])
def net(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Nodes with two uplinks each, of which the second has addresses of its own."""
    made = topology.build(request.param)
    try:
        with Rtnl(made.places["fabric"]) as sock:
            link.add_bridge(sock, "br1")
            for node in topology.NODES:
                link.add_veth(sock, f"{node}-1", "eth1", peer_netns=made.places[f"node/{node}"], master="br1")
        for number, node in enumerate(topology.NODES, 2):
            made.sh(f"node/{node}", "; ".join(spelled(made, line) for line in FORWARDS) + "; true")
            made.sh(f"node/{node}", f"ip link set eth1 up; ip addr add {'172.19.0' if made.family == 4 else 'fd00:19:'}"
                    f".{number}/24 dev eth1".replace(":.", "::"))
        made.serve_all()
        yield made
    finally:
        made.close()


def route(net: Network, words: str) -> None:
    said = net.at(words).replace("172.19.0.3", "fd00:19::3" if net.family == 6 else "172.19.0.3")
    ip = "ip -6" if net.family == 6 else "ip"
    net.sh("node/node1", net.at(f"{ip} route flush 10.244.2.0/24; {ip} nexthop flush 2>/dev/null; ") + said.replace("ip route", f"{ip} route"))


def ways(net: Network, place: str) -> Prediction:
    world = look.world(net.taps(), net.names(), family=net.family)
    return predict(world, Question(place, net.at("10.244.2.3"), 8080))


GROUP = ("ip nexthop add id 1 via 172.18.0.3 dev eth0; ip nexthop add id 2 via 172.18.0.99 dev eth0; "
         "ip nexthop add id 3 group 1,3/2; ip route add 10.244.2.0/24 nhid 3")


@pytest.mark.root
@pytest.mark.parametrize(("words", "compatible"), [(f"ip route add 10.244.2.0/24 {WEIGHTED}", 1), (GROUP, 1), (GROUP, 0)],
                         ids=["weights", "a group", "a group alone"])
def test_each_next_hop_is_a_way_with_its_share(net: Network, words: str, compatible: int) -> None:
    net.sh("node/node1", f"sysctl -qw net.ipv4.nexthop_compat_mode={compatible}")
    route(net, words)
    found = ways(net, "pod/default/client")
    assert [(each.probability, each.outcome.status, each.certain) for each in found.branches] == [
        (0.75, "connected", True), (0.25, "unreachable", True)]
    said = net.at("by 172.18.0.3, one of 2 next hops to 10.244.2.0/24").replace("::0/", "::/")
    assert [hop.place for hop in found.branches[0].hops if hop.text == said] == ["node/node1"]
    for wish in (Try("pod/default/client", "10.244.2.3", 8080, "tcp"), Try("pod/default/client", "10.244.2.3", 5353, "udp"),
                 Try("node/node1", "10.244.2.3", 8080, "tcp"), Try("pod/default/web-2", "10.244.1.3", 8080, "tcp")):
        agreement, observed = sent(net, asked(net, wish))
        assert agreement.status == "agrees" or observed.lost, (wish, agreement)


@pytest.mark.root
def test_of_two_uplinks_a_nodes_own_packet_takes_that_of_its_source(net: Network) -> None:
    route(net, "ip route add 10.244.2.0/24 nexthop via 172.18.0.3 nexthop via 172.19.0.3")
    places = {(hop.packet.source, hop.interface) for branch in ways(net, "node/node1").branches for hop in branch.request
              if hop.kind == "iface" and hop.place == "node/node1"}
    assert (net.at("172.18.0.2"), "eth0") in places
    if net.family == 4:  # Linux 6.15
        assert ("172.19.0.2", "eth0") not in places
        assert ("172.18.0.2", "eth1") not in places
    for place in ("node/node1", "pod/default/client"):
        for protocol, port in (("tcp", 8080), ("tcp", 8080), ("udp", 5353), ("udp", 5353), ("icmp", 0)):
            agreement, observed = sent(net, asked(net, Try(place, "10.244.2.3", port, protocol)))
            assert agreement.status == "agrees" or observed.lost, (place, protocol, agreement)


@pytest.mark.root
def test_the_past_keeps_all_next_hops(net: Network) -> None:
    route(net, f"ip route add 10.244.2.0/24 {WEIGHTED}")
    kept = json.loads(recorder.read_network(net.places["node/node1"])[history.ROUTES])
    (found,) = [each for each in (_route(row) for row in kept) if each.hops]
    assert found.hops == (NextHop("eth0", net.at("172.18.0.3"), 3), NextHop("eth0", net.at("172.18.0.99"), 1))
    assert _route(["10.0.0.0/8", "eth0", "", "", 0, "unicast", 254, ""]) == Route("10.0.0.0/8", "eth0")  # of before


TEXT = """default proto static metric 20
\tnexthop via 172.18.0.1 dev eth0 weight 2
\tnexthop via 172.19.0.1 dev eth1 weight 1 dead linkdown
\tnexthop via inet6 fe80::1 dev eth2 weight 1
172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.2
"""
JSON = json.dumps([
    {"dst": "default", "protocol": "static", "metric": 20, "flags": [], "nexthops": [
        {"gateway": "172.18.0.1", "dev": "eth0", "weight": 2, "flags": []},
        {"gateway": "172.19.0.1", "dev": "eth1", "weight": 1, "flags": ["dead", "linkdown"]},
        {"via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth2", "weight": 1, "flags": []}]},
    {"dst": "172.18.0.0/16", "dev": "eth0", "prefsrc": "172.18.0.2", "flags": []}])


@pytest.mark.parametrize("routes", [TEXT, JSON], ids=["text", "JSON"])
def test_saved_routes_keep_the_next_hops_that_are_alive(routes: str) -> None:
    found = machine.parse_routes(routes)
    assert found[0] == Route("0.0.0.0/0", "eth0", "172.18.0.1", metric=20, hops=(
        NextHop("eth0", "172.18.0.1", 2), NextHop("eth2", "fe80::1", 1)))
    world = machine.world("", routes=routes)
    prediction = predict(world, Question(machine.PLACE, "192.0.2.9", 80))
    assert [(round(each.probability, 3), each.hops[-1].text) for each in prediction.branches] == [
        (0.667, "leaves the node by eth0 for 192.0.2.9:80"), (0.333, "leaves the node by eth2 for 192.0.2.9:80")]
