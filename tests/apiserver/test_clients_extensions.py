"""Webhooks, policies, quota, APIServices and the audit log, held against the kubectl of every release with `-m soak`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import Client, Kubectl, Pki, Server
from tests.apiserver.hook_server import HookServer, patch
from tests.apiserver.test_aggregator import Wardle, available, behind_a_service

HOOKS = "/apis/admissionregistration.k8s.io/v1"
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: nginx}]}
"""


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("extensions")
    pki.issue("front", "front-proxy-client")
    running = Server(pki, folder / "server", "--authorization-mode=RBAC", f"--audit-log-path={folder / 'audit.log'}",
                     f"--proxy-client-cert-file={pki.path('front.crt')}", f"--proxy-client-key-file={pki.path('front.key')}")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture
def registered(client: Client, hooks: HookServer, ns: str) -> Iterator[Any]:
    made: list[str] = []

    def one(kind: str, name: str, answer: Any, **more: Any) -> None:
        hooks.answers[f"/{ns}/{name}"] = answer
        body = {"metadata": {"name": f"{name}-{ns}"}, "webhooks": [{
            "name": f"{name}.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": hooks.config(f"/{ns}/{name}"),
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
            "rules": [{"apiGroups": ["", "apps"], "apiVersions": ["v1"], "resources": ["configmaps", "deployments"],
                       "operations": ["*"]}], **more}]}
        answered = client.post(f"{HOOKS}/{kind}webhookconfigurations", body)
        assert answered.status == 201, answered.json
        made.append(f"{HOOKS}/{kind}webhookconfigurations/{name}-{ns}")

    hooks.asked.clear()
    yield one
    for path in made:
        client.delete(path)


def test_webhooks_speak_to_people(kubectl: Kubectl, registered: Any, hooks: HookServer, tmp_path: Path) -> None:
    """What is refused, changed and warned of reaches who typed the command, in every way of writing."""
    def judge(asked: dict[str, Any]) -> dict[str, Any]:
        named = (asked["object"] or asked["oldObject"])["metadata"].get("labels", {}).get("refuse")
        if named == asked["operation"]:
            return {"allowed": False, "status": {"message": f"no {named} today", "code": 400}}
        return {"allowed": True, "warnings": ["look twice"]}

    registered("mutating", "marks", lambda asked: patch(
        {"op": "add", "path": "/metadata/annotations", "value": {"marked": "yes"}}) if asked["operation"] == "CREATE" else {"allowed": True})
    registered("validating", "judges", judge)
    made = kubectl.run("create", "-f", "-", stdin=DEPLOYMENT.replace("REPLICAS", "1"))
    assert made.returncode == 0, made.stderr
    assert "Warning: look twice" in made.stderr
    assert kubectl("get", "deploy/web", "-o", "jsonpath={.metadata.annotations.marked}") == "yes"
    kubectl("label", "deploy/web", "try=this", "--dry-run=server")
    assert hooks.asked[-1]["dryRun"] is True
    kubectl("label", "deploy/web", "refuse=DELETE")
    assert 'admission webhook "judges.example.com" denied the request: no DELETE today' in kubectl.fails("delete", "deploy/web")
    kubectl("label", "deploy/web", "refuse-")
    assert "configured" in kubectl("apply", "-f", "-", stdin=DEPLOYMENT.replace("REPLICAS", "2"))
    refused = DEPLOYMENT.replace("REPLICAS", "3").replace("name: web}", "name: web, labels: {refuse: UPDATE}}", 1)
    for words in (("apply",), ("replace",), ("apply", "--server-side", "--force-conflicts")):
        said = kubectl.fails(*words, "-f", "-", stdin=refused)
        assert 'admission webhook "judges.example.com" denied the request: no UPDATE today' in said, words
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/^spec:/  labels: {refuse: UPDATE}\\nspec:/' \"$1\"\n")
    editor.chmod(0o755)
    edited = kubectl.run("edit", "deploy/web", env={"KUBE_EDITOR": str(editor)})
    assert edited.returncode == 1
    assert "no UPDATE today" in edited.stdout + edited.stderr
    assert kubectl("get", "deploy/web", "-o", "jsonpath={.spec.replicas}") == "2"


@pytest.mark.parametrize("policy", ["Ignore", "Fail"])
def test_a_webhook_that_nobody_answers(kubectl: Kubectl, registered: Any, policy: str) -> None:
    registered("validating", "gone", lambda asked: {"allowed": True}, failurePolicy=policy, timeoutSeconds=2,
               clientConfig={"url": "https://127.0.0.1:1/x"})
    if policy == "Ignore":
        assert "created" in kubectl("create", "configmap", "a")
    else:
        said = kubectl.fails("create", "configmap", "a")
        assert 'failed calling webhook "gone.example.com": failed to call webhook' in said
        assert "Internal error occurred" in said or "InternalError" in said


def test_policies_speak_to_people(kubectl: Kubectl, ns: str) -> None:
    """Made, shown and obeyed; an old kubectl knows nothing of the kind but what discovery tells."""
    policy = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": ns}, "spec": {
        "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "deployments/scale"],
                                                "operations": ["CREATE", "UPDATE"]}]},
        "validations": [{"expression": "object.spec.replicas <= 3", "messageExpression": "'at most 3, not ' + string(object.spec.replicas)"}]}}
    binding = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": ns}, "spec": {
        "policyName": ns, "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}}}}}
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy, binding]}))
    try:
        assert kubectl("get", "validatingadmissionpolicies", ns, "--no-headers").split()[:3] == [ns, "1", "<unset>"]
        assert kubectl("get", "validatingadmissionpolicybinding", ns, "--no-headers").split()[:2] == [ns, ns]
        assert "Validation Actions" in kubectl("describe", "validatingadmissionpolicybinding", ns)
        assert "FIELD" in kubectl("explain", "validatingadmissionpolicies.spec.validations")
        denied = f"ValidatingAdmissionPolicy '{ns}' with binding '{ns}' denied request: at most 3, not 5"
        assert denied in kubectl.fails("create", "-f", "-", stdin=DEPLOYMENT.replace("REPLICAS", "5"))
        kubectl("create", "-f", "-", stdin=DEPLOYMENT.replace("REPLICAS", "3"))
        assert denied in kubectl.fails("scale", "deploy/web", "--replicas=5")
        assert denied in kubectl.fails("patch", "deploy/web", "-p", '{"spec":{"replicas":5}}')
        binding["spec"]["validationActions"] = ["Warn"]
        kubectl("apply", "-f", "-", stdin=json.dumps(binding))
        warned = kubectl.run("patch", "deploy/web", "-p", '{"spec":{"replicas":5}}')
        assert warned.returncode == 0, warned.stderr
        assert "Warning: Validation failed for ValidatingAdmissionPolicy" in warned.stderr
        assert "at most 3, not 5" in warned.stderr
    finally:
        kubectl("delete", f"validatingadmissionpolicy/{ns}", f"validatingadmissionpolicybinding/{ns}")


def test_quota_is_kept_and_told(kubectl: Kubectl, client: Client, ns: str) -> None:
    """What counts is the status: in a cluster a controller writes it first, here the test does."""
    kubectl("create", "quota", "q", "--hard=count/configmaps=2,pods=1,requests.cpu=1,services.nodeports=0")
    path = f"/api/v1/namespaces/{ns}/resourcequotas/q"
    hard = client.get(path).json["spec"]["hard"]
    assert client.patch(f"{path}/status", {"status": {"hard": hard, "used": dict.fromkeys(hard, "0")}}).status == 200
    kubectl("create", "configmap", "a")
    kubectl("create", "configmap", "b")
    said = kubectl.fails("create", "configmap", "c")
    assert 'configmaps "c" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2' in said
    assert "failed quota: q: must specify requests.cpu for: p" in kubectl.fails("run", "p", "--image=x")
    kubectl("create", "service", "clusterip", "s", "--tcp=80")
    assert "exceeded quota: q, requested: services.nodeports=1" in kubectl.fails(
        "patch", "svc/s", "-p", '{"spec":{"type":"NodePort"}}')
    shown = kubectl("describe", "quota", "q")
    assert ["count/configmaps", "2", "2"] in [line.split() for line in shown.splitlines()]
    assert "count/configmaps: 2/2" in kubectl("get", "quota", "q", "--no-headers")
    assert "exceeded quota" in kubectl.fails("apply", "-f", "-", stdin='{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d"}}')


@pytest.fixture(scope="module")
def wardle(server: Server, pki: Pki) -> Iterator[Wardle]:
    running = behind_a_service(pki, server)
    yield running
    running.close()


def test_a_server_behind_a_service(kubectl: Kubectl, client: Client, wardle: Wardle, pki: Pki) -> None:
    """Registered by kubectl, found in discovery, listed and written through the one address."""
    service = {"name": "api", "namespace": "default", "port": wardle.port}
    bundle = base64.b64encode((pki.dir / "ca.crt").read_bytes()).decode()
    registration = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.wardle.example.com"},
                    "spec": {"group": "wardle.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 200,
                             "caBundle": bundle, "service": service}}
    kubectl("apply", "-f", "-", stdin=json.dumps(registration))
    try:
        available(client, "v1.wardle.example.com", "True")
        kubectl("wait", "--for=condition=Available", "apiservice/v1.wardle.example.com", "--timeout=20s")
        assert "default/api" in kubectl("get", "apiservice", "v1.wardle.example.com")
        assert "wardle.example.com/v1" in kubectl("api-versions").split()
        assert "flunders" in kubectl("api-resources", "--api-group=wardle.example.com")
        assert "one" in kubectl("get", "flunders", "-n", "default")
        assert kubectl("get", "fl", "-n", "default", "-o", "name") == "flunder.wardle.example.com/one\n"
        flunder = '{"apiVersion":"wardle.example.com/v1","kind":"Flunder","metadata":{"name":"two"}}'
        assert "flunder.wardle.example.com/two created" in kubectl("create", "--validate=false", "-f", "-", stdin=flunder)
        assert 'no such flunder' in kubectl.fails("get", "flunder", "absent")
    finally:
        kubectl("delete", "apiservice", "v1.wardle.example.com")


def test_the_audit_log_tells_who_typed_what(kubectl: Kubectl, server: Server, ns: str) -> None:
    kubectl("create", "configmap", "a")
    kubectl("label", "configmap/a", "x=y", "--as=jane", "--as-group=system:masters")
    kubectl.fails("delete", "configmap", "a", "--as=joe")
    kubectl("delete", "configmap", "a")
    log = next(word.partition("=")[2] for word in server.flags if word.startswith("--audit-log-path="))
    told = [json.loads(line) for line in Path(log).read_text().splitlines()]
    mine = [event for event in told if (event.get("objectRef") or {}).get("namespace") == ns
            and event["objectRef"]["resource"] == "configmaps" and event["stage"] == "ResponseComplete" and event["verb"] not in ("get", "list", "watch")]
    assert [(event["verb"], event["objectRef"]["name"], event["responseStatus"]["code"]) for event in mine] == [
        ("create", "a", 201), ("patch", "a", 200), ("delete", "a", 403), ("delete", "a", 200)]
    assert [(event.get("impersonatedUser") or {}).get("username") for event in mine] == [None, "jane", "joe", None]
    assert all(event["userAgent"].startswith("kubectl") and f"v1.{kubectl.minor}." in event["userAgent"] for event in mine)
