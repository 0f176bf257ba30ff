"""What nobody should send: answered with a 4xx and a Status, never a 500, a hang, or a dead server."""

from __future__ import annotations

import random
import socket
import ssl
from typing import Any

import pytest

from tests.apiserver.conftest import Client, Server, config_map

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
DEEP = b"[" * 100_000
NESTED = b'{"metadata":' + b'{"a":' * 3000 + b"1" + b"}" * 3001


@pytest.mark.parametrize("body", [
    b"", b"null", b"[]", b"1", b'"x"', b"{", b"{}}", b"\xff\xfe", b'{"metadata": 5}', b'{"metadata": {"name": 5}}',
    b'{"metadata": {"name": "a", "labels": {"x": 1}}}', b'{"metadata": {"name": "a"}, "data": []}', DEEP, NESTED,
    b'{"kind": 7, "apiVersion": {}}', b'{"metadata": {"name": "../../x"}}', b'{"metadata": {"name": "a/b"}}',
    b'{"metadata": {"name": "a", "ownerReferences": 5}}', b'{"metadata": {"name": "a", "ownerReferences": [5]}}',
    b'{"metadata": {"name": "a", "finalizers": [5]}}', b'{"metadata": {"name": "a", "namespace": 7}}',
    b'{"metadata": {"name": "\\ud800"}}', b'{"kind": "Pod", "apiVersion": "v1"}', b"k8s\x00", b"k8s\x00\xff\xff\xff\xff",
])
@pytest.mark.parametrize("kind", ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"])
def test_bad_bodies(client: Client, body: bytes, kind: str) -> None:
    answer = client.request("POST", MAPS, body, kind=kind)
    assert 400 <= answer.status < 500, answer.body
    assert answer.json["kind"] == "Status"


@pytest.mark.parametrize("spec", [
    {"containers": 5}, {"containers": [5]}, {"containers": [None]}, {}, {"containers": [{"ports": [None]}]}, None, 5, [],
    {"containers": [{"name": "c", "image": "i", "env": [{"valueFrom": 5}]}]}, {"volumes": [5], "containers": []},
    {"containers": [{"name": "c", "image": "i", "livenessProbe": {"httpGet": {"port": {}}}}]},
    {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "x"}}}]},
    {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": {}}}}]},
    {"tolerations": "x"}, {"terminationGracePeriodSeconds": "soon"}, {"nodeSelector": {"a": 1}},
])
def test_bad_pods(client: Client, spec: Any) -> None:
    answer = client.post(PODS, {"metadata": {"name": "bad"}, "spec": spec})
    assert 400 <= answer.status < 500, answer.body
    assert answer.json["kind"] == "Status"


@pytest.mark.parametrize(("kind", "body"), [
    ("merge", 5), ("merge", None), ("merge", []), ("merge", {"metadata": None}), ("merge", {"kind": "Pod"}),
    ("merge", {"metadata": {"name": "other"}}), ("merge", {"data": {"k": 5}}), ("merge", {"data": 7}),
    ("strategic", {"data": {"$patch": "explode"}}), ("strategic", [1]), ("json", {}), ("json", [5]),
    ("json", [{"op": "nope", "path": "/x"}]), ("json", [{"op": "add", "path": "/a/b/c", "value": 1}]),
    ("json", [{"op": "remove", "path": ""}]), ("json", [{"op": "test", "path": "/data", "value": 1}]),
    ("json", [{"op": "replace", "path": "", "value": 5}]), ("json", [{"op": "copy", "from": "/data", "path": "/data/data"}]),
])
def test_bad_patches(client: Client, kind: str, body: Any) -> None:
    client.post(MAPS, config_map("patched", a="b"))
    answer = client.patch(f"{MAPS}/patched", body, kind)
    assert 400 <= answer.status < 500, answer.body
    assert answer.json["kind"] == "Status"


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/api/v1/namespaces/default/configmaps/..%2f..%2fsecrets%2fx", 404), ("GET", "//", 200),
    ("GET", "/api/v1/%00", 404), ("GET", "/%ff%fe", 404), ("PUT", MAPS, 405), ("POST", f"{MAPS}/x", 405),
    ("BREW", MAPS, 400), ("PATCH", MAPS, 405), ("GET", "/api/v1/namespaces//configmaps", 404), ("OPTIONS", "/api", 404),
    ("DELETE", "/version", 404), ("GET", f"{PODS}/x/nope", 404), ("GET", f"{PODS}/x/log/y", 404),
    ("GET", "/api/v1/namespaces/default/pods/ghost/log", 404), ("GET", "/apis/apps/v1/namespaces/default/deployments/x/scale", 404),
])
def test_odd_paths(client: Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status == status, answer.body


def test_an_oversized_body_is_cut(client: Client) -> None:
    body = b'{"metadata":{"name":"big"},"data":{"k":"' + b"x" * (4 << 20) + b'"}}'
    connection = client.connect()
    try:
        connection.request("POST", MAPS, body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        pass  # cut while we were still sending
    assert client.get(f"{MAPS}/big").status == 404
    chunks = (b"x" * 65536 for _ in range(80))
    other = client.connect()
    try:
        other.request("POST", MAPS, chunks, {"Content-Type": "application/json"}, encode_chunked=True)
        assert other.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        pass


def test_garbage_instead_of_http(server: Server) -> None:
    client = server.client()
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        plain.settimeout(10)
        plain.recv(100)
    with client.context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)), server_hostname="127.0.0.1") as tls:
        tls.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
        tls.settimeout(10)
        assert b"400" in tls.recv(1000)
    assert client.get("/readyz").status == 200


def test_random_bodies_never_break_it(client: Client) -> None:
    """Mutations of a good Pod, in every place: each gets an answer below 500."""
    dice = random.Random(20)
    good = {"metadata": {"name": "fuzz", "labels": {"a": "b"}, "annotations": {}, "ownerReferences": []}, "spec": {
        "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b"}],
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}], "livenessProbe": {"exec": {"command": ["x"]}},
                        "resources": {"limits": {"cpu": "1"}}}],
        "volumes": [{"name": "v", "configMap": {"name": "m"}}], "tolerations": [{"operator": "Exists"}],
        "securityContext": {}, "affinity": {}, "topologySpreadConstraints": [], "hostAliases": [{"ip": "10.0.0.1"}]}}
    odd = [None, 0, -1, 2**63, 1.5, "", "x", "\u0000", [], {}, [None], [[]], {"": {}}, True, "9" * 400]

    def mutated(value: Any, chance: float) -> Any:
        if dice.random() < chance:
            return dice.choice(odd)
        if isinstance(value, dict):
            return {key: mutated(part, chance) for key, part in value.items()}
        if isinstance(value, list):
            return [mutated(part, chance) for part in value]
        return value

    for _ in range(300):
        answer = client.post(f"{PODS}?dryRun=All", mutated(good, 0.05))
        assert answer.status < 500, answer.body
