"""What clients see of corners where upstream's API has ways of its own: found by asking both servers the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.conftest import Client, config_map, pod
from tests.apiserver.test_objects import deployment, maps, pods

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def services(ns: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/services" + (f"/{name}" if name else "")


def deployments(ns: str, name: str = "") -> str:
    return f"/apis/apps/v1/namespaces/{ns}/deployments" + (f"/{name}" if name else "")


def owned(answer: Any) -> dict[str, Any]:
    [entry] = answer.json["metadata"]["managedFields"]
    fields: dict[str, Any] = entry["fieldsV1"]["f:spec"]
    return fields


def test_nobody_owns_what_admission_and_the_allocators_add(client: Client, ns: str) -> None:
    made = client.post(services(ns), {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}})
    assert {"ipFamilies", "clusterIP"} <= set(made.json["spec"])
    assert set(owned(made)) == {"f:ports", "f:selector", "f:sessionAffinity", "f:type", "f:internalTrafficPolicy"}
    made = client.post(pods(ns), pod("a"))
    assert {"tolerations", "priority"} <= set(made.json["spec"])
    assert not {"f:tolerations", "f:priority", "f:preemptionPolicy"} & set(owned(made))


def test_a_pod_that_goes_at_once_is_seen_going(client: Client, ns: str) -> None:
    made = client.post(pods(ns), pod("a", nodeName="n")).json
    with client.watch(f"{pods(ns)}?watch=1&resourceVersion={made['metadata']['resourceVersion']}") as events:
        gone = client.delete(pods(ns, "a"), {"gracePeriodSeconds": 0})
        seen = events.take(2)
    assert [event["type"] for event in seen] == ["MODIFIED", "DELETED"]
    for shown in (gone.json, *(event["object"] for event in seen)):
        assert shown["metadata"]["deletionGracePeriodSeconds"] == 0
        assert shown["metadata"]["deletionTimestamp"]
    assert client.get(pods(ns, "a")).status == 404


def test_a_dry_run_answers_as_the_real_thing(client: Client, ns: str) -> None:
    made = client.post(maps(ns), config_map("a", k="v")).json
    again = client.post(f"{maps(ns)}?dryRun=All", config_map("a"))
    assert (again.status, again.json["reason"]) == (409, "AlreadyExists")
    for body in (made | {"data": {"k": "w"}}, config_map("a", k="w")):
        changed = client.put(f"{maps(ns, 'a')}?dryRun=All", body).json
        assert changed["data"] == {"k": "w"}
        assert changed["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_a_name_that_will_be_free_soon_is_told(client: Client, ns: str) -> None:
    client.post(maps(ns), {"metadata": {"name": "a", "finalizers": ["example.com/wait"]}})
    client.delete(maps(ns, "a"))
    assert client.post(maps(ns), config_map("a")).json["message"] == (
        'object is being deleted: configmaps "a" already exists')
    client.patch(maps(ns, "a"), {"metadata": {"finalizers": None}})
    assert client.post(maps(ns), config_map("a")).status == 201


_SCHEME = 'in scheme "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"'
_CANNOT = 'in version "{}" cannot be handled as a ConfigMap: '
_UNSEEN = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: "
_STRUCT = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'


@pytest.mark.parametrize(("body", "said"), [
    ({"kind": "Nope"}, f'Nope {_CANNOT.format("v1")}no kind "Nope" is registered for version "v1" {_SCHEME}'),
    ({"apiVersion": "apps/v9", "kind": "ConfigMap"},
     f'ConfigMap {_CANNOT.format("v9")}no kind "ConfigMap" is registered for version "apps/v9" {_SCHEME}'),
    ({"apiVersion": "v1", "kind": "Pod"},
     f'Pod {_CANNOT.format("v1")}converting (v1.Pod) to (core.ConfigMap): unknown conversion'),
    (b"", f"{_UNSEEN}unexpected end of JSON input (<empty>)"),
    (b'{"a": ', f'{_UNSEEN}unexpected end of JSON input ({{"a": )'),
    (b"[]", f"{_UNSEEN}json: cannot unmarshal array into Go value of type {_STRUCT} (5b5d)"),
], ids=["kind", "version", "other", "empty", "cut", "list"])
def test_a_body_that_is_something_else(client: Client, ns: str, body: Any, said: str) -> None:
    answer = client.request("POST", maps(ns), body)
    assert (answer.status, answer.json["message"]) == (400, said)


def test_a_body_names_the_object_that_the_path_names(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))
    said = "the name of the object (a based on URL) was undeterminable: name must be provided"
    assert client.put(maps(ns, "a"), {"data": {"k": "v"}}).json["message"] == said
    there = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}}
    assert client.patch(f"{maps(ns, 'a')}?fieldManager=m", there, "apply").status == 200
    new = client.patch(f"{maps(ns, 'b')}?fieldManager=m", there, "apply")
    assert new.json["message"] == said.replace("(a ", "(b ")


def test_another_object_s_uid(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))
    other = {"metadata": {"name": "a", "uid": "other"}}
    assert client.put(maps(ns, "a"), other).status == 409
    assert client.put(maps(ns, "b"), {"metadata": {"name": "b", "uid": "other"}}).json["message"].endswith(
        "UID in precondition: other, UID in object meta: ")
    patched = client.patch(maps(ns, "a"), other)
    assert (patched.status, patched.json["details"]["causes"][0]["message"]) == (
        422, 'Invalid value: "other": field is immutable')
    unmet = client.delete(maps(ns, "a"), {"preconditions": {"uid": "other"}})
    assert (unmet.status, unmet.json["details"]["kind"]) == (409, "ConfigMap")


@pytest.mark.parametrize("kind", ["merge", "strategic", "json"])
def test_a_patch_that_makes_no_object_is_invalid(client: Client, ns: str, kind: str) -> None:
    client.post(maps(ns), config_map("a", k="v"))
    patch: Any = [{"op": "replace", "path": "/data", "value": 5}] if kind == "json" else {"data": 5}
    answer = client.patch(maps(ns, "a"), patch, kind)
    assert answer.status == 422
    assert answer.json["details"]["causes"][0]["field"] == "patch"
    assert answer.json["message"].startswith(' "" is invalid: patch: Invalid value: ')
    if kind == "strategic":  # that patch alone is shown, as Go prints maps
        assert "Invalid value: \"map[data:5]\": " in answer.json["message"]


def test_a_patch_may_not_move_an_object_to_another_namespace(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a", k="v"))
    answer = client.patch(maps(ns, "a"), {"metadata": {"namespace": "other"}})
    assert (answer.status, answer.json["message"]) == (
        400, f"the namespace of the object (other) does not match the namespace on the request ({ns})")


def test_an_apply_that_fits_no_schema_names_the_item(client: Client, ns: str) -> None:
    wrong = deployment("a") | {"apiVersion": "apps/v1", "kind": "Deployment"}
    wrong["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "nope": 1}]
    said = client.patch(f"{deployments(ns, 'a')}?fieldManager=m", wrong, "apply").json["message"]
    assert said.endswith('.spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].nope: field not '
                         "declared in schema")


def test_a_scale_of_none(client: Client, ns: str) -> None:
    client.post(deployments(ns), deployment("a", replicas=0))
    assert client.get(f"{deployments(ns, 'a')}/scale").json["spec"] == {}
    missing = client.get(f"{deployments(ns, 'b')}/scale").json
    assert (missing["message"], missing["details"]["kind"]) == ('deployments/scale.apps "b" not found', "deployments/scale")


@pytest.mark.parametrize("path", ["/apis/nope.io/v1", "/apis/nope.io/v1/foos", "/apis/apps/v9", "/apis/apps/v9/deployments",
                                  "/api/v9", "/nothing"])
def test_a_path_that_nobody_serves_is_answered_in_text(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


def test_an_unknown_resource_of_a_served_version_is_answered_by_a_status(client: Client, ns: str) -> None:
    for path in (f"/api/v1/namespaces/{ns}/nothings", "/apis/apps/v1/nothings", f"{maps(ns, 'a')}/nothing"):
        answer = client.get(path).json
        assert (answer["reason"], answer["details"]) == ("NotFound", {})


def test_a_page_of_less_than_none_is_everything(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a"))
    client.post(maps(ns), config_map("b"))
    assert {item["metadata"]["name"] for item in client.get(f"{maps(ns)}?limit=-1").json["items"]} >= {"a", "b"}
    assert client.get(f"{maps(ns)}?limit=x").json["message"] == 'strconv.ParseInt: parsing "x": invalid syntax'


@pytest.mark.parametrize(("path", "types"), [
    ("/api/v1/configmaps", "string string string"), ("/api/v1/secrets", "string string string string"),
    ("/apis/apps/v1/deployments", "string string string string string string string string"),
    ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "string date"),
    ("/apis/apps/v1/daemonsets", "string integer integer integer integer integer string string string string string"),
])
def test_columns_have_upstream_s_types(client: Client, path: str, types: str) -> None:
    columns = client.get(path, Accept=TABLE).json["columnDefinitions"]
    assert " ".join(column["type"] for column in columns) == types


def test_changed_metadata_is_checked_for_every_kind(client: Client, ns: str) -> None:
    client.post(services(ns), {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
    for wrong, field in (({"labels": {"a": "b c"}}, "metadata.labels"), ({"annotations": {"a b": "c"}}, "metadata.annotations"),
                         ({"finalizers": ["x"]}, "metadata.finalizers[0]"),
                         ({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]},
                          "metadata.ownerReferences.uid"),
                         ({"deletionTimestamp": "2026-01-31T00:00:00Z"}, "metadata.deletionTimestamp")):
        answer = client.patch(services(ns, "a"), {"metadata": wrong})
        assert (answer.status, [cause["field"] for cause in answer.json["details"]["causes"]]) == (422, [field])


def test_the_namespace_of_what_has_none_is_forgotten(client: Client, ns: str) -> None:
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    made = client.post(path, {"metadata": {"name": f"r-{ns}", "namespace": ns}, "rules": []})
    assert (made.status, "namespace" in made.json["metadata"]) == (201, False)
    again = client.put(f"{path}/r-{ns}", {"metadata": {"name": f"r-{ns}", "namespace": ns}, "rules": []})
    assert (again.status, "namespace" in again.json["metadata"]) == (200, False)


def test_amounts_and_times_are_kept_in_their_own_form(client: Client, ns: str) -> None:
    limits = {"cpu": 0.5, "memory": "0.5Gi", "example.com/x": 2}
    made = client.post(pods(ns), pod("a", containers=[{"name": "c", "image": "i", "resources": {"limits": limits}}])).json
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi", "example.com/x": "2"}
    lease = client.post(f"/apis/coordination.k8s.io/v1/namespaces/{ns}/leases", {
        "metadata": {"name": "a"}, "spec": {"renewTime": "2026-01-31T01:00:00+01:00"}}).json
    assert lease["spec"]["renewTime"] == "2026-01-31T00:00:00.000000Z"
