"""Who is masqueraded and where it goes: 30 kinds of source and destination in 4 configurations, with real packets.

The facts are those of kubernetes: pkg/proxy/{iptables,nftables}/proxier_test.go, TestInternalExternalMasquerade, which
asks a model of the rules. Here the endpoint says which it is and whom it sees, and conntrack whether the source was
rewritten (a node's packet to another node looks the same either way).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from netlab.kernel import conntrack, iptables
from netlab.proxy import cleanup
from netlab.proxy.addresses import Family, join
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_proxier import NftProxier
from netlab.proxy.settings import LocalDetector
from tests.proxy.builders import NODE_IP, a_port, a_service, a_settings, a_slice, an_endpoint, rules_for
from tests.proxy.network import BRIDGE_IP, BRIDGE_IP6, FAR, FAR6, NODE_IP6, OUTSIDE, OUTSIDE6, PODS, PODS6, Network

pytestmark = pytest.mark.root

PLACES = {"pod": "client", "node": "node", "external": "outside", "localhost": "node"}
POLICIES = ("", "eTP:Local", "iTP:Local")
SERVICES = {policy: f"svc{n}" for n, policy in enumerate(POLICIES, 1)}


@dataclass(frozen=True)
class World:
    """The addresses of one family: of Pods here and there, of the node on both sides, of Services and balancers."""

    family: Family
    pods: Mapping[str, str]
    far: tuple[str, str]
    node: str
    bridge: str
    outside: str
    cluster: str
    balancer: str
    detector: LocalDetector

    @property
    def sources(self) -> dict[str, str]:
        return {"pod": self.pods["client"], "node": self.node, "external": self.outside}

    def ends(self, policy: str) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return the endpoint here and the one on the other node of a Service; each Service has others."""
        place, at, port = {"": ("web-1", 0, 8080), "eTP:Local": ("web-2", 1, 8080), "iTP:Local": ("web-1", 0, 8443)}[policy]
        return (self.pods[place], port), (self.far[at], port)


WORLDS = {
    "IPv4": World("IPv4", PODS, FAR, NODE_IP, BRIDGE_IP, OUTSIDE, "10.96.1.", "198.51.100.1", LocalDetector("-s 10.244.0.0/16")),
    "IPv6": World("IPv6", PODS6, FAR6, NODE_IP6, BRIDGE_IP6, OUTSIDE6, "fd00:96::", "2001:db8:99::", LocalDetector("-s fd00:10::/32"))}


@dataclass(frozen=True)
class Flow:
    """`ends` is `both` endpoints or only the `local` one."""

    source: str
    to: str
    policy: str
    ends: str
    masquerade: bool

    @property
    def name(self) -> str:
        return f"{self.source} to {self.to}" + (f" with {self.policy}" if self.policy else "")


def flows(text: str) -> Iterator[Flow]:
    for line in text.strip().splitlines():
        source, to, policy, ends, masquerade = line.split()
        yield Flow(source, to, policy.strip("-"), ends, masquerade == "masquerade")


FLOWS = tuple(flows("""
    pod        ClusterIP  -          both   -
    pod        NodePort   -          both   masquerade
    pod        LB         -          both   masquerade
    node       ClusterIP  -          both   masquerade
    node       NodePort   -          both   masquerade
    node       LB         -          both   masquerade
    localhost  NodePort   -          both   masquerade
    external   ClusterIP  -          both   masquerade
    external   NodePort   -          both   masquerade
    external   LB         -          both   masquerade
    pod        ClusterIP  eTP:Local  both   -
    pod        NodePort   eTP:Local  both   -
    pod        LB         eTP:Local  both   -
    node       ClusterIP  eTP:Local  both   masquerade
    node       NodePort   eTP:Local  both   masquerade
    node       LB         eTP:Local  both   masquerade
    localhost  NodePort   eTP:Local  both   masquerade
    external   ClusterIP  eTP:Local  both   masquerade
    external   NodePort   eTP:Local  local  -
    external   LB         eTP:Local  local  -
    pod        ClusterIP  iTP:Local  local  -
    pod        NodePort   iTP:Local  both   masquerade
    pod        LB         iTP:Local  both   masquerade
    node       ClusterIP  iTP:Local  local  masquerade
    node       NodePort   iTP:Local  both   masquerade
    node       LB         iTP:Local  both   masquerade
    localhost  NodePort   iTP:Local  both   masquerade
    external   ClusterIP  iTP:Local  local  masquerade
    external   NodePort   iTP:Local  both   masquerade
    external   LB         iTP:Local  both   masquerade
"""))

# What a configuration changes: whoever sends to a ClusterIP counts as a Pod when nobody can tell Pods, and everybody is
# masqueraded there on demand; without a way to tell Pods they get no short cut around externalTrafficPolicy either.
NO_DETECTOR = {f"{source} to ClusterIP{policy}": ("", False) for source in ("node", "external")
               for policy in ("", " with eTP:Local", " with iTP:Local")}
NO_SHORT_CUT = {f"pod to {to} with eTP:Local": ("local", False) for to in ("NodePort", "LB")}
ALL = {f"pod to ClusterIP{policy}": ("", True) for policy in ("", " with eTP:Local", " with iTP:Local")}
CONFIGURATIONS = {
    "base": (True, False, {}),
    "no local detector": (False, False, NO_DETECTOR | NO_SHORT_CUT),
    "masquerade all": (True, True, ALL),
    "masquerade all, no local detector": (False, True, ALL | NO_SHORT_CUT),
}

_ports = itertools.count(20001)


def objects(world: World):
    for n, (policy, name) in enumerate(SERVICES.items(), 1):
        more = {"externalTrafficPolicy": "Local"} if policy == "eTP:Local" else {}
        more |= {"internalTrafficPolicy": "Local"} if policy == "iTP:Local" else {}
        yield a_service(name, ip=f"{world.cluster}{n}", type="LoadBalancer", ingress=[f"{world.balancer}{n}"],
                        ports=[a_port(node_port=30100 + n)], **more)
        (local, port), (remote, _) = world.ends(policy)
        yield a_slice(name, [an_endpoint(local), an_endpoint(remote, "node2")], family=world.family,
                      ports=[{"name": "http", "port": port, "protocol": "TCP"}])


def target(world: World, flow: Flow) -> tuple[str, int]:
    n = POLICIES.index(flow.policy) + 1
    loopback = "::1" if world.family == "IPv6" else "127.0.0.1"
    return {"ClusterIP": (f"{world.cluster}{n}", 80), "LB": (f"{world.balancer}{n}", 80),
            "NodePort": (loopback if flow.source == "localhost" else world.node, 30100 + n)}[flow.to]


def seen(net: Network, world: World, flow: Flow, wanted: set[tuple[str, str]]) -> tuple[set[tuple[str, str]], list[int]]:
    """Try until everything that is wanted was seen, or often enough; return (endpoint, source that it saw) and ports."""
    found: set[tuple[str, str]] = set()
    used = []
    for _ in range(60):
        used.append(next(_ports))
        answer = net.ask(PLACES[flow.source], *target(world, flow), wait=2.0, source_port=used[-1])
        found.add((answer.server or answer.failure, answer.seen))
        if len(used) >= 2 and found >= wanted:
            break
    return found, used


# What differs between configurations is the same code for both families: one of IPv6 will do by default.
SETUPS = [pytest.param((mode, family, name), id=f"{mode}, {family}, {name}", marks=[pytest.mark.soak] * (family == "IPv6" and name != "base"))
          for mode in ("iptables", "nftables") for family in WORLDS for name in CONFIGURATIONS]


@dataclass(frozen=True)
class Setup:
    net: Network
    mode: str
    world: World
    changes: Mapping[str, tuple[str, bool]]


@pytest.fixture(scope="module", params=SETUPS)
def setup(request: pytest.FixtureRequest, net: Network) -> Iterator[Setup]:
    """The node under one configuration. Its neighbour answers everybody through it, as behind a real load balancer."""
    mode, family, name = request.param
    world = WORLDS[family]
    detecting, everything, changes = CONFIGURATIONS[name]
    settings = {"family": world.family, "node_ip": world.node, "detector": world.detector if detecting else LocalDetector(),
                "masquerade_all": everything}
    fd, tool = net.places["node"], iptables.find(world.family)
    empty = "*filter\nCOMMIT\n*nat\nCOMMIT\n"
    iptables.restore(tool, empty, netns=fd, flush=True)
    cleanup.run("auto", fd)
    net.ip("far", "route replace 192.0.2.0/24 via 172.30.0.11")
    if mode == "iptables":
        net.load(rules_for(*objects(world), **settings, localhost_node_ports=world.family == "IPv4"), tool)
    else:
        limited = {"node_port_addresses": (f"{world.node}/{128 if world.family == 'IPv6' else 32}",), "node_addresses": (world.node,)}
        proxier = NftProxier(a_settings(**settings, **limited, localhost_node_ports=False), Metrics(), netns=fd)
        for each in objects(world):
            (proxier.service if each["kind"] == "Service" else proxier.slice)(f"default/{each['metadata']['name']}", each)
        asyncio.run(proxier.sync(0.0))
    yield Setup(net, mode, world, changes)
    cleanup.run_nft(fd)
    iptables.restore(tool, empty, netns=fd, flush=True)
    net.ip("far", "route replace 192.0.2.0/24 via 172.30.0.77")


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_flow(setup: Setup, flow: Flow):
    net, world, changes = setup.net, setup.world, setup.changes
    if flow.source == "localhost" and (setup.mode == "nftables" or world.family == "IPv6"):
        assert seen(net, world, flow, {("REJECT", "")})[0] == {("REJECT", "")}, "no node ports on loopback"
        return
    ends, masquerade = changes.get(flow.name, ("", flow.masquerade))
    ends = ends or flow.ends
    here, there = world.ends(flow.policy)
    wanted = {(join(ip, port), (world.node if ip in world.far else world.bridge) if masquerade else world.sources[flow.source])
              for ip, port in ((here, there) if ends == "both" else (here,))}
    found, ports = seen(net, world, flow, wanted)
    assert found == wanted
    rewritten = {bool(each.status & conntrack.SRC_NAT)
                 for each in conntrack.flows(net.places["node"], protocol="tcp", ipv6=world.family == "IPv6")
                 if each.original.sport in ports and each.original.dst == target(world, flow)[0]}
    assert rewritten == {masquerade}


def test_all_thirty_are_there_and_every_change_changes_something():
    assert len({flow.name for flow in FLOWS}) == 30
    by_name = {flow.name: flow for flow in FLOWS}
    for _, _, changes in CONFIGURATIONS.values():
        for name, (ends, masquerade) in changes.items():
            assert (ends or by_name[name].ends, masquerade) != (by_name[name].ends, by_name[name].masquerade)
