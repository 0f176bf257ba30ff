"""Where a lab keeps its objects: on paper, and in labs that run on an etcd."""

from __future__ import annotations

import shutil

import pytest

from netlab.errors import ManifestError, UsageError
from netlab.flags import parse
from netlab.lab import etcd, manifests, plan, scenario
from netlab.store.main import FLAGS


@pytest.mark.parametrize(("text", "expected"), [
    ("store: etcd", ("etcd", 1)), ("store: embedded", ("embedded", 1)), ("store: {kind: etcd, members: 3}", ("etcd", 3)),
    ("store: {kind: netlab-etcd}", ("netlab-etcd", 1)), ("{}", ("embedded", 1))])
def test_a_scenario_says_which_store(tmp_path, text, expected):
    found = scenario.parse(text, tmp_path / "scenario.yaml")
    assert (found.store, found.store_members) == expected


@pytest.mark.parametrize(("text", "words"), [
    ("store: postgres", "expected one of embedded, etcd, netlab-etcd"), ("store: {kind: etcd, members: 2}", "choose 1, 3 or 5"),
    ("store: {kind: netlab-etcd, members: 3}", "only etcd has more"), ("store: {members: 3}", "kind")])
def test_mistakes_are_told_by_line(tmp_path, text, words):
    with pytest.raises(ManifestError, match=words):
        scenario.parse(text, tmp_path / "scenario.yaml")


def test_flags_overrule_the_scenario():
    asked = scenario.Scenario("x", store="etcd", store_members=3)
    assert asked.with_store(None, None) == asked
    assert asked.with_store("netlab-etcd", None).store_members == 1
    assert asked.with_store(None, 5).store_members == 5
    with pytest.raises(UsageError):
        asked.with_store("embedded", 3)


def test_static_pods_of_an_etcd_look_as_kubeadms():
    lab = plan.make("one", workers=1, store="etcd", store_members=3)
    node = lab.nodes[0]
    pods = manifests.static_pods(lab, node)
    assert [name for name in pods if name.startswith("etcd")] == ["etcd.yaml", "etcd-2.yaml", "etcd-3.yaml"]
    ports: set[str] = set()
    for name in ("etcd.yaml", "etcd-2.yaml", "etcd-3.yaml"):
        (container,) = pods[name]["spec"]["containers"]
        flags = dict(word.removeprefix("--").split("=", 1) for word in container["command"][1:])
        assert flags["initial-cluster"].count("https://") == 3
        assert f"{flags['name']}={flags['listen-peer-urls']}" in flags["initial-cluster"]
        ports |= {flags["listen-client-urls"], flags["listen-peer-urls"], flags["listen-metrics-urls"], flags["data-dir"]}
    assert len(ports) == 12
    server = parse("kube-apiserver", pods["kube-apiserver.yaml"]["spec"]["containers"][0]["command"][1:], _server_flags())
    assert server["etcd-servers"] == etcd.client_urls(lab) == [f"https://127.0.0.1:{port}" for port in (2379, 2389, 2399)]
    own = plan.make("one", workers=1, store="netlab-etcd")
    argv = manifests.static_pods(own, node)["etcd.yaml"]["spec"]["containers"][0]["command"][1:]
    assert parse("etcd", argv, FLAGS)["client-cert-auth"]  # our program takes them all
    assert "etcd.yaml" not in manifests.static_pods(plan.make("one", workers=1), node)


def _server_flags():
    from netlab.apiserver.options import FLAGS as SERVER

    return SERVER


@pytest.mark.soak
@pytest.mark.lab
@pytest.mark.root
@pytest.mark.parametrize(("store", "members"), [("netlab-etcd", "1"), ("etcd", "1"), ("etcd", "3")])
def test_a_lab_on_an_etcd(netlab, store, members):
    if store == "etcd" and shutil.which("etcd") is None:
        pytest.skip("etcd is not installed")
    name = f"store-{store}-{members}"
    netlab("up", "services", "--name", name, "--store", store, "--store-members", members,
           "--no-kubeconfig")
    try:
        pods = netlab.kubectl("--name", name, "get", "pods", "-n", "kube-system", "-l", "component=etcd", "-o", "name").split()
        assert len(pods) == int(members)
        shell = ("exec", "--name", name, "node/control-plane", "--")
        assert "/registry/pods/default/client" in netlab(*shell, "etcdctl", "get", "/registry/pods", "--prefix", "--keys-only").stdout
        assert netlab(*shell, "etcdctl", "member", "list").stdout.count("started") == int(members)
        if store != "etcd":
            assert "/registry/pods/default" in netlab(*shell, "etcdctl", "ls", "/registry/pods").stdout
        netlab("test", "services", "--name", name)
    finally:
        netlab("down", "--name", name)
