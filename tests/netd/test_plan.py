"""What netd wants of a node, from Node objects."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netlab.cni import conflist
from netlab.cni.ranges import parse_sets
from netlab.netd import plan
from netlab.netd.plan import NodeView, Tunnel, Way

ONE = NodeView("one", ("172.18.0.2", "fd18::2"), ("10.244.0.0/24", "fd44::/64"))
TWO = NodeView("two", ("172.18.0.3", "fd18::3"), ("10.244.1.0/24", "fd44:1::/64"))
FOUR_ONLY = NodeView("three", ("172.18.0.4",), ("10.244.2.0/24", "fd44:2::/64"))
NEW = NodeView("new", (), ())


def test_a_node_is_read() -> None:
    node = {"metadata": {"name": "one"}, "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd44::/64"]},
            "status": {"addresses": [{"type": "Hostname", "address": "one"}, {"type": "InternalIP", "address": "172.18.0.2"},
                                     {"type": "InternalIP", "address": "fd18::2"}]}}
    assert plan.view(node) == ONE
    assert plan.view({"metadata": {"name": "old"}, "spec": {"podCIDR": "10.244.9.0/24"}}).pod_cidrs == ("10.244.9.0/24",)
    assert plan.view({"metadata": {"name": "new"}}) == NEW


def test_host_gateways_go_by_the_other_nodes_address_of_the_same_family() -> None:
    assert plan.ways(ONE, [ONE, TWO, FOUR_ONLY, NEW], "host-gw") == (
        Way("10.244.1.0/24", "172.18.0.3"), Way("10.244.2.0/24", "172.18.0.4"), Way("fd44:1::/64", "fd18::3"))


def test_the_overlay_goes_by_vteps_that_everybody_can_work_out() -> None:
    assert plan.ways(ONE, [ONE, TWO], "vxlan") == (Way("10.244.1.0/24", "10.244.1.0", onlink=True),
                                                  Way("fd44:1::/64", "fd44:1::", onlink=True))
    assert plan.tunnels(ONE, [ONE, TWO, NEW]) == (Tunnel("10.244.1.0", "0e:6c:0a:f4:01:00", "172.18.0.3"),
                                                 Tunnel("fd44:1::", "0e:6c:0a:f4:01:00", "172.18.0.3"))
    assert plan.vtep_mac(TWO.pod_cidrs) == "0e:6c:0a:f4:01:00"


def test_each_node_has_an_ethernet_address_of_its_own_in_the_overlay_however_small_its_range_is():
    for cluster, prefix in (("fd00:10:244::/56", 64), ("fd00::/100", 104), ("fd00::/108", 110), ("10.244.0.0/20", 26)):
        subnets = ip_network(cluster).subnets(new_prefix=prefix)
        macs = [plan.vtep_mac((str(subnet),)) for subnet in subnets]
        assert len(set(macs)) == len(macs)


@pytest.mark.parametrize("mtu", [0, 1450])
def test_the_conflist_is_one_that_runtimes_take(mtu: int) -> None:
    made = conflist.parse(plan.conflist(ONE.pod_cidrs, mtu=mtu, portmap=True))
    bridge, portmap = made.plugins
    assert (made.name, made.version) == ("netlab", "1.0.0")
    assert [item[0]["subnet"] for item in bridge["ipam"]["ranges"]] == list(ONE.pod_cidrs)
    assert [route["dst"] for route in bridge["ipam"]["routes"]] == ["0.0.0.0/0", "::/0"]
    assert bridge["ipMasq"] is False
    assert bridge["capabilities"] == {"ips": True}
    assert bridge.get("mtu", 0) == mtu
    assert portmap["capabilities"] == {"portMappings": True}
    assert len(conflist.parse(plan.conflist(("10.244.0.0/24",), mtu=0, portmap=False)).plugins) == 1


def test_pods_without_a_wish_get_addresses_behind_those_that_are_wished_for() -> None:
    made = plan.conflist(("10.244.1.0/24", "fd00::/64"), mtu=0, portmap=False, dynamic_from="10.244.1.9")
    sets = parse_sets(made["plugins"][0]["ipam"])
    assert str(next(iter(sets[0].walk(None)))[0]) == "10.244.1.9"
    assert sets[0].range_of(ip_address("10.244.1.5")) is not None
    assert len(sets[1].ranges) == 1


def test_masquerade_spares_the_cluster() -> None:
    assert plan.masquerade(["10.244.0.0/16", "fd44::/32"], 4, random_fully=False) == (
        "-A NETLAB-MASQ -s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN",
        "-A NETLAB-MASQ -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE")
    assert len(plan.masquerade(["10.244.0.0/16", "fd44::/32"], 6, random_fully=True)) == 2


def test_settings_follow_the_families() -> None:
    assert plan.settings(["10.244.0.0/16"]) == {"net.ipv4.ip_forward": 1}
    assert plan.settings(["fd44::/32"]) == {"net.ipv6.conf.all.forwarding": 1}
    assert len(plan.bridge_settings(["10.244.0.0/16", "fd44::/32"])) == 2
