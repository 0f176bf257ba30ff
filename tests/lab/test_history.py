"""What the nodes' kernels held at a revision: recorded where netd did, else recomputed; refused once it is compacted."""

from __future__ import annotations

import json
import shutil

import pytest

from netlab.netfilter import history
from tests.lab.conftest import new_netlab
from tests.lab.labs import eventually

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture(scope="module")
def netlab(tmp_path_factory):
    yield from new_netlab(tmp_path_factory, "history")


@pytest.fixture(scope="module")
def lab(netlab):
    name = "past"
    netlab("up", "services", "--name", name)
    return name


def revision(netlab, lab) -> int:
    page = netlab.kubectl("--context", f"netlab-{lab}", "get", "--raw", "/api/v1/nodes?limit=1")
    return int(json.loads(page)["metadata"]["resourceVersion"])


def rules(netlab, lab, *words: str):
    return netlab("rules", *words, "--name", lab, check=False)


def folder(netlab, lab, node):
    return netlab.home / "state" / lab / "nodes" / node / "var/lib/netd/history"


def touch(netlab, lab, what: str) -> None:
    """Write something, so that the store's revision goes on."""
    netlab.kubectl("--context", f"netlab-{lab}", "annotate", "node", "worker1", "--overwrite", f"moved={what}")


def newest(netlab, lab) -> history.Moment:
    """Return what was recorded of worker1 last."""
    file = max(folder(netlab, lab, "worker1").iterdir())
    return list(history.moments(file.read_bytes()))[-1]


def by_hand(netlab, lab, command: str) -> int:
    """Change rules of worker1 by hand; return a revision at which that was recorded."""
    touch(netlab, lab, "before")
    before = newest(netlab, lab)
    netlab("exec", "--name", lab, "node/worker1", "--", "sh", "-c", command)
    eventually(lambda: newest(netlab, lab).parts != before.parts, f"{command} is recorded", 60)
    touch(netlab, lab, "after")
    return revision(netlab, lab)


def test_what_people_did_to_rules_and_routes_is_there_at_its_revision(netlab, lab):
    with_rule = by_hand(netlab, lab, "ip route add blackhole 203.0.113.0/24; iptables -I FORWARD -d 10.244.0.0/16 -j DROP")
    without = by_hand(netlab, lab, "ip route del blackhole 203.0.113.0/24; iptables -D FORWARD 1")
    shown = rules(netlab, lab, "--table", "filter", "--chain", "FORWARD", "--node", "worker1", "--at", str(with_rule)).stdout
    assert "to 10.244.0.0/16: drop" in shown
    assert "node/worker1: held from " in shown
    assert "to 10.244.0.0/16: drop" not in rules(
        netlab, lab, "--table", "filter", "--chain", "FORWARD", "--node", "worker1", "--at", str(without)).stdout
    found = json.loads(rules(netlab, lab, "svc/web", "--at", str(with_rule), "-o", "json").stdout)
    assert all(node["observed"] and node["from"]["revision"] <= with_rule for node in found["nodes"])
    assert with_rule < next(node for node in found["nodes"] if node["node"] == "worker1")["until"]["revision"]
    told = rules(netlab, lab, "diff", f"@{with_rule}", f"@{without}", "--node", "worker1").stdout
    assert "- filter FORWARD: to 10.244.0.0/16: drop" in told
    for words, at in (("by filter FORWARD", with_rule), ("connected", without)):
        done = netlab("trace", "--predict", "--at", str(at), "--name", lab, "outside", "node/worker1:30080", "-o",
                      "json", check=False)
        assert words in done.stdout
        assert "rules, routes, links and settings as recorded" in done.stdout
    done = netlab("trace", "--predict", "--at", str(with_rule), "--name", lab, "node/worker1", "203.0.113.9:80", check=False)
    assert "`blackhole` route" in done.stdout


def test_what_people_did_to_routing_rules_and_settings_counts_at_its_revision(netlab, lab):
    at, eth0 = {}, "net.ipv4.conf.eth0.forwarding"  # which netd does not repair
    for key, command in (("rule", "ip rule add to 203.0.113.0/24 prohibit priority 7"), ("none", "ip rule del priority 7"),
                         ("stopped", f"sysctl -w {eth0}=0"), ("again", f"sysctl -w {eth0}=1")):
        at[key] = by_hand(netlab, lab, command)

    def predicted(key: str, *words: str) -> str:
        return netlab("trace", "--predict", "--at", str(at[key]), "--name", lab, *words, check=False).stdout

    assert "ip rule 7" in predicted("rule", "node/worker1", "203.0.113.9:80")
    assert "ip rule 7" not in predicted("none", "node/worker1", "203.0.113.9:80")
    assert "does not forward" in predicted("stopped", "outside", "node/worker1:30080")
    assert "does not forward" not in predicted("again", "outside", "node/worker1:30080")


def test_what_was_not_recorded_is_recomputed_and_what_is_compacted_is_refused_by_both(netlab, lab):
    at = revision(netlab, lab)
    for node in ("control-plane", "worker1", "worker2"):
        shutil.rmtree(folder(netlab, lab, node))
    assert "not recorded; recomputed" in rules(netlab, lab, "svc/web", "--at", str(at)).stdout
    found = json.loads(rules(netlab, lab, "svc/web", "--at", str(at), "-o", "json").stdout)
    assert {node["observed"] for node in found["nodes"]} == {False}
    assert "(recomputed)" in rules(netlab, lab, "diff", f"@{at}", "api", "--node", "worker1").stdout
    done = netlab("trace", "--predict", "--at", str(at), "--name", lab, "pod/client", "svc/web", check=False)
    assert f"recomputed from the objects at resourceVersion {at}" in done.stdout
    touch(netlab, lab, "at last")
    oldest = revision(netlab, lab)
    netlab("exec", "--name", lab, "node/control-plane", "--", "etcdctl", "compact", str(oldest))
    for words in (("rules", "svc/web", "--at", str(at)), ("rules", "diff", f"@{at}", "api"),
                  ("trace", "--predict", "--at", str(at), "pod/client", "svc/web")):
        done = netlab(*words, "--name", lab, check=False)
        assert done.returncode != 0
        assert f"revision {at} is compacted: the oldest that is kept is {oldest}" in done.stderr
