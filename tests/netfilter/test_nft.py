"""Text of nft as values."""

from __future__ import annotations

import pytest

from netlab.netfilter import nft
from netlab.netfilter.nft import NftElement, NftTable
from netlab.netfilter.nft_eval import Book
from netlab.netfilter.nft_syntax import Where
from tests.proxy.builders import recorded

FOREIGN = """table inet guard { # handle 3
    flowtable fast {
        hook ingress priority filter
        devices = { eth0 }
    }
    set bad {
        type ipv4_addr
        flags interval
        elements = { 192.0.2.0/24 counter packets 3 bytes 180 comment "a, { b }",
                 198.51.100.7 }
    }
    chain input { # handle 1
        type filter hook input priority filter; policy drop;
        ct state established,related accept # handle 2
        ip saddr @bad counter packets 7 bytes 420 drop comment "bad : ones" # handle 4
    }
}
"""


def test_a_recorded_table():
    ip, ip6 = nft.parse(recorded("nft-ruleset.txt"))
    assert (ip.family, ip6.family, len(ip.chains), len(ip.sets)) == ("ip", "ip6", 28, 10)
    assert ip.chain("filter-input").hook == "input"
    assert ip.elements("no-endpoint-services")["10.96.0.12 . tcp . 80"] == nft.NftElement(
        "10.96.0.12 . tcp . 80", "goto reject-chain", "default/none:http")
    assert len(ip.elements("service-ips")) == 10
    assert ip.callers()["reject-chain"] == ["map no-endpoint-services"]


def test_what_others_write():
    (table,) = nft.parse(FOREIGN)
    assert list(table.elements("bad").values()) == [
        nft.NftElement("192.0.2.0/24", "", "a, { b }", 3), nft.NftElement("198.51.100.7")]
    accept, drop = table.chain("input").rules
    assert (accept.text, accept.handle, accept.packets) == ("ct state established,related accept", 2, None)
    assert (drop.text, drop.comment, drop.handle, drop.packets, drop.bytes) == (
        "ip saddr @bad counter drop", "bad : ones", 4, 7, 420)
    assert (table.chain("input").policy, table.chain("input").priority) == ("drop", "filter")


@pytest.mark.parametrize(("one", "other"), [
    ("meta mark set meta mark | 0x00004000", "mark set mark or 0x4000 comment \"masquerade\""),
    ("meta mark & 0x00004000 != 0x00000000 drop", "mark and 0x4000 == 0x4000 counter packets 3 bytes 9 drop")])
def test_versions_of_nft_say_the_same_in_other_words(one: str, other: str):
    assert nft.meaning(one) == nft.meaning(other)
    assert nft.meaning(one) != nft.meaning(one.replace("4000", "8000"))


def test_dice():
    assert nft.dice("numgen random mod 4 map { 0 : 10.0.0.1 . 80, 1-3 : 10.0.0.2 . 80 }") == (
        ("10.0.0.1 . 80", 0.25), ("10.0.0.2 . 80", 0.75))
    assert nft.dice("numgen random mod 2 vmap { 0 : goto a, 1 : goto b }") == (("a", 0.5), ("b", 0.5))
    assert nft.dice("ip daddr 10.0.0.1 drop") == ()
    assert nft.joined("fd00::1 . 80") == "[fd00::1]:80"


@pytest.mark.parametrize(("text", "said"), [("hello", "line 1 is not text of nft list: want a table"),
                                            ("table ip x {\n chain a {\n  drop\n", "its block does not end"),
                                            ("table ip x {\n set a {\n  elements = { 1,\n", "its block does not end")])
def test_what_is_no_listing(text: str, said: str):
    with pytest.raises(nft.NotNft, match=said):
        nft.parse(text)
    assert not nft.looks_like("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n")


def test_the_elements_of_one_rule_are_never_taken_for_those_of_another() -> None:
    book = Book(NftTable("ip", "t"))
    for port in range(50):  # what is forgotten leaves its place in memory to the next
        assert book.find(Where(elements={str(port): NftElement(str(port))}), ("inet_service",), (port,), frozenset()) is not None
