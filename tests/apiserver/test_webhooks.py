"""Admission webhooks, asked by a real server over real HTTPS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.apiserver.conftest import Client, Pki, config_map, pod
from tests.apiserver.hook_server import HookServer, patch

API = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture
def register(client: Client, hooks: HookServer, ns: str) -> Iterator[Any]:
    """Register webhooks for the test's own namespace; they go with the test."""
    made: list[str] = []

    def one(kind: str, name: str, answer: Any, *, resources: tuple[str, ...] = ("configmaps",), operations: tuple[str, ...] = ("*",),
            groups: tuple[str, ...] = ("",), config: dict | None = None, versions: tuple[str, ...] = ("v1",), **more: Any) -> None:
        path = f"/{ns}/{name}"
        if answer is not None:
            hooks.answers[path] = answer
        body = {"metadata": {"name": f"{name}-{ns}"}, "webhooks": [{
            "name": f"{name}.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": config or hooks.config(path), "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}},
            "rules": [{"apiGroups": list(groups), "apiVersions": list(versions), "resources": list(resources), "operations": list(operations)}],
            **more}]}
        answered = client.post(f"{API}/{kind}webhookconfigurations", body)
        assert answered.status == 201, answered.json
        made.append(f"{API}/{kind}webhookconfigurations/{name}-{ns}")

    hooks.asked.clear()
    yield one
    for path in made:
        client.delete(path)


def maps(ns: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/configmaps" + (f"/{name}" if name else "")


def allow(_asked: dict) -> dict:
    return {"allowed": True}


def test_a_webhook_refuses(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("validating", "no", lambda asked: {"allowed": False, "status": {"message": "not today"}})
    answer = client.post(maps(ns), config_map("a"))
    assert answer.status == 403
    assert answer.json["message"] == 'admission webhook "no.example.com" denied the request: not today'
    asked = hooks.asked[0]
    assert (asked["operation"], asked["name"], asked["namespace"], asked["dryRun"]) == ("CREATE", "a", ns, False)
    assert asked["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert asked["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert asked["userInfo"]["username"] == "kubernetes-admin"
    assert asked["object"]["metadata"]["uid"]
    assert asked["oldObject"] is None
    assert client.post(f"/api/v1/namespaces/{ns}/secrets", {"metadata": {"name": "s"}}).status == 201


def test_a_webhook_words_its_refusal(client: Client, ns: str, register: Any) -> None:
    register("validating", "teapot", lambda asked: {"allowed": False, "status": {"code": 418, "reason": "Tea", "message": "short and stout"}})
    answer = client.post(maps(ns), config_map("a"))
    assert (answer.status, answer.json["reason"]) == (418, "Tea")


def test_webhooks_change_objects_one_after_another(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("mutating", "a-first", lambda asked: patch({"op": "add", "path": "/data", "value": {"first": "1"}}))
    register("mutating", "b-second", lambda asked: patch({"op": "add", "path": "/data/second", "value": asked["object"]["data"]["first"] + "2"}))
    made = client.post(maps(ns), config_map("a"))
    assert made.json["data"] == {"first": "1", "second": "12"}
    assert client.get(maps(ns, "a")).json["data"] == {"first": "1", "second": "12"}


def test_a_webhook_is_asked_again(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    def count(asked: dict) -> dict:
        seen = asked["object"].get("data", {})
        return patch({"op": "add", "path": "/data", "value": seen | {"seen": str(len(seen))}})

    register("mutating", "a-count", count, reinvocationPolicy="IfNeeded")
    register("mutating", "b-more", lambda asked: patch({"op": "add", "path": "/data/more", "value": "x"}))
    made = client.post(maps(ns), config_map("a"))
    assert made.json["data"]["seen"] == "2"  # its second look saw what the other had added


def test_defaults_come_after_a_change(client: Client, ns: str, register: Any) -> None:
    register("mutating", "sidecar", lambda asked: patch({"op": "add", "path": "/spec/containers/-", "value": {"name": "s", "image": "i"}}),
             resources=("pods",), operations=("CREATE",))
    made = client.post(f"/api/v1/namespaces/{ns}/pods", pod("p"))
    assert [container["name"] for container in made.json["spec"]["containers"]] == ["c", "s"]
    assert made.json["spec"]["containers"][1]["imagePullPolicy"] == "Always"


def test_deletions_and_dry_runs_are_told(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("validating", "see", allow)
    client.post(f"{maps(ns)}?dryRun=All", config_map("a"))
    client.post(maps(ns), config_map("a", k="v"))
    client.patch(maps(ns, "a"), {"data": {"k": "w"}})
    client.delete(maps(ns, "a"))
    assert [(asked["operation"], asked["dryRun"]) for asked in hooks.asked] == [
        ("CREATE", True), ("CREATE", False), ("UPDATE", False), ("DELETE", False)]
    assert hooks.asked[2]["oldObject"]["data"] == {"k": "v"}
    assert hooks.asked[3]["object"] is None
    assert hooks.asked[3]["oldObject"]["data"] == {"k": "w"}


@pytest.mark.parametrize(("policy", "status"), [("Fail", 500), ("Ignore", 201)])
def test_what_does_not_answer(client: Client, ns: str, register: Any, policy: str, status: int) -> None:
    register("validating", "dead", None, config={"url": "https://127.0.0.1:1/"}, failurePolicy=policy)
    answer = client.post(maps(ns), config_map("a"))
    assert answer.status == status
    if status == 500:
        assert answer.json["message"] == (
            'Internal error occurred: failed calling webhook "dead.example.com": failed to call webhook: Post "https://127.0.0.1:1/?timeout=10s": '
            "dial tcp 127.0.0.1:1: connect: connection refused")


def test_answers_that_are_none(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    for name, body, said in (("uid", {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {"uid": "x", "allowed": True}}, "received invalid webhook response: "),
                             ("kind", {"kind": "Pod"}, "received invalid webhook response: "), ("list", [], "failed to call webhook: ")):
        hooks.raw[f"/{ns}/{name}"] = lambda review, body=body: body
        register("validating", name, None)
        answer = client.post(maps(ns), config_map("a"))
        assert answer.status == 500, name
        assert f'failed calling webhook "{name}.example.com": {said}' in answer.json["message"]
        client.delete(f"{API}/validatingwebhookconfigurations/{name}-{ns}")


def test_selectors_and_conditions(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("validating", "labels", lambda asked: {"allowed": False}, objectSelector={"matchLabels": {"guard": "yes"}})
    register("validating", "cond", lambda asked: {"allowed": False, "status": {"message": "cond"}},
             matchConditions=[{"name": "named", "expression": "object.metadata.name == 'hit' && request.userInfo.username != ''"}])
    assert client.post(maps(ns), config_map("free")).status == 201
    marked = config_map("b")
    marked["metadata"]["labels"] = {"guard": "yes"}
    refused = client.post(maps(ns), marked)
    assert refused.json["message"] == 'admission webhook "labels.example.com" denied the request without explanation'
    assert "cond" in client.post(maps(ns), config_map("hit")).json["message"]
    other = client.post("/api/v1/namespaces/default/configmaps", config_map("hit"))
    assert other.status == 201  # the namespace is not selected
    client.delete("/api/v1/namespaces/default/configmaps/hit")


def test_warnings_reach_the_client(client: Client, ns: str, register: Any) -> None:
    register("validating", "warn", lambda asked: {"allowed": True, "warnings": ["mind the gap"]})
    assert "mind the gap" in client.post(maps(ns), config_map("a")).warnings


def test_another_version_is_equivalent(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("validating", "hpa", allow, groups=("autoscaling",), versions=("v1",), resources=("horizontalpodautoscalers",))
    made = client.post(f"/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers", {"metadata": {"name": "h"}, "spec": {
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 2}})
    assert made.status == 201
    asked = hooks.asked[0]
    assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v1", "v2")
    assert asked["object"]["spec"]["targetCPUUtilizationPercentage"] == 80


def test_subresources_are_apart(client: Client, ns: str, register: Any, hooks: HookServer) -> None:
    register("validating", "status", allow, resources=("pods/status",))
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("p"))
    client.patch(f"/api/v1/namespaces/{ns}/pods/p/status", {"status": {"phase": "Running"}})
    assert [asked["subResource"] for asked in hooks.asked] == ["status"]


def test_webhooks_of_webhooks_are_not_asked(client: Client, ns: str, register: Any) -> None:
    register("validating", "all", lambda asked: {"allowed": False}, groups=("*",), versions=("*",), resources=("*/*",), namespaceSelector={})
    refused = client.post(maps(ns), config_map("a"))
    assert refused.status == 403
    gone = client.delete(f"{API}/validatingwebhookconfigurations/all-{ns}")
    assert gone.status == 200


def test_a_webhook_behind_a_service(client: Client, ns: str, register: Any, pki: Pki) -> None:
    pki.issue("hook", "hook", usage=ExtendedKeyUsageOID.SERVER_AUTH, sans=[x509.DNSName(f"hook.{ns}.svc")])
    running = HookServer(pki, "hook")
    running.answers["/check"] = lambda asked: {"allowed": False, "status": {"message": "by service"}}
    try:
        client.post(f"/api/v1/namespaces/{ns}/services", {"metadata": {"name": "hook"}, "spec": {
            "type": "ExternalName", "externalName": "localhost", "ports": [{"port": running.port}]}})
        register("validating", "svc", None, config={"caBundle": running.bundle, "service": {
            "name": "hook", "namespace": ns, "port": running.port, "path": "/check"}})
        assert "by service" in client.post(maps(ns), config_map("a")).json["message"]
    finally:
        running.close()
