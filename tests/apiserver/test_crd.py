"""CustomResourceDefinitions: kinds that come and go while the server runs."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from netlab.apiserver.crd import columns, rules, structural, values
from tests.apiserver.conftest import Answer, Client, Kubectl, Server

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SPEC = {"type": "object", "properties": {
    "replicas": {"type": "integer", "default": 1, "minimum": 0, "maximum": 10},
    "image": {"type": "string", "pattern": "^[a-z]+$"},
    "port": {"x-kubernetes-int-or-string": True},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
        "type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "number": {"type": "integer", "default": 80}}}},
    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}}
SCHEMA = {"type": "object", "properties": {
    "spec": SPEC, "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}}}


def version(name: str = "v1", *, storage: bool = True, schema: dict | None = None, **more: Any) -> dict:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema or SCHEMA}, **more}


def definition(plural: str, *versions: dict, group: str = "example.com", scope: str = "Namespaced", **names: Any) -> dict:
    kind = plural[:-1].capitalize()
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": scope, "names": {"plural": plural, "kind": kind, **names},
                     "versions": list(versions) or [version()]}}


def established(client: Client, made: dict, seconds: float = 10) -> dict:
    """Create a definition and wait until it is served."""
    answer = client.post(CRDS, made)
    assert answer.status == 201, answer.json
    path = f"{CRDS}/{made['metadata']['name']}"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = client.get(path).json
        states = {condition["type"]: condition for condition in found["status"].get("conditions", [])}
        if states.get("Established", {}).get("status") == "True":
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def gone(client: Client, path: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while client.get(path).status != 404:
        assert time.monotonic() < end, client.get(path).json
        time.sleep(0.02)


@pytest.fixture(scope="module")
def widgets(server: Server) -> str:
    """The kind Widget of example.com, with everything."""
    established(server.client(), definition(
        "widgets", version(subresources={"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector"}},
            additionalPrinterColumns=[{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                                      {"name": "Image", "type": "string", "jsonPath": ".spec.image", "priority": 1}],
            selectableFields=[{"jsonPath": ".spec.image"}]),
        shortNames=["wd"], categories=["all"]))
    return "/apis/example.com/v1/namespaces/{}/widgets"


def widget(name: str, **spec: Any) -> dict:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


def test_a_definition_is_discovered(server: Server, client: Client, widgets: str) -> None:
    found = client.get("/apis/example.com/v1").json
    assert {row["name"] for row in found["resources"]} == {"widgets", "widgets/status", "widgets/scale"}
    assert found["resources"][0]["shortNames"] == ["wd"]
    every = client.get("/apis", Accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList").json
    assert "example.com" in [item["metadata"]["name"] for item in every["items"]]
    state = client.get(f"{CRDS}/widgets.example.com").json["status"]
    assert state["acceptedNames"]["listKind"] == "WidgetList"
    assert state["storedVersions"] == ["v1"]
    assert {condition["type"]: condition["status"] for condition in state["conditions"]} == {
        "NamesAccepted": "True", "Established": "True"}
    old = client.get("/openapi/v2").json["definitions"]["com.example.v1.Widget"]
    assert old["properties"]["spec"]["properties"]["replicas"]["maximum"] == 10
    packed = client.get("/openapi/v2", Accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf").body
    assert b"com.example.v1.Widget" in packed


def test_objects_are_defaulted_and_pruned(client: Client, ns: str, widgets: str) -> None:
    made = client.post(widgets.format(ns), widget("a", image="abc", nope=1, free={"x": {"y": 1}}, ports=[{"name": "http", "odd": 1}]))
    assert made.status == 201, made.json
    assert made.json["spec"] == {"replicas": 1, "image": "abc", "free": {"x": {"y": 1}}, "ports": [{"name": "http", "number": 80}]}
    assert r'unknown field \"spec.nope\"' in made.warnings
    assert made.json["metadata"]["generation"] == 1
    strict = client.post(f"{widgets.format(ns)}?fieldValidation=Strict", widget("b", nope=1))
    assert strict.status == 400
    assert 'strict decoding error: unknown field "spec.nope"' in strict.json["message"]
    listed = client.get(widgets.format(ns)).json
    assert (listed["kind"], listed["apiVersion"]) == ("WidgetList", "example.com/v1")
    assert client.get("/apis/example.com/v1/widgets?fieldSelector=spec.image=abc").json["items"]
    assert not client.get("/apis/example.com/v1/widgets?fieldSelector=spec.image=xyz").json["items"]


@pytest.mark.parametrize(("spec", "field", "said"), [
    ({"replicas": "many"}, "spec.replicas", 'Invalid value: "string": spec.replicas in body must be of type integer: "string"'),
    ({"replicas": 11}, "spec.replicas", "Invalid value: 11: spec.replicas in body should be less than or equal to 10"),
    ({"image": "A1"}, "spec.image", "Invalid value: \"A1\": spec.image in body should match '^[a-z]+$'"),
    ({"port": True}, "spec.port", 'Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"'),
    ({"ports": [{"number": 1}]}, "spec.ports[0].name", "Required value"),
    ({"ports": [{"name": "a"}, {"name": "a"}]}, "spec.ports[1]", 'Duplicate value: {"name":"a"}'),
    ({"tags": ["a", "b", "a"]}, "spec.tags[2]", 'Duplicate value: "a"'),
    ({"labels": {"a": 1}}, "spec.labels.a", 'Invalid value: "integer": spec.labels.a in body must be of type string: "integer"'),
])
def test_objects_are_checked(client: Client, ns: str, widgets: str, spec: dict, field: str, said: str) -> None:
    answer = client.post(widgets.format(ns), widget("bad", **spec))
    assert answer.status == 422, answer.json
    assert (field, said) in [(cause["field"], cause["message"]) for cause in answer.json["details"]["causes"]]
    assert answer.json["message"].startswith('Widget.example.com "bad" is invalid: ')


def test_status_and_scale_are_apart(client: Client, ns: str, widgets: str) -> None:
    path = f"{widgets.format(ns)}/s"
    client.post(widgets.format(ns), {**widget("s"), "status": {"replicas": 5}})
    assert "status" not in client.get(path).json
    changed = client.patch(f"{path}/status", {"status": {"replicas": 3, "selector": "a=b"}, "spec": {"replicas": 9}}).json
    assert changed["status"] == {"replicas": 3, "selector": "a=b"}
    assert changed["spec"]["replicas"] == 1
    assert changed["metadata"]["generation"] == 1
    scale = client.get(f"{path}/scale").json
    assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {"replicas": 1}, {"replicas": 3, "selector": "a=b"})
    assert client.patch(f"{path}/scale", {"spec": {"replicas": 4}}).json["spec"]["replicas"] == 4
    after = client.get(path).json
    assert (after["spec"]["replicas"], after["metadata"]["generation"], after["status"]["replicas"]) == (4, 2, 3)


def test_no_strategic_merge_for_custom_resources(client: Client, ns: str, widgets: str) -> None:
    client.post(widgets.format(ns), widget("m"))
    assert client.patch(f"{widgets.format(ns)}/m", {"spec": {"image": "x"}}, kind="strategic").status == 415
    assert client.patch(f"{widgets.format(ns)}/m", [{"op": "add", "path": "/spec/image", "value": "x"}], kind="json").json["spec"]["image"] == "x"


def test_apply_knows_the_lists(client: Client, ns: str, widgets: str) -> None:
    path = f"{widgets.format(ns)}/ap"
    one = client.patch(f"{path}?fieldManager=one", widget("ap", ports=[{"name": "a", "number": 1}], tags=["x"]), kind="apply")
    assert one.status == 201, one.json
    two = client.patch(f"{path}?fieldManager=two", widget("ap", ports=[{"name": "b", "number": 2}], tags=["y"]), kind="apply").json
    assert [port["name"] for port in two["spec"]["ports"]] == ["a", "b"]
    assert two["spec"]["tags"] == ["x", "y"]
    clash = client.patch(f"{path}?fieldManager=two", widget("ap", ports=[{"name": "a", "number": 9}]), kind="apply")
    assert clash.status == 409
    assert clash.json["details"]["causes"][0]["field"] == '.spec.ports[name="a"].number'
    gone_ = client.patch(f"{path}?fieldManager=one", widget("ap"), kind="apply").json
    assert [port["name"] for port in gone_["spec"]["ports"]] == ["b"]


def test_null_and_unknown_fields_in_an_apply(client: Client, ns: str) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "strict": {"type": "string"}, "maybe": {"type": "string", "nullable": True, "default": "d"},
        "part": {"type": "object", "nullable": True, "required": ["x"], "properties": {"x": {"type": "string"}}}}}}}
    crd = definition(f"nulls{ns}", version(schema=schema))
    established(client, crd)
    path = f"/apis/example.com/v1/namespaces/{ns}/nulls{ns}/n?fieldManager=one"

    def applied(**spec: Any) -> Answer:
        return client.patch(path, {"apiVersion": "example.com/v1", "kind": crd["spec"]["names"]["kind"], "metadata": {
            "name": "n", "creationTimestamp": None}, "spec": spec}, kind="apply")

    assert applied(part={"x": "1"}).json["spec"] == {"part": {"x": "1"}, "maybe": "d"}
    made = applied(maybe=None, part=None).json
    assert made["spec"] == {"maybe": None, "part": None}
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:spec": {"f:maybe": {}, "f:part": {}}}
    assert "must be of type string" in applied(strict=None).json["message"]
    assert applied(strict="s").json["spec"] == {"strict": "s", "maybe": "d"}
    unknown = applied(other=1)
    assert unknown.status == 400
    assert ".spec.other: field not declared in schema" in unknown.json["message"]


def test_kubectl_lives_with_it(client: Client, ns: str, widgets: str, kubectl: Kubectl) -> None:
    manifest = json.dumps(widget("k", image="abc", replicas=2))
    assert "created" in kubectl("apply", "-f", "-", stdin=manifest)
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=manifest)
    assert "configured" in kubectl("apply", "-f", "-", stdin=json.dumps(widget("k", image="abd", replicas=2)))
    lines = kubectl("get", "wd", "k").splitlines()
    assert lines[0].split() == ["NAME", "REPLICAS"]
    assert lines[1].split() == ["k", "2"]
    assert kubectl("get", "wd", "-o", "wide").splitlines()[0].split() == ["NAME", "REPLICAS", "IMAGE"]
    assert "widget.example.com/k" in kubectl("get", "all")
    assert "replicas\t<integer>" in kubectl("explain", "widget.spec")
    assert "scaled" in kubectl("scale", "widget/k", "--replicas=5")
    unknown = 'unknown field "spec.odd"' if kubectl.minor >= 25 else 'unknown field "odd" in com.example.v1.Widget.spec'
    assert unknown in kubectl.fails("create", "-f", "-", stdin=json.dumps(widget("z", odd=1)))  # old ones look by themselves
    assert "labeled" in kubectl("label", "wd", "k", "a=b")
    assert "deleted" in kubectl("delete", "wd", "k")


def test_versions_are_converted(client: Client, ns: str) -> None:
    made = established(client, definition("gadgets", version("v1beta1", storage=False), version("v2"), version("v1", storage=False)))
    assert made["spec"]["conversion"] == {"strategy": "None"}
    group = client.get("/apis/example.com").json
    order = [row["version"] for row in group["versions"]]
    assert order.index("v2") < order.index("v1") < order.index("v1beta1")
    base = f"/apis/example.com/{{}}/namespaces/{ns}/gadgets"
    body = {"apiVersion": "example.com/v1beta1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"image": "x"}}
    assert client.post(base.format("v1beta1"), body).json["apiVersion"] == "example.com/v1beta1"
    assert client.get(base.format("v1") + "/g").json["apiVersion"] == "example.com/v1"
    assert client.get(base.format("v2")).json["items"][0]["spec"]["image"] == "x"
    crd = client.get(f"{CRDS}/gadgets.example.com").json
    for one in crd["spec"]["versions"]:
        one["storage"] = one["name"] == "v1"
    changed = client.put(f"{CRDS}/gadgets.example.com", crd)
    assert changed.json["status"]["storedVersions"] == ["v2", "v1"]
    for one in ("v1", "v2"):  # also that which is stored now, of what was stored before
        assert client.get(base.format(one) + "/g").json["apiVersion"] == f"example.com/{one}"
        assert client.get(base.format(one)).json["items"][0]["apiVersion"] == f"example.com/{one}"
    assert client.patch(base.format("v2") + "/g", {"spec": {"image": "y"}}).json["spec"]["image"] == "y"
    assert client.get(base.format("v1") + "/g").json["spec"]["image"] == "y"


def test_a_changed_definition_holds_for_what_is_stored(client: Client, ns: str) -> None:
    """New defaults are filled in and fields that went are left out when old objects are read, listed and watched."""
    def shape(**properties: Any) -> dict:
        return {"type": "object", "properties": {"spec": {"type": "object", "default": {}, "properties": properties}}}

    text = {"type": "string"}
    established(client, definition("mutables", version(schema=shape(a=text, b=text))))
    path = f"/apis/example.com/v1/namespaces/{ns}/mutables"
    made = client.post(path, {"apiVersion": "example.com/v1", "kind": "Mutable", "metadata": {"name": "m"}, "spec": {"a": "x"}}).json
    assert client.get(f"{path}/m").json["spec"] == {"a": "x"}
    changed = client.patch(f"{CRDS}/mutables.example.com", [{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
                                                             "value": shape(b=text | {"default": "y"})}], kind="json")
    assert changed.status == 200, changed.json
    end = time.monotonic() + 10
    while client.get(f"{path}/m").json["spec"] != {"b": "y"}:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert client.get(f"{path}/m").json["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert client.get(path).json["items"][0]["spec"] == {"b": "y"}
    with client.watch(f"{path}?watch=1") as watching:
        assert watching.take(1)[0]["object"]["spec"] == {"b": "y"}
    assert client.patch(f"{path}/m", {"metadata": {"labels": {"l": "m"}}}).json["spec"] == {"b": "y"}
    assert client.get(f"{path}/m").json["spec"] == {"b": "y"}


def test_rules_hold(client: Client, ns: str) -> None:
    schema = {"type": "object", "properties": {"spec": {
        "type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string"},
                                         "size": {"type": "string"}},
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "message": "min must not be above max", "fieldPath": ".min"},
            {"rule": "!has(self.name) || self.name == oldSelf.name", "messageExpression": "'name stays ' + oldSelf.name"},
            {"rule": "!has(self.size) || quantity(self.size).isLessThan(quantity('1Gi'))", "reason": "FieldValueForbidden"}]}}}
    established(client, definition("limits", version(schema=schema)))
    path = f"/apis/example.com/v1/namespaces/{ns}/limits"
    bad = client.post(path, {"metadata": {"name": "l"}, "spec": {"min": 3, "max": 2}})
    assert bad.status == 422
    assert bad.json["details"]["causes"] == [{"reason": "FieldValueInvalid", "field": "spec.min",
                                              "message": "Invalid value: min must not be above max"}]
    assert client.post(path, {"metadata": {"name": "l"}, "spec": {"min": 1, "max": 2, "name": "a"}}).status == 201
    moved = client.patch(f"{path}/l", {"spec": {"name": "b"}})
    assert 'name stays a' in moved.json["message"]
    big = client.patch(f"{path}/l", {"spec": {"size": "2Gi"}})
    assert big.json["details"]["causes"][0]["reason"] == "FieldValueForbidden"
    missing = client.post(path, {"metadata": {"name": "n"}, "spec": {"min": 1}})
    assert "no such key: max" in missing.json["message"]
    assert client.patch(f"{path}/l", {"spec": {"size": "1Mi", "max": 5}}).status == 200


def test_what_was_wrong_before_is_let_be(client: Client, ns: str) -> None:
    made = definition("ratchets")
    established(client, made)
    path = f"/apis/example.com/v1/namespaces/{ns}/ratchets"
    client.post(path, {"metadata": {"name": "r"}, "spec": {"image": "abc", "replicas": 9}})
    crd = client.get(f"{CRDS}/ratchets.example.com").json
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"]["maximum"] = 5
    client.put(f"{CRDS}/ratchets.example.com", crd)
    end = time.monotonic() + 5
    while client.post(path, {"metadata": {"name": "q"}, "spec": {"replicas": 8}}).status != 422:
        client.delete(f"{path}/q")
        assert time.monotonic() < end
    assert client.patch(f"{path}/r", {"spec": {"image": "abd"}}).status == 200
    assert client.patch(f"{path}/r", {"spec": {"replicas": 8}}).status == 422


@pytest.mark.parametrize("conditions", [[{"message": "patched"}], [{"type": "Established"}], []])
def test_conditions_that_say_nothing_disturb_nobody(client: Client, conditions: list) -> None:
    """One such status was enough for no later definition to be served."""
    made = established(client, definition("oddities"))
    path = f"{CRDS}/{made['metadata']['name']}"
    patched = client.patch(f"{path}/status", [{"op": "add", "path": "/status/conditions", "value": conditions}], kind="json").json
    assert all({"type", "status"} <= set(condition) for condition in patched["status"]["conditions"])
    later = established(client, definition("laters"))["metadata"]["name"]
    assert client.get("/apis/example.com/v1/namespaces/default/oddities").status == 200
    for name in (later, made["metadata"]["name"]):
        client.delete(f"{CRDS}/{name}")
        gone(client, f"{CRDS}/{name}")


def test_a_definition_takes_its_objects_along(client: Client, ns: str) -> None:
    established(client, definition("ends", scope="Cluster"))
    client.post("/apis/example.com/v1/ends", {"metadata": {"name": "a"}})
    client.post("/apis/example.com/v1/ends", {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}})
    assert client.delete(f"{CRDS}/ends.example.com").status == 200
    end = time.monotonic() + 10
    while client.get("/apis/example.com/v1/ends/a").status != 404:
        assert time.monotonic() < end
    assert "deletionTimestamp" in client.get("/apis/example.com/v1/ends/held").json["metadata"]
    refused = client.post("/apis/example.com/v1/ends", {"metadata": {"name": "late"}})
    assert refused.status == 405
    assert "while custom resource definition is terminating" in refused.json["message"]
    client.patch("/apis/example.com/v1/ends/held", {"metadata": {"finalizers": None}})
    gone(client, f"{CRDS}/ends.example.com")
    gone(client, "/apis/example.com/v1/ends")


def test_names_are_had_once(client: Client) -> None:
    established(client, definition("firsts", shortNames=["fst"]))
    second = definition("seconds", shortNames=["fst"])
    client.post(CRDS, second)
    end = time.monotonic() + 10
    while not client.get(f"{CRDS}/seconds.example.com").json["status"].get("conditions"):
        assert time.monotonic() < end
    states = {one["type"]: one for one in client.get(f"{CRDS}/seconds.example.com").json["status"]["conditions"]}
    assert states["NamesAccepted"]["reason"] == "ShortNamesConflict"
    assert states["NamesAccepted"]["message"] == '"fst" is already in use'
    assert client.get("/apis/example.com/v1/namespaces/default/seconds").status == 404


def test_definitions_survive_a_restart(servers) -> None:
    server = servers()
    established(server.client(), definition("keepers"))
    server.client().post("/apis/example.com/v1/namespaces/default/keepers", {"metadata": {"name": "k"}})
    assert server.stop() == 0
    server.start()
    assert server.client().get("/apis/example.com/v1/namespaces/default/keepers/k").status == 200


def bad(**changes: Any) -> dict:
    made = definition("bads")
    made["spec"] |= changes
    return made


@pytest.mark.parametrize(("made", "field"), [
    (bad(group="nodot"), "spec.group"),
    (bad(scope="Galaxy"), "spec.scope"),
    (bad(versions=[]), "spec.versions"),
    (bad(versions=[version(), version("v2")]), "spec.versions"),
    (bad(versions=[{"name": "v1", "served": True, "storage": True}]), "spec.versions[0].schema.openAPIV3Schema"),
    (bad(versions=[version(schema={"type": "object", "properties": {"a": {}}})]),
     "spec.validation.openAPIV3Schema.properties[a].type"),
    (bad(versions=[version(schema={"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}})]),
     "spec.validation.openAPIV3Schema.properties[a].default"),
    (bad(versions=[version(schema={"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object", "properties": {
        "k": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}}})]),
     "spec.validation.openAPIV3Schema.properties[a].items.properties[k].default"),
    (bad(versions=[version(schema={"type": "object", "x-kubernetes-validations": [{"rule": "self.a +"}]})]),
     "spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule"),
    (bad(versions=[version(additionalPrinterColumns=[{"name": "x", "type": "string", "jsonPath": "{bad"}])]),
     "spec.additionalPrinterColumns[0].JSONPath"),
    (bad(conversion={"strategy": "Webhook"}), "spec.conversion.webhookClientConfig"),
    (bad(group="x.k8s.io"), "metadata.annotations[api-approved.kubernetes.io]"),
])
def test_bad_definitions_are_refused(client: Client, made: dict, field: str) -> None:
    answer = client.post(CRDS, made)
    assert answer.status == 422, answer.json
    assert field in [cause["field"] for cause in answer.json["details"]["causes"]]


@pytest.mark.parametrize(("path", "found"), [
    (".spec.a", [1]), (".spec.list[0]", ["x"]), (".spec.list[*]", ["x", "y"]), (".spec['b.c']", [2]),
    (r".spec.b\.c", [2]), (".status.conditions[?(@.type==\"Ready\")].status", ["True"]), (".nope.x", []),
])
def test_column_paths(path: str, found: list) -> None:
    obj = {"spec": {"a": 1, "list": ["x", "y"], "b.c": 2}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert columns.find(obj, columns.parse(path)) == found


def test_lists_in_rules_know_their_past() -> None:
    schema = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {
        "type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}}
    old = [{"n": "a", "v": 5}, {"n": "b", "v": 1}]
    assert not rules.check([{"n": "b", "v": 2}, {"n": "a", "v": 5}, {"n": "c", "v": 0}], old, schema, "x", updating=True)
    assert [error.field for error in rules.check([{"n": "b", "v": 0}], old, schema, "x", updating=True)] == ["x[0]"]
    optional = {"type": "integer", "x-kubernetes-validations": [
        {"rule": "oldSelf.hasValue() || self > 3", "optionalOldSelf": True}]}
    assert rules.check(2, None, optional, "x", updating=False)
    assert not rules.check(2, 1, optional, "x", updating=True)


def test_escaped_names_and_times() -> None:
    schema = {"type": "object", "properties": {
        "a-b": {"type": "string"}, "namespace": {"type": "string"}, "at": {"type": "string", "format": "date-time"},
        "for": {"type": "string", "format": "duration"}}, "x-kubernetes-validations": [
        {"rule": "self.a__dash__b == 'x' && self.__namespace__ == 'y' && self.at > timestamp('2020-01-01T00:00:00Z') "
                 "&& self.__for__ == duration('90s')"}]}
    value = {"a-b": "x", "namespace": "y", "at": "2021-01-01T00:00:00Z", "for": "1m30s"}
    assert not rules.check(value, None, schema, "", updating=False)
    assert rules.check(value | {"for": "1s"}, None, schema, "", updating=False)


@pytest.mark.parametrize(("schema", "value", "good"), [
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, True),
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 2}, False),
    ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}, False),
    ({"not": {"required": ["a"]}}, {"a": 1}, False),
    ({"type": "string", "format": "ipv4"}, "10.0.0.1", True), ({"type": "string", "format": "ipv4"}, "::1", False),
    ({"type": "string", "format": "date-time"}, "2020-01-01T00:00:00Z", True), ({"type": "string", "format": "date-time"}, "x", False),
    ({"type": "integer"}, 1.0, True), ({"type": "integer"}, 1.5, False), ({"type": "boolean"}, 1, False),
    ({"type": "number", "multipleOf": 0.1}, 0.3, True), ({"type": "string", "nullable": True}, None, True),
    ({"type": "string"}, None, False), ({"enum": [1, "a"]}, True, False), ({"type": "integer", "format": "int32"}, 2**31, False),
])
def test_values(schema: dict, value: Any, good: bool) -> None:
    assert (not values.check(value, schema)) == good


def test_nulls() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "default": "d"}, "b": {"type": "string", "nullable": True},
                                               "c": {"type": "string"}}}
    obj: dict[str, Any] = {"a": None, "b": None, "c": None}
    structural.drop_nulls(obj, schema)
    structural.default(obj, schema)
    assert obj == {"a": "d", "b": None}


FOO = {"type": "object", "description": "Foo CRD for Testing", "properties": {
    "spec": {"type": "object", "description": "Specification of Foo", "properties": {"bars": {
        "type": "array", "description": "List of Bars and their specs.", "items": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "description": "Name of Bar."}, "bazs": {
                "type": "array", "description": "List of Bazs.", "items": {"type": "string"}}}}}}},
    "status": {"type": "object", "description": "Status of Foo"}}}


@pytest.mark.parametrize(("place", "said"), [
    ("", r"DESCRIPTION:.*Foo CRD for Testing.*FIELDS:.*apiVersion.*<string>.*APIVersion defines.*spec.*<Object>.*Specification of Foo"),
    (".metadata", r"DESCRIPTION:.*Standard object's metadata.*FIELDS:.*creationTimestamp.*<string>.*CreationTimestamp is a timestamp"),
    (".spec", r"DESCRIPTION:.*Specification of Foo.*FIELDS:.*bars.*<\[\]Object>.*List of Bars and their specs"),
    (".spec.bars", (r"(FIELD|RESOURCE):.*bars.*<\[\]Object>.*DESCRIPTION:.*List of Bars and their specs.*FIELDS:.*bazs.*<\[\]string>.*"
                   r"List of Bazs.*name.*<string>.*Name of Bar"))])
def test_what_upstreams_own_test_wants_explained(client: Client, kubectl: Kubectl, place: str, said: str) -> None:
    made = definition("foobars", version(schema=FOO))
    if client.get(f"{CRDS}/foobars.example.com").status != 200:
        established(client, made)
    deadline = time.monotonic() + 10
    while "example.com/v1" not in client.get("/openapi/v3").body.decode():
        assert time.monotonic() < deadline
    found = kubectl("explain", f"foobars{place}")
    assert re.search(f"(?s){said}", found), found
