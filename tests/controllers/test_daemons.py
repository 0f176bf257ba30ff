from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api import meta
from netlab.controllers import daemons
from tests.controllers.builders import NOW, a_daemonset, a_node, a_pod, at

TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
NOEXEC = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
FOREIGN = {"key": "gpu", "effect": "NoExecute"}


def a_daemon(node: str, revision: str = "new", **fields):
    fields.setdefault("name", f"{revision}-{node}")
    return a_pod(node=node, labels={"app": "web", daemons.HASH: revision}, **fields)


def names(pods):
    return sorted(map(meta.name, pods))


@pytest.mark.parametrize(("spec", "node", "expected"), [
    ({}, a_node("n"), (True, True)),
    ({}, a_node("n", taints=[TAINT]), (False, True)),
    ({"tolerations": [{"operator": "Exists"}]}, a_node("n", taints=[TAINT, FOREIGN]), (True, True)),
    ({}, a_node("n", taints=[NOEXEC]), (True, True)),
    ({}, a_node("n", taints=[FOREIGN]), (False, False)),
    ({}, a_node("n", taints=[{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]), (True, True)),
    ({}, a_node("n", taints=[{"key": "node.kubernetes.io/network-unavailable", "effect": "NoSchedule"}]),
     (False, True)),
    ({"hostNetwork": True}, a_node("n", taints=[{"key": "node.kubernetes.io/network-unavailable",
                                                 "effect": "NoSchedule"}]), (True, True)),
    ({"nodeSelector": {"disk": "ssd"}}, a_node("n"), (False, False)),
    ({"nodeSelector": {"disk": "ssd"}}, a_node("n", labels={"disk": "ssd"}), (True, True)),
    ({"nodeName": "other"}, a_node("n"), (False, False)),
])
def test_which_nodes_want_one(spec, node, expected):
    assert daemons.node_wants(spec, node) == expected


def test_the_pod_is_pinned_and_tolerates():
    owner = a_daemonset(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}})
    pod = daemons.pinned_pod(owner["spec"]["template"], owner, "n7", {daemons.HASH: "h"})
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms == {"nodeSelectorTerms": [{
        "matchExpressions": [{"key": "a", "operator": "Exists"}],
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n7"]}]}]}
    assert daemons.target_node({**pod, "status": {}}) == "n7"
    assert pod["metadata"]["labels"] == {"app": "web", daemons.HASH: "h"}
    assert {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"} in \
        pod["spec"]["tolerations"]
    assert "affinity" not in a_daemonset()["spec"]["template"]["spec"], "the template stays as it is"


NODES = [a_node("a"), a_node("b"), a_node("c")]


@pytest.mark.parametrize(("pods", "create", "delete"), [
    pytest.param([], ["a", "b", "c"], [], id="everywhere"),
    pytest.param([a_daemon("a"), a_daemon("b"), a_daemon("c")], [], [], id="all there"),
    pytest.param([a_daemon("a", deleting=True), a_daemon("b")], ["c"], [], id="one on its way out keeps its place"),
    pytest.param([a_daemon("a", phase="Failed"), a_daemon("b"), a_daemon("c")], [], ["new-a"], id="failed ones go"),
    pytest.param([a_daemon("a"), a_daemon("a", name="twin", born=-1), a_daemon("b"), a_daemon("c")], [], ["twin"],
                 id="the younger twin goes"),
    pytest.param([a_daemon("a"), a_daemon("b"), a_daemon("c"),
                  {**a_daemon("", name="lost"), "spec": daemons.pinned_pod(
                      {"spec": {}}, a_daemonset(), "gone", {})["spec"]}], [], ["lost"], id="its node is gone"),
])
def test_one_on_each_node(pods, create, delete):
    plan = daemons.decide(a_daemonset(), NODES, pods, "new", NOW)
    assert (sorted(plan.create), names(plan.delete)) == (create, delete)


def test_a_node_that_may_not_run_it_loses_it():
    nodes = [a_node("a", taints=[FOREIGN]), a_node("b", taints=[TAINT])]
    plan = daemons.decide(a_daemonset(), nodes, [a_daemon("a"), a_daemon("b")], "new", NOW)
    assert names(plan.delete) == ["new-a"], "NoSchedule lets what runs there run on"


@pytest.mark.parametrize(("fields", "pods", "create", "delete"), [
    pytest.param({}, [a_daemon(n, "old") for n in "abc"], [], 1, id="one at a time"),
    pytest.param({"unavailable": 2}, [a_daemon(n, "old") for n in "abc"], [], 2, id="two at a time"),
    pytest.param({"unavailable": "50%"}, [a_daemon(n, "old") for n in "abc"], [], 2, id="half, rounded up"),
    pytest.param({}, [a_daemon("a", ready=False), a_daemon("b", "old"), a_daemon("c", "old")], [], 0,
                 id="wait until the new one works"),
    pytest.param({}, [a_daemon("a", "old", ready=False), a_daemon("b", "old"), a_daemon("c")], [], 1,
                 id="a broken one goes and is the one"),
    pytest.param({"strategy": "OnDelete"}, [a_daemon(n, "old") for n in "abc"], [], 0, id="on delete only"),
    pytest.param({"surge": 1, "unavailable": 0}, [a_daemon(n, "old") for n in "abc"], ["a"], 0,
                 id="surge: the new one comes first"),
    pytest.param({"surge": 1, "unavailable": 0}, [a_daemon("a", "old"), a_daemon("a", ready=False),
                                                  a_daemon("b", "old"), a_daemon("c", "old")], [], 0,
                 id="surge: and both stay until it works"),
    pytest.param({"surge": 1, "unavailable": 0}, [a_daemon("a", "old"), a_daemon("a"), a_daemon("b", "old"),
                                                  a_daemon("c", "old")], ["b"], 1,
                 id="surge: then the old one goes and the next comes"),
])
def test_rolling_update(fields, pods, create, delete):
    plan = daemons.decide(a_daemonset(**fields), NODES, pods, "new", NOW)
    assert (list(plan.create), len(plan.delete)) == (create, delete)
    assert all(name.startswith("old") for name in names(plan.delete))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3), st.randoms(use_true_random=False))
def test_an_update_reaches_every_node_within_its_fences(count, surge, unavailable, random):
    nodes = [a_node(f"n{number}") for number in range(count)]
    owner = a_daemonset(surge=surge, unavailable=unavailable)
    up, down = daemons.fences(owner, count)
    pods = [a_daemon(meta.name(node), "old") for node in nodes]
    for step in range(200):
        plan = daemons.decide(owner, nodes, pods, "new", NOW)
        gone = set(names(plan.delete))
        pods = [pod for pod in pods if meta.name(pod) not in gone]
        pods += [a_daemon(node, ready=False) for node in plan.create]
        working = {pod["spec"]["nodeName"] for pod in pods if pod["status"]["conditions"][0]["status"] == "True"}
        assert len(working) >= count - (0 if up else down)
        assert len(pods) <= count + up
        waiting = [pod for pod in pods if pod["status"]["conditions"][0]["status"] == "False"]
        if not waiting and not plan.create and not plan.delete:
            break
        for pod in waiting:
            if step % 3 == 2 or random.random() < 0.5:
                pod["status"]["conditions"][0]["status"] = "True"
    assert names(pods) == [f"new-n{number}" for number in range(count)]


def test_status():
    nodes = [*NODES, a_node("d", taints=[FOREIGN])]
    pods = [a_daemon("a"), a_daemon("b", "old", ready=False), a_daemon("d")]
    assert daemons.status(a_daemonset(), nodes, pods, "new", NOW) == {
        "desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberMisscheduled": 1, "numberReady": 1,
        "updatedNumberScheduled": 1, "numberAvailable": 1, "numberUnavailable": 2, "observedGeneration": 1}


def test_next_look_is_when_a_pod_becomes_available():
    owner = a_daemonset()
    owner["spec"]["minReadySeconds"] = 60
    assert daemons.next_available(owner, [a_daemon("a", ready_at=-50), a_daemon("b", ready_at=-20)], NOW) == \
        pytest.approx(10, abs=0.1)
    assert daemons.next_available(a_daemonset(), [a_daemon("a")], NOW) is None
    assert at(0).endswith("Z")
