"""What custom resources are answered: word by word as kube-apiserver v1.36 does (all of these were asked of one)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from netlab.apiserver.crd import formats
from tests.apiserver.conftest import Client, Server
from tests.apiserver.test_crd import CRDS, definition, established, version

GADGET: dict[str, Any] = {"type": "object", "properties": {
    "spec": {"type": "object", "properties": {
        "s": {"type": "string", "minLength": 2, "maxLength": 5, "default": "dflt"}, "e": {"type": "string", "enum": ["A", "B"]},
        "i32": {"type": "integer", "format": "int32"}, "f": {"type": "number", "minimum": 0.5, "exclusiveMinimum": True},
        "whole": {"type": "integer", "minimum": 0.5}, "num": {"type": "integer", "maximum": 100},
        "date": {"type": "string", "format": "date-time"}, "uri": {"type": "string", "format": "uri"},
        "replicas": {"type": "integer"},
        "one": {"type": "object", "properties": {"l": {"type": "integer"}, "m": {"type": "integer"}},
                "oneOf": [{"required": ["l"]}, {"required": ["m"]}]},
        "any": {"type": "object", "properties": {"l": {"type": "integer"}},
                "anyOf": [{"properties": {"l": {"minimum": 3}}}, {"properties": {"l": {"enum": [1]}}}]},
        "not": {"type": "object", "properties": {"l": {"type": "integer"}}, "not": {"required": ["l"]}},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "maps": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                 "items": {"type": "object", "required": ["k"], "properties": {
                     "k": {"type": "string"}, "v": {"type": "integer", "maximum": 5}}}},
        "plain": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        "emb": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "req": {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.a <= self.b", "message": "a le b"}]}}},
    "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "words": {"type": "string"}}}}}
_SKIPPED = ("Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing "
            "errors to complete validation")
SKIPPED = "<nil>", "FieldValueInvalid", _SKIPPED
ONE_OF = 'Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found 2 valid alternatives'
OPTIONS = 'fieldValidation: Unsupported value: "Bad": supported values: "", "Ignore", "Strict", "Warn"'


@pytest.fixture(scope="module")
def gadgets(server: Server) -> Iterator[str]:
    """The kind Gadget, in two versions of which the older one is deprecated and knows no schema."""
    older = version("v1beta1", storage=False, deprecated=True, schema={"type": "object", "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}})
    columns = [("S", "string", ".spec.s"), ("F", "number", ".spec.f"), ("K", "string", ".spec.maps[*].k")]
    established(server.client(), definition("gadgets", version(
        schema=GADGET, subresources={"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
        additionalPrinterColumns=[{"name": name, "type": kind, "jsonPath": path} for name, kind, path in columns],
        selectableFields=[{"jsonPath": ".spec.s"}]), older))
    yield "/apis/example.com/v1/namespaces/{}/gadgets"
    server.client().delete(f"{CRDS}/gadgets.example.com")


def gadget(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec}


def causes(answer: Any) -> set[tuple[str, str, str]]:
    assert answer.status == 422, answer.json
    return {(one["field"], one["reason"], one["message"]) for one in answer.json["details"]["causes"]}


@pytest.mark.parametrize(("spec", "wanted"), [
    ({"s": 5}, {("spec.s", "FieldValueTypeInvalid", 'Invalid value: "integer": spec.s in body must be of type string: "integer"'),
                SKIPPED}),
    ({"s": "x"}, {("spec.s", "FieldValueInvalid", 'Invalid value: "x": spec.s in body should be at least 2 chars long')}),
    ({"e": "C"}, {("spec.e", "FieldValueNotSupported", 'Unsupported value: "C": supported values: "A", "B"'), SKIPPED}),
    ({"i32": 2**31}, {("<nil>", "FieldValueInvalid",
                       'Invalid value: "": Checked value must be of type integer with format int32 in spec.i32')}),
    ({"f": 0.5}, {("spec.f", "FieldValueInvalid", "Invalid value: 0.5: spec.f in body should be greater than 0.5")}),
    ({"date": -1}, {("spec.date", "FieldValueTypeInvalid",
                     'Invalid value: "int64": spec.date in body must be of type date-time: "int64"'), SKIPPED}),
    ({"uri": "::"}, {("spec.uri", "FieldValueTypeInvalid", 'Invalid value: "::": spec.uri in body must be of type uri: "::"'),
                     SKIPPED}),
    ({"one": {"l": 1, "m": 2}}, {("<nil>", "FieldValueInvalid", ONE_OF)}),
    ({"any": {"l": 2}}, {("<nil>", "FieldValueInvalid",
                          'Invalid value: "": "spec.any" must validate at least one schema (anyOf)'),
                         ("spec.any.l", "FieldValueInvalid",
                          "Invalid value: 2: spec.any.l in body should be greater than or equal to 3")}),
    ({"not": {"l": 2}}, {("<nil>", "FieldValueInvalid", 'Invalid value: "": "spec.not" must not validate the schema (not)')}),
    ({"set": ["a", "b", "a"]}, {("spec.set[2]", "FieldValueDuplicate", 'Duplicate value: "a"')}),
    ({"maps": [{"k": "a"}, {"k": "a", "v": 1}]}, {("spec.maps[1]", "FieldValueDuplicate", 'Duplicate value: {"k":"a"}')}),
    ({"emb": {"kind": "X"}}, {("spec.emb.apiVersion", "FieldValueRequired", "Required value"), SKIPPED}),
    ({"req": {"a": 3, "b": 2}}, {("spec.req", "FieldValueInvalid", "Invalid value: a le b")}),
    ({"replicas": -1}, {(".spec.replicas", "FieldValueInvalid", "Invalid value: -1: should be a non-negative integer")}),
])
def test_what_is_wrong_is_said_in_upstreams_words(client: Client, ns: str, gadgets: str, spec: dict[str, Any],
                                                  wanted: set[tuple[str, str, str]]) -> None:
    assert causes(client.post(gadgets.format(ns), gadget("g", **spec))) == wanted


def test_what_did_not_change_is_let_be(client: Client, ns: str, gadgets: str) -> None:
    """An object that became wrong with a new schema can be changed elsewhere, in a list's item even, but not made worse."""
    older, path = gadgets.replace("/v1/", "/v1beta1/").format(ns), gadgets.format(ns)
    wrong = gadget("old", e="Z", maps=[{"k": "a", "v": 9}, {"k": "b", "v": 1}]) | {"apiVersion": "example.com/v1beta1"}
    assert client.post(older, wrong).status == 201
    assert client.patch(f"{path}/old", {"spec": {"s": "new"}}).status == 200
    reordered = [{"k": "b", "v": 2}, {"k": "a", "v": 9}]
    assert client.patch(f"{path}/old", {"spec": {"maps": reordered}}).status == 200
    assert causes(client.patch(f"{path}/old", {"spec": {"maps": [{"k": "a", "v": 8}]}})) == {
        ("spec.maps[0].v", "FieldValueInvalid", "Invalid value: 8: spec.maps[0].v in body should be less than or equal to 5")}


def test_versions_have_their_defaults(client: Client, ns: str, gadgets: str) -> None:
    older = gadgets.replace("/v1/", "/v1beta1/").format(ns)
    made = client.post(older, gadget("d", f=3.0) | {"apiVersion": "example.com/v1beta1"})
    assert made.warnings == '299 - "example.com/v1beta1 Gadget is deprecated; use example.com/v1 Gadget"'
    seen = client.get(f"{gadgets.format(ns)}/d")
    client.patch(f"{gadgets.format(ns)}/d/status", {"status": {"words": "w"}})
    assert "status" not in client.get(f"{older}/d").json, "the older version's schema has none"
    assert (seen.json["spec"], seen.warnings) == ({"f": 3, "s": "dflt"}, "")
    assert b'"f":3' in seen.body.replace(b" ", b"")
    assert b"3.0" not in seen.body


def test_unknown_fields_of_metadata_are_told(client: Client, ns: str, gadgets: str) -> None:
    sent = gadget("m", emb={"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "odd": 1}})
    sent["metadata"]["bogus"] = 1
    made = client.post(gadgets.format(ns), sent)
    assert 'unknown field \\"metadata.bogus\\"' in made.warnings
    assert 'unknown field \\"spec.emb.metadata.odd\\"' in made.warnings
    assert made.json["spec"]["emb"]["metadata"] == {"name": "x"}
    strict = client.post(f"{gadgets.format(ns)}?fieldValidation=Strict", sent).json
    assert strict["message"] == ('Gadget in version "v1" cannot be handled as a Gadget: strict decoding error: unknown field '
                                 '"metadata.bogus", unknown field "spec.emb.metadata.odd"')
    patched = client.patch(f"{gadgets.format(ns)}/m?fieldValidation=Strict", {"spec": {"nope": 1}})
    assert (patched.status, patched.json["details"]["causes"][0]["field"]) == (422, "patch")
    assert '\\"nope\\":1' in patched.json["message"], "what the patch made is shown, with what is wrong in it"
    assert patched.json["message"].endswith('strict decoding error: unknown field "spec.nope"')


@pytest.mark.parametrize(("spec", "said"), [
    ({"i32": "x"}, ".spec.i32: expected numeric (int or float), got string"),
    ({"s": -1}, ".spec.s: expected string, got &value.valueUnstructured{Value:-1}"),
    ({"date": [1]}, ".spec.date: expected any scalar, got &{[1]}"), ({"set": {"a": 1}}, ".spec.set: expected list, got &{map[a:1]}"),
    ({"req": True}, ".spec.req: expected map, got &{true}"), ({"plain": [{"y": 1}]}, ".spec.plain[0].y: field not declared in schema"),
    ({"set": ["a", "a"]}, '.spec.set: duplicate entries for key [="a"]'),
])
def test_what_cannot_be_applied_names_the_place(client: Client, ns: str, gadgets: str, spec: dict[str, Any], said: str) -> None:
    answer = client.patch(f"{gadgets.format(ns)}/t?fieldManager=m", gadget("t", **spec), kind="apply")
    assert answer.json["message"] == f"failed to create typed patch object (/t; example.com/v1, Kind=Gadget): {said}"


def test_a_status_write_leaves_the_rest_alone(client: Client, ns: str, gadgets: str) -> None:
    path = f"{gadgets.format(ns)}/s"
    client.post(gadgets.format(ns), gadget("s"))
    given = {**gadget("s", e="A"), "status": {"words": "w"}}
    given["metadata"]["labels"] = {"a": "b"}
    after = client.patch(f"{path}/status?fieldManager=m", given, kind="apply").json
    assert ("labels" in after["metadata"], "e" in after["spec"], after["status"]) == (False, False, {"words": "w"})
    mine = next(one for one in after["metadata"]["managedFields"] if one["manager"] == "m")
    assert (mine["fieldsV1"], mine["subresource"]) == ({"f:status": {"f:words": {}}}, "status")
    assert causes(client.patch(f"{path}/status", {"status": {"words": 5}})) == {
        ("status.words", "FieldValueTypeInvalid", 'Invalid value: "integer": words in body must be of type string: "integer"'),
        SKIPPED}


def test_who_scales_owns_the_replicas(client: Client, ns: str, gadgets: str) -> None:
    path = f"{gadgets.format(ns)}/r"
    client.patch(f"{path}?fieldManager=m", gadget("r", replicas=1), kind="apply")
    client.patch(f"{path}/scale?fieldManager=s", {"spec": {"replicas": 5}})
    owners = client.get(path).json["metadata"]["managedFields"]
    assert [(one["manager"], one.get("subresource"), one["fieldsV1"]) for one in owners if one["manager"] in "ms"] == [
        ("s", "scale", {"f:spec": {"f:replicas": {}}})], owners


def test_a_null_that_is_applied_is_a_value_and_one_that_is_sent_is_nothing(client: Client, ns: str, gadgets: str) -> None:
    path = gadgets.format(ns)
    assert client.post(path, gadget("n", req=None, s=None)).json["spec"] == {"s": "dflt"}
    assert causes(client.patch(f"{path}/n2?fieldManager=m", gadget("n2", req=None), kind="apply")) == {
        ("spec.req", "FieldValueTypeInvalid", 'Invalid value: "null": spec.req in body must be of type object: "null"'), SKIPPED}


def test_who_owns_what_before_the_first_apply(client: Client, ns: str, gadgets: str) -> None:
    path = f"{gadgets.format(ns)}/o"
    client.post(gadgets.format(ns), gadget("o"))
    client.patch(path, {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in client.patch(path, {"spec": {"e": "A"}}).json["metadata"], "nobody is asked before"
    owners = client.patch(f"{path}?fieldManager=m", gadget("o", e="A"), kind="apply").json["metadata"]["managedFields"]
    assert [(one["manager"], one["operation"], "time" in one) for one in owners] == [
        ("m", "Apply", False), ("before-first-apply", "Update", True)], "who changes nothing has no time"
    assert set(owners[1]["fieldsV1"]["f:spec"]) == {".", "f:s", "f:e"}


def test_wrong_parameters_and_writes_of_what_is_not_there(client: Client, ns: str, gadgets: str) -> None:
    path = gadgets.format(ns)
    for method, where, kind in (("POST", path, "Create"), ("PUT", f"{path}/no", "Update"), ("PATCH", f"{path}/no", "Patch")):
        answer = client.request(method, f"{where}?fieldValidation=Bad", gadget("no"), kind="application/merge-patch+json"
                                if method == "PATCH" else "application/json")
        assert (answer.status, answer.json["message"]) == (422, f'{kind}Options.meta.k8s.io "" is invalid: {OPTIONS}')
    client.post(path, gadget("there"))
    assert client.put(f"{path}/no", gadget("no")).json["message"] == 'gadgets.example.com "no" not found'
    assert client.put(f"{path}/there", gadget("there")).json["message"] == (
        'gadgets.example.com "there" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update')
    other = client.post(path, {**gadget("x"), "kind": "Nope"}).json
    assert other["message"] == 'Nope.example.com "x" is invalid: kind: Invalid value: "Nope": must be Gadget'
    nowhere = client.get(f"/apis/example.com/v1/namespaces/{ns}/nothings")
    assert (nowhere.status, nowhere.body) == (404, b"404 page not found\n")
    assert "field label not supported: spec.e" in client.get(f"{path}?fieldSelector=spec.e%3DA").json["message"]


def test_tables_and_discovery(client: Client, ns: str, gadgets: str) -> None:
    client.post(gadgets.format(ns), gadget("c", f=2.25, maps=[{"k": "a"}, {"k": "b"}]))
    table = client.get(f"{gadgets.format(ns)}/c", Accept="application/json;as=Table;v=v1;g=meta.k8s.io").json
    assert table["rows"][0]["cells"] == ["c", "dflt", 2.25, "a"]
    assert table["columnDefinitions"][1]["description"] == "Custom resource definition column (in JSONPath format): .spec.s"
    row = next(one for one in client.get("/apis/example.com/v1").json["resources"] if one["name"] == "gadgets")
    assert row["verbs"] == ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
    owners = client.get(f"{CRDS}/gadgets.example.com").json["metadata"]["managedFields"]
    assert ("kube-apiserver", "status") in {(one["manager"], one.get("subresource")) for one in owners}


def test_finalizers_that_may_be_somebody_elses_are_told_of_once(client: Client, ns: str, gadgets: str) -> None:
    made = gadget("f")
    made["metadata"]["finalizers"] = ["plain", "example.com"]
    said = client.post(gadgets.format(ns), made).warnings
    assert '\\"plain\\": prefer a domain-qualified finalizer name to avoid' in said
    assert '\\"example.com\\": prefer a domain-qualified finalizer name including a path (/) to avoid' in said
    path = f"{gadgets.format(ns)}/f"
    assert client.patch(path, {"spec": {"e": "A"}}).warnings == ""
    client.patch(path, {"metadata": {"finalizers": None}})


@pytest.mark.parametrize(("name", "good", "bad"), [
    ("isbn10", "0321751043", "0321751044"), ("isbn13", "978-0321751041", "978-0321751042"), ("isbn", "0321751043", "123"),
    ("creditcard", "4111-1111-1111-1111", "4111"), ("ssn", "123-45-6789", "123-45"), ("rgbcolor", "rgb(1, 2, 255)", "rgb(1,2,256)"),
    ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"), ("uuid4", "6b0a6a2c-6a6e-4b6f-9d2e-111111111111", "6b0a6a2c-6a6e-1b6f-9d2e-111111111111"),
    ("k8sshortname", "a-b", "a.b"), ("k8slongname", "a.b", "A"), ("hexcolor", "#fff", "#ffff"), ("uri", "/path", "::"),
    ("cidr", "10.0.0.0/8", "10.0.0.0"), ("datetime", "2020-01-02T03:04:05Z", "2020-01-02"),
])
def test_formats(name: str, good: str, bad: str) -> None:
    assert formats.FORMATS[name](good)
    assert not formats.FORMATS[name](bad)


@pytest.mark.parametrize(("spec", "wanted"), [
    ({"type": "null"}, {("type", "FieldValueForbidden", "Forbidden: type cannot be set to null, use nullable as an alternative"),
                        ("type", "FieldValueNotSupported", ('Unsupported value: "null": supported values: "array", "boolean", '
                         '"integer", "number", "object", "string"'))}),
    ({"type": "string", "not": {"type": "string", "nullable": True}}, {
        ("not.type", "FieldValueForbidden", "Forbidden: must be empty to be structural"),
        ("not.nullable", "FieldValueForbidden", "Forbidden: must be false to be structural")}),
    ({"type": "array", "items": {}}, {("items.type", "FieldValueRequired",
                                       "Required value: must not be empty for specified array items")}),
    ({"type": "string", "pattern": "["}, {("pattern", "FieldValueInvalid", ('Invalid value: "[": must be a valid regular '
                                           "expression, but isn't: error parsing regexp: missing closing ]: `[`"))}),
    ({"type": "object", "default": {"zz": 1}, "properties": {"a": {"type": "string"}}}, {
        ("default", "FieldValueInvalid", 'Invalid value: {"zz":1}: must not have unknown fields')}),
    ({"type": "object", "x-kubernetes-map-type": "odd"}, {
        ("x-kubernetes-map-type", "FieldValueNotSupported", 'Unsupported value: "odd": supported values: "atomic", "granular"')}),
    ({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "nullable": True}}, {
        ("items.nullable", "FieldValueForbidden", "Forbidden: cannot be nullable when x-kubernetes-list-type is set")}),
    ({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [
        {"rule": "self.a < 5"}, {"rule": "true", "fieldPath": ".zz"}]}, {
        ("x-kubernetes-validations[1].fieldPath", "FieldValueInvalid", 'Invalid value: ".zz": must be a valid path')}),
    ({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}, set()),
])
def test_definitions_are_judged_in_upstreams_words(client: Client, spec: dict[str, Any], wanted: set[tuple[str, str, str]]) -> None:
    made = definition("doubtfuls", version(schema={"type": "object", "properties": {"spec": spec}}))
    answer = client.post(f"{CRDS}?dryRun=All", made)
    place = "spec.validation.openAPIV3Schema.properties[spec]."
    assert (causes(answer) if wanted else answer.status) == ({(place + where, *rest) for where, *rest in wanted} or 201)


def test_conditions_speak_of_what_is_there_and_selectable_fields_too(client: Client) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}},
              "anyOf": [{"properties": {"other": {"minimum": 1}}}]}
    root = "spec.validation.openAPIV3Schema"
    fields = [{"jsonPath": path} for path in ("spec.a", ".spec.zz", ".spec", ".spec.a", ".spec.a")]
    assert causes(client.post(CRDS, definition("doubtfuls", version(schema=schema, selectableFields=fields)))) == {
        (f"{root}.properties[other]", "FieldValueRequired",
         f"Required value: because it is defined in {root}.anyOf[0].properties[other]"),
        ("spec.selectableFields[0].jsonPath", "FieldValueInvalid",
         'Invalid value: "spec.a": is an invalid path: expected [ or . but got: spec'),
        ("spec.selectableFields[1].jsonPath", "FieldValueInvalid",
         'Invalid value: ".spec.zz": is an invalid path: does not refer to a valid field'),
        ("spec.selectableFields[2].jsonPath", "FieldValueInvalid", ('Invalid value: ".spec": must point to a field of type string, '
         "boolean or integer. Enum string fields and strings with formats are allowed.")),
        ("spec.selectableFields[4].jsonPath", "FieldValueDuplicate", 'Duplicate value: ".spec.a"')}
