"""APIServices: another server answers a group version, and this one passes requests on."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.apiserver.conftest import Client, Kubectl, Pki, Server, kubectl_binary

APIS = "/apis/apiregistration.k8s.io/v1/apiservices"
LISTED = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1", "resources": [
    {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "shortNames": ["fl"],
     "verbs": ["get", "list", "create"]},
    {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get"]}]}


class Wardle:
    """A server behind an APIService: it lists its resource and tells who asked."""

    def __init__(self, pki: Pki, certificate: str) -> None:
        self.asked: list[tuple[str, str, dict[str, list[str]]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                sent = self.rfile.read(length)
                outer.asked.append((self.command, self.path, {key.lower(): self.headers.get_all(key) for key in self.headers}))
                path = self.path.partition("?")[0]
                if path == "/apis/wardle.example.com/v1":
                    self.say(200, LISTED)
                elif path.endswith("/flunders") and self.command == "GET":
                    self.say(200, {"kind": "FlunderList", "apiVersion": "wardle.example.com/v1", "metadata": {}, "items": [
                        {"metadata": {"name": "one", "namespace": "default"}}]})
                elif self.command == "POST":
                    self.say(201, json.loads(sent))
                else:
                    self.say(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no such flunder", "code": 404, "reason": "NotFound"})

            do_GET = do_POST = answer  # noqa: N815

            def say(self, code: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.path("ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED  # only who shows the proxy's certificate is believed
        context.load_cert_chain(pki.path(f"{certificate}.crt"), pki.path(f"{certificate}.key"))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pki.issue("front", "front-proxy-client")
    running = Server(pki, tmp_path_factory.mktemp("aggregator"), f"--proxy-client-cert-file={pki.path('front.crt')}",
                     f"--proxy-client-key-file={pki.path('front.key')}")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def behind_a_service(pki: Pki, server: Server) -> Wardle:
    """Start a server that the Service default/api leads to."""
    pki.issue("wardle", "wardle", usage=ExtendedKeyUsageOID.SERVER_AUTH, sans=[x509.DNSName("api.default.svc")])
    running = Wardle(pki, "wardle")
    server.client().post("/api/v1/namespaces/default/services", {"metadata": {"name": "api"}, "spec": {
        "type": "ExternalName", "externalName": "localhost", "ports": [{"port": running.port}]}})
    return running


@pytest.fixture(scope="module")
def wardle(server: Server, pki: Pki) -> Iterator[Wardle]:
    running, client = behind_a_service(pki, server), server.client()
    answer = client.post(APIS, {"metadata": {"name": "v1.wardle.example.com"}, "spec": {
        "group": "wardle.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 200,
        "caBundle": base64.b64encode((pki.dir / "ca.crt").read_bytes()).decode(),
        "service": {"name": "api", "namespace": "default", "port": running.port}}})
    assert answer.status == 201, answer.json
    available(client, "v1.wardle.example.com", "True")
    yield running
    running.close()


def available(client: Client, name: str, wanted: str, seconds: float = 15) -> dict:
    end = time.monotonic() + seconds
    while True:
        found = client.get(f"{APIS}/{name}").json.get("status", {}).get("conditions") or [{}]
        if found[0].get("status") == wanted:
            return found[0]
        assert time.monotonic() < end, found
        time.sleep(0.05)


def test_own_group_versions_are_registered(server: Server) -> None:
    client = server.client()
    condition = available(client, "v1.apps", "True")
    assert condition["reason"] == "Local"
    assert client.get(f"{APIS}/v1.").json["spec"]["groupPriorityMinimum"] == 18000


def test_requests_are_passed_on_as_their_sender(server: Server, wardle: Wardle) -> None:
    wardle.asked.clear()
    path = "/apis/wardle.example.com/v1/namespaces/default/flunders"
    assert server.client().get(f"{path}?limit=5", X_Remote_User="somebody-else").json["items"][0]["metadata"]["name"] == "one"
    method, asked, headers = wardle.asked[-1]
    assert (method, asked) == ("GET", f"{path}?limit=5")
    assert headers["x-remote-user"] == ["kubernetes-admin"]
    assert headers["x-remote-group"] == ["system:masters", "system:authenticated"]
    assert "authorization" not in headers
    made = server.client().post(path, {"metadata": {"name": "two"}})
    assert (made.status, made.json["metadata"]["name"]) == (201, "two")
    assert server.client().get(f"{path}/nope").json["message"] == "no such flunder"
    bare = server.client().connect()  # client-go names no type for bytes; servers take that for JSON
    bare.request("POST", path, b'{"metadata":{"name":"three"}}')
    assert bare.getresponse().status == 201
    assert "content-type" not in wardle.asked[-1][2]


def test_discovery_knows_it(server: Server, wardle: Wardle, tmp_path) -> None:
    client = server.client()
    every = client.get("/apis", Accept="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList").json
    group = next(item for item in every["items"] if item["metadata"]["name"] == "wardle.example.com")
    assert group["versions"][0]["freshness"] == "Current"
    assert group["versions"][0]["resources"][0]["subresources"][0]["subresource"] == "status"
    assert "wardle.example.com" in [item["name"] for item in client.get("/apis").json["groups"]]
    assert client.get("/apis/wardle.example.com").json["preferredVersion"]["version"] == "v1"
    assert client.get("/apis/wardle.example.com/v1").json["groupVersion"] == "wardle.example.com/v1"
    kubectl = Kubectl(kubectl_binary(), server.kubeconfig(tmp_path / "kubeconfig"), tmp_path / "home", "default")
    assert "flunders" in kubectl("api-resources")
    assert "one" in kubectl("get", "fl")
    assert "default/api   True" in kubectl("get", "apiservices")


@pytest.mark.parametrize(("service", "reason"), [
    ({"name": "absent", "namespace": "default"}, "ServiceNotFound"),
    ({"name": "kubernetes", "namespace": "default", "port": 1}, "ServicePortError"),
    ({"name": "kubernetes", "namespace": "default", "port": 443}, "MissingEndpoints"),
])
def test_what_is_not_there(server: Server, service: dict, reason: str) -> None:
    client, name = server.client(), f"v1.{reason.lower()}.example.com"
    client.post(APIS, {"metadata": {"name": name}, "spec": {
        "group": f"{reason.lower()}.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
        "insecureSkipTLSVerify": True, "service": service}})
    assert available(client, name, "False")["reason"] == reason
    answer = client.get(f"/apis/{reason.lower()}.example.com/v1/things")
    assert answer.status == 503
    client.delete(f"{APIS}/{name}")
    end = time.monotonic() + 10
    while client.get(f"/apis/{reason.lower()}.example.com/v1/things").status != 404:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_one_that_never_answers_holds_up_no_other(server: Server, wardle: Wardle) -> None:
    client = server.client()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = {"silent": silent.getsockname()[1], "lively": wardle.port}
        for name, port in ports.items():
            client.post("/api/v1/namespaces/default/services", {"metadata": {"name": name}, "spec": {
                "type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}})
            answer = client.post(APIS, {"metadata": {"name": f"v1.{name}.example.com"}, "spec": {
                "group": f"{name}.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
                "insecureSkipTLSVerify": True, "service": {"name": name, "namespace": "default", "port": port}}})
            assert answer.status == 201
        available(client, "v1.lively.example.com", "False")  # it is asked for a group that it does not have
        assert not client.get(f"{APIS}/v1.silent.example.com").json["status"].get("conditions")  # still asked
        assert available(client, "v1.silent.example.com", "False")["reason"] == "FailedDiscoveryCheck"
    for name in ports:
        client.delete(f"{APIS}/v1.{name}.example.com")


@pytest.mark.parametrize(("spec", "field"), [
    ({"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}, "metadata.name"),
    ({"group": "x.y", "version": "v1", "groupPriorityMinimum": 0, "versionPriority": 1}, "spec.groupPriorityMinimum"),
    ({"group": "x.y", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1, "service": {"name": "a"}}, "spec.service.namespace"),
])
def test_bad_registrations(server: Server, spec: dict, field: str) -> None:
    answer = server.client().post(APIS, {"metadata": {"name": "v1.x.y"}, "spec": spec})
    assert field in [cause["field"] for cause in answer.json["details"]["causes"]]


def test_servers_behind_services_learn_whom_to_trust(servers: Callable[..., Server], pki: Pki) -> None:
    """What they read, upstream's word for word; what has changed is written again."""
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    pki.issue("proxies", "front-proxy")
    ca, proxies = ((pki.dir / name).read_text() for name in ("ca.crt", "proxies.crt"))
    server = servers()
    assert server.client().get(path).json["data"] == {"client-ca-file": ca}
    server.stop()
    server.flags = (f"--requestheader-client-ca-file={pki.path('proxies.crt')}", "--requestheader-allowed-names=a,b",
                    "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
                    "--requestheader-extra-headers-prefix=X-Remote-Extra-")
    server.start()
    assert server.client().get(path).json["data"] == {
        "client-ca-file": ca, "requestheader-client-ca-file": proxies, "requestheader-allowed-names": '["a","b"]',
        "requestheader-username-headers": '["X-Remote-User"]', "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]'}
