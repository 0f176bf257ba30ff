"""What `netlab rules check` finds, and that it finds nothing where nothing is wrong."""

from __future__ import annotations

import pytest

from netlab.inspect import guess
from netlab.inspect.check import check
from netlab.inspect.world import World
from netlab.netfilter import parse
from netlab.netfilter.model import Ruleset
from netlab.netfilter.render import ruleset
from netlab.proxy import names
from tests.inspect.worlds import changed, objects, world
from tests.proxy.builders import (
    a_service,
    a_slice,
    an_endpoint,
    recorded,
    recorded_objects,
    recorded_with_a_local_one,
    rules_for,
)

TWO = objects("10.244.1.5", "10.244.2.6")
SVC = "KUBE-SVC-" + names.digest("default/web:httptcp")
SEP = names.endpoint_chain("default/web:http", "tcp", "10.244.1.5:8080")
OLD = names.endpoint_chain("default/web:http", "tcp", "10.244.9.9:8080")


def kinds(kernel: Ruleset, listed=TWO, **more) -> list[tuple[str, str, int, str]]:
    return [(each.kind, each.chain, each.number, each.service) for each in check(kernel, world(listed), **more)]


@pytest.mark.parametrize("file", ["iptables-save.txt", "iptables-save.masquerade-all.txt"])
def test_a_real_kube_proxy_s_rules_have_no_fault(file: str):
    kernel = parse.parse(recorded(file))
    listed = recorded_objects()
    node = next(each for each in listed if each["kind"] == "Node" and each["metadata"]["name"] == "node1")
    assert check(kernel, World.of(listed, guess.settings(kernel, "IPv4", name="node1", node=node))) == ()


@pytest.mark.parametrize("fields", [{}, {"sessionAffinity": "ClientIP"}, {"externalTrafficPolicy": "Local"},
                                    {"internalTrafficPolicy": "Local"}, {"externalIPs": ["192.0.2.1"]},
                                    {"type": "LoadBalancer", "ingress": ["192.0.2.9"], "loadBalancerSourceRanges": ["198.51.100.0/24"]}])
def test_what_kube_proxy_writes_has_no_fault(fields):
    listed = objects("10.244.1.5", "10.244.2.6", **fields)
    assert check(rules_for(*listed), world(listed)) == ()


@pytest.mark.parametrize(("table", "commands", "found"), [
    pytest.param("nat", [f"-D {SVC} 2"], [("missing-rule", SVC, 0, "default/web"), ("unreached-chain", SEP, 0, "default/web")],
                 id="missing rule"),
    pytest.param("nat", [f"-I {SVC} 2 -s 10.0.0.9 -j RETURN"], [("extra-rule", SVC, 2, "default/web")], id="extra rule"),
    pytest.param("nat", [f"-D {SVC} 2", f"-I {SVC} 2 -m statistic --mode random --probability 0.9 -j {SEP}"],
                 [("changed-rule", SVC, 2, "default/web")], id="changed rule"),
    pytest.param("nat", [f":{OLD} -", f"-A {OLD} -p tcp -m comment --comment default/web:http -j DNAT --to-destination 10.244.9.9:8080"],
                 [("stale-endpoint", OLD, 0, "default/web")], id="stale endpoint"),
    pytest.param("nat", [f"-D {SEP} 2", f"-A {SEP} -p tcp -j DNAT --to-destination 10.244.7.7:1"],
                 [("changed-rule", SEP, 2, "default/web"), ("stale-endpoint", SEP, 0, "default/web")], id="DNAT to a stranger"),
    pytest.param("nat", [":KUBE-SVC-ABCDEFGHIJKLMNOP -"], [("extra-chain", "KUBE-SVC-ABCDEFGHIJKLMNOP", 0, "")], id="extra chain"),
    pytest.param("nat", ["-X KUBE-PROXY-CANARY"], [("missing-chain", "KUBE-PROXY-CANARY", 0, "")], id="canary"),
    pytest.param("nat", ["-D POSTROUTING 1"], [("missing-rule", "POSTROUTING", 0, ""), ("unreached-chain", "KUBE-POSTROUTING", 0, "")],
                 id="missing jump"),
    pytest.param("nat", ["-I KUBE-POSTROUTING 3 -m mark ! --mark 0x4000/0x4000 -j RETURN", "-D KUBE-POSTROUTING 1"],
                 [("order", "KUBE-POSTROUTING", 0, "")], id="order"),
    pytest.param("filter", [":MINE -", "-A MINE -j ACCEPT"], [("unreached-chain", "MINE", 0, "")], id="unreached"),
    pytest.param("filter", ["-I FORWARD -d 198.51.100.9 -j DROP"], [("foreign-drop", "FORWARD", 1, "")], id="foreign drop"),
    pytest.param("filter", ["-A FORWARD -d 198.51.100.9 -j DROP"], [], id="a drop behind is no fault of theirs"),
    pytest.param("filter", [":MINE -", "-A MINE -p tcp --dport 9 -j REJECT", "-I INPUT -j MINE"], [("foreign-drop", "MINE", 1, "")],
                 id="a drop in a chain"),
    pytest.param("mangle", ["-A PREROUTING -s 192.0.2.0/24 -j DROP"], [("foreign-drop", "PREROUTING", 1, "")], id="in another table"),
    pytest.param("filter", [":FORWARD DROP [0:0]"], None, id="policy"),
    pytest.param("filter", ["-A INPUT -p tcp --dport 22 -j ACCEPT", "-A INPUT -s 10.0.0.0/8 -p tcp --dport 22 -j DROP"],
                 [("unreachable-rule", "INPUT", 6, "")], id="shadowed"),
    pytest.param("filter", ["-A OUTPUT -j ACCEPT", "-A OUTPUT -d 192.0.2.1 -j LOG"], [("unreachable-rule", "OUTPUT", 5, "")],
                 id="after an unconditional one"),
    pytest.param("filter", ["-A INPUT -p tcp --dport 22 -j ACCEPT", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"],
                 [("repeated-rule", "INPUT", 6, "")], id="twice"),
    pytest.param("filter", ["-A INPUT -m statistic --mode random --probability 0.5 -j ACCEPT", ("-A INPUT -m statistic --mode "
                 "random --probability 0.5 -j ACCEPT"), "-A INPUT -m limit --limit 5/min -j ACCEPT", "-A INPUT -j LOG"], [],
                 id="dice hide nothing"),
    pytest.param("filter", [":ALL -", "-A ALL -j ACCEPT", "-A OUTPUT -j ALL", "-A OUTPUT -d 192.0.2.1 -j LOG"],
                 [("unreachable-rule", "OUTPUT", 5, "")], id="a chain that takes all"),
    pytest.param("filter", [":SOME -", "-A SOME -s 192.0.2.1 -j RETURN", "-A SOME -j ACCEPT", "-A OUTPUT -j SOME", "-A OUTPUT -j LOG"],
                 [], id="a chain that some come back from"),
])
def test_faults_are_found(table: str, commands, found):
    seen = kinds(changed(TWO, table, *commands))
    if found is None:
        assert ("policy-drop", "FORWARD", 0, "") in seen
    else:
        assert seen == found


def test_an_older_kube_proxy_s_rules_are_said_to_be_that_and_held_to_what_holds_for_every_version():
    kernel, listed = parse.parse(recorded("iptables-save.v1.20.txt")), recorded_with_a_local_one()
    assert kinds(kernel, listed) == [("other-version", "KUBE-SERVICES", 0, "")]
    sep = names.endpoint_chain("default/stay:http", "tcp", "10.244.1.60:8080")
    broken = parse.parse(ruleset(kernel) + f"*nat\n-F {sep}\n-X {sep}\n:{OLD} -\n-A {OLD} -p tcp -j DNAT --to-destination "
                         "10.244.9.9:8080\n:KUBE-SVC-ABCDEFGHIJKLMNOP -\nCOMMIT\n*filter\n-I FORWARD -d 198.51.100.9 -j DROP\nCOMMIT\n")
    assert set(kinds(broken, listed)) == {("other-version", "KUBE-SERVICES", 0, ""), ("missing-chain", sep, 0, "default/stay"),
                                          ("stale-endpoint", OLD, 0, ""), ("extra-chain", "KUBE-SVC-ABCDEFGHIJKLMNOP", 0, ""),
                                          ("foreign-drop", "FORWARD", 1, "")}
    assert guess.settings(kernel, "IPv4", name="node1").detector.match == "-s 10.244.0.0/16"


@pytest.mark.parametrize("by_hand", [
    "-I KUBE-SERVICES -d 10.96.0.10 -p tcp -m comment --comment \"default/web:http cluster IP\" -j KUBE-MARK-MASQ",
    f"-I KUBE-NODEPORTS -p tcp --dport 30080 -j {SVC}"])
def test_one_rule_by_hand_does_not_make_them_an_older_kube_proxy_s(by_hand: str):
    assert [kind for kind, *_ in kinds(changed(TWO, "nat", by_hand))] == ["extra-rule"]


def test_an_endpoint_that_is_no_longer_ready_is_stale():
    before = [a_service(), a_slice(endpoints=[an_endpoint("10.244.1.5"), an_endpoint("10.244.2.6")])]
    after = [a_service(), a_slice(endpoints=[an_endpoint("10.244.1.5"), an_endpoint("10.244.2.6", ready=False)])]
    (stale,) = [each for each in check(rules_for(*before), world(after)) if each.kind == "stale-endpoint"]
    assert "10.244.2.6:8080, which is no ready endpoint: it is not ready" in stale.words


def test_a_node_without_any_rule_is_one_fault():
    assert kinds(Ruleset()) == [("no-rules", "KUBE-SERVICES", 0, "")]


def test_rules_in_both_backends():
    assert kinds(rules_for(*TWO), other=rules_for(a_service())) == [("mixed-backends", "KUBE-SERVICES", 0, "")]
    assert kinds(rules_for(*TWO), other=parse.parse("*nat\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n")) == []
