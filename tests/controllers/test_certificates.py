"""Signing requests: approved, signed, failed, cleaned away."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netlab.api import meta
from netlab.controllers import certificates, signing
from netlab.lab import pki
from tests.controllers.plane import api_server, cluster

KEY = ec.generate_private_key(ec.SECP256R1())
RESOURCE = "certificatesigningrequests"


def csr(name: str, cn: str, groups=(), *, signer: str = signing.API_CLIENT, usages=("client auth",), dns=(), **spec) -> dict:
    subject = x509.Name([*(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
                         x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in dns]), critical=False)
    pem = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
            "spec": {"request": base64.b64encode(pem).decode(), "signerName": signer, "usages": list(usages), **spec}}


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signing")
    authority = pki.Authority("signer", now=time.time())
    (folder / "signer.crt").write_bytes(authority.pair.certificate)
    (folder / "signer.key").write_bytes(authority.pair.key)
    with api_server(folder) as running:
        running.manager(f"--cluster-signing-cert-file={folder / 'signer.crt'}", f"--cluster-signing-key-file={folder / 'signer.key'}",
                        "--cluster-signing-duration=2h")
        yield running


def approved(obj: dict) -> dict:
    return {**obj, "status": {"conditions": [{"type": "Approved", "status": "True", "reason": "ByTest"}]}}


def test_what_is_approved_is_signed(plane):
    async def body():
        async with cluster(plane) as c:
            requests = await c.see(RESOURCE)
            made = await c.client.create(RESOURCE, csr("jane", "jane", ["devs"], expirationSeconds=600))
            await c.client.update(RESOURCE, approved(made), subresource="approval")
            await c.until("jane has a certificate", lambda: (requests.get("jane") or {}).get("status", {}).get("certificate"))
            return requests.get("jane")

    found = asyncio.run(body())
    certificate = x509.load_pem_x509_certificate(base64.b64decode(found["status"]["certificate"]))
    authority = x509.load_pem_x509_certificate((plane.directory / "signer.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert certificate.subject.rfc4514_string() == "CN=jane,O=devs"
    assert certificate.public_key() == KEY.public_key()
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):  # no usage of the key was asked for, and OpenSSL refuses an empty one
        certificate.extensions.get_extension_for_class(x509.KeyUsage)
    left = certificate.not_valid_after_utc.timestamp() - time.time()
    assert 300 < left <= 600


def test_what_a_signer_does_not_take_fails(plane):
    async def body():
        async with cluster(plane) as c:
            requests = await c.see(RESOURCE)
            made = await c.client.create(RESOURCE, csr("server", "x", usages=("server auth",)))
            foreign = await c.client.create(RESOURCE, csr("foreign", "x", signer="example.com/mine"))
            for obj in (made, foreign):
                await c.client.update(RESOURCE, approved(obj), subresource="approval")
            await c.until("the request has failed", lambda: any(
                one["type"] == "Failed" for one in (requests.get("server") or {}).get("status", {}).get("conditions", [])))
            assert "certificate" not in (requests.get("foreign").get("status") or {})

    asyncio.run(body())


@pytest.mark.parametrize(("obj", "said"), [
    (csr("a", "system:node:n", ["system:nodes"], signer=signing.NODE_CLIENT), ""),
    (csr("a", "n", ["system:nodes"], signer=signing.NODE_CLIENT), "common name does not begin with system:node:"),
    (csr("a", "system:node:n", ["others"], signer=signing.NODE_CLIENT), "organization is not system:nodes"),
    (csr("a", "system:node:n", ["system:nodes"], signer=signing.NODE_CLIENT, dns=["x"]), "are not allowed"),
    (csr("a", "system:node:n", ["system:nodes"], signer=signing.SERVING, usages=("server auth",), dns=["n"]), ""),
    (csr("a", "system:node:n", ["system:nodes"], signer=signing.SERVING, usages=("server auth",)), "subjectAltName is required"),
    (csr("a", "jane", usages=("client auth", "cert sign")), "usages must include"),
    (csr("a", "anything", signer=signing.LEGACY, usages=("cert sign",)), ""),
])
def test_demands(obj, said):
    if not said:
        signing.check(obj, signing.request_of(obj))
        return
    with pytest.raises(signing.Unacceptable, match=said):
        signing.check(obj, signing.request_of(obj))


def test_requests_go_in_time():
    now = 1_800_000_000.0
    made = {"metadata": {"creationTimestamp": meta.timestamp(now - 100)}, "spec": {}}
    assert certificates.remaining(made, now) == 86300
    decided = {**made, "status": {"conditions": [{"type": "Denied", "lastUpdateTime": meta.timestamp(now - 4000)}]}}
    assert certificates.remaining(decided, now) <= 0
