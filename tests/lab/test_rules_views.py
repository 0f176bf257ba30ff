"""`netlab rules why`, `check`, `diff` and `graph` on a lab that runs."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture
def lab(services):
    return services[0]


@pytest.fixture
def foreign(netlab, lab):
    """A hand-made rule that drops, above kube-proxy's, on worker1."""
    words = ["FORWARD", "-d", "198.51.100.9", "-j", "DROP"]
    netlab("exec", "--name", lab, "node/worker1", "--", "iptables", "-I", *words)
    yield "-A FORWARD -d 198.51.100.9/32 -j DROP"
    netlab("exec", "--name", lab, "node/worker1", "--", "iptables", "-D", *words)


def view(netlab, lab: str, *words: str, code: int = 0) -> dict:
    done = netlab("rules", *words, "--name", lab, "-o", "json", check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_why_names_objects_with_their_revisions(netlab, lab):
    service = json.loads(netlab.kubectl("get", "svc", "web", "-o", "json"))
    tree = json.loads(netlab("rules", "svc/web", "--node", "worker1", "--name", lab, "-o", "json").stdout)
    chain = re.search(r"KUBE-SVC-\w+", json.dumps(tree))[0]
    (found,) = view(netlab, lab, "why", chain)["found"]
    assert found["nodes"] == ["control-plane", "worker1", "worker2"]
    assert found["maker"] == "kube-proxy"
    first, *slices = found["sources"]
    assert (first["object"], first["resourceVersion"]) == ("Service default/web", service["metadata"]["resourceVersion"])
    assert "spec.ports[0].name" in first["fields"]
    (entry,) = slices
    assert entry["object"].startswith("EndpointSlice default/web-")
    assert "of Pod default/web-" in entry["note"]


def test_check_finds_nothing_then_a_foreign_drop(netlab, lab, request):
    assert view(netlab, lab, "check") == {"nodes": ["control-plane", "worker1", "worker2"], "findings": []}
    rule = request.getfixturevalue("foreign")
    (finding,) = view(netlab, lab, "check", code=1)["findings"]
    assert (finding["kind"], finding["nodes"], finding["number"]) == ("foreign-drop", ["worker1"], 1)
    said = netlab("rules", "why", rule, "--name", lab).stdout
    assert "foreign: no object of the API explains it. It stands in filter FORWARD before the jumps to" in said


def test_diff_of_two_nodes_and_of_a_file(netlab, lab, foreign, tmp_path):
    (found,) = view(netlab, lab, "diff", "node/worker2", "node/worker1")["differences"]
    (part,) = found["services"]
    assert (part["service"], [line["text"] for line in part["lines"]]) == ("", [foreign])
    file = tmp_path / "saved.txt"
    file.write_text(netlab("exec", "--name", lab, "node/worker1", "--", "iptables-save").stdout)
    said = netlab("rules", "diff", str(file), "node/worker1", "--name", lab).stdout
    assert "no difference" in said


def test_diff_before_and_after_a_command(netlab, lab):
    def scaled(count: int) -> dict:
        done = netlab("rules", "diff", "--name", lab, "-o", "json", "--", "kubectl", "scale", "deploy/web",
                      f"--replicas={count}")
        assert "scaled" in done.stderr
        return {each["node"]: each["services"] for each in json.loads(done.stdout)["differences"]}

    try:
        after = scaled(4)
        assert list(after) == ["control-plane", "worker1", "worker2"]
        for (part,) in after.values():
            assert part["service"] == "default/web"
            assert any("is new, it has 25.0%" in text for text in part["words"])
    finally:
        back = scaled(3)
    assert any("is gone, it had 25.0%" in text for text in back["worker1"][0]["words"])


def test_a_graph_of_either_kind(netlab, lab):
    assert netlab("rules", "graph", "svc/web", "--name", lab).stdout.splitlines()[1] == "flowchart LR"
    assert netlab("rules", "graph", "svc/web", "--node", "worker2", "-o", "dot", "--name", lab).stdout.startswith("digraph")


@pytest.mark.parametrize(("words", "said"), [
    (["why", "KUBE-NOTHING"], 'no node has a chain or rule "KUBE-NOTHING"'), (["graph", "svc/nothing"], "no node has rules for"),
    (["diff", "node/worker1"], "want two sides"), (["diff", "node/worker1", "/nowhere"], "cannot read /nowhere"),
    (["--node", "worker1", "why", "KUBE-NOTHING"], 'no node has a chain or rule "KUBE-NOTHING"')])
def test_errors_say_what_to_do(netlab, lab, words, said: str):
    done = netlab("rules", *words, "--name", lab, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "hint: " in done.stderr
