"""What Go does not write out is not kept, what it does is, and what it always writes is there."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netlab.api import schema
from netlab.apiserver import always, zeros
from tests.apiserver.conftest import Client


def kept(api_version: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    shape = schema.table().kind(api_version, kind)
    assert shape is not None
    before = copy.deepcopy(obj)
    made = zeros.left_out(obj, shape)
    assert obj == before  # parts of it may be somebody else's
    return made


@pytest.mark.parametrize(("api_version", "kind", "given", "wanted"), [
    ("apps/v1", "Deployment", {"spec": {"paused": False, "minReadySeconds": 0, "replicas": 0}}, {"spec": {"replicas": 0}}),
    ("v1", "Service", {"spec": {"selector": {}, "externalIPs": [], "ports": [{"port": 0, "protocol": ""}]}},
     {"spec": {"ports": [{"port": 0}]}}),
    ("v1", "Pod", {"spec": {"hostNetwork": False, "volumes": [{"name": "", "emptyDir": {}}], "securityContext": {},
                            "automountServiceAccountToken": False, "containers": [{"name": "c", "resources": {}, "env": [
                                {"name": "A", "value": ""}]}]}},
     {"spec": {"volumes": [{"name": "", "emptyDir": {}}], "securityContext": {}, "automountServiceAccountToken": False,
               "containers": [{"name": "c", "resources": {}, "env": [{"name": "A"}]}]}}),
    ("v1", "ConfigMap", {"data": {}, "immutable": False}, {"immutable": False}),
    ("v1", "ConfigMap", {"data": {"a": ""}}, {"data": {"a": ""}}),
    ("rbac.authorization.k8s.io/v1", "Role", {"rules": []}, {"rules": []}),
    ("networking.k8s.io/v1", "NetworkPolicy", {"spec": {"podSelector": {"matchLabels": {}}, "ingress": [{"ports": []}]}},
     {"spec": {"podSelector": {}, "ingress": [{}]}}),
    ("apiregistration.k8s.io/v1", "APIService", {"spec": {"caBundle": ""}}, {"spec": {}}),
    ("v1", "ResourceQuota", {"spec": {"hard": {"a": 1, "b": "1000m", "c": 0.5, "d": "1024Ki", "e": "1e3", "f": 0, "g": "0", "h": "1.5Gi"}}},
     {"spec": {"hard": {"a": "1", "b": "1", "c": "500m", "d": "1Mi", "e": "1e3", "f": "0", "g": "0", "h": "1536Mi"}}}),
    ("v1", "Pod", {"spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": 1000}}], "overhead": {"cpu": 0}}},
     {"spec": {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1k"}}], "overhead": {"cpu": "0"}}}),
])
def test_what_is_left(api_version: str, kind: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert kept(api_version, kind, given) == wanted


def test_an_object_without_zeros_is_itself() -> None:
    obj = {"spec": {"containers": [{"name": "c", "image": "i"}], "nodeSelector": {"a": ""}}}
    assert kept("v1", "Pod", obj) is obj


def whole(api_version: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    shape = schema.table().kind(api_version, kind)
    assert shape is not None
    before = copy.deepcopy(obj)
    made = always.filled(obj, shape)
    assert obj == before
    assert always.filled(made, shape) is made
    return made


@pytest.mark.parametrize(("api_version", "kind", "given", "wanted"), [
    ("v1", "Event", {"reason": "r", "involvedObject": {"name": "p"}, "type": "Normal"},
     {"reason": "r", "involvedObject": {"name": "p"}, "type": "Normal", "eventTime": None, "firstTimestamp": None,
      "lastTimestamp": None, "source": {}, "reportingComponent": "", "reportingInstance": ""}),
    ("events.k8s.io/v1", "Event", {"reason": "r"}, {
        "reason": "r", "eventTime": None, "deprecatedFirstTimestamp": None, "deprecatedLastTimestamp": None,
        "deprecatedSource": {}, "regarding": {}}),
    ("apps/v1", "ControllerRevision", {"data": {}}, {"data": {}, "revision": 0}),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", {}, {"rules": None}),
    ("storage.k8s.io/v1", "CSINode", {"spec": {}}, {"spec": {"drivers": None}}),
    ("discovery.k8s.io/v1", "EndpointSlice", {"addressType": "IPv4", "endpoints": [], "ports": []},
     {"addressType": "IPv4", "endpoints": None, "ports": None}),
    ("storage.k8s.io/v1", "CSINode", {"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}},
     {"spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": None}]}}),
    ("v1", "PersistentVolumeClaim", {"spec": {"dataSource": {"kind": "K", "name": "n"}}, "status": {}},
     {"spec": {"dataSource": {"kind": "K", "name": "n", "apiGroup": None}, "resources": {}}, "status": {}}),
    ("v1", "Pod", {"spec": {"containers": [{"name": "c", "resources": {}}], "volumes": [{"name": "v", "projected": {}}]},
                   "status": {"conditions": [{"type": "Ready", "status": "True"}],
                              "containerStatuses": [{"state": {"running": {}}}]}},
     {"spec": {"containers": [{"name": "c", "resources": {}}], "volumes": [{"name": "v", "projected": {"sources": None}}]},
      "status": {"conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": None}],
                 "containerStatuses": [{"state": {"running": {"startedAt": None}}, "lastState": {}, "name": "", "ready": False,
                                        "restartCount": 0, "image": "", "imageID": ""}]}}),
    ("v1", "Node", {"spec": {}}, {"spec": {}, "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {
        "architecture": "", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
        "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}}}),
    ("v1", "ConfigMap", {"data": {"a": ""}}, {"data": {"a": ""}}),
])
def test_what_is_always_written(api_version: str, kind: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert whole(api_version, kind, given) == wanted


def test_what_nobody_has_said_is_stored_and_lives_on(client: Client, ns: str) -> None:
    """A role without rules can be read, changed in every way, and used."""
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}/roles"
    made = client.post(path, {"metadata": {"name": "empty"}})
    assert made.json["rules"] is None
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    for kind in ("merge", "strategic", "apply"):
        assert client.put(f"{path}/empty", {"metadata": {"name": "empty"}}).json["rules"] is None
        body = {"rules": [rule]} | ({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"} if kind == "apply" else {})
        query = "?fieldManager=me&force=true" if kind == "apply" else ""
        assert client.patch(f"{path}/empty{query}", body, kind).json["rules"] == [rule], kind
    assert client.patch(f"{path}/empty", [{"op": "remove", "path": "/rules"}], "json").json["rules"] is None
    assert b"empty" in client.get(path, Accept="application/vnd.kubernetes.protobuf").body


def test_an_event_is_the_same_in_both_versions(client: Client, ns: str) -> None:
    path = f"/namespaces/{ns}/events/e"
    made = client.post(f"/api/v1/namespaces/{ns}/events", {
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": ns}, "reason": "r"}).json
    assert made["source"] == {}
    assert made["eventTime"] is None
    assert made["reportingComponent"] == ""
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:involvedObject": {}, "f:reason": {}}
    new = client.get(f"/apis/events.k8s.io/v1{path}").json
    assert {"deprecatedSource", "deprecatedFirstTimestamp", "regarding", "eventTime"} <= set(new)
    assert not {"reportingController", "reportingInstance"} & set(new)
    assert client.get(f"/api/v1{path}").json["reportingInstance"] == ""
