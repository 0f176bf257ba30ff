"""kube-proxy's nftables mode in a trace: every rule in words, with the map element that the packet met."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from netlab.kernel import netns
from netlab.trace.run import Request, trace
from tests.trace import topology

pytestmark = pytest.mark.root
OBJECTS = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.20, type: NodePort, ports: [{name: http, port: 80, nodePort: 30080, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: default}
spec: {clusterIP: 10.96.0.99, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.2.3], conditions: {ready: true}}, {addresses: [10.244.1.3], conditions: {ready: true}}]
"""


@pytest.fixture
def network() -> Iterator[topology.Network]:
    command = [sys.executable, "-P", "-m", "netlab.cli.main", "render", "-f", "-", "--mode", "nftables", "--node"]
    net = topology.build()
    try:
        for node in topology.NODES:
            text = subprocess.run([*command, node], input=OBJECTS, capture_output=True, text=True, check=True).stdout
            with netns.inside(net.places[f"node/{node}"]):
                subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
        net.serve("pod/default/web-2", 8080)
        net.serve("pod/default/web-1", 8080)
        yield net
    finally:
        net.close()


def test_a_service_shows_its_elements_and_the_endpoint_chosen(network: topology.Network) -> None:
    result = trace(Request("pod/default/client", "10.96.0.20", 80, timeout=3), network.taps(), network.names())
    assert result.outcome.status == "connected"
    rules = {hop.chain.partition("-")[0]: hop for hop in result.request if hop.kind == "rule"
             and hop.place == "node/node1" and hop.chain.startswith("service")}
    asked, chosen = rules["services"], rules["service"]
    assert asked.element == "10.96.0.20 . tcp . 80 : goto service-SUSTUHLJ-default/web/tcp/http"
    assert (asked.comment, asked.verdict) == ("default/web:http", "GOTO")
    address, _, port = result.outcome.endpoint.partition(":")
    assert chosen.element.endswith(f" : {address} . {port}")
    assert chosen.comment == "default/web:http"


def test_a_service_without_endpoints_is_named(network: topology.Network) -> None:
    outcome = trace(Request("pod/default/client", "10.96.0.99", 80, timeout=3), network.taps(), network.names()).outcome
    assert (outcome.status, outcome.place) == ("refused", "node/node1")
    assert outcome.why == "rejected by kube-proxy reject-chain: default/none:http has no endpoints"
    assert "selector" in outcome.fix


def test_a_wrong_port_of_a_cluster_ip(network: topology.Network) -> None:
    outcome = trace(Request("pod/default/client", "10.96.0.20", 81, timeout=3), network.taps(), network.names()).outcome
    assert outcome.why == "rejected by kube-proxy cluster-ips-check: Reject traffic to invalid ports of ClusterIPs"
