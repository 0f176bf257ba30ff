"""ValidatingAdmissionPolicy and MutatingAdmissionPolicy: expressions decide about writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from netlab.api.kinds import RESOURCES
from netlab.apiserver.admission.policies import Bound, failed
from netlab.apiserver.cel import Budget
from tests.apiserver.conftest import Client, config_map, pod

API = "/apis/admissionregistration.k8s.io/v1"
MAPS = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]
PODS = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]


@pytest.fixture
def policy(client: Client, ns: str) -> Iterator[Any]:
    """Make policies bound to the test's namespace; they go with the test."""
    made: list[str] = []

    def one(name: str, *, rules: list = MAPS, mutating: bool = False, binding: dict | None = None, **spec: Any) -> None:
        kind = "mutatingadmissionpolicies" if mutating else "validatingadmissionpolicies"
        answer = client.post(f"{API}/{kind}", {"metadata": {"name": f"{name}-{ns}"}, "spec": {
            "matchConstraints": {"resourceRules": rules}, **spec}})
        assert answer.status == 201, answer.json
        actions = {} if mutating else {"validationActions": ["Deny"]}
        answer = client.post(f"{API}/{kind.replace('policies', 'policybindings')}", {"metadata": {"name": f"b-{name}-{ns}"}, "spec": {
            "policyName": f"{name}-{ns}", "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}}},
            **actions, **(binding or {})}})
        assert answer.status == 201, answer.json
        made.extend((f"{API}/{kind}/{name}-{ns}", f"{API}/{kind.replace('policies', 'policybindings')}/b-{name}-{ns}"))

    yield one
    for path in made:
        client.delete(path)


def maps(ns: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/configmaps" + (f"/{name}" if name else "")


def test_an_expression_refuses(client: Client, ns: str, policy: Any) -> None:
    policy("size", validations=[{"expression": "object.data.size() <= 1", "message": "at most one key"},
                                {"expression": "!object.metadata.name.startsWith('x')"}])
    assert client.post(maps(ns), config_map("a", k="v")).status == 201
    answer = client.post(maps(ns), config_map("b", k="v", l="w"))
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["message"] == (f"configmaps \"b\" is forbidden: ValidatingAdmissionPolicy 'size-{ns}' with binding "
                                      f"'b-size-{ns}' denied request: at most one key")
    named = client.post(maps(ns), config_map("x", k="v"))
    assert "failed expression: !object.metadata.name.startsWith('x')" in named.json["message"]


def test_updates_know_the_past(client: Client, ns: str, policy: Any) -> None:
    policy("past", validations=[{"expression": "oldObject == null || object.data.k == oldObject.data.k",
                                 "messageExpression": "'k was ' + oldObject.data.k", "reason": "Forbidden"}])
    client.post(maps(ns), config_map("a", k="1"))
    answer = client.patch(maps(ns, "a"), {"data": {"k": "2"}})
    assert (answer.status, answer.json["reason"]) == (403, "Forbidden")
    assert "k was 1" in answer.json["message"]
    assert client.patch(maps(ns, "a"), {"data": {"l": "2"}}).status == 200


def test_variables_conditions_and_the_request(client: Client, ns: str, policy: Any) -> None:
    policy("vars", variables=[{"name": "keys", "expression": "object.data.map(k, k)"},
                              {"name": "count", "expression": "variables.keys.size()"}],
           matchConditions=[{"name": "me", "expression": "request.userInfo.username == 'kubernetes-admin'"},
                            {"name": "lab", "expression": "namespaceObject.metadata.name == request.namespace"}],
           validations=[{"expression": "variables.count < 2", "messageExpression": "'found ' + string(variables.count)"}])
    assert "found 2" in client.post(maps(ns), config_map("a", k="1", l="2")).json["message"]


def test_parameters(client: Client, ns: str, policy: Any) -> None:
    policy("params", paramKind={"apiVersion": "v1", "kind": "ConfigMap"}, binding={
        "paramRef": {"name": "limits", "namespace": ns, "parameterNotFoundAction": "Deny"}},
        rules=[{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"]}],
        validations=[{"expression": "object.metadata.name.size() <= int(params.data.most)"}])
    secrets = f"/api/v1/namespaces/{ns}/secrets"
    missing = client.post(secrets, {"metadata": {"name": "a"}})
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in missing.json["message"]
    client.post(maps(ns), config_map("limits", most="3"))
    assert client.post(secrets, {"metadata": {"name": "abc"}}).status == 201
    assert client.post(secrets, {"metadata": {"name": "abcd"}}).status == 422


@pytest.mark.parametrize(("policy_", "status"), [("Fail", 422), ("Ignore", 201)])
def test_what_has_no_value(client: Client, ns: str, policy: Any, policy_: str, status: int) -> None:
    policy("broken", failurePolicy=policy_, validations=[{"expression": "object.data.nope == 'x'"}])
    answer = client.post(maps(ns), config_map("a", k="v"))
    assert answer.status == status
    assert status == 201 or "resulted in error: no such key: nope" in answer.json["message"]


def test_warnings_instead(client: Client, ns: str, policy: Any) -> None:
    policy("warn", validations=[{"expression": "false", "message": "mind"}], binding={"validationActions": ["Warn", "Audit"]})
    answer = client.post(maps(ns), config_map("a"))
    assert answer.status == 201
    assert f"Validation failed for ValidatingAdmissionPolicy 'warn-{ns}' with binding 'b-warn-{ns}': mind" in answer.warnings


def test_who_else_may(client: Client, ns: str, policy: Any) -> None:
    policy("auth", validations=[
        {"expression": "authorizer.group('').resource('pods').namespace(request.namespace).check('delete').allowed()"},
        {"expression": "authorizer.requestResource.check('frob').allowed()"},
        {"expression": "authorizer.path('/healthz').check('get').allowed()"}])
    assert client.post(maps(ns), config_map("a")).status == 201


@pytest.mark.parametrize("spec", [
    {"validations": [{"expression": "object.data +"}]}, {"validations": [{"expression": "nofunction(object)"}]},
    {"validations": [{"expression": "true"}], "variables": [{"name": "x", "expression": "self"}]},
])
def test_texts_that_are_no_expressions(client: Client, spec: dict) -> None:
    answer = client.post(f"{API}/validatingadmissionpolicies", {"metadata": {"name": "bad"}, "spec": {
        "matchConstraints": {"resourceRules": MAPS}, **spec}})
    assert answer.status == 422
    assert "compilation failed" in answer.json["message"]


def test_policies_change_objects(client: Client, ns: str, policy: Any) -> None:
    policy("apply", mutating=True, mutations=[{"patchType": "ApplyConfiguration", "applyConfiguration": {
        "expression": "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}}, "
                      "data: object.data.exists(k, k == 'plain') ? {} : {'added': '{not: a literal}'}}"}}])
    policy("patch", mutating=True, mutations=[{"patchType": "JSONPatch", "jsonPatch": {
        "expression": "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('a/b'), value: 'x'}]"}}])
    made = client.post(maps(ns), config_map("a", k="v"))
    assert made.status == 422  # "a/b" is no key of a ConfigMap: both policies were there, and the checks come after them
    assert "a/b" in made.json["message"]
    client.delete(f"{API}/mutatingadmissionpolicies/patch-{ns}")
    made = client.post(maps(ns), config_map("a", k="v"))
    assert made.json["data"] == {"k": "v", "added": "{not: a literal}"}
    assert made.json["metadata"]["labels"] == {"by": "kubernetes-admin"}


def test_lists_are_merged_by_key(client: Client, ns: str, policy: Any) -> None:
    policy("sidecar", mutating=True, rules=PODS, mutations=[{"patchType": "ApplyConfiguration", "applyConfiguration": {
        "expression": """Object{spec: Object.spec{initContainers: [Object.spec.initContainers{
            name: "mesh", image: "mesh:1", restartPolicy: "Always"}],
            containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, env: [
                Object.spec.containers.env{name: "MESH", value: "on"}]})}}"""}}])
    spec = client.post(f"/api/v1/namespaces/{ns}/pods", pod("p")).json["spec"]
    assert [container["name"] for container in spec["initContainers"]] == ["mesh"]
    assert spec["containers"][0]["image"] == "busybox"
    assert spec["containers"][0]["env"] == [{"name": "MESH", "value": "on"}]


def observed(client: Client, name: str, generation: int) -> Any:
    """Return the status of a policy once this generation of it was looked at."""
    with client.watch(f"{API}/validatingadmissionpolicies?watch=1&fieldSelector=metadata.name%3D{name}") as events:
        seen = events.until(lambda event: event["object"]["status"].get("observedGeneration") == generation)
    return seen[-1]["object"]["status"]


def test_what_does_not_fit_the_kind_is_told(client: Client, ns: str, policy: Any) -> None:
    rules = [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments", "*/scale"]},
             {"apiGroups": ["*"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    policy("typed", rules=rules, variables=[{"name": "template", "expression": "object.spec.template"}], validations=[
        {"expression": "object.replicas > 1"}, {"expression": "object.spec.replicas > 1", "messageExpression": "string(variables.template.spec.nope)"},
        {"expression": "object.spec.template.spec.containers.all(c, c.resources.limits['cpu'] == '1' && c.name.size() > 1)"}])
    path = f"{API}/validatingadmissionpolicies/typed-{ns}"
    assert observed(client, f"typed-{ns}", 1) == {"observedGeneration": 1, "typeChecking": {"expressionWarnings": [
        {"fieldRef": "spec.validations[0].expression",
         "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n"},
        {"fieldRef": "spec.validations[1].messageExpression",
         "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:31: undefined field 'nope'\n | string(variables.template.spec.nope)\n | ..............................^\n"}]}}
    spec = client.get(path).json["spec"]
    client.put(path, {**client.get(path).json, "spec": {**spec, "validations": spec["validations"][2:]}})
    assert observed(client, f"typed-{ns}", 2)["typeChecking"] == {}


@pytest.mark.soak
def test_all_policies_of_a_request_share_their_time(client: Client, ns: str, policy: Any) -> None:
    loop = "[" + ", ".join(map(str, range(250))) + "]"
    slow = {"expression": f"{loop}.all(x, {loop}.all(y, x != 5000 || y > 5000 || x + y + x > 0))"}
    for number in range(5):
        policy(f"slow{number}", validations=[slow] * 9)
    answer = client.post(maps(ns), config_map("a"))
    assert answer.status == 422
    assert "running out of cost budget" in answer.json["message"]


@pytest.mark.parametrize(("policy_", "failures"), [("Fail", 1), ("Ignore", 0)])
def test_what_finds_no_time_left_fails(policy_: str, failures: int) -> None:
    spec = {"failurePolicy": policy_, "validations": [{"expression": "[1, 2].all(x, x > 0)"}]}
    spent = Budget(10**7, within=Budget(10**9, seconds=-1.0))
    bound = Bound({"kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": spec}, {"metadata": {"name": "b"}}, {}, RESOURCES[0], spent)
    found = failed(bound, None)  # type: ignore[arg-type] # no expression here asks about the write
    assert [failure.reason for failure in found] == ["Invalid"] * failures
    assert all("running out of cost budget" in failure.said for failure in found)


def test_conditions_of_webhooks_are_checked(client: Client) -> None:
    hook = {"name": "a.b.c", "clientConfig": {"url": "https://127.0.0.1:1"}, "rules": [], "sideEffects": "None", "admissionReviewVersions": ["v1"]}
    for text, said in (("object.x", "must evaluate to bool but got dyn"), ("params.x == 1", "undeclared reference to 'params'"), ("request.a == 1", "undefined field 'a'")):
        answer = client.post(f"{API}/validatingwebhookconfigurations", {"metadata": {"name": "conditions"}, "webhooks": [
            {**hook, "matchConditions": [{"name": "c", "expression": text}]}]})
        assert answer.status == 422, answer.json
        assert "webhooks[0].matchConditions[0].expression" in answer.json["message"]
        assert said in answer.json["message"]
