"""Scenario files: what they mean, and how mistakes in them are told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import jsonschema
import pytest
import yaml

from netlab.errors import ManifestError, NotFound, UsageError
from netlab.lab import check, networking, plan, scenario

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = json.loads((ROOT / "scenarios/schema.json").read_text())


def parse(text: str, tmp_path: Path) -> scenario.Scenario:
    folder = tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    return scenario.parse(text, folder / "scenario.yaml")


def test_an_empty_file_is_a_cluster_of_three(tmp_path):
    assert parse("", tmp_path) == scenario.Scenario("mine", file=str(tmp_path / "mine/scenario.yaml"))


def test_every_field_arrives(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n---\n"
                                   "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n")
    found = parse("""
title: all of it
nodes: 5
network: {backend: vxlan}
manifests: [a.yaml]
next: [netlab ls]
checks:
- name: one
  from: pod/other/a
  to: udp://svc/web:53
  times: 3
  within: 500ms
  expect: unreachable
  answeredBy: {labels: app=web, every: true}
  dropped: {where: node/worker1, why: no endpoints}
- name: two
  rule: {table: filter, chain: KUBE-.*, contains: REJECT, node: worker1, present: false}
""", tmp_path)
    assert (found.title, found.nodes, found.backend) == ("all of it", 5, "vxlan")
    assert [obj["metadata"]["name"] for obj in found.objects] == ["a", "b"]
    one, two = found.checks
    assert one == check.Check("one", "pod/other/a", "udp://svc/web:53", 3, 0.5, "unreachable",
                                 check.Answered("app=web", every=True),
                                 check.Dropped("node/worker1", "no endpoints"), line=8)
    assert two.rule == check.RuleCheck("filter", "KUBE-.*", ("REJECT",), "worker1", present=False)


@pytest.mark.parametrize(("text", "line", "field", "expected"), [
    pytest.param("nodes: many", 1, "nodes", 'a whole number from 1 to 200, found "many"', id="no number"),
    pytest.param("nodes: true", 1, "nodes", "found true", id="a boolean is no number"),
    pytest.param("title: x\nnode: 3", 2, "", 'unknown field "node"; there are: title, nodes', id="unknown field"),
    pytest.param("nodes: 1\nnodes: 2", 2, "", 'the field "nodes" is there twice', id="twice"),
    pytest.param("- a", 1, "", "a mapping with title", id="no mapping"),
    pytest.param("checks:\n- from: outside", 2, "checks[0]", 'the field "name" is missing', id="no name"),
    pytest.param("checks:\n- name: a\n  from: web\n  to: tcp://web:80", 3, "checks[0].from", "a place: pod/NAME",
                 id="no place"),
    pytest.param("checks:\n- name: a\n  from: outside\n  to: web:80", 4, "checks[0].to", "a target such as http://",
                 id="no target"),
    pytest.param("checks:\n- name: a\n  rule: {chain: X}\n  to: tcp://web:80", 4, "checks[0]", 'has no "to"',
                 id="a rule check connects to nothing"),
    pytest.param("checks:\n- name: a\n  rule: {chain: '('}", 3, "checks[0].rule.chain", "a pattern of it", id="pattern"),
    pytest.param("checks:\n- name: a\n  rule: {chain: X}\n  within: soon", 4, "checks[0].within", "10s or 1m", id="time"),
    pytest.param("manifests: [missing.yaml]", 1, "manifests[0]", "a file or folder beside scenario.yaml", id="file"),
    pytest.param("network: {backend: ipip}", 1, "network.backend", "one of host-gw, vxlan", id="choice"),
    pytest.param("a: [1\nb: 2\n", 2, "", "no YAML", id="no yaml"),
    pytest.param("networking:\n  ipFamily: ipv5", 2, "networking.ipFamily", "one of ipv4, ipv6, dual", id="family"),
    pytest.param("networking: {podSubnet: 10.1.0.1/16}", 1, "networking.podSubnet", "a range such as", id="host bits"),
    pytest.param("networking: {ipFamily: dual, podSubnet: 10.1.0.0/16}", 1, "networking",
                 "podSubnet 10.1.0.0/16: with ipFamily dual it has one range of IPv4 and IPv6", id="one range is missing"),
    pytest.param("networking:\n  ipFamily: dual\n  podSubnet: fd00:1::/56,10.1.0.0/16\n"
                 "  serviceSubnet: 10.2.0.0/16,fd00:2::/112", 1, "networking", "different orders", id="order"),
    pytest.param("networking: {serviceSubnet: 10.244.0.0/20}", 1, "networking",
                 "serviceSubnet 10.244.0.0/20 overlaps with podSubnet 10.244.0.0/16", id="overlap"),
    pytest.param("networking: {podSubnet: 172.16.0.0/12}", 1, "networking", "overlaps with the nodes' network",
                 id="the fabric's"),
    pytest.param("networking: {kubeProxyMode: ipvs}", 1, "networking.kubeProxyMode", "one of iptables, nftables",
                 id="mode"),
    pytest.param("kubeProxy:\n  iptables:\n    masqueradeAll: often", 3, "kubeProxy.iptables.masqueradeAll",
                 "want a bool", id="kind of a kube-proxy field"),
    pytest.param("kubeProxy:\n  iptable: {}", 2, "kubeProxy.iptable", "has no field iptable", id="kube-proxy field"),
    pytest.param("nodes:\n- role: boss", 2, "nodes[0].role", "one of control-plane, worker", id="role"),
    pytest.param("nodes:\n- role: worker", 1, "nodes", "0 nodes have the role control-plane", id="no control plane"),
    pytest.param("nodes:\n- role: control-plane\n- {role: worker, name: a}\n- {role: worker, name: a}", 1, "nodes",
                 'two nodes are called "a"', id="namesakes"),
    pytest.param("nodes:\n- role: control-plane\n  labels: {zone: 1}", 3, "nodes[0].labels.zone", "in quotes",
                 id="a label's value is text"),
    pytest.param("nodes:\n- role: control-plane\n  taints:\n  - {key: a, effect: Never}", 4,
                 "nodes[0].taints[0].effect", "one of NoSchedule", id="effect"),
    pytest.param("nodes:\n- {role: control-plane, name: A_b}", 2, "nodes[0].name", "a name such as worker-a",
                 id="node name"),
])
def test_mistakes_are_told_by_line_and_field(text, line, field, expected, tmp_path):
    with pytest.raises(ManifestError) as caught:
        parse(text, tmp_path)
    assert (caught.value.line, caught.value.field) == (line, field)
    assert expected in str(caught.value)


def test_the_cluster_is_as_asked_for(tmp_path):
    found = parse("""
nodes:
- {role: worker, name: left, labels: {topology.kubernetes.io/zone: a}, taints: [{key: k, value: v, effect: NoExecute}]}
- role: control-plane
- role: worker
networking: {ipFamily: dual, podSubnet: "fd01::/56, 10.1.0.0/16", kubeProxyMode: nftables}
kubeProxy: {nftables: {masqueradeAll: true}}
""", tmp_path)
    asked = found.networking
    lab = plan.make("x", workers=found.nodes - 1, pod_cidrs=asked.pod_cidrs(), service_cidrs=asked.service_cidrs(),
                    wishes=found.wishes, kube_proxy=asked.patch())
    assert [(node.name, node.ips) for node in lab.nodes] == [
        ("control-plane", ("fd00:172:18::2", "172.18.0.2")), ("left", ("fd00:172:18::3", "172.18.0.3")),
        ("worker2", ("fd00:172:18::4", "172.18.0.4"))]
    assert lab.nodes[1].labels == {"topology.kubernetes.io/zone": "a"}
    assert lab.nodes[1].taints == (plan.Taint("k", "NoExecute", "v"),)
    assert (lab.pod_cidrs, lab.service_cidrs) == (("fd01::/56", "10.1.0.0/16"), ("fd00:10:96::/112", "10.96.0.0/16"))
    assert lab.dns_service == "fd00:10:96::a"
    assert lab.kube_proxy == {"nftables": {"masqueradeAll": True}, "mode": "nftables"}
    assert plan.from_json(json.loads(json.dumps(asdict(lab)))) == lab
    assert found.with_networking(family="ipv4").networking.pod_cidrs() == ("10.244.0.0/16",)


def test_yaml_1_1_does_not_surprise(tmp_path):
    found = parse("title: 2024-01-02\n", tmp_path)
    assert found.title == "2024-01-02"


@pytest.mark.parametrize("text", ["apiVersion: v1\nkind: Pod\n", "- a\n", "a: [\n", "just words\n"])
def test_a_file_that_holds_no_objects_is_refused(text, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ManifestError, match=str(file)):
        scenario.objects(file)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(NotFound) as caught:
        scenario.load("sevrices")
    assert "services" in caught.value.hint


def test_the_command_line_lists_the_lessons_and_tells_their_stories():
    def said(*words: str) -> str:
        return subprocess.run([sys.executable, "-P", "-m", "netlab.cli.main", *words], capture_output=True, text=True,
                              check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}).stdout

    rows = json.loads(said("scenarios", "-o", "json"))
    assert [row["name"] for row in rows] == scenario.names()
    assert all(row["title"] and row["checks"] for row in rows)
    assert said("scenarios", "hairpin").startswith("# Hairpin\n")
    assert json.loads(said("scenarios", "hairpin", "-o", "json"))["checks"][0].startswith("a Pod reaches itself")


def test_the_number_of_nodes_has_bounds():
    assert scenario.Scenario("x").with_nodes(1).nodes == 1
    with pytest.raises(UsageError):
        scenario.Scenario("x").with_nodes(0)


@pytest.mark.parametrize("name", scenario.names())
def test_every_scenario_agrees_with_the_schema_and_has_a_page(name):
    path = scenario.find(name)
    jsonschema.validate(yaml.safe_load(path.read_text()), SCHEMA)
    assert path.read_text().startswith("# yaml-language-server: $schema=../schema.json")
    assert (path.parent / "README.md").read_text().startswith("# ")
    assert scenario.load(name).checks


def test_the_schema_knows_the_fields_that_the_reader_knows():
    assert tuple(SCHEMA["properties"]) == scenario.FIELDS
    assert tuple(SCHEMA["$defs"]["check"]["properties"]) == check.CHECK_FIELDS
    assert tuple(SCHEMA["properties"]["networking"]["properties"]) == networking.FIELDS
    assert tuple(SCHEMA["properties"]["networking"]["properties"]["kubeProxyMode"]["enum"]) == networking.MODES
    assert tuple(SCHEMA["$defs"]["node"]["properties"]) == networking.NODE_FIELDS
    assert SCHEMA["$defs"]["place"]["pattern"] == f"^{check.PLACE}$"


def test_the_examples_of_the_documentation_are_read(tmp_path):
    text = (ROOT / "netlab/docs/scenarios.md").read_text()
    head, *checks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "mine"
    (folder / "more").mkdir(parents=True)
    for name in ("web.yaml", "more/more.yaml"):
        (folder / name).write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")
    whole = head.replace("checks: []", "checks:\n") + "".join(checks)
    found = scenario.parse(whole, folder / "scenario.yaml")
    assert (len(found.checks), len(found.objects)) == (10, 2)
    jsonschema.validate(yaml.safe_load(whole), SCHEMA)
