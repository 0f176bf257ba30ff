"""The network between nodes where nobody listens: made from the subnets of the interfaces that lead out."""

from __future__ import annotations

import os
import subprocess
from ipaddress import ip_interface

import pytest

from netlab.kernel import netns
from netlab.trace import look
from netlab.trace.branch import Question
from netlab.trace.lan import joined
from netlab.trace.listen import Tap
from netlab.trace.predict import predict
from netlab.trace.routing import Route
from netlab.trace.world import End, Link, Space, World


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


@pytest.mark.root
def test_a_cable_of_the_same_indices_in_another_node_is_not_its_end() -> None:
    """Both ends name each other by index alone, and a node far away may have a cable with the same two."""
    made = {name: netns.new_netns() for name in ("node/a", "hidden", "node/b", "pod/default/c")}
    children = []
    try:
        for near, far, index, other in (("node/a", "hidden", 77, 88), ("node/b", "pod/default/c", 88, 77)):
            with netns.inside(made[far]):
                children.append(subprocess.Popen(["sleep", "60"]))
            with netns.inside(made[near]):
                subprocess.run(f"ip link add name eth0 index {index} type veth peer name far index {other} netns {children[-1].pid}; "
                               "ip link set eth0 up", shell=True, check=True)
        world = look.world([Tap(place, made[place]) for place in ("node/a", "node/b")], alone=False)
        assert world.spaces["node/a"].links["eth0"].far is None
        known = look.world([Tap(place, fd) for place, fd in made.items() if place != "hidden"], alone=False)
        assert known.spaces["node/b"].links["eth0"].far == End("pod/default/c", "far")
        assert known.spaces["node/a"].links["eth0"].far is None
    finally:
        for child in children:
            child.kill()
            child.wait()
        for fd in made.values():
            os.close(fd)
