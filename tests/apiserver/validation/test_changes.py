"""What may change in a Pod, and what a kubelet may say of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.apiserver.validation.cases import PODS, a_pod, texts

Object = dict[str, Any]
MAY_NOT = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
NODES = "requiredDuringSchedulingIgnoredDuringExecution"
TERMS = f"spec.affinity.nodeAffinity.{NODES}.nodeSelectorTerms"
MIRROR = {"annotations": {"kubernetes.io/config.mirror": "x"}}
ARMOR = "container.apparmor.security.beta.kubernetes.io/c"


def change(old: Object, part: str = "", *, metadata: Object | None = None, status: Object | None = None,
           **spec: Any) -> list[str]:
    """What is said of a Pod that is written again with parts of its spec replaced (None: left out)."""
    new = copy.deepcopy(old)
    new["metadata"] |= metadata or {}
    new["spec"] = {name: value for name, value in (new["spec"] | spec).items() if value is not None}
    if status is not None:
        new["status"] = status
    if part == "status":
        return texts(PODS.validate_status(new, old))
    return texts(PODS.validate_part(part, new, old) if part else PODS.validate_update(new, old))


def affine(*terms: list[str]) -> Object:
    return {"nodeAffinity": {NODES: {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": key, "operator": "Exists"} for key in term]} for term in terms]}}}


def box(**changes: Any) -> list[Object]:
    return [{**a_pod()["spec"]["containers"][0], **changes}]


@pytest.mark.parametrize("found", [
    change(a_pod()),
    change(a_pod(), containers=box(image="other")),
    change(a_pod(), activeDeadlineSeconds=5),
    change(a_pod(), hostNetwork=False, priorityClassName="", nodeSelector={}, hostAliases=[]),
    change(a_pod(activeDeadlineSeconds=9), activeDeadlineSeconds=5),
    change(a_pod(), tolerations=[{"key": "a", "operator": "Exists"}]),
    change(a_pod(tolerations=[{"key": "a", "effect": "NoExecute"}]),
           tolerations=[{"key": "a", "effect": "NoExecute", "tolerationSeconds": 3}]),
    change(a_pod(terminationGracePeriodSeconds=-1), terminationGracePeriodSeconds=1),
    change(a_pod(schedulingGates=[{"name": "a"}, {"name": "b"}]), schedulingGates=[{"name": "b"}]),
    change(a_pod(schedulingGates=[{"name": "a"}]), nodeSelector={"a": "b"}),
    change(a_pod(schedulingGates=[{"name": "a"}]), affinity=affine(["a"])),
    change(a_pod(schedulingGates=[{"name": "a"}], affinity=affine(["a"], ["b"])), affinity=affine(["a", "c"], ["b"])),
])
def test_allowed(found: list[str]) -> None:
    assert found == []


@pytest.mark.parametrize(("found", "wanted"), [
    (change(a_pod(), containers=[]), ["spec.containers: Required value",
                                      "spec.containers: Forbidden: pod updates may not add or remove containers"]),
    (change(a_pod(), initContainers=box(name="i")),
     ["spec.initContainers: Forbidden: pod updates may not add or remove containers"]),
    (change(a_pod(activeDeadlineSeconds=5), activeDeadlineSeconds=6),
     ["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"]),
    (change(a_pod(tolerations=[{"key": "a"}]), tolerations=[{"key": "b"}]), [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]),
    (change(a_pod(schedulingGates=[{"name": "a"}]), schedulingGates=[{"name": "b"}]), [
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'"]),
    (change(a_pod(schedulingGates=[{"name": "a"}], nodeSelector={"a": "b"}), nodeSelector={"c": "d"}), [
        ('spec.nodeSelector: Invalid value: {"c":"d"}: only additions to spec.nodeSelector are allowed (no mutations or '
        "deletions)")]),
    (change(a_pod(), metadata={"annotations": {ARMOR: "unconfined"}}),
     [f"metadata.annotations[{ARMOR}]: Forbidden: may not add AppArmor annotations"]),
    (change(a_pod({"annotations": {ARMOR: "unconfined"}}), metadata={"annotations": {}}),
     [f"metadata.annotations[{ARMOR}]: Forbidden: may not remove or update AppArmor annotations"]),
    (change(a_pod(MIRROR, nodeName="n"), metadata={"annotations": {}}), [
        "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation"]),
])
def test_refused(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


@pytest.mark.parametrize("found", [
    change(a_pod(), hostNetwork=True),
    change(a_pod(), hostUsers=False),
    change(a_pod(), dnsConfig={}),
    change(a_pod(), nodeName="n"),
    change(a_pod(), containers=box(command=["x"])),
    change(a_pod(), nodeSelector={"a": "b"}),
    change(a_pod(), affinity=affine(["a"])),
    change(a_pod(), terminationGracePeriodSeconds=1),
])
def test_all_else_stays(found: list[str]) -> None:
    [only] = found
    assert only.startswith(MAY_NOT)


@pytest.mark.parametrize(("terms", "wanted"), [
    ((["a"],), f"{TERMS}: Invalid value: "),
    ((["b"], ["b"]), f"{TERMS}[0]: Invalid value: "),
])
def test_gated_pods_only_ask_for_more(terms: tuple[list[str], ...], wanted: str) -> None:
    [found] = change(a_pod(schedulingGates=[{"name": "a"}], affinity=affine(["a"], ["b"])), affinity=affine(*terms))
    assert found.startswith(wanted)


def test_a_deadline_does_not_go_away() -> None:
    assert change(a_pod(activeDeadlineSeconds=5), activeDeadlineSeconds=None)[0] == (
        'spec.activeDeadlineSeconds: Invalid value: "null": must not update from a positive integer to nil value')


DEBUGGER = {"name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
            "terminationMessagePath": "/dev/termination-log", "resources": {}}


def with_debugger(metadata: Object | None = None) -> Object:
    pod = a_pod(metadata, nodeName="n")
    pod["spec"]["ephemeralContainers"] = [DEBUGGER]
    return pod


@pytest.mark.parametrize(("found", "wanted"), [
    (change(a_pod(), "ephemeralcontainers", ephemeralContainers=[DEBUGGER]), []),
    (change(a_pod(), "ephemeralcontainers", ephemeralContainers=[{**DEBUGGER, "name": "c"}]),
     ['spec.ephemeralContainers[0].name: Duplicate value: "c"']),
    (change(a_pod(), "ephemeralcontainers", ephemeralContainers=[{**DEBUGGER, "targetContainerName": "x"}]),
     ['spec.ephemeralContainers[0].targetContainerName: Not found: "x"']),
    (change(with_debugger(), "ephemeralcontainers", ephemeralContainers=[]),
     ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be removed\n']),
    (change(with_debugger(), "ephemeralcontainers", ephemeralContainers=[{**DEBUGGER, "image": "j"}]), [
        ('spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be changed\n'
        '- image: "i"\n+ image: "j"')]),
    (change(with_debugger(MIRROR), "ephemeralcontainers"),
     ["[]: Forbidden: static pods do not support ephemeral containers"]),
])
def test_ephemeral_containers(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def sized(requests: Object, limits: Object | None = None, **spec: Any) -> Object:
    return a_pod(containers=box(resources={"requests": requests, "limits": limits or {}}), **spec)


def resize(old: Object, requests: Object, limits: Object | None = None, **changes: Any) -> list[str]:
    return change(old, "resize", containers=box(resources={"requests": requests, "limits": limits or {}}, **changes))


@pytest.mark.parametrize(("found", "wanted"), [
    (resize(sized({"cpu": "1"}), {"cpu": "2"}), []),
    (resize(sized({"cpu": "1"}), {"cpu": "1", "memory": "1Gi"}), []),
    (resize(sized({"cpu": "1"}), {}), [
        'spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing',
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]),
    (resize(sized({"cpu": "1"}), {"cpu": "1"}, {"cpu": "1", "memory": "1Gi"}), []),
    (resize(sized({"cpu": "1"}, {"cpu": "1", "memory": "1Gi"}), {"cpu": "1"}, {"cpu": "1"}),
     ['spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing',
      "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
      "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"]),
    (resize(sized({"cpu": "1"}), {"cpu": "2"}, image="j"),
     ["spec: Forbidden: only cpu and memory resources are mutable"]),
    (resize(sized({"cpu": "1"}), {"cpu": "1", "ephemeral-storage": "1"}),
     ["spec: Forbidden: only cpu and memory resources are mutable"]),
    (resize(sized({"cpu": "1"}), {"cpu": "2"}, name="d"),
     ["spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize"]),
    (resize(sized({"cpu": "1"}, os={"name": "windows"}), {"cpu": "2"}), ["[]: Forbidden: windows pods cannot be resized"]),
])
def test_resize(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def ended(code: int) -> list[Object]:
    return [{"name": "c", "state": {"terminated": {"exitCode": code}}}]


def restart(code: int, **container: Any) -> list[str]:
    pod = a_pod(restartPolicy="Never", containers=box(**container))
    pod["status"]["containerStatuses"] = ended(code)
    return change(pod, "status", status={"qosClass": "BestEffort", "containerStatuses": [
        {"name": "c", "state": {"running": {}}}]})


RULES = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
AGAIN = ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]


@pytest.mark.parametrize(("found", "wanted"), [
    (restart(0), AGAIN),
    (restart(0, restartPolicy="Always"), []),
    (restart(0, restartPolicy="OnFailure"), AGAIN),
    (restart(1, restartPolicy="OnFailure"), []),
    (restart(42, restartPolicy="Never", restartPolicyRules=RULES), []),
    (restart(41, restartPolicy="Never", restartPolicyRules=RULES), AGAIN),
])
def test_ended_containers_stay_ended(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def status(**state: Any) -> list[str]:
    return change(a_pod(), "status", status={"qosClass": "BestEffort", **state})


@pytest.mark.parametrize(("found", "wanted"), [
    (status(phase="Running", podIPs=[{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]), []),
    (status(podIPs=[{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]), [
        ('status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.2"}]: may specify no more than one IP for each IP '
        "family")]),
    (status(qosClass="Guaranteed"), ['status.qosClass: Invalid value: "Guaranteed": field is immutable']),
    (status(nominatedNodeName="n"), []),
    (status(hostIP="10.0.0.1", hostIPs=[{"ip": "10.0.0.2"}]),
     ['status.hostIPs[0].ip: Invalid value: "10.0.0.2": must be equal to `hostIP`']),
    (status(resourceClaimStatuses=[{"name": "a", "resourceClaimName": "b"}]), [
        ('status.resourceClaimStatuses[0].name: Invalid value: "a": must match the name of an entry in '
        "`spec.resourceClaims`")]),
    (status(containerStatuses=[{"name": "c", "user": {"linux": {"uid": -1, "gid": 0}}}]), [
        "status.containerStatuses[0].linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive"]),
    (status(observedGeneration=-1), ["status.observedGeneration: Invalid value: -1: must be a non-negative integer"]),
])
def test_status(found: list[str], wanted: list[str]) -> None:
    assert found == wanted
