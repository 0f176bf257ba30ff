"""The server's own certificates: taken up when their files change, by the name that is asked for; versions, suites."""

from __future__ import annotations

import contextlib
import ipaddress
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from netlab.apiserver import options
from netlab.errors import UsageError
from netlab.serving.shown import Shown
from tests.apiserver.conftest import Client, Pki, Server
from tests.apiserver.fake_kubelet import FakeKubelet

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
LOCAL = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def _shown(port: int, pki: Pki, name: str = "") -> str:
    """Return the common name of the certificate that the server shows to who asks for a name."""
    context = ssl.create_default_context(cafile=pki.path("ca.crt"))
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw, \
            context.wrap_socket(raw, server_hostname=name or None) as wrapped:
        told: Any = wrapped.getpeercert()
    return next(value for row in told["subject"] for key, value in row if key == "commonName")


@pytest.fixture
def own(tmp_path: Path) -> Pki:
    """An authority whose files a test may change."""
    made = Pki(tmp_path / "own")
    made.issue("tls", "first", usage=SERVER, sans=[LOCAL])
    return made


@pytest.fixture
def running(servers: Callable[..., Server], own: Pki) -> Server:
    """A server with files of its own."""
    return servers(f"--tls-cert-file={own.path('tls.crt')}", f"--tls-private-key-file={own.path('tls.key')}",
                   f"--client-ca-file={own.path('ca.crt')}")


def test_a_new_serving_certificate_is_shown_without_a_restart(running: Server, own: Pki) -> None:
    client = Client(running.port, own)
    assert client.get("/api").status == 200
    assert _shown(running.port, own) == "first"
    own.issue("tls", "second", usage=SERVER, sans=[LOCAL])
    _until(lambda: _shown(running.port, own) == "second")
    assert client.get("/api").status == 200  # on the connection that is there
    assert "Loaded a new serving certificate" in running.log.read_text()


def test_a_broken_certificate_leaves_the_one_before(running: Server, own: Pki) -> None:
    certificate, key = Path(own.path("tls.crt")), Path(own.path("tls.key"))
    good = certificate.read_bytes()
    certificate.write_bytes(good[:-200])
    _until(lambda: "can't be used" in running.log.read_text())
    assert _shown(running.port, own) == "first"
    other = key.read_bytes()
    own.issue("tls", "second", usage=SERVER, sans=[LOCAL])
    key.write_bytes(other)  # of another certificate
    _until(lambda: "private key does not match public key" in running.log.read_text())
    key.unlink()
    _until(lambda: "No such file or directory" in running.log.read_text())
    assert _shown(running.port, own) == "first"
    own.issue("tls", "third", usage=SERVER, sans=[LOCAL])
    _until(lambda: _shown(running.port, own) == "third")
    assert "Traceback" not in running.log.read_text()


def test_another_client_authority_counts_for_every_request_from_then_on(running: Server, own: Pki,
                                                                        tmp_path: Path) -> None:
    before = Client(running.port, own)
    assert before.get("/api").status == 200
    other = Pki(tmp_path / "other", "other")
    after = Client(running.port, other, ca=shutil.copy(own.path("ca.crt"), tmp_path / "ca.crt"))
    assert after.get("/api").status == 401
    authorities = Path(own.path("ca.crt"))
    authorities.write_bytes(authorities.read_bytes() + Path(other.path("ca.crt")).read_bytes())
    _until(lambda: after.get("/api").status == 200)
    assert before.get("/api").status == 200
    connection = before._connection
    shutil.copy(other.path("ca.crt"), authorities)
    _until(lambda: before.get("/api").status == 401)
    assert before._connection is connection  # the connection is the same, what it shows is not good any more
    assert after.get("/api").status == 200
    authorities.write_bytes(b"")
    _until(lambda: "client CA" in running.log.read_text() and "can't be used" in running.log.read_text())
    assert after.get("/api").status == 200
    _until(lambda: after.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").json[
        "data"]["client-ca-file"] == Path(other.path("ca.crt")).read_text())


def test_a_name_has_its_certificate(servers: Callable[..., Server], own: Pki) -> None:
    own.issue("named", "by-its-names", usage=SERVER, sans=[x509.DNSName("a.example"), x509.DNSName("*.b.example")])
    own.issue("given", "by-given-names", usage=SERVER, sans=[x509.DNSName("unused.example")])
    server = servers(f"--tls-cert-file={own.path('tls.crt')}", f"--tls-private-key-file={own.path('tls.key')}",
                     f"--tls-sni-cert-key={own.path('named.crt')},{own.path('named.key')}",
                     f"--tls-sni-cert-key={own.path('given.crt')},{own.path('given.key')}:*.c.example,x.b.example")
    assert {name: _shown(server.port, own, name) for name in (
        "", "a.example", "A.Example", "y.b.example", "x.b.example", "z.c.example", "y.z.c.example", "unused.example",
        "elsewhere.example")} == {
        "": "first", "a.example": "by-its-names", "A.Example": "by-its-names", "y.b.example": "by-its-names",
        "x.b.example": "by-given-names", "z.c.example": "by-given-names", "y.z.c.example": "first",
        "unused.example": "first", "elsewhere.example": "first"}
    own.issue("named", "renewed", usage=SERVER, sans=[x509.DNSName("a.example")])
    _until(lambda: _shown(server.port, own, "a.example") == "renewed")


def test_an_address_has_its_certificate_where_no_name_is_asked_for(servers: Callable[..., Server], own: Pki) -> None:
    own.issue("address", "by-address", usage=SERVER, sans=[LOCAL])
    server = servers(f"--tls-sni-cert-key={own.path('address.crt')},{own.path('address.key')}")
    assert _shown(server.port, own) == "by-address"


def _versions(port: int, pki: Pki, version: ssl.TLSVersion, ciphers: str = "") -> str:
    context = ssl.create_default_context(cafile=pki.path("ca.crt"))
    context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped:
                return str((wrapped.cipher() or ("",))[0])
        except ssl.SSLError as error:
            return str(error.reason)


def test_versions_and_suites(servers: Callable[..., Server], pki: Pki) -> None:
    newest = servers("--tls-min-version=VersionTLS13")
    assert _versions(newest.port, pki, ssl.TLSVersion.TLSv1_3).startswith("TLS_")
    assert "PROTOCOL_VERSION" in _versions(newest.port, pki, ssl.TLSVersion.TLSv1_2)
    one = servers("--tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256")
    assert _versions(one.port, pki, ssl.TLSVersion.TLSv1_2) == "ECDHE-ECDSA-AES256-GCM-SHA384"
    assert "HANDSHAKE_FAILURE" in _versions(one.port, pki, ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256")
    assert _versions(one.port, pki, ssl.TLSVersion.TLSv1_3).startswith("TLS_")


SNI = 'for "--tls-sni-cert-key" flag'
REQUIRED = ("--tls-cert-file=c", "--tls-private-key-file=k", "--client-ca-file=a")


@pytest.mark.parametrize(("flag", "said"), [
    ("--tls-min-version=TLS12", '--tls-min-version: unknown tls version "TLS12"'),
    ("--tls-cipher-suites=TLS_AES_128_GCM_SHA256,nonsense",
     "--tls-cipher-suites: Cipher suite nonsense not supported or doesn't exist"),
    ("--tls-sni-cert-key=a", f'invalid argument "a" {SNI}: expected comma separated certificate and key file paths'),
    ("--tls-sni-cert-key=a,b:", f'invalid argument "a,b:" {SNI}: empty names list is not allowed'),
])
def test_flags_that_are_wrong(flag: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        options.parse((*REQUIRED, flag))
    assert str(raised.value) == said


def test_sni_flags_keep_their_order_and_their_names() -> None:
    found = options.parse((*REQUIRED, "--tls-sni-cert-key=a.crt,a.key", "--tls-sni-cert-key", "b.crt, b.key: *.x , y"))
    assert isinstance(found, options.Options)
    assert [(one.certificate, one.key, one.names) for one in found.serving.named] == [
        ("a.crt", "a.key", ()), ("b.crt", "b.key", ("*.x", "y"))]


def test_files_that_are_missing_or_broken_are_said_at_the_start(servers: Callable[..., Server], own: Pki) -> None:
    with pytest.raises(AssertionError, match=r"the serving certificate .* can't be used: .*nowhere: No such file"):
        servers("--tls-cert-file=/nowhere")
    Path(own.path("ca.crt")).write_bytes(b"no certificate")
    with pytest.raises(AssertionError, match=r"the client CA .* can't be used"):
        servers(f"--client-ca-file={own.path('ca.crt')}")


def test_kubelets_are_shown_a_new_certificate_without_a_restart(servers: Callable[..., Server], pki: Pki,
                                                               kubelet: FakeKubelet) -> None:
    pki.issue("to-kubelets", "first-client")
    server = servers(f"--kubelet-client-certificate={pki.path('to-kubelets.crt')}",
                     f"--kubelet-client-key={pki.path('to-kubelets.key')}")
    client = server.client()
    assert client.post("/api/v1/nodes", {"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}}}}).status == 201

    def shown() -> str:
        assert client.get("/api/v1/nodes/n/proxy/x").status == 200
        return str(kubelet.seen[-1][2])

    assert shown() == "first-client"
    pki.issue("to-kubelets", "second-client")
    _until(lambda: shown() == "second-client")


def test_servers_behind_are_shown_a_new_certificate_without_a_restart(tmp_path: Path, own: Pki) -> None:
    shown = Shown("proxy client certificate", own.path("tls.crt"), own.path("tls.key"))
    contexts = [ssl.create_default_context() for _ in range(2)]
    for context in contexts:
        shown.put(context)
    own.issue("tls", "second", usage=None)
    shown.refresh(1e9)
    for context in contexts:
        assert _presented(context, own) == "second"
    Path(own.path("tls.crt")).write_bytes(b"")
    shown.refresh(2e9)
    assert _presented(contexts[0], own) == "second"


def _presented(context: ssl.SSLContext, pki: Pki) -> str:
    """Return the common name of the certificate that a client with this context shows."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.path("ca.crt"))
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_cert_chain(pki.path("apiserver.crt"), pki.path("apiserver.key"))
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = context.wrap_bio(back, there), serving.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for end in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    told: Any = server.getpeercert()
    return next(value for row in told["subject"] for key, value in row if key == "commonName")
