from __future__ import annotations

import copy
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api import meta
from netlab.controllers import rollout
from netlab.controllers.deployment_status import status, until_deadline
from tests.controllers.builders import NOW, a_deployment, a_replicaset, a_template, at


def sizes(plan):
    return {meta.name(row): count for row, count in plan.scale}


@pytest.mark.parametrize(("replicas", "surge", "unavailable", "expected"), [
    (10, "25%", "25%", (3, 2)), (1, "25%", "25%", (1, 0)), (3, 0, 0, (0, 1)), (3, 0, "10%", (0, 1)),
    (0, 1, 1, (1, 0)), (4, "100%", "100%", (4, 4)), (2, 1, 9, (1, 2))])
def test_fences(replicas, surge, unavailable, expected):
    assert rollout.fences(a_deployment(replicas, surge=surge, unavailable=unavailable)) == expected


@pytest.mark.parametrize(("new", "old", "expected"), [
    pytest.param(None, [], "create 10", id="first: all at once"),
    pytest.param(None, [a_replicaset(10)], "create 3", id="a new template starts with the surge"),
    pytest.param(a_replicaset(3, image="i:2", available=0, born=1), [a_replicaset(10)], {"web-i-1": 8},
                 id="then the old ones give what may be missing"),
    pytest.param(a_replicaset(3, image="i:2", available=0, born=1), [a_replicaset(8, actual=10)], {"web-i-2": 5},
                 id="and the new ones take the room"),
    pytest.param(a_replicaset(5, image="i:2", available=0, born=1), [a_replicaset(8)], {},
                 id="and now nothing moves until new ones work"),
    pytest.param(a_replicaset(5, image="i:2", available=3, born=1), [a_replicaset(8)], {"web-i-1": 5},
                 id="each that works lets an old one go"),
    pytest.param(a_replicaset(5, image="i:2", available=0, born=1), [a_replicaset(8, available=2)], {},
                 id="broken old ones are not spent while there are too few"),
    pytest.param(a_replicaset(8, image="i:2", available=8, born=1), [a_replicaset(5, available=0)], {"web-i-1": 0},
                 id="broken old ones go first"),
    pytest.param(a_replicaset(10, image="i:2", born=1), [a_replicaset(3)], {"web-i-1": 0}, id="the last old ones go"),
    pytest.param(a_replicaset(10, image="i:2", born=1), [a_replicaset(0)], {}, id="done"),
])
def test_rolling(new, old, expected):
    plan = rollout.decide(a_deployment(10, image="i:2"), new, old, old_pods_run=False)
    assert (f"create {plan.create}" if plan.create is not None else sizes(plan)) == expected


@pytest.mark.parametrize(("new", "old", "run", "expected"), [
    pytest.param(None, [a_replicaset(3)], True, {"web-i-1": 0}, id="first the old ones go"),
    pytest.param(None, [a_replicaset(0, actual=1)], True, {}, id="wait for their end"),
    pytest.param(None, [a_replicaset(0)], False, "create 3", id="then the new ones come"),
    pytest.param(a_replicaset(0, image="i:2"), [], False, {"web-i-2": 3}, id="also if they are known"),
])
def test_recreate(new, old, run, expected):
    plan = rollout.decide(a_deployment(3, image="i:2", strategy="Recreate"), new, old, old_pods_run=run)
    assert (f"create {plan.create}" if plan.create is not None else sizes(plan)) == expected


@pytest.mark.parametrize(("replicas", "new", "old", "expected"), [
    pytest.param(5, a_replicaset(3, image="i:2", desired=3, maximum=4), [a_replicaset(0)], {"web-i-2": 5},
                 id="one active: all of it"),
    pytest.param(20, a_replicaset(5, image="i:2", available=1, desired=10, maximum=13, born=1),
                 [a_replicaset(8, desired=10, maximum=13)], {"web-i-1": 15, "web-i-2": 10},
                 id="in the middle of a rollout: in proportion"),
    pytest.param(0, a_replicaset(5, image="i:2", desired=10, maximum=13, born=1),
                 [a_replicaset(8, desired=10, maximum=13)], {"web-i-1": 0, "web-i-2": 0}, id="to nothing"),
])
def test_scaling(replicas, new, old, expected):
    plan = rollout.decide(a_deployment(replicas, image="i:2"), new, old, old_pods_run=True)
    assert sizes(plan) == expected
    assert plan.create is None


def test_paused_scales_but_does_not_roll():
    deployment = a_deployment(4, image="i:2", paused=True)
    assert rollout.decide(deployment, None, [a_replicaset(4, desired=4, maximum=5)], old_pods_run=True) == \
        rollout.Plan()
    plan = rollout.decide(deployment, None, [a_replicaset(2, desired=2, maximum=3)], old_pods_run=True)
    assert sizes(plan) == {"web-i-1": 4}
    assert plan.create is None


def test_history_is_trimmed_when_all_is_done():
    olds = [a_replicaset(0, image=f"i:{n}", revision=n, born=n) for n in range(1, 5)]
    new = a_replicaset(2, image="i:9", revision=5, born=9)
    plan = rollout.decide(a_deployment(2, image="i:9", revisionHistoryLimit=2), new, olds, old_pods_run=False)
    assert [meta.name(row) for row in plan.delete] == ["web-i-1", "web-i-2"]


def moved(random, have, wanted):
    """Return a number that is nearer to `wanted`: Pods go at once and come some at a time."""
    return wanted if have >= wanted else have + random.randint(1, wanted - have)


class World:
    """ReplicaSets that follow their size at their own pace."""

    def __init__(self, deployment):
        self.deployment, self.sets, self.clock = deployment, [], 0

    def step(self, random):
        new = rollout.find_new(self.deployment, self.sets)
        olds = [row for row in self.sets if row is not new]
        plan = rollout.decide(self.deployment, new, olds, old_pods_run=any(row["status"]["replicas"] for row in olds))
        if plan.create is not None:
            self.clock += 1
            made = a_replicaset(plan.create, image=self.image(), actual=0, available=0, born=self.clock)
            made["metadata"]["annotations"] |= rollout.size_annotations(self.deployment)
            self.sets.append(made)
        for row, count in plan.scale:
            row["spec"]["replicas"] = count
            row["metadata"]["annotations"] |= rollout.size_annotations(self.deployment)
        for row in plan.delete:
            self.sets.remove(row)
        for row in self.sets:
            state, wanted = row["status"], row["spec"]["replicas"]
            state["replicas"] = moved(random, state["replicas"], wanted)
            state["availableReplicas"] = min(state["replicas"], moved(random, state["availableReplicas"], wanted))
        return plan

    def image(self):
        return self.deployment["spec"]["template"]["spec"]["containers"][0]["image"]


@settings(max_examples=150, deadline=None)
@given(st.integers().map(Random), st.integers(0, 12), st.integers(0, 12), st.integers(0, 4), st.integers(0, 4),
       st.sampled_from(["RollingUpdate", "Recreate"]))
def test_a_rollout_always_ends_and_keeps_its_fences(random, before, after, surge, unavailable, strategy):
    world = World(a_deployment(before, surge=surge, unavailable=unavailable, strategy=strategy))
    for _ in range(15):
        world.step(random)
    world.deployment = a_deployment(after, image="i:2", surge=surge, unavailable=unavailable, strategy=strategy)
    settled = False
    for step in range(300):
        if step == 3:  # somebody changes their mind in the middle
            world.deployment = copy.deepcopy(world.deployment)
            world.deployment["spec"]["template"] = a_template("i:3")
        plan = world.step(random)
        limit_up, limit_down = rollout.fences(world.deployment)
        if strategy == "RollingUpdate" and step > 2 and before == after:
            assert sum(map(rollout.size, world.sets)) <= after + limit_up
            assert sum(row["status"]["availableReplicas"] for row in world.sets) >= after - limit_down or not settled
        new = rollout.find_new(world.deployment, world.sets)
        if plan == rollout.Plan() and new and rollout.complete(world.deployment, new, world.sets):
            settled = True
            break
    assert settled
    assert rollout.size(new) == after
    assert all(rollout.size(row) == 0 for row in world.sets if row is not new)


def test_the_hash_is_stable_and_ignores_what_does_not_matter():
    template = a_template()
    assert rollout.template_hash(template, 0) == rollout.template_hash(copy.deepcopy(template), 0) == "f678b5496"
    with_hash = {**template, "metadata": {"labels": {"app": "web", "pod-template-hash": "x"}, "creationTimestamp": None}}
    assert rollout.template_hash(with_hash, 0) == rollout.template_hash(template, 0)
    assert rollout.same_template(with_hash, template)
    assert rollout.template_hash(template, 1) != rollout.template_hash(template, 0)
    assert rollout.template_hash(a_template("i:2"), 0) != rollout.template_hash(template, 0)


def test_going_back_gives_an_old_replicaset_the_next_revision():
    deployment = a_deployment(image="i:1")
    deployment["metadata"]["annotations"] = {"team": "a", "deployment.kubernetes.io/revision": "2",
                                             "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    first, second = a_replicaset(0, image="i:1", revision=1), a_replicaset(3, image="i:2", revision=2)
    assert rollout.find_new(deployment, [second, first]) is first
    assert rollout.new_annotations(deployment, first, [second]) == {
        "team": "a", "deployment.kubernetes.io/revision": "3", "deployment.kubernetes.io/revision-history": "1"}
    made = rollout.new_annotations(deployment, None, [first, second])
    assert made["deployment.kubernetes.io/revision"] == "3"
    assert made["deployment.kubernetes.io/desired-replicas"] == "10"
    assert made["deployment.kubernetes.io/max-replicas"] == "13"


def reason(found, kind):
    return next((row["reason"] for row in found["conditions"] if row["type"] == kind), None)


def test_progress_from_creation_to_completion():
    deployment = a_deployment(2)
    new = a_replicaset(2, actual=0, available=0)
    deployment["status"] = status(deployment, new, [], NOW, found_new="NewReplicaSetCreated")
    assert reason(deployment["status"], "Progressing") == "NewReplicaSetCreated"
    assert reason(deployment["status"], "Available") == "MinimumReplicasUnavailable"
    new = a_replicaset(2, actual=2, available=1)
    deployment["status"] = status(deployment, new, [], NOW + 1)
    assert reason(deployment["status"], "Progressing") == "ReplicaSetUpdated"
    new = a_replicaset(2)
    deployment["status"] = found = status(deployment, new, [], NOW + 2)
    assert reason(found, "Progressing") == "NewReplicaSetAvailable"
    assert reason(found, "Available") == "MinimumReplicasAvailable"
    assert (found["replicas"], found["updatedReplicas"], found["readyReplicas"], found["availableReplicas"]) == \
        (2, 2, 2, 2)
    assert "unavailableReplicas" not in found
    assert status(deployment, new, [], NOW + 99) == found, "nothing moves, nothing is written"
    assert until_deadline(deployment, NOW) is None


def test_a_rollout_that_stands_still_is_said_to_have_failed():
    deployment, new = a_deployment(2, progressDeadlineSeconds=60), a_replicaset(2, actual=2, available=0)
    deployment["status"] = status(deployment, new, [], NOW, found_new="NewReplicaSetCreated")
    deployment["status"] = status(deployment, new, [], NOW)
    assert until_deadline(deployment, NOW + 10) == 51.0
    assert reason(status(deployment, new, [], NOW + 60), "Progressing") == "NewReplicaSetCreated"
    late = status(deployment, new, [], NOW + 61)
    assert reason(late, "Progressing") == "ProgressDeadlineExceeded"
    deployment["status"] = late
    assert until_deadline(deployment, NOW + 61) is None
    better = status(deployment, a_replicaset(2), [], NOW + 99)
    assert reason(better, "Progressing") == "NewReplicaSetAvailable"


def test_paused_and_resumed_are_said():
    deployment, new = a_deployment(2, paused=True), a_replicaset(2)
    deployment["status"] = status(deployment, new, [], NOW)
    assert reason(deployment["status"], "Progressing") == "DeploymentPaused"
    deployment["spec"]["paused"] = False
    deployment["status"] = status(deployment, new, [], NOW)
    assert reason(deployment["status"], "Progressing") == "DeploymentResumed"


def test_a_failure_of_the_replicaset_is_passed_on():
    row = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota",
           "lastTransitionTime": at(0)}
    new = a_replicaset(2, available=0)
    new["status"]["conditions"] = [row]
    found = status(a_deployment(2), new, [], NOW)
    assert reason(found, "ReplicaFailure") == "FailedCreate"
    new["status"]["conditions"] = []
    assert reason(status({**a_deployment(2), "status": found}, new, [], NOW), "ReplicaFailure") is None
