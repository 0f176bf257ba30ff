"""An etcd looked at before an API server lives on it, and what is left of an earlier cluster in it: real servers, real TLS."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netlab.apiserver import adopt, preflight
from netlab.apiserver.preflight import Target
from netlab.client import config
from netlab.client.client import Client as OurClient
from netlab.errors import ApiError, TemporaryError, UsageError
from netlab.lab.pki import Authority
from netlab.store import Store
from tests.apiserver.conftest import Server as ApiServer
from tests.store import servers
from tests.store.servers import Server, free_port, running


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.skipif(
    servers.REAL is None, reason="etcd is not installed"))], ids=["netlab-etcd", "etcd"])
def etcd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("etcd"), real=request.param) as server:
        yield server


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, now = tmp_path_factory.mktemp("pki"), time.time()
    ca, other = Authority("etcd-ca", now=now), Authority("other-ca", now=now)
    for name, pair in {"ca": ca.pair, "other": other.pair, "server": ca.peer("me", names=["localhost", "127.0.0.1"]),
                       "client": ca.client("root"), "stranger": other.client("root")}.items():
        (folder / f"{name}.crt").write_bytes(pair.certificate)
        (folder / f"{name}.key").write_bytes(pair.key)
    return folder


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.skipif(
    servers.REAL is None, reason="etcd is not installed"))], ids=["netlab-etcd", "etcd"])
def secure(request: pytest.FixtureRequest, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An etcd that asks for certificates; its https port. The plain port is for the test's own start."""
    port = free_port()
    plain = free_port()
    urls = f"https://127.0.0.1:{port},https://127.0.0.2:{port}"
    if request.param:  # the last flag counts there; ours takes all of them
        urls = f"http://127.0.0.1:{plain},{urls}"
    server = servers.start(tmp_path_factory.mktemp("tls"), real=request.param, port=plain, flags=(
        "--listen-client-urls", urls, "--advertise-client-urls", urls, f"--cert-file={files / 'server.crt'}",
        f"--key-file={files / 'server.key'}", f"--trusted-ca-file={files / 'ca.crt'}", "--client-cert-auth"))
    yield str(port)
    server.kill()


def object_of(kind: str, name: str, **more: object) -> str:
    return json.dumps({"kind": kind, "metadata": {"name": name}, **more})


def test_what_is_there_is_told(etcd: Server) -> None:
    empty = preflight.look(Target((etcd.url,), "/told/a"))
    assert (empty.keys, empty.nodes, empty.service_ips, empty.silent) == (0, {}, (), ())
    etcd.ctl("put", "/told/minions/w1", object_of("Node", "w1", spec={"podCIDRs": ["10.244.1.0/24"]}))
    etcd.ctl("put", "/told/services/specs/default/kubernetes",
             object_of("Service", "kubernetes", spec={"clusterIPs": ["10.96.0.1"]}))
    etcd.ctl("put", "/told/namespaces/kube-system", object_of("Namespace", "kube-system"))
    found = preflight.look(Target((etcd.url,), "/told"))
    assert (found.keys, found.nodes, found.service_ips) == (3, {"w1": ("10.244.1.0/24",)}, ("10.96.0.1",))
    assert found.cluster == empty.cluster
    assert found.version.startswith("3.")


def test_another_prefix_with_a_cluster_is_found(etcd: Server) -> None:
    etcd.ctl("put", "/aa", "no folder")
    etcd.ctl("put", "/told/namespaces/kube-system", object_of("Namespace", "kube-system"))
    assert preflight.look(Target((etcd.url,), "/fresh")).elsewhere == "/told"


def test_one_endpoint_may_be_silent_but_not_all(etcd: Server) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    assert preflight.look(Target((dead, etcd.url), "/x")).silent == (f"{dead}: Connection refused",)
    with pytest.raises(TemporaryError, match=r"--etcd-servers .endpoints.: no etcd answers.*refused") as caught:
        preflight.look(Target((dead,), "/x"))
    assert "start it first" in caught.value.hint


@pytest.mark.parametrize(("value", "words"), [
    ("k8s\0binary", "written by upstream's kube-apiserver"), ("{}", "is no object of Kubernetes"),
    ("my setting", "is no object of Kubernetes")])
def test_keys_of_others_are_refused(etcd: Server, value: str, words: str) -> None:
    etcd.ctl("put", "/foreign/pods/a", stdin=value)
    with pytest.raises(UsageError, match=rf"--etcd-prefix .prefix.: 1 keys are under /foreign .*/pods/a {words}|{words}"):
        preflight.look(Target((etcd.url,), "/foreign"))
    assert preflight.look(Target((etcd.url,), "/foreign"), opaque=True).keys == 1  # upstream's may read them


def test_all_is_well_over_tls(secure: str, files: Path) -> None:
    urls = (f"https://127.0.0.1:{secure}", f"https://localhost:{secure}")
    assert preflight.look(Target(urls, "/x", *(str(files / name) for name in ("ca.crt", "client.crt", "client.key")))).version


@pytest.mark.parametrize(("url", "ca", "certificate", "key", "words"), [
    ("https://127.0.0.1", "", "", "", "--etcd-cafile .caFile. is missing: this machine does not know who signed"),
    ("https://127.0.0.1", "ca.crt", "", "", "--etcd-certfile .certFile., --etcd-keyfile .keyFile. are missing"),
    ("https://127.0.0.1", "other.crt", "client.crt", "client.key", "--etcd-cafile .caFile.: the certificate of .* is not signed by"),
    ("https://127.0.0.1", "none.crt", "", "", "--etcd-cafile .caFile.: cannot read .*none.crt: No such file"),
    ("https://127.0.0.1", "ca.key", "", "", "--etcd-cafile .caFile.: .*ca.key holds no certificate"),
    ("https://127.0.0.1", "ca.crt", "client.crt", "server.key", "--etcd-keyfile .keyFile.: .*server.key is not the key of"),
    ("https://127.0.0.1", "ca.crt", "client.key", "client.key", "are no certificate and key in PEM"),
    ("https://127.0.0.1", "ca.crt", "stranger.crt", "stranger.key", "--etcd-certfile .certFile.: .* does not accept .*stranger.crt"),
    ("https://127.0.0.2", "ca.crt", "client.crt", "client.key", "--etcd-servers .endpoints.: .*its certificate is for another name"),
    ("http://127.0.0.1", "", "", "", "--etcd-servers .endpoints.: .*wants https|etcd wants https"),
])
def test_what_is_wrong_is_named(secure: str, files: Path, url: str, ca: str, certificate: str, key: str, words: str) -> None:
    named = [str(files / name) if name else "" for name in (ca, certificate, key)]
    with pytest.raises(UsageError, match=words):
        preflight.look(Target((f"{url}:{secure}",), "/x", *named))


def test_tls_where_none_is_spoken(etcd: Server, files: Path) -> None:
    with pytest.raises(UsageError, match="TLS is not spoken there") as caught:
        preflight.look(Target((etcd.url.replace("http:", "https:"),), "/x", str(files / "ca.crt")))
    assert caught.value.hint == f"is it {etcd.url}?"


@pytest.mark.parametrize("says", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"220 mail\r\n", b""])
def test_another_server_is_no_etcd(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(says)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UsageError, match=r"--etcd-servers .endpoints.: .*what answers there is no etcd"):
            preflight.look(Target((f"http://127.0.0.1:{listener.getsockname()[1]}",), "/x"))
        thread.join()


def test_what_an_earlier_cluster_left_fits_the_new_keys(etcd: Server) -> None:
    old = base64.b64encode(b"old").decode()
    put = {"configmaps/a/kube-root-ca.crt": object_of("ConfigMap", "kube-root-ca.crt", data={"ca.crt": "old"}),
           "configmaps/b/kube-root-ca.crt": object_of("ConfigMap", "kube-root-ca.crt", data={"ca.crt": "new"}),
           "configmaps/a/mine": object_of("ConfigMap", "mine", data={"ca.crt": "old"}),
           "secrets/a/token": object_of("Secret", "token", type="kubernetes.io/service-account-token",
                                        data={"token": "e30=", "ca.crt": old, "namespace": "YQ==", "mine": "eA=="}),
           "secrets/a/other": object_of("Secret", "other", type="Opaque", data={"token": "e30=", "ca.crt": old})}
    for key, value in put.items():
        etcd.ctl("put", f"/adopt/{key}", stdin=value)
    assert asyncio.run(adopt.etcd(Target((etcd.url,), "/adopt"), "new")) == 2

    def data(key: str) -> dict:
        return json.loads(etcd.ctl("get", f"/adopt/{key}", "--print-value-only"))["data"]

    assert data("configmaps/a/kube-root-ca.crt") == data("configmaps/b/kube-root-ca.crt") == {"ca.crt": "new"}
    assert data("configmaps/a/mine") == {"ca.crt": "old"}
    assert data("secrets/a/token") == {"namespace": "YQ==", "mine": "eA=="}  # the token controller fills in the rest
    assert data("secrets/a/other") == {"token": "e30=", "ca.crt": old}
    assert asyncio.run(adopt.etcd(Target((etcd.url,), "/adopt"), "new")) == 0


def test_a_snapshot_becomes_a_store_that_fits(etcd: Server, tmp_path: Path) -> None:
    etcd.ctl("del", "", "--from-key")
    with pytest.raises(UsageError, match=r"/etc/hostname: "):
        asyncio.run(adopt.snapshot(Path("/etc/hostname"), tmp_path / "no.db", "new"))

    def saved(name: str) -> Path:
        etcd.ctl("snapshot", "save", str(tmp_path / name))
        return tmp_path / name

    with pytest.raises(UsageError, match="nothing in it is under /registry"):
        asyncio.run(adopt.snapshot(saved("empty"), tmp_path / "empty.db", "new"))
    etcd.ctl("put", "/registry/configmaps/a/kube-root-ca.crt",
             stdin=object_of("ConfigMap", "kube-root-ca.crt", data={"ca.crt": "old"}))
    etcd.ctl("put", "/registry/minions/w1", object_of("Node", "w1", spec={"podCIDRs": ["10.244.1.0/24"]}))
    etcd.ctl("put", "/registry/services/specs/default/kubernetes",
             object_of("Service", "kubernetes", spec={"clusterIPs": ["10.96.0.1"]}))
    found = asyncio.run(adopt.snapshot(saved("full"), tmp_path / "full.db", "new"))
    assert (found.keys, found.nodes, found.service_ips) == (3, {"w1": ("10.244.1.0/24",)}, ("10.96.0.1",))

    async def kept() -> bytes:
        async with await Store.open(tmp_path / "full.db") as store:
            kv = await store.get(b"/registry/configmaps/a/kube-root-ca.crt")
            assert kv is not None
            return kv.value

    assert json.loads(asyncio.run(kept()))["data"] == {"ca.crt": "new"}
    etcd.ctl("put", "/registry/pods/a/b", stdin="k8s\0binary")
    with pytest.raises(UsageError, match="/registry/pods/a/b was written by upstream's kube-apiserver"):
        asyncio.run(adopt.snapshot(saved("foreign"), tmp_path / "foreign.db", "new"))
    etcd.ctl("del", "", "--from-key")


def test_objects_that_are_there_are_applied_again(server: ApiServer, ns: str, tmp_path: Path) -> None:
    """A Service's own address is taken before its name is found to be; a Pod's containers are merged by name."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": ns},
               "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 53}]}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": ns},
           "spec": {"containers": [{"name": "c", "image": "busybox"}]}}

    async def body() -> None:
        async with OurClient(config.load(str(server.kubeconfig(tmp_path / "kubeconfig"))), "test") as client:
            for _ in range(2):
                for obj in (service, pod):
                    await client.apply(obj)
            with pytest.raises(ApiError, match="already allocated"):
                await client.apply({**service, "metadata": {"name": "thief", "namespace": ns}})
            again = await client.apply({**pod, "metadata": {**pod["metadata"], "labels": {"app": "x"}}})
            assert again["metadata"]["labels"] == {"app": "x"}

    asyncio.run(body())
