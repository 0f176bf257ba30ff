"""The kinds that extend and describe a cluster: defaults, checks, versions, subresources, columns."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from netlab.api.kinds import RESOURCES
from netlab.apiserver import autoscaling
from tests.apiserver.conftest import Client, Kubectl, Server

HPA = "/apis/autoscaling/{}/namespaces/{}/horizontalpodautoscalers"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
RULES = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]


@pytest.mark.parametrize("row", [row for row in RESOURCES if "list" in row.verbs], ids=lambda row: f"{row.group_resource}/{row.version}")
def test_every_kind_is_listed_in_both_forms(client: Client, row) -> None:
    found = client.get(row.path())
    assert found.status == 200
    assert found.json["kind"] == f"{row.kind}List"
    shown = client.get(row.path(), Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert shown.json["kind"] == "Table"


def test_an_autoscaler_has_two_versions(client: Client, ns: str) -> None:
    made = client.post(HPA.format("v1", ns), {"metadata": {"name": "web"}, "spec": {
        "scaleTargetRef": TARGET, "minReplicas": 2, "maxReplicas": 5, "targetCPUUtilizationPercentage": 50}})
    assert made.status == 201, made.json
    assert made.json["spec"]["targetCPUUtilizationPercentage"] == 50
    new = client.get(HPA.format("v2", ns) + "/web").json
    assert new["apiVersion"] == "autoscaling/v2"
    assert new["spec"]["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": {
        "type": "Utilization", "averageUtilization": 50}}}]
    new["spec"]["metrics"].append({"type": "Resource", "resource": {"name": "memory", "target": {
        "type": "AverageValue", "averageValue": "100Mi"}}})
    assert client.put(HPA.format("v2", ns) + "/web", new).status == 200
    old = client.get(HPA.format("v1", ns) + "/web").json
    assert old["spec"]["targetCPUUtilizationPercentage"] == 50
    assert '"targetAverageValue":"100Mi"' in old["metadata"]["annotations"][autoscaling.METRICS]
    old["spec"]["maxReplicas"] = 9  # a client of the old version loses nothing of the new one
    assert client.put(HPA.format("v1", ns) + "/web", old).status == 200
    again = client.get(HPA.format("v2", ns) + "/web").json
    assert again["spec"]["metrics"] == new["spec"]["metrics"]
    assert again["spec"]["maxReplicas"] == 9
    assert "annotations" not in again["metadata"]


@pytest.mark.parametrize("metric", [
    {"type": "Pods", "pods": {"metric": {"name": "rps", "selector": {"matchLabels": {"a": "b"}}},
                              "target": {"type": "AverageValue", "averageValue": "1k"}}},
    {"type": "Object", "object": {"metric": {"name": "hits"}, "describedObject": {"kind": "Ingress", "name": "i"},
                                  "target": {"type": "Value", "value": "10"}}},
    {"type": "Object", "object": {"metric": {"name": "hits"}, "describedObject": {"kind": "Ingress", "name": "i"},
                                  "target": {"type": "AverageValue", "averageValue": "10"}}},
    {"type": "External", "external": {"metric": {"name": "queue", "selector": {"matchLabels": {"a": "b"}}},
                                      "target": {"type": "AverageValue", "averageValue": "30"}}},
    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {
        "type": "Utilization", "averageUtilization": 60}}},
], ids=lambda metric: metric["type"])
def test_every_metric_survives_the_old_version(metric: dict) -> None:
    behavior = {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}
    new = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"},
           "spec": {"scaleTargetRef": TARGET, "maxReplicas": 3, "metrics": [metric], "behavior": behavior},
           "status": {"currentReplicas": 1, "desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}]}}
    assert autoscaling.to_v2(autoscaling.to_v1(new)) == new


def test_a_foreign_annotation_is_no_metric() -> None:
    spec = autoscaling.to_v2({"metadata": {"annotations": {autoscaling.METRICS: "not json", autoscaling.BEHAVIOR: "[]"}},
                              "spec": {"maxReplicas": 1}})["spec"]
    assert spec == {"maxReplicas": 1}


def test_an_autoscaler_says_what_is_wrong(client: Client, ns: str) -> None:
    answer = client.post(HPA.format("v2", ns), {"metadata": {"name": "web"}, "spec": {
        "scaleTargetRef": {"name": "web"}, "minReplicas": 3, "maxReplicas": 2,
        "metrics": [{"type": "Pods"}, {"type": "Nonsense"}]}})
    assert answer.status == 422
    causes = {cause["field"]: cause["message"] for cause in answer.json["details"]["causes"]}
    assert causes == {
        "spec.maxReplicas": "Invalid value: 2: must be greater than or equal to `minReplicas`",
        "spec.scaleTargetRef.kind": "Required value",
        "spec.metrics[0].pods": "Required value: must populate information for the given metric source",
        "spec.metrics[1].type": 'Unsupported value: "Nonsense": supported values: "ContainerResource", "External", '
                                '"Object", "Pods", "Resource"'}


def test_autoscale_by_kubectl(client: Client, ns: str, kubectl: Kubectl) -> None:
    client.post(f"/apis/apps/v1/namespaces/{ns}/deployments", {"metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
            "containers": [{"name": "c", "image": "i"}]}}}})
    kubectl("autoscale", "deployment", "web", "--min=1", "--max=4", "--cpu=70%" if kubectl.minor >= 34 else "--cpu-percent=70")
    assert "cpu: <unknown>/70%" in kubectl("get", "hpa")
    assert "MAXPODS" in kubectl("get", "horizontalpodautoscalers.v1.autoscaling")


@pytest.mark.parametrize(("spec", "field", "said"), [
    ({"rules": [{"host": "1.2.3.4"}]}, "spec.rules[0].host", 'Invalid value: "1.2.3.4": must be a DNS name, not an IP address'),
    ({}, "spec", "Invalid value: []: either `defaultBackend` or `rules` must be specified"),
    ({"defaultBackend": {"service": {"name": "web"}}}, "spec.defaultBackend", "Required value: port name or number is required"),
    ({"rules": [{"http": {"paths": []}}]}, "spec.rules[0].http.paths", "Required value"),
    ({"rules": [{"http": {"paths": [{"path": "x", "pathType": "Prefix", "backend": {"service": {
        "name": "a", "port": {"number": 80}}}}]}}]}, "spec.rules[0].http.paths[0].path",
     'Invalid value: "x": must be an absolute path'),
    ({"rules": [{"http": {"paths": [{"path": "/a//b", "pathType": "Exact", "backend": {"service": {
        "name": "a", "port": {"number": 80}}}}]}}]}, "spec.rules[0].http.paths[0].path",
     'Invalid value: "/a//b": must not contain \'//\''),
    ({"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "a", "port": {"name": "http"}}}}]}}]},
     "spec.rules[0].http.paths[0].pathType", "Required value: pathType must be specified"),
])
def test_an_ingress_says_what_is_wrong(client: Client, ns: str, spec: dict, field: str, said: str) -> None:
    answer = client.post(f"/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses", {"metadata": {"name": "i"}, "spec": spec})
    assert answer.status == 422
    assert {"reason": answer.json["details"]["causes"][0]["reason"], "field": field, "message": said} in answer.json["details"]["causes"]


@pytest.mark.parametrize(("spec", "field", "said"), [
    ({"ingress": [{"from": [{}]}]}, "spec.ingress[0].from[0]", "Required value: must specify a peer"),
    ({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]},
     "spec.ingress[0].from[0].ipBlock.except[0]", 'Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`'),
    ({"ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]}, "spec.ingress[0].from[0]",
     "Forbidden: may not specify both ipBlock and another peer"),
    ({"egress": [{"ports": [{"port": 80, "endPort": 70}]}]}, "spec.egress[0].ports[0].endPort",
     "Invalid value: 80: must be greater than or equal to `port`"),
    ({"egress": [{"ports": [{"port": "http", "endPort": 70}]}]}, "spec.egress[0].ports[0].endPort",
     "Invalid value: 70: may not be specified when `port` is non-numeric"),
    ({"policyTypes": ["Sideways"]}, "spec.policyTypes[0]",
     'Unsupported value: "Sideways": supported values: "Ingress", "Egress"'),
])
def test_a_network_policy_says_what_is_wrong(client: Client, ns: str, spec: dict, field: str, said: str) -> None:
    answer = client.post(f"/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies",
                         {"metadata": {"name": "p"}, "spec": {"podSelector": {}, **spec}})
    assert answer.status == 422
    assert (field, said) in [(cause["field"], cause["message"]) for cause in answer.json["details"]["causes"]]


@pytest.mark.parametrize(("path", "body", "field", "said"), [
    ("networking.k8s.io/v1/ingressclasses", {"spec": {"controller": "nope"}}, "spec.controller",
     'Invalid value: "nope": must be a domain-prefixed path (such as "acme.io/foo")'),
    ("networking.k8s.io/v1/servicecidrs", {"spec": {"cidrs": ["10.1.0.1/16"]}}, "spec.cidrs[0]", None),
    ("networking.k8s.io/v1/ipaddresses", {"metadata": {"name": "010.1.1.1"}, "spec": {"parentRef": {
        "resource": "services", "name": "x"}}}, "metadata.name", 'Invalid value: "010.1.1.1": must be a valid IP address'),
    ("scheduling.k8s.io/v1/priorityclasses", {"value": 2_000_000_000}, "value",
     "Forbidden: maximum allowed value of a user defined priority is 1000000000"),
    ("storage.k8s.io/v1/storageclasses", {}, "provisioner", "Required value"),
    ("storage.k8s.io/v1/volumeattachments", {"spec": {"attacher": "a", "nodeName": "n", "source": {}}}, "spec.source",
     "Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
    ("node.k8s.io/v1/runtimeclasses", {"handler": "Not_A_Label"}, "handler", None),
    ("flowcontrol.apiserver.k8s.io/v1/flowschemas", {"spec": {"matchingPrecedence": -1, "priorityLevelConfiguration": {
        "name": "x"}}}, "spec.matchingPrecedence", "Invalid value: -1: must be a positive value"),
    ("flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", {"spec": {"type": "Limited"}}, "spec.limited",
     "Required value: must not be empty when type is Limited"),
    ("admissionregistration.k8s.io/v1/validatingwebhookconfigurations", {"webhooks": [{
        "name": "short", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {"url": "https://x"}}]},
     "webhooks[0].name", 'Invalid value: "short": should be a domain with at least three segments separated by dots'),
    ("admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", {"webhooks": [{
        "name": "a.b.c", "sideEffects": "Some", "admissionReviewVersions": ["v1"], "clientConfig": {}}]},
     "webhooks[0].clientConfig", "Required value: exactly one of url or service is required"),
    ("admissionregistration.k8s.io/v1/validatingadmissionpolicies", {"spec": {"matchConstraints": {
        "resourceRules": RULES}}}, "spec.validations",
     "Required value: validations or auditAnnotations must contain at least one item"),
    ("admissionregistration.k8s.io/v1/validatingadmissionpolicybindings", {"spec": {
        "policyName": "p", "validationActions": ["Deny", "Warn"]}}, "spec.validationActions", None),
    ("admissionregistration.k8s.io/v1/mutatingadmissionpolicies", {"spec": {"matchConstraints": {
        "resourceRules": RULES}, "mutations": [{"patchType": "JSONPatch"}]}}, "spec.mutations[0].jsonPatch.expression",
     "Required value: must be specified when patchType is JSONPatch"),
    ("resource.k8s.io/v1/resourceslices", {"spec": {"driver": "d", "pool": {
        "name": "p", "generation": 1, "resourceSliceCount": 1}}}, "spec", None),
])
def test_cluster_kinds_say_what_is_wrong(client: Client, path: str, body: dict, field: str, said: str | None) -> None:
    answer = client.post(f"/apis/{path}", {"metadata": {"name": "x"}} | body)
    assert answer.status == 422, answer.json
    causes = [(cause["field"], cause["message"]) for cause in answer.json["details"]["causes"]]
    assert field in [found for found, _ in causes]
    assert said is None or (field, said) in causes


def test_what_is_left_out_is_filled_in(client: Client) -> None:
    hook = client.post("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", {
        "metadata": {"name": "defaults"}, "webhooks": [{"name": "a.b.c", "sideEffects": "None", "rules": RULES,
            "admissionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "s", "namespace": "nowhere"}},
            "namespaceSelector": {"matchLabels": {"no": "where"}}}]})
    assert hook.status == 201, hook.json
    found = hook.json["webhooks"][0]
    assert (found["failurePolicy"], found["matchPolicy"], found["timeoutSeconds"], found["reinvocationPolicy"]) == (
        "Fail", "Equivalent", 10, "Never")
    assert found["clientConfig"]["service"]["port"] == 443
    assert found["rules"][0]["scope"] == "*"
    assert client.delete("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/defaults").status == 200
    level = client.post("/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", {
        "metadata": {"name": "level"}, "spec": {"type": "Limited", "limited": {"limitResponse": {
            "type": "Queue", "queuing": {}}}}}).json
    assert level["spec"]["limited"]["limitResponse"]["queuing"] == {"queues": 64, "handSize": 8, "queueLengthLimit": 50}
    claim = client.post("/apis/resource.k8s.io/v1/namespaces/default/resourceclaims", {
        "metadata": {"name": "claim"}, "spec": {"devices": {"requests": [{"name": "r", "exactly": {
            "deviceClassName": "gpu"}}]}}}).json
    assert claim["spec"]["devices"]["requests"][0]["exactly"] == {
        "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}


def test_what_never_changes_does_not(client: Client) -> None:
    for path, body, change, field in (
            ("networking.k8s.io/v1/ingressclasses", {"spec": {"controller": "a.io/b"}}, {"spec": {"controller": "a.io/c"}},
             "spec.controller"),
            ("scheduling.k8s.io/v1/priorityclasses", {"value": 5}, {"value": 6}, "value"),
            ("storage.k8s.io/v1/storageclasses", {"provisioner": "a.io/b"}, {"provisioner": "a.io/c"}, "provisioner"),
            ("node.k8s.io/v1/runtimeclasses", {"handler": "runc"}, {"handler": "kata"}, "handler"),
            ("networking.k8s.io/v1/servicecidrs", {"spec": {"cidrs": ["10.77.0.0/24"]}},
             {"spec": {"cidrs": ["10.78.0.0/24"]}}, "spec.cidrs")):
        assert client.post(f"/apis/{path}", {"metadata": {"name": "fixed"}} | body).status == 201
        answer = client.patch(f"/apis/{path}/fixed", change)
        assert answer.status == 422, path
        assert answer.json["details"]["causes"][0]["field"] == field


def request_of(cn: str, *groups: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([*(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
                         x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def signing(name: str, request: str = "", signer: str = "kubernetes.io/kube-apiserver-client", **spec: object) -> dict:
    return {"metadata": {"name": name}, "spec": {"request": request or request_of("jane"), "signerName": signer,
                                                 "usages": ["client auth"], **spec}}


def test_a_signing_request_speaks_for_its_sender(client: Client) -> None:
    made = client.post(CSRS, signing("mine", username="somebody-else", groups=["system:masters"]))
    assert made.status == 201, made.json
    assert made.json["spec"]["username"] == "kubernetes-admin"
    assert made.json["spec"]["groups"] == ["system:masters", "system:authenticated"]
    again = client.patch(f"{CSRS}/mine", {"spec": {"username": "x"}, "metadata": {"labels": {"a": "b"}}})
    assert again.json["spec"]["username"] == "kubernetes-admin"


def test_a_signing_request_is_approved_once(client: Client, kubectl: Kubectl) -> None:
    client.delete(f"{CSRS}/jane")
    client.post(CSRS, signing("jane"))
    assert "Pending" in kubectl("get", "csr", "jane")
    assert "approved" in kubectl("certificate", "approve", "jane")
    assert "Approved" in kubectl("get", "csr", "jane")
    found = client.get(f"{CSRS}/jane").json["status"]["conditions"]
    assert [condition["type"] for condition in found] == ["Approved"]
    assert found[0]["lastTransitionTime"]
    both = client.patch(f"{CSRS}/jane/approval", {"status": {"conditions": [
        *found, {"type": "Denied", "status": "True"}]}})
    assert both.status == 422
    gone = client.patch(f"{CSRS}/jane/approval", {"status": {"conditions": []}})
    assert "may not remove a condition" in gone.json["message"]
    kept = client.patch(f"{CSRS}/jane/status", {"status": {"conditions": []}})  # a signer's write leaves decisions alone
    assert [condition["type"] for condition in kept.json["status"]["conditions"]] == ["Approved"]


@pytest.mark.parametrize(("body", "field"), [
    (signing("a", base64.b64encode(b"no PEM").decode()), "spec.request"),
    (signing("a", signer="nodomain"), "spec.signerName"),
    (signing("a", expirationSeconds=10), "spec.expirationSeconds"),
    (signing("a", usages=["flying"]), "spec.usages[0]"),
    (signing("a", usages=[]), "spec.usages"),
])
def test_a_bad_signing_request_is_refused(client: Client, body: dict, field: str) -> None:
    answer = client.post(CSRS, body)
    assert answer.status == 422
    assert field in [cause["field"] for cause in answer.json["details"]["causes"]]


def test_nobody_becomes_a_master_by_certificate(client: Client) -> None:
    answer = client.post(CSRS, signing("root", request_of("root", "system:masters")))
    assert answer.status == 403
    assert "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed" in answer.json["message"]


def test_approving_needs_the_verb_on_the_signer(servers, pki) -> None:
    server: Server = servers("--authorization-mode=RBAC")
    admin = server.client()
    pki.issue("approver", "approver")
    admin.post(CSRS, signing("jane"))
    roles = "/apis/rbac.authorization.k8s.io/v1"
    admin.post(f"{roles}/clusterroles", {"metadata": {"name": "csr"}, "rules": [
        {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"], "verbs": ["update", "patch"]}]})
    admin.post(f"{roles}/clusterrolebindings", {"metadata": {"name": "csr"}, "subjects": [
        {"kind": "User", "name": "approver", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "csr"}})
    approver = server.client(user="approver")
    decision = {"status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    refused = approver.patch(f"{CSRS}/jane/approval", decision)
    assert refused.status == 403
    assert 'user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"' in refused.json["message"]
    admin.patch(f"{roles}/clusterroles/csr", {"rules": [
        {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"], "verbs": ["update", "patch"]},
        {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["kubernetes.io/*"], "verbs": ["approve"]}]})
    assert approver.patch(f"{CSRS}/jane/approval", decision).status == 200
