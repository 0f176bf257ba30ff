"""Certificates, checked by a TLS handshake and by what a verifier reads in them."""

from __future__ import annotations

import ssl
import stat
import time

import pytest
from cryptography import x509

from netlab.lab import nodefiles, plan
from netlab.lab.pki import Authority

CA = Authority("kubernetes", now=time.time())


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> dict:
    """Shake hands in memory and return the certificate that the server saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [ours, theirs]
    for _ in range(20):
        for side in list(pending):
            try:
                side.do_handshake()
                pending.remove(side)
            except ssl.SSLWantReadError:
                continue
        if not pending:
            return theirs.getpeercert() or {}
    raise AssertionError("no end to the handshake")


def contexts(tmp_path, server_pair, client_pair, ca=CA):
    for name, raw in (("s.crt", server_pair.certificate), ("s.key", server_pair.key),
                      ("c.crt", client_pair.certificate), ("c.key", client_pair.key), ("ca", ca.pair.certificate)):
        (tmp_path / name).write_bytes(raw)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "s.crt", tmp_path / "s.key")
    server.load_verify_locations(tmp_path / "ca")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(tmp_path / "ca"))
    client.load_cert_chain(tmp_path / "c.crt", tmp_path / "c.key")
    return server, client


@pytest.mark.parametrize("name", ["127.0.0.1", "10.96.0.1", "kubernetes.default.svc"])
def test_a_client_is_known_by_name_and_groups(tmp_path, name):
    pair = CA.server("kube-apiserver", names=["127.0.0.1", "10.96.0.1", "kubernetes.default.svc"])
    server, client = contexts(tmp_path, pair, CA.client("system:node:worker1", "system:nodes"))
    subject = {key: value for row in handshake(server, client, name)["subject"] for key, value in row}
    assert subject == {"organizationName": "system:nodes", "commonName": "system:node:worker1"}


def test_a_name_that_the_server_does_not_have_is_refused(tmp_path):
    server, client = contexts(tmp_path, CA.server("x", names=["127.0.0.1"]), CA.client("me"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "10.0.0.1")


def test_a_client_of_another_authority_is_refused(tmp_path):
    stranger = Authority("kubernetes", now=time.time())
    server, client = contexts(tmp_path, CA.server("x", names=["127.0.0.1"]), stranger.client("me", "system:masters"))
    with pytest.raises(ssl.SSLError):
        handshake(server, client, "127.0.0.1")


def test_a_server_certificate_is_no_client_certificate():
    certificate = x509.load_pem_x509_certificate(CA.server("x", names=["a"]).certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use._name for use in usage] == ["serverAuth"]


def test_a_node_finds_what_kubeadm_would_have_left(tmp_path):
    lab = plan.make("one", workers=1)
    keys = nodefiles.make_keys(now=time.time())
    for node in lab.nodes:
        nodefiles.write(tmp_path / node.name, lab, node, keys)
    control, worker = tmp_path / "control-plane", tmp_path / "worker1"
    pki = {path.name for path in (control / "etc/kubernetes/pki").iterdir()}
    assert pki == {f"{name}.{kind}" for name in ("ca", "apiserver", "apiserver-kubelet-client", "front-proxy-ca", "apiserver-etcd-client",
                                                 "front-proxy-client") for kind in ("crt", "key")} | {"sa.key", "sa.pub", "etcd"}
    assert {path.name for path in (control / "etc/kubernetes/manifests").iterdir()} == {
        "kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml"}
    assert [path.name for path in (worker / "etc/kubernetes/pki").iterdir()] == ["ca.crt"]
    assert not list((worker / "etc/kubernetes/manifests").iterdir())
    open_to_others = [path for path in tmp_path.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
                      and stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert not open_to_others
