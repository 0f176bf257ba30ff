"""etcdctl at the store inside the API server: over TLS, and what it changes is seen by the API's watchers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netlab.store import snapshot
from tests.apiserver.conftest import ROOT, Client, Pki, Server, config_map
from tests.store.servers import REAL, free_port, running, start


class Ctl:
    """etcdctl by the wrapper of a node's shell: the real one where it is installed."""

    def __init__(self, pki: Pki, url: str, *, real: bool) -> None:
        self.url = url
        self.env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"] if real else "/nowhere", "ETCDCTL_ENDPOINTS": url,
                    "ETCDCTL_CACERT": pki.path("ca.crt"), "ETCDCTL_CERT": pki.path("admin.crt"),
                    "ETCDCTL_KEY": pki.path("admin.key"), "HOME": "/"}

    def __call__(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run([sys.executable, "-P", "-m", "netlab.store.etcdctl.main", *words], env=self.env, input=stdin,
                              capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def url() -> str:
    return f"https://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def server(pki: Pki, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(pki, tmp_path_factory.mktemp("apiserver"), f"--store-listen-client-urls={url}",
                     f"--store-cert-file={pki.path('apiserver.crt')}", f"--store-key-file={pki.path('apiserver.key')}",
                     f"--store-trusted-ca-file={pki.path('ca.crt')}")
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(params=["real", "own"])
def ctl(request: pytest.FixtureRequest, pki: Pki, url: str, server: Server) -> Callable[..., str]:
    if request.param == "real" and shutil.which("etcdctl") is None:
        pytest.skip("etcdctl is not installed")
    return Ctl(pki, url, real=request.param == "real")


def test_objects_lie_under_registry_as_upstream_has_them(ctl: Callable[..., str], client: Client, ns: str):
    client.post(f"/api/v1/namespaces/{ns}/configmaps", config_map("a", x="1"))
    assert f"/registry/configmaps/{ns}/a" in ctl("get", "/registry", "--prefix", "--keys-only").split()
    assert {"/registry/configmaps", "/registry/namespaces", "/registry/priorityclasses"} <= set(ctl("ls", "/registry").split())
    assert ctl("ls", f"/registry/configmaps/{ns}").split() == [f"/registry/configmaps/{ns}/a"]
    stored = json.loads(ctl("get", f"/registry/configmaps/{ns}/a", "--print-value-only"))
    assert stored["data"] == {"x": "1"}
    assert "true" in ctl("endpoint", "status")


def test_a_snapshot_has_all_that_the_api_server_keeps(ctl: Callable[..., str], client: Client, ns: str, tmp_path: Path):
    client.post(f"/api/v1/namespaces/{ns}/configmaps", config_map("a", x="1"))
    assert "Snapshot saved" in ctl("snapshot", "save", str(tmp_path / "snap"))
    revision = snapshot.restore(tmp_path / "snap", tmp_path / "new" / "store.db")
    with running(tmp_path, real=False, flags=(f"--data-dir={tmp_path}/new",)) as etcd:
        stored = json.loads(etcd.own("get", f"/registry/configmaps/{ns}/a", "--print-value-only"))
        assert stored["data"] == {"x": "1"}
        assert json.loads(etcd.own("endpoint", "status", "-w", "json"))[0]["Status"]["raftIndex"] == revision


def test_a_change_made_by_etcdctl_is_seen_by_watchers(ctl: Callable[..., str], client: Client, ns: str):
    path, key = f"/api/v1/namespaces/{ns}/configmaps", f"/registry/configmaps/{ns}/a"
    made = client.post(path, config_map("a", x="1")).json
    with client.watch(f"{path}?watch=1&resourceVersion={made['metadata']['resourceVersion']}&timeoutSeconds=20") as watching:
        stored = json.loads(ctl("get", key, "--print-value-only"))
        stored["data"]["x"] = "2"
        ctl("put", key, json.dumps(stored, indent=2))
        ctl("put", key.replace("/a", "/b"), stdin=json.dumps({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": ns}, "data": {"y": "1"}}))
        ctl("del", key)
        events = watching.take(3)
    assert [(event["type"], event["object"]["metadata"]["name"], event["object"].get("data")) for event in events] == [
        ("MODIFIED", "a", {"x": "2"}), ("ADDED", "b", {"y": "1"}), ("DELETED", "a", {"x": "2"})]
    assert client.get(f"{path}/a").status == 404
    assert client.get(f"{path}/b").json["data"] == {"y": "1"}


def test_what_is_no_object_is_said_and_can_be_removed(ctl: Callable[..., str], client: Client, ns: str):
    path, folder = f"/api/v1/namespaces/{ns}/configmaps", f"/registry/configmaps/{ns}"
    revision = client.get(path).json["metadata"]["resourceVersion"]
    with client.watch(f"{path}?watch=1&resourceVersion={revision}&timeoutSeconds=20") as watching:
        client.post(path, config_map("good"))
        for name, text in (("bad", "not json"), ("list", "[1]"), ("null", '{"metadata":null}')):
            ctl("put", f"{folder}/{name}", text)
        events = list(watching)
    assert [event["type"] for event in events] == ["ADDED", "ERROR"]
    for name in ("", "/bad", "/list", "/null", "?labelSelector=a"):
        answer = client.get(path + name)
        assert answer.status == 500
        assert "unable to decode" in answer.json["message"]
    assert client.get(f"{path}/good").status == 200
    for name in ("bad", "list", "null"):
        ctl("del", f"{folder}/{name}")
    assert client.get(path).status == 200


def test_who_shows_no_certificate_is_turned_away(pki: Pki, server: Server, url: str):
    context = ssl.create_default_context(cafile=pki.path("ca.crt"))
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/v2/keys", context=context, timeout=5).read()
    context.load_cert_chain(pki.path("admin.crt"), pki.path("admin.key"))
    assert json.load(urllib.request.urlopen(f"{url}/health", context=context, timeout=5)) == {"health": "true", "reason": ""}


@pytest.mark.parametrize("real", [False, True], ids=["netlab-etcd", "etcd"])
def test_objects_kept_in_an_etcd(pki: Pki, tmp_path: Path, *, real: bool):
    """The API server on an etcd: what it writes is there, what others write is seen, and another server sees both."""
    if real and REAL is None:
        pytest.skip("etcd is not installed")
    with running(tmp_path / "etcd", real=real) as etcd:
        one, two = (Server(pki, tmp_path / name, "--data-dir=", f"--etcd-servers={etcd.url}", "--etcd-prefix=/other")
                    for name in ("one", "two"))
        try:
            client, second = one.client(), two.client()
            path = "/api/v1/namespaces/default/configmaps"
            made = client.post(path, config_map("a", x="1"))
            assert made.status == 201
            assert second.get(f"{path}/a").json == client.get(f"{path}/a").json == made.json  # at once, everywhere
            assert client.post(path, config_map("a")).status == 409
            with second.watch(f"{path}?watch=1&resourceVersion={made.json['metadata']['resourceVersion']}&timeoutSeconds=20") as watching:
                changed = client.patch(f"{path}/a", {"data": {"x": "2"}}).json
                assert second.put(f"{path}/a", made.json).status == 409
                assert client.delete(f"{path}/a").status == 200
                assert [(event["type"], event["object"]["data"]) for event in watching.take(2)] == [
                    ("MODIFIED", {"x": "2"}), ("DELETED", {"x": "2"})]
            assert int(changed["metadata"]["resourceVersion"]) > int(made.json["metadata"]["resourceVersion"])
            assert "/other/namespaces/default" in etcd.own("get", "/other", "--prefix", "--keys-only").split()
            assert one.stop() == 0
            one.start()
            assert one.client().get("/api/v1/namespaces/default").status == 200
            etcd.kill()
            assert client.again().get("/readyz").status == 500 or client.again().post(path, config_map("b")).status == 503
            again = start(etcd.directory, real=real, port=int(etcd.url.rpartition(":")[2]))
            try:
                assert retry(lambda: one.client().post(path, config_map("c")).status, 201)
                assert retry(lambda: two.client().get(f"{path}/c").status, 200)
            finally:
                again.kill()
        finally:
            for server in (one, two):
                server.stop(signal.SIGKILL)
                assert "Traceback" not in server.log.read_text()


def retry(call: Callable[[], int], wanted: int) -> bool:
    until = time.monotonic() + 30
    while call() != wanted:
        assert time.monotonic() < until
        time.sleep(0.1)
    return True
