"""Logs, exec, attach and port-forward pass through to the kubelet, byte for byte."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.apiserver.conftest import Client, Kubectl, Server, pod
from tests.apiserver.fake_kubelet import FakeKubelet


@pytest.fixture
def node(client: Client, kubelet: FakeKubelet, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"n{abs(hash(request.node.nodeid)) % 10**6}"
    client.post("/api/v1/nodes", {"metadata": {"name": name}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}}}})
    kubelet.seen.clear()
    yield name
    client.delete(f"/api/v1/nodes/{name}")


@pytest.fixture
def path(client: Client, ns: str, node: str) -> str:
    made = pod("p", nodeName=node)
    assert client.post(f"/api/v1/namespaces/{ns}/pods", made).status == 201
    base = f"/api/v1/namespaces/{ns}/pods/p"
    client.patch(f"{base}/status", {"status": {"phase": "Running", "containerStatuses": [
        {"name": "c", "ready": True, "state": {"running": {}}}]}})
    return base


def test_logs(client: Client, kubelet: FakeKubelet, path: str, ns: str) -> None:
    answer = client.get(f"{path}/log?tailLines=5&timestamps=true")
    assert (answer.status, answer.body) == (200, b"one\ntwo\n")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert kubelet.seen[-1] == ("GET", f"/containerLogs/{ns}/p/c?timestamps=true&tailLines=5", "kube-apiserver-kubelet-client")
    assert client.get(f"{path}/log?container=nope").json["message"] == "container nope is not valid for pod p"
    assert client.get(f"{path}/log?tailLines=-1").status == 400


def test_logs_are_followed(client: Client, kubelet: FakeKubelet, path: str) -> None:
    kubelet.follow.clear()
    connection = client.connect()
    connection.request("GET", f"{path}/log?follow=true")
    reply = connection.getresponse()
    assert reply.readline() == b"first\n"
    kubelet.follow.set()
    assert reply.readline() == b"second\n"
    assert reply.readline() == b""
    connection.close()


@pytest.mark.parametrize("upgrade", ["SPDY/3.1", "spdy/3.1"])
def test_spdy_bytes_pass_both_ways(server: Server, client: Client, path: str, upgrade: str) -> None:
    with client.context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)), server_hostname="127.0.0.1") as tls:
        tls.settimeout(10)
        tls.sendall(f"POST {path}/attach?stdin=true&stdout=true HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                    f"Upgrade: {upgrade}\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n"
                    .encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += tls.recv(4096)
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        assert f"upgrade: {upgrade}".lower().encode() in head.lower()
        assert b"x-stream-protocol-version: v4.channel.k8s.io" in head.lower()
        sent = os.urandom(300_000).hex().encode()
        tls.sendall(sent[:100])
        wanted = sent.upper()
        tls.sendall(sent[100:])
        while len(rest) < len(wanted):
            piece = tls.recv(65536)
            assert piece, "the connection ended early"
            rest += piece
        assert rest == wanted


def test_kubectl_exec(kubectl: Kubectl, kubelet: FakeKubelet, path: str, ns: str) -> None:
    assert path
    assert kubectl("exec", "p", "--", "say") == "hello from the kubelet\n"
    assert kubelet.seen[-1][1] == f"/exec/{ns}/p/c?output=1&error=1&command=say"
    failed = kubectl.run("exec", "p", "--", "fail")
    assert failed.returncode == 3
    assert kubectl("exec", "-i", "p", "--", "cat", stdin="through and back") == "through and back"


def test_kubectl_logs(kubectl: Kubectl, path: str) -> None:
    assert path
    assert kubectl("logs", "p") == "one\ntwo\n"


def test_a_node_is_proxied(client: Client, node: str) -> None:
    answer = client.get(f"/api/v1/nodes/{node}/proxy/stats?x=1")
    assert (answer.status, answer.body) == (200, b"node says /stats?x=1")
    assert client.get(f"/api/v1/nodes/{node}/proxy/refused").status == 418
    assert client.get("/api/v1/nodes/ghost/proxy/x").status == 404


def test_nobody_answers(client: Client, ns: str) -> None:
    client.post("/api/v1/nodes", {"metadata": {"name": "dead"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}})
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("q", nodeName="dead"))
    answer = client.get(f"/api/v1/namespaces/{ns}/pods/q/log")
    assert answer.status == 500
    assert "error dialing backend" in answer.json["message"]
    client.delete("/api/v1/nodes/dead")


def test_what_cannot_be_streamed(client: Client, ns: str, path: str) -> None:
    assert client.get(f"{path}/exec?command=x").status == 400
    assert client.get(f"{path}/exec?stdout=1").status == 400
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("u"))
    assert client.get(f"/api/v1/namespaces/{ns}/pods/u/exec?command=x&stdout=1").status == 400
    assert client.get(f"/api/v1/namespaces/{ns}/pods/u/log").body == b""
