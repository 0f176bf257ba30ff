"""Predictions without a kernel: from saved text, from API objects, and what a change makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.errors import NotFound, UsageError
from netlab.inspect import offline, whatif
from netlab.netfilter.parse import parse
from netlab.trace import assume, foretell, machine
from netlab.trace.branch import Prediction, Question
from netlab.trace.predict import predict
from netlab.trace.world import Link, Route, Space, World
from tests.proxy.builders import a_node, a_port, a_service, a_slice, an_endpoint
from tests.trace import topology

SERVICE = topology.SERVICE.replace("*filter\n", "*filter\n:FORWARD ACCEPT [0:0]\n").replace(
    "*nat\n", "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n")
ROUTES = """default via 172.18.0.1 dev eth0
10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1
10.244.2.0/24 via 172.18.0.3 dev eth0 proto 112
172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.2
blackhole 10.9.0.0/16
"""


def ask(world: World, source: str, address: str, port: int = 80, **more: Any) -> Prediction:
    return predict(world, Question(source, address, port, **more))


def from_saved(address: str, port: int = 80, routes: str | None = ROUTES, rules: str = SERVICE, **more: Any) -> Prediction:
    world = machine.world(rules, routes=routes)
    interface = machine.interface_of(world, "10.244.1.9")
    return ask(world, machine.PLACE, address, port, source_address="10.244.1.9", interface=interface, **more)


def test_saved_rules_lead_a_packet_through_one_machine() -> None:
    found = from_saved("10.96.0.10")
    (branch,) = found.branches
    assert branch.certain
    assert [hop.chain for hop in branch.request if hop.kind == "rule"] == [
        "PREROUTING", "KUBE-SERVICES", "KUBE-SVC-WEB", "KUBE-SEP-TWO", "FORWARD", "POSTROUTING", "KUBE-POSTROUTING"]
    assert branch.request[-1].text == "leaves the node by eth0 for 10.244.2.3:8080"
    assert all(hop["predicted"] for each in foretell.as_json(found)["branches"] for hop in each["hops"])
    assert "predicted  => DNAT 10.96.0.10:80 → 10.244.2.3:8080" in foretell.as_text(found)


def test_saved_rules_reject_and_blackholes_swallow() -> None:
    (rejected,) = from_saved("10.96.0.99").branches
    assert rejected.outcome.why == "rejected by filter KUBE-SERVICES: default/none has no endpoints"
    assert (rejected.outcome.place, rejected.outcome.status) == (machine.PLACE, "refused")
    (lost,) = from_saved("10.9.1.1").branches
    assert (lost.outcome.status, "`blackhole` route" in lost.outcome.why) == ("timeout", True)


DICE = """*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d 10.96.0.10/32 -m statistic --mode random --probability 0.25 -j DNAT --to-destination 10.244.1.5:8080
-A PREROUTING -d 10.96.0.10/32 -j DNAT --to-destination 10.244.2.5:8080
COMMIT
"""


def test_dice_are_branches_with_their_odds() -> None:
    found = from_saved("10.96.0.10", rules=DICE)
    assert [(each.outcome.endpoint, round(each.probability, 3)) for each in found.branches] == [
        ("10.244.2.5:8080", 0.75), ("10.244.1.5:8080", 0.25)]
    assert "25.0%" in foretell.as_text(found)


@pytest.mark.parametrize("match", ["-m set --match-set x dst", "-o eth0", "-m addrtype --dst-type LOCAL"])
def test_what_cannot_be_judged_is_followed_both_ways_and_said(match: str) -> None:
    rules = f"*filter\n:FORWARD ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n-A FORWARD {match} -j DROP\nCOMMIT\n"
    found = from_saved("10.244.1.5", routes=None, rules=rules)
    assert {each.outcome.status for each in found.branches} == {"sent", "timeout"}
    assert not any(each.certain for each in found.branches)
    assert found.notes


@pytest.mark.parametrize("text", ["nonsense here", "10.244.1.0/33 dev x", "[1, 2]", "[{]"])
def test_routes_that_are_none_are_refused_with_the_line(text: str) -> None:
    with pytest.raises(UsageError, match="the routes"):
        machine.parse_routes(text)


def test_both_spellings_of_routes_say_the_same() -> None:
    as_json = """[{"dst":"default","gateway":"172.18.0.1","dev":"eth0","flags":[]},
      {"dst":"10.244.1.0/24","dev":"cni0","protocol":"kernel","scope":"link","prefsrc":"10.244.1.1","flags":[]},
      {"dst":"10.244.2.0/24","gateway":"172.18.0.3","dev":"eth0","protocol":"112","flags":[]},
      {"dst":"172.18.0.0/16","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"172.18.0.2","flags":[]},
      {"type":"blackhole","dst":"10.9.0.0/16","flags":[]}]"""
    assert machine.parse_routes(ROUTES) == machine.parse_routes(as_json)


def a_pod(name: str, ip: str, node: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                       "conditions": [{"type": "Ready", "status": "True"}]}}


OBJECTS = [
    a_node("node1", "172.18.0.2", podCIDRs=["10.244.1.0/24"]), a_node("node2", "172.18.0.3", podCIDRs=["10.244.2.0/24"]),
    a_pod("client", "10.244.1.9", "node1"), a_pod("web-1", "10.244.1.5", "node1", app="web"),
    a_pod("web-2", "10.244.2.5", "node2", app="web"),
    a_service(type="NodePort", ports=[a_port(node_port=30080) | {"targetPort": 8080}], selector={"app": "web"}),
    a_slice(endpoints=[an_endpoint("10.244.1.5", "node1"), an_endpoint("10.244.2.5", "node2")])]


def from_objects(objects: list[dict[str, Any]], source: str, address: str, port: int = 80, **more: Any) -> Prediction:
    cidr = assume.cluster_cidr(objects)
    world = assume.world(objects, lambda node: offline.render(
        objects, [f"--hostname-override={node}", f"--cluster-cidr={cidr}"]).rules)
    return ask(world, source, address, port, **more)


def test_objects_alone_tell_a_packets_way_between_nodes() -> None:
    found = from_objects(OBJECTS, "pod/default/client", "10.96.0.10")
    assert {(each.outcome.status, each.outcome.endpoint_place, round(each.probability, 3)) for each in found.branches} == {
        ("connected", "pod/default/web-1", 0.5), ("connected", "pod/default/web-2", 0.5)}
    far = next(each for each in found.branches if each.outcome.endpoint_place.endswith("web-2"))
    assert list(dict.fromkeys(hop.place for hop in far.request)) == [
        "pod/default/client", "node/node1", "network", "node/node2", "pod/default/web-2"]
    outside = from_objects(OBJECTS, "outside", "172.18.0.3", 30080)
    assert any("SNAT 192.0.2.10" in hop.text for hop in outside.branches[0].request)
    assert {each.outcome.status for each in outside.branches} == {"connected"}


@pytest.mark.parametrize(("change", "ends", "differs"), [
    ({"spec": {"selector": {"app": "none"}}}, {"refused"}, "KUBE-SVC-"),
    ({"$patch": "delete"}, {"unreachable"}, "KUBE-SVC-"),
    ({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9090}]}}, {"connected"}, "9090"),
    ({"metadata": {"name": "web", "labels": {"new": "yes"}}}, {"connected"}, ""),
])
def test_a_change_is_followed_to_the_rule_that_it_changes(change: dict[str, Any], ends: set[str], differs: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, **change}
    owned = [each | {"metadata": each["metadata"] | {"labels": each["metadata"]["labels"] | {
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}}
        if each["kind"] == "EndpointSlice" else each for each in OBJECTS]
    after = whatif.applied(owned, [manifest])
    now = from_objects(owned, "pod/default/client", "10.96.0.10")
    then = from_objects([*after.objects, a_service("other", "10.96.0.77")], "pod/default/client", "10.96.0.10")
    assert {each.outcome.status for each in then.branches} == ends
    parted = foretell.parting(now, then)
    assert (parted is None) == (not differs)
    assert parted is None or any(differs in words for words in parted)


def test_a_change_keeps_what_the_api_server_would_keep_and_refuses_what_is_not_there() -> None:
    new = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "new"},
           "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    after = whatif.applied(OBJECTS, [new, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}])
    made = next(each for each in after.objects if each["metadata"]["name"] == "new")
    assert made["spec"]["clusterIP"] == "10.96.0.11"
    assert made["spec"]["ports"][0]["nodePort"] not in (0, 30080)
    assert any("Deployment" in note for note in after.notes)
    with pytest.raises(NotFound, match="Service default/gone"):
        whatif.applied(OBJECTS, [], [{"kind": "Service", "metadata": {"name": "gone", "namespace": "default"}}])


def test_live_rules_take_over_computed_chains_and_keep_foreign_ones() -> None:
    live = parse("*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-OLD - [0:0]\n:MINE - [0:0]\n"
                 "-A PREROUTING -j MINE\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -j KUBE-SVC-OLD\nCOMMIT\n")
    wanted = offline.render(OBJECTS, ["--hostname-override=node1"]).rules
    made = whatif.with_rules(live, wanted)
    assert [rule.jump for rule in made.chain("nat", "PREROUTING").rules] == ["MINE", "KUBE-SERVICES"]
    assert "KUBE-SVC-OLD" not in made.table("nat").chains
    assert made.chain("nat", "KUBE-SERVICES") .rules == wanted.chain("nat", "KUBE-SERVICES").rules


def one(**more: Any) -> World:
    links = {"eth0": Link("eth0", "veth", cidrs=("172.18.0.2/16",), mtu=1500, **more), "cni0": Link("cni0", cidrs=("10.244.1.1/24",))}
    return World({"n": Space("n", links, (Route("10.244.1.0/24", "cni0"), Route("172.18.0.0/16", "eth0")))})


@pytest.mark.parametrize(("more", "question", "why"), [
    ({}, {"address": "8.8.8.8"}, "no route"), ({"forwards": frozenset()}, {"address": "10.244.1.5"}, "does not forward what comes in by eth0"),
    ({"rp_filter": 1}, {"address": "10.244.1.5", "source_address": "10.244.1.7"}, "reverse path filter"),
    ({}, {"address": "10.244.1.5", "source_address": "172.18.0.2"}, "martian"),
    ({}, {"address": "10.244.1.5", "ttl": 1}, "time to live"),
    ({}, {"address": "172.18.0.9", "length": 1600}, "too long"),
])
def test_ways_to_die_that_no_rule_orders(more: dict[str, Any], question: dict[str, Any], why: str) -> None:
    asked = {"source_address": "172.18.0.7", "interface": "eth0", "port": 80} | question
    for branch in predict(one(**more), Question("n", **asked)).branches:
        drop = next(hop for hop in branch.request if hop.kind == "drop")
        assert why in drop.text


def test_places_and_interfaces_that_are_none_are_named() -> None:
    with pytest.raises(NotFound, match="no place x"):
        ask(one(), "x", "10.0.0.1")
    with pytest.raises(NotFound, match="no interface eth9"):
        ask(one(), "n", "10.0.0.1", interface="eth9")
