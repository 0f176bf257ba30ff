"""The network between nodes where nobody listens: made from the subnets of the interfaces that lead out."""

from __future__ import annotations

from ipaddress import ip_interface

from netlab.trace.branch import Question
from netlab.trace.lan import joined
from netlab.trace.predict import predict
from netlab.trace.routing import Route
from netlab.trace.world import Link, Space, World


def node(name: str, *cidrs: str) -> Space:
    routes = tuple(Route(str(ip_interface(cidr).network), "eth0") for cidr in cidrs)
    return Space(f"node/{name}", {"lo": Link("lo"), "eth0": Link("eth0", cidrs=cidrs)}, routes)


def networks(*nodes: Space) -> dict[str, set[str]]:
    """Return the places at each network."""
    spaces = joined({each.place: each for each in nodes})
    return {place: {link.far.place for link in space.links.values() if link.far}
            for place, space in spaces.items() if space.unseen}


def test_nodes_of_two_families_are_on_one_network() -> None:
    found = networks(node("a", "172.18.0.2/16", "fc00:18::2/64"), node("b", "172.18.0.3/16", "fc00:18::3/64"))
    assert found == {"network": {"node/a", "node/b"}}


def test_subnets_that_an_interface_joins_are_one_network_and_others_are_not() -> None:
    found = networks(node("a", "10.0.0.2/24"), node("b", "10.0.1.2/24", "10.0.0.3/24"), node("c", "10.0.1.3/24"),
                     node("d", "10.0.9.2/24"))
    assert sorted(map(sorted, found.values())) == [["node/a", "node/b", "node/c"], ["node/d"]]


def test_the_second_family_reaches_the_other_node() -> None:
    nodes = [node("a", "172.18.0.2/16", "fc00:18::2/64"), node("b", "172.18.0.3/16", "fc00:18::3/64")]
    world = World(joined({each.place: each for each in nodes}))
    for address in ("172.18.0.3", "fc00:18::3"):
        found = predict(world, Question("node/a", address, 80, "tcp"))
        assert {hop.place for branch in found.branches for hop in branch.hops} >= {"node/a", "node/b"}
