"""`netlab trace --predict`, `--if` and `--at` on a lab that runs, and on files without one."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture
def lab(services):
    return services[0]


def told(netlab, *words: str, code: int = 0) -> dict:
    done = netlab("trace", *words, "-o", "json", check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("words", [("pod/client", "svc/web"), ("outside", "node/worker1:30080"), ("deploy/web", "svc/web"),
                                   ("node/worker1", "pod/client", "-p", "icmp"), ("pod/client", "svc/kubernetes"),
                                   ("node/worker1", "svc/kubernetes")],
                         ids=" ".join)
def test_a_trace_goes_as_predicted(netlab, lab, words):
    found = told(netlab, "--name", lab, *words)
    assert found["prediction"]["status"] == "agrees", found["prediction"]
    assert "prediction" not in told(netlab, "--name", lab, "--no-predict", *words)


def test_a_prediction_tells_every_way_with_its_odds_and_says_what_it_is(netlab, lab):
    found = told(netlab, "--predict", "--name", lab, "pod/client", "svc/web")
    assert found["predicted"]
    assert [round(each["probability"], 3) for each in found["branches"]] == [0.333, 0.333, 0.333]
    assert {each["outcome"]["status"] for each in found["branches"]} == {"connected"}
    assert all(hop["predicted"] for each in found["branches"] for hop in each["hops"])


def test_what_a_change_would_do_is_told_and_nothing_is_touched(netlab, lab):
    change = netlab.home / "change.yaml"
    change.write_text("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: none}}}\n")
    before = netlab.kubectl("--context", f"netlab-{lab}", "get", "svc", "web", "-o", "yaml")
    found = told(netlab, "--name", lab, "pod/client", "svc/web", "--if", "-f", str(change), code=1)
    assert "KUBE-SVC-" in found["difference"]["before"]
    assert {each["outcome"]["status"] for each in found["after"]["branches"]} == {"refused"}
    assert netlab.kubectl("--context", f"netlab-{lab}", "get", "svc", "web", "-o", "yaml") == before


def test_saved_rules_and_objects_need_neither_a_lab_nor_root(netlab, lab):
    saved, objects = netlab.home / "saved.txt", netlab.home / "cluster.json"
    saved.write_text(subprocess.run(["ip", "netns", "exec", f"{lab}-worker1", "iptables-save"], capture_output=True,
                                    text=True, check=True).stdout)
    objects.write_text(netlab.kubectl("--context", f"netlab-{lab}", "get", "svc,endpointslices,nodes,pods", "-A", "-o",
                                      "json"))
    address = netlab.kubectl("--context", f"netlab-{lab}", "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    env = netlab.env | {"HOME": "/nonexistent", "NETLAB_RUN_DIR": "/nonexistent"}
    for words in (["--rules", "-", "--from", "10.244.1.9", f"{address}:80"], ["-f", "-", "pod/client", "svc/web"]):
        text = (saved if words[0] == "--rules" else objects).read_text()
        done = subprocess.run([*nobody, *netlab.argv("trace", "--predict", *words, "-o", "json")], input=text, env=env,
                              capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["branches"]) == 3
    assert os.geteuid() == 0
