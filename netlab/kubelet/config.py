"""The kubelet's flags and its KubeletConfiguration file; a flag that was given wins over the file.

https://kubernetes.io/docs/reference/command-line-tools-reference/kubelet/ and .../config-api/kubelet-config.v1beta1/
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from netlab.api.meta import Object
from netlab.errors import ManifestError, NotFound, UsageError
from netlab.flags import Flag, Flags, Kind, parse_duration

_IGNORED: Mapping[Kind, str] = {
    "string": """bootstrap-kubeconfig cgroup-driver cgroup-root cloud-provider kubelet-cgroups runtime-cgroups
        pod-infra-container-image provider-id cert-dir topology-manager-policy cpu-manager-policy
        image-credential-provider-config image-credential-provider-bin-dir container-log-max-size tls-min-version
        runtime-request-timeout log-file seccomp-default feature-gates system-reserved kube-reserved eviction-hard
        eviction-soft vmodule logging-format""",
    "bool": """rotate-certificates rotate-server-certificates fail-swap-on cgroups-per-qos fail-cgroupv1
        authentication-token-webhook enable-controller-attach-detach protect-kernel-defaults serialize-image-pulls
        make-iptables-util-chains enable-server logtostderr alsologtostderr""",
    "int": """container-log-max-files image-gc-high-threshold image-gc-low-threshold read-only-port event-qps
        event-burst kube-api-qps kube-api-burst registry-qps registry-burst pods-per-core oom-score-adj
        maximum-dead-containers-per-container maximum-dead-containers""",
    "duration": """sync-frequency file-check-frequency node-status-update-frequency http-check-frequency
        streaming-connection-idle-timeout minimum-container-ttl-duration minimum-image-ttl-duration""",
    "list": "enforce-node-allocatable allowed-unsafe-sysctls tls-cipher-suites"}

FLAGS: tuple[Flag, ...] = (
    Flag("kubeconfig", help="kubeconfig that tells where the API server is and who this node is; none: standalone"),
    Flag("config", help="KubeletConfiguration file"),
    Flag("hostname-override", help="the node's name; default: the host name"),
    Flag("node-ip", kind="list", help="the node's addresses, at most one of each family"),
    Flag("node-labels", kind="map", help="labels to register the node with"),
    Flag("register-with-taints", kind="list", help="taints to register the node with: key=value:effect"),
    Flag("register-node", kind="bool", default=True, help="register the node with the API server"),
    Flag("register-schedulable", kind="bool", default=True, help="false registers the node as unschedulable"),
    Flag("pod-manifest-path", help="directory of static Pods"),
    Flag("root-dir", default="/var/lib/kubelet", help="directory of the kubelet's own files"),
    Flag("pod-log-dir", default="/var/log/pods", help="directory of the containers' logs"),
    Flag("container-runtime-endpoint", default="unix:///run/netlab/shim.sock", help="the runtime's socket"),
    Flag("cluster-dns", kind="list", help="addresses of the cluster's DNS"),
    Flag("cluster-domain", help="the cluster's domain"),
    Flag("resolv-conf", default="/etc/resolv.conf", help="the node's resolver configuration, for Pods that want it"),
    Flag("address", default="0.0.0.0", help="address to serve on"),
    Flag("port", kind="int", default=10250, help="port to serve on"),
    Flag("healthz-bind-address", default="127.0.0.1", help="address of the plain healthz"),
    Flag("healthz-port", kind="int", default=10248, help="port of the plain healthz, 0 for none"),
    Flag("client-ca-file", help="CA of the clients of the kubelet's server"),
    Flag("anonymous-auth", kind="bool", default=False, help="serve clients without a certificate"),
    Flag("authorization-mode", default="AlwaysAllow", help="who may ask for what: AlwaysAllow, or Webhook, which asks "
         "the API server"),
    Flag("tls-cert-file", help="certificate of the kubelet's server; default: a self-signed one"),
    Flag("tls-private-key-file", help="its key"),
    Flag("max-pods", kind="int", default=110, help="how many Pods this node takes"),
    Flag("cni-conf-dir", default="/etc/cni/net.d", help="directory of network configurations"),
    Flag("cni-bin-dir", kind="list", default=["/opt/cni/bin", "/usr/lib/cni"], help="directories of network plugins"),
    Flag("cni-cache-dir", default="/var/lib/cni", help="directory of the plugins' results"),
    Flag("v", kind="int", help="log level"),
    *(Flag(name, kind=kind, ignored=True) for kind, names in _IGNORED.items() for name in names.split()),
)

_FILE = {  # field of the file: flag that says the same
    "clusterDNS": "cluster-dns", "clusterDomain": "cluster-domain", "staticPodPath": "pod-manifest-path",
    "resolvConf": "resolv-conf", "address": "address", "port": "port", "healthzBindAddress": "healthz-bind-address",
    "healthzPort": "healthz-port", "tlsCertFile": "tls-cert-file", "tlsPrivateKeyFile": "tls-private-key-file",
    "maxPods": "max-pods", "podLogsDir": "pod-log-dir", "containerRuntimeEndpoint": "container-runtime-endpoint",
    "registerNode": "register-node"}


@dataclass(frozen=True)
class Config:
    """How one kubelet is to run. Times are seconds; an empty path means none."""

    node_name: str
    kubeconfig: str = ""
    node_ips: tuple[str, ...] = ()
    node_labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Object, ...] = ()
    register: bool = True
    schedulable: bool = True
    manifests: str = ""
    root: Path = Path("/var/lib/kubelet")
    logs: Path = Path("/var/log/pods")
    runtime: Path = Path("/run/netlab/shim.sock")
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = ""
    resolv_conf: str = "/etc/resolv.conf"
    address: str = "0.0.0.0"
    port: int = 10250
    healthz_address: str = "127.0.0.1"
    healthz_port: int = 10248
    client_ca: str = ""
    anonymous: bool = False
    webhook: bool = False
    """The API server is asked who may do what."""
    certificate: str = ""
    key: str = ""
    max_pods: int = 110
    cni_conf: Path = Path("/etc/cni/net.d")
    cni_bin: tuple[Path, ...] = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
    cni_cache: Path = Path("/var/lib/cni")
    lease_seconds: int = 40
    status_seconds: float = 300.0
    backoff_limit: float = 300.0
    """The longest wait before a crashing container starts again."""
    log_max_bytes: int = 10 << 20
    log_max_files: int = 5
    reserved: Mapping[str, str] = field(default_factory=dict)
    """Resources that Pods do not get: systemReserved and kubeReserved together, by resource name."""


def load(flags: Flags) -> Config:
    """Put flags and file together.

    Raises:
        UsageError: a value of the wrong form.
        NotFound: the file is not there.
        ManifestError: it is no KubeletConfiguration.
    """
    values, document = dict(flags.values), _read(flags["config"]) if flags["config"] else {}
    for name, flag in _FILE.items():
        if name in document and flag not in flags.given:
            values[flag] = document[name]
    authentication = document.get("authentication") or {}
    if "client-ca-file" not in flags.given:
        values["client-ca-file"] = (authentication.get("x509") or {}).get("clientCAFile", values["client-ca-file"])
    if "anonymous-auth" not in flags.given:
        values["anonymous-auth"] = (authentication.get("anonymous") or {}).get("enabled", values["anonymous-auth"])
    mode = values["authorization-mode"]
    if document and "authorization-mode" not in flags.given:
        mode = (document.get("authorization") or {}).get("mode") or "Webhook"
    if mode not in ("AlwaysAllow", "Webhook"):
        raise UsageError(f'unknown authorization mode "{mode}"', hint="AlwaysAllow, Webhook")
    taints = tuple(_taint(t) for t in values["register-with-taints"]) or tuple(document.get("registerWithTaints") or [])
    reserved = [document.get(key) or {} for key in ("systemReserved", "kubeReserved")]
    return Config(
        node_name=(values["hostname-override"] or socket.gethostname()).strip().lower(),
        kubeconfig=values["kubeconfig"], node_ips=tuple(values["node-ip"]), node_labels=values["node-labels"],
        taints=taints, register=bool(values["register-node"]), schedulable=values["register-schedulable"],
        manifests=values["pod-manifest-path"] or "", root=Path(values["root-dir"]), logs=Path(values["pod-log-dir"]),
        runtime=Path(str(values["container-runtime-endpoint"]).removeprefix("unix://")),
        cluster_dns=tuple(values["cluster-dns"] or ()), cluster_domain=str(values["cluster-domain"] or "").strip("."),
        resolv_conf=values["resolv-conf"] or "", address=values["address"], port=int(values["port"]),
        healthz_address=values["healthz-bind-address"], healthz_port=int(values["healthz-port"]),
        client_ca=values["client-ca-file"], anonymous=bool(values["anonymous-auth"]), webhook=mode == "Webhook",
        certificate=values["tls-cert-file"], key=values["tls-private-key-file"], max_pods=int(values["max-pods"]),
        cni_conf=Path(values["cni-conf-dir"]), cni_bin=tuple(Path(p) for p in values["cni-bin-dir"]),
        cni_cache=Path(values["cni-cache-dir"]),
        lease_seconds=int(document.get("nodeLeaseDurationSeconds") or 40),
        status_seconds=_seconds(document.get("nodeStatusReportFrequency"), 300.0),
        backoff_limit=_seconds((document.get("crashLoopBackOff") or {}).get("maxContainerRestartPeriod"), 300.0),
        log_max_bytes=_bytes(document.get("containerLogMaxSize"), 10 << 20),
        log_max_files=int(document.get("containerLogMaxFiles") or 5),
        reserved={name: str(part[name]) for part in reserved for name in part})


def _read(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise NotFound(f"failed to load kubelet config file {path}: {error.strerror}") from error
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML: {error}", file=path) from error
    if not isinstance(document, dict) or document.get("kind") != "KubeletConfiguration":
        raise ManifestError("not a KubeletConfiguration", file=path, field="kind")
    return document


def _taint(text: str) -> Object:
    key_value, colon, effect = text.rpartition(":")
    if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise UsageError(f'invalid taint "{text}": want key[=value]:NoSchedule, PreferNoSchedule or NoExecute')
    key, _, value = key_value.partition("=")
    return {"key": key, "effect": effect} | ({"value": value} if value else {})


def _seconds(text: Any, default: float) -> float:
    return parse_duration(str(text)) or default if text else default


def _bytes(text: Any, default: int) -> int:
    if not text:
        return default
    for suffix, factor in (("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1000), ("M", 10**6)):
        if str(text).endswith(suffix):
            return int(float(str(text)[:-len(suffix)]) * factor)
    return int(text)
