"""`netlab rules` on a lab that runs: what the kernels of its nodes hold."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture
def lab(services):
    return services[0]


def rules(netlab, lab: str, *words: str) -> dict:
    return json.loads(netlab("rules", *words, "--name", lab, "-o", "json").stdout)


def test_a_service_s_tree_has_names_shares_and_words(netlab, lab):
    found = rules(netlab, lab, "svc/web")
    assert [node["node"] for node in found["nodes"]] == ["control-plane", "worker1", "worker2"]
    for node in found["nodes"]:
        port = next(port for port in node["ports"] if port["protocol"] == "tcp")
        assert [each["sharePercent"] for each in port["endpoints"]] == [33.33, 33.33, 33.33]
        assert all(each["who"].startswith("pod/default/web-") for each in port["endpoints"])
        assert {rule["chain"] for rule in port["rules"]} == {"KUBE-SERVICES", "KUBE-NODEPORTS"}


def test_counters_tell_which_endpoints_were_taken(netlab, lab):
    def taken() -> int:
        (node,) = rules(netlab, lab, "svc/web", "--node", "worker1")["nodes"]
        return sum(each["connections"] for port in node["ports"] for each in port["endpoints"])

    client = json.loads(netlab.kubectl("get", "pod", "client", "-o", "json"))["spec"]["nodeName"]
    before = taken()
    for _ in range(5):
        netlab("trace", "pod/client", "svc/web", "--name", lab)
    assert taken() - before == (5 if client == "worker1" else 0)


def test_the_tree_as_text_and_yaml(netlab, lab):
    text = netlab("rules", "svc/web", "--node", "node/worker1", "--name", lab).stdout
    assert "default/web:http tcp, type NodePort, node/worker1" in text
    assert "33.3%: one in 3 by the dice: go to KUBE-SEP-" in text
    assert "worker2" not in text.partition("packets")[0].replace(" on worker2", "")
    assert yaml.safe_load(netlab("rules", "svc/web", "--name", lab, "-o", "yaml").stdout)["service"] == "default/web"


def test_the_overview_shows_nodes_services_and_foreign_rules(netlab, lab):
    found = rules(netlab, lab)
    assert [node["node"] for node in found["nodes"]] == ["control-plane", "worker1", "worker2"]
    assert {"default/kubernetes:https", "kube-system/kube-dns:dns", "default/web:http"} <= {
        row["name"] for row in found["services"]}
    assert all(not node["unreachedChains"] for node in found["nodes"])
    foreign = ["FORWARD", "-d", "198.51.100.9", "-j", "DROP"]
    netlab("exec", "--name", lab, "node/worker1", "--", "iptables", "-I", *foreign)
    try:
        text = netlab("rules", "--name", lab).stdout
        assert "node/worker1: filter FORWARD 1: to 198.51.100.9: drop" in text
    finally:
        netlab("exec", "--name", lab, "node/worker1", "--", "iptables", "-D", *foreign)


@pytest.mark.parametrize(("words", "said"), [
    (["svc/nothing"], "no node has rules for Service default/nothing, and there is no such Service"),
    (["svc/web", "--node", "worker9"], 'has no node "worker9"')])
def test_errors_say_what_there_is(netlab, lab, words, said: str):
    done = netlab("rules", *words, "--name", lab, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "hint: " in done.stderr


def test_ipv6_rules_are_there_too(netlab, lab):
    found = rules(netlab, lab, "--ipv6")
    assert all(node["chains"] >= 10 for node in found["nodes"])


def test_the_metrics_and_health_of_kube_proxy(netlab, lab):
    def asked(port: int, path: str) -> str:
        ask = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}{path}').read().decode(), end='')"
        return netlab("exec", "--name", lab, "node/worker1", "--", sys.executable, "-c", ask).stdout

    assert asked(10249, "/proxyMode") == "iptables"
    assert json.loads(asked(10256, "/healthz"))["healthy"] is True
    assert 'kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"}' in asked(10249, "/metrics")
