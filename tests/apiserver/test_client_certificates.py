"""Client certificates that are not good: 401 as upstream says it, unless another credential is; proxies' headers."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from tests.apiserver.conftest import Client, Kubectl, Pki, Server, kubectl_binary
from tests.apiserver.test_auth import token_of, whoami

BAD = {
    "foreign": "x509: certificate signed by unknown authority",
    "server-only": "x509: certificate specifies an incompatible key usage",
    "expired": "x509: certificate has expired or is not yet valid: current time 20",
    "early": "x509: certificate has expired or is not yet valid: current time 20",
    "orphan": "x509: certificate signed by unknown authority",
}


@pytest.fixture(scope="module")
def bad(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Client certificates that are not good, by the names of BAD."""
    stranger, between = Pki(tmp_path_factory.mktemp("stranger")), Pki(tmp_path_factory.mktemp("between"), "between")
    stranger.issue("foreign", "kubernetes-admin", ("system:masters",))
    between.issue("orphan", "kubernetes-admin", ("system:masters",))  # the certificate in between is not sent
    for made, name in ((stranger, "foreign"), (between, "orphan")):
        for end in ("crt", "key"):
            (pki.dir / f"{name}.{end}").write_bytes((made.dir / f"{name}.{end}").read_bytes())
    pki.issue("server-only", "kubernetes-admin", ("system:masters",), usage=ExtendedKeyUsageOID.SERVER_AUTH)
    pki.issue("expired", "kubernetes-admin", ("system:masters",), days_ago=3)
    pki.issue("early", "kubernetes-admin", ("system:masters",), days_ago=-3)
    return pki


@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate_is_401_and_the_log_says_why(server: Server, bad: Pki, name: str) -> None:
    before = len(server.log.read_text())
    for path in ("/api/v1/pods", "/version"):  # the second one is for everybody who shows nothing
        answer = server.client(user=name).get(path)
        assert (answer.status, answer.json["message"], answer.json["reason"]) == (401, "Unauthorized", "Unauthorized")
    line = server.log.read_text()[before:].splitlines()[0]
    assert line.startswith("E")
    assert '] "Unable to authenticate the request" err="verifying certificate SN=' in line
    assert BAD[name] in line


@pytest.mark.parametrize("name", BAD)
def test_a_token_beside_a_bad_certificate_counts(server: Server, client: Client, bad: Pki, ns: str, name: str) -> None:
    both = server.client(user=name, token=token_of(client, ns))
    assert whoami(both)["username"] == f"system:serviceaccount:{ns}:default"
    assert server.client(user=name, token="a.b.c").get("/version").status == 401


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", BAD)
def test_a_connection_with_a_bad_certificate_stays_open(server: Server, bad: Pki, name: str,
                                                        version: ssl.TLSVersion) -> None:
    client = server.client(user=name)
    client.context.minimum_version = client.context.maximum_version = version
    connection = client.connect()
    for _ in range(3):
        connection.request("GET", "/api")
        reply = connection.getresponse()
        assert (reply.status, json.loads(reply.read())["message"]) == (401, "Unauthorized")


@pytest.mark.parametrize("name", BAD)
def test_kubectl_says_that_it_must_be_logged_in(server: Server, bad: Pki, tmp_path: Path, name: str) -> None:
    kubectl = Kubectl(kubectl_binary(), server.kubeconfig(tmp_path / "kubeconfig", name), tmp_path / "home", "default")
    logged_in = "error: You must be logged in to the server"
    assert f"{logged_in} (Unauthorized)" in kubectl.fails("get", "--raw", "/version")
    assert f"{logged_in} (the server has asked for the client to provide credentials)" in kubectl.fails("get", "pods")


def test_certificates_for_any_purpose_and_for_none_in_particular_are_good(server: Server) -> None:
    server.pki.issue("any", "someone", usage=ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    server.pki.issue("open", "someone", usage=None)
    for name in ("any", "open"):
        assert whoami(server.client(user=name))["username"] == "someone"


def test_who_takes_up_a_session_is_who_he_was(server: Server, tmp_path: Path) -> None:
    """A session has the client's own certificate alone: those that lead from it to the authority are remembered."""
    between = Pki(tmp_path / "between", "between")
    server.pki.issue("long", "far-away", ("team",), through=between)
    client = server.client(user="long")
    client.context.maximum_version = ssl.TLSVersion.TLSv1_2  # its ticket is there with the handshake
    session = None
    for resumed in (False, True, True):
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=client.context)
        connection.sock = client.context.wrap_socket(_socket(server.port), server_hostname="127.0.0.1", session=session)
        body = json.dumps({}).encode()
        connection.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body,
                           {"Content-Type": "application/json"})
        said = json.loads(connection.getresponse().read())
        assert said["status"]["userInfo"]["username"] == "far-away"
        assert connection.sock.session_reused is resumed
        session = connection.sock.session
        connection.close()


def _socket(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.fixture
def front(servers: Any, pki: Pki, tmp_path: Path) -> tuple[Server, Pki]:
    """A server that believes proxies of another authority, and that authority."""
    proxies = Pki(tmp_path / "proxies", "proxies")
    proxies.issue("front", "front-proxy-client")
    proxies.issue("other", "somebody-else")
    for name in ("front", "other"):
        for end in ("crt", "key"):
            (pki.dir / f"{name}.{end}").write_bytes((proxies.dir / f"{name}.{end}").read_bytes())
    return servers(f"--requestheader-client-ca-file={proxies.path('ca.crt')}",
                   "--requestheader-allowed-names=front-proxy-client",
                   "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
                   "--requestheader-uid-headers=X-Remote-Uid",
                   "--requestheader-extra-headers-prefix=X-Remote-Extra-"), proxies


TOLD = {"X-Remote-User": "ann", "X-Remote-Group": "team", "X-Remote-Uid": "u1", "X-Remote-Extra-Acme.com%2fProject": "p"}


def _told(client: Client, **headers: str) -> Any:
    connection = client.connect()
    connection.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", b"{}",
                       {"Content-Type": "application/json", **headers})
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def test_a_proxy_tells_the_user(front: tuple[Server, Pki]) -> None:
    server, _ = front
    status, said = _told(server.client(user="front"), **TOLD)
    assert status == 201
    assert said["status"]["userInfo"] == {"username": "ann", "uid": "u1", "groups": ["team", "system:authenticated"],
                                          "extra": {"acme.com/project": ["p"]}}


def test_nobody_but_a_proxy_tells_the_user(front: tuple[Server, Pki]) -> None:
    server, _ = front
    status, said = _told(server.client(user="admin"), **TOLD)  # of the clients' authority: he is himself
    assert (status, said["status"]["userInfo"]["username"]) == (201, "kubernetes-admin")
    assert _told(server.client(user=None), **TOLD)[0] == 401
    assert _told(server.client(user="other"), **TOLD)[0] == 401
    assert 'err="[x509: subject with cn=somebody-else is not in the allowed list, verifying certificate SN=' \
        in server.log.read_text()


def test_a_proxys_certificate_is_no_user_of_its_own(front: tuple[Server, Pki]) -> None:
    server, _ = front
    assert _told(server.client(user="front"))[0] == 401


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # older versions of pyOpenSSL have no other form
def test_clients_are_told_whose_certificates_are_wanted(front: tuple[Server, Pki]) -> None:
    """As by upstream: browsers choose by it which certificates they offer."""
    server, _ = front
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_connect_state()
    with _socket(server.port) as raw:
        while not (wanted := connection.get_client_ca_list()):
            with contextlib.suppress(SSL.WantReadError):
                connection.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                raw.sendall(connection.bio_read(65536))
            connection.bio_write(raw.recv(65536))
    assert [name.CN for name in wanted] == ["test-ca", "proxies"]
