"""Who is masqueraded and where it goes: 30 kinds of source and destination in 4 configurations, with real packets.

The facts are those of kubernetes: pkg/proxy/{iptables,nftables}/proxier_test.go, TestInternalExternalMasquerade, which
asks a model of the rules. Here the endpoint says which it is and whom it sees, and conntrack whether the source was
rewritten (a node's packet to another node looks the same either way).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from netlab.kernel import conntrack, iptables
from netlab.proxy import cleanup
from netlab.proxy.metrics import Metrics
from netlab.proxy.nft_proxier import NftProxier
from netlab.proxy.settings import LocalDetector
from tests.proxy.builders import CLUSTER, NODE_IP, a_port, a_service, a_settings, a_slice, an_endpoint, rules_for
from tests.proxy.network import BRIDGE_IP, FAR, OUTSIDE, PODS, Network

pytestmark = pytest.mark.root

PLACES = {"pod": "client", "node": "node", "external": "outside", "localhost": "node"}
SOURCES = {"pod": PODS["client"], "node": NODE_IP, "external": OUTSIDE}
POLICIES = ("", "eTP:Local", "iTP:Local")
SERVICES = {policy: f"svc{n}" for n, policy in enumerate(POLICIES, 1)}
LOCAL = {"": (PODS["web-1"], 8080), "eTP:Local": (PODS["web-2"], 8080), "iTP:Local": (PODS["web-1"], 8443)}
REMOTE = {"": (FAR[0], 8080), "eTP:Local": (FAR[1], 8080), "iTP:Local": (FAR[0], 8443)}


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
    "base": (CLUSTER, False, {}),
    "no local detector": (LocalDetector(), False, NO_DETECTOR | NO_SHORT_CUT),
    "masquerade all": (CLUSTER, True, ALL),
    "masquerade all, no local detector": (LocalDetector(), True, ALL | NO_SHORT_CUT),
}

_ports = itertools.count(20001)


def objects():
    for n, (policy, name) in enumerate(SERVICES.items(), 1):
        more = {"externalTrafficPolicy": "Local"} if policy == "eTP:Local" else {}
        more |= {"internalTrafficPolicy": "Local"} if policy == "iTP:Local" else {}
        yield a_service(name, ip=f"10.96.1.{n}", type="LoadBalancer", ingress=[f"198.51.100.{10 + n}"],
                        ports=[a_port(node_port=30100 + n)], **more)
        (local, port), (remote, _) = LOCAL[policy], REMOTE[policy]
        yield a_slice(name, [an_endpoint(local), an_endpoint(remote, "node2")],
                      ports=[{"name": "http", "port": port, "protocol": "TCP"}])


def target(flow: Flow) -> tuple[str, int]:
    n = POLICIES.index(flow.policy) + 1
    return {"ClusterIP": (f"10.96.1.{n}", 80), "LB": (f"198.51.100.{10 + n}", 80),
            "NodePort": ("127.0.0.1" if flow.source == "localhost" else NODE_IP, 30100 + n)}[flow.to]


def seen(net: Network, flow: Flow, wanted: set[tuple[str, str]]) -> tuple[set[tuple[str, str]], list[int]]:
    """Try until everything that is wanted was seen, or often enough; return (endpoint, source that it saw) and ports."""
    found: set[tuple[str, str]] = set()
    used = []
    for _ in range(60):
        used.append(next(_ports))
        answer = net.ask(PLACES[flow.source], *target(flow), wait=2.0, source_port=used[-1])
        found.add((answer.server or answer.failure, answer.seen))
        if len(used) >= 3 and found >= wanted:
            break
    return found, used


@pytest.fixture(scope="module", params=["iptables", "nftables"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def configured(request: pytest.FixtureRequest, net: Network, mode: str) -> Iterator[tuple[Network, str, dict]]:
    """The node under one configuration. Its neighbour answers everybody through it, as behind a real load balancer."""
    detector, everything, changes = CONFIGURATIONS[request.param]
    fd = net.places["node"]
    net.load(rules_for())
    cleanup.run("auto", fd)
    net.ip("far", "route replace 192.0.2.0/24 via 172.30.0.11")
    if mode == "iptables":
        net.load(rules_for(*objects(), detector=detector, masquerade_all=everything))
    else:
        proxier = NftProxier(a_settings(detector=detector, masquerade_all=everything, node_port_addresses=(f"{NODE_IP}/32",),
                                        node_addresses=(NODE_IP,), localhost_node_ports=False), Metrics(), netns=fd)
        for each in objects():
            (proxier.service if each["kind"] == "Service" else proxier.slice)(f"default/{each['metadata']['name']}", each)
        asyncio.run(proxier.sync(0.0))
    yield net, mode, changes
    cleanup.run_nft(fd)
    iptables.restore(iptables.find(), "*filter\nCOMMIT\n*nat\nCOMMIT\n", netns=fd, flush=True)
    net.ip("far", "route replace 192.0.2.0/24 via 172.30.0.77")


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_flow(configured: tuple[Network, str, dict], flow: Flow):
    net, mode, changes = configured
    if flow.source == "localhost" and mode == "nftables":
        assert seen(net, flow, {("REJECT", "")})[0] == {("REJECT", "")}, "nftables mode serves no node ports on loopback"
        return
    ends, masquerade = changes.get(flow.name, ("", flow.masquerade))
    ends = ends or flow.ends
    places = [LOCAL[flow.policy]] + ([REMOTE[flow.policy]] if ends == "both" else [])
    wanted = {(f"{ip}:{port}", (NODE_IP if ip in FAR else BRIDGE_IP) if masquerade else SOURCES[flow.source])
              for ip, port in places}
    found, ports = seen(net, flow, wanted)
    assert found == wanted
    rewritten = {bool(each.status & conntrack.SRC_NAT) for each in conntrack.flows(net.places["node"], protocol="tcp")
                 if each.original.sport in ports and each.original.dst == target(flow)[0]}
    assert rewritten == {masquerade}


def test_all_thirty_are_there_and_every_change_changes_something():
    assert len({flow.name for flow in FLOWS}) == 30
    by_name = {flow.name: flow for flow in FLOWS}
    for _, _, changes in CONFIGURATIONS.values():
        for name, (ends, masquerade) in changes.items():
            assert (ends or by_name[name].ends, masquerade) != (by_name[name].ends, by_name[name].masquerade)
