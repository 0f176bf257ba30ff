"""nftables mode: real packets through the table, in real namespaces; what a change leaves alone; who takes over."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Iterator

import pytest

from netlab.kernel import iptables, netns, nft_table
from netlab.netfilter import parse
from netlab.proxy import cleanup, nft_names, nft_render
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_proxier import NftProxier
from netlab.proxy.nft_render import nft_wanted_for
from netlab.proxy.proxier import Proxier
from netlab.proxy.settings import LocalDetector
from tests.proxy import builders
from tests.proxy.builders import NODE_IP, a_port, a_service, a_settings, a_slice, an_endpoint, recorded
from tests.proxy.network import BRIDGE_IP, OUTSIDE, PODS, Answer, Network
from tests.proxy.nft_compare import tables, without_memory
from tests.proxy.test_packets import LOCAL, REMOTE, SLICE_PORTS, TCP, WAYS, a_web, ends

pytestmark = pytest.mark.root

NODE = {"service_cidrs": ("10.96.0.0/16",), "node_port_addresses": (f"{NODE_IP}/32",),
        "node_addresses": ("127.0.0.1", NODE_IP), "localhost_node_ports": False}


class Node:
    """A node's proxier, told of objects as informers tell it."""

    def __init__(self, fd: int, **settings) -> None:
        self.fd = fd
        self.proxier = NftProxier(a_settings(**{**NODE, **settings}), Metrics(), netns=fd)
        self.now = 0.0
        self.objects: dict[tuple[str, str], dict] = {}

    def sync(self, *objects: dict, gone: tuple[tuple[str, str], ...] = ()):
        for each in objects:
            self.objects[each["kind"], f"default/{each['metadata']['name']}"] = each
            self.tell(each["kind"], f"default/{each['metadata']['name']}", each)
        for kind, key in gone:
            del self.objects[kind, key]
            self.tell(kind, key, None)
        self.now += 1.0
        return asyncio.run(self.proxier.sync(self.now))

    def tell(self, kind: str, key: str, obj: dict | None) -> None:
        (self.proxier.service if kind == "Service" else self.proxier.slice)(key, obj)

    def kernel(self):
        return without_memory(tables(listing(self.fd, self.proxier.settings.family)))

    def wanted(self):
        return tables(nft_render.text(nft_wanted_for(self.objects.values(), self.proxier.settings)))


def listing(fd: int, family: str = "IPv4") -> str:
    nft = nft_table.open_nft(fd)
    try:
        return nft.run(f"list table {'ip6' if family == 'IPv6' else 'ip'} {nft_names.TABLE}")
    finally:
        nft.close()


@pytest.fixture
def node(net: Network) -> Iterator[Node]:
    fd = net.places["node"]
    iptables.restore(iptables.find(), "*filter\nCOMMIT\n*nat\nCOMMIT\n", netns=fd, flush=True)
    cleanup.run("auto", fd)
    yield Node(fd)
    cleanup.run_nft(fd)


@pytest.fixture
def empty() -> Iterator[int]:
    fd = netns.new_netns()
    yield fd
    os.close(fd)


@pytest.mark.parametrize(("family", "settings"), [
    ("IPv4", {}), ("IPv6", {"node_ip": "", "service_cidrs": (), "node_port_addresses": (),
                            "detector": type(a_settings().detector)()})])
def test_the_kernel_holds_what_the_recording_holds(empty: int, family: str, settings):
    it = Node(empty, family=family, **settings)
    for each in builders.recorded_objects():
        if each["kind"] in ("Service", "EndpointSlice"):
            it.tell(each["kind"], f"{each['metadata']['namespace']}/{each['metadata']['name']}", each)
    it.sync()
    nft = nft_table.open_nft(empty)
    ours = it.kernel()
    nft.run("flush ruleset")
    nft.run(recorded("nft-ruleset.txt"))
    nft.close()
    assert ours == tables(listing(empty, family))


@pytest.mark.parametrize(("address", "port", "protocol"), WAYS)
@pytest.mark.parametrize("place", ["client", "outside"])
def test_every_address_reaches_an_endpoint(net: Network, node: Node, place: str, address: str, port: int, protocol: str):
    node.sync(*a_web(LOCAL[:1]))
    answer = net.ask(place, address, port, protocol)
    assert answer.server == f"{PODS['web-1']}:{8080 if protocol == 'tcp' else 5353}"
    own = place == "client" and address == "10.96.0.10"
    assert answer.seen == (PODS["client"] if own else BRIDGE_IP)


@pytest.mark.parametrize("place", ["client", "node", "outside"])
def test_all_endpoints_get_their_share(net: Network, node: Node, place: str):
    node.sync(*a_web(LOCAL + REMOTE))
    assert ends(net, place, "10.96.0.10", 80, "tcp", 60) == {f"{each['addresses'][0]}:8080" for each in LOCAL + REMOTE}


def test_a_pod_reaches_itself_through_its_service(net: Network, node: Node):
    node.sync(*a_web(LOCAL[:1]))
    assert net.ask("web-1", "10.96.0.10", 80) == Answer(f"{PODS['web-1']}:8080", BRIDGE_IP)


def test_the_far_node_sees_the_pod_s_address_or_the_node_s(net: Network, node: Node):
    node.sync(*a_web(REMOTE[:1]))
    assert net.ask("client", "10.96.0.10", 80).seen == PODS["client"]
    assert net.ask("client", NODE_IP, 30080).seen == NODE_IP
    everything = Node(node.fd, masquerade_all=True)
    everything.sync(*a_web(REMOTE[:1]))
    assert net.ask("client", "10.96.0.10", 80).seen == NODE_IP


def test_external_policy_local_keeps_the_client_s_address(net: Network, node: Node):
    node.sync(*a_web(LOCAL[:1] + REMOTE, externalTrafficPolicy="Local"))
    for address, port in TCP[1:]:
        assert net.ask("outside", address, port) == Answer(f"{PODS['web-1']}:8080", OUTSIDE)
    reached = {f"{each['addresses'][0]}:8080" for each in LOCAL[:1] + REMOTE}
    assert ends(net, "client", NODE_IP, 30080, "tcp", 40) == reached


@pytest.mark.parametrize(("address", "port", "protocol"), WAYS)
def test_no_endpoints_is_refused_at_once(net: Network, node: Node, address: str, port: int, protocol: str):
    node.sync(*a_web([]))
    for place in ("client", "node", "outside"):
        assert net.ask(place, address, port, protocol, wait=2.0).failure in ("REJECT", "HERE"), place


def test_no_local_endpoint_is_dropped(net: Network, node: Node):
    node.sync(*a_web(REMOTE, externalTrafficPolicy="Local", internalTrafficPolicy="Local"))
    assert net.ask("outside", NODE_IP, 30080).failure == "DROP"
    assert net.ask("client", "10.96.0.10", 80).failure == "DROP"
    assert ends(net, "client", NODE_IP, 30080, "tcp") <= {f"{each['addresses'][0]}:8080" for each in REMOTE}


def test_ports_and_addresses_that_nobody_has(net: Network, node: Node):
    node.sync(*a_web(LOCAL))
    assert net.ask("client", "10.96.0.10", 81, wait=2.0).failure == "REJECT", "no such port of the cluster address"
    assert net.ask("client", "10.96.77.7", 80).failure == "DROP", "no Service has the address"


def test_source_ranges(net: Network, node: Node):
    node.sync(*a_web(LOCAL, loadBalancerSourceRanges=["203.0.113.0/24", "203.0.113.7/32"]))
    assert net.ask("outside", "198.51.100.2", 80).failure == "DROP"
    assert net.ask("outside", NODE_IP, 30080).server, "node ports know no source ranges"
    node.sync(*a_web(LOCAL, loadBalancerSourceRanges=["192.0.2.0/24", "203.0.113.0/24"]))
    assert net.ask("outside", "198.51.100.2", 80).server


def test_affinity_brings_a_client_back_even_after_a_new_start(net: Network, node: Node):
    node.sync(*a_web(LOCAL + REMOTE, sessionAffinity="ClientIP"))
    (first,) = ends(net, "client", "10.96.0.10", 80, "tcp", 25)
    again = Node(node.fd)
    again.sync(*a_web(LOCAL + REMOTE, sessionAffinity="ClientIP"))
    assert ends(net, "client", "10.96.0.10", 80, "tcp", 25) == {first}
    again.sync(*a_web(LOCAL + REMOTE))
    assert len(ends(net, "client", "10.96.0.10", 80, "tcp", 60)) == 4


def test_a_udp_client_that_keeps_talking_is_moved_when_its_endpoint_goes(net: Network, node: Node):
    node.sync(*a_web(LOCAL[:1]))
    assert net.ask("client", "10.96.0.10", 53, "udp", source_port=4244).server == f"{PODS['web-1']}:5353"
    node.sync(*a_web(LOCAL[1:]))
    assert net.ask("client", "10.96.0.10", 53, "udp", source_port=4244).server == f"{PODS['web-2']}:5353"


def test_one_changed_endpoint_touches_its_service_only(empty: int):
    it = Node(empty)
    it.sync(*(each for n in range(1, 20) for each in (a_service(f"s{n}", ip=f"10.96.0.{n}"), a_slice(f"s{n}"))))
    change = it.sync(a_slice("s7", [an_endpoint("10.244.2.7", "node2")]))
    assert [name.partition("-default")[2] for name in change.chains] == ["/s7/tcp/http"]
    assert (change.removed, change.added, change.stale_chains) == ({}, {}, ())
    assert it.kernel() == it.wanted()


def random_service(dice: random.Random, name: str) -> dict:
    kind = dice.choice(["ClusterIP", "NodePort", "LoadBalancer"])
    ports = [a_port(dice.choice([80, 81]), "http", "TCP", 30000 + int(name[1:]) if kind != "ClusterIP" else 0)]
    if dice.random() < 0.4:
        ports.append(a_port(53, "dns", "UDP", 31000 + int(name[1:]) if kind != "ClusterIP" else 0))
    more = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": dice.choice([60, 90061])}}
            } if dice.random() < 0.4 else {}
    if kind == "LoadBalancer":
        more |= {"ingress": [f"198.51.100.{dice.randint(1, 2)}"]}
        if dice.random() < 0.5:
            more["loadBalancerSourceRanges"] = dice.sample(["192.0.2.0/24", "172.30.0.0/16", "203.0.113.4/30"], 2)
    if kind != "ClusterIP":
        more["externalTrafficPolicy"] = dice.choice(["Cluster", "Local"])
    return a_service(name, ip=f"10.96.0.{name[1:]}", ports=ports, type=kind, **more,
                     internalTrafficPolicy=dice.choice(["Cluster", "Cluster", "Local"]),
                     externalIPs=dice.sample(["198.51.100.8", "198.51.100.9"], dice.randint(0, 1)))


def random_slice(dice: random.Random, name: str) -> dict:
    hosts = [an_endpoint(f"10.244.{node}.{at}", f"node{node}", ready=dice.random() < 0.8, serving=dice.random() < 0.9,
                         terminating=dice.random() < 0.3) for node in (1, 2) for at in dice.sample(range(2, 6), dice.randint(0, 2))]
    return a_slice(name, hosts, ports=SLICE_PORTS)


@pytest.mark.parametrize("seed", range(4))
def test_many_small_changes_end_where_one_full_sync_does(empty: int, seed: int):
    dice = random.Random(seed)
    it = Node(empty)
    for step in range(25):
        changes, gone = [], []
        for name in dice.sample([f"s{n}" for n in range(1, 9)], 3):
            for kind, key, make in (("Service", f"default/{name}", random_service),
                                    ("EndpointSlice", f"default/{name}-1", random_slice)):
                if (kind, key) in it.objects and dice.random() < 0.25:
                    gone.append((kind, key))
                elif dice.random() < 0.7:
                    changes.append(make(dice, name))
        it.sync(*changes, gone=tuple(gone))
        assert it.kernel() == it.wanted(), (seed, step)
    it.proxier.full = True
    it.sync()
    assert it.kernel() == it.wanted()


def test_the_longest_names_fit(empty: int):
    it = Node(empty, family="IPv6", node_ip="", service_cidrs=("fd00:96::/112", "fd00:97::/112"), node_port_addresses=(),
              detector=LocalDetector("-i veth+"))
    port = a_port(80, "p" * 63, node_port=30080)
    ends_ = [an_endpoint(f"fd00:10:244:1:aaaa:bbbb:cccc:{at}", f"node{at}") for at in (1, 2)]
    for name, slices, more in (("s" * 63, ends_, {"sessionAffinity": "ClientIP"}), ("t" * 63, [], {})):
        service = a_service(name, ip=f"fd00:96::{ord(name[0])}", ports=[{**port, "nodePort": 30000 + ord(name[0])}],
                            type="LoadBalancer", ingress=["fd00:5::5"], loadBalancerSourceRanges=["fd00:7::/64"], **more)
        slice_ = a_slice(name, slices, ports=[{"name": port["name"], "port": 8080, "protocol": "TCP"}], family="IPv6")
        for each in (service, slice_):
            each["metadata"]["namespace"] = "n" * 63
        it.tell("Service", f"{'n' * 63}/{name}", service)
        it.tell("EndpointSlice", f"{'n' * 63}/{name}-1", slice_)
    it.sync()
    names = {name for name in it.kernel()["table ip6 kube-proxy"] if name.startswith("chain endpoint-")}
    assert len(names) == 2, "cut names stay apart"
    assert all(len(name) <= 255 + len("chain ") for name in names)


def test_what_another_kube_proxy_left_is_taken_over(empty: int):
    nft = nft_table.open_nft(empty)
    nft.run(recorded("nft-ruleset.txt"))
    nft.run("add chain ip kube-proxy mine; add rule ip kube-proxy mine accept; add set ip kube-proxy other { type ipv4_addr ; }")
    it = Node(empty)
    it.sync(a_service("affinity", ip="10.96.0.16", sessionAffinity="ClientIP"), a_slice("affinity"))
    assert it.kernel() == it.wanted()
    nft.run("flush ruleset")
    assert asyncio.run(it.proxier.flushed())
    it.sync()
    assert it.kernel() == it.wanted()
    assert not asyncio.run(it.proxier.flushed())
    nft.close()


def test_a_table_that_stands_in_the_way_is_replaced(empty: int):
    nft = nft_table.open_nft(empty)
    nft.run("add table ip kube-proxy; add set ip kube-proxy service-ips { type ipv4_addr ; }")
    it = Node(empty)
    with pytest.raises(Exception, match="nft"):
        it.sync(a_service(), a_slice())
    it.sync()
    assert it.kernel() == it.wanted()
    nft.close()


def test_each_mode_cleans_up_after_the_other(empty: int):
    old = Proxier(a_settings(), iptables.find(), Metrics(), netns=empty)
    old.service("default/web", a_service())
    old.slice("default/web-1", a_slice())
    asyncio.run(old.sync(0.0))
    Node(empty).sync(a_service(), a_slice())
    assert cleanup.run("auto", empty) > 5
    left = {name for table in parse.parse(iptables.save(iptables.find(), netns=empty)).tables.values() for name in table.chains}
    assert {name for name in left if name.startswith("KUBE-")} == {"KUBE-FIREWALL"}
    assert nft_table.held(socket.AF_INET, nft_names.TABLE, empty) is not None
    assert cleanup.run_nft(empty) == 1
    assert nft_table.held(socket.AF_INET, nft_names.TABLE, empty) is None
    assert cleanup.run_nft(empty) == 0, "twice without complaint"
