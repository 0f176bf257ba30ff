"""A node's rules in one list, their connections, their fairness, and what is wrong beside kube-proxy's own."""

from __future__ import annotations

import random

import pytest

from netlab.errors import NotFound, UsageError
from netlab.inspect import connections, fairness, holding, listing, node_check, opinion, rates, service, since, state
from netlab.inspect.holding import Holding
from netlab.inspect.names import Names
from netlab.kernel.conntrack import ASSURED, DST_NAT, SEEN_REPLY, SRC_NAT, Direction, Flow
from netlab.netfilter import nft, parse
from netlab.netfilter.render import ruleset
from tests.inspect.worlds import changed, objects, world
from tests.proxy.builders import a_node, recorded, rules_for

TWO = objects("10.244.1.5", "10.244.2.6")
HELD = Holding("node1", rules=rules_for(*TWO), native=nft.parse(
    "table inet guard {\n\tchain in {\n\t\ttype filter hook input priority 0; policy accept;\n\t\tip saddr 192.0.2.1 drop\n\t}\n}\n"))
NAMES = Names({"10.244.1.5": "pod/default/web-0"}, {"10.244.1.5": "node1"})


def test_rules_by_table_and_chain():
    found = listing.chosen(HELD, "nat", "KUBE-SERVICES")
    assert [row.number for row in found] == list(range(1, len(found) + 1))
    assert found[0].about == "default/web:http"
    assert [row.text for row in listing.chosen(HELD, "guard", "")] == ["ip saddr 192.0.2.1 drop"]
    with pytest.raises(NotFound, match='no table "natt"') as caught:
        listing.chosen(HELD, "natt", "")
    assert "inet guard" in str(caught.value.hint)
    with pytest.raises(NotFound, match='no chain "NOPE"'):
        listing.chosen(HELD, "nat", "NOPE")


@pytest.mark.parametrize(("ipv6", "tool"), [(False, "iptables"), (True, "ip6tables")])
def test_remedies_name_the_program_of_their_family(ipv6: bool, tool: str):
    rules = parse.parse(
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -p tcp -m tcp --dport 9 -j DROP\n-A FORWARD -j KUBE-FORWARD\n:KUBE-FORWARD - [0:0]\nCOMMIT\n")
    found = node_check.findings(Holding("node1", rules=rules, other=rules, ipv6=ipv6, native=()), world(TWO), None)
    hints = [each.hint.partition(" -")[0] for each in found if each.kind in ("foreign-drop", "policy-drop")]
    assert hints
    assert {hint.partition("-")[0] for hint in hints} == {tool}, hints


@pytest.mark.parametrize(("text", "chains"), [
    ("WEB-0", {row.chain for row in listing.rows(HELD) if "10.244.1.5" in row.text}),
    ("192.0.2.1", {"in"}), ("has no endpoints", {"KUBE-SERVICES"}), ("nothing at all", set())])
def test_search(text: str, chains: set[str]):
    assert {row.chain for row in listing.search(list(listing.rows(HELD)), text, NAMES)} == chains


def test_search_finds_an_address_with_its_port_in_maps():
    held = holding.of_text(recorded("nft-ruleset.txt"))
    assert [row.chain for row in listing.search(list(listing.rows(held)), "10.96.0.10:80", Names())] == ["@service-ips"]


def test_rates():
    before = {("a",): listing.Row("nat", "X", 1, "t", "w", packets=10, bytes=600)}
    after = {("a",): listing.Row("nat", "X", 1, "t", "w", packets=30, bytes=1800),
             ("b",): listing.Row("nat", "Y", 1, "t", "w", packets=4, bytes=40)}
    assert [(each.packets, each.bytes) for each in rates.between(before, after, 2.0)] == [(10.0, 600.0), (2.0, 20.0)]
    anew = {("a",): listing.Row("nat", "X", 1, "t", "w", packets=3, bytes=180)}
    assert rates.between(before, anew, 1.0)[0].packets == 3.0


def test_fairness_of_even_dice_and_of_crooked_ones():
    dice = random.Random(7)
    even = [0, 0, 0]
    for _ in range(900):
        even[dice.randrange(3)] += 1
    found = fairness.judge([(1 / 3, count) for count in even])
    assert found is not None
    assert found.p is not None
    assert found.p > 0.01
    assert found.words.startswith("even: ")
    crooked = fairness.judge([(0.5, 70), (0.5, 30)])
    assert crooked is not None
    assert crooked.words.startswith("not even: chance alone differs at least as much in fewer than 1 of 1000 cases")
    few = fairness.judge([(0.5, 3), (0.5, 1)], remembered=8)
    assert few is not None
    assert few.words == ("too few connections to judge (4, 10 are needed); 8 of clients that were sent back to the "
                         "endpoint they had are left out")
    assert fairness.judge([(1.0, 5)]) is None


@pytest.mark.parametrize(("statistic", "freedom", "p"), [  # tables of the chi-square distribution
    (3.841, 1, 0.05), (5.991, 2, 0.05), (7.815, 3, 0.05), (18.307, 10, 0.05), (10.828, 1, 0.001), (124.342, 100, 0.05)])
def test_chi_square(statistic: float, freedom: int, p: float):
    assert fairness.survival(statistic, freedom) == pytest.approx(p, rel=2e-3)


def test_affinity_is_no_throw_of_the_dice():
    text = ruleset(rules_for(*objects("10.244.1.5", "10.244.2.6", sessionAffinity="ClientIP")), counters=True)
    lines = []
    for line in text.splitlines():
        count = 50 if "--rcheck" in line else 20 if "--probability" in line else 10
        lines.append(line.replace("[0:0] -A KUBE-SVC", f"[{count}:0] -A KUBE-SVC") if "KUBE-SEP" in line else line)
    (port, *_) = service.ports(parse.parse("\n".join(lines)), "default/web")
    assert [(each.packets, each.fresh) for each in port.endpoints] == [(70, 20), (60, 10)]


def test_connections_of_a_service():
    def flow(client: str, to: str, port: int, end: str, status: int, back: str = "") -> Flow:
        return Flow("tcp", Direction(client, to, 4000, port, 3, 180), Direction(end, back or client, 8080, 4000, 2, 120), status, 100, 0,
                    "ESTABLISHED")

    flows = [flow("10.244.1.9", "10.96.0.10", 80, "10.244.1.5", ASSURED | SEEN_REPLY | DST_NAT),
             flow("192.0.2.7", "172.30.0.11", 30080, "10.244.2.6", ASSURED | DST_NAT | SRC_NAT, "172.30.0.11"),
             flow("10.244.1.9", "10.96.0.10", 80, "10.244.9.9", DST_NAT), flow("10.244.1.9", "10.96.0.77", 80, "10.244.1.5", DST_NAT)]
    one, two, three = connections.of_service(flows, state.of_iptables(HELD.rules, "default/web"), NAMES)
    assert (one.port, one.endpoint, one.who, one.packets, one.gone) == ("default/web:http", "10.244.1.5:8080", "pod/default/web-0 on node1", 5, False)
    assert (two.masqueraded, two.reply_to) == (True, "172.30.0.11:4000")
    assert three.gone
    (port, _) = connections.counted(service.ports(HELD.rules, "default/web"), [one, two])
    assert [(each.packets, each.observed) for each in port.endpoints] == [(1, 0.5), (1, 0.5)]


def settings(**values: str) -> dict[str, str]:
    return {"net.ipv4.ip_forward": "1", "net.bridge.bridge-nf-call-iptables": "1",
            **{name.replace("__", "."): value for name, value in values.items()}}


@pytest.mark.parametrize(("held", "kinds"), [
    (Holding(rules=rules_for(*TWO), sysctls=settings(net__ipv4__ip_forward="0")), {"ip-forward-off", "no-masquerade"}),
    (Holding(rules=changed(TWO, "nat", "-A POSTROUTING -s 10.244.0.0/16 -j MASQUERADE"), sysctls=settings()), set()),
    (Holding(rules=rules_for(*TWO), sysctls={"net.bridge.bridge-nf-call-iptables": "0"}), {"bridge-nf-off", "no-masquerade"}),
    (Holding(rules=rules_for(*TWO), sysctls={"net.bridge.bridge-nf-call-iptables": "0"}, bridge=False), {"no-masquerade"}),
    (Holding(rules=changed(TWO, "nat", ":KUBE-KUBELET-CANARY -"), sysctls={}), {"missing-canary", "no-masquerade"}),
    (Holding(rules=rules_for(*TWO), nft=nft.parse(recorded("nft-ruleset.txt"))[0]), {"mixed-modes", "no-masquerade"})])
def test_what_stands_beside(held: Holding, kinds: set[str]):
    assert {each.kind for each in node_check.findings(held, world(TWO), None)} == kinds


def test_nobody_has_to_masquerade_ipv4_where_no_node_has_it():
    six = [each for each in TWO if each["kind"] != "Node"] + [a_node(ip="fd00::11")]
    assert not [each for each in node_check.findings(Holding(rules=rules_for(*TWO)), world(six), None) if each.kind == "no-masquerade"]


def test_rules_of_users_are_read_in_many_spellings():
    found = opinion.written("iptables -t nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:80\n"
                            "-I FORWARD 2 -d 198.51.100.9 -j DROP\n*raw\n-A OUTPUT -j NOTRACK\nCOMMIT\n", "my.rules")
    assert [(each.table, each.line, each.where) for each in found] == [
        ("nat", "-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:80", "my.rules line 1"),
        ("filter", "-I FORWARD 2 -d 198.51.100.9 -j DROP", "my.rules line 2"), ("raw", "-A OUTPUT -j NOTRACK", "my.rules line 4")]
    after = opinion.with_rules(rules_for(*TWO), found)
    assert after.chain("filter", "FORWARD").rules[1].target == "DROP"
    with pytest.raises(UsageError, match="is no rule"):
        opinion.written("drop everything", "--rule")


def test_a_second_opinion_that_differs():
    counts = {"nat": {name: len(chain.rules) for name, chain in HELD.rules.table("nat").chains.items()}}
    assert list(opinion.second(HELD.rules, counts)) == []
    counts["nat"] |= {"KUBE-POSTROUTING": 1, "OTHER": 2}
    assert [(each.kind, each.chain) for each in sorted(opinion.second(HELD.rules, counts), key=lambda each: each.chain)] == [
        ("second-opinion", "KUBE-POSTROUTING"), ("second-opinion", "OTHER")]


def test_since_when():
    managed = [{"manager": "kubectl", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:ports": {".": {}, 'k:{"port":80}': {"f:nodePort": {}}}}}},
               {"manager": "controller", "time": "2026-02-01T00:00:00Z", "fieldsV1": {"f:endpoints": {}}}]
    each = {"metadata": {"creationTimestamp": "2025-01-01T00:00:00Z", "managedFields": managed}}
    assert since.since(each, ["spec.ports[0].nodePort"]) == "2026-01-01T00:00:00Z (kubectl)"
    assert since.since(each, ["endpoints[3].addresses[0]"]) == "2026-02-01T00:00:00Z (controller)"
    assert since.since(each, ["spec.clusterIP"]) == "2025-01-01T00:00:00Z (created)"
    assert since.since({"metadata": {}}, ["spec"]) == ""
