"""`netlab rules` on a lab whose kube-proxy runs in nftables mode."""

from __future__ import annotations

import json
import os

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture(scope="module")
def lab(netlab):
    name = f"nft{os.getpid() % 100000}"
    netlab("up", "services", "--name", name, "--proxy-mode", "nftables", "--no-kubeconfig", "-q")
    yield name
    netlab("down", "--name", name)


def asked(netlab, lab: str, *words: str, code: int = 0) -> dict:
    done = netlab("rules", *words, "--name", lab, "-o", "json", check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_service_from_tree_to_connections(netlab, lab):
    found = asked(netlab, lab, "svc/web")["nodes"]
    assert [(each["node"], each["backend"]) for each in found] == [(node, "nftables") for node in ("control-plane", "worker1", "worker2")]
    port = next(port for port in found[0]["ports"] if port["protocol"] == "tcp")
    assert [each["sharePercent"] for each in port["endpoints"]] == [33.33, 33.33, 33.33]
    assert all(each["who"].startswith("pod/default/web-") for each in port["endpoints"])
    for _ in range(3):
        netlab("trace", "pod/client", "svc/web", "--name", lab)
    talks = asked(netlab, lab, "svc/web", "--connections")["connections"]
    assert {each["client_name"].partition(" ")[0] for each in talks} == {"pod/default/client"}
    assert {each["endpoint"] for each in talks} <= {each["address"] for each in port["endpoints"]}
    assert "now" in netlab("rules", "svc/web", "--name", lab).stdout


def test_everything_is_explained_and_nothing_is_wrong(netlab, lab):
    rows = asked(netlab, lab, "--table", "kube-proxy", "--node", "worker1")["rules"]
    assert {row["chain"] for row in rows} > {"services", "@service-ips", "@cluster-ips", "masquerading"}
    (origin,) = asked(netlab, lab, "why", "@service-ips:1", "--node", "worker1")["found"]
    assert origin["maker"] == "kube-proxy"
    assert origin["sources"][0]["resourceVersion"]
    assert origin["sources"][0]["since"]
    assert asked(netlab, lab, "check")["findings"] == []
    assert asked(netlab, lab, "diff", "node/worker1", "api")["differences"][0]["services"] == []
    (other,) = asked(netlab, lab, "diff", "node/worker1", "iptables")["differences"]
    assert [part["service"] for part in other["services"]] == [""]  # nothing but where node ports are served


def test_what_a_command_changes(netlab, lab):
    def scaled(count: int) -> list[str]:
        done = netlab("rules", "diff", "--quiet-for", "1", "--name", lab, "--node", "worker1", "-o", "json", "--", "kubectl", "scale", "deploy/web", f"--replicas={count}")
        (found,) = json.loads(done.stdout)["differences"]
        return next(part["words"] for part in found["services"] if part["service"] == "default/web")

    assert any("is new, it has 25.0%" in each for each in scaled(4))
    assert any("is gone, it had 25.0%" in each for each in scaled(3))


def test_the_past_is_known(netlab, lab):
    before = json.loads(netlab.kubectl("--name", lab, "get", "--raw", "/api/v1/services"))["metadata"]["resourceVersion"]
    netlab.kubectl("--name", lab, "create", "service", "clusterip", "later", "--tcp=80:80")
    past = asked(netlab, lab, "svc/web", "--at", before)
    assert past["at"] == before
    assert {node["backend"] for node in past["nodes"]} == {"nftables"}
    assert all(node["observed"] and node["from"]["revision"] <= int(before) for node in past["nodes"])
    (found,) = asked(netlab, lab, "diff", f"@{before}", "api", "--node", "worker1")["differences"]
    assert [part["service"] for part in found["services"]] == ["default/later"]
    done = netlab("rules", "svc/web", "--at", "99999999", "--name", lab, check=False)
    assert done.returncode == 1
    assert "revision 99999999" in done.stderr


def test_a_foreign_table_is_found(netlab, lab):
    nft = ("exec", "--name", lab, "node/worker1", "--", "nft")
    netlab(*nft, "add table inet guard; add chain inet guard f { type filter hook forward priority -9; }; add rule inet guard f ip daddr 10.244.0.0/16 counter drop")
    try:
        (finding,) = asked(netlab, lab, "check", code=1)["findings"]
        assert (finding["kind"], finding["table"], finding["nodes"]) == ("foreign-drop", "inet guard", ["worker1"])
        assert "foreign" in netlab("rules", "why", "f:1", "--name", lab).stdout
        said = netlab("rules", "--table", "guard", "--watch", "--count", "1", "--interval", "0.1", "--name", lab).stdout
        assert said.startswith("TIME")
    finally:
        netlab(*nft, "delete table inet guard")
