from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.scheduler import preemption
from netlab.scheduler.config import default_profile
from netlab.scheduler.cycle import next_best
from netlab.scheduler.model import pod, requests
from tests.scheduler.builders import a_cluster, a_node, a_pod, choose

ZONE = "topology.kubernetes.io/zone"


def affinity(kind: str, labels: dict[str, str], *, key: str = "kubernetes.io/hostname", **term):
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": key, "labelSelector": {"matchLabels": labels}, **term}]}}


def spread(skew: int = 1, key: str = "kubernetes.io/hostname", when: str = "DoNotSchedule", **more):
    return [{"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when,
             "labelSelector": {"matchLabels": {"app": "web"}}, **more}]


GPU = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(("obj", "nodes", "others", "reason"), [
    pytest.param(a_pod("p", cpu="3"), [a_node("n", cpu="2")], [], "1 Insufficient cpu", id="too large"),
    pytest.param(a_pod("p", cpu="1", memory="7Gi"), [a_node("n", cpu="2")], [a_pod("o", cpu="1500m", memory="2Gi",
                                                                                  node="n")],
                 "1 Insufficient cpu, 1 Insufficient memory", id="what is left does not do"),
    pytest.param(a_pod("p"), [a_node("n", pods=1)], [a_pod("o", node="n")], "1 Too many pods", id="too many"),
    pytest.param(a_pod("p"), [a_node("n", taints=[GPU])], [], "1 node(s) had untolerated taint(s)", id="taint"),
    pytest.param(a_pod("p", nodeSelector={"disk": "ssd"}), [a_node("n")], [],
                 "1 node(s) didn't match Pod's node affinity/selector", id="selector"),
    pytest.param(a_pod("p"), [a_node("n", unschedulable=True)], [], "1 node(s) were unschedulable", id="cordoned"),
    pytest.param(a_pod("p", ports=[{"hostPort": 80}]), [a_node("n")],
                 [a_pod("o", node="n", ports=[{"hostPort": 80, "hostIP": "10.0.0.1"}])],
                 "1 node(s) didn't have free ports for the requested pod ports", id="host port"),
    pytest.param(a_pod("p", affinity=affinity("podAffinity", {"app": "db"})), [a_node("n")], [],
                 "1 node(s) didn't match pod affinity rules", id="nobody to be near to"),
    pytest.param(a_pod("p", affinity=affinity("podAntiAffinity", {"app": "db"})), [a_node("n")],
                 [a_pod("o", node="n", labels={"app": "db"})], "1 node(s) didn't match pod anti-affinity rules",
                 id="somebody to be far from"),
    pytest.param(a_pod("p", labels={"app": "web"}), [a_node("n")],
                 [a_pod("o", node="n", affinity=affinity("podAntiAffinity", {"app": "web"}))],
                 "1 node(s) didn't satisfy existing pods anti-affinity rules", id="who is there wants to be alone"),
    pytest.param(a_pod("p", labels={"app": "web"}, topologySpreadConstraints=spread(key=ZONE)), [a_node("n")], [],
                 "1 node(s) didn't match pod topology spread constraints (missing required label)", id="no zone"),
])
def test_the_words_of_each_refusal(obj, nodes, others, reason):
    assert choose(obj, a_cluster(nodes, others)).message == f"0/1 nodes are available: {reason}."


def test_the_sentence_counts_and_sorts():
    cluster = a_cluster([a_node("a", taints=[GPU]), a_node("b", unschedulable=True), a_node("c", cpu="1")])
    assert choose(a_pod("p", cpu="2"), cluster).message == (
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), "
        "1 node(s) were unschedulable.")
    assert choose(a_pod("p"), a_cluster([])).message == "no nodes available to schedule pods"


@pytest.mark.parametrize(("obj", "nodes", "others", "node"), [
    pytest.param(a_pod("p", tolerations=[{"key": "gpu", "operator": "Exists"}]), [a_node("n", taints=[GPU])], [], "n",
                 id="tolerated"),
    pytest.param(a_pod("p"), [a_node("a"), a_node("b")], [a_pod("o", node="a", cpu="2")], "b", id="least used"),
    pytest.param(a_pod("p"), [a_node("a", taints=[{"key": "x", "effect": "PreferNoSchedule"}]), a_node("b")], [], "b",
                 id="rather not there"),
    pytest.param(a_pod("p", affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}),
        [a_node("a"), a_node("b", labels={"disk": "ssd"})], [], "b", id="preferred node"),
    pytest.param(a_pod("p", affinity=affinity("podAffinity", {"app": "db"}, key=ZONE)),
                 [a_node("a", labels={ZONE: "1"}), a_node("b", labels={ZONE: "2"}), a_node("c", labels={ZONE: "2"},
                                                                                          unschedulable=True)],
                 [a_pod("o", node="c", labels={"app": "db"})], "b", id="in the zone of another"),
    pytest.param(a_pod("p", labels={"app": "web"}, affinity=affinity("podAffinity", {"app": "web"})), [a_node("a")],
                 [], "a", id="the first of a group may be anywhere"),
    pytest.param(a_pod("p", labels={"app": "web"}, topologySpreadConstraints=spread()), [a_node("a"), a_node("b")],
                 [a_pod("o", node="a", labels={"app": "web"})], "b", id="spread"),
    pytest.param(a_pod("p", labels={"app": "web"}, metadata={"ownerReferences": [
        {"kind": "ReplicaSet", "name": "r", "uid": "r", "controller": True}]}), [a_node("a"), a_node("b")],
        [a_pod("o", node="a", labels={"app": "web"})], "b", id="replicas are spread without being told"),
    pytest.param(a_pod("p"), [a_node("a"), a_node("b", images=[{"names": ["web:1"], "sizeBytes": 3 << 30}])], [], "b",
                 id="has the image"),
    pytest.param(a_pod("p", ports=[{"hostPort": 80, "hostIP": "10.0.0.2"}]), [a_node("n")],
                 [a_pod("o", node="n", ports=[{"hostPort": 80, "hostIP": "10.0.0.1"}])], "n", id="another address"),
    pytest.param(a_pod("p", nodeName=""), [a_node("n", unschedulable=True), a_node("m")], [], "m", id="not cordoned"),
])
def test_where_it_goes(obj, nodes, others, node):
    assert choose(obj, a_cluster(nodes, others)).node == node


def test_equals_take_turns():
    cluster, last, order = a_cluster([a_node("a"), a_node("b"), a_node("c")]), "", []
    for _ in range(6):
        last = choose(a_pod("p"), cluster, last=last).node
        order.append(last)
    assert order == ["a", "b", "c", "a", "b", "c"]
    assert next_best({"a": 1, "b": 2, "c": 2}, "b") == "c"


def test_terms_look_into_the_namespaces_they_name():
    others = [a_pod("o", node="n", namespace="other", labels={"app": "db"})]
    near = a_pod("p", affinity=affinity("podAffinity", {"app": "db"}, namespaceSelector={"matchLabels": {"t": "x"}}))
    cluster = a_cluster([a_node("n")], others)
    assert choose(near, cluster).node == ""
    cluster.namespaces = {"other": {"t": "x"}}
    assert choose(near, cluster).node == "n"


@pytest.mark.parametrize(("spec", "expected"), [
    ({"containers": [{"resources": {"requests": {"cpu": "250m"}}}, {"resources": {"requests": {"cpu": "1"}}}]}, 1250),
    ({"containers": [{"resources": {"requests": {"cpu": "100m"}}}],
      "initContainers": [{"resources": {"requests": {"cpu": "2"}}}]}, 2000),
    ({"containers": [{"resources": {"requests": {"cpu": "1"}}}], "initContainers": [
        {"restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
        {"resources": {"requests": {"cpu": "2"}}}]}, 2500),
    ({"containers": [{"resources": {"requests": {"cpu": "1"}}}], "overhead": {"cpu": "50m"}}, 1050),
    ({"containers": [{}], "resources": {"requests": {"cpu": "3"}}}, 3000)])
def test_what_a_pod_asks_for(spec, expected):
    assert requests(spec)["cpu"] == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=25), st.integers(1, 4))
def test_no_node_is_ever_overbooked_and_none_refused_that_would_do(wishes, count):
    cluster = a_cluster([a_node(f"n{number}", cpu="4", pods=8) for number in range(count)])
    for number, wish in enumerate(wishes):
        one = pod(a_pod(f"p{number}", cpu=f"{wish}m"))
        verdict = choose(one, cluster)
        free = {name: 4000 - node.requested["cpu"] for name, node in cluster.nodes.items() if len(node.pods) < 8}
        assert bool(verdict.node) == any(wish <= room for room in free.values())
        if verdict.node:
            assert free[verdict.node] >= wish
            cluster.put(one, verdict.node)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 20))
def test_hard_spread_keeps_its_skew(skew, count, replicas):
    cluster = a_cluster([a_node(f"n{number}", pods=1000) for number in range(count)])
    for number in range(replicas):
        one = pod(a_pod(f"p{number}", labels={"app": "web"}, topologySpreadConstraints=spread(skew)))
        node = choose(one, cluster).node
        assert node
        cluster.put(one, node)
        sizes = [len(row.pods) for row in cluster.nodes.values()]
        assert max(sizes) - min(sizes) <= skew


# -- preemption ------------------------------------------------------------------------------------------------------

def plan(obj, cluster):
    one = pod(obj)
    return preemption.preempt(one, cluster, default_profile(), choose(one, cluster).refusals)


def test_the_least_important_go_and_no_more_than_needed():
    cluster = a_cluster([a_node("a", cpu="4"), a_node("b", cpu="4")], [
        a_pod("a1", node="a", cpu="2", priority=5), a_pod("a2", node="a", cpu="2", priority=1),
        a_pod("b1", node="b", cpu="4", priority=3)])
    found = plan(a_pod("p", cpu="2", priority=10), cluster)
    assert (found.node, [one.key for one in found.victims]) == ("a", ["ns/a2"])


def test_among_equal_losses_the_youngest():
    cluster = a_cluster([a_node("a"), a_node("b")], [
        a_pod("old", node="a", cpu="4", started="2027-01-01T00:00:00Z"),
        a_pod("young", node="b", cpu="4", started="2027-06-01T00:00:00Z")])
    assert plan(a_pod("p", cpu="1", priority=1), cluster).node == "b"


@pytest.mark.parametrize(("obj", "words"), [
    (a_pod("p", cpu="1"), ("preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, "
                          "1 Preemption is not helpful for scheduling.")),
    (a_pod("p", cpu="1", priority=9, preemptionPolicy="Never"),
     "preemption: not eligible due to preemptionPolicy=Never."),
])
def test_why_there_is_no_preemption(obj, words):
    cluster = a_cluster([a_node("a"), a_node("b", taints=[GPU])], [a_pod("o", node="a", cpu="4")])
    found = plan(obj, cluster)
    assert (found.node, found.message) == ("", words)


def test_preemption_makes_room_for_ports_and_loneliness_too():
    cluster = a_cluster([a_node("a")], [a_pod("o", node="a", ports=[{"hostPort": 80}], labels={"app": "web"})])
    assert plan(a_pod("p", priority=1, ports=[{"hostPort": 80}]), cluster).node == "a"
    lonely = a_pod("p", priority=1, affinity=affinity("podAntiAffinity", {"app": "web"}))
    assert plan(lonely, cluster).node == "a"


def test_room_that_was_made_for_one_is_not_taken_by_another():
    cluster = a_cluster([a_node("a", cpu="2")])
    waiting = pod(a_pod("vip", cpu="2", priority=10, status={"nominatedNodeName": "a"}))
    assert choose(a_pod("p", cpu="1"), cluster, nominated={"a": [waiting]}).node == ""
    assert choose(a_pod("p", cpu="1", priority=20), cluster, nominated={"a": [waiting]}).node == "a"
    assert choose(waiting, cluster, nominated={"a": [waiting]}).node == "a"


def test_while_victims_go_nobody_else_has_to():
    cluster = a_cluster([a_node("a")], [a_pod("v", node="a", cpu="4", metadata={"deletionTimestamp": "2027"})])
    found = plan(a_pod("p", cpu="4", priority=1, status={"nominatedNodeName": "a"}), cluster)
    assert (found.node, found.message) == (
        "", "preemption: not eligible due to a terminating pod on the nominated node.")
