"""What is said when a webhook can't be reached, or is not who it should be: in upstream's words."""

from __future__ import annotations

import base64
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.apiserver.conftest import Client, Pki, config_map
from tests.apiserver.hook_server import HookServer

API = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def said(client: Client, ns: str, config: dict[str, Any], **spec: Any) -> str:
    """Return what a write ends with when this webhook has a say in it."""
    answer = client.post(API, {"metadata": {"name": f"bad-{ns}"}, "webhooks": [{
        "name": "x.example.com", "clientConfig": config, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns}}, "timeoutSeconds": 10,
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}], **spec}]})
    assert answer.status == 201, answer.json
    try:
        answer = client.post(f"/api/v1/namespaces/{ns}/configmaps", config_map("a"))
        assert answer.status == 500, answer.json
        return str(answer.json["message"])
    finally:
        client.delete(f"{API}/bad-{ns}")


@contextmanager
def tls(pki: Pki, certificate: str) -> Iterator[HookServer]:
    server = HookServer(pki, certificate)
    yield server
    server.close()


def failed(url: str, why: str) -> str:
    return f'Internal error occurred: failed calling webhook "x.example.com": failed to call webhook: Post "{url}?timeout=10s": {why}'


def test_certificates_that_are_wrong(client: Client, ns: str, pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> None:
    verify = "tls: failed to verify certificate: x509: "
    other = Pki(tmp_path_factory.mktemp("other"))
    stranger = base64.b64encode((other.dir / "ca.crt").read_bytes()).decode()
    with tls(pki, "kubelet-server") as server:
        url = f"https://127.0.0.1:{server.port}/"
        assert said(client, ns, {"url": url, "caBundle": stranger}) == failed(url, f"{verify}certificate signed by unknown authority")
        assert said(client, ns, {"url": url}) == failed(url, f"{verify}certificate signed by unknown authority")
        assert said(client, ns, {"url": url, "caBundle": "bm8="}) == (
            'Internal error occurred: failed calling webhook "x.example.com": could not get REST client: unable to load root certificates: unable to parse bytes as PEM block')
        absent = {"name": "absent", "namespace": ns, "path": "/check"}
        assert said(client, ns, {"service": absent}) == failed(f"https://absent.{ns}.svc:443/check", 'service "absent" not found')
        client.post(f"/api/v1/namespaces/{ns}/services", {"metadata": {"name": "hook"}, "spec": {
            "type": "ExternalName", "externalName": "localhost", "ports": [{"port": server.port}]}})
        service = {"name": "hook", "namespace": ns, "port": server.port, "path": "/check"}
        assert said(client, ns, {"service": service, "caBundle": server.bundle}) == failed(
            f"https://hook.{ns}.svc:{server.port}/check", f"{verify}certificate is valid for localhost, not hook.{ns}.svc")
    pki.issue("elsewhere", "elsewhere", usage=ExtendedKeyUsageOID.SERVER_AUTH, sans=[x509.DNSName("a.example.com")])
    with tls(pki, "elsewhere") as server:
        url = f"https://127.0.0.1:{server.port}/"
        assert said(client, ns, {"url": url, "caBundle": server.bundle}) == failed(
            url, f"{verify}cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs")
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    pki.issue("old", "old", usage=ExtendedKeyUsageOID.SERVER_AUTH, sans=[address], days_ago=9)
    with tls(pki, "old") as server:
        url = f"https://127.0.0.1:{server.port}/"
        assert said(client, ns, {"url": url, "caBundle": server.bundle}) == failed(url, f"{verify}certificate has expired or is not yet valid")


def test_servers_that_speak_something_else(client: Client, ns: str) -> None:
    def serve(listening: socket.socket, answer: bytes) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

    for answer, why in ((b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "http: server gave HTTP response to HTTPS client"), (b"", "EOF")):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=serve, args=(listening, answer), daemon=True).start()
            url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
            assert said(client, ns, {"url": url}) == failed(url, why)
            listening.shutdown(socket.SHUT_RDWR)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        assert said(client, ns, {"url": url}, timeoutSeconds=1) == failed(url, "context deadline exceeded").replace("10s", "1s")
    assert "dial tcp: lookup nowhere.invalid: no such host" in said(client, ns, {"url": "https://nowhere.invalid/"})


def test_answers_with_another_status(client: Client, ns: str, pki: Pki) -> None:
    with tls(pki, "kubelet-server") as server:
        assert said(client, ns, server.config("/absent")).endswith("failed to call webhook: the server could not find the requested resource")
