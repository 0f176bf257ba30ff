"""The plugin bridge in real namespaces, beside the reference plugin wherever that is installed."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from netlab.cni.bridge import host_name
from netlab.kernel import link, netns, sysctl
from netlab.kernel.rtnl import Rtnl
from tests.cni.nodes import Node

pytestmark = pytest.mark.root

MODERN = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")


def state(node: Node, ns: str) -> dict[str, Any]:
    """Return what the kernel holds, without what differs from run to run: indices, random names and addresses."""
    def addresses(out: str) -> list[Any]:
        return [(one["ifname"], sorted(f"{a['local']}/{a['prefixlen']}" for a in one["addr_info"] if a["scope"] == "global"),
                 one["mtu"], one["operstate"]) for one in json.loads(out) if one["ifname"] != "lo"]

    ports = [{"hairpin": one["linkinfo"]["info_slave_data"]["hairpin"],
              "isolated": one["linkinfo"]["info_slave_data"]["isolated"], "mtu": one["mtu"], "state": one["operstate"]}
             for one in json.loads(node.run("ip", "-j", "-d", "link", "show", "master", "cni0"))]
    return {"bridge": addresses(node.run("ip", "-j", "addr", "show", "cni0")), "ports": ports,
            "pod": addresses(node.run("ip", "-j", "addr", ns=ns)),
            "routes": sorted((r["dst"], r.get("gateway", "")) for r in json.loads(node.run("ip", "-j", "route", ns=ns))),
            "routes6": sorted((r["dst"], r.get("gateway", "")) for r in json.loads(node.run("ip", "-j", "-6", "route", ns=ns))
                              if r["dst"] != "fe80::/64" and r.get("type") != "multicast"),
            "forward": [sysctl.read(name, node.fd) for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")],
            "notify": sysctl.read("net.ipv4.conf.eth0.arp_notify", ns)}


def shape(answer: Any, ns: str) -> Any:
    """Return a result without what is random."""
    answer = json.loads(json.dumps(answer).replace(ns, "NETNS"))
    for interface in answer.get("interfaces", []):
        interface["mac"] = "MAC" if interface["mac"] else ""
        if interface["name"].startswith("veth"):
            interface["name"] = "veth"
    return answer


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize("more", [
    pytest.param({}, id="gateway"),
    pytest.param({"hairpinMode": True, "mtu": 1400}, id="hairpin and mtu"),
    pytest.param({"subnets": ("10.9.0.0/24", "fd09::/64")}, id="dual stack"),
    pytest.param({"isGateway": False}, id="no gateway"),
    pytest.param({"dns": {"nameservers": ["10.96.0.10"]}}, id="dns"),
    pytest.param({"ipam": {}}, id="no addresses"),
])
@pytest.mark.parametrize("version", ["0.3.1", "1.0.0"])
def test_same_results_and_state_as_the_reference(tmp_path: Any, version: str, more: dict[str, Any]) -> None:
    from tests.cni.nodes import a_node
    seen = []
    for reference in (True, False):
        with a_node(tmp_path / str(reference)) as node:
            ns = node.pod()
            config = node.config(version=version, **more)
            answer = node.add(config, ns=ns, reference=reference)
            assert node.call("CHECK", config | {"cniVersion": max(version, "0.4.0"), "prevResult": answer}, ns=ns)[0] == 0
            seen.append((shape(answer, ns), state(node, ns)))
            node.delete(config, ns=ns, reference=not reference)
            assert node.reservations() == set()
            assert node.links() == set()
    assert seen[0] == seen[1]


@pytest.mark.parametrize("executable", [False, True], ids=["in process", "executable"])
@pytest.mark.parametrize("version", MODERN)
def test_add_check_delete_twice(node: Node, version: str, executable: bool) -> None:
    ns = node.pod()
    config = node.config(version=version)
    answer = node.add(config, ns=ns, executable=executable)
    assert answer["cniVersion"] == version
    assert [interface["name"] for interface in answer["interfaces"]] == ["cni0", host_name("c1", "eth0"), "eth0"]
    if version != "0.3.1":
        assert node.call("CHECK", config | {"prevResult": answer}, ns=ns, executable=executable) == (0, {})
    assert "bytes from" in node.run("ping", "-c1", "-W2", "10.9.0.2")
    assert "bytes from" in node.run("ping", "-c1", "-W2", "10.9.0.1", ns=ns)
    for _ in range(2):
        node.delete(config | {"prevResult": answer}, ns=ns, executable=executable)
    assert (node.reservations(), node.links()) == (set(), set())


def test_containers_talk_over_the_bridge(node: Node) -> None:
    one, two = node.pod(), node.pod()
    config = node.config(subnets=("10.9.0.0/24", "fd09::/64"), hairpinMode=True)
    node.add(config, ns=one)
    node.add(config, ns=two, container="c2")
    assert "bytes from" in node.run("ping", "-c1", "-W2", "10.9.0.3", ns=one)
    assert "bytes from" in node.run("ping", "-c1", "-W2", "fd09::3", ns=one)


def test_a_second_add_changes_nothing(node: Node) -> None:
    ns = node.pod()
    config = node.config()
    answer = node.add(config, ns=ns)
    assert "already exists" in node.fails("ADD", config, ns=ns)["msg"]
    assert node.reservations() == {"10.9.0.2"}
    assert node.call("CHECK", config | {"prevResult": answer}, ns=ns) == (0, {})


@pytest.mark.parametrize("gone", ["another's", "never was", "no path"])
def test_delete_when_the_namespace_is_gone(node: Node, gone: str) -> None:
    ns = node.pod()
    node.add(node.config(), ns=ns)
    if gone == "another's":  # the number of a descriptor means another container now
        other = node.pod()
        node.add(node.config(), ns=other, container="c2")
        os.dup2(node.pods[1], node.pods[0])
    node.delete(node.config(), ns={"another's": ns, "never was": "/run/netns/never-was", "no path": ""}[gone])
    kept = {host_name("c2", "eth0")} if gone == "another's" else set()
    assert (len(node.reservations()), node.links()) == (len(kept), kept)


def test_delete_never_touches_what_is_no_cable_to_the_bridge(node: Node) -> None:
    ns = node.pod()
    node.run("ip", "link", "add", "eth0", "type", "bridge", ns=ns)
    node.delete(node.config(), ns=ns)
    assert "eth0" in node.run("ip", "link", ns=ns)


def test_what_an_older_container_of_the_name_left_is_replaced(node: Node) -> None:
    old, new = node.pod(), node.pod()
    node.add(node.config(), ns=old)
    node.delete(node.config(type="host-local"))  # its address is free, its cable is still there
    node.add(node.config(), ns=new)
    with Rtnl(netns.open_netns(old)) as sock:
        assert link.find(sock, "eth0") is None


@pytest.mark.parametrize(("damage", "words"), [
    (("ip", "addr", "flush", "dev", "eth0"), "does not have the address"),
    (("ip", "route", "del", "default"), "no route to 0.0.0.0/0"),
    (("ip", "link", "del", "eth0"), "missing"),
    (("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"), "has the address"),
])
def test_check_finds_damage(node: Node, damage: tuple[str, ...], words: str) -> None:
    ns = node.pod()
    answer = node.add(node.config(), ns=ns)
    node.run(*damage, ns=ns)
    assert words in node.fails("CHECK", node.config() | {"prevResult": answer}, ns=ns)["msg"]


def test_check_finds_a_pulled_cable(node: Node) -> None:
    ns = node.pod()
    answer = node.add(node.config(), ns=ns)
    node.run("ip", "link", "set", host_name("c1", "eth0"), "nomaster")
    assert "not plugged" in node.fails("CHECK", node.config() | {"prevResult": answer}, ns=ns)["msg"]
    assert "prevResult" in node.fails("CHECK", node.config(), ns=ns)["msg"]


def test_gc_removes_what_nobody_owns(node: Node) -> None:
    config = node.config(version="1.1.0", ipMasq=True)
    for name in ("c1", "c2"):
        node.add(config, ns=node.pod(), container=name)
    node.add(config | {"name": "other"}, ns=node.pod(), container="c3", ifname="net1")
    valid = [{"containerID": "c2", "ifname": "eth0"}]
    assert node.call("GC", config | {"cni.dev/valid-attachments": valid}) == (0, {})
    assert node.reservations() == {"10.9.0.3"}
    assert node.links() == {host_name("c2", "eth0"), host_name("c3", "net1")}
    assert not any('id: \\"c1\\"' in rule for rule in node.nat())
    assert any('id: \\"c2\\"' in rule for rule in node.nat())
    assert any('id: \\"c3\\"' in rule for rule in node.nat())


def test_status_asks_the_ipam_plugin(node: Node) -> None:
    config = node.config(version="1.1.0", subnets=("10.9.0.0/30",))
    assert node.call("STATUS", config) == (0, {})
    node.add(config, ns=node.pod())
    assert node.fails("STATUS", config)["code"] == 50
    assert "nowhere" in node.fails("STATUS", config | {"ipam": {"type": "nowhere"}})["msg"]


@pytest.mark.parametrize(("more", "code", "words"), [
    ({"vlan": 7}, 2, '"vlan": 7'), ({"macspoofchk": True}, 2, "macspoofchk"), ({"ipMasqBackend": "nftables"}, 2, "nftables"),
    ({"hairpinMode": True, "promiscMode": True}, 7, "at the same time"), ({"mtu": "big"}, 7, "mtu"),
    ({"ipam": {"type": "nowhere"}}, 999, 'failed to find plugin "nowhere"'),
    ({"ipam": {"type": "../bridge"}}, 7, "invalid plugin name"), ({"bridge": "lo"}, 999, "no bridge"),
])
def test_refused_by_name(node: Node, more: dict[str, Any], code: int, words: str) -> None:
    answer = node.fails("ADD", node.config(**more), ns=node.pod())
    assert answer["code"] == code
    assert words in answer["msg"] + answer.get("details", "")
    assert (node.reservations(), node.links()) == (set(), set())


def test_the_plugins_own_namespace_is_refused(node: Node) -> None:
    here = f"/proc/{os.getpid()}/fd/{node.fd}"
    assert node.fails("ADD", node.config(), ns=here)["code"] == 8


def test_a_failure_after_the_cable_gives_everything_back(node: Node) -> None:
    node.run("ip", "link", "add", "cni0", "type", "bridge")
    node.run("ip", "addr", "add", "10.9.0.77/24", "dev", "cni0")
    assert "already has an IP address different from 10.9.0.1/24" in \
        node.fails("ADD", node.config(), ns=node.pod())["msg"]
    assert (node.reservations(), node.links()) == (set(), set())
    node.add(node.config(forceAddress=True), ns=node.pod())
    assert "10.9.0.77" not in node.run("ip", "addr", "show", "cni0")


def test_mac_and_default_gateway(node: Node) -> None:
    ns = node.pod()
    config = node.config(isDefaultGateway=True, runtimeConfig={"mac": "02:00:00:00:00:42"})
    config["ipam"].pop("routes")
    answer = node.add(config, ns=ns)
    assert answer["interfaces"][2]["mac"] == "02:00:00:00:00:42"
    assert answer["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}]
    assert "default via 10.9.0.1" in node.run("ip", "route", ns=ns)


@pytest.mark.usefixtures("reference")
def test_masquerade_rules_are_the_references(node: Node) -> None:
    rules = []
    for reference in (True, False):
        ns = node.pod()
        config = node.config(ipMasq=True)
        answer = node.add(config, ns=ns, reference=reference, args="IgnoreUnknown=1;IP=10.9.0.9")
        rules.append(sorted(node.nat()))
        node.delete(config | {"prevResult": answer}, ns=ns, reference=not reference)
        assert node.nat() == []
    assert len(rules[0]) == 3
    assert rules[0] == rules[1]
