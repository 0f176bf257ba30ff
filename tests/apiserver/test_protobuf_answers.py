"""Answers in protobuf, for clients that take nothing else: objects, lists, errors, discovery, watches."""

from __future__ import annotations

import http.client
import struct
import time
from typing import Any, Self

import pytest

from netlab.api import protobuf
from tests.apiserver.conftest import Client, Server, config_map, pod
from tests.apiserver.test_crd import CRDS, definition, established

PROTOBUF = "application/vnd.kubernetes.protobuf"
PARTIAL = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
TABLE = ";as=Table;g=meta.k8s.io;v=v1"


def maps(ns: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/configmaps" + (f"/{name}" if name else "")


def read(client: Client, path: str, accept: str = PROTOBUF, method: str = "GET", body: Any = None) -> Any:
    answer = client.request(method, path, body, Accept=accept)
    assert answer.headers["Content-Type"].partition(";")[0] == PROTOBUF, answer.body
    return protobuf.decode(answer.body)


class Frames:
    """An open watch in protobuf: its events, frame by frame."""

    def __init__(self, client: Client, path: str, accept: str = PROTOBUF) -> None:
        self.connection = client.connect()
        self.connection.request("GET", path, headers={"Accept": accept})
        self.reply: http.client.HTTPResponse = self.connection.getresponse()
        self.kind = self.reply.headers["Content-Type"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def take(self, count: int) -> list[tuple[str, Any]]:
        found = []
        for _ in range(count):
            size, = struct.unpack(">I", self.reply.read(4))
            parts = dict(protobuf.wire_fields(self.reply.read(size)))
            found.append((bytes(parts[1]).decode(), protobuf.decode(dict(protobuf.wire_fields(parts[2]))[1])))
        return found


def test_one_object_in_all_its_ways(client: Client, ns: str) -> None:
    made = read(client, maps(ns), method="POST", body=config_map("a", k="ü", empty=""))
    assert made == client.get(maps(ns, "a")).json
    assert read(client, maps(ns, "a")) == made
    changed = read(client, maps(ns, "a"), method="PUT", body={**made, "data": {"k": "w"}})
    assert changed["data"] == {"k": "w"}
    assert read(client, f"{maps(ns)}?dryRun=All", method="POST", body=config_map("b"))["metadata"]["name"] == "b"
    gone = read(client, maps(ns, "a"), method="DELETE")
    assert (gone["kind"], gone["status"], gone["details"]["name"]) == ("Status", "Success", "a")


def test_a_pod_is_the_same_in_both_forms(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/pods"
    client.post(path, pod("p", nodeName="n1"))
    plain, packed = client.get(f"{path}/p").json, read(client, f"{path}/p")
    assert packed.pop("status").items() >= plain.pop("status").items()
    for container in packed["spec"]["containers"]:
        assert container["resources"] == {}
    assert packed == plain


def test_lists_and_pages(client: Client, ns: str) -> None:
    for at in range(90):
        client.post(maps(ns), config_map(f"m{at:02}", text="x" * 2000))
    plain = client.get(maps(ns)).json
    packed = read(client, maps(ns))
    assert (packed["kind"], packed["apiVersion"], packed["metadata"]) == ("ConfigMapList", "v1", {
        "resourceVersion": plain["metadata"]["resourceVersion"]})
    assert packed["items"] == plain["items"]
    page = read(client, f"{maps(ns)}?limit=50")
    assert (len(page["items"]), page["metadata"]["remainingItemCount"]) == (50, 40)
    rest = read(client, f"{maps(ns)}?limit=50&continue={page['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in page["items"] + rest["items"]] == [f"m{at:02}" for at in range(90)]
    assert "items" not in read(client, f"{maps(ns)}?labelSelector=a%3Db")
    assert len(read(client, maps(ns), method="DELETE")["items"]) == 90


def test_only_metadata(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a", k="v"))
    one = read(client, maps(ns, "a"), PROTOBUF + PARTIAL)
    assert (one["kind"], one["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert one["metadata"] == client.get(maps(ns, "a")).json["metadata"]
    many = read(client, maps(ns), PROTOBUF + PARTIAL)
    assert (many["kind"], many["items"]) == ("PartialObjectMetadataList", [{"metadata": one["metadata"]}])


def test_errors(server: Server, client: Client, ns: str) -> None:
    missing = client.get(maps(ns, "none"), Accept=PROTOBUF)
    assert (missing.status, protobuf.decode(missing.body)["message"]) == (404, 'configmaps "none" not found')
    assert {"metadata": {}, **protobuf.decode(missing.body)} == client.get(maps(ns, "none")).json
    invalid = client.post(maps(ns), {"metadata": {"name": "A"}}, Accept=PROTOBUF)
    assert (invalid.status, protobuf.decode(invalid.body)["details"]["causes"][0]["field"]) == (422, "metadata.name")
    stranger = server.client(user=None)
    assert protobuf.decode(stranger.get(maps(ns), Accept=PROTOBUF).body)["code"] in (401, 403)
    assert protobuf.decode(client.get("/api/v1/nothing", Accept=PROTOBUF).body)["reason"] == "NotFound"
    table = client.get(maps(ns), Accept=PROTOBUF + TABLE)  # of a Table there is no protobuf, so the error is in JSON
    assert (table.status, table.json["message"]) == (
        406, f"only the following media types are accepted: application/json, application/yaml, {PROTOBUF}")


@pytest.mark.parametrize("accept", [
    f"{PROTOBUF},application/json", f"{PROTOBUF}, */*", f"application/json;q=0.1,{PROTOBUF};q=1", f"{PROTOBUF},application/*"])
def test_who_takes_json_too_gets_json(client: Client, ns: str, accept: str) -> None:
    client.post(maps(ns), config_map("a"))
    assert client.get(maps(ns, "a"), Accept=accept).json["kind"] == "ConfigMap"
    assert client.get(maps(ns, "b"), Accept=accept).json["kind"] == "Status"


def test_the_shape_counts_more_than_the_encoding(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a", k="v"))
    both = f"{PROTOBUF}{PARTIAL},application/json{PARTIAL},application/json"
    assert client.get(maps(ns, "a"), Accept=both).json["kind"] == "PartialObjectMetadata"
    assert read(client, maps(ns, "a"), f"{PROTOBUF}{PARTIAL},application/json")["kind"] == "PartialObjectMetadata"
    assert client.get(maps(ns), Accept=f"{PROTOBUF}{TABLE},application/json{TABLE}").json["kind"] == "Table"


def test_subresources_and_reviews(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    client.post(path, {"metadata": {"name": "d"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template}})
    assert read(client, f"{path}/d/scale")["spec"] == {"replicas": 3}
    assert read(client, f"{path}/d/status")["kind"] == "Deployment"
    token = read(client, f"/api/v1/namespaces/{ns}/serviceaccounts/default/token", method="POST", body={
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    assert token["status"]["token"].count(".") == 2
    review = read(client, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", method="POST", body={
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}})
    assert review["status"]["allowed"] is True
    who = read(client, "/apis/authentication.k8s.io/v1/selfsubjectreviews", method="POST", body={})
    assert who["status"]["userInfo"]["username"] == "kubernetes-admin"


@pytest.mark.parametrize(("path", "kind"), [
    ("/api", "APIVersions"), ("/apis", "APIGroupList"), ("/apis/apps", "APIGroup"), ("/api/v1", "APIResourceList")])
def test_discovery(client: Client, path: str, kind: str) -> None:
    packed, plain = read(client, path), client.get(path).json
    assert packed["kind"] == plain["kind"] == kind
    if kind == "APIResourceList":
        assert {item["name"]: item["verbs"] for item in packed["resources"]} == {item["name"]: item["verbs"] for item in plain["resources"]}
    if kind == "APIVersions":
        assert packed["versions"] == ["v1"]


def test_discovery_in_one_answer(client: Client) -> None:
    form = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    answer = client.get("/apis", Accept=f"{PROTOBUF}{form}")
    assert answer.headers["Content-Type"] == f"{PROTOBUF}{form}"
    plain = client.get("/apis", Accept=f"application/json{form}").json
    packed = protobuf.decode(answer.body)
    assert packed["items"][0]["versions"] == plain["items"][0]["versions"]
    assert [item["metadata"]["name"] for item in packed["items"]] == [item["metadata"]["name"] for item in plain["items"]]
    assert client.get("/apis", Accept=f"{PROTOBUF}{form}", If_None_Match=answer.headers["ETag"]).status == 304
    assert client.get("/apis", Accept=f"{PROTOBUF}{form},application/json{form}").json == plain
    assert read(client, "/api", f"{PROTOBUF}{form.replace('v2', 'v2beta1')}")["kind"] == "APIVersions"


def test_a_watch(client: Client, ns: str) -> None:
    start = client.get(maps(ns)).json["metadata"]["resourceVersion"]
    with Frames(client, f"{maps(ns)}?watch=1&resourceVersion={start}") as packed, \
            client.watch(f"{maps(ns)}?watch=1&resourceVersion={start}") as plain:
        assert packed.kind == f"{PROTOBUF};stream=watch"
        client.post(maps(ns), config_map("a", n="1"))
        client.patch(maps(ns, "a"), {"data": {"n": "2"}})
        client.delete(maps(ns, "a"))
        found = packed.take(3)
        assert found == [(event["type"], event["object"]) for event in plain.take(3)]
    assert [kind for kind, _ in found] == ["ADDED", "MODIFIED", "DELETED"]
    assert found[0][1]["data"] == {"n": "1"}


def test_a_watch_that_starts_with_what_is_there(client: Client, ns: str) -> None:
    client.post(maps(ns), config_map("a", n="1"))
    query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    with Frames(client, f"{maps(ns)}?{query}") as packed:
        (first, obj), (last, mark) = packed.take(2)
    assert (first, obj["data"], last) == ("ADDED", {"n": "1"}, "BOOKMARK")
    assert (mark["kind"], mark["metadata"]["annotations"]) == ("ConfigMap", {"k8s.io/initial-events-end": "true"})
    with Frames(client, f"{maps(ns)}?watch=1", PROTOBUF + PARTIAL) as packed:
        assert packed.take(1)[0][1]["kind"] == "PartialObjectMetadata"


def test_a_watch_of_what_is_compacted_ends_with_an_error(servers: Any) -> None:
    client = servers("--store-retention-revisions=20").client()
    for at in range(60):
        client.patch("/api/v1/namespaces/default", {"metadata": {"annotations": {"n": str(at)}}})
    deadline = time.monotonic() + 20
    while client.get("/api/v1/namespaces?resourceVersion=1&resourceVersionMatch=Exact").status == 200:
        assert time.monotonic() < deadline  # the store compacts once a second
    with Frames(client, "/api/v1/namespaces?watch=1&resourceVersion=1") as packed:
        (kind, obj), = packed.take(1)
    assert (kind, obj["kind"], obj["code"], obj["reason"]) == ("ERROR", "Status", 410, "Expired")


def test_custom_resources_have_none_but_of_their_metadata(client: Client, ns: str) -> None:
    made = established(client, definition("packs"))
    assert read(client, f"{CRDS}/packs.example.com")["spec"] == made["spec"]
    group, version = made["spec"]["group"], made["spec"]["versions"][0]["name"]
    path = f"/apis/{group}/{version}/namespaces/{ns}/packs"
    assert client.post(path, {"apiVersion": f"{group}/{version}", "kind": made["spec"]["names"]["kind"], "metadata": {"name": "x"}}).status == 201
    refused = client.get(path, Accept=PROTOBUF)
    assert (refused.status, refused.json["message"]) == (406, "only the following media types are accepted: application/json, application/yaml")
    assert read(client, path, PROTOBUF + PARTIAL)["items"][0]["metadata"]["name"] == "x"
    assert client.get(path, Accept=f"{PROTOBUF},application/json").json["items"][0]["metadata"]["name"] == "x"
