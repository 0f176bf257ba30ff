"""Discovery, OpenAPI, version, health, metrics."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path

import pytest

from netlab.api.kinds import RESOURCES
from netlab.apiserver.version import commit
from tests.apiserver.conftest import Client
from tests.apiserver.test_crd import definition, established, version

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList,application/json"
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
def test_aggregated_discovery_in_the_version_asked_for(client: Client, version: str) -> None:
    found = {}
    for path in ("/api", "/apis"):
        answer = client.get(path, Accept=AGGREGATED.format(version))
        assert answer.headers["Content-Type"] == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        assert answer.json["apiVersion"] == f"apidiscovery.k8s.io/{version}"
        for item in answer.json["items"]:
            for group_version in item["versions"]:
                for resource in group_version["resources"]:
                    found[(item["metadata"].get("name", ""), group_version["version"], resource["resource"])] = resource
        again = client.get(path, Accept=AGGREGATED.format(version), If_None_Match=answer.headers["ETag"])
        assert again.status == 304
    assert set(found) == {(row.group, row.version, row.plural) for row in RESOURCES}
    pods = found[("", "v1", "pods")]
    assert pods["shortNames"] == ["po"]
    assert pods["categories"] == ["all"]
    eviction = next(sub for sub in pods["subresources"] if sub["subresource"] == "eviction")
    assert eviction["responseKind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}


def test_both_versions_offered_gives_the_first(client: Client) -> None:
    accept = ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
              "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json")
    assert client.get("/apis", Accept=accept).json["apiVersion"] == "apidiscovery.k8s.io/v2"


def test_plain_discovery(client: Client) -> None:
    assert client.get("/api").json["versions"] == ["v1"]
    groups = {group["name"]: group for group in client.get("/apis").json["groups"]}
    assert groups["apps"]["preferredVersion"]["groupVersion"] == "apps/v1"
    listed = client.get("/api/v1").json
    assert listed["kind"] == "APIResourceList"
    by_name = {item["name"]: item for item in listed["resources"]}
    assert by_name["pods/eviction"]["group"] == "policy"
    assert by_name["services"]["singularName"] == "service"
    assert client.get("/apis/apps").json["kind"] == "APIGroup"
    for path in ("/apis/nope", "/apis/apps/v9", "/api/v2"):
        assert client.get(path).status == 404


def test_openapi(client: Client) -> None:
    index = client.get("/openapi/v3").json["paths"]
    url = index["apis/apps/v1"]["serverRelativeURL"]
    document = client.get(url)
    assert document.status == 200
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in document.json["paths"]
    assert client.get("/openapi/v3/apis/apps/v1?hash=old").status == 301
    assert client.get("/openapi/v3/nope").status == 404
    swagger = client.get("/openapi/v2", Accept=V2_PROTOBUF)
    assert swagger.headers["Content-Type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert len(swagger.body) > 100_000
    assert client.get("/openapi/v2", Accept="application/json").json["swagger"] == "2.0"


def test_health(client: Client) -> None:
    for page in ("healthz", "livez", "readyz"):
        assert client.get(f"/{page}").body == b"ok"
        verbose = client.get(f"/{page}?verbose").body.decode()
        assert "[+]ping ok\n" in verbose
        assert verbose.endswith(f"{page} check passed\n")
        assert client.get(f"/{page}/ping").body == b"ok"
        assert client.get(f"/{page}/nope").status == 404


def test_the_checks_have_upstreams_names_and_can_be_left_out(client: Client) -> None:
    lines = client.get("/readyz?verbose").body.decode().splitlines()
    assert lines[:5] == ["[+]ping ok", "[+]log ok", "[+]etcd ok", "[+]etcd-readiness ok", "[+]informer-sync ok"]
    hooks = [line.split()[0].removeprefix("[+]poststarthook/") for line in lines if "poststarthook/" in line]
    assert {"start-apiextensions-controllers", "crd-informer-synced", "start-system-namespaces-controller", "bootstrap-controller",
            "scheduling/bootstrap-system-priority-classes", "apiservice-registration-controller"} <= set(hooks)
    assert lines[-2:] == ["[+]shutdown ok", "readyz check passed"]
    assert lines.index("[+]autoregister-completion ok") == lines.index("[+]poststarthook/kube-apiserver-autoregistration ok") + 1
    for hook in hooks:
        for page in ("healthz", "livez", "readyz"):
            assert client.get(f"/{page}/poststarthook/{hook}").body == b"ok"
    for only_ready in ("etcd-readiness", "informer-sync", "shutdown"):
        assert client.get(f"/livez/{only_ready}").status == 404
    some = client.get("/livez?verbose&exclude=etcd&exclude=b&exclude=a").body.decode().splitlines()
    assert some[:3] == ["[+]ping ok", "[+]log ok", "[+]etcd excluded: ok"]
    assert some[-2:] == ['warn: some health checks cannot be excluded: no matches for "a", "b"', "livez check passed"]
    assert client.get("/livez?exclude=nothing").body == b"ok"


def test_what_is_made_of_what(client: Client, tmp_path: Path) -> None:
    found = client.get("/version").json
    assert set(found) == {"major", "minor", "emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor",
                          "gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"}
    assert (found["minor"], found["emulationMinor"], found["minCompatibilityMinor"], found["compiler"]) == ("36", "36", "35", "cpython")
    assert found["buildDate"] > "2026"
    assert commit(tmp_path, 0)[1] == "archive"
    git = tmp_path / ".git"
    git.mkdir()
    (git / "index").touch()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{'a' * 40} refs/heads/main\n")
    assert commit(tmp_path, 0) == ("a" * 40, "clean")
    assert commit(tmp_path, time.time() + 100) == ("a" * 40, "dirty")
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "main").write_text("b" * 40 + "\n")
    assert commit(tmp_path, 0)[0] == "b" * 40
    linked = tmp_path / "linked"
    (git / "worktrees" / "w").mkdir(parents=True)
    (git / "worktrees" / "w" / "index").touch()
    (git / "worktrees" / "w" / "HEAD").write_text("c" * 40)
    linked.mkdir()
    (linked / ".git").write_text(f"gitdir: {git}/worktrees/w\n")
    assert commit(linked, 0)[0] == "c" * 40
    (git / "worktrees" / "w" / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "worktrees" / "w" / "commondir").write_text("../..\n")
    assert commit(linked, 0)[0] == "b" * 40


def test_version_metrics_components(client: Client) -> None:
    assert client.get("/version").json["minor"] == "36"
    client.get("/api/v1/nodes")
    text = client.get("/metrics").body.decode()
    assert 'apiserver_request_total{code="200",group="",resource="nodes",subresource="",verb="LIST"}' in text
    assert "process_resident_memory_bytes" in text
    components = client.get("/api/v1/componentstatuses").json["items"]
    assert [item["metadata"]["name"] for item in components] == ["controller-manager", "scheduler", "etcd-0"]
    assert client.get("/").json["paths"]
    assert json.dumps(components)


def test_storage_versions_have_upstreams_hashes(client: Client) -> None:
    """A client that keeps copies compares them to see that a migration is due."""
    def of(path: str, name: str) -> str:
        return next(row["storageVersionHash"] for row in client.get(path).json["resources"] if row["name"] == name)

    assert of("/api/v1", "pods") == "xPOwRZ+Yhw8="
    for group_version in ("autoscaling/v1", "events.k8s.io/v1", "apps/v1"):
        assert client.get(f"/apis/{group_version}").json["groupVersion"] == group_version
    assert of("/apis/autoscaling/v1", "horizontalpodautoscalers") == of("/apis/autoscaling/v2", "horizontalpodautoscalers")
    assert of("/apis/events.k8s.io/v1", "events") == of("/api/v1", "events")
    established(client, definition("hasheds", version("v1"), version("v2", storage=False)))
    wanted = base64.b64encode(hashlib.sha256(b"example.com/v1/Hashed").digest()[:8]).decode()
    assert of("/apis/example.com/v1", "hasheds") == of("/apis/example.com/v2", "hasheds") == wanted


def test_old_kubectls_are_told_nothing_about_what_is_kept_unseen(client: Client) -> None:
    """They refuse what a schema with any field does not name, and take a nullable field for one that is never null."""
    known, keeps = {"a": {"type": "string"}}, {"x-kubernetes-preserve-unknown-fields": True}
    spec = {"type": "object", "required": ["none", "some"], "properties": {
        "loose": {"type": "object", "properties": known, **keeps}, "some": {"type": "string", "enum": ["x"]},
        "rows": {"type": "array", "items": {"type": "object", "properties": known}, **keeps},
        "none": {"type": "object", "nullable": True, "properties": known},
        "either": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}}}}
    for name, schema in (("partlys", {"type": "object", "properties": {"spec": spec}}), ("whollys", {"type": "object", **keeps})):
        established(client, definition(name, version(schema=schema)))
    found = client.get("/openapi/v2").json["definitions"]
    whole = found["com.example.v1.Wholly"]
    assert {key: whole[key] for key in whole if not key.startswith("x-")} == {"type": "object"}
    partly = found["com.example.v1.Partly"]["properties"]["spec"]
    assert partly["required"] == ["some"]
    assert partly["properties"]["loose"] == partly["properties"]["rows"] == keeps
    assert partly["properties"]["none"] == {}
    assert partly["properties"]["either"] == {"x-kubernetes-int-or-string": True}
    assert set(partly["properties"]["inner"]["properties"]) == {"spec", "apiVersion", "kind", "metadata"}
    assert partly["properties"]["inner"]["required"] == ["kind", "apiVersion"]
    newer = client.get("/openapi/v3/apis/example.com/v1").json["components"]["schemas"]["com.example.v1.Partly"]
    newer = newer["properties"]["spec"]["properties"]
    assert newer["loose"]["properties"] == known
    assert newer["none"]["nullable"]
    assert "metadata" in newer["inner"]["properties"]


def test_a_review_is_no_table(client: Client) -> None:
    path, asked = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
        "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    refused = client.post(path, asked, Accept=table)
    assert (refused.status, refused.json["reason"]) == (406, "NotAcceptable")
    assert client.post(path, asked, Accept=f"{table},application/json").json["status"]["allowed"]
