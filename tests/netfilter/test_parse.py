from __future__ import annotations

import pytest

from netlab.netfilter import parse, render, words
from netlab.netfilter.parse import NotIptables
from tests.proxy.builders import recorded


def test_saved_text_comes_back_word_for_word():
    text = recorded("iptables-save.txt")
    again = render.ruleset(parse.parse(text))
    assert again.splitlines() == [line for line in text.splitlines() if not line.startswith("#")]


def test_backend_is_read_from_the_header():
    assert parse.parse(recorded("iptables-save.txt")).backend == "nf_tables"
    assert parse.parse("*nat\nCOMMIT\n").backend == ""


def test_counters_of_rules_and_chains():
    rules = parse.parse("*filter\n:INPUT DROP [12:3456]\n[7:420] -A INPUT -p tcp -j ACCEPT\nCOMMIT\n")
    chain = rules.chain("filter", "INPUT")
    assert (chain.policy, chain.packets, chain.bytes) == ("DROP", 12, 3456)
    assert (chain.rules[0].packets, chain.rules[0].bytes) == (7, 420)


@pytest.mark.parametrize(("line", "match", "target"), [
    pytest.param("-j DROP", "", "DROP", id="target only"),
    pytest.param("-s 10.0.0.1/32", "-s 10.0.0.1/32", "", id="no target"),
    pytest.param("-j DROP -m comment --comment late", "-m comment --comment late", "DROP", id="jump before the match"),
    pytest.param('-m comment --comment "go -j ACCEPT now" -j DROP', '-m comment --comment "go -j ACCEPT now"', "DROP",
                 id="a jump inside a comment"),
    pytest.param('-m comment --comment "ends in -j " -p tcp', '-m comment --comment "ends in -j " -p tcp', "",
                 id="only a jump inside a comment"),
    pytest.param("-m comment --comment -j -j DROP", "-m comment --comment -j", "DROP", id="a comment that is -j"),
    pytest.param('-j LOG --log-prefix "a -m b" --log-level 4', "", 'LOG --log-prefix "a -m b" --log-level 4',
                 id="target with options"),
    pytest.param("-j REJECT --reject-with tcp-reset ! -s 10.0.0.0/8", "! -s 10.0.0.0/8",
                 "REJECT --reject-with tcp-reset", id="negated match behind the target"),
    pytest.param("-m unheard --of 1 --it -j X", "-m unheard --of 1 --it", "X", id="foreign match"),
])
def test_a_rule_is_cut_at_its_jump(line: str, match: str, target: str):
    rule = parse.rule("C", line)
    assert (rule.match, rule.target, rule.goto) == (match, target, False)


def test_goto():
    rule = parse.rule("C", "-p tcp -g OTHER")
    assert (rule.jump, rule.goto, rule.text) == ("OTHER", True, "-A C -p tcp -g OTHER")


def test_restore_text_in_pieces_gives_the_state_that_it_makes():
    rules = parse.parse("*nat\n:A - [0:0]\n-A A -j RETURN\nCOMMIT\n*nat\n:B - [0:0]\n-A B -j A\n-I B 1 -p udp -j A\nCOMMIT\n"
                        "*nat\n:A - [0:0]\n-A A -j ACCEPT\nCOMMIT\n*nat\n:B - [0:0]\n-X B\nCOMMIT\n")
    assert list(rules.table("nat").chains) == ["A"]
    assert [rule.text for rule in rules.chain("nat", "A").rules] == ["-A A -j ACCEPT"]


@pytest.mark.parametrize(("text", "line"), [
    ("-A INPUT -j DROP\n", 1), ("*filter\n:INPUT\n", 2), ("*filter\n:INPUT ACCEPT [0:0]\n-A NOPE -j DROP\n", 3),
    ("*filter\n:INPUT ACCEPT [0:0]\nhello\n", 3),
])
def test_what_is_no_iptables_text_is_refused_by_line(text: str, line: int):
    with pytest.raises(NotIptables, match=f"line {line} ") as caught:
        parse.parse(text)
    assert caught.value.line == line


@pytest.mark.parametrize("word", ["plain", "two words", 'a "quoted" word', "back\\slash", "", "semi;colon", "tab\there"])
def test_a_word_survives_being_written_and_read(word: str):
    assert words.split(f"-m comment --comment {words.quote(word)} -j X")[3:4] == [word]


def test_outline_keeps_chains_and_rules_of_built_in_chains_only():
    rules = parse.outline(recorded("iptables-save.txt"))
    assert len(rules.table("nat").chains) == 36
    assert {rule.chain for table in rules.tables.values() for rule in table.rules()} == {
        "INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"}
