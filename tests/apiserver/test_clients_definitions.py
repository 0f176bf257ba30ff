"""Definitions as they are met in the wild, and their objects, held against the kubectl of every release with `-m soak`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.apiserver.conftest import Client, Kubectl

CRDS = Path(__file__).parent / "data" / "crds.yaml"
CERTIFICATE = """
apiVersion: pki.example.com/v1
kind: Certificate
metadata: {name: web}
spec:
  secretName: web-tls
  dnsNames: [web.example.com]
  issuerRef: {name: ca}
  privateKey: {algorithm: RSA, size: 4096}
"""
ROUTE = """
apiVersion: routing.example.com/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: front}]
  hostnames: [web.example.com, "*.shop.example.com"]
  rules:
  - matches: [{path: {value: /api}}, {headers: [{name: x, value: z}]}]
    backendRefs: [{name: web, port: 80}]
"""


def test_definitions_of_the_wild(kubectl: Kubectl, client: Client, ns: str, tmp_path: Path) -> None:
    """explain, create, apply of both kinds, diff, edit, columns, wait and selectors on custom resources."""
    kubectl("apply", "--server-side", "-f", str(CRDS))
    kubectl("wait", "--for=condition=Established", "crd/certificates.pki.example.com", "crd/httproutes.routing.example.com",
            "--timeout=30s")
    assert "issuerRef" in kubectl("explain", "certificates.spec")
    assert "dnsNames" in kubectl("explain", "pkicert.spec", "--recursive")
    assert "Name of the Secret" in kubectl("explain", "certificates.spec.secretName")
    certificate = tmp_path / "certificate.yaml"
    certificate.write_text(CERTIFICATE)
    assert "created" in kubectl("apply", "-f", str(certificate))
    assert "unchanged" in kubectl("apply", "-f", str(certificate))
    found = json.loads(kubectl("get", "pkicert", "web", "-o", "json"))
    assert found["spec"]["issuerRef"]["kind"] == "Issuer"
    assert found["spec"]["privateKey"]["rotationPolicy"] == "Always"
    certificate.write_text(CERTIFICATE.replace("4096", "3072"))
    if kubectl.minor >= 27:  # 1.20 asks for definitions of apiextensions.k8s.io/v1beta1 first
        done = kubectl.run("diff", "-f", str(certificate))
        assert done.returncode == 1, done.stderr
        assert "+    size: 3072" in done.stdout
    assert "configured" in kubectl("apply", "-f", str(certificate))
    assert "RSA keys need 2048 bits" in kubectl.fails("apply", "-f", "-", stdin=CERTIFICATE.replace("4096", "512"))
    assert "secretName stays web-tls" in kubectl.fails("patch", "pkicert/web", "--type=merge", "-p",
                                                       '{"spec":{"secretName":"other"}}')
    assert "Unsupported value" in kubectl.fails("patch", "pkicert/web", "--type=merge", "-p",
                                                '{"spec":{"privateKey":{"algorithm":"DSA"}}}')
    if kubectl.minor >= 27:
        assert "unknown field" in kubectl.fails("create", "-f", "-", stdin=CERTIFICATE.replace("dnsNames", "dnsNamez"))
    waiting = kubectl.popen("wait", "--for=condition=Ready", "certificate/web", "--timeout=30s")
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True", "message": "signed"}]}}
    assert client.patch(f"/apis/pki.example.com/v1/namespaces/{ns}/certificates/web/status", ready).status == 200
    assert "condition met" in waiting.communicate(timeout=40)[0]
    assert kubectl("get", "certificates", "--no-headers").split()[:3] == ["web", "True", "web-tls"]
    assert kubectl("get", "certificates", "-o", "wide", "--no-headers").split()[3:5] == ["ca", "signed"]
    assert kubectl("get", "pki", "-o", "name") == "certificate.pki.example.com/web\n"
    assert kubectl("get", "certificates", "--field-selector=spec.secretName=web-tls", "-o", "name")
    assert kubectl("get", "certificates", "--field-selector=spec.secretName=other", "-o", "name") == ""
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/size: 3072/size: 2048/' \"$1\"\n")
    editor.chmod(0o755)
    kubectl("edit", "certificate", "web", env={"KUBE_EDITOR": str(editor)})
    assert kubectl("get", "certificate", "web", "-o", "jsonpath={.spec.privateKey.size}") == "2048"
    assert "Secret Name" in kubectl("describe", "certificate", "web")

    kubectl("apply", "--server-side", "-f", "-", stdin=ROUTE)
    rule = json.loads(kubectl("get", "httproute", "web", "-o", "json"))["spec"]["rules"][0]
    assert rule["matches"][0]["path"] == {"type": "PathPrefix", "value": "/api"}
    assert rule["matches"][1]["path"] == {"type": "PathPrefix", "value": "/"}
    assert rule["backendRefs"] == [{"group": "", "kind": "Service", "name": "web", "port": 80, "weight": 1}]
    assert "must be an absolute path" in kubectl.fails("create", "-f", "-", stdin=ROUTE.replace("/api", "api"))
    assert "Must have port" in kubectl.fails("create", "-f", "-", stdin=ROUTE.replace(", port: 80", ""))
    assert "on its way out" in kubectl.run("get", "httproutes.v1beta1.routing.example.com").stderr
    row = kubectl("get", "httproutes", "--no-headers").split()
    assert row[1] == '["web.example.com","*.shop.example.com"]'
    kubectl("delete", "certificate,httproute", "--all")
