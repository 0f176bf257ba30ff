from __future__ import annotations

from pathlib import Path

import pytest

from netlab.errors import ManifestError, NetlabError, Unsupported, UsageError
from netlab.proxy import host
from netlab.proxy.config import read
from netlab.proxy.main import main
from tests.proxy.builders import a_node

FILE = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 5}
clusterCIDR: 10.244.0.0/16,fd00:244::/56
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: null}
iptables: {masqueradeAll: true, minSyncPeriod: 0s, syncPeriod: 1m30s}
mode: ""
nodePortAddresses: null
featureGates: {Whatever: true}
"""


def configured(tmp_path: Path, text: str, *flags: str):
    path = tmp_path / "config.conf"
    path.write_text(text)
    return read([f"--config={path}", *flags])[0]


def test_flags():
    config, _ = read(["--cluster-cidr=10.244.0.0/16", "--masquerade-all", "--iptables-sync-period", "5s",
                      "--hostname-override=Node1", "--feature-gates=A=true", "--proxy-mode=iptables"])
    assert (config.cluster_cidr("IPv4"), config.cluster_cidr("IPv6")) == ("10.244.0.0/16", "")
    assert (config["iptables.masqueradeAll"], config.sync_period(), config.node) == (True, 5.0, "node1")


def test_file(tmp_path):
    config = configured(tmp_path, FILE, "--hostname-override=n", "--masquerade-all=false")
    assert config["iptables.masqueradeAll"] is True, "a file takes the place of flags"
    assert config.node == "n", "but the node's name may be a flag"
    assert (config.cluster_cidr("IPv4"), config.cluster_cidr("IPv6")) == ("10.244.0.0/16", "fd00:244::/56")
    assert (config.min_sync_period(), config.sync_period()) == (1.0, 90.0)
    assert config["conntrack.tcpEstablishedTimeout"] == 86400.0
    assert config["clientConnection.kubeconfig"] == "/var/lib/kube-proxy/kubeconfig.conf"
    assert config.unknown == ()
    assert config.nested()["iptables"]["syncPeriod"] == 90.0


def test_unknown_fields_are_told(tmp_path):
    assert configured(tmp_path, FILE + "\nmodee: x\niptables2: {a: 1}\n").unknown == ("modee", "iptables2")


@pytest.mark.parametrize(("text", "words"), [
    ("kind: Pod\n", "want a KubeProxyConfiguration"), ("kind: [\n", "not YAML"),
    ("kind: KubeProxyConfiguration\nclusterCIDR: 5\n", "clusterCIDR: want a list"),
    ("kind: KubeProxyConfiguration\niptables: {masqueradeBit: true}\n", "iptables.masqueradeBit: want a int"),
    ("kind: KubeProxyConfiguration\niptables: {syncPeriod: soon}\n", 'iptables.syncPeriod: invalid duration "soon"'),
])
def test_a_wrong_file_is_refused_by_field(tmp_path, text: str, words: str):
    with pytest.raises(ManifestError, match=words):
        configured(tmp_path, text)


def test_nftables_mode(tmp_path):
    config = configured(tmp_path, "kind: KubeProxyConfiguration\nmode: nftables\niptables: {syncPeriod: 9s}\n"
                                  "nftables: {masqueradeAll: true, masqueradeBit: 15, syncPeriod: 7s, minSyncPeriod: 2s}\n")
    assert (config.mode, config.sync_period(), config.min_sync_period(), config.unknown) == ("nftables", 7.0, 2.0, ())
    made = host.settings(config, "IPv4", node=a_node(), addresses=("127.0.0.1", "172.30.0.11"))
    assert (made.masquerade_all, made.mark, made.localhost_node_ports) == (True, "0x00008000", False)
    assert made.node_port_addresses == ("172.30.0.11/32",), "node ports are served on the node's own address only"
    config, _ = read(["--proxy-mode=nftables", "--masquerade-all", "--iptables-masquerade-bit=3", "--nftables-sync-period=4s",
                      "--nodeport-addresses=0.0.0.0/0"])
    made = host.settings(config, "IPv4", node=a_node())
    assert (made.masquerade_all, made.mark, config.sync_period(), made.everywhere) == (True, "0x00000008", 4.0, True)


@pytest.mark.parametrize(("flags", "error", "words"), [
    (["--proxy-mode=ipvs"], Unsupported, "ipvs"), (["--proxy-mode=magic"], Unsupported, "magic"),
    (["--cluster-cidr=10.244.0.0"], UsageError, "no network"), (["--cluster-cidr=0.0.0.0/0"], UsageError, "every address"),
    (["--detect-local-mode=Guess"], UsageError, "Guess"), (["--iptables-masquerade-bit=32"], UsageError, "0 to 31"),
    (["--nodeport-addresses=x"], UsageError, "no network"), (["--iptables-backend=pf"], UsageError, "pf"),
    (["--no-such-flag"], UsageError, "unknown flag"), (["extra"], UsageError, "extra"),
    (["--config=/nonexistent/file"], ManifestError, "cannot read"),
])
def test_what_cannot_work_is_refused(flags, error: type[NetlabError], words: str):
    with pytest.raises(error, match=words):
        read(flags)


def test_main_says_a_usage_error_in_one_line(capsys):
    assert main(["--proxy-mode=ipvs"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["--help"]) == 0
    assert "--masquerade-all" in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "match"), [
    (["--cluster-cidr=10.244.0.0/16"], "-s 10.244.0.0/16"), ([], ""), (["--detect-local-mode=NodeCIDR"], "-s 10.244.1.0/24"),
    (["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"], "-i cni0"),
    (["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"], "-i veth+")])
def test_local_detectors(flags, match: str):
    node = a_node(podCIDRs=["10.244.1.0/24"])
    assert host.detector(read(flags)[0], "IPv4", node).match == match


def test_settings_of_a_node():
    config, _ = read(["--hostname-override=node1", "--nodeport-addresses=primary"])
    node = a_node(labels={"topology.kubernetes.io/zone": "a"})
    made = host.settings(config, "IPv4", node=node, addresses=("127.0.0.1", "172.30.0.11", "fd00::1"))
    assert (made.node_ip, made.zone, made.node_port_addresses) == ("172.30.0.11", "a", ("172.30.0.11/32",))
    assert made.node_addresses == ("127.0.0.1", "172.30.0.11")
    assert not made.localhost_node_ports, "loopback is not among the addresses that node ports are served on"
    assert host.settings(config, "IPv6", node=node).node_ip == ""
