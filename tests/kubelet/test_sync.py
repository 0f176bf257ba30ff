"""decide: which step comes next, for each state that a Pod can be found in."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.kubelet.backoff import Backoff
from netlab.kubelet.records import Container, PodRecord
from netlab.kubelet.sync import Plan, Verdict, backoff_key, decide
from tests.kubelet.builders import a_container, a_pod, a_record, a_sidecar, ran

NOW = 200.0
INIT = {"initContainers": [a_container("one"), a_container("two")]}
WITH_SIDECAR = {"initContainers": [a_sidecar("proxy"), a_container("one")]}


def words(plan: Plan) -> list[str]:
    """Say a plan in short words."""
    return [*(["stop"] if plan.stop else []), *([f"sandbox {plan.sandbox}"] if plan.sandbox is not None else []),
            *(f"kill {k.container.name} {k.reason}" for k in plan.kill), *(f"start {s.name} {s.attempt}" for s in plan.start),
            *(f"hold {h.name} until {h.until:g}" for h in plan.held)]


def decided(pod: dict[str, Any], record: PodRecord, verdicts: dict[str, Verdict] | None = None,
            backoff: Backoff | None = None, now: float = NOW) -> list[str]:
    def verdict(found: Container) -> Verdict:
        return (verdicts or {}).get(found.name, Verdict())

    return words(decide(pod, record, verdict, backoff or Backoff(), now))


@pytest.mark.parametrize(("pod", "record", "steps"), [
    pytest.param(a_pod(), a_record(sandbox=None), ["sandbox 0"], id="nothing yet: a sandbox"),
    pytest.param(a_pod(), a_record(), ["start web 0"], id="a sandbox: the container"),
    pytest.param(a_pod(), a_record(ran("web")), [], id="running: nothing"),
    pytest.param(a_pod(a_container("a"), a_container("b")), a_record(ran("a")), ["start b 0"], id="the missing one"),
    pytest.param(a_pod(), a_record(ran("web"), ready=False), ["stop", "sandbox 1"], id="dead pause: a new sandbox"),
    pytest.param(a_pod(), a_record(ran("web"), ips=()), ["stop", "sandbox 1"], id="no address: a new sandbox"),
    pytest.param(a_pod(hostNetwork=True), a_record(ips=()), ["start web 0"], id="host network needs no address"),
    pytest.param(a_pod(), a_record(ran("web", "exited", code=1)), ["start web 1"], id="Always: again after a crash"),
    pytest.param(a_pod(), a_record(ran("web", "exited")), ["start web 1"], id="Always: again after success"),
    pytest.param(a_pod(restartPolicy="OnFailure"), a_record(ran("web", "exited", code=1)), ["start web 1"],
                 id="OnFailure: again after a crash"),
    pytest.param(a_pod(restartPolicy="OnFailure"), a_record(ran("web", "exited")), ["stop"], id="OnFailure: done"),
    pytest.param(a_pod(restartPolicy="Never"), a_record(ran("web", "exited", code=1)), ["stop"], id="Never: over"),
    pytest.param(a_pod(restartPolicy="Never"), a_record(ran("web", "exited", code=1), ready=False), [],
                 id="Never, stopped: nothing more"),
    pytest.param(a_pod(restartPolicy="Never"), a_record(ran("web"), ready=False), ["stop"],
                 id="Never, dead pause: no second life"),
    pytest.param(a_pod(a_container("a"), a_container("b"), restartPolicy="OnFailure"),
                 a_record(ran("a", "exited"), ran("b")), [], id="one done, one runs"),
    pytest.param(a_pod(restartPolicy="OnFailure"), a_record(ran("web", "exited"), ready=False), [],
                 id="OnFailure, all done before the sandbox died"),
    pytest.param(a_pod(), a_record(ran("web", "created")), ["start web 1"], id="created by a start that broke off"),
    pytest.param(a_pod(**INIT), a_record(), ["start one 0"], id="init: the first"),
    pytest.param(a_pod(**INIT), a_record(ran("one")), [], id="init: wait"),
    pytest.param(a_pod(**INIT), a_record(ran("one", "exited")), ["start two 0"], id="init: the second"),
    pytest.param(a_pod(**INIT), a_record(ran("one", "exited"), ran("two", "exited")), ["start web 0"],
                 id="init done: the container"),
    pytest.param(a_pod(**INIT), a_record(ran("one", "exited", code=1)), ["start one 1"], id="init crashed: again"),
    pytest.param(a_pod(restartPolicy="Never", **INIT), a_record(ran("one", "exited", code=1)), ["stop"],
                 id="init crashed, Never: over"),
    pytest.param(a_pod(**INIT), a_record(ran("one", "exited", sandbox="old")), ["start one 1"],
                 id="a new sandbox initializes anew"),
    pytest.param(a_pod(**INIT), a_record(ran("web")), [], id="a running container needs no init, though collected"),
    pytest.param(a_pod(**WITH_SIDECAR), a_record(ran("proxy")), ["start one 0"], id="sidecar runs: next"),
    pytest.param(a_pod(**WITH_SIDECAR), a_record(ran("proxy", "exited"), ran("one")), ["start proxy 1"],
                 id="a sidecar that ended comes back"),
    pytest.param(a_pod(**WITH_SIDECAR), a_record(ran("proxy", "exited"), ran("one", "exited"), ran("web")),
                 ["start proxy 1"], id="... beside the container, too"),
    pytest.param(a_pod(restartPolicy="Never", **WITH_SIDECAR),
                 a_record(ran("proxy"), ran("one", "exited"), ran("web", "exited")), ["stop"],
                 id="a sidecar does not keep the Pod alive"),
    pytest.param(a_pod(ephemeralContainers=[a_container("debug")]), a_record(ran("web")), ["start debug 0"],
                 id="an ephemeral container"),
    pytest.param(a_pod(ephemeralContainers=[a_container("debug")]), a_record(ran("web"), ran("debug", "exited")), [],
                 id="... once only"),
    pytest.param(a_pod(a_container("web", image="web:2")), a_record(ran("web")), ["kill web changed", "start web 1"],
                 id="a changed image"),
    pytest.param(a_pod(a_container("web", restartPolicyRules=[{"action": "Restart", "exitCodes": {
        "operator": "In", "values": [42]}}]), restartPolicy="Never"), a_record(ran("web", "exited", code=42)),
        ["start web 1"], id="a container's own rule"),
])
def test_next_step(pod: dict[str, Any], record: PodRecord, steps: list[str]) -> None:
    assert decided(pod, record) == steps


@pytest.mark.parametrize(("verdict", "policy", "steps"), [
    (Verdict(live=False), "Always", ["kill web liveness", "start web 1"]),
    (Verdict(started=False, startup_failed=True), "Always", ["kill web startup", "start web 1"]),
    (Verdict(live=False), "Never", ["kill web liveness"]),
    (Verdict(ready=False), "Always", []),
    (Verdict(started=False), "Always", []),
])
def test_probes_condemn(verdict: Verdict, policy: str, steps: list[str]) -> None:
    assert decided(a_pod(restartPolicy=policy), a_record(ran("web")), {"web": verdict}) == steps


@pytest.mark.parametrize(("row", "attempt"), [
    ({"restartCount": 0, "state": {"waiting": {}}}, 0), ({"restartCount": 2, "state": {"waiting": {}}}, 2),
    ({"restartCount": 2, "state": {"running": {}}}, 3),
])
def test_a_node_that_lost_its_memory_counts_on_from_what_the_api_knows(row: dict[str, Any], attempt: int) -> None:
    pod = a_pod(status={"containerStatuses": [{"name": "web", **row}]})
    assert decided(pod, a_record()) == [f"start web {attempt}"]


def test_a_sidecar_that_has_not_started_holds_up_the_rest() -> None:
    assert decided(a_pod(**WITH_SIDECAR), a_record(ran("proxy")), {"proxy": Verdict(started=False)}) == []


def test_crashes_wait_longer_and_longer() -> None:
    pod, backoff = a_pod(), Backoff(10, 300)
    key = backoff_key(pod, pod["spec"]["containers"][0])
    end, waits = 1000.0, []
    for attempt in range(8):
        record = a_record(ran("web", "exited", code=1, attempt=attempt, at=end - 1, ended=end))
        plan = decide(pod, record, lambda _: Verdict(), backoff, end)
        if plan.held:
            waits.append(plan.held[0].until - end)
            assert decided(pod, record, backoff=backoff, now=plan.held[0].until) == [f"start web {attempt + 1}"]
        backoff.next(key, end)
        end += (waits[-1] if waits else 0) + 1
    assert waits == [10, 20, 40, 80, 160, 300, 300]


def test_a_long_quiet_run_forgets_the_crashes() -> None:
    pod, backoff = a_pod(), Backoff(10, 300)
    for _ in range(6):
        backoff.next(backoff_key(pod, pod["spec"]["containers"][0]), 1000.0)
    record = a_record(ran("web", "exited", code=1, at=1000, ended=1601))
    assert decided(pod, record, backoff=backoff, now=1601) == ["start web 1"]


def test_a_changed_container_starts_at_once() -> None:
    pod, backoff = a_pod(), Backoff(10, 300)
    backoff.next(backoff_key(pod, pod["spec"]["containers"][0]), 199.0)
    changed = a_pod(a_container("web", image="web:2"))
    assert decided(changed, a_record(ran("web", "exited", code=1, ended=199)), backoff=backoff) == ["start web 1"]
    assert decided(pod, a_record(ran("web", "exited", code=1, ended=199)), backoff=backoff) == ["hold web until 209"]
