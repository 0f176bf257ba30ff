"""Nodes on one link with netd's hand on them: packets between Pods, and everything repaired that is broken."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netlab.cni import invoke
from netlab.cni import main as plugins
from netlab.errors import KernelError, NotFound
from netlab.kernel import link, netns, route, sysctl
from netlab.kernel.rtnl import Rtnl
from netlab.netd import plan
from netlab.netd.configuration import Configuration
from netlab.netd.node import PROTOCOL, Node
from netlab.netd.plan import NodeView

pytestmark = pytest.mark.root

CLUSTER = ("10.244.0.0/16", "fd44::/32")


@dataclass
class Cluster:
    """Two nodes and a world outside, on a bridge in a namespace of its own."""

    directory: Path
    fds: list[int]
    views: list[NodeView]

    def run(self, number: int, *words: str) -> str:
        with netns.inside(self.fds[number]):
            done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    def apply(self, number: int, backend: plan.Backend, views: list[NodeView] | None = None) -> Node:
        node = Node(CLUSTER, backend)
        with netns.inside(self.fds[number]):
            node.apply_settings()
            node.apply_routes(self.views[number], self.views if views is None else views)
            node.apply_rules()
        return node

    def pod(self, number: int, node: Node) -> tuple[int, list[str]]:
        """Return a Pod of a node: its namespace and its addresses."""
        fd = netns.new_netns()
        self.fds.append(fd)
        here = self.directory / str(number)
        with netns.inside(self.fds[number]):
            wanted = plan.conflist(self.views[number].pod_cidrs, mtu=node.mtu(self.views[number]), portmap=False)
            wanted["plugins"][0]["ipam"]["dataDir"] = str(here / "networks")
            Configuration(here / "net.d", here / "bin", here / "state").write(wanted)
            plugins.install(str(here / "bin"))
            result = asyncio.run(invoke.add(invoke.load_conflist(here / "net.d"), container_id=f"c{fd}",
                                            netns=f"/proc/{os.getpid()}/fd/{fd}", plugin_dirs=[str(here / "bin")],
                                            cache_dir=here / "cache"))
        return len(self.fds) - 1, [ip.address.partition("/")[0] for ip in result.ips]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    fabric, *nodes = fds = [netns.new_netns() for _ in range(4)]
    views = [NodeView(f"n{n}", (f"172.18.0.{n + 2}", f"fd18::{n + 2}"), (f"10.244.{n}.0/24", f"fd44:{n}::/64"))
             for n in range(2)]
    made = Cluster(tmp_path, [*nodes, fabric], views)
    with Rtnl(fabric) as sock:
        link.add_bridge(sock, "br0")
        for number, fd in enumerate(nodes):
            link.add_veth(sock, f"p{number}", "eth0", peer_netns=fd, master="br0")
            with Rtnl(fd) as node:
                link.set_up(node, "lo", "eth0")
                link.add_address(node, "eth0", f"172.18.0.{number + 2}/16")
                link.add_address(node, "eth0", f"fd18::{number + 2}/64")
    yield made
    for fd in {*made.fds, *fds}:
        os.close(fd)


OUTSIDE = 2  # the third namespace on the link: no node of the cluster


@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_pods_of_two_nodes_talk_with_their_own_addresses(cluster: Cluster, backend: plan.Backend) -> None:
    (first, _), (_, ips) = (cluster.pod(number, cluster.apply(number, backend)) for number in range(2))
    for ip in ips:
        assert "1 received" in cluster.run(first, "ping", "-c1", "-W2", ip)
    with netns.socket_in(cluster.fds[-1]) as listener, netns.socket_in(cluster.fds[first]) as caller:
        listener.bind((ips[0], 7))
        listener.listen()
        listener.settimeout(5)
        caller.settimeout(5)
        caller.connect((ips[0], 7))
        taken, peer = listener.accept()
        assert peer[0] == "10.244.0.2"
        taken.sendall(bytes(100_000))
        size = 0
        while size < 100_000:
            size += len(caller.recv(65536))
        taken.close()


def test_what_leaves_the_cluster_bears_the_nodes_address(cluster: Cluster) -> None:
    pod, _ = cluster.pod(0, cluster.apply(0, "host-gw"))
    for family, place, seen in ((2, "172.18.0.4", "172.18.0.2"), (10, "fd18::4", "fd18::2")):
        with netns.socket_in(cluster.fds[OUTSIDE], family=family) as listener:
            listener.bind((place, 7))
            listener.listen()
            listener.settimeout(5)
            with netns.socket_in(cluster.fds[pod], family=family) as caller:
                caller.settimeout(5)
                caller.connect((place, 7))
                taken, peer = listener.accept()
                taken.close()
                assert peer[0] == seen


@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_a_second_look_changes_nothing(cluster: Cluster, backend: plan.Backend) -> None:
    def state() -> list[str]:
        return [cluster.run(0, *words.split()) for words in ("ip route", "ip -6 route", "ip -br link", "bridge fdb", "ip neigh",
                                                             "iptables-save -t nat", "ip6tables-save -t nat")]
    cluster.apply(0, backend)
    before = [line for text in state() for line in text.splitlines() if not line.startswith("#") and "STALE" not in line]
    cluster.apply(0, backend)
    assert [line for text in state() for line in text.splitlines()
            if not line.startswith("#") and "STALE" not in line] == before


def test_damage_is_repaired_and_foreign_things_stay(cluster: Cluster) -> None:
    cluster.apply(0, "host-gw")
    for words in ("ip route del 10.244.1.0/24", "ip route add 10.99.0.0/16 via 172.18.0.9", "iptables -t nat -F NETLAB-MASQ",
                  "iptables -t nat -I POSTROUTING -s 10.77.0.0/16 -j ACCEPT", "ip6tables -t nat -F POSTROUTING",
                  "sysctl -qw net.ipv4.ip_forward=0", "iptables -P FORWARD DROP"):
        assert not cluster.run(0, *words.split())
    cluster.apply(0, "host-gw")
    assert "via 172.18.0.3" in cluster.run(0, "ip", "route", "show", "10.244.1.0/24")
    assert "10.99.0.0/16" in cluster.run(0, "ip", "route")
    nat = cluster.run(0, "iptables-save", "-t", "nat")
    assert nat.count("-A NETLAB-MASQ") == 2
    assert nat.count("-j NETLAB-MASQ") == 1
    assert "-s 10.77.0.0/16 -j ACCEPT" in nat
    assert "-j NETLAB-MASQ" in cluster.run(0, "ip6tables-save", "-t", "nat")
    assert sysctl.read("net.ipv4.ip_forward", cluster.fds[0]) == "1"
    assert "-A NETLAB-FORWARD -s 10.244.0.0/16 -j ACCEPT" in cluster.run(0, "iptables-save", "-t", "filter")


def test_a_node_that_goes_takes_its_route_along(cluster: Cluster) -> None:
    for backend in ("host-gw", "vxlan", "host-gw"):
        cluster.apply(0, backend)  # type: ignore[arg-type]
        with Rtnl(cluster.fds[0]) as sock:
            assert len([found for found in route.routes(sock) if found.protocol == PROTOCOL]) == 2
            assert (link.find(sock, "netlab.1") is not None) == (backend == "vxlan")
    cluster.apply(0, "host-gw", views=[cluster.views[0]])
    with Rtnl(cluster.fds[0]) as sock:
        assert [found for found in route.routes(sock) if found.protocol == PROTOCOL] == []


def test_vxlan_forgets_a_node(cluster: Cluster) -> None:
    cluster.apply(0, "vxlan")
    with Rtnl(cluster.fds[0]) as sock:
        index = link.get(sock, "netlab.1").ifindex
        assert len(route.forwards(sock, index)) == 1
        cluster.apply(0, "vxlan", views=[cluster.views[0]])
        assert route.forwards(sock, index) == []
        assert [entry for entry in route.neighbors(sock, index) if entry.protocol == PROTOCOL] == []


def test_a_node_that_is_not_on_the_link_is_named(cluster: Cluster) -> None:
    far = NodeView("far", ("203.0.113.9",), ("10.244.9.0/24",))
    with pytest.raises(KernelError, match=r"route to 10\.244\.9\.0/24 via 203\.0\.113\.9"):
        cluster.apply(0, "host-gw", views=[far])
    with netns.inside(cluster.fds[0]), pytest.raises(NotFound, match=r"203\.0\.113\.9"):
        Node(CLUSTER, "host-gw").apply_routes(far, cluster.views)


def test_the_conflist_is_kept_but_never_taken_from_somebody_else(tmp_path: Path) -> None:
    made = Configuration(tmp_path / "net.d", tmp_path / "bin", tmp_path / "state")
    file = tmp_path / "net.d" / "10-netlab.conflist"
    one, two = ({"plugins": [name]} for name in ("one", "two"))
    assert (made.write(one), made.write(one), made.write(two)) == (True, False, True)
    assert json.loads(file.read_text()) == two
    file.write_text("mine")
    assert made.write(one) is False
    assert Configuration(tmp_path / "net.d", tmp_path / "bin", tmp_path / "state").write(two) is False
    assert file.read_text() == "mine"
    file.unlink()
    assert made.write(one) is True


def test_plugins_are_installed_where_they_are_missing(tmp_path: Path) -> None:
    made = Configuration(tmp_path / "net.d", tmp_path / "bin", tmp_path / "state")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bridge").write_text("somebody's")
    made.install_plugins()
    assert (tmp_path / "bin" / "bridge").read_text() == "somebody's"
    assert made.has_plugin("host-local")
    done: Any = subprocess.run([str(tmp_path / "bin" / "host-local")], env={"CNI_COMMAND": "VERSION"}, capture_output=True,
                               check=True)
    assert "1.1.0" in json.loads(done.stdout)["supportedVersions"]
    with pytest.raises(KernelError, match="cannot install"):
        Configuration(tmp_path, Path("/proc/nowhere"), tmp_path).install_plugins()
