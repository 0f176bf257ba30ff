"""Addresses: ranges, requests, the files, and what happens when many ask or one is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.cni import ranges
from netlab.cni.result import CniError
from tests.cni.nodes import Node

pytestmark = pytest.mark.root


def config(node: Node, *sets: list[dict[str, str]], version: str = "1.1.0", **more: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "dataDir": str(node.data), "ranges": list(sets) or [[{"subnet": "10.9.0.0/24"}]]}
    return {"cniVersion": version, "name": "net", "type": "host-local", "ipam": ipam | more.pop("ipam", {})} | more


def given_ip(answer: Any) -> str:
    return str(answer["ips"][0]["address"])


def test_files_are_the_reference_plugins(node: Node) -> None:
    assert node.add(config(node), ns="/x")["ips"] == [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]
    assert (node.data / "net" / "10.9.0.2").read_bytes() == b"c1\r\neth0"
    assert (node.data / "net" / "last_reserved_ip.0").read_bytes() == b"10.9.0.2"
    node.delete(config(node))
    assert node.reservations() == set()


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_either_frees_what_the_other_gave(node: Node, first: bool, second: bool) -> None:
    plain = config(node, version="1.0.0")
    one = node.add(plain, ns="/x", reference=first)
    two = node.add(plain, ns="/x", container="c2", reference=second)
    assert [given_ip(one), given_ip(two)] == ["10.9.0.2/24", "10.9.0.3/24"]
    assert node.call("CHECK", plain | {"prevResult": one}, ns="/x", reference=second)[0] == 0
    node.delete(plain, reference=second)
    node.delete(plain, container="c2", reference=first)
    assert node.reservations() == set()


def test_round_robin_then_exhausted_then_reused(node: Node) -> None:
    small = config(node, [{"subnet": "10.9.0.0/29"}])
    ips = [given_ip(node.add(small, ns="/x", container=f"c{n}")) for n in range(5)]
    assert ips == [f"10.9.0.{n}/29" for n in range(2, 7)]
    assert "no IP addresses available in range set: 10.9.0.1-10.9.0.6" in \
        node.fails("ADD", small, ns="/x", container="c9")["msg"]
    assert node.fails("STATUS", small)["code"] == 50
    node.delete(small, container="c1")
    assert node.call("STATUS", small) == (0, {})
    assert given_ip(node.add(small, ns="/x", container="c9")) == "10.9.0.3/29"


def test_several_sets_and_nothing_left_when_one_is_empty(node: Node) -> None:
    dual = config(node, [{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64", "rangeStart": "fd09::9", "rangeEnd": "fd09::9"}])
    assert [ip["address"] for ip in node.add(dual, ns="/x")["ips"]] == ["10.9.0.2/24", "fd09::9/64"]
    assert "no IP addresses" in node.fails("ADD", dual, ns="/x", container="c2")["msg"]
    assert node.reservations() == {"10.9.0.2", "fd09::9"}


def test_an_attachment_has_one_address(node: Node) -> None:
    node.add(config(node), ns="/x")
    assert "duplicate allocation" in node.fails("ADD", config(node), ns="/x")["msg"]
    assert node.reservations() == {"10.9.0.2"}
    assert given_ip(node.add(config(node), ns="/x", ifname="eth1")) == "10.9.0.3/24"


@pytest.mark.parametrize("how", ["args", "config", "runtime"])
def test_an_address_may_be_asked_for(node: Node, how: str) -> None:
    asked = {"args": config(node), "config": config(node, args={"cni": {"ips": ["10.9.0.77"]}}),
             "runtime": config(node, runtimeConfig={"ips": ["10.9.0.77/24"]})}[how]
    args = "IgnoreUnknown=1;IP=10.9.0.77" if how == "args" else ""
    assert given_ip(node.add(asked, ns="/x", args=args)) == "10.9.0.77/24"
    assert "not available" in node.fails("ADD", asked, ns="/x", args=args, container="c2")["msg"]


@pytest.mark.parametrize(("ip", "words"), [("10.9.0.1", "gateway"), ("10.8.0.1", "failed to allocate all requested IPs"),
                                           ("nonsense", "invalid IP")])
def test_addresses_that_nobody_may_have(node: Node, ip: str, words: str) -> None:
    assert words in node.fails("ADD", config(node), ns="/x", args=f"IP={ip}")["msg"]
    assert node.reservations() == set()


def test_ranges_by_capability_come_first(node: Node) -> None:
    asked = config(node, runtimeConfig={"ipRanges": [[{"subnet": "10.7.0.0/24"}]]})
    assert [ip["address"] for ip in node.add(asked, ns="/x")["ips"]] == ["10.7.0.2/24", "10.9.0.2/24"]


def test_gc_frees_all_but_the_valid(node: Node) -> None:
    for name in ("c1", "c2", "c3"):
        node.add(config(node), ns="/x", container=name)
    node.data.joinpath("net", "10.9.0.200").write_text("old")  # a file from before interface names were kept
    valid = [{"containerID": "c2", "ifname": "eth0"}, {"containerID": "c3", "ifname": "net1"}]
    assert node.call("GC", config(node) | {"cni.dev/valid-attachments": valid}) == (0, {})
    assert node.reservations() == {"10.9.0.3"}


def test_many_executables_at_once_never_share(node: Node) -> None:
    body = json.dumps(config(node)).encode()
    running = []
    for number in range(12):
        environ = {"CNI_COMMAND": "ADD", "CNI_PATH": str(node.bin), "CNI_CONTAINERID": f"c{number}", "CNI_NETNS": "/x",
                   "CNI_IFNAME": "eth0"}
        child = subprocess.Popen([str(node.bin / "host-local")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
        assert child.stdin
        child.stdin.write(body)
        child.stdin.close()
        running.append(child)
    answers = []
    for child in running:
        assert child.stdout
        answers.append(json.loads(child.stdout.read()))
        child.wait()
    assert len({given_ip(answer) for answer in answers}) == 12


def test_killed_at_any_moment_leaves_whole_files(node: Node) -> None:
    body = json.dumps(config(node)).encode()
    for number in range(8):
        environ = {"CNI_COMMAND": "ADD", "CNI_PATH": str(node.bin), "CNI_CONTAINERID": f"c{number}", "CNI_NETNS": "/x",
                   "CNI_IFNAME": "eth0"}
        child = subprocess.Popen([str(node.bin / "host-local")], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environ)
        assert child.stdin
        child.stdin.write(body)
        child.stdin.close()
        try:
            child.wait(timeout=0.02 + number * 0.01)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
    for ip in node.reservations():
        assert (node.data / "net" / ip).read_bytes().endswith(b"\r\neth0")
    assert node.call("GC", config(node) | {"cni.dev/valid-attachments": []}) == (0, {})
    assert node.reservations() == set()


def test_name_servers_come_from_a_file(node: Node) -> None:
    file = node.directory / "resolv.conf"
    file.write_text("# x\nnameserver 10.96.0.10\nsearch a b\noptions ndots:5\ndomain d\n")
    answer = node.add(config(node, ipam={"resolvConf": str(file)}), ns="/x")
    assert answer["dns"] == {"nameservers": ["10.96.0.10"], "search": ["a", "b"], "options": ["ndots:5"], "domain": "d"}


@pytest.mark.parametrize(("ipam", "words"), [
    pytest.param({}, "no IP ranges", id="nothing"),
    pytest.param({"ranges": [[]]}, "empty range set", id="empty set"),
    pytest.param({"subnet": "10.9.0.1/24"}, "host bits set", id="host bits"),
    pytest.param({"subnet": "10.9.0.0/31"}, "too small", id="too small"),
    pytest.param({"subnet": "10.9.0.0/24", "rangeStart": "10.8.0.1"}, "not in network", id="start elsewhere"),
    pytest.param({"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.2"}, "behind", id="backwards"),
    pytest.param({"subnet": "nonsense"}, "nonsense", id="no subnet"),
    pytest.param({"ranges": [[{"subnet": "10.9.0.0/24"}, {"subnet": "fd09::/64"}]]}, "mixed", id="mixed families"),
    pytest.param({"ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "10.9.0.0/16"}]]}, "overlaps", id="overlap"),
    pytest.param({"ranges": [[{"subnet": "10.9.0.0/24"}, {"subnet": "10.9.0.0/25"}]]}, "overlap", id="overlap in a set"),
])
def test_ranges_that_make_no_sense(ipam: dict[str, Any], words: str) -> None:
    with pytest.raises(CniError, match=words) as caught:
        ranges.parse_sets(ipam)
    assert caught.value.code == 7


@given(st.lists(st.integers(0, 60), min_size=1, max_size=4, unique=True), st.integers(0, 70))
def test_a_walk_meets_every_address_once(starts: list[int], last: int) -> None:
    listed = [{"subnet": "10.9.0.0/24", "rangeStart": f"10.9.0.{4 * start + 1}", "rangeEnd": f"10.9.0.{4 * start + 3}",
               "gateway": "10.9.0.2"} for start in starts]
    one = ranges.parse_sets({"ranges": [listed]})[0]
    seen = [int(ip) & 0xFF for ip, _ in one.walk(ip_address(f"10.9.0.{last}"))]
    assert sorted(seen) == sorted(4 * start + n for start in starts for n in (1, 2, 3) if 4 * start + n != 2)
    if last in seen:
        assert seen[-1] == last
