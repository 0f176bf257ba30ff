"""What a change of objects writes: as little as it can, in an order that never breaks a Service."""

from __future__ import annotations

import pytest

from netlab.api import meta
from netlab.netfilter import parse, render
from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.normalise import differences
from netlab.proxy.plan import Wanted, deletions, edit_of, texts, whole
from netlab.proxy.tracker import Tracker, rebuild
from tests.proxy.builders import a_port, a_service, a_settings, a_slice, an_endpoint

FREE = ("KUBE-SERVICES", "KUBE-NODEPORTS")


class Node:
    """A tracker and a plan, with a kernel that is a text parsed."""

    def __init__(self, *objects):
        self.tracker, self.wanted = Tracker("IPv4"), Wanted(a_settings())
        self.kernel = ""
        self.tell(*objects)
        rebuild(self.tracker, self.wanted, self.tracker.take_changed())
        self.apply(self.wanted.take_all(Ruleset()))

    def tell(self, *objects):
        for each in objects:
            (self.tracker.service if each["kind"] == "Service" else self.tracker.slice)(meta.key(each), each)

    def change(self, *objects):
        self.tell(*objects)
        return self.step()

    def step(self):
        rebuild(self.tracker, self.wanted, self.tracker.take_changed())
        change = self.wanted.take_changes()
        self.apply(change)
        return change

    def apply(self, change, size=400):
        for text in texts(change, size=size):
            built_in = "" if self.kernel else "".join(
                f"*{name}\n" + "".join(f":{chain} ACCEPT [0:0]\n" for chain in chains) + "COMMIT\n"
                for name, chains in (("filter", ["INPUT", "FORWARD", "OUTPUT"]), ("mangle", [
                    "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]), (
                        "nat", ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"])))
            self.kernel += built_in + text
            self.check_no_jump_to_nowhere()

    def check_no_jump_to_nowhere(self):
        for table in self.rules().tables.values():
            for rule in table.rules():
                assert not rule.jump.startswith("KUBE-") or rule.jump in table.chains, rule.text

    def rules(self) -> Ruleset:
        return parse.parse(self.kernel)

    def check(self):
        assert differences(whole(self.wanted), self.rules(), unordered=FREE) == []
        assert self.rules().chain("nat", "KUBE-SERVICES").rules[-1].jump == "KUBE-NODEPORTS"


def services(count: int):
    return [each for n in range(count) for each in (
        a_service(f"svc-{n}", ip=f"10.96.{n // 250}.{n % 250 + 1}", ports=[a_port(node_port=30000 + n)]),
        a_slice(f"svc-{n}", [an_endpoint(f"10.244.{n // 250}.{i}") for i in (1, 2, 3)]))]


def test_first_write_makes_everything():
    node = Node(*services(3))
    node.check()


def test_nothing_changed_writes_nothing():
    node = Node(*services(3))
    assert not node.change(*services(3))
    assert list(texts(node.wanted.take_changes())) == []


def test_a_changed_endpoint_writes_its_service_s_chain_and_the_new_endpoint_alone():
    node = Node(*services(5))
    change = node.change(a_slice("svc-2", [an_endpoint("10.244.0.1"), an_endpoint("10.244.0.2"), an_endpoint("10.244.0.9")]))
    assert sorted(name[:9] for name in change.chains) == ["KUBE-SEP-", "KUBE-SVC-"]
    assert not change.shared
    assert len(change.stale) == 1
    assert len(list(texts(change))) == 1
    node.check()


def test_losing_all_endpoints_moves_the_service_to_the_filter_table():
    node = Node(*services(2))
    change = node.change(a_slice("svc-0", []))
    assert not change.chains
    assert len(change.stale) == 5
    assert set(change.shared) == {("nat", "KUBE-SERVICES"), ("nat", "KUBE-NODEPORTS"), ("filter", "KUBE-SERVICES"),
                                  ("filter", "KUBE-EXTERNAL-SERVICES")}
    node.check()


def test_a_new_service_and_a_deleted_one():
    node = Node(*services(2))
    node.change(a_service("new", ip="10.96.9.9"), a_slice("new"))
    node.check()
    node.tracker.service("default/new", None)
    assert len(node.step().stale) == 2
    node.check()


def test_a_slice_before_its_service_and_after():
    node = Node()
    assert not node.change(a_slice("late"))
    node.change(a_service("late"))
    node.check()
    node.tracker.service("default/late", None)
    node.step()
    node.tracker.slice("default/late-1", None)
    node.step()
    node.check()


def test_a_slice_that_changes_hands():
    node = Node(a_service("a", ip="10.96.0.1"), a_service("b", ip="10.96.0.2"), a_slice("a", name="s"))
    node.change(a_slice("b", name="s"))
    node.check()
    assert [rule.target for rule in node.rules().chain("filter", "KUBE-SERVICES").rules] == ["REJECT"]


def test_a_long_shared_chain_is_edited_in_place():
    node = Node(*services(80))
    change = node.change(a_service("new", ip="10.96.9.9", ports=[a_port(node_port=31000)]), a_slice("new"))
    assert not change.shared
    assert {place: (len(edit.removed), len(edit.added)) for place, edit in change.edits.items()} == {
        ("nat", "KUBE-SERVICES"): (0, 1), ("nat", "KUBE-NODEPORTS"): (0, 1)}
    node.check()
    change = node.change(a_service("new", ip="10.96.9.8", ports=[a_port(node_port=31000)]), a_slice("svc-3", []))
    assert {place: (len(edit.removed), len(edit.added)) for place, edit in change.edits.items()} == {
        ("nat", "KUBE-SERVICES"): (2, 1), ("nat", "KUBE-NODEPORTS"): (1, 0)}
    node.check()


def test_many_changes_in_a_shared_chain_write_it_anew():
    node = Node(*services(80))
    change = node.change(*(a_service(f"more-{n}", ip=f"10.97.0.{n}") for n in range(1, 40)),
                         *(a_slice(f"more-{n}") for n in range(1, 40)))
    assert ("nat", "KUBE-SERVICES") in change.shared
    assert not change.edits
    node.check()


def test_edits_are_refused_where_they_would_not_tell_what_is_meant():
    rules = [Rule("C", f"-s 10.0.0.{n}", "X") for n in range(100)]
    assert edit_of(rules, [*rules[1:], rules[-1]]) is None, "a doubled rule"
    assert edit_of(rules, [*rules, Rule("C", "", "Y")]) is None, "another last rule"
    assert edit_of([], rules) is None
    assert edit_of(rules, rules[1:]) is not None


@pytest.mark.parametrize("size", [1, 2, 7, 400])
def test_pieces_of_any_size_come_in_an_order_that_holds(size: int):
    node = Node()
    node.tell(*services(9))
    rebuild(node.tracker, node.wanted, node.tracker.take_changed())
    change = node.wanted.take_all(node.rules())
    node.apply(change, size)
    node.check()
    for key in list(node.tracker.services())[:6]:
        node.tracker.service(key, None)
    rebuild(node.tracker, node.wanted, node.tracker.take_changed())
    node.apply(node.wanted.take_changes(), size)
    node.check()


def test_the_way_in_opens_last_and_old_chains_go_after_it_closed():
    node = Node()
    node.tell(*services(9))
    rebuild(node.tracker, node.wanted, node.tracker.take_changed())
    pieces = list(texts(node.wanted.take_all(node.rules()), size=10))
    assert len(pieces) > 3
    assert [":KUBE-SERVICES " in text and text.startswith("*nat") for text in pieces].index(True) == len(pieces) - 1


def test_a_full_write_repairs_a_kernel_that_somebody_else_changed():
    node = Node(*services(2))
    node.kernel += ("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-LEFTOVERLEFTOVER - [0:0]\n:KUBE-SEP-LEFTOVERLEFTOVER - [0:0]\n"
                    "-A KUBE-SVC-LEFTOVERLEFTOVER -j KUBE-SEP-LEFTOVERLEFTOVER\n-F POSTROUTING\n-A POSTROUTING -j ACCEPT\nCOMMIT\n"
                    "*filter\n-X KUBE-PROXY-CANARY\n-A FORWARD -j DROP\nCOMMIT\n")
    change = node.wanted.take_all(parse.outline(render.ruleset(node.rules())))
    assert set(change.stale) == {"KUBE-SVC-LEFTOVERLEFTOVER", "KUBE-SEP-LEFTOVERLEFTOVER"}
    assert set(change.inserts) == {("nat", "POSTROUTING")}
    assert change.missing == (("filter", "KUBE-PROXY-CANARY"),)
    assert set(deletions(change)) == {f"*nat\n:{name} - [0:0]\n-X {name}\nCOMMIT\n" for name in change.stale}
    node.apply(change)
    foreign = {"nat: too many -A POSTROUTING -j ACCEPT", "filter: too many -A FORWARD -j DROP"}
    assert set(differences(whole(node.wanted), node.rules())) == foreign
    assert node.rules().chain("nat", "POSTROUTING").rules[0].jump == "KUBE-POSTROUTING"


def test_jumps_that_are_there_are_left_alone():
    node = Node(*services(1))
    again = node.wanted.take_all(node.rules())
    assert not again.inserts
    assert not again.missing


def test_a_chain_of_the_kubelet_s_is_made_when_it_is_missing_and_never_emptied():
    wanted = Wanted(a_settings(localhost_node_ports=False))
    assert ("filter", "KUBE-FIREWALL") in wanted.take_all(Ruleset()).missing
    with_it = parse.parse("*filter\n:KUBE-FIREWALL - [0:0]\n-A KUBE-FIREWALL -j DROP\nCOMMIT\n")
    change = wanted.take_all(with_it)
    assert ("filter", "KUBE-FIREWALL") not in change.missing
    assert ("filter", "KUBE-FIREWALL") not in change.shared
