"""nftables' rules here against nftables' rules in the kernel: one packet, many rules, which of them match?"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netlab.kernel import link, netns
from netlab.kernel.rtnl import Rtnl
from netlab.netfilter import nft, nft_json, nft_walk
from netlab.netfilter.going import NftHit, Walking
from netlab.netfilter.matching import Host, Packet
from netlab.netfilter.nft_eval import Book

pytestmark = pytest.mark.root

ADDRESSES = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
GUARD = 'iifname "eth0" ip saddr 10.0.0.1 jump asked\niifname "eth0" ip6 saddr fd00::1 meta l4proto != ipv6-icmp jump asked'


@dataclass(frozen=True)
class Sent:
    family: int
    protocol: str
    port: int


@dataclass
class Pair:
    """Two namespaces with a cable; the second one has the rules."""

    near: int
    far: int

    def nft(self, command: str, text: str = "") -> str:
        with netns.inside(self.far):
            done = subprocess.run(["nft", *command.split()], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stderr, text)
        return done.stdout

    def load(self, text: str) -> None:
        """Write rules; those that nft refuses, as conditions that contradict each other, are left out."""
        lines = text.splitlines()
        while True:
            with netns.inside(self.far):
                done = subprocess.run(["nft", "-f", "-"], input="\n".join(lines), capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            refused = {int(number) - 1 for number in re.findall(r"^/dev/stdin:(\d+):", done.stderr, re.MULTILINE)}
            assert refused, done.stderr
            assert lines.index("chain asked {") < min(refused), done.stderr
            lines = [line for at, line in enumerate(lines) if at not in refused]

    def send(self, what: Sent) -> Packet:
        """Send one packet, and return what the second namespace sees come in."""
        source, target = ADDRESSES[what.family]
        kind = socket.SOCK_DGRAM if what.protocol == "udp" else socket.SOCK_STREAM
        with netns.inside(self.near):
            sock = socket.socket(socket.AF_INET if what.family == 4 else socket.AF_INET6, kind)
        with sock:
            sock.settimeout(1)
            sock.bind((source, 0))
            number = sock.getsockname()[1]
            with suppress(OSError):  # refused, as nobody listens; the packet has been there
                sock.connect((target, what.port))
                if what.protocol == "udp":
                    sock.send(b"x" * 12)
                    sock.recv(1)
        length = {"udp": 40, "tcp": 60}[what.protocol] if what.family == 4 else None
        return Packet(source, target, what.protocol, number, what.port, iif="eth0", ttl=64, length=length,
                      flags=2 if what.protocol == "tcp" else None, original=(source, number, target, what.port))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    near, far = netns.new_netns(), netns.new_netns()
    try:
        with Rtnl(near) as sock:
            link.set_up(sock, "lo")
            link.add_veth(sock, "eth0", "eth0", peer_netns=far)
        for at, fd in enumerate((near, far)):
            with Rtnl(fd) as sock:
                link.set_up(sock, "lo", "eth0")
                for family, bits in ((4, 24), (6, 64)):
                    link.add_address(sock, "eth0", f"{ADDRESSES[family][at]}/{bits}")
            with netns.inside(fd):
                subprocess.run(["sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0", "net.ipv6.conf.all.accept_dad=0"], check=True)
        yield Pair(near, far)
    finally:
        os.close(near)
        os.close(far)


ports = st.sampled_from([53, 80, 81, 8080])
four = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.0/24", "10.0.0.2-10.0.0.9", "192.168.0.0/16"])
six = st.sampled_from(["fd00::1", "fd00::2", "fd00::/64", "fd00::2-fd00::9", "2001:db8::/32"])
span = st.builds(lambda low, more: f"{low}-{low + more}", ports, st.integers(1, 40))
port = st.one_of(ports.map(str), span)
not_ = st.sampled_from(["", "", "!= "])
listed = lambda one: st.lists(one, min_size=1, max_size=3, unique=True).map(lambda found: f"{{ {', '.join(found)} }}")  # noqa: E731
some_ports = st.one_of(port, listed(ports.map(str)), listed(st.sampled_from(["53", "80-81", "8000-9000"])))
protocols = st.sampled_from(["tcp", "udp", "icmp", "sctp", "ipv6-icmp"])
states = st.sampled_from(["new", "established", "invalid", "related", "untracked"])
hosts = st.one_of(four, listed(st.sampled_from(["10.0.0.1", "10.0.0.2", "172.16.0.0/12"])))


def build(words: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda found: words.format(*found))


CONDITIONS = (
    build("ip {} {}{}", st.sampled_from(["saddr", "daddr"]), not_, hosts),
    build("ip6 {} {}{}", st.sampled_from(["saddr", "daddr"]), not_, six),
    build("{} {} {}{}", st.sampled_from(["tcp", "udp", "th", "sctp"]), st.sampled_from(["dport", "sport"]), not_, some_ports),
    build("meta l4proto {}{}", not_, st.one_of(protocols, listed(protocols))),
    build("ip protocol {}{}", not_, protocols), build("ip6 nexthdr {}{}", not_, protocols),
    build("meta nfproto {}{}", not_, st.sampled_from(["ipv4", "ipv6"])),
    build("ct state {}{}", not_, st.one_of(states, listed(states), st.just("new,invalid"), st.just("established,related"))),
    build("ct direction {}", st.sampled_from(["original", "reply"])),
    build("ct status {}{}", not_, st.sampled_from(["dnat", "snat", "seen-reply", "confirmed", "assured"])),
    build("ct original ip {} {}{}", st.sampled_from(["saddr", "daddr"]), not_, four),
    build("ct mark {}{}", not_, st.sampled_from(["0", "5", "0-7"])),
    build("meta mark {}{}", not_, st.sampled_from(["0", "0x3", "1-9"])),
    build("meta mark & {} {} {}", st.sampled_from(["0xff", "0x4000", "3"]), st.sampled_from(["==", "!="]),
          st.sampled_from(["0", "3", "0x4000"])),
    build("iifname {}{}", not_, st.sampled_from(['"eth0"', '"eth*"', '"lo"', '{ "eth0", "cni*" }'])),
    build("oifname {}{}", not_, st.sampled_from(['"eth0"', '"lo"'])),
    build("iif {}{}", not_, st.sampled_from(['"eth0"', '"lo"'])),
    build("tcp flags {}", st.sampled_from(["syn", "ack", "syn,ack", "!= syn", "== syn", "! ack", "syn / syn,ack,rst",
                                           "& (fin | syn) == syn", "{ syn, ack }"])),
    build("fib {} type {}{}", st.sampled_from(["saddr", "daddr", "daddr . iif"]), not_,
          st.sampled_from(["local", "unicast", "broadcast", "{ local, multicast }"])),
    build("fib {} oif {}", st.sampled_from(["saddr", "saddr . iif", "daddr"]), st.sampled_from(["exists", "missing"])),
    build("fib saddr oifname {}{}", not_, st.sampled_from(['"eth0"', '"lo"'])),
    build("ip saddr & {} == {}", st.sampled_from(["0.0.0.255", "255.0.0.0", "0.0.0.3"]),
          st.sampled_from(["0.0.0.1", "10.0.0.0", "0.0.0.2"])),
    build("ip ttl {}", st.sampled_from(["64", "< 65", "> 64", "!= 64", "<= 63"])),
    build("ip length {}", st.sampled_from(["40", "60", "< 50", "> 50", "40-59"])),
    build("ip frag-off & 0x1fff {} 0", st.sampled_from(["==", "!="])), build("ip version {}", st.sampled_from(["4", "5"])),
    build("meta l4proto . th dport {}{{ {} . {} }}", not_, protocols, port),
    build("ip saddr . tcp dport {}{{ {} . {} }}", not_, four, port),
    build("ip daddr . meta l4proto . th dport @known"), build("ip saddr {}@nets", not_),
    build("ip saddr . ip daddr . meta l4proto {{ {} . {} . tcp }}", four, four),
    build("meta mark set jhash ip saddr . tcp dport mod 7 seed {} meta mark {}", st.sampled_from(["0x1", "0xfeed"]),
          st.sampled_from(["0", "1-3", "4-6"])),
    build("meta mark set jhash udp sport mod 5 seed 0x7 meta mark {}", st.sampled_from(["0-1", "2", "3-4"])),
    build("meta mark set meta mark {} meta mark {}", st.sampled_from(["| 0x4000", "^ 0x3", "& 0xff", "& 0xf0 ^ 0x5"]),
          st.sampled_from(["0", "3", "!= 0", "0x4000"])),
    build("meta mark set tcp dport map {{ 80 : {}, 81 : 7 }} meta mark {}", st.sampled_from(["3", "5"]),
          st.sampled_from(["3", "7", "!= 7"])),
    build("ct mark set ct mark | {} ct mark {}", st.sampled_from(["1", "4"]), st.sampled_from(["1", "5", "!= 0"])),
    build("add @seen {{ ip saddr }} ip saddr {}@seen", not_), build("ip {} {}@seen", st.sampled_from(["saddr", "daddr"]), not_),
    build("icmp type {}", st.sampled_from(["echo-request", "{ echo-reply, redirect }"])),
    build("meta protocol {}", st.sampled_from(["ip", "ip6"])),
    build("ip6 hoplimit {}", st.sampled_from(["64", "> 3"])),
)
VERDICTS = ("", "", "", "", "accept", "return", "jump sub", "goto sub", "continue",
            "tcp dport vmap { 80 : jump sub, 81 : return, 8080-8090 : goto sub }",
            "ip saddr . th dport vmap @ways", "meta mark vmap { 0 : continue, 5 : drop, * : jump sub }",
            "numgen random mod 1 vmap { 0 : jump sub }")
rules = st.lists(st.tuples(st.one_of(*CONDITIONS), st.one_of(st.just(""), st.one_of(*CONDITIONS))).map(" ".join),
                 min_size=15, max_size=30)
SETS = """
set known { type ipv4_addr . inet_proto . inet_service
 elements = { 10.0.0.2 . tcp . 80, 10.0.0.2 . udp . 53 }
}
set nets { type ipv4_addr
 flags interval
 elements = { 10.0.0.0/30, 172.16.0.0-172.16.0.9 }
}
set seen { type ipv4_addr
 flags dynamic,timeout
 timeout 1m
}
map ways { type ipv4_addr . inet_service : verdict
 flags interval
 elements = { 10.0.0.0/24 . 80 : jump sub, 10.0.0.1 . 50-60 : return }
}
"""


def ruleset(listed: list[str], verdicts: list[str], hook: str) -> str:
    # a map without an element for the packet ends its rule, whose counter would have counted
    lines = [f"{each} {verdict}" if "vmap" in verdict else f"{each} counter {verdict}" for each, verdict in
             zip(listed, verdicts, strict=True)]
    return (f"flush ruleset\ntable inet t {{\n{SETS}\nchain sub {{\nct state new counter\ntcp dport 80 counter return\ncounter\n}}\n"
            f"chain asked {{\n" + "\n".join(lines) + f"\n}}\nchain base {{\ntype filter hook {hook} priority 0\n{GUARD}\n}}\n}}\n")


def counted(tables: tuple[nft.NftTable, ...]) -> dict[tuple[str, int], int]:
    return {(rule.chain, rule.handle): rule.packets for rule in tables[0].rules() if rule.packets is not None}


SOME = settings(deadline=None, derandomize=True, max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate],
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture])
sent = st.builds(Sent, st.sampled_from([4, 4, 6]), st.sampled_from(["tcp", "udp"]), st.sampled_from([53, 80, 81, 8080]))


class Here(Host):
    """The second namespace in the words of rules."""

    def way(self, address: str, source: str, mark: int = 0, iif: str = "", wanted: str = "") -> str | None:
        return "" if self.local(address) else "eth0"

    def kind(self, address: str, device: str = "") -> str | None:
        return "local" if self.local(address) else "unicast"


def check(pair: Pair, listed: list[str], verdicts: list[str], hook: str, what: Sent) -> None:
    pair.load(ruleset(listed, verdicts, hook))
    text = pair.nft("-a list ruleset")
    as_json = pair.nft("-j list ruleset")
    packet = pair.send(what)
    seen = {at for at, count in counted(nft.parse(pair.nft("-a list ruleset"))).items() if count}
    host = Here(frozenset({"10.0.0.2", "fd00::2"}))
    for tables in (nft.parse(text), nft_json.parse(as_json)):
        book = Book(tables[0])
        (found, *more) = nft_walk.base_chain(book, "base", Walking(replace(packet, state="NEW")), host)
        if not found.certain:  # what nft itself made two meanings of
            assert all(each.count("!=") > 1 for each in found.doubts), found.doubts
            continue
        assert not more
        said = {(hit.chain, hit.rule.handle) for hit in found.hits if isinstance(hit, NftHit)
                and (hit.chain, hit.rule.handle) in counted(nft.parse(text))}
        names = {(rule.chain, rule.handle): rule.text for rule in tables[0].rules()}
        wrong = {names[at] for at in said - seen}, {names[at] for at in seen - said}
        assert wrong == (set(), set()), (packet, hook)


@SOME
@given(listed=rules, hook=st.sampled_from(["prerouting", "input"]), what=sent)
def test_the_same_rules_match(pair: Pair, listed: list[str], hook: str, what: Sent) -> None:
    check(pair, listed, [""] * len(listed), hook, what)


@SOME
@given(listed=rules, hook=st.sampled_from(["prerouting", "input"]), what=sent, data=st.data())
def test_verdicts_lead_the_same_way(pair: Pair, listed: list[str], hook: str, what: Sent, data: st.DataObject) -> None:
    verdicts = data.draw(st.lists(st.sampled_from(VERDICTS), min_size=len(listed), max_size=len(listed)))
    check(pair, listed, verdicts, hook, what)


