"""Our own nfnetlink messages against libnftables: nft lists the same afterwards, whoever wrote it."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest

from netlab.errors import KernelError, Unsupported
from netlab.kernel import netns, nft_table
from netlab.kernel.nft_batch import Encoder, Writer, seconds
from tests.proxy.nft_compare import tables

pytestmark = pytest.mark.root

RULES = {
    "ip": """ip saddr != { 10.1.2.3, 192.0.2.0/24, 10.0.0.0/16 } drop
ip saddr != { 10.1.2.3, 10.1.2.5 } drop
ip saddr { 0.0.0.0/8, 255.0.0.0/8 } accept
ip daddr { 10.96.0.0/16, 10.97.0.0/16 } drop comment "two, side by side"
ip saddr != 255.255.255.0/24 drop
ip saddr 0.0.0.0/0 drop
ip saddr != 10.244.0.0/15 drop
ip saddr 10.244.1.128/25 return
ip saddr 10.0.0.1 jump other
iifname != "veth*" drop
iifname "cni0" goto other comment "a bridge"
fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @ports
ip daddr @addresses fib saddr type local meta mark set meta mark | 0x00004000 comment "masquerade"
meta mark & 0x80000000 != 0x00000000 meta mark set meta mark ^ 0x80000000 masquerade fully-random
ct state new ip daddr . meta l4proto . th dport vmap @services
ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin masquerade
update @clients { ip saddr }
ip saddr @clients goto other
meta l4proto sctp dnat to 10.0.0.1:80
meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 65535 }
numgen random mod 3 vmap { 0 : goto other, 1 : drop, 2 : goto third }
reject comment "nobody"
""", "ip6": """ip6 saddr != { fd00::/64, fd01::1 } drop
ip6 saddr fd00::/63 drop
ip6 saddr fd00::/64 drop
ip6 daddr != ::1 fib daddr type local drop
ip6 daddr . meta l4proto . th dport vmap @services
ct status dnat ip6 saddr . ip6 daddr . meta l4proto . th dport @hairpin masquerade fully-random
update @clients { ip6 saddr }
meta l4proto udp dnat ip6 to numgen random mod 2 map { 0 : fd00::1 . 80, 1 : fd00::2 . 53 }
meta l4proto tcp dnat to [fd00::1]:80
reject
"""}
ELEMENTS = {"ip": "10.96.0.10 . tcp . 80 : goto other, 10.96.0.11 . udp . 53 comment \"default/dns:dns\" : drop",
            "ip6": "fd00::10 . sctp . 80 : goto other, fd00::11 . udp . 53 comment \"default/dns:dns\" : drop"}


def commands(family: str) -> str:
    address = "ipv6_addr" if family == "ip6" else "ipv4_addr"
    head = f"""add table {family} t {{ comment "a table of ours" ; }}
add set {family} t clients {{ type {address} ; size 65535 ; flags dynamic,timeout ; timeout 10800s ; }}
add set {family} t addresses {{ type {address} ; comment "addresses" ; }}
add set {family} t hairpin {{ type {address} . {address} . inet_proto . inet_service ; comment "hairpin" ; }}
add map {family} t services {{ type {address} . inet_proto . inet_service : verdict ; comment "to port" ; }}
add map {family} t ports {{ type inet_proto . inet_service : verdict ; comment "ports" ; }}
add chain {family} t third
add chain {family} t other
add chain {family} t from-outside {{ type filter hook prerouting priority dstnat - 10; policy accept; comment "base" ; }}
add chain {family} t late {{ type nat hook output priority -100; policy accept; }}
add element {family} t ports {{ tcp . 80 : goto other, udp . 65535 : drop }}
add element {family} t services {{ {ELEMENTS[family]} }}"""
    rules = [f"add rule {family} t from-outside {rule}" for rule in RULES[family].splitlines()
             if "dnat to" not in rule and "dnat ip" not in rule and "masquerade" not in rule]
    chains = [line for at, rule in enumerate(RULES[family].splitlines())
              for line in (f"add chain {family} t c{at}", f"add rule {family} t c{at} {rule}")]
    return "\n".join((head, *rules, *chains))


@pytest.fixture
def places() -> Iterator[tuple[int, int]]:
    made = netns.new_netns(), netns.new_netns()
    yield made
    for fd in made:
        os.close(fd)


def listed(place: int) -> str:
    nft = nft_table.open_nft(place)
    try:
        return nft.run("list ruleset")
    finally:
        nft.close()


def by_nft(place: int, text: str) -> None:
    nft = nft_table.open_nft(place)
    try:
        nft.run(text)
    finally:
        nft.close()


@pytest.fixture
def writer(places: tuple[int, int]) -> Iterator[Writer]:
    made = Writer(places[1])
    yield made
    made.close()


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_nft_lists_the_same(places: tuple[int, int], writer: Writer, family: str):
    text = commands(family)
    by_nft(places[0], text)
    writer.run(text)
    assert tables(listed(places[1])) == tables(listed(places[0]))


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_changes_and_deletions(places: tuple[int, int], writer: Writer, family: str):
    gone = ELEMENTS[family].split(" : ")[0]
    for text in (commands(family), f"""flush chain {family} t c1
add rule {family} t c1 drop
flush chain {family} t from-outside
delete element {family} t services {{ {gone} }}
add element {family} t services {{ {gone} : goto third }}
flush set {family} t addresses
flush map {family} t ports
flush chain {family} t c{len(RULES[family].splitlines()) - 1}
delete chain {family} t c{len(RULES[family].splitlines()) - 1}"""):
        by_nft(places[0], text)
        writer.run(text)
    assert tables(listed(places[1])) == tables(listed(places[0]))
    assert nft_table.delete(socket.AF_INET if family == "ip" else socket.AF_INET6, "t", places[1])
    assert listed(places[1]) == ""


def test_a_refused_command_is_named_and_nothing_of_its_transaction_is_in(places: tuple[int, int], writer: Writer):
    writer.run("add table ip t { comment \"x\" ; }\nadd chain ip t a")
    before = listed(places[1])
    with pytest.raises(KernelError, match=r"No such file or directory: add rule ip t a goto nowhere$") as caught:
        writer.run("add chain ip t b\nadd rule ip t a goto nowhere\nadd rule ip t b drop")
    assert caught.value.errno == 2
    assert listed(places[1]) == before
    writer.run("add chain ip t b")
    assert "chain b" in listed(places[1]), "the next transaction is none the worse for it"


@pytest.mark.parametrize("text", [
    "list ruleset", "add rule ip t a log prefix \"x\"", "add rule ip t a tcp dport 80 drop", "add chain bridge t c",
    "add element ip t s { 10.0.0.0/8 }", "add set ip t s { type mark ; }", "add rule ip t a ip saddr nonsense drop",
    "add rule ip t a jump", "add rule ip t a meta mark set meta mark & 0x1", "add"])
def test_what_only_nft_can_say_is_refused(text: str):
    with pytest.raises(Unsupported):
        Encoder().encode(text)


def test_more_elements_than_one_message_holds(places: tuple[int, int], writer: Writer):
    found = [f"10.{random.Random(at).randrange(256)}.{at >> 8}.{at & 255}" for at in range(5000)]
    writer.run(f"add table ip t {{ }}\nadd set ip t s {{ type ipv4_addr ; }}\nadd element ip t s {{ {', '.join(found)} }}")
    assert tables(listed(places[1]))["table ip t"]["set s"]["elements"] == frozenset(found)


@pytest.mark.parametrize(("text", "number"), [("10800s", 10800), ("1d1h1m1s", 90061), ("0s", 0)])
def test_durations(text: str, number: int):
    assert seconds(text) == number
