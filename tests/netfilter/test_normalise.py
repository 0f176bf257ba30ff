from __future__ import annotations

import pytest

from netlab.netfilter import normalise, parse
from netlab.netfilter.normalise import canonical, differences, same
from tests.proxy.builders import recorded


@pytest.mark.parametrize(("written", "read_back"), [
    pytest.param("-m comment --comment x -m tcp -p tcp -d 10.0.0.1 --dport 80 -j A",
                 "-d 10.0.0.1/32 -p tcp -m comment --comment x -m tcp --dport 80 -j A", id="order and /32"),
    pytest.param("-j MARK --or-mark 0x00004000", "-j MARK --set-xmark 0x4000/0x4000", id="or-mark"),
    pytest.param("-j MARK --xor-mark 0x00004000", "-j MARK --set-xmark 0x4000/0x0", id="xor-mark"),
    pytest.param("-j MARK --and-mark 0xff", "-j MARK --set-xmark 0x0/0xffffff00", id="and-mark"),
    pytest.param("-j MARK --set-mark 5", "-j MARK --set-xmark 0x5/0xffffffff", id="set-mark"),
    pytest.param("-m mark ! --mark 0x00004000/0x00004000 -j RETURN", "-m mark ! --mark 0x4000/0x4000 -j RETURN", id="mark"),
    pytest.param("-m statistic --mode random --probability 0.3333333333 -j A",
                 "-m statistic --mode random --probability 0.33333333349 -j A", id="probability in the kernel's steps"),
    pytest.param("-m recent --name L --rcheck --seconds 9 --reap -j A",
                 "-m recent --rcheck --seconds 9 --reap --name L --mask 255.255.255.255 --rsource -j A", id="recent"),
    pytest.param("-m recent --name L --set -j A",
                 "-m recent --set --name L --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource -j A", id="recent in IPv6"),
    pytest.param("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                 "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", id="states in any order"),
    pytest.param("-m state --state NEW -j ACCEPT", "-m conntrack --ctstate NEW -j ACCEPT", id="state is conntrack"),
    pytest.param("-p 6 --syn -j ACCEPT", "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT", id="syn"),
    pytest.param("-j REJECT", "-j REJECT --reject-with icmp-port-unreachable", id="reject"),
    pytest.param("-s 10.1.2.3/255.255.0.0 -j A", "-s 10.1.0.0/16 -j A", id="mask with host bits"),
    pytest.param("--source 10.0.0.1 --protocol udp --destination-port 53 -j A", "-s 10.0.0.1/32 -p udp -m udp --dport 53 -j A",
                 id="long names"),
    pytest.param("-s 0.0.0.0/0 -p all -j A", "-j A", id="everything"),
    pytest.param("-s ! 10.0.0.0/8 -j A", "! -s 10.0.0.0/8 -j A", id="old negation"),
    pytest.param("-m nfacct --nfacct-name c -j A", "-m nfacct --nfacct-name  c -j A", id="nfacct's two blanks"),
])
def test_two_spellings_of_one_rule(written: str, read_back: str):
    assert same(parse.rule("C", written), parse.rule("C", read_back))


@pytest.mark.parametrize(("one", "other"), [
    ("-d 10.0.0.1 -j A", "-d 10.0.0.2 -j A"), ("-d 10.0.0.1 -j A", "! -d 10.0.0.1 -j A"), ("-j A", "-g A"),
    ("-p tcp -j A", "-p udp -j A"), ("-p tcp --dport 80 -j A", "-p tcp --sport 80 -j A"),
    ("-m statistic --mode random --probability 0.5 -j A", "-m statistic --mode random --probability 0.25 -j A"),
    ("-m comment --comment a -j A", "-m comment --comment b -j A"), ("-j MARK --or-mark 1", "-j MARK --xor-mark 1"),
    ("-j DNAT --to-destination 10.0.0.1:80", "-j DNAT --to-destination 10.0.0.1:81"),
    ("-m recent --name a --set -j A", "-m recent --name b --set -j A"), ("-m conntrack --ctstate NEW -j A", "-j A"),
    ("-j REJECT", "-j REJECT --reject-with tcp-reset"),
])
def test_rules_that_differ(one: str, other: str):
    assert not same(parse.rule("C", one), parse.rule("C", other))


def test_the_chain_belongs_to_a_rule():
    assert canonical(parse.rule("A", "-j DROP")) != canonical(parse.rule("B", "-j DROP"))


def test_differences_name_what_is_missing_and_what_is_too_many():
    ours = parse.parse("*nat\n:A - [0:0]\n:B - [0:0]\n-A A -p tcp -j B\nCOMMIT\n")
    theirs = parse.parse("*nat\n:A - [0:0]\n:C - [0:0]\n-A A -p udp -j C\nCOMMIT\n")
    assert set(differences(ours, theirs)) == {
        "nat: chain B is missing", "nat: chain C is too many", "nat: missing -A A -p tcp -j B",
        "nat: too many -A A -p udp -j C"}


def test_order_counts_unless_it_is_said_to_be_free():
    ours = parse.parse("*nat\n:A - [0:0]\n-A A -p tcp -j DROP\n-A A -j ACCEPT\nCOMMIT\n")
    theirs = parse.parse("*nat\n:A - [0:0]\n-A A -j ACCEPT\n-A A -p tcp -j DROP\nCOMMIT\n")
    assert differences(ours, theirs) == ["nat: the rules of A come in another order or number"]
    assert differences(ours, theirs, unordered=["A"]) == []


def test_a_doubled_rule_is_a_difference():
    once = parse.parse("*nat\n:A - [0:0]\n-A A -j DROP\nCOMMIT\n")
    twice = parse.parse("*nat\n:A - [0:0]\n-A A -j DROP\n-A A -j DROP\nCOMMIT\n")
    assert differences(once, twice)
    assert differences(once, twice, unordered=["A"])


def test_two_recordings_differ_in_what_masquerade_all_changes():
    plain, all_ = (parse.parse(recorded(name)) for name in ("iptables-save.txt", "iptables-save.masquerade-all.txt"))
    found = differences(plain, all_, unordered=["KUBE-SERVICES"])
    assert len(found) == 18
    assert all("-j KUBE-MARK-MASQ" in line for line in found)


def test_marks_are_32_bits():
    assert normalise.mark("0x4000/0x4000") == (0x4000, 0x4000)
    assert normalise.mark("16384") == (0x4000, 0xFFFFFFFF)
