"""kube-proxy's flags and its KubeProxyConfiguration file: one table for both.

https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/ and
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/. As upstream, a file given by --config
takes the place of the flags, except for those that say where and what to do (`_BESIDE_FILE`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from netlab.errors import ManifestError, Unsupported, UsageError
from netlab.flags import Flag, Flags, Kind, parse, parse_duration
from netlab.proxy.addresses import Family, family, is_everything, network

PROGRAM = "kube-proxy"
MODES = ("iptables", "nftables")
DETECT_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")


@dataclass(frozen=True)
class _Row:
    """A setting: its flag, its kind and default, and its field in the configuration file ("" when it has none)."""

    flag: str
    kind: Kind
    field: str
    default: Any = None
    help: str = ""


_ROWS: tuple[_Row, ...] = (
    _Row("kubeconfig", "string", "clientConnection.kubeconfig", help="The API server's address and credentials"),
    _Row("hostname-override", "string", "hostnameOverride", help="Name of this node; its host name when empty"),
    _Row("proxy-mode", "string", "mode", help="How Services are served: iptables or nftables"),
    _Row("cluster-cidr", "list", "clusterCIDR", help="Networks of the Pods; traffic from elsewhere is masqueraded"),
    _Row("detect-local-mode", "string", "detectLocalMode", help="How local Pods are told: " + ", ".join(DETECT_MODES)),
    _Row("pod-bridge-interface", "string", "detectLocal.bridgeInterface", help="The Pods' bridge, for BridgeInterface"),
    _Row("pod-interface-name-prefix", "string", "detectLocal.interfaceNamePrefix",
         help="Prefix of the Pods' interfaces, for InterfaceNamePrefix"),
    _Row("masquerade-all", "bool", "iptables.masqueradeAll", help="Masquerade all traffic to cluster addresses"),
    _Row("masquerade-all", "bool", "nftables.masqueradeAll", help="Masquerade all traffic to cluster addresses"),
    _Row("iptables-masquerade-bit", "int", "iptables.masqueradeBit", 14,
         "Bit of the packet mark that asks to masquerade"),
    _Row("iptables-masquerade-bit", "int", "nftables.masqueradeBit", 14,
         "Bit of the packet mark that asks to masquerade"),
    _Row("nftables-min-sync-period", "duration", "nftables.minSyncPeriod", 1.0, "Least time between bursts of syncs"),
    _Row("nftables-sync-period", "duration", "nftables.syncPeriod", 30.0, "How often rules are looked after"),
    _Row("iptables-min-sync-period", "duration", "iptables.minSyncPeriod", 1.0, "Least time between bursts of syncs"),
    _Row("iptables-sync-period", "duration", "iptables.syncPeriod", 30.0, "How often rules are looked after"),
    _Row("iptables-localhost-nodeports", "bool", "iptables.localhostNodePorts", True,
         "Serve node ports on 127.0.0.1 as well"),
    _Row("nodeport-addresses", "list", "nodePortAddresses", help="Networks of node ports; all when empty"),
    _Row("bind-address", "string", "bindAddress", "0.0.0.0", "Tells the node's primary address family"),
    _Row("healthz-bind-address", "string", "healthzBindAddress", "0.0.0.0:10256", "Where /healthz is served"),
    _Row("metrics-bind-address", "string", "metricsBindAddress", "127.0.0.1:10249", "Where /metrics is served"),
    _Row("conntrack-max-per-core", "int", "conntrack.maxPerCore", 32768, "Connections to track per core; 0 leaves it"),
    _Row("conntrack-min", "int", "conntrack.min", 131072, "Least number of connections to track"),
    _Row("conntrack-tcp-be-liberal", "bool", "conntrack.tcpBeLiberal", help="Let packets outside the window pass"),
    _Row("conntrack-tcp-timeout-established", "duration", "conntrack.tcpEstablishedTimeout", 86400.0,
         "How long an idle connection is remembered; 0 leaves it"),
    _Row("conntrack-tcp-timeout-close-wait", "duration", "conntrack.tcpCloseWaitTimeout", 3600.0,
         "The same in CLOSE_WAIT; 0 leaves it"),
    _Row("conntrack-udp-timeout", "duration", "conntrack.udpTimeout", help="The same for unanswered UDP; 0 leaves it"),
    _Row("conntrack-udp-timeout-stream", "duration", "conntrack.udpStreamTimeout",
         help="The same for answered UDP; 0 leaves it"),
)

_OWN: tuple[Flag, ...] = (
    Flag("config", help="KubeProxyConfiguration file; it takes the place of most flags"),
    Flag("master", help="Address of the API server; wins over the kubeconfig's"),
    Flag("cleanup", "bool", help="Remove the rules of kube-proxy and exit"),
    Flag("init-only", "bool", help="Set the sysctls that need most rights, and exit"),
    Flag("iptables-backend", default="auto", help="auto, nft or legacy; auto is what iptables is here (netlab's own)"),
    Flag("v", "int", help="Verbosity of the log; 4 and up is debug"),
    Flag("version", "bool", help="Print the version and exit"),
    Flag("help", "bool", help="Print this help and exit"),
)
_UNUSED = (
    ("bind-address-hard-fail", "bool"), ("config-sync-period", "duration"), ("feature-gates", "map"),
    ("kube-api-burst", "int"), ("kube-api-content-type", "string"), ("kube-api-qps", "float"), ("oom-score-adj", "int"),
    ("profiling", "bool"), ("proxy-port-range", "string"), ("show-hidden-metrics-for-version", "string"),
    ("log-flush-frequency", "duration"), ("logging-format", "string"), ("vmodule", "string"), ("healthz-port", "int"),
    ("metrics-port", "int"), ("log-text-split-stream", "bool"), ("log-json-split-stream", "bool"),
    ("log-text-info-buffer-size", "string"), ("log-json-info-buffer-size", "string"), ("boot-id-file", "string"),
    ("machine-id-file", "string"), ("ipvs-scheduler", "string"), ("ipvs-min-sync-period", "duration"),
    ("ipvs-sync-period", "duration"), ("ipvs-exclude-cidrs", "list"), ("ipvs-strict-arp", "bool"),
    ("ipvs-tcp-timeout", "duration"), ("ipvs-tcpfin-timeout", "duration"), ("ipvs-udp-timeout", "duration"),
    ("write-config-to", "string"),
)
FLAGS: tuple[Flag, ...] = (
    *{row.flag: Flag(row.flag, row.kind, row.default, row.help) for row in _ROWS}.values(), *_OWN,
    *(Flag(name, kind, ignored=True) for name, kind in _UNUSED),  # type: ignore[arg-type]
)
_BESIDE_FILE = frozenset({"hostname-override", *(flag.name for flag in _OWN)})
_SECTIONS = ("clientConnection", "iptables", "nftables", "conntrack", "detectLocal")
_IGNORED_FIELDS = frozenset({"apiVersion", "kind", "clientConnection", "ipvs", "nftables", "winkernel", "logging",
                             "featureGates", "enableProfiling", "configSyncPeriod", "oomScoreAdj", "portRange",
                             "showHiddenMetricsForVersion", "bindAddressHardFail", "iptables", "conntrack",
                             "detectLocal"})


@dataclass(frozen=True)
class Config:
    """What kube-proxy is to do. `values` are the settings by field name of the configuration file."""

    values: Mapping[str, Any]
    master: str = ""
    cleanup: bool = False
    init_only: bool = False
    backend: str = "auto"
    verbosity: int = 0
    unknown: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def nested(self) -> dict[str, Any]:
        """Return the settings in the shape of the configuration file."""
        result: dict[str, Any] = {}
        for name, value in self.values.items():
            section, dot, leaf = name.partition(".")
            if dot:
                result.setdefault(section, {})[leaf] = value
            else:
                result[name] = value
        return result

    @property
    def node(self) -> str:
        """Return this node's name, lower case as the API has it."""
        return str(self["hostnameOverride"] or socket.gethostname()).strip().lower()

    def cluster_cidr(self, wanted: Family) -> str:
        """Return the Pods' network of a family, or ""."""
        return next((cidr for cidr in self["clusterCIDR"] if family(cidr) == wanted), "")

    @property
    def mode(self) -> str:
        """Return how Services are served: `iptables` or `nftables`."""
        return str(self["mode"] or "iptables")

    @property
    def detect_mode(self) -> str:
        """Return how local Pods are told."""
        return str(self["detectLocalMode"] or "ClusterCIDR")

    def min_sync_period(self) -> float:
        """Return seconds; 0 means the default, as in upstream's defaulting."""
        return float(self[f"{self.mode}.minSyncPeriod"] or 1.0)

    def sync_period(self) -> float:
        """Return seconds."""
        return float(self[f"{self.mode}.syncPeriod"] or 30.0)


def read(argv: Sequence[str]) -> tuple[Config, Flags]:
    """Return the settings of a command line, its --config file read.

    Raises:
        UsageError: a flag or a value is wrong; ManifestError: the file is; Unsupported: what is asked for is.
    """
    flags = parse(PROGRAM, argv, FLAGS)
    if flags.args:
        raise UsageError(f"unknown arguments: {' '.join(flags.args)}")
    values = {row.field: flags[row.flag] for row in _ROWS}
    unknown: tuple[str, ...] = ()
    if flags["config"]:
        found, unknown = read_file(Path(flags["config"]))
        values = {row.field: _default(row) for row in _ROWS} | found
        values |= {row.field: flags[row.flag] for row in _ROWS
                   if row.flag in _BESIDE_FILE and row.flag in flags.given}
    config = Config(values, flags["master"], flags["cleanup"], flags["init-only"], flags["iptables-backend"],
                    flags["v"], unknown)
    check(config)
    return config, flags


def read_file(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the settings that a KubeProxyConfiguration file gives, and the fields that nobody here knows.

    Raises:
        ManifestError: it cannot be read, is no such file, or holds a value of the wrong kind.
    """
    try:
        found = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    except OSError as error:
        raise ManifestError(f"cannot read it: {error.strerror}", file=str(path)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ManifestError(f"not YAML: {getattr(error, 'problem', error)}", file=str(path),
                            line=mark.line + 1 if mark else 0) from None
    if not isinstance(found, dict) or found.get("kind") != "KubeProxyConfiguration":
        raise ManifestError("want a KubeProxyConfiguration", file=str(path), field="kind")
    return read_document(found, file=str(path))


def read_document(document: Mapping[str, Any], *, file: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the same of a document that has been read; `file` is for errors.

    Raises:
        ManifestError: it holds a value of the wrong kind.
    """
    rows = {row.field: row for row in _ROWS if row.field}
    values: dict[str, Any] = {}
    unknown = []
    for name, value in _leaves(document):
        row = rows.get(name)
        if row is not None:
            if value is not None:
                values[name] = _value(row, value, file)
        elif name.partition(".")[0] not in _IGNORED_FIELDS:
            unknown.append(name)
    return values, tuple(unknown)


def check_document(document: Mapping[str, Any], *, file: str) -> None:
    """Refuse fields of a KubeProxyConfiguration that cannot work, or that there are none of.

    Raises:
        ManifestError: an unknown field, or a value of the wrong kind; UsageError, Unsupported: as `check`.
    """
    found, unknown = read_document(document, file=file)
    if unknown:
        raise ManifestError(f"a KubeProxyConfiguration has no field {unknown[0]}", file=file, field=unknown[0])
    check(Config({row.field: _default(row) for row in _ROWS} | found))


def check(config: Config) -> None:
    """Refuse what cannot work.

    Raises:
        UsageError: a value is off; Unsupported: a mode that is not there.
    """
    mode = config.mode
    if mode == "ipvs":
        raise Unsupported("proxy mode ipvs is not served: upstream deprecated it, and most kernels' network namespaces "
                          "lack it", hint="use --proxy-mode=iptables or nftables")
    if mode not in MODES:
        raise Unsupported(f"unknown proxy mode {mode!r}", hint="use --proxy-mode=iptables or nftables")
    if config.detect_mode not in DETECT_MODES:
        raise UsageError(f"--detect-local-mode: unknown mode {config.detect_mode!r}", hint=f"one of {DETECT_MODES}")
    if not 0 <= config[f"{mode}.masqueradeBit"] <= 31:
        raise UsageError("--iptables-masquerade-bit: must be from 0 to 31")
    for flag, name in (("cluster-cidr", "clusterCIDR"), ("nodeport-addresses", "nodePortAddresses")):
        for text in config[name]:
            if not network(text) and text != "primary":
                raise UsageError(f"--{flag}: {text!r} is no network such as 10.244.0.0/16")
    if any(is_everything(cidr) for cidr in config["clusterCIDR"]):
        raise UsageError("--cluster-cidr: a network that holds every address tells nothing about Pods")
    if config.backend not in ("auto", "nft", "legacy"):
        raise UsageError(f"--iptables-backend: unknown backend {config.backend!r}", hint="auto, nft or legacy")


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        path = f"{prefix}{name}"
        if isinstance(each, Mapping) and path in _SECTIONS:
            yield from _leaves(each, f"{path}.")
        else:
            yield path, each


def _default(row: _Row) -> Any:
    return parse(PROGRAM, [], [Flag(row.flag, row.kind, row.default)])[row.flag]


def _value(row: _Row, value: Any, file: str) -> Any:
    wanted: Mapping[str, tuple[type[Any], ...]] = {"string": (str,), "bool": (bool,), "int": (int,),
                                                    "list": (list, str),
                                           "duration": (str, int, float)}
    if not isinstance(value, wanted[row.kind]) or (isinstance(value, bool) and row.kind != "bool"):
        raise ManifestError(f"want a {row.kind}, got {value!r}", file=file, field=row.field)
    if row.kind == "duration":
        try:
            return parse_duration(value) if isinstance(value, str) else float(value)
        except UsageError as error:
            raise ManifestError(str(error), file=file, field=row.field) from None
    if row.kind == "list" and isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value
