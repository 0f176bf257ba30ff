"""What nobody should send: answered with a 4xx and a Status, never a 500, a hang, or a dead server."""

from __future__ import annotations

import json
import random
import socket
import ssl
from typing import Any
from urllib.parse import quote

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


@pytest.mark.parametrize("header", ["User-Agent", "Audit-ID", "Impersonate-User", "Authorization", "Accept", "Content-Type"])
def test_headers_that_are_no_utf8(client: Client, header: str) -> None:
    answer = client.request("POST", MAPS, b'{"metadata":{"generateName":"h-"}}', **{header: "Bearer \xff\x80.x"})
    assert answer.status < 500, answer.body


@pytest.mark.parametrize("metadata", [5, [], "x", None, [{}], {"managedFields": 5}, {"labels": 5}])
def test_odd_metadata_applied(client: Client, metadata: Any) -> None:
    body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}
    answer = client.request("PATCH", f"{MAPS}/y?fieldManager=m&force=true", json.dumps(body).encode(),
                            kind="application/apply-patch+yaml")
    assert 400 <= answer.status < 500, answer.body


def test_too_many_parameters(client: Client) -> None:
    answer = client.get(f"{MAPS}?{'a=1&' * 1500}")
    assert answer.status == 400
    assert answer.json["kind"] == "Status"


@pytest.mark.parametrize("body", [
    b"metadata: {name: y, annotations: {a: !!binary aGVsbG8=}}", b"metadata: {name: y}\ndata: !!set {a, b}",
    b"metadata: {name: y}\ndata: {a: !!timestamp 2001-01-01}", b'a: !!int ""', b'a: !!bool "x"', b'a: !!timestamp "x"',
    b"metadata: {name: y}\n? [a]\n: b", b"a: &a [*a]", b"<<: 5\nmetadata: {name: y}", b"a: " + b"9" * 5000,
    b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(9)),
])
def test_odd_yaml(client: Client, body: bytes) -> None:
    for method, path, kind in (("POST", MAPS, "application/yaml"),
                               ("PATCH", f"{MAPS}/y?fieldManager=m&force=true", "application/apply-patch+yaml")):
        answer = client.request(method, path, body, kind=kind)
        assert 400 <= answer.status < 500, answer.body


@pytest.mark.parametrize("body", [b'{"metadata":"x"}', b'{"target":5,"deleteOptions":5}', b'{"metadata":{"name":5}}'])
@pytest.mark.parametrize("path", ["bindings", "pods/x/binding", "pods/x/eviction", "serviceaccounts/x/token"])
def test_odd_subresource_bodies(client: Client, path: str, body: bytes) -> None:
    answer = client.request("POST", f"/api/v1/namespaces/default/{path}", body, kind="application/json")
    assert 400 <= answer.status < 500, answer.body


@pytest.mark.parametrize("body", [
    {"spec": 1.5}, {"spec": "x"}, {"metadata": "x"}, {"spec": {"resourceAttributes": True}}, {"spec": {"namespace": [5]}},
    {"spec": {"resourceAttributes": {"verb": "get", "resource": [None]}, "user": "u"}}, {"spec": {"user": 5, "groups": "x"}},
    {"spec": {"nonResourceAttributes": {"path": 5}, "groups": [5]}}, {"spec": {"token": 5}}, {"kind": "Pod", "apiVersion": "v1"}])
@pytest.mark.parametrize("path", [
    "authorization.k8s.io/v1/subjectaccessreviews", "authorization.k8s.io/v1/selfsubjectaccessreviews",
    "authorization.k8s.io/v1/selfsubjectrulesreviews", "authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
    "authentication.k8s.io/v1/tokenreviews"])
def test_odd_reviews(client: Client, path: str, body: Any) -> None:
    answer = client.post(f"/apis/{path}", body)
    assert 400 <= answer.status < 500, answer.body


@pytest.mark.parametrize("body", [
    {"spec": 5}, {"spec": {"replicas": "x"}}, {"spec": {"audiences": "x"}}, {"spec": {"boundObjectRef": [1]}}, {"metadata": [1]},
    {"deleteOptions": {"preconditions": 5}}, {"deleteOptions": {"gracePeriodSeconds": "x"}}, {"target": {"name": 5}},
    {"metadata": {"annotations": {"a": 5}}, "target": {"name": "n"}}, {"deleteOptions": {"dryRun": "x"}}])
def test_odd_parts(client: Client, body: Any) -> None:
    """What is sent to a subresource is checked as a kind of its own."""
    core, apps = "/api/v1/namespaces/default", "/apis/apps/v1/namespaces/default/deployments"
    client.post(f"{core}/serviceaccounts", {"metadata": {"name": "default"}})
    client.post(f"{core}/pods", {"metadata": {"name": "parts"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    client.post(apps, {"metadata": {"name": "parts"}, "spec": WORKLOAD})
    kinds = {"Eviction": f"{core}/pods/parts/eviction", "Binding": f"{core}/pods/parts/binding",
             "TokenRequest": f"{core}/serviceaccounts/default/token"}
    versions = {"Eviction": "policy/v1", "Binding": "v1", "TokenRequest": "authentication.k8s.io/v1"}
    for kind, path in kinds.items():
        answer = client.post(f"{path}?dryRun=All", {"kind": kind, "apiVersion": versions[kind], **body})
        assert answer.status < 500, (kind, answer.body)
    answer = client.put(f"{apps}/parts/scale", {"kind": "Scale", "apiVersion": "autoscaling/v1", **body})
    assert answer.status < 500, answer.body
    for kind in ("merge", "strategic"):
        assert client.patch(f"{apps}/parts/scale", body, kind).status < 500
        assert client.patch(f"{apps}/parts/status", body, kind).status < 500


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
    for text in (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", b"Content-Length: -5\r\n\r\n",
                 b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde"):
        with client.context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)),
                                        server_hostname="127.0.0.1") as tls:
            tls.settimeout(10)
            tls.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\n%s" % (MAPS.encode(), text))
            assert tls.recv(1000).startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert client.get("/readyz").status == 200


TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {
    "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "b"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}], "livenessProbe": {"exec": {"command": ["x"]}},
                    "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}}}],
    "initContainers": [{"name": "d", "image": "i", "envFrom": [{"secretRef": {"name": "s"}}]}],
    "volumes": [{"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}},
                {"name": "w", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
    "tolerations": [{"operator": "Exists"}], "dnsConfig": {"nameservers": ["10.0.0.1"], "options": [{"name": "o"}]},
    "securityContext": {}, "affinity": {}, "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z"}],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["h"]}], "imagePullSecrets": [{"name": "s"}]}}
WORKLOAD = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [
    {"key": "a", "operator": "In", "values": ["b"]}]}, "template": TEMPLATE}
GOOD = {
    "/api/v1/namespaces/default/pods": TEMPLATE,
    "/apis/apps/v1/namespaces/default/deployments": {"spec": WORKLOAD | {"strategy": {
        "type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}},
    "/apis/apps/v1/namespaces/default/daemonsets": {"spec": WORKLOAD | {"updateStrategy": {"rollingUpdate": {}}}},
    "/apis/apps/v1/namespaces/default/statefulsets": {"spec": WORKLOAD | {"volumeClaimTemplates": [{"spec": {}}]}},
    "/apis/batch/v1/namespaces/default/jobs": {"spec": {"template": TEMPLATE, "completions": 2}},
    "/apis/batch/v1/namespaces/default/cronjobs": {"spec": {"schedule": "* * * * *", "jobTemplate": {
        "spec": {"template": TEMPLATE}}}},
    "/api/v1/namespaces/default/services": {"spec": {
        "type": "NodePort", "clusterIP": "10.96.3.3", "clusterIPs": ["10.96.3.3"], "selector": {"a": "b"},
        "ports": [{"name": "p", "port": 80, "targetPort": "http", "nodePort": 30123}], "ipFamilies": ["IPv4"],
        "externalIPs": ["1.2.3.4"], "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}, "healthCheckNodePort": 30124}},
    "/api/v1/namespaces/default/endpoints": {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]},
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "hostname": "h"}],
        "ports": [{"name": "p", "port": 80}]},
    "/api/v1/nodes": {"spec": {"podCIDR": "10.244.0.0/24", "taints": [{"key": "k", "effect": "NoSchedule"}]},
                      "status": {"capacity": {"cpu": "1"}, "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]}},
    "/api/v1/namespaces": {"spec": {"finalizers": ["kubernetes"]}},
    "/api/v1/namespaces/default/configmaps": {"data": {"a": "b"}, "binaryData": {"c": "eA=="}, "immutable": True},
    "/api/v1/namespaces/default/secrets": {"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="},
                                           "stringData": {"tls.key": "x"}},
    "/api/v1/namespaces/default/events": {"involvedObject": {"kind": "Pod", "namespace": "default"}, "count": 1},
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": {"spec": {"leaseDurationSeconds": 5, "holderIdentity": "x"}},
    "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies": {"spec": {
        "podSelector": {}, "ingress": [{"ports": [{"port": 80}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}},
    "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings": {
        "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]},
    "/api/v1/namespaces/default/limitranges": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}},
    "/api/v1/namespaces/default/serviceaccounts": {"secrets": [{"name": "s"}], "imagePullSecrets": [{"name": "p"}]},
}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
ODD = [None, 0, -1, 2**63, 1.5, "", "x", "\u0000", [], {}, [None], [[]], {"": {}}, True, "9" * 400, {"$patch": "delete"}]


def mutated(dice: random.Random, value: Any, chance: float) -> Any:
    if dice.random() < chance:
        return dice.choice(ODD)
    if isinstance(value, dict):
        return {key: mutated(dice, part, chance) for key, part in value.items()}
    if isinstance(value, list):
        return [mutated(dice, part, chance) for part in value]
    return value


@pytest.mark.parametrize("path", GOOD)
def test_mutated_objects_never_break_it(client: Client, path: str) -> None:
    """Every place of a good object gets odd values: each request, and the table of what was let in, is below 500."""
    dice = random.Random(path)
    client.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    good = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["a/b"], "ownerReferences": [
        {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}} | GOOD[path]
    first = client.post(path, good | {"metadata": {"name": "good", "labels": {"a": "b"}}})
    assert first.status in (201, 409, 422, 400), first.body
    for number in range(60):
        body = mutated(dice, good, 0.03)
        if isinstance(body, dict) and isinstance(body.get("metadata"), dict):
            body["metadata"]["name"] = f"f{number}"
        answer = client.post(path if number % 2 else f"{path}?dryRun=All", body)
        assert answer.status < 500, (body, answer.body)
        if first.status == 201:
            kind = dice.choice(["merge", "strategic"])
            changed = client.patch(f"{path}/good?dryRun=All", mutated(dice, GOOD[path], 0.05), kind)
            assert changed.status < 500, changed.body
    shown = client.get(path, Accept=TABLE)
    assert shown.status == 200, shown.body
    client.delete(path)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_queries_never_break_it(client: Client, seed: int) -> None:
    dice = random.Random(seed)
    names = ["labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "watch",
             "timeoutSeconds", "sendInitialEvents", "dryRun", "fieldManager", "includeObject", "pretty", "force"]
    texts = ["", "0", "1", "a", "a=b", "a in (b,c)", "!a", "a,,b", "metadata.name=x", "=", "NotOlderThan", "Exact", "-1", "1e9",
             "%", "%00", "\u2028", "a" * 3000, "true", "All", "((((", "a notin (", "é"]
    for _ in range(100):
        query = "&".join(f"{dice.choice(names)}={quote(dice.choice(texts))}" for _ in range(dice.randrange(1, 4)))
        if "watch=" in query:
            query += "&timeoutSeconds=1"
            with client.watch(f"{MAPS}?{query}") as watching:
                assert watching.reply.status < 500
            continue
        answer = client.get(f"{MAPS}?{query}")
        assert answer.status < 500 or answer.status == 504, (query, answer.body)
