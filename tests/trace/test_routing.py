"""Routing rules here against the kernel's: random rules and tables, and what RTM_GETROUTE answers for random packets."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netlab.kernel import lookup, netns
from netlab.trace import look
from netlab.trace.listen import Tap
from netlab.trace.routing import Asked, Route, Rule, fits

NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
LINKS = {"eth0": ("10.0.0.1/24", "fd00::1/64"), "eth1": ("10.0.1.1/24", "fd00:1::1/64"), "eth2": ("10.0.2.1/24", "fd00:2::1/64")}
NETS = {4: ["0.0.0.0/0", "10.9.0.0/16", "10.9.9.0/24", "10.9.9.9/32", "192.168.0.0/16"],
        6: ["::/0", "2001:db8::/32", "2001:db8:9::/48", "2001:db8:9::9/128", "fc00::/16"]}
TO = {4: ["10.9.9.9", "10.9.9.8", "10.9.1.1", "192.168.3.4", "8.8.8.8", "10.0.1.1", "10.0.2.7"],
      6: ["2001:db8:9::9", "2001:db8:9::8", "2001:db8::5", "fc00::4", "2001::8", "fd00:1::1", "fd00:2::7"]}
GATEWAYS = {"eth0": ("10.0.0.254", "fd00::fe"), "eth1": ("10.0.1.254", "fd00:1::fe"), "eth2": ("10.0.2.254", "fd00:2::fe")}
HERE = {4: ["10.0.0.1", "10.0.1.1"], 6: ["fd00::1", "fd00:1::1"]}
AWAY = {4: ["10.0.0.77", "192.168.7.7", "10.0.1.5"], 6: ["fd00::77", "fc00::77", "fd00:1::5"]}


@dataclass(frozen=True)
class Made:
    """A namespace's routing in ip's words."""

    family: int
    routes: tuple[str, ...]
    rules: tuple[str, ...]


@pytest.mark.parametrize(("protocol", "asked"), [("tcp", True), ("6", True), ("17", False), ("unheard", False)])
def test_a_rule_asks_for_a_protocol_by_name_or_number(protocol: str, asked: bool) -> None:
    assert fits(Rule(10, protocol=6), Asked("10.9.9.9", protocol=protocol)) == asked


@st.composite
def routings(draw: st.DrawFn) -> Made:
    family = draw(st.sampled_from([4, 4, 6]))
    at = family == 6

    def route() -> str:
        net, table = draw(st.sampled_from(NETS[family])), draw(st.sampled_from(["main", "100", "101"]))
        kind = draw(st.sampled_from(["", "", "", "", "blackhole", "unreachable", "prohibit", "throw"]))
        metric = draw(st.sampled_from([10, 20, 30]))
        if kind:
            return f"{kind} {net} table {table} metric {metric}"
        link = draw(st.sampled_from(sorted(LINKS)))
        way = draw(st.sampled_from([f"via {GATEWAYS[link][at]} ", ""]))
        return f"{net} {way}dev {link} table {table} metric {metric}"

    def rule(priority: int) -> str:
        words = [f"priority {priority}"]
        selectors = [
            ("not",), *[(f"from {each}",) for each in (*HERE[family], *AWAY[family][:1], NETS[family][4])],
            *[(f"to {each}",) for each in NETS[family][1:4]], ("fwmark 0x1",), ("fwmark 0x10/0xf0",), ("iif lo",), ("iif eth0",),
            ("oif eth1",), ("tos 0x10",), ("ipproto tcp",), ("ipproto udp",), ("dport 80",), ("dport 53-90",), ("sport 1000-2000",)]
        for (word,) in draw(st.lists(st.sampled_from(selectors), max_size=2, unique=True)):
            if word != "not":
                words.append(word)
            elif "not" not in words:
                words.insert(0, "not")
        names = [word.split()[0] for word in words]
        if len(set(names)) != len(names):
            words = words[:2]
        if words[0] == "not" and len(words) == 2:
            words.append("to " + NETS[family][1])
        action = draw(st.sampled_from(["lookup main", "lookup 100", "lookup 101", "lookup 100", "lookup main suppress_prefixlength 0",
                                       "lookup 100 suppress_prefixlength 16", "blackhole", "unreachable", "prohibit", "goto 60", "goto 30"]))
        if action == "goto 30" and priority >= 30:
            action = "goto 60"
        return " ".join([*words, action])

    return Made(family, tuple(dict.fromkeys(route() for _ in range(draw(st.integers(3, 10))))),
                tuple(map(rule, draw(st.lists(st.sampled_from([*range(1, 60), 30, 30]), min_size=1, max_size=7, unique=True)))))


@st.composite
def packets(draw: st.DrawFn, family: int) -> Asked:
    iif = draw(st.sampled_from(["lo", "eth0", "eth1"]))
    protocol = draw(st.sampled_from(["tcp", "udp"]))  # what has none here, the kernel takes for UDP
    ports = draw(st.sampled_from([0, 1500, 3000])), draw(st.sampled_from([53, 80, 443]))
    source = draw(st.sampled_from(["", *HERE[family]] if iif == "lo" else AWAY[family]))
    return Asked(draw(st.sampled_from(TO[family])), source, iif, "", draw(st.sampled_from([0, 1, 0x15, 0x20])),
                 draw(st.sampled_from([0, 0, 0x10])), protocol, *ports)


@pytest.fixture(scope="module")
def place() -> Iterator[Tap]:
    fd = netns.new_netns()
    lines = ["link set lo up"]
    for name, addresses in LINKS.items():
        lines += [f"link add {name} type veth peer name p-{name}", f"link set {name} up", f"link set p-{name} up", *(f"addr add {each} dev {name} nodad" if ":" in each
                                                                         else f"addr add {each} dev {name}" for each in addresses)]
    try:
        with netns.inside(fd):
            subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
            subprocess.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0",
                            *(f"net.ipv4.conf.{name}.rp_filter=0" for name in LINKS)], check=True)
        yield Tap("here", fd)
    finally:
        os.close(fd)


def write(place: Tap, made: Made) -> None:
    ip = ["ip", f"-{made.family}"]
    with netns.inside(place.netns_fd):
        while True:
            listed = subprocess.run([*ip, "rule"], capture_output=True, text=True, check=True).stdout.splitlines()
            mine = [line for line in listed if 0 < int(line.split(":")[0]) < 32000]
            if not mine:
                break
            subprocess.run([*ip, "rule", "del", "priority", mine[0].split(":")[0]], check=True)
        for table in ("100", "101"):
            subprocess.run([*ip, "route", "flush", "table", table], check=False, capture_output=True)
        listed = subprocess.run([*ip, "-d", "route", "show", "table", "main"], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            if "metric 10 " in line or "metric 20 " in line or "metric 30 " in line:
                subprocess.run([*ip, "route", "del", *" ".join(line.split(" proto ")[0].split()).split(), "metric",
                                line.split("metric ")[1].split()[0]], check=True, capture_output=True)
        for route in made.routes:
            subprocess.run([*ip, "route", "add", *route.split()], check=False, capture_output=True)  # some are there already
        for rule in made.rules:
            subprocess.run([*ip, "rule", "add", *rule.split()], check=True, capture_output=True)


def kernel(answer: lookup.RouteAnswer) -> tuple[Any, ...]:
    refused = {errno.ENETUNREACH: "none", errno.EHOSTUNREACH: "unreachable", errno.EACCES: "prohibit", errno.EINVAL: "blackhole"}
    if not answer.kind:
        return (refused[answer.error],)
    return answer.kind, answer.interface if answer.kind != "local" else "lo", answer.gateway


def ours(found: Route | None) -> tuple[Any, ...]:
    if found is None or (found.rule >= 0 and found.kind == "unreachable"):
        return ("none",)
    if found.kind not in ("unicast", "local"):
        return (found.kind,)
    return found.kind, found.interface, found.gateway


SOME = settings(deadline=None, derandomize=True, max_examples=15, phases=[Phase.explicit, Phase.reuse, Phase.generate],
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.root
@SOME
@given(made=routings(), data=st.data())
def test_the_kernel_takes_the_same_route(place: Tap, made: Made, data: st.DataObject) -> None:
    write(place, made)
    space = look.world([place], family=made.family).spaces["here"]
    asking = lookup.Lookup(place.netns_fd)
    for _ in range(15):
        asked = data.draw(packets(made.family))
        answer = asking.route(asked.destination, source=asked.source, iif="" if asked.iif == "lo" else asked.iif, mark=asked.mark,
                              tos=asked.tos, protocol=NUMBERS.get(asked.protocol, 0), sport=asked.sport,
                              dport=asked.dport)
        assert ours(space.route(asked.destination, asked)) == kernel(answer), (asked, made, space.policies[made.family])
