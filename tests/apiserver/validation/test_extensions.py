"""Kinds outside core, workloads and networks: rbac, storage, policy, autoscaling, flow control, signing, registration, definitions."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from netlab.api import kinds
from netlab.apiserver.crd import definition
from netlab.apiserver.flow.objects import LEVELS, SCHEMAS
from netlab.apiserver.strategies import certificates, cluster, policy, rbac, scaling, storage
from netlab.apiserver.validation import registration
from netlab.apiserver.validation import scaling as hpa
from tests.apiserver.validation.cases import texts

Object = dict[str, Any]
CLASS = {"provisioner": "a.b/c"}
DNS_LABEL = "a DNS-1035 label must consist of lower case alphanumeric characters or '-'"


def said(kind: type, resource: str, obj: Object) -> list[str]:
    strategy = kind(kinds.resource(resource))
    made = {"metadata": {"name": "x"}} | copy.deepcopy(obj)
    made["metadata"] |= {"namespace": "n"} if kinds.resource(resource).namespaced else {}
    strategy.default(made)
    return [text.replace('"', "'") for text in texts(strategy.validate(made))]


def topology(*rows: Object) -> list[str]:
    terms = [{"matchLabelExpressions": list(rows)}] if rows else [{}]
    return said(storage.StorageClassStrategy, "storageclasses", CLASS | {"allowedTopologies": terms})


def driver(**row: Any) -> list[str]:
    found = said(storage.CsiNodeStrategy, "csinodes", {"spec": {"drivers": [{"name": "d.io", "nodeID": "n", **row}]}})
    return [text.removeprefix("spec.drivers[0]") for text in found]


def attach(source: Object, attacher: str = "a.b", node: str = "n") -> list[str]:
    return said(storage.AttachmentStrategy, "volumeattachments", {"spec": {"attacher": attacher, "nodeName": node, "source": source}})


ONLY = {"csi": {"driver": "d.io", "volumeHandle": "h"}, "accessModes": ["ReadWriteOnce"]}


@pytest.mark.parametrize(("found", "wanted"), [
    (topology({"key": "zone", "values": ["a", "b"]}), []),
    (topology({"key": "zone", "values": ["a", "a"]}), [
        "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: 'a'"]),
    (topology({"key": "zone", "values": ["a"]}, {"key": "zone", "values": []}), [
        "allowedTopologies[0].matchLabelExpressions[1].values: Required value",
        "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: 'zone'"]),
    (topology(), ["allowedTopologies[0].matchLabelExpressions: Duplicate value: ''"]),
    (said(storage.StorageClassStrategy, "storageclasses", CLASS | {"reclaimPolicy": "Recycle", "parameters": {"": "x"}}), [
        "parameters: Invalid value: '': field can not be empty.",
        "reclaimPolicy: Unsupported value: 'Recycle': supported values: 'Delete', 'Retain'"]),
    (said(storage.DriverStrategy, "csidrivers", {"spec": {
        "volumeLifecycleModes": ["Once"], "nodeAllocatableUpdatePeriodSeconds": 9,
        "tokenRequests": [{"audience": "a", "expirationSeconds": 5}, {"audience": "a"}]}}), [
        "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
        "spec.tokenRequests[1].audience: Duplicate value: 'a'",
        "spec.volumeLifecycleModes: Unsupported value: 'Once': supported values: 'Persistent', 'Ephemeral'",
        "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds"]),
    (driver(topologyKeys=["a", "b"], allocatable={"count": 3}), []),
    (driver(nodeID="n" * 193, allocatable={"count": -1}, topologyKeys=["a", "a"]), [
        f".nodeID: Invalid value: '{'n' * 193}': must be 192 characters or less",
        ".allocatable.count: Invalid value: -1: must be greater than or equal to 0", ": Duplicate value: 'a'"]),
    (attach({"persistentVolumeName": "pv"}), []),
    (attach({"persistentVolumeName": ""})[:1], [
        "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName"]),
    (attach({"inlineVolumeSpec": ONLY}), []),
    (attach({"inlineVolumeSpec": ONLY | {"capacity": {"storage": "1Gi"}, "volumeMode": "Block"}}), [
        "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
        "spec.source.inlineVolumeSpec.volumeMode: Forbidden: may not be specified in the context of inline volumes"]),
    (attach({"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/p"}}}), [
        "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes"]),
    (attach({"persistentVolumeName": "pv"}, attacher="d" * 64), ["spec.attacher: Too long: may not be more than 63 bytes"]),
])
def test_storage(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def test_a_driver_on_a_node_stays_as_it_is() -> None:
    strategy = storage.CsiNodeStrategy(kinds.resource("csinodes"))
    old = {"metadata": {"name": "x", "resourceVersion": "1"}, "spec": {"drivers": [{"name": "d", "nodeID": "n"}]}}
    new = copy.deepcopy(old)
    new["spec"]["drivers"].append({"name": "e", "nodeID": "n"})
    assert texts(strategy.validate_update(new, old)) == []
    new["spec"]["drivers"][0]["nodeID"] = "m"
    assert texts(strategy.validate_update(new, old))[0].startswith("CSINodeDriver: Invalid value")


def flow(rule: Object, name: str = "x", **spec: Any) -> list[str]:
    found = said(cluster.FlowSchemaStrategy, "flowschemas.flowcontrol.apiserver.k8s.io", {"metadata": {"name": name}, "spec": {
        "priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 5, "rules": [rule], **spec}})
    return [text.removeprefix("spec.rules[0].") for text in found]


USER = {"kind": "User", "user": {"name": "u"}}
PODS = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}


@pytest.mark.parametrize(("found", "wanted"), [
    (flow({"subjects": [USER], "resourceRules": [PODS], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/a/*"]}]}), []),
    (flow({"subjects": [USER], "resourceRules": [PODS]}, matchingPrecedence=1), [
        "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"]),
    (flow({"subjects": [USER], "resourceRules": [PODS]}, distinguisherMethod={"type": "ByMood"}), [
        "spec.distinguisherMethod.type: Unsupported value: {'Type':'ByMood'}: supported values: 'ByNamespace', 'ByUser'"]),
    (flow({"subjects": [{"kind": "Team"}, {"kind": "Group"}, {"kind": "User", "user": {}, "group": {"name": "g"}}],
           "resourceRules": [PODS]}), [
        "subjects[0].kind: Unsupported value: 'Team': supported values: 'Group', 'ServiceAccount', 'User'",
        "subjects[1].group: Required value: group is required when subject kind is 'Group'",
        "subjects[2].user.name: Required value",
        "subjects[2].group: Forbidden: group is forbidden when subject kind is not 'Group'"]),
    (flow({"subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "*"}}], "resourceRules": [{}]}), [
        "subjects[0].serviceAccount.namespace: Required value: must specify namespace for service account",
        "resourceRules[0].verbs: Required value: verbs must contain at least one value",
        "resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group",
        "resourceRules[0].resources: Required value: resource rules must supply at least one resource",
        ("resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one "
         "namespace")]),
    (flow({"subjects": [USER], "resourceRules": [PODS | {"verbs": ["fly"], "resources": ["*", "pods"]}]}), [
        ("resourceRules[0].verbs: Unsupported value: ['fly']: supported values: 'create', 'delete', 'deletecollection', 'get', "
         "'list', 'patch', 'proxy', 'update', 'watch'"),
        "resourceRules[0].resources: Invalid value: ['*','pods']: if '*' is present, must not specify other resources"]),
    (flow({"subjects": [USER], "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["x", "/a b", "/a//b", "/a*", "/"]}]}), [
        "nonResourceRules[0].nonResourceURLs[0]: Invalid value: 'x': must start with slash",
        "nonResourceRules[0].nonResourceURLs[1]: Invalid value: '/a b': must not contain white-space",
        "nonResourceRules[0].nonResourceURLs[2]: Invalid value: '/a//b': must not contain double slash",
        "nonResourceRules[0].nonResourceURLs[3]: Invalid value: '/a*': wildcard can only do suffix matching"]),
])
def test_flow_schemas(found: list[str] | str, wanted: list[str] | str) -> None:
    assert found == wanted


def level(name: str = "x", **limited: Any) -> list[str]:
    queuing = {"queues": 64, "handSize": 6, "queueLengthLimit": 50} | limited.pop("queuing", {})
    found = said(cluster.PriorityLevelStrategy, "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", {
        "metadata": {"name": name}, "spec": {"type": "Limited", "limited": {
            "limitResponse": {"type": "Queue", "queuing": queuing}, **limited}}})
    return [text.removeprefix("spec.limited.").removeprefix("limitResponse.queuing.") for text in found]


@pytest.mark.parametrize(("found", "wanted"), [
    (level(), []),
    (level("exempt")[:1], ["spec.type: Invalid value: 'Limited': type must be 'Exempt' if and only if name is 'exempt'"]),
    (level(nominalConcurrencyShares=-1, lendablePercent=101), [
        "nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
        "lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"]),
    (level(queuing={"queues": 5, "handSize": 6}), ["handSize: Invalid value: 6: should not be greater than queues (5)"]),
    (level(queuing={"queues": 1024, "handSize": 7}), [
        "handSize: Invalid value: 7: required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60"]),
    (level(queuing={"queues": 10_000_001, "handSize": 1}), ["queues: Invalid value: 10000001: must not be greater than 10000000"]),
])
def test_priority_levels(found: list[str] | str, wanted: list[str] | str) -> None:
    assert found == wanted


@pytest.mark.parametrize(("kind", "resource", "objects"), [
    (cluster.FlowSchemaStrategy, "flowschemas.flowcontrol.apiserver.k8s.io", SCHEMAS),
    (cluster.PriorityLevelStrategy, "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", LEVELS)])
def test_the_servers_own_are_right_and_the_mandatory_ones_fixed(kind: type, resource: str, objects: tuple[Object, ...]) -> None:
    for obj in objects:
        assert said(kind, resource, obj) == []
    other = copy.deepcopy(objects[1])
    other["spec"]["matchingPrecedence" if "rules" in other["spec"] else "limited"] = \
        9000 if "rules" in other["spec"] else {"limitResponse": {"type": "Reject"}, "nominalConcurrencyShares": 9}
    assert said(kind, resource, other)[-1].endswith("spec of 'catch-all' must equal the fixed value")


def runtime(**parts: Any) -> list[str]:
    return said(cluster.RuntimeClassStrategy, "runtimeclasses", {"handler": "h", **parts})


@pytest.mark.parametrize(("found", "wanted"), [
    (runtime(overhead={"podFixed": {"cpu": "1"}}, scheduling={"nodeSelector": {"a": "b"}}), []),
    (runtime(scheduling={"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "Exists"}]})[0][:42],
     "scheduling.tolerations[1]: Duplicate value"),
    (runtime(scheduling={"tolerations": [{"operator": "Equal"}]}), [
        ("scheduling.tolerations.tolerations[0].operator: Invalid value: 'Equal': operator must be Exists when `key` is empty, "
         "which means 'match all values and all keys'")]),
    (runtime(overhead={"podFixed": {"cpu": "-1"}}), ["overhead.limits[cpu]: Invalid value: '-1': must be greater than or equal to 0"]),
])
def test_runtime_classes(found: list[str] | str, wanted: list[str] | str) -> None:
    assert found == wanted


def test_rbac() -> None:
    bindings, roles = "rolebindings.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io"
    assert said(rbac.BindingStrategy, bindings, {"subjects": [{"kind": "Team", "name": "t"}]}) == [
        "roleRef.kind: Unsupported value: '': supported values: 'Role', 'ClusterRole'", "roleRef.name: Required value",
        "subjects[0].kind: Unsupported value: 'Team': supported values: 'ServiceAccount', 'User', 'Group'"]
    found = said(rbac.RoleStrategy, roles, {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b c"}}]}})
    assert found[0].startswith("aggregationRule.clusterRoleSelectors[0].matchLabels: Invalid value: 'b c': a valid label")
    assert found[1].endswith("invalid label selector.")


def test_names_that_only_have_to_stand_in_a_path() -> None:
    budget = said(scaling.BudgetStrategy, "poddisruptionbudgets", {"metadata": {"name": "My_Budget"}, "spec": {"minAvailable": 1}})
    assert budget == []
    request = said(certificates.SigningRequestStrategy, "certificatesigningrequests", {"metadata": {"name": "a/b"}, "spec": {}})
    assert request[0] == "metadata.name: Invalid value: 'a/b': may not contain '/'"
    assert request[-2:] == ["spec.usages: Required value: usages must be provided", "spec.signerName: Required value: signerName must be provided"]


@pytest.mark.parametrize(("signer", "wanted"), [
    ("a.b/c", []), ("a.b/c.d", []), ("a.b", ["must be a fully qualified domain and path of the form 'example.com/signer-name'"]),
    ("a/b", ["should be a domain with at least two segments separated by dots"]),
    ("kubernetes.io/legacy-unknown", ["the legacy signerName is not allowed via this API version"]),
    ("a.B/c", ["validating label 'B': a lowercase RFC 1123 label"]), ("a.b/", ["validating label '': a lowercase RFC 1123 subdomain"])])
def test_signers(signer: str, wanted: list[str]) -> None:
    found = said(certificates.SigningRequestStrategy, "certificatesigningrequests", {"spec": {"signerName": signer, "usages": ["any"]}})
    told = [text.partition(": Invalid value: ")[2].partition(": ")[2] for text in found if text.startswith("spec.signerName")]
    assert len(told) == len(wanted)
    assert all(text.startswith(start) for text, start in zip(told, wanted, strict=True)), told


def test_preemption() -> None:
    assert said(policy.PriorityClassStrategy, "priorityclasses", {"value": 1, "preemptionPolicy": "Maybe"}) == [
        "preemptionPolicy: Unsupported value: 'Maybe': supported values: 'PreemptLowerPriority', 'Never'"]
    assert said(policy.PriorityClassStrategy, "priorityclasses", {"value": 1, "preemptionPolicy": ""}) == ["preemptionPolicy: Required value"]


def scaled(*metrics: Object, **spec: Any) -> list[str]:
    whole = {"scaleTargetRef": {"kind": "D", "name": "d"}, "maxReplicas": 3, "metrics": list(metrics), **spec}
    return [text.replace('"', "'").removeprefix("spec.metrics[0].") for text in texts(hpa.autoscaler(whole, "spec"))]


CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
QUEUE = {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "1"}}


@pytest.mark.parametrize(("found", "wanted"), [
    (scaled({"type": "Resource", "resource": CPU}), []),
    (scaled({}), ["type: Required value: must specify a metric source type", *2 * [
        "type: Unsupported value: '': supported values: 'ContainerResource', 'External', 'Object', 'Pods', 'Resource'"]]),
    (scaled({"type": "Pods", "resource": CPU}), ["pods: Required value: must populate information for the given metric source"]),
    (scaled({"type": "Pods", "pods": QUEUE, "resource": CPU}), ["resource: Forbidden: must populate the given metric source only"]),
    (scaled({"type": "External", "external": QUEUE | {"metric": {"name": "a/b"}}}), [
        "external.metric.name: Invalid value: 'a/b': may not contain '/'"]),
    (scaled({"type": "Resource", "resource": {"name": "cpu", "target": {"averageValue": "0"}}}), [
        "resource.target.type: Required value: must specify a metric target type",
        "resource.target.type: Invalid value: '': must be either Utilization, Value, or AverageValue",
        "resource.target.averageValue: Invalid value: '0': must be positive"]),
    (scaled({"type": "Resource", "resource": CPU}, minReplicas=0), [
        "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
        "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas"]),
])
def test_autoscalers(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


@pytest.mark.parametrize(("found", "wanted"), [
    (registration.review_versions(["v1"], "p"), []),
    (registration.review_versions([], "p"), ["p: Required value: must specify one of v1, v1beta1"]),
    (registration.review_versions(["v1", "v1", "V2"], "p")[:1], ["p[1]: Invalid value: 'v1': duplicate version"]),
    (registration.review_versions(["v2"], "p"), ["p: Invalid value: ['v2']: must include at least one of v1, v1beta1"]),
    (registration.client_config({"url": "https://a/%zz"}, "p"), [
        ("p.url: Required value: url must be a valid URL: parse 'https://a/%zz': invalid URL escape '%zz'; desired format: "
         "https://host[/path]")]),
    (registration.client_config({"service": {"name": "s", "port": 443}}, "p"), ["p.service.name: Required value"]),
    (registration.api_service({"version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "insecureSkipTLSVerify": True,
                               "caBundle": "AAAA"}, "v1."), [
        "spec.caBundle: Invalid value: '3 bytes': local APIServices may not have a caBundle",
        "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify"]),
])
def test_registrations(found: Any, wanted: list[str]) -> None:
    assert [text.replace('"', "'") for text in texts(found)] == wanted


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def defined(*versions: Object, **spec: Any) -> list[str]:
    whole = {"group": "a.io", "scope": "Cluster", "names": {"plural": "foos", "kind": "Foo"}, "versions": [
        {"name": "v1", "served": True, "storage": at == 0, "schema": {"openAPIV3Schema": SCHEMA}, **version}
        for at, version in enumerate(versions)], **spec}
    obj = {"metadata": {"name": "foos.a.io"}, "spec": copy.deepcopy(whole)}
    definition.default(obj)
    return [text.replace('"', "'") for text in texts(definition.check(obj))]


def shaped(schema: Object) -> dict[str, Object]:
    return {"schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": schema}}}}


LIST = {"type": "array", "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}},
        "x-kubernetes-list-type": "map"}


@pytest.mark.parametrize(("found", "wanted"), [
    (defined({}), []),
    (defined(shaped({"type": "text"})), [
        ("spec.validation.openAPIV3Schema.properties[a].type: Unsupported value: 'text': supported values: 'array', 'boolean', "
         "'integer', 'number', 'object', 'string'")]),
    (defined({}, {"name": "v2", **shaped({})}), [
        "spec.versions[1].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields"]),
    (defined({"additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": "spec"}]}), [
        "spec.additionalPrinterColumns[0].JSONPath: Invalid value: 'spec': must be a simple json path starting with ."]),
    (defined({"subresources": {"scale": {"specReplicasPath": "x", "statusReplicasPath": ".spec.x"}}}), [
        "spec.subresources.scale.specReplicasPath: Invalid value: 'x': must be a simple json path starting with .",
        "spec.subresources.scale.statusReplicasPath: Invalid value: '.spec.x': should be a json path under .status"]),
    (defined({"deprecationWarning": "w"}), [
        "spec.versions[0].deprecationWarning: Invalid value: 'w': can only be set for deprecated versions"]),
    (defined({"storage": False})[-1:], ["status.storedVersions: Invalid value: null: must have at least one stored version"]),
    (defined({}, conversion={}), ["spec.conversion.strategy: Required value"]),
    (defined({}, conversion={"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}), [
        "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook"]),
    (defined({}, conversion={"strategy": "Webhook", "webhook": {}}), [
        "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        "spec.conversion.conversionReviewVersions: Required value"]),
    (defined(shaped(LIST | {"x-kubernetes-list-map-keys": ["k", "k", "z"]})), [
        ("spec.validation.openAPIV3Schema.properties[a].x-kubernetes-list-map-keys: Invalid value: ['k','k','z']: must not contain "
         "duplicate entries"),
        ("spec.validation.openAPIV3Schema.properties[a].x-kubernetes-list-map-keys: Invalid value: ['k','k','z']: entries must all "
         "be names of item properties")]),
    (defined(shaped(LIST | {"x-kubernetes-list-map-keys": ["k"], "items": {"type": "string"}})), [
        ("spec.validation.openAPIV3Schema.properties[a].items.type: Invalid value: 'string': must be object if parent array's "
         "x-kubernetes-list-type is map")]),
    (defined(shaped({"type": "object", "x-kubernetes-embedded-resource": True})), [
        ("spec.validation.openAPIV3Schema.properties[a].properties: Required value: must not be empty if "
         "x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields")]),
    (defined(shaped({"type": "object", "x-kubernetes-preserve-unknown-fields": False})), [
        ("spec.validation.openAPIV3Schema.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or "
         "undefined")]),
])
def test_definitions(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def test_a_kind_may_have_mixed_case() -> None:
    found = defined({}, names={"plural": "foos", "kind": "F_o"})
    assert found[0].startswith("spec.names.singular: Invalid value: 'f_o': " + DNS_LABEL)
    assert found[1].startswith("spec.names.kind: Invalid value: 'F_o': may have mixed case, but should otherwise match: " + DNS_LABEL)
