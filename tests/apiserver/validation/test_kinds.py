"""The other kinds of core/v1: nodes, limits, quotas, controllers, Secrets, namespaces, Events."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from netlab.api import kinds
from netlab.apiserver.events import NewEventStrategy
from netlab.apiserver.strategies import apps, core, policy
from netlab.apiserver.validation import names
from tests.apiserver.validation.cases import bad, texts

Object = dict[str, Any]
NODES = core.NodeStrategy(kinds.resource("nodes"))
SPACES = core.NamespaceStrategy(kinds.resource("namespaces"))
MAPS = core.ConfigMapStrategy(kinds.resource("configmaps"))
SECRETS = core.SecretStrategy(kinds.resource("secrets"))
EVENTS = core.EventStrategy(kinds.resource("events"))
NEW_EVENTS = NewEventStrategy(kinds.resource("events.events.k8s.io"))
LIMITS = policy.LimitRangeStrategy(kinds.resource("limitranges"))
QUOTAS = policy.ResourceQuotaStrategy(kinds.resource("resourcequotas"))
CONTROLLERS = apps.ReplicationControllerStrategy(kinds.resource("replicationcontrollers"))


def said(strategy: Any, metadata: Object | None = None, **parts: Any) -> list[str]:
    obj = {"metadata": {"name": "x", "namespace": "n", **(metadata or {})}, **copy.deepcopy(parts)}
    if strategy in (NODES, SPACES):
        del obj["metadata"]["namespace"]
    strategy.default(obj)
    return texts(strategy.validate(obj))


def node(status: Object | None = None, **spec: Any) -> list[str]:
    return said(NODES, spec=spec, status=status or {})


def node_update(old: Object, new: Object) -> list[str]:
    return texts(NODES.validate_update(*({"metadata": {"name": "x"}, "spec": spec} for spec in (new, old))))


@pytest.mark.parametrize(("found", "wanted"), [
    (node(podCIDRs=["10.0.0.0/24", "fd00::/64"], taints=[{"key": "a", "effect": "NoSchedule"}]), []),
    (node(taints=[{"key": "a b", "value": "-", "effect": "x"}]), [
        *bad("metadata.taints[0].key", "a b", names.qualified_name),
        *bad("metadata.taints[0].value", "-", names.label_value),
        ('metadata.taints[0].effect: Unsupported value: "x": supported values: "NoSchedule", "PreferNoSchedule", '
        '"NoExecute"')]),
    (node(taints=[{"key": "a", "effect": ""}]), ["metadata.taints[0].effect: Required value"]),
    (node(taints=[{"key": "a", "effect": "NoSchedule"}, {"key": "a", "value": "b", "effect": "NoSchedule"}]), [
        ('metadata.taints[1]: Duplicate value: {"Key":"a","Value":"b","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by '
        "key and effect pair")]),
    (node(podCIDRs=["10.0.0.0/24", "10.0.1.0/24"]), [
        'spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family']),
    (node(podCIDRs=["x"]), bad("spec.podCIDRs[0]", "x", names.cidr)),
    (node({"capacity": {"cpu": "-1", "example.com/a": "1500m"}}), [
        'status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0',
        'status.capacity.example.com/a: Invalid value: "1500m": must be an integer']),
    (node_update({"providerID": "a"}, {"providerID": "b"}), [
        'spec.providerID: Forbidden: node updates may not change providerID except from "" to valid']),
    (node_update({}, {"providerID": "b", "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}), []),
    (node_update({"podCIDRs": ["10.0.0.0/24"]}, {"podCIDRs": ["10.0.1.0/24"]}), [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid']),
])
def test_nodes(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def limits(**item: Any) -> list[str]:
    return [text.removeprefix("spec.limits[0].") for text in said(LIMITS, spec={"limits": [{"type": "Container", **item}]})]


@pytest.mark.parametrize(("found", "wanted"), [
    (limits(max={"cpu": "2"}, min={"cpu": "1"}, default={"cpu": "2"}, defaultRequest={"cpu": "1"},
            maxLimitRequestRatio={"cpu": "2"}), []),
    (limits(type="x"), ['type: Invalid value: "x": must be a standard limit type or fully qualified']),
    (limits(type="Pod", default={"cpu": "1"}, defaultRequest={"cpu": "1"}), [
        "default: Forbidden: may not be specified when `type` is 'Pod'",
        "defaultRequest: Forbidden: may not be specified when `type` is 'Pod'"]),
    (limits(type="PersistentVolumeClaim"), [
        "limits: Required value: either minimum or maximum storage value is required, but neither was provided"]),
    (limits(max={"cpu": "1"}, min={"cpu": "2"}, default={"cpu": "1"}, defaultRequest={"cpu": "1"}), [
        'min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        'defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1',
        'default[cpu]: Invalid value: "2": min value 2 is greater than default value 1']),
    (limits(maxLimitRequestRatio={"cpu": "500m"}), [
        'maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1']),
    (limits(max={"cpu": "2"}, min={"cpu": "1"}, maxLimitRequestRatio={"cpu": "3"}), [
        'maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000']),
    (said(LIMITS, spec={"limits": [{"type": "Pod"}, {"type": "Pod"}]}), ['spec.limits[1].type: Duplicate value: "Pod"']),
])
def test_limit_ranges(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def quota(*terms: Object, **spec: Any) -> list[str]:
    whole = {**spec, **({"scopeSelector": {"matchExpressions": list(terms)}} if terms else {})}
    return [text.removeprefix("spec.") for text in said(QUOTAS, spec=whole)]


@pytest.mark.parametrize(("found", "wanted"), [
    (quota(hard={"pods": "1", "requests.cpu": "1", "requests.nvidia.com/gpu": "1", "count/a.b": "1",
                 "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}), []),
    (quota(hard={"pods": "-1"}), ['hard[pods]: Invalid value: "-1": must be greater than or equal to 0']),
    (quota(hard={"services": "500m"}), ['hard[services]: Invalid value: "500m": must be an integer']),
    (quota(hard={"gpu": "1"}), ['hard[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified',
                                'hard[gpu]: Invalid value: "gpu": must be a standard resource for quota']),
    (quota(hard={"services": "1"}, scopes=["BestEffort"]),
     ['scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource']),
    (quota(hard={"pods": "1"}, scopes=["x"]), ['scopes: Invalid value: ["x"]: unsupported scope']),
    (quota(hard={"pods": "1"}, scopes=["BestEffort", "NotBestEffort"]),
     ['scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes']),
    (quota({"scopeName": "PriorityClass", "operator": "In"}), [
        ("scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or "
        "'NotIn' for scope selector")]),
    (quota({"scopeName": "PriorityClass", "operator": "x"}),
     ['scopeSelector.matchExpressions.operator: Invalid value: "x": not a valid selector operator']),
    (quota({"scopeName": "BestEffort", "operator": "DoesNotExist"}), [
        ("scopeSelector.matchExpressions.operator: Invalid value: \"DoesNotExist\": must be 'Exists' when scope is any of "
        "ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
        "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity")]),
])
def test_quotas(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


@pytest.mark.parametrize(("found", "wanted"), [
    (said(CONTROLLERS, spec={"template": TEMPLATE}), []),
    (said(CONTROLLERS, spec={"template": TEMPLATE, "selector": {"a": "c"}, "replicas": -1, "minReadySeconds": -1}), [
        "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`']),
    (said(CONTROLLERS, spec={"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never",
                                                                "activeDeadlineSeconds": 1}}}), [
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ("spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not "
        "Supported")]),
    (said(CONTROLLERS, spec={"selector": {"a": "b"}}), ["spec.template: Required value"]),
])
def test_replication_controllers(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(kind: str, metadata: Object | None = None, **data: str) -> list[str]:
    return said(SECRETS, metadata, type=kind, data={name.replace("_", "."): encoded(text) for name, text in data.items()})


@pytest.mark.parametrize(("found", "wanted"), [
    (secret("Opaque", a="b"), []),
    (said(SECRETS, data={"a b": "", "..": ""}), [*bad("data[a b]", "a b", names.config_key),
                                                 *bad("data[..]", "..", names.config_key)]),
    (secret("kubernetes.io/service-account-token"),
     ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]),
    (secret("kubernetes.io/tls", tls_crt="a"), ["data[tls.key]: Required value"]),
    (secret("kubernetes.io/basic-auth"), ["data[username]: Required value", "data[password]: Required value"]),
    (secret("kubernetes.io/basic-auth", username="u"), []),
    (said(SECRETS, type="kubernetes.io/ssh-auth", data={"ssh-privatekey": ""}),
     ["data[ssh-privatekey]: Required value"]),
    (secret("kubernetes.io/dockerconfigjson"), ["data[.dockerconfigjson]: Required value"]),
    (secret("kubernetes.io/dockerconfigjson", _dockerconfigjson="{}"), []),
    (secret("kubernetes.io/dockercfg", _dockercfg="x"), [
        ("data[.dockercfg]: Invalid value: \"<secret contents redacted>\": invalid character 'x' looking for beginning of "
        "value")]),
    (secret("Opaque", a="b" * (1 << 20) + "c"), ["data: Too long: may not be more than 1048576 bytes"]),
    (said(MAPS, data={"a": "b"}, binaryData={"a": "Yg=="}),
     ['data[a]: Invalid value: "a": duplicate of key present in binaryData']),
    (said(MAPS, data={"a": "b" * ((1 << 20) + 1)}), ["[]: Too long: may not be more than 1048576 bytes"]),
    (said(SPACES, spec={"finalizers": ["a"]}), [
        'spec.finalizers: Invalid value: "a": name is neither a standard finalizer name nor is it fully qualified']),
])
def test_data_and_namespaces(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


@pytest.mark.parametrize(("strategy", "old", "new", "wanted"), [
    (SECRETS, {"type": "a"}, {"type": "b"}, ['type: Invalid value: "b": field is immutable']),
    (SECRETS, {"immutable": True, "data": {"a": ""}}, {"immutable": True}, [
        "data: Forbidden: field is immutable when `immutable` is set"]),
    (MAPS, {"immutable": True}, {"immutable": False}, [
        "immutable: Forbidden: field is immutable when `immutable` is set"]),
    (MAPS, {"immutable": True, "binaryData": {"a": "Yg=="}}, {"immutable": True, "data": {"a": "b"}}, [
        "data: Forbidden: field is immutable when `immutable` is set",
        "binaryData: Forbidden: field is immutable when `immutable` is set"]),
])
def test_changed_data(strategy: Any, old: Object, new: Object, wanted: list[str]) -> None:
    metadata = {"name": "x", "namespace": "n"}
    assert texts(strategy.validate_update({"metadata": metadata, **new}, {"metadata": metadata, **old})) == wanted


NOW = "2026-01-01T00:00:00.000000Z"
NEW_EVENT = {"regarding": {"namespace": "n"}, "eventTime": NOW, "reportingController": "a/b", "reportingInstance": "i",
             "action": "A", "reason": "R", "type": "Normal"}


@pytest.mark.parametrize(("found", "wanted"), [
    (said(EVENTS, {"name": "A B"}, involvedObject={"namespace": "n"}), []),
    (said(EVENTS, involvedObject={"namespace": "m"}),
     ['involvedObject.namespace: Invalid value: "m": does not match event.namespace']),
    (said(EVENTS, {"namespace": "default"}, involvedObject={}), []),
    (said(EVENTS, involvedObject={"namespace": "n"}, eventTime=NOW), [
        "reportingController: Required value", *bad("reportingController", "", names.qualified_name),
        "reportingInstance: Required value", "action: Required value", "reason: Required value"]),
    (said(NEW_EVENTS, **NEW_EVENT), []),
    (said(NEW_EVENTS, **{**NEW_EVENT, "type": "x", "deprecatedCount": 1, "series": {"count": 1}}), [
        'series.count: Invalid value: "": should be at least 2', "series.lastObservedTime: Required value",
        'type: Invalid value: "": has invalid value: x', 'count: Invalid value: "": needs to be unset']),
    (said(NEW_EVENTS, **{**NEW_EVENT, "note": "n" * 1025, "action": "a" * 129}), [
        'action: Invalid value: "": can have at most 128 characters',
        'message: Invalid value: "": can have at most 1024 characters']),
])
def test_events(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


@pytest.mark.parametrize(("metadata", "wanted"), [
    ({"ownerReferences": [{"apiVersion": "a/", "kind": "", "name": "n", "uid": ""}]}, [
        'metadata.ownerReferences.apiVersion: Invalid value: "a/": version must not be empty',
        'metadata.ownerReferences.kind: Invalid value: "": kind must not be empty',
        'metadata.ownerReferences.uid: Invalid value: "": uid must not be empty']),
    ({"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "n", "uid": "u"}]}, [
        ('metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"n","uid":"u"}: /v1, Kind=Event is '
        "disallowed from being an owner")]),
    ({"finalizers": ["orphan", "foregroundDeletion"]}, [
        ('metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot '
        "be both set")]),
    ({"finalizers": ["a"]}, [
        'metadata.finalizers[0]: Invalid value: "a": name is neither a standard finalizer name nor is it fully qualified']),
])
def test_metadata(metadata: Object, wanted: list[str]) -> None:
    assert said(MAPS, metadata) == wanted


def test_an_accounts_secrets_are_names() -> None:
    account: Object = {"metadata": {}, "secrets": [{"kind": "Secret", "name": "s", "namespace": "n"}]}
    core.ServiceAccountStrategy(kinds.resource("serviceaccounts")).prepare_create(account)
    assert account["secrets"] == [{"name": "s"}]


def test_amounts_are_no_finer_than_thousandths() -> None:
    limit: Object = {"metadata": {}, "spec": {"limits": [{"type": "Pod", "max": {"cpu": "0.1234567", "memory": "1500m"}}]}}
    LIMITS.default(limit)
    assert limit["spec"]["limits"][0]["max"] == {"cpu": "124m", "memory": "1500m"}
    hard: Object = {"metadata": {}, "spec": {"hard": {"cpu": "1n"}}}
    QUOTAS.default(hard)
    assert hard["spec"]["hard"] == {"cpu": "1m"}
