"""Predictions against the kernel in userspace mode: whatever goes to a Service is turned aside to a port of its node."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given

from netlab.proxy import user_rules
from netlab.proxy.services import service_ports
from tests.trace import longrun, topology
from tests.trace.test_agree import PLAIN, SOME, WISHES, Try, asked, check, clusters, lay, sent, service_of
from tests.trace.topology import NODES, Network

pytestmark = pytest.mark.root

RELAYS = {"default/web:http": 40000, "default/web:dns": 40001}


@pytest.fixture(scope="module", params=["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"])
def net(request: pytest.FixtureRequest) -> Iterator[Network]:
    made = topology.build(6 if "6" in request.param else 4)
    made.tool = request.param
    try:
        made.serve_all()
        for node in NODES:  # what a relay does behind its port is a connection of its own
            made.serve(f"node/{node}", RELAYS["default/web:http"])
            made.serve(f"node/{node}", RELAYS["default/web:dns"], socket.SOCK_DGRAM)
        yield made
    finally:
        made.close()


def prepare(net: Network, cluster: dict[str, Any]) -> None:
    ports = service_ports(service_of(net, cluster), "IPv6" if net.family == 6 else "IPv4")
    lay(net, cluster, {node: user_rules.whole(user_rules.chains(
        [(port, RELAYS[port.name]) for port in ports], "::" if net.family == 6 else "0.0.0.0", net.at(ip)))
        for node, (ip, _) in NODES.items()})


@pytest.mark.parametrize(("place", "address", "port"), [
    ("pod/default/client", "10.96.0.10", 80), ("node/node1", "10.96.0.10", 80), ("pod/default/web-2", "172.18.0.2", 30080)])
def test_a_services_packet_ends_at_the_relays_port(net: Network, place: str, address: str, port: int) -> None:
    prepare(net, PLAIN)
    found, observed = sent(net, asked(net, Try(place, address, port, "tcp")))
    assert found.status == "agrees" or observed.lost, found
    assert observed.request[-1].packet.dport == RELAYS["default/web:http"]
    assert observed.outcome.status == "connected"


def test_a_relay_that_answers_from_another_address_is_a_doubt(net: Network) -> None:
    prepare(net, {**PLAIN, "node": "node1", "kernel": "ip route add 10.244.1.2/32 via 172.18.0.3"})
    found, _ = sent(net, asked(net, Try("pod/default/client", "10.96.0.10", 53, "udp")))
    net.sh("node/node1", net.at(f"ip {'-6 ' if net.family == 6 else ''}route del 10.244.1.2/32"))
    assert found.status in ("unsure", "agrees"), found
    assert "the program there may answer from" in found.words or "not all of it could be judged" in found.words


@SOME(max_examples=2, derandomize=True)
@given(cluster=clusters, wishes=WISHES)
def test_no_packet_goes_otherwise_than_predicted(net: Network, cluster: dict[str, Any], wishes: list[Try]) -> None:
    check(net, cluster, wishes, prepare)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_packet_goes_otherwise_than_predicted_for_long(net: Network) -> None:
    longrun.for_long(f"userspace, {net.tool}", partial(check, net, prepare=prepare), cluster=clusters, wishes=WISHES)
