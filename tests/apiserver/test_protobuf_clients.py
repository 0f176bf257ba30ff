"""A real kubectl that is given protobuf wherever it takes it: it shows what it shows of JSON."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import Client, Kubectl, pod

PROTOBUF = "application/vnd.kubernetes.protobuf"


@contextmanager
def protobuf_only(client: Client) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Pass requests on; who names protobuf is made one that takes nothing else. Gives the port, and (path, type) of answers."""
    answers: list[tuple[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def pass_on(self) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection", "accept-encoding")}
            if PROTOBUF in headers.get("Accept", ""):
                headers["Accept"] = PROTOBUF
            length = int(self.headers.get("Content-Length") or 0)
            connection = client.connect()
            connection.request(self.command, self.path, self.rfile.read(length) if length else None, headers)
            reply = connection.getresponse()
            answers.append((self.path, reply.headers["Content-Type"]))
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while data := reply.read1(65536):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                self.close_connection = True
            connection.close()

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.pass_on)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port, answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def packed(client: Client, kubectl: Kubectl, tmp_path: Path) -> Iterator[tuple[Kubectl, list[tuple[str, str]]]]:
    """The kubectl whose answers are protobuf, and the answers' types."""
    kubectl.since(32, "taste for protobuf")
    with protobuf_only(client) as (port, answers):
        config = tmp_path / "packed"
        config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "t", "users": [],
            "clusters": [{"name": "t", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "contexts": [{"name": "t", "context": {"cluster": "t", "user": ""}}]}))
        yield Kubectl(kubectl.binary, config, tmp_path / "home-packed", kubectl.namespace), answers


def described(answers: list[tuple[str, str]], part: str) -> bool:
    return any(part in path and kind.startswith(PROTOBUF) for path, kind in answers)


def test_what_is_described_is_the_same(client: Client, ns: str, kubectl: Kubectl, packed: Any) -> None:
    other, answers = packed
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("web", nodeName="n1", tolerations=[{"operator": "Exists", "tolerationSeconds": 5, "effect": "NoExecute"}],
                                                     volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}], terminationGracePeriodSeconds=0))
    client.patch(f"/api/v1/namespaces/{ns}/pods/web/status", {"status": {
        "phase": "Running", "podIP": "10.244.1.2", "startTime": "2026-01-02T03:04:05Z",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}],
        "containerStatuses": [{"name": "c", "image": "busybox", "imageID": "sha256:1", "ready": True, "restartCount": 3,
                               "state": {"running": {"startedAt": "2026-01-02T03:04:07Z"}}}]}})
    other("create", "deployment", "d", "--image=nginx", "--replicas=2")
    other("create", "service", "nodeport", "s", "--tcp=80:http")
    other("create", "quota", "q", "--hard=cpu=1500m,memory=1Gi")
    other("create", "cronjob", "c", "--image=busybox", "--schedule=*/5 * * * *", "--", "date")
    other("create", "ingress", "i", "--rule=foo.com/=s:80,tls=t")
    for kind, name in (("pod", "web"), ("deployment", "d"), ("service", "s"), ("quota", "q"), ("cronjob", "c"), ("ingress", "i"),
                       ("namespace", ns), ("serviceaccount", "default")):
        assert other("describe", kind, name) == kubectl("describe", kind, name)
    for part in ("/pods/web", "/deployments", "/services/s", "/resourcequotas", "/cronjobs/c", "/events"):
        assert described(answers, part), part
    assert other("auth", "can-i", "list", "pods") == "yes\n"
    assert other("create", "token", "default").count(".") == 2


def test_errors_are_understood(packed: Any) -> None:
    other, answers = packed
    other("create", "configmap", "c", "--from-literal=a=b")
    assert other.fails("create", "configmap", "c", "--from-literal=a=b") == 'error: failed to create configmap: configmaps "c" already exists\n'
    assert answers[-1][1] == PROTOBUF


def test_a_watch_is_understood(client: Client, ns: str, packed: Any) -> None:
    other, answers = packed

    def happen(name: str) -> None:
        assert client.post(f"/api/v1/namespaces/{ns}/events", {
            "metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": ns}, "reason": "Told",
            "message": f"message {name}", "type": "Normal", "count": 1, "lastTimestamp": "2026-01-01T00:00:00Z"}).status == 201

    happen("first")
    watching = other.popen("events", "--watch", "--no-headers")
    assert watching.stdout is not None
    try:
        assert "message first" in watching.stdout.readline()
        happen("second")
        assert "message second" in watching.stdout.readline()
    finally:
        watching.terminate()
        watching.communicate(timeout=10)
    deadline = time.monotonic() + 5
    while not any(kind == f"{PROTOBUF};stream=watch" for _, kind in answers):
        assert time.monotonic() < deadline, answers
