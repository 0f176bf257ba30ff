from __future__ import annotations

import ipaddress

import pytest

from netlab.kernel.conntrack import Direction, Flow
from netlab.proxy.conntrack import sought, stale
from netlab.proxy.endpoints import Endpoint
from netlab.proxy.services import ServicePort

PORT = ServicePort("default/dns", "default/dns", "", "udp", "10.96.0.10", 53, node_port=30053,
                   external_ips=("198.51.100.1",), load_balancer_ips=("198.51.100.2",))
GOOD = Endpoint("10.244.1.5", 5353, "10.244.1.5:5353")
DYING = Endpoint("10.244.1.6", 5353, "10.244.1.6:5353", ready=False, serving=True, terminating=True)
DEAD = Endpoint("10.244.1.7", 5353, "10.244.1.7:5353", ready=False, serving=False)


def flow(dst: str, dport: int, answered_by: str, protocol: str = "udp") -> Flow:
    ip, _, port = answered_by.rpartition(":")
    return Flow(protocol, Direction("10.244.1.9", dst, 4000, dport), Direction(ip, "10.244.1.9", int(port), 4000))


@pytest.mark.parametrize(("entry", "gone"), [
    pytest.param(flow("10.96.0.10", 53, "10.244.1.5:5353"), False, id="a serving endpoint answers"),
    pytest.param(flow("10.96.0.10", 53, "10.244.1.6:5353"), False, id="a terminating one that serves"),
    pytest.param(flow("10.96.0.10", 53, "10.244.1.7:5353"), True, id="one that no longer serves"),
    pytest.param(flow("10.96.0.10", 53, "10.244.9.9:5353"), True, id="one that is gone"),
    pytest.param(flow("10.96.0.10", 53, "10.96.0.10:53"), True, id="a flow from before the rules"),
    pytest.param(flow("10.96.0.10", 54, "10.244.9.9:5353"), False, id="another port"),
    pytest.param(flow("198.51.100.1", 53, "10.244.9.9:5353"), True, id="by the external address"),
    pytest.param(flow("198.51.100.2", 53, "10.244.9.9:5353"), True, id="by the balancer's"),
    pytest.param(flow("172.30.0.11", 30053, "10.244.9.9:5353"), True, id="by the node port"),
    pytest.param(flow("8.8.8.8", 53, "8.8.8.8:53"), False, id="not a Service"),
    pytest.param(flow("10.96.0.10", 53, "10.244.9.9:5353", "tcp"), False, id="TCP finds out by itself"),
])
def test_which_flows_go(entry: Flow, gone: bool):
    assert list(stale([entry], [(PORT, (GOOD, DYING, DEAD))])) == ([entry] if gone else [])


def test_a_port_without_serving_endpoints_keeps_its_flows():
    assert list(stale([flow("10.96.0.10", 53, "10.244.9.9:5353")], [(PORT, (DEAD,))])) == []


@pytest.mark.parametrize(("ip", "number", "found"), [
    ("10.96.0.10", 53, True), ("198.51.100.1", 53, True), ("198.51.100.2", 53, True), ("172.30.0.11", 30053, True),
    ("10.96.0.10", 54, False), ("8.8.8.8", 53, False)])
def test_which_flows_are_looked_at(ip: str, number: int, found: bool):
    assert sought([PORT])(ipaddress.ip_address(ip).packed, number) == found
