from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import meta
from netlab.controllers.claim import decide as decide_claim
from netlab.controllers.pods import available_in, from_template, is_active
from netlab.controllers.replicaset import decide, status
from tests.controllers.builders import NOW, a_pod, a_replicaset, at


@pytest.mark.parametrize(("wanted", "pods", "create", "delete"), [
    pytest.param(3, [], 3, 0, id="from nothing"),
    pytest.param(2, [a_pod(), a_pod()], 0, 0, id="right already"),
    pytest.param(2, [a_pod(), a_pod(deleting=True)], 1, 0, id="one on its way out does not count"),
    pytest.param(1, [a_pod(phase="Failed"), a_pod(phase="Succeeded")], 1, 0, id="ended ones do not count"),
    pytest.param(0, [a_pod(), a_pod()], 0, 2, id="scaled to nothing"),
    pytest.param(1000, [], 500, 0, id="no more than a burst at once"),
])
def test_counts(wanted, pods, create, delete):
    plan = decide(wanted, pods, pods, NOW)
    assert (plan.create, len(plan.delete)) == (create, delete)


@pytest.mark.parametrize("victim", [
    pytest.param({"node": ""}, id="unbound"),
    pytest.param({"phase": "Pending"}, id="pending"),
    pytest.param({"ready": False}, id="not ready"),
    pytest.param({"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}, id="cheap by annotation"),
    pytest.param({"node": "crowded"}, id="on the node with more of them"),
    pytest.param({"ready_at": -1}, id="ready for a shorter time"),
    pytest.param({"restarts": 3}, id="restarted most"),
    pytest.param({"born": -1}, id="youngest"),
])
def test_who_goes_first(victim):
    pods = [a_pod("calm"), a_pod("victim", **victim), a_pod("old", node="n2")]
    crowd = [a_pod("a", node="crowded"), a_pod("b", node="crowded")]
    assert [meta.name(pod) for pod in decide(2, pods, [*pods, *crowd], NOW).delete] == ["victim"]


@given(st.integers(0, 8), st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from(["Running", "Pending",
                                                                                          "Failed"])), max_size=8))
def test_one_sync_is_enough(wanted, shapes):
    pods = [a_pod(f"p{n}", ready=ready, deleting=going, phase=phase) for n, (ready, going, phase) in enumerate(shapes)]
    plan = decide(wanted, pods, pods, NOW)
    left = [pod for pod in pods if is_active(pod) and pod not in plan.delete]
    assert len(left) + plan.create == wanted
    assert not (plan.create and plan.delete)
    worst_kept = min((pod["status"]["conditions"][0]["status"] == "True" for pod in left if pod in left), default=True)
    if worst_kept is False:
        assert all(pod["status"]["phase"] == "Pending" or pod["status"]["conditions"][0]["status"] == "False"
                   for pod in plan.delete), "no ready Pod goes while an unready one of its phase stays"


@pytest.mark.parametrize(("pod", "seconds"), [
    (a_pod(ready_at=-9), 1), (a_pod(ready_at=-10), 0), (a_pod(ready=False), float("inf")), (a_pod(ready=None),
                                                                                          float("inf"))])
def test_available_after_min_ready_seconds(pod, seconds):
    assert available_in(pod, 10, NOW) == seconds
    assert available_in(pod, 0, NOW) == (0 if seconds < 100 else seconds)


def test_status():
    owner = a_replicaset(3)
    pods = [a_pod(), a_pod(ready=False), a_pod(labels={}), a_pod(deleting=True)]
    found = status(owner, pods, {"reason": "FailedCreate", "message": "quota"}, NOW)
    assert {**found, "conditions": []} == {
        "replicas": 3, "observedGeneration": 1, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2,
        "terminatingReplicas": 1, "conditions": []}
    assert found["conditions"] == [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                                    "message": "quota", "lastTransitionTime": at(0)}]
    assert "conditions" not in status({**owner, "status": found}, pods, None, NOW)


def test_a_pod_from_the_template():
    owner = a_replicaset(1)
    pod = from_template(owner["spec"]["template"], owner)
    assert pod["metadata"] == {"generateName": "web-i-1-", "namespace": "ns", "labels": {"app": "web"},
                               "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-i-1",
                                                    "uid": "uid-web-i-1", "controller": True,
                                                    "blockOwnerDeletion": True}]}
    assert pod["spec"] == owner["spec"]["template"]["spec"]


def test_claims():
    owner, other = a_replicaset(1), a_replicaset(1, name="other")
    mine, strange = a_pod("mine", owner=owner), a_pod("strange", owner=other)
    lost, free = a_pod("lost", owner=owner, labels={"app": "db"}), a_pod("free")
    ended, unfit = a_pod("ended", phase="Failed"), a_pod("unfit", labels={})
    everyone = [mine, strange, lost, free, ended, unfit]
    assert decide_claim(owner, owner["spec"]["selector"], everyone, pods=True) == ([mine], [free], [lost])
    dying = {**owner, "metadata": {**owner["metadata"], "deletionTimestamp": at(0)}}
    assert decide_claim(dying, owner["spec"]["selector"], everyone, pods=True) == ([mine, lost], [], [])
