"""`netlab render`: text that an empty namespace takes, and that is what the real kube-proxy gives."""

from __future__ import annotations

import os

import pytest

from netlab.cli.main import run
from netlab.kernel import iptables, netns, nfacct
from netlab.kernel.nft import Nft
from netlab.netfilter import parse
from netlab.netfilter.normalise import differences
from netlab.proxy.settings import INVALID_COUNTER, LOCALHOST_COUNTER
from tests.proxy import nft_compare
from tests.proxy.builders import GOLDEN, recorded

FILE = str(GOLDEN / "objects-as-served.json")
FREE = ("KUBE-SERVICES", "KUBE-NODEPORTS")


def rendered(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert run(["render", "-f", FILE, "--node", "node1", "--cluster-cidr", "10.244.0.0/16", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("options", "file"), [((), "iptables-save.txt"),
                                               (("--masquerade-all",), "iptables-save.masquerade-all.txt")])
def test_the_text_is_what_kube_proxy_wrote(capsys, options: tuple[str, ...], file: str):
    assert differences(parse.parse(recorded(file)), parse.parse(rendered(capsys, *options, "--nfacct")), unordered=FREE) == []


@pytest.mark.root
@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("counted", [False, True])
def test_an_empty_namespace_takes_it_and_holds_what_kube_proxy_makes(capsys, backend: iptables.Backend, counted: bool):
    tool = iptables.find("IPv4", backend)
    namespace = netns.new_netns()
    try:
        if counted:
            for name in (INVALID_COUNTER, LOCALHOST_COUNTER):
                nfacct.ensure(name, namespace)
        text = rendered(capsys, *(["--nfacct"] if counted else []))
        iptables.restore(tool, text, netns=namespace, flush=True)
        kept = parse.parse(iptables.save(tool, netns=namespace))
    finally:
        os.close(namespace)
    theirs = parse.parse(recorded("iptables-save.txt"))
    found = differences(theirs, kept, unordered=FREE)
    if counted:
        assert found == []
    else:
        assert len(found) == 4, found
        assert all("nfacct" in line or "INVALID" in line for line in found)


@pytest.mark.root
def test_ipv6_text_loads(capsys, tmp_path):
    objects = tmp_path / "six.yaml"
    objects.write_text("""
kind: Service
metadata: {name: web}
spec: {type: NodePort, clusterIP: "fd00:96::10", ports: [{name: http, port: 80, nodePort: 30080, protocol: TCP}]}
---
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["fd00:244:1::5"]}, {addresses: ["fd00:244:2::5"]}]
""")
    assert run(["render", "-f", str(objects), "--family", "ipv6", "--cluster-cidr", "fd00:244::/56"]) == 0
    text = capsys.readouterr().out
    tool = iptables.find("IPv6")
    namespace = netns.new_netns()
    try:
        iptables.restore(tool, text, netns=namespace, flush=True)
        kept = parse.parse(iptables.save(tool, netns=namespace))
    finally:
        os.close(namespace)
    assert differences(parse.parse(text), kept) == []
    assert "DNAT --to-destination [fd00:244:1::5]:8080" in {rule.target for rule in kept.table("nat").rules()}


def test_nftables_mode_is_what_kube_proxy_wrote(capsys, tmp_path):
    networks = tmp_path / "networks.yaml"
    networks.write_text("kind: ServiceCIDR\nmetadata: {name: kubernetes}\nspec: {cidrs: [10.96.0.0/16]}\n")
    theirs = nft_compare.tables(recorded("nft-ruleset.txt"))
    for family in ("ipv4", "ipv6"):
        text = rendered(capsys, "-f", str(networks), "--mode", "nftables", "--family", family)
        (name, ours), = nft_compare.tables(text).items()
        assert ours == theirs[name]


@pytest.mark.root
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_an_empty_namespace_takes_nftables_text(capsys, family: str):
    text = rendered(capsys, "--mode", "nftables", "--family", family, "--nodeport-addresses", "0.0.0.0/0,::/0")
    namespace = netns.new_netns()
    nft = Nft(namespace)
    try:
        nft.run(text)
        assert nft_compare.tables(nft.run("list ruleset")) == nft_compare.tables(text)
    finally:
        nft.close()
        os.close(namespace)


@pytest.mark.parametrize(("argv", "words"), [
    (["-f", FILE], "for which node?"), (["-f", FILE, "--node", "node9"], 'no node "node9"'),
    (["-f", "/nonexistent.yaml"], "/nonexistent.yaml: cannot read it"), (["-f", FILE, "--node", "node1", "--cluster-cidr", "x"], "no network"),
])
def test_errors_are_one_line_and_say_what_to_do(capsys, argv: list[str], words: str):
    assert run(["render", *argv]) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_a_folder_is_all_its_manifests(capsys, tmp_path):
    (tmp_path / "a.json").write_text(recorded("objects-as-served.json"))
    (tmp_path / "notes.txt").write_text("not: [yaml")
    assert run(["render", "-f", str(tmp_path), "--node", "node1", "--cluster-cidr", "10.244.0.0/16"]) == 0
    assert capsys.readouterr().out == rendered(capsys)
    (tmp_path / "a.json").unlink()
    assert run(["render", "-f", str(tmp_path), "--node", "node1"]) == 1
    assert "there are no manifests in" in capsys.readouterr().err


@pytest.mark.root
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_userspace_mode_is_labelled_and_an_empty_namespace_takes_it(capsys, family: str):
    assert run(["render", "-f", FILE, "--node", "node1", "--mode", "userspace", "--family", family]) == 0
    said = capsys.readouterr()
    assert "upstream removed the mode in v1.26" in said.err
    assert "ports that it listens on, 40000 and up, are examples" in said.err
    tool = iptables.find("IPv4" if family == "ipv4" else "IPv6")
    namespace = netns.new_netns()
    try:
        iptables.restore(tool, said.out, netns=namespace, flush=True)
        kept = parse.parse(iptables.save(tool, netns=namespace))
    finally:
        os.close(namespace)
    assert differences(parse.parse(said.out), kept) == []
    assert bool(kept.chain("nat", "KUBE-PORTALS-HOST").rules) == (family == "ipv4"), "no Service here has an IPv6 address"
