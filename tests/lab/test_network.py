"""The cables of a lab, in the kernel."""

from __future__ import annotations

import subprocess

import pytest

from netlab.kernel import link
from netlab.kernel.rtnl import Rtnl
from netlab.lab import network, plan

pytestmark = pytest.mark.root


@pytest.fixture
def net():
    made = network.make(plan.make("testnet", workers=2))
    yield made
    made.close()


def ping(fd: int, address: str) -> bool:
    done = subprocess.run(["nsenter", f"--net=/proc/self/fd/{fd}", "ping", "-c1", "-W2", address], pass_fds=[fd],
                          capture_output=True, check=False)
    return done.returncode == 0


def test_nodes_reach_each_other_and_the_host_beyond(net):
    first, second = net.nodes["control-plane"], net.nodes["worker2"]
    assert ping(first, "172.18.0.4")
    assert ping(second, plan.OUTSIDE)
    assert ping(net.outside, "172.18.0.3")


@pytest.mark.parametrize("families", [(4, 6), (6,)])
def test_ipv6_reaches_as_far(families):
    numbers = [plan.NUMBERS[family] for family in families]
    made = network.make(plan.make("testnet6", workers=1, pod_cidrs=[one.pod_cidr for one in numbers],
                                  service_cidrs=[one.service_cidr for one in numbers]))
    try:
        for one, address in zip(numbers, made.lab.nodes[1].ips, strict=True):
            assert ping(made.nodes["control-plane"], address)
            assert ping(made.nodes["worker1"], one.outside)
            assert ping(made.outside, address)
        assert ping(made.outside, "172.18.0.3") == (4 in families)
    finally:
        made.close()


def test_nothing_of_it_is_in_the_hosts_own_network(net):
    with Rtnl() as sock:
        assert not [one for one in link.links(sock) if one.alias.startswith("netlab:testnet")]


def test_every_link_bears_the_mark(net):
    for fd in (net.fabric, net.outside, *net.nodes.values()):
        with Rtnl(fd) as sock:
            assert {one.alias for one in link.links(sock) if one.name != "lo"} == {"netlab:testnet"}


def test_a_node_that_boots_again_has_a_fresh_network_under_the_same_descriptor(net):
    fd = net.nodes["worker1"]
    with Rtnl(fd) as sock:
        sock.send(link.new_bridge("cni0"))
    network.renew(net, "worker1")
    with Rtnl(fd) as sock:
        assert sorted(one.name for one in link.links(sock)) == ["eth0", "lo"]
    assert ping(fd, plan.OUTSIDE)
    with Rtnl(net.fabric) as sock:
        assert len([one for one in link.links(sock) if one.name == "worker1"]) == 1


def test_long_names_get_a_port_with_a_number():
    node = plan.Node("a-node-with-a-long-name", "worker", "172.18.0.9")
    assert network.port_name(node, 7) == "port7"
