"""Predictions through nftables without a kernel: saved text and JSON, the order of base chains, what is not followed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from netlab.errors import UsageError
from netlab.inspect import offline, whatif
from netlab.lab import predicting
from netlab.lab.history import Held
from netlab.netfilter import history, nft, nft_json
from netlab.netfilter.nft_eval import Book
from netlab.netfilter.parse import parse
from netlab.netfilter.stations import Beside, Order
from netlab.trace import assume, foretell, machine, refusals
from netlab.trace.branch import Prediction, Question
from netlab.trace.predict import predict
from netlab.trace.routing import Rule
from netlab.trace.world import Space, World
from tests.proxy.builders import recorded
from tests.trace.test_predict import OBJECTS, ROUTES


def through(rules: str, address: str = "10.244.2.3", port: int = 80, **more: Any) -> Prediction:
    made = machine.world(rules, routes=ROUTES)
    return predict(made, Question(machine.PLACE, address, port, **{
        "source_address": "10.244.1.9", "interface": "cni0", **more}))


def table(*chains: str, family: str = "inet", name: str = "guard") -> str:
    return f"table {family} {name} {{\n" + "\n".join(chains) + "\n}\n"


def base(name: str, *rules: str, hook: str = "forward", priority: str = "filter", kind: str = "filter",
         policy: str = "accept") -> str:
    lines = "\n".join(rules)
    return f"chain {name} {{\ntype {kind} hook {hook} priority {priority}; policy {policy};\n{lines}\n}}"


def crossed(found: Prediction) -> list[str]:
    return [hop.chain for hop in found.branches[0].request if hop.kind in ("rule", "policy")]


def test_the_recorded_table_of_kube_proxy_leads_to_endpoints() -> None:
    found = through(recorded("nft-ruleset.txt"), "10.96.0.10")
    assert [(each.outcome.endpoint, round(each.probability, 3), each.certain) for each in found.branches] == [
        (f"10.244.{net}:8080", 0.333, True) for net in ("1.5", "2.5", "2.6")]
    (refused,) = through(recorded("nft-ruleset.txt"), "10.96.0.12").branches
    assert refused.outcome.why == "rejected by kube-proxy reject-chain: default/none:http has no endpoints"
    (wrong,) = through(recorded("nft-ruleset.txt"), "10.96.0.10", 81).branches
    assert "Reject traffic to invalid ports of ClusterIPs" in wrong.outcome.why


SAVED = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD {policy} [0:0]\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n"


@pytest.mark.parametrize(("mine", "legacy", "hooks"), [
    pytest.param("-A FORWARD -j ACCEPT\n", "-A FORWARD -j DROP\n", ["FORWARD"], id="both have rules there"),
    pytest.param("-A INPUT -j ACCEPT\n", "-A FORWARD -j DROP\n", [], id="at different hooks"),
    pytest.param("-A FORWARD -j ACCEPT\n", "", [], id="one has none")])
def test_which_backend_comes_first_is_not_known_of_two_with_one_priority(mine: str, legacy: str, hooks: list[str]) -> None:
    one, other = (parse(SAVED.format(policy="ACCEPT", rules=rules)) for rules in (mine, legacy))
    ties = Order(one, 4, Beside((other,), created=("ip filter",))).ties()
    assert [each.partition(" ")[0] for each in ties] == hooks
    guard = nft.parse(table(base("late", "counter drop", priority="filter + 5"), family="ip"))
    assert Order(other, 4, Beside(books=tuple(map(Book, guard)), created=("ip guard",))).ties() == (), "5 comes behind 0"


def recording(legacy: str, order: list[str]) -> Held:
    parts = {history.TABLES: json.dumps(order)}
    for backend, rules in (("nft", "-A FORWARD -j ACCEPT\n"), ("legacy", legacy)):
        parts |= history.parts(SAVED.format(policy="ACCEPT", rules=rules), f"IPv4 {backend}")
    return Held(history.Moment(1.0, 7, parts), None)


def test_a_prediction_of_the_past_doubts_what_was_held_then_and_not_what_is_held_now() -> None:
    space = Space("node/node1", doubts=("node/node1: FORWARD of iptables-legacy's filter ...",), edge=True,
                  policies={4: (Rule(10, strange=("uidrange",)),)})

    def doubts(legacy: str, *order: str) -> list[str]:
        held = {"node1": recording(legacy, ["ip filter", *order])}
        made = predicting._as_of(World({space.place: space}), [], [], 4, "7", held)
        assert all(each.startswith("node/node1: ") for each in made.spaces[space.place].doubts)
        return [each.removeprefix("node/node1: ") for each in made.spaces[space.place].doubts]

    policy = "uidrange of ip rule 10 is not followed here"
    assert doubts("") == [policy]
    assert doubts("", "bridge x") == ["the nftables table bridge x is not followed here", policy]
    (tie, *left) = doubts("-A FORWARD -j DROP\n")
    assert (tie.partition(" and ")[0], left) == ("FORWARD of iptables-legacy's filter", [policy])


@pytest.mark.parametrize(("rules", "chains", "status"), [
    pytest.param(table(base("late", "counter drop", priority="filter + 5"), base("early", "counter accept")),
                 ["early", "late"], "timeout", id="accept ends its own chain only"),
    pytest.param(table(base("one", "counter"), base("two", "counter")), ["two", "one"], "sent", id="the newer runs first"),
    pytest.param(table(base("only", "tcp dport 81 accept", policy="drop")), ["only"], "timeout", id="policy"),
    pytest.param(table(base("first", "jump more", "drop"), "chain more {\ntcp dport 80 return\ndrop\n}"),
                 ["first", "more", "first"], "timeout", id="return goes on behind the jump"),
    pytest.param(table(base("first", "goto more", "drop"), "chain more {\ntcp dport 80 return\ndrop\n}"),
                 ["first", "more"], "sent", id="behind a goto is the policy"),
    pytest.param(table(base("n2", "tcp dport 80 dnat ip to 10.244.1.5", kind="nat", hook="prerouting", priority="-90"),
                       base("n1", "counter accept", kind="nat", hook="prerouting", priority="-120"),
                       base("f", "counter", hook="prerouting", priority="-110")),
                 ["f", "n1", "n2"], "sent", id="nat chains run where nat is, until one has decided"),
])
def test_base_chains_run_in_the_kernels_order(rules: str, chains: list[str], status: str) -> None:
    found = through(rules)
    assert crossed(found) == chains
    assert found.branches[0].outcome.status == status


@pytest.mark.parametrize(("rule", "words", "statuses"), [
    ("limit rate over 5/second drop", "limit rate over 5/second (inet guard f)", {"sent", "timeout"}),
    ("tcp option maxseg size 1-500 drop", "tcp option maxseg size 1-500 (inet guard f)", {"sent", "timeout"}),
    ("ct count over 3 reject with tcp reset", "ct count over 3 (inet guard f)", {"sent", "refused", "unreachable"}),
    ("queue to 1", "queue to 1 (inet guard f)", {"sent", "timeout"}),
    ("ip daddr set 10.244.1.5", "ip daddr set 10.244.1.5 (inet guard f)", {"sent"}),
    ("meta cpu 1 drop", "meta cpu 1 (inet guard f)", {"sent", "timeout"}),
    ("tcp sport != 5 tcp dport != 80 drop", "tcp sport != 5 tcp dport != 80 (inet guard f)", {"sent", "timeout"}),
])
def test_what_is_not_followed_is_named_by_its_words(rule: str, words: str, statuses: set[str]) -> None:
    found = through(table(base("f", rule)))
    assert not any(each.certain for each in found.branches)
    assert {each.doubts for each in found.branches} == {(f"{machine.PLACE}: {words}",)}
    assert {each.outcome.status for each in found.branches} <= statuses
    assert words in foretell.as_text(found, ways=2)


@pytest.mark.parametrize(("kind", "family", "answer"), [
    ("", 4, (3, 3)), ("", 6, (1, 4)), ("icmp host-prohibited", 4, (3, 10)), ("icmp-proto-unreachable", 4, (3, 2)),
    ("icmpx no-route", 4, (3, 0)), ("icmpx admin-prohibited", 6, (1, 1)), ("icmpv6 policy-fail", 6, (1, 5)),
    ("icmp6-addr-unreachable", 6, (1, 3)), ("icmp 9", 4, (3, 9)), ("icmpx host-unreachable", 4, (3, 1)),
])
def test_reject_answers_in_kind(kind: str, family: int, answer: tuple[int, int]) -> None:
    assert refusals.error(kind, family) == answer


def test_ranges_and_maps_of_nat_are_branches() -> None:
    found = through(table(base("n", "ip daddr 10.244.2.3 dnat ip to 10.244.1.2-10.244.1.5", kind="nat", hook="prerouting",
                               priority="dstnat")))
    assert [(each.outcome.endpoint, each.probability) for each in found.branches] == [
        (f"10.244.1.{n}:80", 0.25) for n in (2, 3, 4, 5)]
    (one,) = through(table(base("n", "dnat ip to ip daddr . tcp dport map { 10.244.2.3 . 80 : 10.244.1.5 . 8080 }", kind="nat",
                                hook="prerouting", priority="dstnat"))).branches
    assert (one.outcome.endpoint, one.certain) == ("10.244.1.5:8080", True)


def as_json() -> str:
    match = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": [80, {"range": [90, 95]}]}}}
    return json.dumps({"nftables": [
        {"metainfo": {"version": "1.0.6", "json_schema_version": 1}}, {"table": {"family": "inet", "name": "guard", "handle": 1}},
        {"chain": {"family": "inet", "table": "guard", "name": "f", "handle": 1, "type": "filter", "hook": "forward", "prio": 0,
                   "policy": "accept"}},
        {"rule": {"family": "inet", "table": "guard", "chain": "f", "handle": 2, "comment": "shut", "expr": [match, {"drop": None}]}}]})


def test_json_says_the_same_as_text() -> None:
    found = through(as_json())
    assert [each.outcome.why for each in found.branches] == ["dropped by guard f: shut"]
    assert nft_json.parse(as_json())[0].chain("f").rules[0].text == "tcp dport { 80, 90-95 } drop"


@pytest.mark.parametrize("text", ['{"nftables": 1}', '{"nftables": [{"rule": {}}]}', '{"nftables": [{"chain": []}]}',
                                  '{"nftables": [3]} ', '{"nftables": ['])
def test_json_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="nft -j list ruleset"):
        machine.world(text)


def test_iptables_and_nft_in_one_file_are_both_followed() -> None:
    both = ("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -j ACCEPT\nCOMMIT\n"
            + table(base("f", "tcp dport 80 drop", priority="filter + 1")) + "table ip filter {\nchain FORWARD {\n"
            "type filter hook forward priority filter; policy accept;\nmeta l4proto tcp counter accept\n}\n}\n")
    found = through(both)
    assert crossed(found) == ["FORWARD", "f"]


def from_objects(objects: list[dict[str, Any]], address: str = "10.96.0.10") -> Prediction:
    cidr = assume.cluster_cidr(objects)

    def rules(node: str) -> nft.NftTable:
        return nft.parse(offline.render_nft(objects, [f"--hostname-override={node}", f"--cluster-cidr={cidr}"]).text)[0]

    return predict(assume.world(objects, rules), Question("pod/default/client", address, 80))


def test_objects_alone_lead_through_nftables_mode_and_a_change_is_seen() -> None:
    now = from_objects(OBJECTS)
    assert {(each.outcome.status, each.outcome.endpoint_place, each.probability, each.certain) for each in now.branches} == {
        ("connected", f"pod/default/web-{n}", 0.5, True) for n in (1, 2)}
    then = from_objects([each for each in OBJECTS if each["kind"] != "EndpointSlice"])
    assert {each.outcome.status for each in then.branches} == {"refused"}
    parted = foretell.parting(now, then)
    assert parted is not None
    assert "@service-ips" in parted[1]


def test_a_change_keeps_what_affinity_has_remembered() -> None:
    live, _ = nft.parse(recorded("nft-ruleset.txt"))
    name = next(each for each in live.sets if each.startswith("affinity-"))
    held = replace(live, sets={**live.sets, name: replace(live.sets[name], elements={"10.0.0.1": nft.NftElement("10.0.0.1")})})
    assert set(whatif.with_table(held, live).elements(name)) == {"10.0.0.1"}


def test_a_change_in_a_lab_of_nftables_mode_is_worked_out_for_its_nodes() -> None:
    def rules(node: str) -> nft.NftTable:
        return nft.parse(offline.render_nft(OBJECTS, [f"--hostname-override={node}", "--cluster-cidr=10.244.0.0/16"]).text)[0]

    def ask(made: World) -> Prediction:
        return predict(made, Question("pod/default/client", "10.96.0.10", 80))

    guard = Book(nft.parse(table(base("f", "tcp dport 8080 drop")))[0])
    live = assume.world(OBJECTS, rules)
    spaces = {place: replace(space, beside={4: Beside(books=(*space.beside[4].books, guard))}) if place.startswith("node/")
              else space for place, space in live.spaces.items()}
    now = replace(live, spaces=spaces)
    assert {each.outcome.why for each in ask(now).branches} == {"dropped by guard f: tcp dport 8080 drop"}
    service = next(each for each in OBJECTS if each["kind"] == "Service")
    moved = {**service, "spec": {**service["spec"], "ports": [{**service["spec"]["ports"][0], "targetPort": 9090}]}}
    slices = [{**each, "ports": [{**each["ports"][0], "port": 9090}]} for each in OBJECTS if each["kind"] == "EndpointSlice"]
    others = [each for each in OBJECTS if each["kind"] not in ("Service", "EndpointSlice")]
    then = ask(predicting._changed(now, [*others, moved, *slices], OBJECTS, 4))
    assert {each.outcome.endpoint for each in then.branches} == {"10.244.1.5:9090", "10.244.2.5:9090"}
    assert {each.outcome.status for each in then.branches} == {"connected"}
