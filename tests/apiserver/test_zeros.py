"""What Go does not write out is not kept, and what it does is."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netlab.api import schema
from netlab.apiserver import zeros


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
])
def test_what_is_left(api_version: str, kind: str, given: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert kept(api_version, kind, given) == wanted


def test_an_object_without_zeros_is_itself() -> None:
    obj = {"spec": {"containers": [{"name": "c", "image": "i"}], "nodeSelector": {"a": ""}}}
    assert kept("v1", "Pod", obj) is obj
