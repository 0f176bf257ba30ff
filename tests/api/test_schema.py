"""The schema table and the documents made from it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from netlab.api.kinds import RESOURCES
from netlab.api.openapi import descriptions, v2, v3
from netlab.api.schema import SCALARS, Table, field_struct, table


def test_every_kind_of_the_resource_table_is_known():
    missing = [(row.api_version, row.kind) for row in RESOURCES if table().kind(row.api_version, row.kind) is None]
    assert missing == []


def test_a_field_is_the_same_on_the_wire_and_in_json_unless_the_wire_has_another_one():
    pod = table().kind("v1", "Pod")
    assert pod is not None
    assert sorted(field.name for field in pod.by_number.values()) == ["metadata", "spec", "status"]
    assert all(field is pod.fields[field.name] for field in pod.by_number.values())
    spec = table().struct("io.k8s.api.core.v1.Volume")  # its source is embedded: a message there, fields of its own here
    assert [field.name for field in spec.by_number.values() if field.inline] == ["volumeSource"]
    amount = table().struct("io.k8s.apimachinery.pkg.api.resource.Quantity")
    assert [field.type.code for field in amount.by_number.values()] == ["string"]


def test_every_type_that_is_named_exists():
    for name in table().names():
        for field in table().struct(name).fields.values():
            kind = field.type
            while kind.item is not None:
                kind = kind.item
            assert not kind.reference or kind.reference in SCALARS or table().struct(kind.reference)
            inner = field_struct(field)
            assert not field.merge_key or (inner is not None and field.merge_key in inner.fields)
            assert all(inner is not None and key in inner.fields for key in field.list_keys)


def test_facts_that_others_rely_on():
    fields = table().struct("io.k8s.api.core.v1.PodSpec").fields
    assert (fields["containers"].merge_key, fields["containers"].required, fields["containers"].list_keys) == (
        "name", True, ("name",))
    assert fields["volumes"].patch_strategy == ("merge", "retainKeys")
    assert fields["terminationGracePeriodSeconds"].pointer
    assert not fields["nodeName"].pointer
    assert "Always" in fields["restartPolicy"].enum
    ports = table().struct("io.k8s.api.core.v1.Container").fields["ports"]
    assert ports.list_keys == ("containerPort", "protocol")
    assert field_struct(ports).fields["protocol"].default == "TCP"
    assert table().struct("io.k8s.api.core.v1.SecretReference").map_type == "atomic"
    assert table().kind("policy/v1", "DeleteOptions").go_name == "DeleteOptions"
    assert table().kind("nonsense/v1", "Pod") is None


def test_the_table_loads_in_a_moment():
    program = ("import sys, time; from netlab.api import schema; started = time.process_time(); schema.table().kind('v1', 'Pod');"
               "print(time.process_time() - started)")
    best = min(float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
               for _ in range(3))
    assert best < 0.03


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in node.values()))
    return set().union(*(references(inner) for inner in node)) if isinstance(node, list) else set()


def test_version_3_documents_are_whole():
    index = json.loads(v3.index(RESOURCES))["paths"]
    assert set(index) == {row.root[1:] for row in RESOURCES}
    for place, entry in index.items():
        assert entry["serverRelativeURL"].startswith(f"/openapi/v3/{place}?hash=")
        document = json.loads(v3.document(RESOURCES, place.removeprefix("apis/").removeprefix("api/")))
        schemas = document["components"]["schemas"]
        assert {one.removeprefix("#/components/schemas/") for one in references(document)} <= set(schemas)
        assert any(path.startswith(f"/{place}/") for path in document["paths"])


def test_version_3_tells_what_kubectl_looks_for():
    document = json.loads(v3.document(RESOURCES, "apps/v1"))
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= {one["name"] for one in patch["parameters"]}
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "kind": "Deployment", "version": "v1"}
    assert "application/apply-patch+yaml" in patch["requestBody"]["content"]
    schema = document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    assert {"group": "apps", "kind": "Deployment", "version": "v1"} in schema["x-kubernetes-group-version-kind"]


def test_version_2_is_whole():
    document = json.loads(v2.encode_json(RESOURCES))
    assert {one.removeprefix("#/definitions/") for one in references(document)} <= set(document["definitions"])
    assert len(v2.protobuf(RESOURCES)) > 100_000


def test_documents_do_without_descriptions(monkeypatch):
    pytest.importorskip("kubernetes_validate", reason="the optional package with the descriptions")
    with_them = v3.document(RESOURCES, "apps/v1")
    monkeypatch.setattr(descriptions, "load", dict)
    v3._document.cache_clear()
    try:
        bare = v3.document(RESOURCES, "apps/v1")
    finally:
        v3._document.cache_clear()
    assert len(bare) < len(with_them) / 2
    assert b"io.k8s.api.apps.v1.Deployment" in bare


def test_the_hash_of_a_document_changes_with_the_resources():
    one, other = v3.groups(RESOURCES), v3.groups([row for row in RESOURCES if row.plural != "deployments"])
    assert one["apis/apps/v1"] != other["apis/apps/v1"]
    assert one["api/v1"] == other["api/v1"]


def test_a_table_of_another_layout_of_kinds_is_possible():
    small = Table({"kubernetes": "9.9", "structs": {"io.k8s.api.x.v1.Thing": {"f": {"a": {"t": "[]{}string"}}, "g": [["x", "v1", "Thing"]]}}})
    kind = small.kind("x/v1", "Thing").fields["a"].type
    assert (kind.code, kind.item.code, kind.item.item.code) == ("list", "map", "string")
