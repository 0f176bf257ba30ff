"""Statuses: phases, conditions and container states as kubectl shows them, and what of them is written."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api import meta
from netlab.kubelet import status
from netlab.kubelet.records import PodRecord
from netlab.kubelet.sync import Verdict
from tests.kubelet.builders import a_container, a_pod, a_record, a_sidecar, ran

NOW = 1_700_000_000.0


def built(pod: dict[str, Any], record: PodRecord, old: dict[str, Any] | None = None, *, verdict: Verdict | None = None,
          waiting: dict[str, tuple[str, str]] | None = None, ended: bool = False, now: float = NOW) -> dict[str, Any]:
    facts = status.Facts(now=now, host_ips=("172.18.0.3",), verdict=lambda _: verdict or Verdict(),
                         waiting=waiting or {}, ended=ended)
    return status.build(pod, record, old or {}, facts)


def conditions(found: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found["conditions"]}


CRASHING = {"web": ("CrashLoopBackOff", "back-off 10s restarting failed container=web pod=x")}


@pytest.mark.parametrize(("pod", "record", "more", "phase"), [
    pytest.param(a_pod(), a_record(sandbox=None), {}, "Pending", id="nothing yet"),
    pytest.param(a_pod(), a_record(), {}, "Pending", id="sandbox"),
    pytest.param(a_pod(), a_record(ran("web")), {}, "Running", id="running"),
    pytest.param(a_pod(a_container("a"), a_container("b")), a_record(ran("a")), {}, "Pending", id="half started"),
    pytest.param(a_pod(), a_record(ran("web", "exited", code=1)), {"waiting": CRASHING}, "Running", id="crash loop"),
    pytest.param(a_pod(restartPolicy="Never"), a_record(ran("web", "exited")), {}, "Succeeded", id="done"),
    pytest.param(a_pod(restartPolicy="Never"), a_record(ran("web", "exited", code=3)), {}, "Failed", id="failed"),
    pytest.param(a_pod(restartPolicy="OnFailure"), a_record(ran("web", "exited", code=3)), {}, "Running",
                 id="OnFailure, will restart"),
    pytest.param(a_pod(a_container("a"), a_container("b"), restartPolicy="Never"),
                 a_record(ran("a", "exited", code=1), ran("b")), {}, "Running", id="one failed, one runs"),
    pytest.param(a_pod(initContainers=[a_container("one")]), a_record(ran("one")), {}, "Pending", id="initializing"),
    pytest.param(a_pod(initContainers=[a_container("one")], restartPolicy="Never"),
                 a_record(ran("one", "exited", code=1)), {}, "Failed", id="init failed for good"),
    pytest.param(a_pod(initContainers=[a_sidecar()]), a_record(ran("proxy"), ran("web")), {}, "Running", id="sidecar"),
    pytest.param(a_pod(initContainers=[a_sidecar()], restartPolicy="Never"),
                 a_record(ran("proxy"), ran("web", "exited")), {}, "Running", id="only the sidecar is left"),
    pytest.param(a_pod(initContainers=[a_sidecar()], restartPolicy="Never"),
                 a_record(ran("proxy", "exited"), ran("web", "exited")), {}, "Succeeded", id="the sidecar is gone, too"),
    pytest.param(a_pod(), a_record(ran("web", "exited", code=137)), {"ended": True}, "Failed", id="killed at its end"),
    pytest.param(a_pod(), a_record(), {"waiting": {"web": ("ImagePullBackOff", "no")}}, "Pending", id="no image"),
])
def test_phase(pod: dict[str, Any], record: PodRecord, more: dict[str, Any], phase: str) -> None:
    assert built(pod, record, **more)["phase"] == phase


def test_a_running_pod() -> None:
    found = built(a_pod(), a_record(ran("web", at=NOW)))
    assert found["podIP"] == "10.244.1.2"
    assert found["podIPs"] == [{"ip": "10.244.1.2"}]
    assert (found["hostIP"], found["startTime"]) == ("172.18.0.3", meta.timestamp(NOW))
    assert conditions(found) == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True")
    row = found["containerStatuses"][0]
    assert row["state"] == {"running": {"startedAt": "2023-11-14T22:13:20Z"}}
    assert (row["ready"], row["started"], row["restartCount"], row["containerID"]) == (True, True, 0, "netlab://web-0")


def test_waiting_for_its_first_container() -> None:
    found = built(a_pod(), a_record(sandbox=None))
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False", "ContainersNotReady", "containers with unready status: [web]")
    assert "podIP" not in found


def test_waiting_for_its_init_container() -> None:
    found = built(a_pod(initContainers=[a_container("one")]), a_record(ran("one")))
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    initialized = next(c for c in found["conditions"] if c["type"] == "Initialized")
    assert (initialized["reason"], initialized["message"]) == (
        "ContainersNotInitialized", "containers with incomplete status: [one]")


@pytest.mark.parametrize(("runs", "states"), [
    pytest.param([ran("one", "exited", code=1)], ["Error", "PodInitializing", "PodInitializing"], id="the first one failed"),
    pytest.param([], ["ContainerStatusUnknown", "PodInitializing", "PodInitializing"], id="nothing was seen of any"),
    pytest.param([ran("one", "exited"), ran("two", "exited", code=2)], ["Completed", "Error", "PodInitializing"],
                 id="the second one failed"),
    pytest.param([ran("one", "exited"), ran("two", "exited")], ["Completed", "Completed", "ContainerStatusUnknown"],
                 id="all have done their work"),
])
def test_what_an_ended_pod_never_came_to_waits(runs: list[Any], states: list[str]) -> None:
    found = built(a_pod(initContainers=[a_container("one"), a_container("two")], restartPolicy="Never"), a_record(*runs), ended=True)
    rows = found["initContainerStatuses"] + found["containerStatuses"]
    assert [next(iter(row["state"].values()))["reason"] for row in rows] == states
    assert found["phase"] == "Failed"


def test_what_waits_for_init_containers_says_so() -> None:
    found = built(a_pod(initContainers=[a_container("one")]), a_record(sandbox=None))
    assert found["initContainerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_crash_loop_shows_the_last_end() -> None:
    runs = (ran("web", "exited", code=1, attempt=3, at=NOW - 9), ran("web", "exited", code=2, attempt=2, at=NOW - 99))
    row = built(a_pod(), a_record(*runs), waiting=CRASHING)["containerStatuses"][0]
    assert row["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert row["lastState"]["terminated"]["exitCode"] == 1
    assert (row["restartCount"], row["ready"]) == (3, False)


def test_restarted_shows_the_run_before() -> None:
    row = built(a_pod(), a_record(ran("web", attempt=1), ran("web", "exited", code=5)))["containerStatuses"][0]
    assert "running" in row["state"]
    assert row["lastState"]["terminated"]["exitCode"] == 5
    assert row["restartCount"] == 1


def test_a_completed_pod_keeps_its_address() -> None:
    pod, alive = a_pod(restartPolicy="Never"), a_record(ran("web"))
    old = built(pod, alive)
    found = built(pod, a_record(ran("web", "exited"), ready=False, ips=()), old, ended=True)
    assert (found["phase"], found["podIP"]) == ("Succeeded", "10.244.1.2")
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")


def test_a_deadline_is_told_when_all_has_stopped() -> None:
    late = ("DeadlineExceeded", "too long")
    running, gone = a_record(ran("web")), a_record(ran("web", "exited", code=143))

    def phase(record: PodRecord, ended: bool) -> str:
        facts = status.Facts(now=NOW, host_ips=(), verdict=lambda _: Verdict(), failure=late, ended=ended)
        return status.build(a_pod(), record, {"phase": "Running"}, facts)["phase"]

    assert (phase(running, False), phase(gone, True)) == ("Running", "Failed")


def test_a_new_sandbox_has_a_new_address_or_none() -> None:
    old = built(a_pod(), a_record(ran("web")))
    assert "podIP" not in built(a_pod(), a_record(ips=(), sandbox="s1"), old)
    assert built(a_pod(), a_record(sandbox="s1", ips=("10.244.1.9",)), old)["podIP"] == "10.244.1.9"


def test_no_way_back_from_an_end() -> None:
    assert built(a_pod(), a_record(ran("web")), {"phase": "Failed", "reason": "Evicted"})["reason"] == "Evicted"


def test_transition_times_change_with_the_status_only() -> None:
    first = built(a_pod(), a_record(ran("web")), verdict=Verdict(ready=False))
    second = built(a_pod(), a_record(ran("web")), first, now=NOW + 60)
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times["PodScheduled"] == meta.timestamp(NOW)
    assert times["Ready"] == meta.timestamp(NOW + 60)


def test_readiness_gates_are_others_words() -> None:
    pod = a_pod(readinessGates=[{"conditionType": "lb/ready"}])
    found = built(pod, a_record(ran("web")))
    ready = next(c for c in found["conditions"] if c["type"] == "Ready")
    assert ready["message"] == 'corresponding condition of pod readiness gate "lb/ready" does not exist.'
    assert conditions(found)["ContainersReady"] == "True"
    pod["status"] = {"conditions": [{"type": "lb/ready", "status": "True"}]}
    assert conditions(built(pod, a_record(ran("web"))))["Ready"] == "True"


def test_lost_with_its_node() -> None:
    """After the node was lost with all it ran, the API still says Running: the run counts as ended."""
    old = built(a_pod(), a_record(ran("web")))
    row = built(a_pod(), a_record(sandbox=None), old)["containerStatuses"][0]
    assert row["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert (row["restartCount"], row["state"]) == (1, {"waiting": {"reason": "ContainerCreating"}})


class TestChanges:
    def test_nothing(self) -> None:
        found = built(a_pod(), a_record(ran("web")))
        assert status.changes({**found, "qosClass": "BestEffort"}, found) == {}

    def test_only_what_differs(self) -> None:
        old = built(a_pod(), a_record(ran("web")), verdict=Verdict(ready=False))
        new = built(a_pod(), a_record(ran("web")), old, now=NOW + 5)
        patch = status.changes(old, new)
        assert set(patch) == {"conditions", "containerStatuses"}
        assert {c["type"] for c in patch["conditions"]} == {"Ready", "ContainersReady"}

    def test_others_conditions_stay(self) -> None:
        pod = a_pod(status={"conditions": [{"type": "mine/x", "status": "True"}]})
        assert "mine/x" not in str(status.changes({}, built(pod, a_record(ran("web"))))["conditions"])

    def test_an_address_that_went(self) -> None:
        old = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}
        assert status.changes(old, {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}]})["podIPs"] == [
            {"ip": "10.0.0.2"}, {"ip": "10.0.0.1", "$patch": "delete"}]
