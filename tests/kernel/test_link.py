"""Links, addresses, routes, neighbours and settings, in namespaces of their own; `ip` is the second opinion."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from netlab.errors import KernelError, NetnsGone, NotFound
from netlab.kernel import link, netns, podnet, route, rtnl, sysctl
from netlab.kernel.route import Forward, Neighbor, Route
from netlab.kernel.rtnl import Rtnl

pytestmark = pytest.mark.root


@pytest.fixture
def here() -> Iterator[int]:
    fd = netns.new_netns()
    yield fd
    os.close(fd)


@pytest.fixture
def there() -> Iterator[int]:
    fd = netns.new_netns()
    yield fd
    os.close(fd)


def ip(fd: int, *words: str) -> Any:
    with netns.inside(fd):
        done = subprocess.run(["ip", "-j", "-d", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout or "[]")


def ping(fd: int, target: str) -> bool:
    with netns.inside(fd):
        return subprocess.run(["ping", "-c1", "-W2", target], capture_output=True, check=False).returncode == 0


def test_a_cable_carries_packets(here: int, there: int) -> None:
    with Rtnl(here) as near, Rtnl(there) as far:
        made = link.add_veth(near, "left", "right", peer_netns=there, mark="netlab:t", mac="02:00:00:00:00:01", mtu=1400)
        link.add_address(near, "left", "10.9.0.1/24")
        link.add_address(far, "right", "10.9.0.2/24")
        link.add_address(far, "right", "10.9.0.2/24")
        link.set_up(far, "lo", "right")
        assert made.peer == link.get(far, "right").ifindex
        assert (made.mac, made.mtu, made.alias, made.kind) == ("02:00:00:00:00:01", 1400, "netlab:t", "veth")
        assert link.addresses(far, link.get(far, "right").ifindex)[0].cidr == "10.9.0.2/24"
    assert ip(here, "addr", "show", "left")[0]["addr_info"][0]["broadcast"] == "10.9.0.255"
    assert ping(here, "10.9.0.2")


def test_ipv6_works_at_once(here: int, there: int) -> None:
    with Rtnl(here) as near, Rtnl(there) as far:
        link.add_veth(near, "left", "right", peer_netns=there)
        for sock, name, address in ((near, "left", "fd09::1/64"), (far, "right", "fd09::2/64")):
            link.add_address(sock, name, address)
            link.set_up(sock, name)
        link.settle(near, "left")  # it was set up before its cable had a far end
    assert ping(here, "fd09::2")


def test_a_bridge_is_made_once_and_never_on_top_of_something_else(here: int) -> None:
    with Rtnl(here) as sock:
        first = link.add_bridge(sock, "br0", mark="netlab:t", mac="02:00:00:00:00:0b")
        assert link.add_bridge(sock, "br0") == first
        link.add_veth(sock, "a", "b", master="br0")
        sock.send(link.change_port("a", hairpin=True, isolated=True))
        with pytest.raises(KernelError, match="no bridge"):
            link.add_bridge(sock, "a")
    found = ip(here, "link", "show", "a")[0]
    assert found["master"] == "br0"
    assert found["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert found["linkinfo"]["info_slave_data"]["isolated"] is True
    assert ip(here, "link", "show", "br0")[0]["linkinfo"]["info_data"]["mcast_snooping"] == 0


def test_only_what_is_marked_is_deleted(here: int) -> None:
    with Rtnl(here) as sock:
        link.add_bridge(sock, "mine", mark="netlab:t")
        link.add_veth(sock, "mine1", "mine2", mark="netlab:t node1")
        link.add_bridge(sock, "theirs", mark="netlab:other")
        link.add_bridge(sock, "nobodys")
        assert link.delete_marked(sock, "netlab:t") == 2
        assert link.delete_marked(sock, "netlab:t") == 0
        assert {found.name for found in link.links(sock)} == {"lo", "theirs", "nobodys"}


def test_errors_say_what_was_wanted_and_why_not(here: int) -> None:
    with Rtnl(here) as sock:
        with pytest.raises(KernelError, match="cannot change the link nope") as caught:
            sock.send(link.change("nope", up=True))
        assert caught.value.errno == errno.ENODEV
        with pytest.raises(KernelError, match="cannot add the address"):
            sock.send(link.new_address(99, "10.0.0.1/24"))
        with pytest.raises(KernelError, match="not an IP address"):
            link.new_address(1, "10.0.0.1/33")
        with pytest.raises(KernelError, match="not an Ethernet address"):
            link.new_bridge("x", mac="zz")
        with pytest.raises(NotFound, match="no link nope"):
            link.get(sock, "nope")
        assert link.find(sock, "nope") is None
        assert link.find(sock, "a-name-that-is-longer-than-any") is None
        assert link.remove(sock, "nope") is False
    with pytest.raises(NetnsGone):
        Rtnl("/run/netns/there-is-none")


def test_a_batch_goes_on_after_a_failure_and_reports_the_first(here: int) -> None:
    with Rtnl(here) as sock:
        errors = sock.try_send(link.new_bridge("a"), link.new_bridge("a"), link.new_bridge("b"))
        assert [error.errno if error else 0 for error in errors] == [0, errno.EEXIST, 0]
        with pytest.raises(KernelError, match="bridge a"):
            sock.send(link.new_bridge("a"), link.new_bridge("c"))
        assert link.get(sock, "c").kind == "bridge"


def test_any_kind_by_its_tables(here: int) -> None:
    with Rtnl(here) as sock:
        made = link.add(sock, "vx", "vxlan", {"IFLA_VXLAN_ID": 7, "IFLA_VXLAN_PORT": 8472, "IFLA_VXLAN_LEARNING": 0},
                        mark="netlab:t", mac="02:00:00:00:00:07")
        assert (made.kind, made.mac, made.alias) == ("vxlan", "02:00:00:00:00:07", "netlab:t")
        entry = Forward("02:00:00:00:00:09", "192.0.2.9", made.ifindex)
        sock.send(route.new_forward(entry))
        assert entry in route.forwards(sock, made.ifindex)
        sock.send(route.delete_forward(entry))
        assert entry not in route.forwards(sock, made.ifindex)
        neighbor = Neighbor("10.9.9.9", "02:00:00:00:00:09", made.ifindex)
        sock.send(route.new_neighbor(neighbor))
        assert route.neighbors(sock, made.ifindex) == [neighbor]
        sock.send(route.delete_neighbor(neighbor))
        assert route.neighbors(sock, made.ifindex) == []
    assert ip(here, "link", "show", "vx")[0]["linkinfo"]["info_data"]["id"] == 7


def test_routes_of_one_protocol_become_the_wanted_ones(here: int) -> None:
    with Rtnl(here) as sock:
        index = link.add_bridge(sock, "br0").ifindex
        link.add_address(sock, "br0", "10.9.0.1/24")
        link.add_address(sock, "br0", "fd09::1/64")
        foreign = Route("10.50.0.0/16", "10.9.0.50", index)
        sock.send(route.new_route(foreign))
        wanted = [Route("10.244.1.0/24", "10.9.0.2", index), Route("fd44:1::/64", "fd09::2", index),
                  Route("0.0.0.0/0", "10.9.0.3", index, mtu=1400)]
        assert route.replace_all(sock, wanted, protocol=110) == (3, 0)
        assert route.replace_all(sock, wanted, protocol=110) == (0, 0)
        moved = [Route("10.244.1.0/24", "10.9.0.9", index)]
        assert route.replace_all(sock, moved, protocol=110) == (1, 3)
        mine = [found for found in route.routes(sock) if found.protocol == 110]
        assert [(found.dst, found.gateway) for found in mine] == [("10.244.1.0/24", "10.9.0.9")]
        assert foreign in route.routes(sock)
        with pytest.raises(KernelError, match=r"via 10\.77\.0\.1"):
            sock.send(route.new_route(Route("10.60.0.0/16", "10.77.0.1", index)))


def test_settings_belong_to_the_namespace(here: int, there: int) -> None:
    outside = sysctl.read("net.ipv4.ip_forward")
    sysctl.write("net.ipv4.ip_forward", 1, here)
    assert sysctl.read("net.ipv4.ip_forward", here) == "1"
    assert sysctl.read("net.ipv4.ip_forward", there) == "0"
    assert sysctl.read("net.ipv4.ip_forward") == outside
    assert sysctl.repair({"net.ipv4.ip_forward": 0}, here) == {"net.ipv4.ip_forward": "1"}
    assert sysctl.repair({"net.ipv4.ip_forward": 0}, here) == {}
    assert sysctl.set_if_possible("net.ipv4.there.is.none", 1, here) is False
    with pytest.raises(KernelError, match=r"there\.is\.none"):
        sysctl.read("net.ipv4.there.is.none", here)


def test_a_container_is_attached_whole_or_not_at_all(here: int, there: int) -> None:
    plug = podnet.Plug("eth0", "veth01", addresses=("10.9.0.2/24", "fd09::2/64"), mac="0a:58:0a:09:00:02",
                       routes=(Route("0.0.0.0/0", "10.9.0.1", 0), Route("::/0", "fd09::1", 0)), alias="netlab:t",
                       hairpin=True)
    with Rtnl(here) as node, Rtnl(there) as pod:
        bridge = link.add_bridge(node, "cni0").ifindex
        link.add_address(node, "cni0", "10.9.0.1/24")
        plug = plug._replace(bridge=bridge)
        bad = plug._replace(routes=(Route("0.0.0.0/0", "10.77.0.1", 0),))
        with pytest.raises(KernelError, match=r"via 10\.77\.0\.1"):
            podnet.attach(node, pod, there, bad)
        assert link.find(node, "veth01") is None
        assert link.find(pod, "eth0") is None
        podnet.attach(node, pod, there, plug)
        with pytest.raises(KernelError, match="already exists"):
            podnet.attach(node, pod, there, plug)
        assert ping(there, "10.9.0.1")
        assert podnet.detach(node, "veth01", "somebody else's") is False
        assert podnet.detach(node, "veth01", "netlab:t") is True
        assert podnet.detach(node, "veth01", "netlab:t") is False
        assert link.find(pod, "eth0") is None


def test_a_link_vanishes_before_the_kernel_has_cleared_up(here: int) -> None:
    with netns.inside(here), Rtnl() as node:
        sizes = []
        for _ in range(3):
            link.add_veth(node, "left", "right")
            assert podnet.vanish(node, "left") is True
            sizes.append(len(link.links(node)))
        assert sizes == [1, 1, 1]
        assert podnet.vanish(node, "left") is False
        with pytest.raises(KernelError, match="delete the link lo"):
            podnet.vanish(node, "lo")


def test_many_containers_go_at_once(here: int) -> None:
    fds = [netns.new_netns() for _ in range(20)]
    with Rtnl(here) as node:
        for number, fd in enumerate(fds):
            with Rtnl(fd) as pod:
                podnet.attach(node, pod, fd, podnet.Plug("eth0", f"veth{number}"))
        podnet.delete_all(node, [f"veth{number}" for number in range(20)], 77)
        assert [found.name for found in link.links(node)] == ["lo"]
    for fd in fds:
        os.close(fd)


def test_attributes_survive_garbage() -> None:
    assert rtnl.attributes(b"\x02\x00\x01\x00rest") == {}
    assert rtnl.attributes(rtnl.attribute(3, "eth0") + b"\xff") == {3: b"eth0\0"}
