"""A lab whose objects outlive it: in an etcd that is not its own, or in a snapshot; on paper, and in labs."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import asdict, replace

import pytest

from netlab.apiserver import options
from netlab.apiserver.preflight import Found
from netlab.errors import ManifestError, UsageError
from netlab.flags import parse
from netlab.lab import boot, endpoints, etcd, outer, plan, scenario, state
from netlab.lab.external import External, Way
from netlab.lab.usage import processes
from netlab.store.etcdctl.main import _access
from tests.lab.labs import eventually
from tests.store import servers

PLAIN = External(("http://127.0.0.1:2379",))
TLS = External(("https://etcd.example:2379", "https://10.9.9.9"), "/pki/ca.crt", "/pki/c.crt", "/pki/c.key", "/other")


def test_a_scenario_says_it_in_kubeadms_words(tmp_path):
    text = """store: {kind: external, endpoints: ["https://127.0.0.1:2379"], caFile: pki/ca.crt, certFile: /a/c.crt,
                      keyFile: ~/c.key, prefix: /x}"""
    found = scenario.parse(text, tmp_path / "scenario.yaml")
    assert (found.store, found.external) == ("external", External(
        ("https://127.0.0.1:2379",), str(tmp_path / "pki/ca.crt"), "/a/c.crt", os.path.expanduser("~/c.key"), "/x"))


@pytest.mark.parametrize(("text", "words"), [
    ("store: external", r":1: store: endpoints: none is named; http://127.0.0.1:2379 is where"),
    ("store:\n  kind: external\n  endpoints: [a:1]", r":3: store.endpoints: \"a:1\": want http://HOST:PORT"),
    ("store:\n  kind: external\n  endpoints: http://a:1", r":3: store.endpoints: expected a list"),
    ("store:\n  kind: external\n  endpoints: ['http://a:1']\n  caFile: x", r"http://a:1: with files for TLS it has to be https"),
    ("store:\n  kind: external\n  endpoints: ['https://a:1']\n  certFile: x", r"store: keyFile: is missing: a certificate and"),
    ("store:\n  kind: external\n  endpoints: ['https://a:1']\n  certFile: x\n  keyFile: y", r"store: caFile: is missing"),
    ("store:\n  kind: external\n  endpoints: ['http://a:1']\n  prefix: registry", r":4: store.prefix: \"registry\": want a path"),
    ("store:\n  kind: external\n  endpoints: ['http://0.0.0.0:7']", r"it is reached at http://127.0.0.1:7"),
    ("store:\n  kind: external\n  endpoints: ['http://[fe80::1]:7']", r"leads nowhere"),
    ("store:\n  kind: etcd\n  prefix: /x", r":3: store.prefix: only the store external has prefix"),
    ("store:\n  kind: external\n  endpoints: ['http://a:1']\n  members: 3", r":4: store.members: .*only etcd has more than one")])
def test_mistakes_are_told_by_line(tmp_path, text, words):
    with pytest.raises(ManifestError, match=words):
        scenario.parse(text, tmp_path / "scenario.yaml")


def test_flags_say_the_same_and_overrule(tmp_path):
    none = {"ca": "", "certificate": "", "key": "", "prefix": ""}
    bare = scenario.Scenario("x")
    assert bare.with_external("", **none) == bare
    asked = bare.with_external("http://127.0.0.1:1, http://127.0.0.1:2", **none)
    assert (asked.store, asked.external) == ("external", External(("http://127.0.0.1:1", "http://127.0.0.1:2")))
    written = replace(bare, store="external", external=TLS)
    assert written.with_external("", **none) == written
    assert written.with_external("", **{**none, "prefix": "/y"}).external == replace(TLS, prefix="/y")
    assert written.with_external(PLAIN.endpoints[0], **none).external == PLAIN  # other servers come without those files
    assert written.with_store("embedded", None).external is None
    with pytest.raises(UsageError, match="--etcd-servers is missing"):
        bare.with_external("", **{**none, "prefix": "/y"})
    with pytest.raises(UsageError, match=r"--etcd-servers \(endpoints\): none is named"):
        bare.with_store("external", None).with_external("", **none)


def made(external, **more):
    return plan.make("one", workers=2, store="external", external=external, **more)


def test_loopback_addresses_begin_on_the_node_others_at_the_router():
    found = outer.ways(made(PLAIN), External(("http://127.0.0.1:2379", "http://localhost:2379", "https://10.9.9.9",
                                              "http://192.0.2.77:1", "http://[::1]:5")))
    assert found == (Way("127.0.0.1", 2379, "127.0.0.1"), Way("10.9.9.9", 2379, "10.9.9.9"), Way("192.0.2.77", 1, "192.0.2.77"),
                     Way("::1", 5, "::1"))
    assert [way.loopback for way in found] == [True, False, False, True]
    assert not any(way.named for way in found)
    assert Way("etcd.example", 1, "10.9.9.9").named


@pytest.mark.parametrize(("url", "words"), [
    ("http://10.96.3.3:1", "10.96.3.3 lies in the Services' range, 10.96.0.0/16"), ("http://10.244.1.1:1", "in the Pods' range"),
    ("http://172.18.0.3:1", "inside the lab that is node worker1"), ("http://172.18.0.1:1", "the nodes' router"),
    ("http://worker2:1", "inside the lab that is node worker2|knows no host worker2"), ("http://192.0.2.10:1", "the host `outside`"),
    ("http://[fd00:9::1]:1", "fd00:9::1 is IPv6, which this lab does not speak"),
    ("http://127.0.0.1:10248", "port 10248 of a node's loopback is the kubelet's"),
    ("http://nobody.invalid:1", "this machine knows no host nobody.invalid")])
def test_addresses_that_lead_elsewhere_in_a_lab_are_refused(url, words):
    with pytest.raises(UsageError, match=rf"--etcd-servers \(endpoints\): {re.escape(url)}: .*({words})"):
        outer.ways(made(PLAIN), External((url,)))


def test_the_api_server_and_etcdctl_are_told_of_it():
    lab = made(TLS)
    assert etcd.static_pods(lab, lab.nodes[0]) == {}
    found = parse("kube-apiserver", etcd.api_server_flags(lab, lab.nodes[0]), options.FLAGS)
    assert (found["etcd-servers"], found["etcd-prefix"]) == (list(TLS.endpoints), "/other")
    inside = dict(etcd.inside(TLS))
    assert inside == {found["etcd-cafile"]: TLS.ca, found["etcd-certfile"]: TLS.certificate, found["etcd-keyfile"]: TLS.key}
    access = _access({}, etcd.etcdctl(lab))
    assert (access.endpoints, access.cacert, access.cert, access.key) == (TLS.endpoints, *inside)
    plain = _access({}, etcd.etcdctl(made(PLAIN)))
    assert (plain.endpoints, plain.cacert, plain.cert) == (PLAIN.endpoints, "", "")


def test_plans_and_records_survive_json(tmp_path, monkeypatch):
    lab = replace(made(TLS), ways=(Way("etcd.example", 2379, "10.9.9.9"),))
    assert plan.from_json(json.loads(json.dumps(asdict(lab)))) == lab
    monkeypatch.setenv("NETLAB_RUN_DIR", str(tmp_path))
    record = state.LabRecord("one", "0", "x", rootless=False, created=1.0, external=TLS, etcd_cluster="abc")
    record.run_dir.mkdir()
    state.save(record)
    assert state.load("one") == record


def test_a_lab_that_runs_keeps_its_keys_to_itself():
    living = state.process(os.getpid())
    records = [state.LabRecord("a", "0", "", rootless=False, created=1.0, holder=living, external=PLAIN, etcd_cluster="abc"),
               state.LabRecord("dead", "0", "", rootless=False, created=1.0, external=TLS, etcd_cluster="abc")]
    assert outer.tenant(records, "b", "abc", PLAIN) == "a"
    assert outer.tenant(records, "a", "abc", PLAIN) == ""  # its own
    assert outer.tenant(records, "b", "abc", replace(PLAIN, prefix="/b")) == ""
    assert outer.tenant(records, "b", "def", PLAIN) == ""
    assert outer.tenant(records, "b", "abc", TLS) == ""


def test_what_is_there_has_to_go_with_the_labs_networks():
    lab = made(PLAIN)
    outer.unfit(lab, Found("c", "3", 9, {"worker9": ("10.244.9.0/24",)}, ("10.96.0.1",)), "they are")
    with pytest.raises(UsageError, match=r"they are of a cluster whose node n has Pods in 10.9.0.0/24") as caught:
        outer.unfit(lab, Found("c", "3", 9, {"n": ("10.9.0.0/24",)}, ()), "they are", ", or another prefix")
    assert caught.value.hint == "give this lab that network in a scenario file, or another prefix"
    with pytest.raises(UsageError, match=r"whose API server is 10.97.0.1, which is not of this lab's serviceSubnet"):
        outer.unfit(lab, Found("c", "3", 9, {}, ("10.97.0.1",)), "they are")


def test_what_a_user_should_know():
    lab = made(PLAIN)
    assert outer.remarks(lab, PLAIN, Found("c", "3", 0, {}, ())) == []
    assert "--etcd-prefix=/registry goes on with that one" in outer.remarks(lab, TLS, Found("c", "3", 0, {}, (), "/registry"))[0]
    words = outer.remarks(lab, PLAIN, Found("c", "3", 7, {"worker1": (), "worker7": ()}, (), "", ("http://x: refused",)))
    assert words[0] == "etcd at http://x: refused"
    assert words[1].startswith("7 keys were under /registry")
    assert words[2].endswith("netlab kubectl delete node worker7")
    said = outer.epilogue(TLS)
    assert "netlab up --etcd-servers=https://etcd.example:2379,https://10.9.9.9 --etcd-cafile=/pki/ca.crt" in said
    assert "--cacert=/pki/ca.crt --cert=/pki/c.crt --key=/pki/c.key del /other/ --prefix" in said


class Listed:
    """What an informer holds."""

    def __init__(self, *objects):
        self.objects = {obj["metadata"]["name"]: obj for obj in objects}

    def all(self):
        return list(self.objects.values())

    def get(self, name):
        return self.objects.get(name)


def node(name, stamp):
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": stamp}]}}


def pod(name, where, stamp):
    return {"metadata": {"name": name}, "spec": {"nodeName": where}, "status": {
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"state": {"running": {"startedAt": stamp}}}]}}


def test_what_an_earlier_lab_said_of_itself_does_not_count():
    old, new, since = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 1767312000.0  # new is that very second
    cluster = boot._Cluster(made(PLAIN), {
        "nodes": Listed(node("worker1", old), node("worker2", new), node("worker7", new)),
        "pods": Listed(pod("a", "worker1", old), pod("b", "worker2", new), pod("c", "worker7", old))}, since)
    assert [one["metadata"]["name"] for one in cluster.nodes()] == ["worker2"]
    assert cluster.strangers() == {"worker7"}
    assert [(one["metadata"]["name"], cluster.fine(one)) for one in cluster.pods()] == [("a", False), ("b", True)]
    fresh = replace(cluster, since=0.0)
    assert [one["metadata"]["name"] for one in fresh.nodes()] == ["worker1", "worker2"]


def test_a_snapshot_begins_only_netlabs_own_store(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for store in ("embedded", "netlab-etcd"):
        outer.check_snapshot(plan.make("one", workers=0, store=store), str(tmp_path / "file"))
        with pytest.raises(UsageError, match=r"--store-snapshot: cannot read .*none: No such file"):
            outer.check_snapshot(plan.make("one", workers=0, store=store), str(tmp_path / "none"))
    for lab in (made(PLAIN), plan.make("one", workers=0, store="etcd")):
        outer.check_snapshot(lab, "")
        with pytest.raises(UsageError, match="netlab's own store with a file, not") as caught:
            outer.check_snapshot(lab, str(tmp_path / "file"))
        assert "snapshot restore" in caught.value.hint


@pytest.mark.lab
@pytest.mark.root
@pytest.mark.timeout(400)
@pytest.mark.parametrize("store", ["embedded", pytest.param("netlab-etcd", marks=pytest.mark.soak)])
def test_a_lab_goes_on_from_a_snapshot(netlab, tmp_path, store):
    """As kubeadm's disaster recovery: new machines and keys, the old objects; the Pods run and trust the API server."""
    name, file = f"snap-{store}", tmp_path / "snapshot.db"
    kubectl, shell = ("--name", name), ("exec", "--name", name, "node/control-plane", "--")
    up = ("up", "services", "--name", name, "--nodes", "2", "--store", store, "--no-kubeconfig")
    token = json.dumps({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                        "metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": "default"}}})

    def secret():
        form = "go-template={{index .data \"ca.crt\" | base64decode}}|{{.data.token | base64decode}}"
        text = netlab("kubectl", *kubectl, "get", "secret", "t", "-o", form, check=False).stdout
        return [part.strip() for part in text.split("|")] if "|" in text else ["", ""]

    try:
        netlab(*up)
        netlab("kubectl", *kubectl, "apply", "-f", "-", input=token)
        netlab.kubectl(*kubectl, "create", "configmap", "kept")
        addresses = netlab.kubectl(*kubectl, "get", "services", "-A", "-o", "jsonpath={.items[*].spec.clusterIP}")
        eventually(lambda: all(secret()), "a token")
        before = secret()
        netlab(*shell, "etcdctl", "snapshot", "save", "/root/snapshot.db")
        state_dir = netlab.home / "state" / name / "nodes/control-plane"
        file.write_bytes((state_dir / "root/snapshot.db").read_bytes())
        netlab("down", *kubectl)
        done = netlab(*up, "--store-snapshot", str(file))
        assert re.search(rf"note: \d+ keys were in {file}: this lab goes on with them", done.stderr)
        assert netlab.kubectl(*kubectl, "get", "services", "-A", "-o", "jsonpath={.items[*].spec.clusterIP}") == addresses
        netlab.kubectl(*kubectl, "get", "configmap", "kept")
        assert netlab.kubectl(*kubectl, "exec", "client", "--", "wget", "-qO-", "web/hostname").startswith("web-")
        pods = json.loads(netlab.kubectl(*kubectl, "get", "pods", "-A", "-o", "json"))["items"]
        assert {row["ready"] for one in pods for row in one["status"]["containerStatuses"]} == {True}
        eventually(lambda: secret() not in (["", ""], before), "the token of the new key")
        assert secret()[0] == netlab.kubectl(*kubectl, "get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}").strip()
    finally:
        netlab("down", *kubectl, check=False)


@pytest.mark.lab
@pytest.mark.root
@pytest.mark.timeout(400)
@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["netlab-etcd", "etcd"])
def test_a_lab_lives_on_an_etcd_of_the_hosts_loopback(netlab, tmp_path, real):
    """Also through the etcd's end, a relay's, a node's and its own; in the end the objects are there, and nothing else."""
    if real and servers.REAL is None:
        pytest.skip("etcd is not installed")
    name, server = f"outer-{'etcd' if real else 'own'}", servers.start(tmp_path, real=real)
    store = ("--etcd-servers", server.url, "--etcd-prefix", "/outer")
    shell = ("exec", "--name", name, "node/control-plane", "--")
    try:
        done = netlab("up", "services", "--name", name, "--nodes", "3", "--no-kubeconfig", *store)
        assert "keys were under" not in done.stderr
        assert "/outer/pods/default/client" in netlab(*shell, "etcdctl", "get", "/outer/pods", "--prefix", "--keys-only").stdout
        assert netlab(*shell, "etcdctl", "endpoint", "status").stdout.startswith(server.url)
        done = netlab("up", "--name", "another", "--no-kubeconfig", *store, check=False)
        assert f'the lab "{name}" keeps its objects under /outer of that etcd' in done.stderr

        kubectl = ("--name", name)
        server.kill()
        failed = netlab("kubectl", *kubectl, "create", "configmap", "lost", "--request-timeout=8s", check=False)
        assert failed.returncode == 1
        server = servers.start(tmp_path, real=real, port=int(server.url.rpartition(":")[2]))
        eventually(lambda: netlab("kubectl", *kubectl, "create", "configmap", "kept", check=False).returncode == 0, "writes again")

        record = state.Process(**netlab.record(name)["relay"])
        worker = next(one.pid for one in processes(state.LabRecord(name, "", "", False, 0.0, relay=record)) if one.pid != record.pid)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: netlab("kubectl", *kubectl, "create", "configmap", "relayed", check=False).returncode == 0, "writes again")
        boots = json.loads(netlab("status", *kubectl, "-o", "json").stdout)["nodes"][0]["boots"]
        (shim,) = [one.pid for one in processes(state.LabRecord(name, "", "", False, 0.0, holder=state.Process(
            **netlab.record(name)["holder"]))) if one.name == "netlab-shim" and _node_of(one.pid) == f"{name}/control-plane"]
        os.kill(shim, signal.SIGKILL)
        eventually(lambda: json.loads(netlab("status", *kubectl, "-o", "json", check=False).stdout)["nodes"][0]["boots"] > boots,
                   "the node boots again", 60)
        eventually(lambda: netlab("kubectl", *kubectl, "create", "configmap", "booted", check=False).returncode == 0, "writes again", 60)

        _settle_on_worker1(netlab, kubectl)  # worker2 will not be there again
        said = netlab("down", *kubectl).stdout
        assert f"its objects are still under /outer in the etcd at {server.url}" in said
        assert netlab.leftovers(name) == []
        done = netlab("up", "services", "--name", name, "--nodes", "2", "--no-kubeconfig", *store)
        assert "keys were under /outer of the etcd already" in done.stderr
        assert "nodes worker2; if they are gone for good" in done.stderr
        assert {"kept", "relayed", "booted"} <= set(netlab.kubectl(*kubectl, "get", "configmaps", "-o", "name").replace(
            "configmap/", "").split())
        pods = json.loads(netlab.kubectl(*kubectl, "get", "pods", "-A", "-o", "json"))["items"]
        here = [one for one in pods if one["spec"]["nodeName"] in ("control-plane", "worker1")]
        assert {row["ready"] for one in here for row in one["status"]["containerStatuses"]} == {True}
        netlab.kubectl(*kubectl, "exec", "asker", "--", "nslookup", "web.default.svc.cluster.local.")  # kube-dns trusts the new API server
        netlab("down", *kubectl)
        command = next(line for line in said.splitlines() if "to remove them:" in line).split("etcdctl ")[1]
        assert re.fullmatch(r"\d+\n", server.own(*command.split()))
        assert server.own("get", "/outer", "--prefix", "--count-only", "-w", "json").count('"count"') == 0
    finally:
        netlab("down", "--name", name, check=False)
        server.kill()


def _settle_on_worker1(netlab, kubectl):
    """Have DNS and a Pod that asks it where the scheduler might not have put them."""
    netlab.kubectl(*kubectl, "cordon", "worker2")
    netlab.kubectl(*kubectl, "-n", "kube-system", "rollout", "restart", "deployment/coredns")
    netlab.kubectl(*kubectl, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=90s")
    spec = json.loads(netlab.kubectl(*kubectl, "get", "pod", "client", "-o", "json"))["spec"]
    kept = [{part: one[part] for part in ("name", "image", "command", "args") if part in one} for one in spec["containers"]]
    asker = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asker"}, "spec": {"nodeName": "worker1", "containers": kept}}
    netlab.kubectl(*kubectl, "create", "-f", "-", input=json.dumps(asker))
    netlab.kubectl(*kubectl, "wait", "--for=condition=Ready", "pod/asker", "--timeout=90s")


def _node_of(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read().split("\0")[0].rpartition(" ")[2]


def test_what_goes_into_hosts_is_a_name():
    assert endpoints.ways(External(("http://localhost:1",)), families=(4,), ranges=(), own=()) == (Way("localhost", 1, "127.0.0.1"),)
