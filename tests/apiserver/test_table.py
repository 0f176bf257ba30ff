"""The cells of `kubectl get`, kind by kind."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.api import kinds
from netlab.api.kinds import RESOURCES
from netlab.apiserver import table
from netlab.apiserver.table.columns import human_duration

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def cells(resource: str, obj: dict[str, Any], *, wide: bool = False) -> dict[str, Any]:
    """Return the cells by column name; the narrow ones unless `wide`."""
    columns = table.columns(kinds.resource(resource))
    obj = {"metadata": {"name": "x", "creationTimestamp": "2025-12-31T23:59:00Z"}, **obj}
    found = columns.cells(obj, NOW)
    assert len(found) == len(columns.definitions)
    return {column["name"]: cell for column, cell in zip(columns.definitions, found, strict=True)
            if wide or column["priority"] == 0}


@pytest.mark.parametrize("row", RESOURCES, ids=lambda row: row.group_resource)
def test_an_empty_object_has_cells(row: kinds.Resource) -> None:
    columns = table.columns(row)
    assert len(columns.cells({"metadata": {"name": "x"}}, NOW)) == len(columns.definitions)
    assert sum(column["format"] == "name" for column in columns.definitions) == 1


@pytest.mark.parametrize(("seconds", "text"), [
    (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (303, "5m3s"), (600, "10m"), (10799, "179m"),
    (10800, "3h"), (12000, "3h20m"), (28800, "8h"), (172799, "47h"), (172800, "2d"), (180000, "2d2h"), (691200, "8d"),
    (63071999, "729d"), (63072000, "2y"), (66000000, "2y33d"), (252288000, "8y"),
])
def test_durations(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def container(ready: bool = True, restarts: int = 0, last: str = "", **state: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": "c", "ready": ready, "restartCount": restarts, "state": state or {"running": {}}}
    if last:
        found["lastState"] = {"terminated": {"finishedAt": last, "exitCode": 1}}
    return found


@pytest.mark.parametrize(("spec", "status", "deleting", "wanted"), [
    pytest.param({}, {"phase": "Pending"}, False, ("0/1", "Pending", "0"), id="pending"),
    pytest.param({}, {"phase": "Running", "containerStatuses": [container()]}, False, ("1/1", "Running", "0"), id="running"),
    pytest.param({}, {"phase": "Running", "containerStatuses": [container()]}, True, ("1/1", "Terminating", "0"), id="going"),
    pytest.param({}, {"phase": "Succeeded", "containerStatuses": [container(False, terminated={"reason": "Completed"})]},
                 False, ("0/1", "Completed", "0"), id="completed"),
    pytest.param({}, {"phase": "Running", "containerStatuses": [
        container(False, 3, "2025-12-31T23:58:00Z", waiting={"reason": "CrashLoopBackOff"})]},
        False, ("0/1", "CrashLoopBackOff", "3 (2m ago)"), id="crash loop"),
    pytest.param({}, {"phase": "Pending", "containerStatuses": [container(False, waiting={"reason": "ErrImagePull"})]},
                 False, ("0/1", "ErrImagePull", "0"), id="no image"),
    pytest.param({}, {"phase": "Failed", "containerStatuses": [container(False, terminated={"exitCode": 7})]},
                 False, ("0/1", "ExitCode:7", "0"), id="exit code"),
    pytest.param({}, {"phase": "Failed", "reason": "Evicted"}, False, ("0/1", "Evicted", "0"), id="evicted"),
    pytest.param({"initContainers": [{"name": "i"}, {"name": "j"}]}, {"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "state": {"running": {}}}]}, False, ("0/1", "Init:0/2", "0"), id="init"),
    pytest.param({"initContainers": [{"name": "i"}]}, {"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}, "restartCount": 2}]},
        False, ("0/1", "Init:Error", "2"), id="init failed"),
    pytest.param({"initContainers": [{"name": "i", "restartPolicy": "Always"}]}, {
        "phase": "Running", "initContainerStatuses": [{"name": "i", "started": True, "ready": True, "state": {"running": {}}}],
        "containerStatuses": [container()]}, False, ("2/2", "Running", "0"), id="sidecar"),
    pytest.param({}, {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
                 False, ("0/1", "SchedulingGated", "0"), id="gated"),
])
def test_pods(spec: dict[str, Any], status: dict[str, Any], deleting: bool, wanted: tuple[str, str, str]) -> None:
    metadata = {"name": "x", "creationTimestamp": "2025-12-31T23:59:00Z"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:30Z"
    found = cells("pods", {"metadata": metadata, "spec": {"containers": [{"name": "c"}], **spec}, "status": status})
    assert (found["Ready"], found["Status"], found["Restarts"]) == wanted
    assert found["Age"] == "60s"


def test_pods_wide() -> None:
    found = cells("pods", {"spec": {"nodeName": "n1"}, "status": {"podIPs": [{"ip": "10.244.1.2"}]}}, wide=True)
    assert (found["IP"], found["Node"], found["Nominated Node"], found["Readiness Gates"]) == (
        "10.244.1.2", "n1", "<none>", "<none>")


@pytest.mark.parametrize(("spec", "status", "wanted"), [
    ({"type": "ClusterIP", "clusterIPs": ["10.96.0.5"], "ports": [{"port": 80, "protocol": "TCP"}]}, {},
     ("ClusterIP", "10.96.0.5", "<none>", "80/TCP")),
    ({"type": "ClusterIP", "clusterIPs": ["None"]}, {}, ("ClusterIP", "None", "<none>", "<none>")),
    ({"type": "NodePort", "clusterIPs": ["10.96.0.5"], "externalIPs": ["1.2.3.4"],
      "ports": [{"port": 53, "nodePort": 30053, "protocol": "UDP"}, {"port": 80, "protocol": "TCP"}]}, {},
     ("NodePort", "10.96.0.5", "1.2.3.4", "53:30053/UDP,80/TCP")),
    ({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"]}, {}, ("LoadBalancer", "10.96.0.5", "<pending>", "<none>")),
    ({"type": "LoadBalancer", "clusterIPs": ["10.96.0.5"]}, {"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}]}},
     ("LoadBalancer", "10.96.0.5", "9.9.9.9", "<none>")),
    ({"type": "ExternalName", "externalName": "x.org"}, {}, ("ExternalName", "<none>", "x.org", "<none>")),
])
def test_services(spec: dict[str, Any], status: dict[str, Any], wanted: tuple[str, ...]) -> None:
    found = cells("services", {"spec": spec, "status": status})
    assert (found["Type"], found["Cluster-IP"], found["External-IP"], found["Port(s)"]) == wanted


def test_workloads() -> None:
    spec = {"replicas": 3, "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [
        {"key": "t", "operator": "In", "values": ["z", "y"]}]},
        "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}]}}}
    found = cells("deployments", {"spec": spec, "status": {"readyReplicas": 2, "updatedReplicas": 3}}, wide=True)
    assert list(found.values())[1:4] == ["2/3", 3, 0]
    assert (found["Containers"], found["Images"], found["Selector"]) == ("c,d", "i:1,j", "a=b,t in (y,z)")
    assert cells("replicasets", {"spec": spec, "status": {"replicas": 3}})["Current"] == 3
    assert cells("daemonsets", {"spec": spec, "status": {"desiredNumberScheduled": 4}})["Node Selector"] == "<none>"
    job = cells("jobs", {"spec": {"completions": 2}, "status": {"succeeded": 1, "startTime": "2025-12-31T23:59:30Z"}})
    assert (job["Status"], job["Completions"], job["Duration"]) == ("Running", "1/2", "30s")


def test_nodes() -> None:
    found = cells("nodes", {
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/a": ""}},
        "spec": {"unschedulable": True}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.0"},
            "addresses": [{"type": "InternalIP", "address": "172.18.0.3"}]}}, wide=True)
    assert (found["Status"], found["Roles"]) == ("Ready,SchedulingDisabled", "a,control-plane")
    assert (found["Internal-IP"], found["External-IP"], found["OS-Image"]) == ("172.18.0.3", "<none>", "<unknown>")
    lost = cells("nodes", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    assert lost["Status"] == "NotReady"


def test_endpoints() -> None:
    subsets = [{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(1, 6)], "ports": [{"port": 80}]}]
    assert cells("endpoints", {"subsets": subsets})["Endpoints"] == "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
    assert cells("endpoints", {})["Endpoints"] == "<none>"
    found = cells("endpointslices", {"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [
        {"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]})
    assert (found["AddressType"], found["Ports"], found["Endpoints"]) == ("IPv4", "80", "10.0.0.1,10.0.0.2")


def test_events() -> None:
    event = {"involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}, "type": "Normal",
             "reason": "Pulled", "message": " there \n", "firstTimestamp": "2025-12-31T23:50:00Z", "count": 4,
             "lastTimestamp": "2025-12-31T23:59:50Z", "source": {"component": "kubelet", "host": "n1"}}
    found = cells("events", event, wide=True)
    assert list(cells("events", event)) == ["Last Seen", "Type", "Reason", "Object", "Message"]
    assert (found["Last Seen"], found["First Seen"], found["Count"]) == ("10s", "10m", 4)
    assert (found["Object"], found["Source"], found["Message"]) == ("pod/p", "kubelet, n1", "there")
    new = {"regarding": {"kind": "Pod", "name": "p"}, "note": "n", "eventTime": "2025-12-31T23:59:55.000000Z",
           "reportingController": "scheduler", "type": "Normal", "reason": "r"}
    row = table.columns(next(row for row in RESOURCES if row.group_resource == "events.events.k8s.io"))
    assert row.cells({"metadata": {"name": "e"}, **new}, NOW)[:4] == ["5s", "Normal", "r", "pod/p"]


def test_configuration_and_storage() -> None:
    assert cells("configmaps", {"data": {"a": "b"}, "binaryData": {"c": ""}})["Data"] == 2
    assert cells("secrets", {"type": "Opaque", "data": {"a": "b"}})["Data"] == 1
    assert cells("persistentvolumeclaims", {"spec": {"volumeName": "v"}, "status": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "phase": "Bound"}})["Access Modes"] == "RWO"
    bound = cells("rolebindings", {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
        {"kind": "ServiceAccount", "name": "s", "namespace": "n"}, {"kind": "User", "name": "u"}]}, wide=True)
    assert (bound["Role"], bound["Users"], bound["ServiceAccounts"]) == ("Role/r", "u", "n/s")
