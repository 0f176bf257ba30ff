"""kube-proxy's settings as one table: each with its flag, its field in KubeProxyConfiguration, and its default.

https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/ and
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from netlab.flags import Flag, Kind

MODES: Final = ("iptables", "nftables", "userspace")
DETECT_MODES: Final = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")

GATES: Final[Mapping[str, tuple[str, str]]] = {
    "AllowServiceExternalIPs": ("DEPRECATED", "serve externalIPs of Services"),
    "ComponentFlagz": ("BETA", "serve /flagz"), "ComponentStatusz": ("BETA", "serve /statusz")}
"""The feature gates of v1.36 that mean something here, each on unless it is set to false: their stage, what for."""


@dataclass(frozen=True)
class Row:
    """A setting: its flag, its kind and default, and its field in the configuration file."""

    flag: str
    kind: Kind
    field: str
    default: Any = None
    help: str = ""


ROWS: Final[tuple[Row, ...]] = (
    Row("kubeconfig", "string", "clientConnection.kubeconfig", help="The API server's address and credentials"),
    Row("hostname-override", "string", "hostnameOverride", help="Name of this node; its host name when empty"),
    Row("proxy-mode", "string", "mode",
        help="How Services are served: iptables, nftables, or userspace (for teaching; upstream removed it in 1.26)"),
    Row("cluster-cidr", "list", "clusterCIDR", help="Networks of the Pods; traffic from elsewhere is masqueraded"),
    Row("detect-local-mode", "string", "detectLocalMode", help="How local Pods are told: " + ", ".join(DETECT_MODES)),
    Row("pod-bridge-interface", "string", "detectLocal.bridgeInterface", help="The Pods' bridge, for BridgeInterface"),
    Row("pod-interface-name-prefix", "string", "detectLocal.interfaceNamePrefix",
        help="Prefix of the Pods' interfaces, for InterfaceNamePrefix"),
    Row("masquerade-all", "bool", "iptables.masqueradeAll", help="Masquerade all traffic to cluster addresses"),
    Row("masquerade-all", "bool", "nftables.masqueradeAll", help="Masquerade all traffic to cluster addresses"),
    Row("iptables-masquerade-bit", "int", "iptables.masqueradeBit", 14,
        "Bit of the packet mark that asks to masquerade"),
    Row("iptables-masquerade-bit", "int", "nftables.masqueradeBit", 14,
        "Bit of the packet mark that asks to masquerade"),
    Row("nftables-min-sync-period", "duration", "nftables.minSyncPeriod", 1.0,
        "The same as --iptables-min-sync-period, for nftables mode alone (netlab's own)"),
    Row("nftables-sync-period", "duration", "nftables.syncPeriod", 30.0,
        "The same as --iptables-sync-period, for nftables mode alone (netlab's own)"),
    Row("iptables-min-sync-period", "duration", "iptables.minSyncPeriod", 1.0,
        "Least time between bursts of syncs, in every mode"),
    Row("iptables-sync-period", "duration", "iptables.syncPeriod", 30.0,
        "How often rules are looked after, in every mode"),
    Row("iptables-localhost-nodeports", "bool", "iptables.localhostNodePorts", True,
        "Serve node ports on 127.0.0.1 as well"),
    Row("nodeport-addresses", "list", "nodePortAddresses",
        help="Networks of node ports, or the word primary for the node's own address; everywhere when empty"),
    Row("bind-address", "string", "bindAddress", "0.0.0.0",
        "Tells the node's primary address family; in userspace mode also where the proxy listens"),
    Row("bind-address-hard-fail", "bool", "bindAddressHardFail",
        help="End when a port cannot be served, which is else tried again"),
    Row("healthz-bind-address", "string", "healthzBindAddress", "0.0.0.0:10256", "Where /healthz is served"),
    Row("metrics-bind-address", "string", "metricsBindAddress", "127.0.0.1:10249", "Where /metrics is served"),
    Row("proxy-port-range", "string", "portRange", help="Ports that userspace mode listens on, such as 40000-40999"),
    Row("feature-gates", "map", "featureGates",
        help="; ".join(f"{name} (true): {said}" for name, (_, said) in GATES.items()) + "; others mean nothing here"),
    Row("oom-score-adj", "int", "oomScoreAdj", -999, "How unlikely the kernel is to kill this process, from -1000"),
    Row("config-sync-period", "duration", "configSyncPeriod", 900.0,
        "Upstream's refresh of its copies; a watch is followed here, so nothing needs it"),
    Row("conntrack-max-per-core", "int", "conntrack.maxPerCore", 32768, "Connections to track per core; 0 leaves it"),
    Row("conntrack-min", "int", "conntrack.min", 131072, "Least number of connections to track"),
    Row("conntrack-tcp-be-liberal", "bool", "conntrack.tcpBeLiberal", help="Let packets outside the window pass"),
    Row("conntrack-tcp-timeout-established", "duration", "conntrack.tcpEstablishedTimeout", 86400.0,
        "How long an idle connection is remembered; 0 leaves it"),
    Row("conntrack-tcp-timeout-close-wait", "duration", "conntrack.tcpCloseWaitTimeout", 3600.0,
        "The same in CLOSE_WAIT; 0 leaves it"),
    Row("conntrack-udp-timeout", "duration", "conntrack.udpTimeout", help="The same for unanswered UDP; 0 leaves it"),
    Row("conntrack-udp-timeout-stream", "duration", "conntrack.udpStreamTimeout",
        help="The same for answered UDP; 0 leaves it"),
)

OWN: Final[tuple[Flag, ...]] = (
    Flag("config", help="KubeProxyConfiguration file; it takes the place of most flags"),
    Flag("write-config-to", help="Write the settings to this file and exit"),
    Flag("master", help="Address of the API server; wins over the kubeconfig's"),
    Flag("cleanup", "bool", help="Remove the rules of kube-proxy, of every mode, and exit"),
    Flag("init-only", "bool", help="Set the sysctls that need most rights, and exit"),
    Flag("iptables-backend", default="auto", help="auto, nft or legacy; auto is what iptables is here (netlab's own)"),
    Flag("healthz-port", "int", 10256, "Port of /healthz, 0 for none; --healthz-bind-address wins"),
    Flag("metrics-port", "int", 10249, "Port of /metrics, 0 for none; --metrics-bind-address wins"),
    Flag("v", "int", help="Verbosity of the log; 4 and up is debug"),
    Flag("version", "bool", help="Print the version and exit"),
    Flag("help", "bool", help="Print this help and exit"),
)

_UNUSED: Final[tuple[tuple[str, Kind], ...]] = (
    ("kube-api-burst", "int"), ("kube-api-content-type", "string"),
    ("kube-api-qps", "float"), ("profiling", "bool"), ("show-hidden-metrics-for-version", "string"),
    ("log-flush-frequency", "duration"), ("logging-format", "string"), ("vmodule", "string"),
    ("log-text-split-stream", "bool"), ("log-json-split-stream", "bool"), ("log-text-info-buffer-size", "string"),
    ("log-json-info-buffer-size", "string"), ("boot-id-file", "string"), ("machine-id-file", "string"),
    ("ipvs-scheduler", "string"), ("ipvs-min-sync-period", "duration"), ("ipvs-sync-period", "duration"),
    ("ipvs-exclude-cidrs", "list"), ("ipvs-strict-arp", "bool"), ("ipvs-tcp-timeout", "duration"),
    ("ipvs-tcpfin-timeout", "duration"), ("ipvs-udp-timeout", "duration"),
)
"""Upstream's flags that mean nothing here: checked for form, otherwise passed over."""

FLAGS: Final[tuple[Flag, ...]] = (
    *{row.flag: Flag(row.flag, row.kind, row.default, row.help) for row in ROWS}.values(), *OWN,
    *(Flag(name, kind, ignored=True) for name, kind in _UNUSED),
)

BESIDE_FILE: Final = frozenset({"hostname-override", *(flag.name for flag in OWN)})
"""Flags that count although a file is given."""

IGNORED_FIELDS: Final[Mapping[str, Kind]] = {
    "apiVersion": "string", "kind": "string", "enableProfiling": "bool",
    "showHiddenMetricsForVersion": "string", "windowsRunAsService": "bool",
    "clientConnection.acceptContentTypes": "string", "clientConnection.contentType": "string",
    "clientConnection.qps": "float", "clientConnection.burst": "int",
    "logging.format": "string", "logging.flushFrequency": "duration", "logging.verbosity": "int",
    "logging.vmodule": "list", "logging.options": "map",
    "ipvs.syncPeriod": "duration", "ipvs.minSyncPeriod": "duration", "ipvs.scheduler": "string",
    "ipvs.excludeCIDRs": "list", "ipvs.strictARP": "bool", "ipvs.tcpTimeout": "duration",
    "ipvs.tcpFinTimeout": "duration", "ipvs.udpTimeout": "duration",
    "winkernel.networkName": "string", "winkernel.sourceVip": "string", "winkernel.enableDSR": "bool",
    "winkernel.rootHnsEndpointName": "string", "winkernel.forwardHealthCheckVip": "bool",
}
"""Fields of the file that mean nothing here, or are read under another name."""

SECTIONS: Final = frozenset({name.partition(".")[0] for name in (*IGNORED_FIELDS, *(row.field for row in ROWS))
                             if "." in name})
