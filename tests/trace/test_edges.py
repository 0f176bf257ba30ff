"""What stands outside of IP's hooks at an interface: found, and a doubt of every prediction that passes the place."""

from __future__ import annotations

import pytest

from netlab.kernel import edges, link
from netlab.kernel.edges import Edge
from netlab.kernel.rtnl import Rtnl
from netlab.trace import look, machine
from netlab.trace.branch import Question
from netlab.trace.predict import predict
from tests.trace.drops import GUARD, STEAL
from tests.trace.topology import Network


@pytest.mark.root
def test_filters_and_chains_are_found_where_they_are(network: Network) -> None:
    fd = network.places["node/node2"]
    with Rtnl(fd) as sock:
        names = {entry.ifindex: entry.name for entry in link.links(sock)}
    assert edges.edges(fd, names) == ()
    network.sh("node/node2", "; ".join((STEAL % "egress", GUARD % ("netdev", "ingress devices = { eth0, v-web-2 }"),
                                        GUARD % ("bridge", "forward"), GUARD % ("inet", "ingress device eth0"))))
    assert sorted(edges.edges(fd, names)) == [
        Edge("", "", "the chain c of nftables' table bridge guard"),
        Edge("eth0", "egress", "a tc filter (u32): tc filter show dev eth0 egress"),
        Edge("eth0", "ingress", "the chain c of nftables' table inet guard"),
        Edge("eth0", "ingress", "the chain c of nftables' table netdev guard"),
        Edge("v-web-2", "ingress", "the chain c of nftables' table netdev guard")]


@pytest.mark.root
@pytest.mark.parametrize(("what", "words"), [
    (STEAL % "ingress", "node/node2: a tc filter (u32) at the ingress of eth0 is not followed here"),
    (GUARD % ("netdev", "ingress device eth0"), "node/node2: the nftables table netdev guard is not followed here"),
    (GUARD % ("inet", "ingress devices = { eth0 }"),
     "node/node2: the chain c of the nftables table inet guard is not followed here: its hook is ingress")])
def test_a_prediction_is_not_sure_of_a_place_that_has_some(network: Network, what: str, words: str) -> None:
    network.sh("node/node2", what)
    world = look.world(network.taps(), network.names())
    found = predict(world, Question("pod/default/client", "10.244.2.3", 8080)).branches[0]
    assert (found.certain, words in found.doubts) == (False, True), found.doubts
    there = predict(world, Question("pod/default/client", "10.244.1.3", 8080)).branches[0]
    assert there.certain


def test_saved_chains_of_ingress_are_a_doubt() -> None:
    rules = 'table inet guard {\n\tchain c {\n\t\ttype filter hook ingress devices = { "eth0", "eth1" } priority 0; policy accept;\n\t\ttcp dport 80 drop\n\t}\n}\n'
    found = predict(machine.world(rules, addresses=["192.0.2.9"], interface="eth0"),
                    Question(machine.PLACE, "192.0.2.9", 80, "tcp", "192.0.2.1", interface="eth0")).branches[0]
    assert not found.certain
    assert any("its hook is ingress" in each for each in found.doubts)
