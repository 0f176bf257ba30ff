"""A real kube-apiserver process with real certificates, a small HTTPS client, and the real kubectl."""

from __future__ import annotations

import base64
import datetime
import http.client
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests import client_binaries
from tests.apiserver.fake_kubelet import FakeKubelet
from tests.apiserver.hook_server import HookServer

ROOT = Path(__file__).resolve().parents[2]


class Pki:
    """A CA in a directory; makes certificates and kubeconfigs."""

    def __init__(self, directory: Path, name: str = "test-ca") -> None:
        self.dir = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = _name(name, ())
        self.certificate = self._sign(self.key, self.subject, ca=True)
        self._write("ca.crt", _pem(self.certificate))
        sans = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        self.issue("apiserver", "kube-apiserver", usage=ExtendedKeyUsageOID.SERVER_AUTH, sans=sans)
        self.issue("kubelet-server", "system:node:n1", usage=ExtendedKeyUsageOID.SERVER_AUTH, sans=sans)
        self.issue("admin", "kubernetes-admin", ("system:masters",))
        self.issue("kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",))
        account = ec.generate_private_key(ec.SECP256R1())
        self._write("sa.key", _key_pem(account))
        self._write("sa.pub", account.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))

    def path(self, name: str) -> str:
        return str(self.dir / name)

    def issue(self, file: str, cn: str, orgs: tuple[str, ...] = (), *, usage: Any = ExtendedKeyUsageOID.CLIENT_AUTH,
              sans: list[Any] | None = None, days_ago: int = 0, through: Pki | None = None) -> None:
        """Make a certificate; `through`: signed by an authority under this one, whose certificate comes along."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = (through or self)._sign(key, _name(cn, orgs), usage=usage, sans=sans or [], days_ago=days_ago)
        between = _pem(self._sign(through.key, through.subject, ca=True)) if through else b""
        self._write(f"{file}.crt", _pem(made) + between)
        self._write(f"{file}.key", _key_pem(key))

    def _write(self, name: str, data: bytes) -> None:
        (self.dir / name).write_bytes(data)

    def _sign(self, key: Any, subject: x509.Name, *, ca: bool = False, usage: Any = None, sans: Any = (), days_ago: int = 0) -> Any:
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                   .not_valid_after(now + datetime.timedelta(days=1))
                   .add_extension(x509.BasicConstraints(ca, None), critical=True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                                  critical=False))
        if ca:  # Python 3.13 is strict with authorities
            builder = builder.add_extension(x509.KeyUsage(
                digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False),
                critical=True)
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _name(cn: str, orgs: tuple[str, ...]) -> x509.Name:
    return x509.Name([*(x509.NameAttribute(NameOID.ORGANIZATION_NAME, org) for org in orgs),
                      x509.NameAttribute(NameOID.COMMON_NAME, cn)])


def _pem(certificate: Any) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: Any) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def warnings(self) -> str:
        return self.headers.get("Warning", "")


class Client:
    """A keep-alive HTTPS client; not for several threads at once (`again()` makes another)."""

    def __init__(self, port: int, pki: Pki, *, user: str | None = "admin", token: str = "", ca: str = "") -> None:
        self.port, self.pki, self.user, self.token = port, pki, user, token
        self.context = ssl.create_default_context(cafile=ca or pki.path("ca.crt"))
        if user:
            self.context.load_cert_chain(pki.path(f"{user}.crt"), pki.path(f"{user}.key"))
        self._connection: http.client.HTTPSConnection | None = None

    def again(self, **changes: Any) -> Client:
        return Client(self.port, self.pki, **({"user": self.user, "token": self.token} | changes))

    def connect(self, timeout: float = 20) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=timeout)

    def request(self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **headers: str) -> Answer:
        sent = {"Content-Type": kind} if body is not None else {}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        for attempt in (0, 1):
            if self._connection is None:
                self._connection = self.connect()
            try:
                self._connection.request(method, path, data, sent)
                reply = self._connection.getresponse()
                answer = Answer(reply.status, reply.read(), {})
                for name, value in reply.getheaders():
                    answer.headers[name] = f"{answer.headers[name]}, {value}" if name in answer.headers else value
                return answer
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self._connection = None
                if attempt:
                    raise
        raise AssertionError

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.request("POST", path, body, **headers)

    def put(self, path: str, body: Any) -> Answer:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any, kind: str = "merge") -> Answer:
        types = {"merge": "application/merge-patch+json", "strategic": "application/strategic-merge-patch+json",
                 "json": "application/json-patch+json", "apply": "application/apply-patch+yaml"}
        return self.request("PATCH", path, body, kind=types[kind])

    def delete(self, path: str, body: Any = None) -> Answer:
        return self.request("DELETE", path, body)

    def watch(self, path: str, **headers: str) -> Watching:
        return Watching(self, path, headers)


class Watching:
    """An open watch; iterate its events, or read `until` one."""

    def __init__(self, client: Client, path: str, headers: dict[str, str]) -> None:
        self.connection = client.connect()
        sent = {"Authorization": f"Bearer {client.token}"} if client.token else {}
        self.connection.request("GET", path, headers=sent | headers)
        self.reply = self.connection.getresponse()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while line := self.reply.readline():
            yield json.loads(line)

    def take(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(self.reply.readline()) for _ in range(count)]

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        seen = []
        for event in self:
            seen.append(event)
            if wanted(event):
                return seen
        raise AssertionError(f"the watch ended before: {seen}")


class Server:
    """A kube-apiserver process."""

    def __init__(self, pki: Pki, directory: Path, *flags: str, port: int = 0) -> None:
        self.pki, self.dir = pki, directory
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.dir / "log"
        self.start()

    def start(self) -> None:
        reading, writing = os.pipe()
        argv = [sys.executable, "-m", "netlab.apiserver.main", "--bind-address=127.0.0.1", f"--secure-port={self.port}",
                f"--client-ca-file={self.pki.path('ca.crt')}",
                f"--tls-cert-file={self.pki.path('apiserver.crt')}",
                f"--tls-private-key-file={self.pki.path('apiserver.key')}",
                f"--kubelet-client-certificate={self.pki.path('kubelet-client.crt')}",
                f"--kubelet-client-key={self.pki.path('kubelet-client.key')}",
                f"--kubelet-certificate-authority={self.pki.path('ca.crt')}",
                f"--service-account-key-file={self.pki.path('sa.pub')}",
                f"--service-account-signing-key-file={self.pki.path('sa.key')}",
                f"--ready-file=/dev/fd/{writing}", *self.flags]
        if not any(flag.startswith(("--data-dir=", "--etcd-servers=")) for flag in self.flags):
            argv.append(f"--data-dir={self.dir / 'data'}")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stderr=log, stdout=log, pass_fds=[writing], cwd=ROOT,
                                            env=os.environ | {"PYTHONPATH": str(ROOT)})
        os.close(writing)
        with os.fdopen(reading) as ready:
            line = ready.readline()
        if not line:
            raise AssertionError(f"kube-apiserver did not start:\n{self.log.read_text()}")
        self.port = int(line.rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=10)

    def client(self, **options: Any) -> Client:
        return Client(self.port, self.pki, **options)

    def kubeconfig(self, path: Path, user: str = "admin") -> Path:
        def inline(name: str) -> str:
            return base64.b64encode((self.pki.dir / name).read_bytes()).decode()

        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": f"https://127.0.0.1:{self.port}",
                                                      "certificate-authority-data": inline("ca.crt")}}],
            "users": [{"name": "me", "user": {"client-certificate-data": inline(f"{user}.crt"),
                                              "client-key-data": inline(f"{user}.key")}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}]}))
        return path


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(pki, tmp_path_factory.mktemp("apiserver"))
    yield running
    assert running.stop() == 0
    log = running.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def kubelet(pki: Pki) -> Iterator[FakeKubelet]:
    running = FakeKubelet(pki)
    yield running
    running.close()


@pytest.fixture(scope="module")
def hooks(pki: Pki) -> Iterator[HookServer]:
    running = HookServer(pki)
    yield running
    running.close()


@pytest.fixture
def servers(pki: Pki, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Make servers of one's own; each is stopped at the end."""
    running: list[Server] = []

    def make(*flags: str, **options: Any) -> Server:
        running.append(Server(pki, tmp_path / f"apiserver-{len(running)}", *flags, **options))
        return running[-1]

    yield make
    for each in running:
        if each.process is not None and each.process.poll() is None:
            each.stop(signal.SIGKILL)


@pytest.fixture
def client(server: Server) -> Client:
    return server.client()


@pytest.fixture
def ns(client: Client, request: pytest.FixtureRequest) -> str:
    """A namespace of one's own, with its default service account."""
    name = f"t-{abs(hash(request.node.nodeid)) % 10**9}"
    assert client.post("/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    assert client.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}}).status == 201
    return name


class Kubectl:
    """The real kubectl with a HOME of its own, in one namespace."""

    def __init__(self, binary: str, kubeconfig: Path, home: Path, namespace: str) -> None:
        self.argv = [binary, f"--kubeconfig={kubeconfig}", f"--namespace={namespace}"]
        self.binary, self.home, self.namespace = binary, home, namespace
        home.mkdir(exist_ok=True)

    @property
    def minor(self) -> int:
        return client_binaries.minor(self.binary)

    def since(self, minor: int, what: str) -> None:
        """Skip a test of a command that a kubectl does not have yet."""
        if self.minor < minor:
            pytest.skip(f"kubectl 1.{self.minor} has no {what}")

    def run(self, *args: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.argv, *args], input=stdin, capture_output=True, text=True, timeout=60, check=False,
                              env={"HOME": str(self.home), "PATH": os.environ["PATH"], **(env or {})})

    def __call__(self, *args: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
        done = self.run(*args, stdin=stdin, env=env)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def fails(self, *args: str, stdin: str = "") -> str:
        done = self.run(*args, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def popen(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*self.argv, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={"HOME": str(self.home), "PATH": os.environ["PATH"]})


def kubectl_binary() -> str:
    """The kubectl of the test requirements, or another version named by NETLAB_TEST_KUBECTL."""
    return client_binaries.kubectl("")


@pytest.fixture(params=client_binaries.matrix())
def kubectl(server: Server, ns: str, tmp_path: Path, request: pytest.FixtureRequest) -> Kubectl:
    """The kubectl of the test requirements; with `-m soak` those of other releases as well."""
    binary = client_binaries.kubectl(request.param)
    return Kubectl(binary, server.kubeconfig(tmp_path / "kubeconfig"), tmp_path / "home", ns)


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A Pod with one container."""
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "busybox"}], **spec}}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}
