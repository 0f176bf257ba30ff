from __future__ import annotations

import pytest

from netlab.netfilter import parse
from netlab.netfilter.going import Outcome
from netlab.netfilter.matching import Host, Packet, Route
from netlab.netfilter.walk import destinations, receive, send
from tests.proxy.builders import recorded

HOST = Host(frozenset({"172.30.0.11", "10.244.1.1"}),
            {"10.244.1.0/24": Route("cni0", "10.244.1.1"), "0.0.0.0/0": Route("eth0", "172.30.0.11")})
RECORDED = parse.parse(recorded("iptables-save.txt"))


def walk(rules: str, **packet) -> tuple[Outcome, ...]:
    packet = {"src": "192.0.2.1", "dst": "172.30.0.11", "iif": "eth0", "dport": 80, **packet}
    return receive(parse.parse(rules), Packet(**packet), HOST)


def filtered(*lines: str, **packet) -> tuple[Outcome, ...]:
    return walk("\n".join(("*filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]", ":A - [0:0]", ":B - [0:0]", *lines,
                           "COMMIT")), **packet)


def verdicts(outcomes: tuple[Outcome, ...]) -> list[str]:
    return [each.verdict for each in outcomes]


def test_a_cluster_address_spreads_evenly_over_its_endpoints():
    found = destinations(receive(RECORDED, Packet("10.244.1.9", "10.96.0.10", dport=80, iif="cni0"), HOST))
    assert found == pytest.approx({"10.244.1.5:8080": 1 / 3, "10.244.2.5:8080": 1 / 3, "10.244.2.6:8080": 1 / 3}, abs=1e-9)


def test_a_pod_that_reaches_itself_is_masqueraded_and_others_are_not():
    outcomes = receive(RECORDED, Packet("10.244.1.5", "10.96.0.10", dport=80, iif="cni0"), HOST)
    assert {each.packet.dst: each.packet.src for each in outcomes} == {
        "10.244.1.5": "10.244.1.1", "10.244.2.5": "10.244.1.5", "10.244.2.6": "10.244.1.5"}


def test_a_node_port_is_masqueraded_for_a_client_from_outside():
    outcomes = receive(RECORDED, Packet("192.0.2.77", "172.30.0.11", dport=30080, iif="eth0"), HOST)
    assert {(each.packet.src, each.packet.dst, each.packet.dport) for each in outcomes} == {
        ("10.244.1.1", "10.244.1.5", 8080), ("172.30.0.11", "10.244.2.5", 8080)}


@pytest.mark.parametrize(("flag", "rewritten"), [("", False), (" --random", True), (" --random-fully", True)])
def test_masquerade_by_the_address_that_it_has_rewrites_a_connection_where_its_port_is_thrown_for(flag: str, rewritten: bool):
    """nf_nat_core.c: a connection whose tuple stays as it was is none with source NAT."""
    rules = f"*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE{flag}\nCOMMIT"
    (only,) = send(parse.parse(rules), Packet("", "192.0.2.9", dport=80), HOST)
    assert (only.packet.src, only.packet.snat) == ("172.30.0.11", rewritten)


def test_no_endpoint_is_rejected_in_the_filter_table():
    (only,) = receive(RECORDED, Packet("10.244.1.9", "10.96.0.12", dport=80, iif="cni0"), HOST)
    assert (only.verdict, only.where) == ("REJECT", "filter KUBE-SERVICES")


def test_what_the_host_sends_passes_output():
    assert set(destinations(send(RECORDED, Packet("", "10.96.0.11", dport=80), HOST))) == {"10.244.2.5:8080"}
    (refused,) = send(RECORDED, Packet("", "10.96.0.12", dport=80), HOST)
    assert refused.verdict == "REJECT"


def test_a_known_client_goes_back_to_its_endpoint():
    known = Host(HOST.addresses, HOST.routes, frozenset({("KUBE-SEP-NTJZVG3L5EYK3C4I", "10.244.1.9")}))
    packet = Packet("10.244.1.9", "10.96.0.16", dport=80, iif="cni0")
    assert set(destinations(receive(RECORDED, packet, known))) == {"10.244.2.5:8080"}
    assert len(destinations(receive(RECORDED, packet, HOST))) == 2


def test_nat_is_not_asked_about_a_connection_that_is_known():
    (only,) = receive(RECORDED, Packet("10.244.1.9", "10.96.0.10", dport=80, iif="cni0", state="ESTABLISHED"), HOST)
    assert only.packet.dst == "10.96.0.10"


@pytest.mark.parametrize(("lines", "verdict"), [
    pytest.param(["-A INPUT -j A", "-A A -p udp -j DROP", "-A INPUT -j REJECT"], "REJECT", id="falls out of a chain"),
    pytest.param(["-A INPUT -j A", "-A A -j RETURN", "-A A -j DROP"], "DELIVER", id="return"),
    pytest.param(["-A INPUT -j RETURN", "-A INPUT -j DROP"], "DELIVER", id="return from a built-in chain is its policy"),
    pytest.param(["-A INPUT -j A", "-A INPUT -j DROP", "-A A -g B", "-A A -j ACCEPT"], "DROP", id="goto does not come back"),
    pytest.param(["-A INPUT -j LOG --log-prefix x", "-A INPUT -j DROP"], "DROP", id="log goes on"),
    pytest.param(["-A INPUT -m comment --comment x", "-A INPUT -j DROP"], "DROP", id="no target goes on"),
    pytest.param(["-A INPUT ! -i eth0 -j DROP"], "DELIVER", id="negated interface"),
    pytest.param(["-A INPUT -i eth+ -j DROP"], "DROP", id="interface prefix"),
    pytest.param(["-A INPUT -p tcp -m multiport --dports 22,80:90 -j DROP"], "DROP", id="multiport"),
    pytest.param(["-A INPUT -p udp -m udp --dport 80 -j DROP"], "DELIVER", id="other protocol"),
    pytest.param(["-A INPUT -m addrtype --src-type LOCAL -j DROP"], "DELIVER", id="not from here"),
    pytest.param(["-A INPUT -m addrtype --dst-type LOCAL -j DROP"], "DROP", id="to here"),
    pytest.param(["-A INPUT -m mark --mark 0x1 -j DROP"], "DELIVER", id="not marked"),
    pytest.param(["-A INPUT -j MARK --set-mark 3", "-A INPUT -m mark --mark 0x1/0x1 -j DROP"], "DROP", id="marked on the way"),
    pytest.param(["-A INPUT -m conntrack ! --ctstate NEW -j DROP"], "DELIVER", id="negated state"),
])
def test_how_a_chain_is_walked(lines: list[str], verdict: str):
    (only,) = filtered(*lines)
    assert (only.verdict, only.certain) == (verdict, True)


def test_policy_decides_at_the_end():
    (only,) = walk("*filter\n:INPUT DROP [0:0]\nCOMMIT\n")
    assert (only.verdict, only.where) == ("DROP", "filter INPUT")


def test_dice_give_both_ways_with_their_chance():
    outcomes = filtered("-A INPUT -m statistic --mode random --probability 0.25 -j DROP")
    assert [(each.verdict, round(each.probability, 6)) for each in outcomes] == [("DROP", 0.25), ("DELIVER", 0.75)]


def test_an_unknown_match_gives_both_ways_and_no_certainty():
    outcomes = filtered("-A INPUT -m tc-magic --wand elder -j DROP")
    assert sorted(verdicts(outcomes)) == ["DELIVER", "DROP"]
    assert not any(each.certain for each in outcomes)


def test_an_unknown_match_beside_one_that_fails_is_certain():
    (only,) = filtered("-A INPUT -p udp -m tc-magic --wand elder -j DROP")
    assert (only.verdict, only.certain) == ("DELIVER", True)


@pytest.mark.parametrize("rule", [
    "-m limit --limit 3/min -j LOG --log-prefix \"[UFW BLOCK] \"", "-m hashlimit --hashlimit-upto 1/sec --hashlimit-name x",
    "-m set --match-set banned src -j SET --add-set seen src", "-m string --string x --algo bm -j NFLOG --nflog-group 5"])
def test_what_changes_nothing_leaves_no_doubt_and_shows_that_it_may_have_matched(rule: str) -> None:
    outcome, = filtered(f"-A INPUT {rule}", "-A INPUT -p tcp -j DROP")
    assert (outcome.verdict, outcome.certain, outcome.doubts) == ("DROP", True, ())
    assert [hit.sure for hit in outcome.hits] == [False, True]


@pytest.mark.parametrize(("table", "chain", "rule"), [
    ("nat", "PREROUTING", "-p tcp -j REDIRECT --to-ports 3128-3130"),
    ("nat", "PREROUTING", "-p tcp -j DNAT --to-destination 10.244.1.5:80-90"),
    ("filter", "INPUT", "-m policy --dir in --pol ipsec --proto esp -j DROP")])
def test_what_cannot_be_told_is_named(table: str, chain: str, rule: str) -> None:
    outcomes = walk(f"*{table}\n:{chain} ACCEPT [0:0]\n-A {chain} {rule}\nCOMMIT")
    assert not any(each.certain for each in outcomes)
    word = rule.split("-j ")[1].split()[0] if table != "filter" else "policy"
    assert all(any(word in doubt for doubt in each.doubts) for each in outcomes)


def test_a_queue_asks_a_program_which_passes_over_the_rest_or_drops() -> None:
    outcomes = filtered("-A INPUT -p tcp -j NFQUEUE --queue-num 3", "-A INPUT -j REJECT")
    assert {each.verdict for each in outcomes} == {"DELIVER", "DROP"}
    assert not any(each.certain for each in outcomes)
    assert all("NFQUEUE" in doubt for each in outcomes for doubt in each.doubts)


def test_tproxy_marks_for_a_program_that_listens_or_drops() -> None:
    outcomes = walk("*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j TPROXY --on-port 15001 --on-ip 0.0.0.0 "
                    "--tproxy-mark 0x1/0x1\nCOMMIT")
    assert {(each.verdict, each.packet.mark) for each in outcomes if each.verdict != "DROP"} == {("DELIVER", 1)}
    assert {each.verdict for each in outcomes} == {"DELIVER", "DROP"}
    assert not any(each.certain for each in outcomes)
    assert all("TPROXY" in doubt for each in outcomes for doubt in each.doubts)


def test_hits_are_numbered_as_iptables_lists_them():
    (only,) = filtered("-A INPUT -p udp -j DROP", "-A INPUT -p tcp -j A", "-A A -s 192.0.2.0/24 -j DROP")
    assert [(hit.table, hit.chain, hit.number) for hit in only.hits] == [("filter", "INPUT", 2), ("filter", "A", 1)]


def test_no_route():
    rules = parse.parse("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n")
    (only,) = receive(rules, Packet("10.244.1.9", "198.51.100.1", iif="cni0"), Host(HOST.addresses, {}))
    assert only.verdict == "NO ROUTE"


@pytest.mark.parametrize(("target", "dst", "dport"), [
    ("DNAT --to-destination 10.244.1.5:8080", "10.244.1.5", 8080), ("DNAT --to-destination 10.244.1.5", "10.244.1.5", 80),
    ("REDIRECT --to-ports 8081", "172.30.0.11", 8081),
])
def test_rewriting_targets(target: str, dst: str, dport: int):
    (only,) = walk(f"*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j {target}\nCOMMIT\n")
    assert (only.packet.dst, only.packet.dport) == (dst, dport)


def test_ipv6_endpoint():
    host = Host(frozenset({"2001:db8::11"}), {"::/0": Route("eth0", "2001:db8::11")})
    rules = parse.parse("*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j DNAT --to-destination [fd00::5]:8080\nCOMMIT\n")
    assert destinations(receive(rules, Packet("2001:db8::99", "2001:db8::11", iif="eth0"), host)) == {"[fd00::5]:8080": 1.0}
