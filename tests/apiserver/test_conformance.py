"""Steps of upstream's conformance tests that nothing else here covers (test/conformance/testdata/conformance.yaml)."""

from __future__ import annotations

import json

import pytest

from tests.apiserver.conftest import Client, Server
from tests.apiserver.test_crd import definition, established, version

PORTS = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["containerPort", "protocol"], "items": {
    "type": "object", "required": ["containerPort", "protocol"], "properties": {
        "containerPort": {"type": "integer", "format": "int32"}, "name": {"type": "string"}, "protocol": {"type": "string"}}}}
SPEC = {"foo": {"type": "string"}, "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"}, "ports": PORTS}
EMBEDDED = {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {
    "metadata": {"type": "object", "properties": {"name": {"type": "string"}}}, "spec": {"type": "object"}}}
FREE = {"x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture(scope="module")
def kinds(server: Server) -> None:
    for plural, schema in (
            ("closeds", {"type": "object", "properties": {"spec": {"type": "object", "properties": SPEC}}}),
            ("opens", {"type": "object", **FREE}),
            ("embeds", {"type": "object", "properties": {
                "spec": {"type": "object", **FREE, "properties": {**SPEC, "template": EMBEDDED}}}})):
        established(server.client(), definition(plural, version("v1beta1", schema=schema), group="fields.example.com", scope="Cluster"))


@pytest.mark.parametrize(("plural", "top", "meta", "spec", "said"), [
    ("closeds", "", "", "foo: foo1", ()),
    ("opens", "", "", "unknown: uk1", ()),
    ("closeds", "unknownField: unknown\n", "", "foo: foo1", (".unknownField: field not declared in schema",)),
    ("embeds", "", "  unknownMeta: x\n", "template: {apiversion: foo/v1, kind: Sub, metadata: {unknownSubMeta: x, name: s, namespace: t}}",
     (".spec.template.metadata.unknownSubMeta: field not declared in schema", ".metadata.unknownMeta: field not declared in schema")),
    ("embeds", "", "", "unknownDupe: a\n  unknownDupe: b", ('line 8: key "unknownDupe" already set in map',)),
])
def test_fields_of_custom_resources_are_validated_in_an_apply(client: Client, kinds: None, plural: str, top: str, meta: str,
                                                              spec: str, said: tuple[str, ...]) -> None:
    body = (f"apiVersion: fields.example.com/v1beta1\nkind: {plural[:-1].capitalize()}\nmetadata:\n  name: mytest\n{meta}{top}spec:\n"
            f'  cronSpec: "* * * * */5"\n  {spec}\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP\n')
    path = f"/apis/fields.example.com/v1beta1/{plural}/mytest?fieldManager=m&fieldValidation=Strict&dryRun=All"
    answer = client.request("PATCH", path, body.encode(), kind="application/apply-patch+yaml")
    assert answer.status == (400 if said else 201), answer.json
    for text in said:
        assert text in answer.json["message"]


def test_unknown_and_doubled_fields_of_a_typed_object(client: Client, ns: str) -> None:
    pod = {"metadata": {"labels": {"app": "n"}}, "spec": {"containers": [{"name": "n", "image": "n"}]}}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "unknownField": "foo", "replicas": 1, "selector": {"matchLabels": {"app": "n"}}, "template": pod}}
    text = json.dumps(body).replace('"replicas": 1', '"replicas": 2, "replicas": 3').encode()
    answer = client.request("POST", f"/apis/apps/v1/namespaces/{ns}/deployments?fieldValidation=Strict", text)
    assert 'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"' in answer.json["message"]


MATCH, OPTIONS = "resourceVersionMatch: Forbidden: ", 'ListOptions.meta.k8s.io "" is invalid: '


@pytest.mark.parametrize(("query", "said"), [
    ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", OPTIONS + "[" + MATCH + "resourceVersionMatch is forbidden unless "
     "resourceVersion is provided, sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list]"),
    ("watch=1&sendInitialEvents=true&resourceVersionMatch=Exact", OPTIONS + "[" + MATCH + "sendInitialEvents requires setting "
     'resourceVersionMatch to NotOlderThan, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]'),
    ("resourceVersion=1&resourceVersionMatch=x", OPTIONS + 'resourceVersionMatch: Unsupported value: "x": supported values: "Exact", '
     '"NotOlderThan", ""'),
    ("timeoutSeconds=abc", 'strconv.ParseInt: parsing "abc": invalid syntax'),
    ("watch=1&timeoutSeconds=abc", 'strconv.ParseInt: parsing "abc": invalid syntax'),
])
def test_options_of_lists_that_do_not_go_together(client: Client, ns: str, query: str, said: str) -> None:
    answer = client.get(f"/api/v1/namespaces/{ns}/configmaps?{query}")
    assert (answer.status, answer.json["message"]) == (422 if said.startswith("List") else 400, said)


@pytest.mark.parametrize(("query", "said"), [
    ("fieldManager=" + "x" * 129, "fieldManager: Too long: may not be more than 128 bytes"),
    ("fieldManager=a%07b", 'fieldManager: Invalid value: "a\\ab": invalid character U+0007 (at position 1)'),
    ("fieldValidation=x", 'fieldValidation: Unsupported value: "x": supported values: "", "Ignore", "Strict", "Warn"'),
])
def test_options_of_writes_that_are_none(client: Client, ns: str, query: str, said: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    made = client.post(f"{path}?{query}", {"metadata": {"name": "a"}})
    assert (made.status, made.json["message"]) == (422, f'CreateOptions.meta.k8s.io "" is invalid: {said}')
    client.post(path, {"metadata": {"name": "a"}})
    changed = client.patch(f"{path}/a?{query}", {"data": {"a": "b"}})
    assert (changed.status, changed.json["message"]) == (422, f'PatchOptions.meta.k8s.io "" is invalid: {said}')
    assert client.request("DELETE", f"{path}/a?gracePeriodSeconds=abc").json["message"] == (
        'strconv.ParseInt: parsing "abc": invalid syntax')


@pytest.mark.parametrize(("text", "status"), [("invalid", 400), ("3m", 200), ("0s", 200), ("", 200), ("2.5s", 200), ("1x", 400)])
def test_a_request_says_how_long_it_may_take(client: Client, text: str, status: int) -> None:
    answer = client.get(f"/version?timeout={text}")
    assert answer.status == status
    if status == 400:
        assert answer.json["message"] == f'invalid timeout specified in the request URL - time: invalid duration "{text}"'


def test_a_write_that_is_not_done_in_time_is_answered_all_the_same(client: Client, ns: str) -> None:
    connection = client.connect()
    connection.putrequest("POST", f"/api/v1/namespaces/{ns}/configmaps?timeout=100ms")
    connection.putheader("Content-Length", "100")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 504
    assert json.loads(answer.read())["reason"] == "Timeout"
    connection.close()


def test_a_job_that_is_resumed_starts_anew(client: Client, ns: str) -> None:
    path = f"/apis/batch/v1/namespaces/{ns}/jobs"
    client.post(path, {"metadata": {"name": "j"}, "spec": {"suspend": True, "template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})

    def told(start: str, suspended: str) -> int:
        return client.patch(f"{path}/j/status", {"status": {"startTime": start, "conditions": [
            {"type": "Suspended", "status": suspended}]}}).status

    assert told("2026-01-01T00:00:00Z", "True") == 200
    client.patch(f"{path}/j", {"spec": {"suspend": False}})
    assert told("2026-01-01T00:00:05Z", "True") == 422
    assert told("2026-01-01T00:00:05Z", "False") == 200
    assert told("2026-01-01T00:00:09Z", "False") == 422
