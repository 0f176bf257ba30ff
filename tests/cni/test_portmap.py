"""The plugin portmap: its rules beside the reference plugin's, and a connection that goes through them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from netlab.kernel import link, netns
from netlab.kernel.rtnl import Rtnl
from tests.cni.nodes import Node

pytestmark = pytest.mark.root

PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
         {"hostPort": 8081, "containerPort": 81, "protocol": "udp", "hostIP": "127.0.0.1"},
         {"hostPort": 8082, "containerPort": 82, "protocol": "tcp"}]


def portmap(previous: Any, ports: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": "portmap", "capabilities": {"portMappings": True},
            "runtimeConfig": {"portMappings": ports}, "prevResult": previous} | more


@pytest.mark.usefixtures("reference")
def test_same_rules_as_the_reference_and_either_removes_them(node: Node) -> None:
    seen = []
    for reference in (True, False):
        ns = node.pod()
        previous = node.add(node.config(), ns=ns, args="IgnoreUnknown=1;IP=10.9.0.9")
        assert node.add(portmap(previous, PORTS), ns=ns, reference=reference)["ips"] == previous["ips"]
        seen.append(node.nat())
        assert node.call("CHECK", portmap(previous, PORTS), ns=ns) == (0, {})
        node.delete(portmap(previous, PORTS), ns=ns, reference=not reference)
        assert not any("CNI-DN-" in rule for rule in node.nat())
        node.delete(node.config(), ns=ns)
        node.run("iptables", "-t", "nat", "-F")
        node.run("iptables", "-t", "nat", "-X")
    assert len(seen[0]) > 10
    assert sorted(seen[0]) == sorted(seen[1])


def test_a_connection_reaches_the_container(node: Node) -> None:
    ns, client = node.pod(), node.pod()
    previous = node.add(node.config(subnets=("10.9.0.0/24",), hairpinMode=True), ns=ns)
    node.add(portmap(previous, PORTS), ns=ns)
    with Rtnl(node.fd) as sock, Rtnl(netns.open_netns(client)) as far:
        link.add_veth(sock, "up", "eth0", peer_netns=node.pods[1])
        link.add_address(sock, "up", "192.0.2.1/24")
        link.add_address(far, "eth0", "192.0.2.9/24")
        link.set_up(far, "eth0")
    with netns.socket_in(ns) as listener:
        listener.bind(("10.9.0.2", 80))
        listener.listen()
        listener.settimeout(5)
        for place, address, seen in ((client, "192.0.2.1", "192.0.2.9"), (node.fd, "127.0.0.1", "10.9.0.1")):
            with netns.socket_in(place) as caller:
                caller.settimeout(5)
                caller.connect((address, 8080))
                taken, peer = listener.accept()
                with taken:
                    assert peer[0] == seen
                    taken.sendall(b"hello")
                assert caller.recv(5) == b"hello"
    node.delete(portmap(previous, PORTS), ns=ns)
    with netns.socket_in(client) as caller, pytest.raises(OSError, match="refused"):
        caller.settimeout(5)
        caller.connect(("192.0.2.1", 8080))


def test_no_mapping_touches_no_rule(node: Node) -> None:
    previous = node.add(node.config(), ns=node.pod())
    assert node.add(portmap(previous, []), ns="/x")["ips"] == previous["ips"]
    node.delete(portmap(previous, []))
    assert node.nat() == []


def test_added_twice_is_there_once_and_gc_removes_it(node: Node) -> None:
    ns = node.pod()
    previous = node.add(node.config(), ns=ns)
    node.add(portmap(previous, PORTS), ns=ns)
    once = node.nat()
    node.add(portmap(previous, PORTS), ns=ns)
    assert sorted(node.nat()) == sorted(once)
    node.run("iptables", "-t", "nat", "-F", "CNI-HOSTPORT-DNAT")
    assert "not as they should be" in node.fails("CHECK", portmap(previous, PORTS), ns=ns)["msg"]
    node.add(portmap(previous, PORTS), ns=ns)
    config = portmap(previous, PORTS, cniVersion="1.1.0")
    assert node.call("GC", config | {"cni.dev/valid-attachments": []}) == (0, {})
    assert not any("CNI-DN-" in rule for rule in node.nat())


def test_both_families(node: Node) -> None:
    previous = node.add(node.config(subnets=("10.9.0.0/24", "fd09::/64")), ns=node.pod())
    node.add(portmap(previous, PORTS), ns="/x")
    six = node.run("ip6tables-save", "-t", "nat")
    assert "--to-destination [fd09::2]:80" in six
    assert "127.0.0.1" not in six


def test_more_ports_than_one_rule_takes(node: Node) -> None:
    previous = node.add(node.config(), ns=node.pod())
    many = [{"hostPort": 9000 + n, "containerPort": 80, "protocol": "tcp"} for n in range(20)]
    node.add(portmap(previous, many), ns="/x")
    assert sum("multiport" in rule for rule in node.nat()) == 2


@pytest.mark.parametrize(("ports", "more", "words"), [
    ([{"hostPort": 0, "containerPort": 80}], {}, "host port"), ([{"hostPort": 80, "containerPort": 70000}], {}, "container port"),
    ([{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}], {}, "icmp"),
    ([{"hostPort": 80, "containerPort": 80, "hostIP": "x"}], {}, "hostIP"), (PORTS, {"markMasqBit": 40}, "between 0 and 31"),
    (PORTS, {"backend": "nftables"}, "unsupported"), (PORTS, {"prevResult": None}, "prevResult"),
])
def test_refused(node: Node, ports: list[Any], more: dict[str, Any], words: str) -> None:
    previous = {"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24"}]}
    answer = node.fails("ADD", portmap(previous, ports, **more), ns="/x")
    assert words in answer["msg"] + answer.get("details", "")
    assert node.nat() == []


def test_udp_flows_from_before_are_forgotten(node: Node) -> None:
    ns = node.pod()
    previous = node.add(node.config(), ns=ns)
    node.run("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT")  # turns tracking on
    with netns.socket_in(node.fd, kind=socket.SOCK_DGRAM) as caller:
        caller.bind(("10.9.0.1", 5000))
        caller.sendto(b"early", ("10.9.0.1", 8090))
        assert "dport=8090" in node.run("conntrack", "-L", "-p", "udp")
        node.add(portmap(previous, [{"hostPort": 8090, "containerPort": 81, "protocol": "udp"}]), ns=ns)
        with netns.socket_in(ns, kind=socket.SOCK_DGRAM) as listener:
            listener.bind(("10.9.0.2", 81))
            listener.settimeout(5)
            caller.sendto(b"now", ("10.9.0.1", 8090))
            assert listener.recv(10) == b"now"
