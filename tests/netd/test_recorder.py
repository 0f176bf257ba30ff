"""The recorder against the kernel: what changes in a namespace is in its files, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.errors import TemporaryError
from netlab.kernel import link, netns, nft
from netlab.kernel.rtnl import Rtnl
from netlab.kernel.rulewatch import RuleWatch
from netlab.lab.history import Held
from netlab.netd.recorder import Recorder
from netlab.netfilter import history
from netlab.netfilter.history import Moment
from netlab.netfilter.parse import parse
from netlab.trace.world import End, Link, Space

pytestmark = pytest.mark.root


@pytest.fixture
def space() -> Iterator[int]:
    fd = netns.new_netns()
    with Rtnl(fd) as sock:
        link.set_up(sock, "lo")
    yield fd
    os.close(fd)


def sh(space: int, command: str) -> None:
    with netns.inside(space):
        subprocess.run(command, shell=True, check=True)


class Store:
    """A store's revision: it goes up by itself; 0 while it is away."""

    revision = 100

    async def __call__(self) -> int:
        if not self.revision:
            raise TemporaryError("away")
        self.revision += 1
        return self.revision


def told(folder: Path) -> list[Moment]:
    return [moment for file in sorted(folder.iterdir()) for moment in history.moments(file.read_bytes())]


def test_hand_made_rules_of_both_backends_tables_of_nft_and_routes_are_kept(space: int, tmp_path: Path) -> None:
    store = Store()
    recorder = Recorder(tmp_path, store)
    steps = ("true", "iptables-nft -A FORWARD -s 10.9.0.0/16 -j DROP", "ip6tables-nft -P INPUT DROP",
             "nft add table inet mine; nft 'add chain inet mine c { type filter hook forward priority 0; }'",
             "ip route add blackhole 203.0.113.0/24", "iptables-legacy -A INPUT -j ACCEPT", "iptables-nft -D FORWARD 1")
    for step in steps:
        sh(space, step)
        asyncio.run(recorder.look(space))
    found = told(tmp_path)
    assert [each.revision for each in found] == [101 + number for number in range(len(steps))]
    forward = [[rule.match for rule in parse(each.iptables("IPv4", "nft")).chain("filter", "FORWARD").rules] for each in found]
    assert forward == [[], *[["-s 10.9.0.0/16"]] * 5, []]
    assert parse(found[2].iptables("IPv6", "nft")).chain("filter", "INPUT").policy == "DROP"
    assert "table inet mine" not in found[2].nft()
    assert "table inet mine" in found[3].nft()
    assert "203.0.113.0/24" not in {each[0] for each in json.loads(found[3].parts[history.ROUTES])}
    assert "203.0.113.0/24" in {each[0] for each in json.loads(found[4].parts[history.ROUTES])}
    assert parse(found[5].iptables("IPv4", "legacy")).chain("filter", "INPUT").rules
    assert [each.tables() for each in found[:4]] == [(), ("ip filter",), ("ip filter", "ip6 filter"),
                                                     ("ip filter", "ip6 filter", "inet mine")]


def test_routing_rules_links_and_settings_are_kept_without_another_look_at_the_rules(space: int, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Store())
    sh(space, "iptables-nft -A INPUT -j ACCEPT; sysctl -qw net.ipv4.ip_forward=0")
    asyncio.run(recorder.look(space))
    for step in ("ip rule add fwmark 0x5/0xff lookup 77 priority 50", "ip link add br5 mtu 1400 type bridge",
                 "ip address add 10.5.0.1/24 dev br5", "sysctl -qw net.ipv4.ip_forward=1", "iptables-nft -A INPUT -j DROP"):
        sh(space, step)
        asyncio.run(recorder.look(space, rules=False))
    found = told(tmp_path)
    held = [Held(each, None).space(Space("node/a"), 4) for each in found]
    assert [any(rule.mark == (5, 255) and rule.table == 77 for rule in each.policies[4]) for each in held] == [False] + [True] * 4
    assert ["br5" in each.links for each in held] == [False, False, True, True, True]
    assert [each.links["br5"].cidrs[:1] for each in held[2:]] == [(), ("10.5.0.1/24",), ("10.5.0.1/24",)]
    assert (held[2].links["br5"].kind, held[2].links["br5"].mtu) == ("bridge", 1400)
    assert [4 in each.links["lo"].forwards for each in held] == [False] * 4 + [True]
    assert [each.settings()["sysctls"]["net.ipv4.ip_forward"] for each in (Held(one, None) for one in found)] == [
        *"0000", "1"]
    assert {len(parse(each.iptables("IPv4", "nft")).chain("filter", "INPUT").rules) for each in found} == {1}


def test_a_link_that_came_since_is_none_of_the_past_and_a_cable_is_that_of_now(space: int, tmp_path: Path) -> None:
    asyncio.run(Recorder(tmp_path, Store()).look(space))
    (moment,) = told(tmp_path)
    links = {name: Link(name, "veth", far=far) for name, far in (
        ("lo", End("fabric", "x")), ("wg0", None), ("veth1", End("pod/default/new", "eth0")))}
    assert Held(moment, None).space(Space("node/a", links), 4).links.keys() == {"lo", "veth1"}
    old = history.Moment(1.0, 1, {})
    assert Held(old, None).space(Space("node/a", links), 4).links == links, "older files tell of no links"


def test_a_table_that_was_made_anew_is_the_newest(space: int, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Store())
    for step in ("nft add table inet one; nft add table inet two", "nft delete table inet one; nft add table inet one"):
        sh(space, step)
        asyncio.run(recorder.look(space))
    assert [each.tables() for each in told(tmp_path)] == [("inet one", "inet two"), ("inet two", "inet one")]


def test_what_did_not_change_is_not_written_nor_is_a_tracers_table(space: int, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Store())
    asyncio.run(recorder.look(space))
    before = [(file.name, file.stat().st_size) for file in tmp_path.iterdir()]
    armed = nft.arm(space, "meta l4proto tcp")
    asyncio.run(recorder.look(space))
    armed.close()
    asyncio.run(recorder.look(space))
    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == before


def test_without_the_api_server_the_last_known_revision_serves(space: int, tmp_path: Path) -> None:
    store = Store()
    recorder = Recorder(tmp_path, store)
    asyncio.run(recorder.look(space))
    store.revision = 0
    sh(space, "iptables-nft -A INPUT -j ACCEPT")
    asyncio.run(recorder.look(space))
    assert [each.revision for each in told(tmp_path)] == [101, 101]


def test_the_oldest_files_go_and_the_newest_stays_whole(space: int, tmp_path: Path) -> None:
    (tmp_path / "000000000000001").write_bytes(history.record(1, 1, {"a": "x"}) + bytes(3000))
    (tmp_path / "000000000000002").write_bytes(history.record(2, 2, {"a": "y"}))
    os.utime(tmp_path / "000000000000002", (2, 2))
    recorder = Recorder(tmp_path, Store(), most_bytes=2500)
    asyncio.run(recorder.look(space))
    assert [each.revision for each in told(tmp_path)] == [101]


def test_a_look_at_what_stayed_as_it_was_gives_the_same_stamp(space: int) -> None:
    with netns.inside(space):
        watch = RuleWatch(history.SYSCTLS)
        first = watch.stamp(0)
        assert watch.stamp(1) == first
        for change, rules in (("iptables-nft -A INPUT -j ACCEPT", True), ("ip route add blackhole 203.0.113.0/24", False),
                              ("ip rule add priority 5 lookup 7", False), ("ip -6 rule add priority 5 lookup 7", False),
                              ("ip link add br5 type bridge", False), ("ip address add 10.5.0.1/24 dev br5", False),
                              ("sysctl -qw net.ipv4.conf.lo.rp_filter=2", False),
                              ("sysctl -qw net.ipv4.conf.all.route_localnet=1", False)):
            subprocess.run(change, shell=True, check=True)
            after = watch.stamp(1)
            assert after != first, change
            assert (after.rules != first.rules) is rules, change
            first = after
        subprocess.run("iptables-legacy -A INPUT -j ACCEPT", shell=True, check=True)
        assert watch.stamp(1) != watch.stamp(7), "legacy tables have to be read now and then"
        watch.close()
