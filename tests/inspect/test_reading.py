"""Rules read out of real kernels: both backends of iptables and nftables mode; and the commands on such namespaces."""

from __future__ import annotations

import json
import os

import pytest

from netlab.cli.main import run
from netlab.inspect import holding, reading, service
from netlab.inspect.nft_diff import sides
from netlab.kernel import iptables, netns, nft, sysctl
from netlab.netfilter import render
from netlab.proxy.nft_render import nft_wanted_for, text
from tests.proxy.builders import a_settings, recorded_objects, rules_for

pytestmark = pytest.mark.root
OBJECTS = recorded_objects()
MASQUERADE = "*nat\n-A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE\nCOMMIT\n"
SETTINGS = {"node_port_addresses": ("172.30.0.11/32",), "node_addresses": ("172.30.0.11",), "service_cidrs": ("10.96.0.0/16",)}


@pytest.fixture
def namespace():
    fd = netns.new_netns()
    yield fd
    os.close(fd)


@pytest.fixture(params=["nft", "legacy", "nftables"])
def node(request, namespace, tmp_path):
    """A namespace that is made to look like a node in one of three modes; the words that attach to it."""
    sysctl.write("net.ipv4.ip_forward", 1, namespace)
    if request.param == "nftables":
        run_nft(namespace, text(nft_wanted_for(OBJECTS, a_settings(**SETTINGS))))
        iptables.restore(iptables.find("IPv4"), MASQUERADE, netns=namespace)
    else:
        rules = render.ruleset(rules_for(*OBJECTS)) + MASQUERADE
        iptables.restore(iptables.find("IPv4", request.param), rules, netns=namespace)
    file = tmp_path / "objects.json"
    file.write_text(json.dumps({"kind": "List", "items": OBJECTS}))
    return namespace, request.param, ["--attach", f"node/node1=netns:/proc/self/fd/{namespace}", "--objects", str(file)]


def run_nft(fd: int, commands: str) -> None:
    context = nft.Nft(fd)
    try:
        context.run(commands)
    finally:
        context.close()


def asked(capsys, *argv: str, code: int = 0) -> dict:
    assert run(["rules", *argv, "-o", "json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_what_is_read_and_one_service_picked_out(node, monkeypatch):
    fd, mode, _ = node
    whole = reading.read("node1", fd)
    assert whole.mode == ("nftables" if mode == "nftables" else "iptables")
    assert whole.backend == {"nft": "nf_tables"}.get(mode, mode)
    monkeypatch.setattr(reading, "MANY", 1)
    monkeypatch.setattr(reading, "LONG", 1)
    for key in ("default/multiport", "default/nodeport", "default/affinity", "default/none", "default/lb"):
        few = reading.read("node1", fd, only=key)
        assert few.ports(key, service.Names()) == whole.ports(key, service.Names())
    assert len(few.rules.chain("nat", "KUBE-SERVICES").rules) == len(whole.rules.chain("nat", "KUBE-SERVICES").rules)


def test_every_view_of_a_machine_that_is_no_lab(node, capsys, tmp_path):
    fd, mode, attach = node
    nft_mode = mode == "nftables"
    found = asked(capsys, "svc/nodeport", *attach)
    (port,) = found["nodes"][0]["ports"]
    assert [(each["address"], each["sharePercent"]) for each in port["endpoints"]] == [("10.244.1.5:8080", 50.0), ("10.244.2.5:8080", 50.0)]
    assert found["nodes"][0]["backend"] == {"nft": "nf_tables"}.get(mode, mode)
    (overview,) = asked(capsys, *attach)["nodes"]
    assert overview["services"] == 9
    assert [rule["words"] for rule in overview["foreignRules"]] == [
        "from 10.244.0.0/16, not to 10.244.0.0/16: masquerade: send from the node's own address"]
    assert asked(capsys, "check", *attach)["findings"] == []
    (origin, *_) = asked(capsys, "why", "@service-ips:1" if nft_mode else "KUBE-NODEPORTS:1", *attach)["found"]
    assert (origin["maker"], origin["nodes"]) == ("kube-proxy", ["node1"])
    assert origin["sources"][0]["object"].startswith("Service default/")
    rows = asked(capsys, "--grep", "default/nodeport", *attach)["rules"]
    assert {row["nodes"][0] for row in rows} == {"node1"}
    assert asked(capsys, "diff", "node/node1", "api", *attach)["differences"][0]["services"] == []
    assert asked(capsys, "svc/nodeport", "--connections", *attach)["connections"] == []
    picture = tmp_path / "web.svg"
    assert run(["rules", "graph", "svc/nodeport", "-o", "svg", "-f", str(picture), *attach]) == 0
    assert picture.read_text().startswith("<svg ")
    assert sides(reading.read("node1", fd), holding.Holding()) != ()


def test_check_finds_what_refuses_packets_by_the_other_backend(node, capsys):
    """The kernel asks both: a DROP that some other program made by iptables-legacy is met by kube-proxy's packets."""
    fd, mode, attach = node
    other = "nft" if mode == "legacy" else "legacy"
    iptables.restore(iptables.find("IPv4", other), "*filter\n:FORWARD DROP [0:0]\n-I FORWARD -p tcp --dport 9 -j DROP\n"
                     "COMMIT\n", netns=fd)
    found = asked(capsys, "check", *attach, code=1)["findings"]
    assert {(each["kind"], each["chain"]) for each in found} == {("foreign-drop", "FORWARD"), ("policy-drop", "FORWARD")}
    if mode != "nftables":
        assert all(each["hint"].startswith(f"iptables-{other} -t filter") for each in found)


def test_check_finds_what_was_done_by_hand(node, capsys):
    fd, mode, attach = node
    if mode == "nftables":
        run_nft(fd, "add table inet guard\nadd chain inet guard f { type filter hook forward priority -5 ; }\n"
                    "add rule inet guard f ip saddr 10.244.0.0/16 drop\nflush chain ip kube-proxy masquerading\n"
                    "add element ip kube-proxy cluster-ips { 10.96.7.7 }")
        wanted = {"foreign-drop", "missing-rule", "extra-element"}
    else:
        tool = iptables.find("IPv4", mode)
        iptables.restore(tool, "*filter\n-I FORWARD -s 10.244.0.0/16 -j DROP\nCOMMIT\n*nat\n:KUBE-POSTROUTING - [0:0]\nCOMMIT\n", netns=fd)
        wanted = {"foreign-drop", "missing-rule"}
    sysctl.write("net.ipv4.ip_forward", 0, fd)
    found = asked(capsys, "check", *attach, code=1)["findings"]
    assert {each["kind"] for each in found} == {*wanted, "ip-forward-off"}
    assert all(each["hint"] for each in found)


@pytest.mark.parametrize(("second", "kind"), [("legacy", "mixed-backends"), ("nftables", "mixed-modes")])
def test_rules_of_kube_proxy_twice(namespace, capsys, tmp_path, second: str, kind: str):
    sysctl.write("net.ipv4.ip_forward", 1, namespace)
    rules = render.ruleset(rules_for(*OBJECTS)) + MASQUERADE
    iptables.restore(iptables.find("IPv4", "nft"), rules, netns=namespace)
    if second == "legacy":
        iptables.restore(iptables.find("IPv4", "legacy"), rules, netns=namespace)
    else:
        run_nft(namespace, text(nft_wanted_for(OBJECTS, a_settings(**SETTINGS))))
    file = tmp_path / "objects.json"
    file.write_text(json.dumps({"kind": "List", "items": OBJECTS}))
    found = asked(capsys, "check", "--attach", f"node/node1=netns:/proc/self/fd/{namespace}", "--objects", str(file), code=1)
    assert [each["kind"] for each in found["findings"]] == [kind]


def test_users_rules_are_judged_by_libxtables(node, capsys, tmp_path):
    _, _, attach = node
    file = tmp_path / "my.rules"
    file.write_text("*filter\n-A FORWARD -p tcp -m tcp --dport 99999 -j ACCEPT\n-A FORWARD -m nosuch -j DROP\nCOMMIT\n")
    one, two = asked(capsys, "check", "-f", str(file), *attach, code=1)["findings"]
    assert (one["kind"], two["kind"]) == ("refused-rule", "refused-rule")
    assert f"{file} line 2" in one["words"]
    assert "99999" in one["words"]
    assert "nosuch" in two["words"]
    (finding,) = asked(capsys, "check", "--rule", "-I FORWARD -s 10.244.0.0/16 -j DROP", *attach, code=1)["findings"]
    assert finding["kind"] == "foreign-drop"
    assert asked(capsys, "check", "--rule", "-A FORWARD -s 192.0.2.1 -j ACCEPT", *attach)["findings"] == []


def test_rates_in_a_pipe(node, capsys):
    _, mode, attach = node
    words = ["rules", "--table", "nat", "--watch", "--interval", "0.1", "--count", "1", *attach]
    assert run(words) == 0
    assert capsys.readouterr().out.startswith("TIME      PACKETS/S")
    if mode == "nftables":
        assert run(["rules", "svc/nodeport", "--watch", "--count", "1", *attach]) == 1
        assert "--connections" in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "said"), [
    (["--attach", "netns:/nowhere"], "no network namespace at /nowhere"), (["--attach", "what"], "no such way to find a namespace"),
    (["--kubeconfig", "x"], "go with --attach"), (["svc/a", "--grep", "x", "--attach", "host"], "do not go together"),
    (["--connections", "--attach", "host"], "wants a Service")])
def test_mistakes(capsys, argv: list[str], said: str):
    assert run(["rules", *argv]) == 1
    assert said in capsys.readouterr().err
