"""Logs, exec, attach and port-forward pass through to the kubelet, byte for byte."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from netlab.apiserver.proxy.rewrite import Links, Page
from tests.apiserver.conftest import Client, Kubectl, Pki, Server, pod
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


class Page80(BaseHTTPRequestHandler):
    """What a Pod serves: a page with links, a redirect, and what it was asked for."""

    def do_GET(self) -> None:
        said = {"/": b'<p><a href="/rewriteme">x</a><a href="/a/?b&amp;c">y</a> <img src=\'/z.png\'><a href="near">n</a>'
                     b'<a href="http://elsewhere.example/x">e</a></p>'}.get(self.path, self.path.encode())
        self.send_response(302 if self.path == "/moved" else 200)
        if self.path == "/moved":
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/to?x=1")
        self.send_header("Content-Type", "text/html; charset=utf-8" if self.path == "/" else "text/plain")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(client: Client, ns: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Pods that serve HTTP, and HTTPS with a certificate that nobody signed whom the server knows."""
    unknown = Pki(tmp_path_factory.mktemp("unknown"))
    unknown.issue("web", "web", usage=ExtendedKeyUsageOID.SERVER_AUTH)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(unknown.path("web.crt"), unknown.path("web.key"))
    plain, secret = (ThreadingHTTPServer(("127.0.0.1", 0), Page80) for _ in range(2))
    secret.socket = context.wrap_socket(secret.socket, server_side=True)
    for each in (plain, secret):
        threading.Thread(target=each.serve_forever, daemon=True).start()
    client.post(f"/api/v1/namespaces/{ns}/pods", pod("web", nodeName="n"))
    client.patch(f"/api/v1/namespaces/{ns}/pods/web/status", {"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}})
    yield lambda scheme, number: f"/api/v1/namespaces/{ns}/pods/{scheme}:web:{number or (plain if scheme == 'http' else secret).server_address[1]}/proxy"
    for each in (plain, secret):
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_links_of_a_pods_page_lead_through_the_proxy(client: Client, web: Any, scheme: str) -> None:
    base = web(scheme, 0)
    page = client.get(f"{base}/")
    assert page.status == 200, page.body
    assert page.body.decode() == (
        f'<p><a href="{base}/rewriteme">x</a><a href="{base}/a/?b&amp;c">y</a> <img src=\'{base}/z.png\'><a href="near">n</a>'
        '<a href="http://elsewhere.example/x">e</a></p>')
    moved = client.get(f"{base}/moved")
    assert (moved.status, moved.headers["Location"]) == (302, f"{base}/to?x=1")
    assert client.get(f"{base}/some/folder/").body == b"/some/folder/"
    begun = client.get(f"{base}?x=1")
    assert (begun.status, begun.headers["Location"]) == (301, f"{base}/?x=1")


def test_a_pod_that_does_not_answer(client: Client, web: Any) -> None:
    answer = client.get(f"{web('http', 1)}/x")
    assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable")
    assert answer.json["message"].startswith("error trying to reach service: ")


@pytest.mark.parametrize(("link", "led"), [
    ("/x", "/p/proxy/x"), ("/x/", "/p/proxy/x/"), ("/", "/p/proxy/"), ("x", "x"), ("//there:80/x", "/p/proxy/x"), ("http://there:80/x?a#b", "/p/proxy/x?a#b"),
    ("https://here/x", "https://here/p/proxy/x"), ("http://other/x", "http://other/x"), ("/p/proxy/x", "/p/proxy/x"), ("#top", "#top"),
    ("http://[", "http://["), ("", ""),
])
def test_where_links_lead(link: str, led: str) -> None:
    assert Links("/p/proxy", "here", "there:80").lead(link) == led


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_pages_are_led_in_whatever_pieces_they_come(size: int) -> None:
    text = b'<!doctype html><a\nclass="x" href="/a>b">1</a><b href="/no">2</b><A HREF=/c>3</A> 1 < 2 <script src="/s.js"></script><a href="\xff/x">'
    page = Page(Links("/p", "", ""))
    found = b"".join(page.feed(text[at:at + size]) for at in range(0, len(text), size)) + page.end()
    assert found == (b'<!doctype html><a\nclass="x" href="/p/a&gt;b">1</a><b href="/no">2</b><A HREF="/p/c">3</A> 1 < 2 <script src="/p/s.js"></script>'
                     b'<a href="\xff/x">')


@pytest.mark.parametrize("text", [b"<a '" * 50_000, b'<a "' * 50_000, b"<a " * 50_000, b"<a href='" + b"x" * 200_000, b"<" * 100_000, b"<a \"'" * 40_000])
def test_hostile_pages_pass(text: bytes) -> None:
    page = Page(Links("/p", "", ""))
    assert b"".join(page.feed(text[at:at + 4096]) for at in range(0, len(text), 4096)) + page.end() == text
