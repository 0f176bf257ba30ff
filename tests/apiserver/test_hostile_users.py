"""A user of one namespace reads no Secret of another, whatever the path; protobuf that is none breaks nothing."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator

import pytest

from tests.apiserver.conftest import Client, Pki, Server

RBAC = "/apis/rbac.authorization.k8s.io/v1"
SECRET = "/api/v1/namespaces/other/secrets/s"
PATHS = [
    SECRET, "/api/v1/namespaces/other/secrets", "/api/v1/secrets", "/api/v1/watch/secrets",
    "/api/v1/watch/namespaces/other/secrets", "/api/v1/watch/namespaces/other/secrets/s", f"/{SECRET}", f"{SECRET}/",
    "/api//v1/namespaces/other/secrets", "/api/v1//namespaces/other/secrets", "/API/v1/namespaces/other/secrets",
    "/api/v1/namespaces/mine/../other/secrets/s", "/api/v1/namespaces/mine%2f..%2fother/secrets/s",
    "/api/v1/namespaces/mine/secrets/..%2f..%2fother%2fsecrets%2fs", "/api/v1/namespaces/mine/namespaces/other/secrets",
    "/api/v1/namespaces/mine/secrets/%2e%2e/%2e%2e/other/secrets/s", "/api/v1/secrets/other/s",
    "/api/v1/secrets/other%2fs", "/api/v1/namespaces/other%00/secrets", "/api/v1/namespaces/%2e%2e/secrets",
    "/api/v1/namespaces/*/secrets", "/apis//v1/secrets", "/apis/v1/secrets", f"{SECRET}/status",
    "/api/v1/namespaces/mine/services/https:kubernetes:443/proxy/api/v1/secrets",
    "/api/v1/namespaces/mine/services/kubernetes/proxy/../../../../other/secrets",
    "/api/v1/namespaces/default/services/https:kubernetes:443/proxy/api/v1/secrets", "/registry/secrets/other/s",
]
QUERIES = ["", "?fieldSelector=metadata.namespace%3Dother", "?fieldSelector=metadata.name%3Ds&namespace=mine",
           "?watch=1&timeoutSeconds=1", "?resourceVersion=0&limit=1"]
FORMS = ["application/json;as=Table;v=v1;g=meta.k8s.io", "application/yaml",
         "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"]
DISGUISES = [{"Impersonate-User": "kubernetes-admin"}, {"Impersonate-Group": "system:masters"},
             {"Impersonate-User": "mallory", "Impersonate-Group": "system:masters"}, {"Impersonate-Uid": "1"},
             {"X-Remote-User": "kubernetes-admin", "X-Remote-Group": "system:masters"},
             {"X-Original-URL": SECRET}]


@pytest.fixture(scope="module")
def guarded(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pki.issue("mallory", "mallory")
    running = Server(pki, tmp_path_factory.mktemp("guarded"), "--authorization-mode=Node,RBAC")
    admin = running.client()
    for name in ("mine", "other"):
        assert admin.post("/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    for name in ("mine", "other"):
        assert admin.post(f"/api/v1/namespaces/{name}/secrets", {
            "metadata": {"name": "s"}, "stringData": {"k": f"of-{name}"}}).status == 201
    assert admin.post(f"{RBAC}/namespaces/mine/rolebindings", {
        "metadata": {"name": "mallory"}, "subjects": [{"kind": "User", "name": "mallory"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}}).status == 201
    yield running
    assert running.stop() == 0
    log = running.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture
def mallory(guarded: Server) -> Client:
    return guarded.client(user="mallory")


def hidden(body: bytes) -> bool:
    return base64.b64encode(b"of-other") not in body and b"of-other" not in body


def test_the_user_is_one(mallory: Client) -> None:
    assert mallory.get("/api/v1/namespaces/mine/secrets/s").status == 200


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_the_secret(mallory: Client, path: str) -> None:
    for query in QUERIES:
        answer = mallory.get(path + query)
        assert 400 <= answer.status < 500, answer.body
        assert hidden(answer.body)
    for form in FORMS:
        answer = mallory.get(path, Accept=form)
        assert 400 <= answer.status < 500, answer.body
    for method in ("PUT", "PATCH", "DELETE", "POST", "BREW"):
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answer = mallory.request(method, path, b'{"metadata":{"name":"s","namespace":"other"}}', kind=kind)
        assert 400 <= answer.status < 500, answer.body
        assert hidden(answer.body)


@pytest.mark.parametrize("headers", DISGUISES)
def test_no_disguise_helps(mallory: Client, headers: dict[str, str]) -> None:
    answer = mallory.get(SECRET, **headers)
    assert answer.status in (400, 403), answer.body


@pytest.mark.parametrize("start", ["../other/", "../other/s", "\0", "/", "..", "~", "s"])
@pytest.mark.parametrize("revision", [-1, 1])
def test_continue_tokens_stay_inside(mallory: Client, start: str, revision: int) -> None:
    token = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start}).encode()
    answer = mallory.get(f"/api/v1/namespaces/mine/secrets?limit=500&continue={base64.urlsafe_b64encode(token).decode()}")
    assert answer.status < 500
    assert hidden(answer.body)


@pytest.mark.parametrize(("path", "body"), [
    ("/api/v1/namespaces/mine/secrets", {"metadata": {"name": "x", "namespace": "other"}}),
    ("/api/v1/namespaces/mine/secrets", {"metadata": {"name": "../other/s"}}),
    (f"{RBAC}/namespaces/mine/roles", {"metadata": {"name": "r"}, "rules": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}),
    (f"{RBAC}/namespaces/mine/rolebindings", {"metadata": {"name": "r"}, "subjects": [], "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}}),
    ("/apis/authorization.k8s.io/v1/namespaces/other/localsubjectaccessreviews", {"spec": {"user": "x"}}),
    ("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "x"}}),
    ("/api/v1/namespaces/other/serviceaccounts/default/token", {"spec": {}}),
])
def test_no_write_leads_out(mallory: Client, path: str, body: dict[str, object]) -> None:
    assert 400 <= mallory.post(path, body).status < 500


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def noise(dice: random.Random, depth: int) -> bytes:
    """Return a message whose fields have any number, wire type and content."""
    found = b""
    for _ in range(dice.randrange(1, 5)):
        number = dice.choice([1, 2, 3, 4, 5, 7, 12, 1000, 2**29 - 1])
        match dice.randrange(6):
            case 0:
                found += varint(number << 3) + varint(dice.choice([0, 1, 2**31, 2**64 - 1]))
            case 1:
                found += varint(number << 3 | dice.choice([1, 3, 4, 5, 6, 7])) + dice.randbytes(dice.randrange(9))
            case 2:
                found += field(number, dice.randbytes(dice.randrange(20)))
            case _:
                found += field(number, noise(dice, depth - 1) if depth else b"text")
    return found


def test_protobuf_noise(guarded: Server) -> None:
    _throw(guarded.client(), range(150))


@pytest.mark.soak
def test_protobuf_noise_for_long(guarded: Server) -> None:
    _throw(guarded.client(), range(1000, 20000))


def _throw(client: Client, seeds: range) -> None:
    kinds = [("v1", "ConfigMap", "/api/v1/namespaces/mine/configmaps"), ("v1", "Pod", "/api/v1/namespaces/mine/pods"),
             ("apps/v1", "Deployment", "/apis/apps/v1/namespaces/mine/deployments"),
             ("v1", "Service", "/api/v1/namespaces/mine/services"), ("v1", "Node", "/api/v1/nodes")]
    for seed in seeds:
        dice = random.Random(seed)
        version, kind, path = dice.choice(kinds)
        raw = field(1, field(1, b"n%d" % seed)) + field(2, noise(dice, 4))
        body = b"k8s\0" + field(1, field(1, version.encode()) + field(2, kind.encode())) + field(2, raw)
        if dice.random() < 0.3:
            body = body[:dice.randrange(4, len(body))]
        answer = client.request("POST", f"{path}?dryRun=All", body, kind="application/vnd.kubernetes.protobuf")
        assert answer.status < 500, (seed, body, answer.body)
    deep = b""
    for _ in range(3000):
        deep = field(1, deep)
    body = b"k8s\0" + field(1, field(1, b"v1") + field(2, b"Pod")) + field(2, deep)
    answer = client.request("POST", kinds[1][2], body, kind="application/vnd.kubernetes.protobuf")
    assert 400 <= answer.status < 500, answer.body
