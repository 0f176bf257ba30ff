from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from netlab.errors import ManifestError, NetlabError, Unsupported, UsageError
from netlab.kernel import netns, sysctl
from netlab.proxy import host
from netlab.proxy.addresses import Family
from netlab.proxy.config import check_document, read
from netlab.proxy.config_check import doubts
from netlab.proxy.config_table import FLAGS
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
    """Return what a file gives; one that does not say which version of the type it is has this one."""
    path = tmp_path / "config.conf"
    path.write_text(text if "apiVersion" in text else f"apiVersion: kubeproxy.config.k8s.io/v1alpha1\n{text}")
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
    assert config.nested()["iptables"]["syncPeriod"] == "90s"


@pytest.mark.parametrize("text", ["modee: x", "iptables: {masqueradeAl: true}", "linux: {masqueradeAll: true}",
                                  "detectLocal: {clusterCIDRs: []}", "logging: {options2: {}}"])
def test_an_unknown_field_is_passed_over_with_a_warning_and_refused_in_a_scenario(tmp_path, text: str):
    """Sections of the internal type and of later versions are none of v1alpha1."""
    section, _, rest = text.partition(": ")
    name = f"{section}.{rest[1:].partition(':')[0]}" if rest.startswith("{") and section != "linux" else section
    made = configured(tmp_path, f"kind: KubeProxyConfiguration\noomScoreAdj: -7\n{text}\n")
    assert made.unknown == (name,)
    assert dict(made.values) == dict(configured(tmp_path, "kind: KubeProxyConfiguration\noomScoreAdj: -7\n").values)
    with pytest.raises(ManifestError, match="no field") as caught:
        check_document(yaml.safe_load(text), file="scenario.yaml")
    assert caught.value.field == name


def test_a_field_that_is_there_twice_counts_as_it_is_last_and_is_told(tmp_path):
    made = configured(tmp_path, "kind: KubeProxyConfiguration\nmode: iptables\niptables: {syncPeriod: 9s, syncPeriod: 8s}\nmode: nftables\n")
    assert (made.mode, made["iptables.syncPeriod"], made.doubled, made.unknown) == ("nftables", 8.0, ("iptables.syncPeriod", "mode"), ())


def test_a_file_that_is_no_text_is_said_to_be_none(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"kind: \xff\xfe\n")
    assert main([f"--config={tmp_path / 'file'}"]) == 1
    assert "its bytes are no UTF-8" in capsys.readouterr().err


EVERY_FIELD = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 10, contentType: application/json, kubeconfig: /k, qps: 5}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 15m0s
conntrack: {maxPerCore: 32768, min: 131072, tcpBeLiberal: false, tcpCloseWaitTimeout: 1h0m0s, tcpEstablishedTimeout: 24h0m0s,
            udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
featureGates: {}
healthzBindAddress: 0.0.0.0:10256
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}
ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: "", strictARP: false, syncPeriod: 30s, tcpFinTimeout: 0s,
       tcpTimeout: 0s, udpTimeout: 0s}
logging: {flushFrequency: 0, format: text, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0,
          vmodule: []}
metricsBindAddress: 127.0.0.1:10249
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}
nodePortAddresses: null
oomScoreAdj: -999
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: "", rootHnsEndpointName: "", sourceVip: ""}
windowsRunAsService: false
"""


def test_every_field_of_upstream_is_known_and_its_defaults_are_ours(tmp_path):
    bare = configured(tmp_path, "kind: KubeProxyConfiguration\nclusterCIDR: 10.244.0.0/16\nclientConnection: {kubeconfig: /k}\n")
    assert configured(tmp_path, EVERY_FIELD).values == bare.values


def test_settings_that_are_written_can_be_read_again(tmp_path):
    path = tmp_path / "written"
    assert main(["--cluster-cidr=10.244.0.0/16", "--proxy-mode=nftables", "--masquerade-all", "--oom-score-adj=-5",
                 "--iptables-sync-period=1500ms", f"--write-config-to={path}"]) == 0
    config = read([f"--config={path}"])[0]
    assert (config.mode, config["nftables.masqueradeAll"], config.sync_period()) == ("nftables", True, 1.5)
    assert config["oomScoreAdj"] == -5
    assert main([f"--write-config-to={tmp_path}/no/such/folder"]) == 1


UPSTREAM_FLAGS = """
bind-address bind-address-hard-fail boot-id-file cleanup cluster-cidr config config-sync-period conntrack-max-per-core
conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established
conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode feature-gates healthz-bind-address healthz-port
help hostname-override init-only iptables-localhost-nodeports iptables-masquerade-bit iptables-min-sync-period
iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp ipvs-sync-period
ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst kube-api-content-type kube-api-qps kubeconfig
log-flush-frequency log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream
logging-format machine-id-file masquerade-all master metrics-bind-address metrics-port nodeport-addresses
oom-score-adj pod-bridge-interface pod-interface-name-prefix profiling proxy-mode show-hidden-metrics-for-version v
version vmodule write-config-to
"""


def test_every_flag_of_upstream_is_known():
    assert set(UPSTREAM_FLAGS.split()) - {flag.name for flag in FLAGS} == set()


@pytest.mark.parametrize(("flags", "healthz", "metrics"), [
    ([], "0.0.0.0:10256", "127.0.0.1:10249"), (["--bind-address=::"], "[::]:10256", "[::1]:10249"),
    (["--healthz-port=0", "--metrics-port=0"], "", ""), (["--healthz-port=1", "--metrics-port=2"], "0.0.0.0:1", "127.0.0.1:2"),
    (["--healthz-bind-address=1.2.3.4", "--metrics-bind-address=::1"], "1.2.3.4:10256", "[::1]:10249"),
    (["--healthz-bind-address=1.2.3.4:5", "--healthz-port=6", "--metrics-bind-address="], "1.2.3.4:5", ""),
    (["--healthz-bind-address=1.2.3.4", "--healthz-port=6"], "1.2.3.4:6", "127.0.0.1:10249")])
def test_addresses_to_serve_on(flags, healthz: str, metrics: str):
    config, _ = read(flags)
    assert (config["healthzBindAddress"], config["metricsBindAddress"]) == (healthz, metrics)


def test_sync_periods_are_one_flag_for_all_modes():
    for mode in ("iptables", "nftables", "userspace"):
        config, _ = read([f"--proxy-mode={mode}", "--iptables-sync-period=5s", "--iptables-min-sync-period=2s"])
        assert (config.sync_period(), config.min_sync_period()) == (5.0, 2.0)


@pytest.mark.parametrize(("text", "ports"), [("", range(0)), ("0-0", range(0)), ("40000-40009", range(40000, 40010)),
                                             ("40000+9", range(40000, 40010)), ("40000", range(40000, 40001))])
def test_port_ranges(text: str, ports: range):
    assert read([f"--proxy-port-range={text}"])[0].proxy_ports() == ports


@pytest.mark.parametrize(("text", "words"), [
    ("kind: Pod\n", "want KubeProxyConfiguration, got 'Pod'"), ("kind: [\n", "not YAML"), ("- a list\n", "not YAML"),
    ("mode: iptables\n", "kind: it is missing"), ("kind: KubeProxyConfiguration\napiVersion:\n", "apiVersion: it is missing"),
    ("# apiVersion\n", "kind: it is missing"), ("# apiVersion\n[]\n", "kind: it is missing"),
    ("kind: KubeProxyConfiguration\napiVersion: v9\n", "want kubeproxy"), ("kind: KubeProxyConfiguration\nipvs: 5\n", "ipvs: want a map"),
    ("kind: KubeProxyConfiguration\nipvs: {strictARP: 5}\n", "ipvs.strictARP: want a bool"),
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
    assert (config.mode, config.sync_period(), config.min_sync_period()) == ("nftables", 7.0, 2.0)
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
    (["--nodeport-addresses=x"], UsageError, "no network"), (["--nodeport-addresses=primary,10.0.0.0/8"], UsageError, "alone"),
    (["--cluster-cidr=10.0.0.0/8,10.1.0.0/16"], UsageError, "one network of each"), (["--bind-address=here"], UsageError, "bindAddress"),
    (["--detect-local-mode=BridgeInterface"], UsageError, "pod-bridge-interface"),
    (["--detect-local-mode=InterfaceNamePrefix"], UsageError, "interfaceNamePrefix"), (["--oom-score-adj=-1001"], UsageError, "-1000"),
    (["--conntrack-min=-1"], UsageError, "conntrack.min"), (["--iptables-sync-period=-1s"], UsageError, "more than 0"),
    (["--iptables-sync-period=1s", "--iptables-min-sync-period=2s"], UsageError, "minSyncPeriod"),
    (["--healthz-bind-address=a:b:c"], UsageError, "healthzBindAddress"), (["--metrics-bind-address=1.2.3.4:99999"], UsageError, "metrics"),
    (["--proxy-port-range=9-1"], UsageError, "range"), (["--config-sync-period=-1s"], UsageError, "configSyncPeriod"), (["--iptables-backend=pf"], UsageError, "pf"),
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
    said = capsys.readouterr().out
    assert all(f"--{flag.name}" in said for flag in FLAGS), "what has no effect is named, too"
    assert "without effect here:" in said


def test_feature_gates(tmp_path, capsys):
    assert read([])[0].gate("ComponentFlagz")
    made, _ = read(["--feature-gates=AllowServiceExternalIPs=false,Whatever=true", "--feature-gates=ComponentStatusz=F"])
    assert [made.gate(name) for name in ("AllowServiceExternalIPs", "ComponentStatusz", "ComponentFlagz")] == [False, False, True]
    assert made.nested()["featureGates"] == {"AllowServiceExternalIPs": False, "Whatever": True, "ComponentStatusz": False}
    by_file = configured(tmp_path, "kind: KubeProxyConfiguration\nfeatureGates: {ComponentFlagz: false}\n", "--feature-gates=ComponentStatusz=false")
    assert (by_file.gate("ComponentFlagz"), by_file.gate("ComponentStatusz")) == (False, True), "a file takes the flag's place"
    assert main(["--feature-gates=ComponentFlagz=maybe"]) == 1
    assert "--feature-gates (featureGates): ComponentFlagz: want true or false, got 'maybe'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="want true or false, got 5"):
        configured(tmp_path, "kind: KubeProxyConfiguration\nfeatureGates: {ComponentFlagz: 5}\n")


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


@pytest.mark.root
@pytest.mark.parametrize(("flags", "addresses", "tools", "served"), [
    ([], ["172.30.0.11"], "46", "46"), ([], ["fd00::1", "172.30.0.11"], "46", "64"), ([], ["fd00::1"], "6", "6"),
    ([], [], "46", "46"), (["--bind-address=::"], ["172.30.0.11"], "46", "46"), (["--bind-address=::"], ["fd00::1"], "46", "64"),
    (["--bind-address=fd00::9"], ["172.30.0.11"], "46", "64"), (["--bind-address=172.30.0.9"], ["fd00::1"], "46", "46"),
    ([], ["172.30.0.11"], "4", "4"), (["--proxy-mode=nftables"], ["fd00::1"], "", "64"), ([], ["fd00::1"], "4", None),
    (["--bind-address=0.0.0.0"], ["172.30.0.11"], "6", None)])
def test_the_node_tells_which_family_comes_first(flags, addresses: list[str], tools: str, served: str | None):
    """As upstream: an address in --bind-address wins, the word for every address says nothing."""
    node = a_node() | {"status": {"addresses": [{"type": "InternalIP", "address": each} for each in addresses]}}
    there: list[Family] = [f"IPv{each}" for each in tools]
    with netns.inside(fd := netns.new_netns()):
        sysctl.write("net.ipv6.conf.all.disable_ipv6", "0")
        if served is None:
            with pytest.raises(Unsupported, match="no iptables for it"):
                host.families(read(flags)[0], node, there)
        else:
            assert host.families(read(flags)[0], node, there) == tuple(f"IPv{each}" for each in served)
    os.close(fd)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize("able", [False, True])
def test_without_rights_it_ends_and_says_what_it_lacks_and_with_them_it_needs_not_be_root(mode: str, able: bool):
    """As upstream: CAP_NET_ADMIN is enough (where the sysctls were set before, by --init-only)."""
    drop = "-all" + (",+net_admin" if able else "")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={drop}", f"--ambient-caps={drop}",
              f"--bounding-set={drop}"]
    body = "from netlab.proxy import cleanup, host, main\n" + (
        "from netlab.kernel import nft_table\nimport socket\nhost.demand_rights([])\nprint(nft_table.held(socket.AF_INET, 'x'))"
        if mode == "nftables" else "host.demand_rights(main.find_tools('nft').values())\nprint(cleanup.run('nft'))")
    with netns.inside(fd := netns.new_netns()):
        done = subprocess.run([*nobody, sys.executable, "-P", "-c", body], capture_output=True, text=True, check=False)
    os.close(fd)
    if able:
        assert (done.returncode, done.stdout) == (0, "None\n" if mode == "nftables" else "0\n"), done.stderr
    else:
        assert "Unsupported: this process may not write rules in its network namespace" in done.stderr


@pytest.mark.parametrize(("flags", "addresses"), [
    ([], ("0.0.0.0", "::")), (["--nodeport-addresses=172.30.0.0/24"], ("172.30.0.11", "::")),
    (["--nodeport-addresses=primary"], ("172.30.0.11", "::")), (["--proxy-mode=nftables", "--bind-address=172.30.0.9"], ("172.30.0.9", "::")),
    (["--nodeport-addresses=172.30.0.0/24,fd00::/64"], ("172.30.0.11", "fd00::1"))])
def test_where_health_checks_are_served(flags, addresses):
    config, _ = read(["--hostname-override=node1", *flags])
    own = ("127.0.0.1", "::1", "172.30.0.11", "172.30.0.9", "fd00::1") if "--bind-address=172.30.0.9" in flags else (
        "127.0.0.1", "::1", "172.30.0.11", "fd00::1")
    made = [host.settings(config, family, node=a_node(), addresses=own) for family in ("IPv4", "IPv6")]
    assert host.listens(made) == addresses


def test_bind_address_takes_the_place_of_the_node_s_own():
    config, _ = read(["--hostname-override=node1", "--bind-address=172.30.0.9"])
    assert host.settings(config, "IPv4", node=a_node()).node_ip == "172.30.0.9"
    assert host.settings(config, "IPv6", node=a_node(ip="fd00::1")).node_ip == "fd00::1"


SYSCTLS = ("net.ipv4.conf.all.route_localnet", *(f"net.netfilter.nf_conntrack_{name}" for name in (
    "tcp_be_liberal", "tcp_timeout_established", "tcp_timeout_close_wait", "udp_timeout", "udp_timeout_stream")))


@pytest.mark.root
@pytest.mark.parametrize(("flags", "changed"), [
    pytest.param([], {"route_localnet": "1", "established": "86400", "close_wait": "3600"}, id="defaults"),
    pytest.param(["--iptables-localhost-nodeports=false"], {"established": "86400", "close_wait": "3600"}, id="no node ports on loopback"),
    pytest.param(["--nodeport-addresses=172.30.0.0/24"], {"established": "86400", "close_wait": "3600"}, id="loopback is not among the networks"),
    pytest.param(["--proxy-mode=nftables"], {"established": "86400", "close_wait": "3600"}, id="nftables mode has no use for it"),
    pytest.param(["--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"], {"route_localnet": "1"}, id="0 leaves it"),
    pytest.param(["--conntrack-tcp-be-liberal", "--conntrack-udp-timeout=40s", "--conntrack-udp-timeout-stream=5m",
                  "--conntrack-tcp-timeout-established=1h", "--iptables-localhost-nodeports=false"],
                 {"liberal": "1", "established": "3600", "close_wait": "3600", "udp_timeout": "40", "timeout_stream": "300"}, id="all of them")])
def test_init_only_sets_the_sysctls_and_ends(flags, changed, caplog):
    with netns.inside(fd := netns.new_netns()):
        before = {name: sysctl.read(name) for name in SYSCTLS}
        config, _ = read(["--hostname-override=node1", *flags])
        host.prepare(config, host.settings(config, "IPv4", node=None))
        after = {name: sysctl.read(name) for name in SYSCTLS}
    os.close(fd)
    assert {next(short for short in changed if name.endswith(short)): value for name, value in after.items()
            if value != before[name]} == changed
    refused = [record.message for record in caplog.records if "does not take" in record.message]
    assert len(refused) <= 1, "what only the first namespace has is said once"


@pytest.mark.parametrize(("flags", "primary", "dual", "words"), [
    ([], "IPv4", True, ["nodePortAddresses is not set", "clusterCIDR is not set"]),
    (["--proxy-mode=nftables", "--cluster-cidr=10.0.0.0/8"], "IPv4", True, []),
    (["--nodeport-addresses=primary", "--detect-local-mode=NodeCIDR"], "IPv4", True, []),
    (["--nodeport-addresses=10.0.0.0/8", "--cluster-cidr=10.0.0.0/8"], "IPv4", True, ["holds no IPv6 network"]),
    (["--nodeport-addresses=10.0.0.0/8", "--cluster-cidr=10.0.0.0/8"], "IPv4", False, []),
    (["--nodeport-addresses=10.0.0.0/8", "--cluster-cidr=10.0.0.0/8"], "IPv6", False, ["no IPv6 network: IPv6 node ports", "clusterCIDR holds no IPv6"])])
def test_what_works_and_is_probably_not_meant(flags, primary: Family, dual: bool, words: list[str]):
    config, _ = read(flags)
    found = list(doubts(config.values, config.mode, primary, dual=dual))
    assert len(found) == len(words), found
    assert all(each in line for each, line in zip(words, found, strict=True))
