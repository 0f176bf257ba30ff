"""The Node object, and which Pods a node takes."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api import meta
from netlab.kubelet import admission, node
from netlab.kubelet.config import Config
from netlab.kubelet.machine import Machine
from netlab.kubelet.node import Health
from tests.kubelet.builders import a_container, a_pod

MACHINE = Machine(cpus=4, memory=8 << 30, disk=100 << 30, kernel="6.1", os_image="Debian", architecture="amd64",
                  boot_id="b", machine_id="0" * 32)
CONFIG = Config("node1", node_labels={"role": "x"}, taints=({"key": "k", "effect": "NoSchedule"},),
                reserved={"memory": "1Gi", "cpu": "500m"})
NOW = 1_700_000_000.0


def ready(status: dict[str, Any]) -> dict[str, Any]:
    (found,) = [c for c in status["conditions"] if c["type"] == "Ready"]
    return found


def test_what_is_registered() -> None:
    made = node.make(CONFIG, MACHINE, ("172.18.0.3", "fd00::3"), Health(NOW, ("no network",)))
    assert made["metadata"]["labels"]["kubernetes.io/hostname"] == "node1"
    assert made["metadata"]["labels"]["role"] == "x"
    assert made["spec"] == {"taints": [{"key": "k", "effect": "NoSchedule"}]}
    assert made["status"]["addresses"] == [{"type": "InternalIP", "address": "172.18.0.3"},
                                           {"type": "InternalIP", "address": "fd00::3"},
                                           {"type": "Hostname", "address": "node1"}]
    assert made["status"]["capacity"]["memory"] == "8388608Ki"
    assert made["status"]["allocatable"] == {"cpu": "3500m", "memory": "7237632Ki", "pods": "110", "hugepages-1Gi": "0",
                                             "hugepages-2Mi": "0", "ephemeral-storage": str((100 << 30) * 9 // 10)}
    assert (ready(made["status"])["status"], ready(made["status"])["message"]) == ("False", "no network")


def test_heartbeats_are_no_news_and_transitions_are() -> None:
    first = node.status(CONFIG, MACHINE, ("172.18.0.3",), {}, Health(NOW))
    others = {**first, "conditions": [{"type": "NetworkUnavailable", "status": "False"}, *first["conditions"]]}
    later = node.status(CONFIG, MACHINE, ("172.18.0.3",), others, Health(NOW + 60))
    assert not node.differs(others, later)
    assert later["conditions"][0] == {"type": "NetworkUnavailable", "status": "False"}
    assert ready(later)["lastHeartbeatTime"] == meta.timestamp(NOW + 60)
    assert ready(later)["lastTransitionTime"] == meta.timestamp(NOW)
    sick = node.status(CONFIG, MACHINE, ("172.18.0.3",), others, Health(NOW + 60, ("a", "b")))
    assert node.differs(others, sick)
    assert ready(sick)["lastTransitionTime"] == meta.timestamp(NOW + 60)
    assert ready(sick)["message"] == "[a, b]"


def test_addresses_are_written_as_a_whole() -> None:
    old = node.status(CONFIG, MACHINE, ("172.18.0.3",), {}, Health(NOW))
    new = node.status(CONFIG, MACHINE, ("172.18.0.4",), old, Health(NOW))
    assert node.patch(old, new) == {"status": {"addresses": [*new["addresses"], {"$patch": "replace"}]}}


ALLOCATABLE = {"cpu": "1", "memory": "1Gi", "pods": "3"}
HALF = a_container(resources={"requests": {"cpu": "600m", "memory": "100Mi"}})
PORT = a_container(ports=[{"containerPort": 80, "hostPort": 8080}])


@pytest.mark.parametrize(("pod", "others", "reason"), [
    (a_pod(), [], None),
    (a_pod(HALF), [a_pod()], None),
    (a_pod(HALF), [a_pod(HALF)], "OutOfcpu"),
    (a_pod(a_container(resources={"requests": {"memory": "2Gi"}})), [], "OutOfmemory"),
    (a_pod(initContainers=[a_container("i", resources={"requests": {"cpu": "2"}})]), [], "OutOfcpu"),
    (a_pod(), [a_pod()] * 3, "OutOfpods"),
    (a_pod(PORT), [a_pod(PORT)], "NodePorts"),
    (a_pod(PORT), [a_pod()], None),
    (a_pod(nodeSelector={"role": "y"}), [], "NodeAffinity"),
    (a_pod(nodeSelector={"role": "x"}), [], None),
    (a_pod(HALF, metadata={"annotations": {"kubernetes.io/config.source": "file"}}), [a_pod(HALF)], None),
])
def test_admission(pod: dict[str, Any], others: list[dict[str, Any]], reason: str | None) -> None:
    this = {"metadata": {"name": "node1", "labels": {"role": "x"}}}
    refused = admission.refuse(pod, [admission.demand(other) for other in others], this, ALLOCATABLE)
    assert (refused and refused[0]) == reason
