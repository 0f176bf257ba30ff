"""kube-apiserver's flags: upstream's names; those that mean nothing here are accepted and ignored."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netlab import flags
from netlab.apiserver.allocator import Network
from netlab.apiserver.auth.modes import MODES
from netlab.errors import UsageError
from netlab.flags import Flag
from netlab.serving import suites
from netlab.serving.dynamic import Files, Named
from netlab.serving.headers import RequestHeader

_IGNORED = """
allow-privileged:bool api-audiences:list apiserver-count:int audit-log-maxage:int
authentication-config
authentication-token-webhook-config-file authorization-config
authorization-webhook-config-file cert-dir cloud-config cloud-provider contention-profiling:bool
cors-allowed-origins:list
default-not-ready-toleration-seconds:int default-unreachable-toleration-seconds:int default-watch-cache-size:int
delete-collection-workers:int egress-selector-config-file enable-aggregator-routing:bool
enable-garbage-collector:bool
encryption-provider-config endpoint-reconciler-type
event-ttl:duration external-hostname feature-gates:map goaway-chance:float
http2-max-streams-per-connection:int identity-lease-duration-seconds:int kubelet-timeout:duration
lease-reuse-duration-seconds:int livez-grace-period:duration log-flush-frequency:duration logging-format
max-connection-bytes-per-sec:int
min-request-timeout:int oidc-ca-file oidc-client-id oidc-groups-claim oidc-issuer-url oidc-username-claim
permit-address-sharing:bool permit-port-sharing:bool profiling:bool
request-timeout:duration runtime-config:map service-account-extend-token-expiration:bool
service-account-jwks-uri service-account-lookup:bool service-account-max-token-expiration:duration
shutdown-delay-duration:duration shutdown-send-retry-after:bool storage-backend storage-media-type
strict-transport-security-directives:list tracing-config-file vmodule watch-cache:bool watch-cache-sizes:list
"""

FLAGS: tuple[Flag, ...] = (
    Flag("advertise-address", help="the address on which members of the cluster reach this server"),
    Flag("bind-address", default="0.0.0.0", help="the address to listen on"),
    Flag("secure-port", "int", 6443, "the port to serve HTTPS on; 0 lets the kernel choose"),
    Flag("data-dir", default="", help="the directory of the store; empty keeps everything in memory"),
    Flag("store-synchronous", default="normal", help="normal, or full: an acknowledged write survives a power cut"),
    Flag("etcd-compaction-interval", "duration", 300.0, "how long the history of changes is kept for watches"),
    Flag("store-retention-revisions", "int", 10_000, "how many revisions of history are kept at most"),
    Flag("store-listen-client-urls", "list", help="where the store in this process answers etcd's own API"),
    Flag("store-cert-file", help="the server's certificate on those URLs"),
    Flag("store-key-file", help="the key of that certificate"),
    Flag("store-trusted-ca-file", help="the CA that signs the certificates of those who may come in there"),
    Flag("client-ca-file", help="the CA that signs client certificates; this file and those of the next three are "
         "read again when they change"),
    Flag("tls-cert-file", help="the server's certificate, and those between it and its CA"),
    Flag("tls-private-key-file", help="the key of the server's certificate"),
    Flag("tls-sni-cert-key", "array", help="a certificate and its key, such as a.crt,a.key, for clients that ask for "
         "one of its names, or of those after a colon: a.crt,a.key:*.a.example,a.example; may be given several times"),
    Flag("tls-min-version", help=f"the oldest version of TLS to speak: {', '.join(suites.VERSIONS)} (default "
         f"{suites.DEFAULT_VERSION})"),
    Flag("tls-cipher-suites", "list", help="the cipher suites up to TLS 1.2, by Go's names; empty: "
         f"{', '.join(suites.PREFERRED)}; besides, insecure: {', '.join(suites.INSECURE)}"),
    Flag("kubelet-client-certificate", help="the certificate to show to kubelets"),
    Flag("kubelet-client-key", help="the key of that certificate"),
    Flag("kubelet-certificate-authority", help="the CA that signs kubelets' certificates; empty trusts any"),
    Flag("kubelet-preferred-address-types", "list", ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS",
                                                     "ExternalIP"],
         "which of a node's addresses to use"),
    Flag("service-account-issuer", "list", ["https://kubernetes.default.svc.cluster.local"],
         "the issuer of service account tokens; the first signs, all are accepted"),
    Flag("service-account-key-file", "list", help="the keys that verify service account tokens"),
    Flag("service-account-signing-key-file", help="the key that signs service account tokens"),
    Flag("service-cluster-ip-range", "list", ["10.96.0.0/16"], "the networks of cluster IPs, at most one per family"),
    Flag("service-node-port-range", default="30000-32767", help="the node ports"),
    Flag("authorization-mode", "list", ["AlwaysAllow"],
         "who decides what users may do, in order: AlwaysAllow, AlwaysDeny, Node, RBAC"),
    Flag("anonymous-auth", "bool", True, "judge requests without credentials as system:anonymous; else they may see "
         "the pages about health and version only, and get 401"),
    Flag("token-auth-file", help="fixed bearer tokens: lines of token,user,uid,\"group1,group2\""),
    Flag("enable-bootstrap-token-auth", "bool", False, "take the tokens in kube-system's Secrets of type "
         "bootstrap.kubernetes.io/token"),
    Flag("enable-admission-plugins", "list", help="admission plugins besides the default ones"),
    Flag("disable-admission-plugins", "list", help="admission plugins to leave out"),
    Flag("max-requests-inflight", "int", 400, "with the next one, how many seats there are for requests at once; "
         "without priority and fairness, how many may read at once"),
    Flag("max-mutating-requests-inflight", "int", 200, "the same for requests that write"),
    Flag("enable-priority-and-fairness", "bool", True, "let requests wait, and go on, by FlowSchemas and "
         "PriorityLevelConfigurations"),
    Flag("audit-log-path", help="where to write the audit log; - is standard output, empty is nowhere"),
    Flag("audit-policy-file", help="the audit.k8s.io/v1 Policy of what to log; empty logs every request's metadata"),
    Flag("audit-log-maxsize", "int", 100, "megabytes after which a fresh audit log is begun; 0 never"),
    Flag("audit-log-maxbackup", "int", 0, "how many old audit logs to keep; 0 keeps all"),
    Flag("proxy-client-cert-file", help="the certificate to show to servers behind APIServices"),
    Flag("proxy-client-key-file", help="the key of that certificate"),
    Flag("requestheader-client-ca-file", help="the CA that signs the certificates of proxies which tell the user in "
         "headers, as this server does to those behind APIServices; they read it and the next five in kube-system's "
         "ConfigMap extension-apiserver-authentication"),
    Flag("requestheader-allowed-names", "list", help="the common names of such proxies; empty allows any"),
    Flag("requestheader-username-headers", "list", help="the headers that tell the user's name"),
    Flag("requestheader-uid-headers", "list", help="the headers that tell the user's uid"),
    Flag("requestheader-group-headers", "list", help="the headers that tell the user's groups"),
    Flag("requestheader-extra-headers-prefix", "list", help="what the headers begin with that tell more of the user"),
    Flag("etcd-servers", "list", help="the etcd to keep objects in (https://host:2379, ...); empty: this process"),
    Flag("etcd-prefix", default="/registry", help="what the keys in that etcd begin with"),
    Flag("etcd-cafile", help="the CA that signs the etcd's certificate"),
    Flag("etcd-certfile", help="the certificate to show to the etcd"),
    Flag("etcd-keyfile", help="the key of that certificate"),
    Flag("ready-file", help="a file to write host:port into once the server listens"),
    Flag("help", "bool", help="this text"),
    Flag("v", "int", 0, "log verbosity"),
    *(Flag(name, kind or "string", ignored=True)  # type: ignore[arg-type]
      for name, _, kind in (word.partition(":") for word in _IGNORED.split())),
)


@dataclass(frozen=True)
class Etcd:
    """The etcd to keep objects in; without servers there is none. The last three are files, or empty."""

    servers: tuple[str, ...]
    prefix: str
    ca: str
    certificate: str
    key: str


@dataclass(frozen=True)
class Options:
    """What the flags say, checked. `data_dir` None is a store in memory."""

    bind: str
    port: int
    advertise: str
    data_dir: Path | None
    synchronous: str
    history_seconds: float
    history_revisions: int
    etcd: Etcd
    store_urls: tuple[str, ...]
    store_certificate: str
    store_key: str
    store_ca: str
    serving: Files
    tls_minimum: str
    tls_ciphers: tuple[str, ...]
    kubelet_certificate: str
    kubelet_key: str
    kubelet_ca: str
    kubelet_addresses: tuple[str, ...]
    issuers: tuple[str, ...]
    token_keys: tuple[str, ...]
    signing_key: str
    service_networks: tuple[Network, ...]
    node_ports: tuple[int, int]
    authorization_modes: tuple[str, ...]
    anonymous_auth: bool
    token_file: str
    bootstrap_tokens: bool
    enabled_plugins: tuple[str, ...]
    disabled_plugins: tuple[str, ...]
    proxy_certificate: str
    proxy_key: str
    request_header: RequestHeader
    audit_log: str
    audit_policy: str
    audit_megabytes: int
    audit_backups: int
    reading: int
    writing: int
    fair: bool
    ready_file: str
    verbosity: int


def parse(argv: Sequence[str]) -> Options | str:
    """Return the options, or the help text when that is asked for.

    Raises:
        UsageError: a flag is wrong or missing.
    """
    found = flags.parse("kube-apiserver", argv, FLAGS)
    if found["help"]:
        return flags.usage("kube-apiserver", "The API server of the cluster and, in the same process, its store.",
                           FLAGS)
    if found.args:
        raise UsageError(f"unknown command {found.args[0]!r}: kube-apiserver takes only flags")
    if found["etcd-servers"] and (found["data-dir"] or found["store-listen-client-urls"]):
        raise UsageError("--etcd-servers goes with neither --data-dir nor --store-listen-client-urls: those are about "
                         "the store in this process")
    if bool(found["etcd-certfile"]) != bool(found["etcd-keyfile"]):
        raise UsageError("--etcd-certfile and --etcd-keyfile go together")
    for name in ("tls-cert-file", "tls-private-key-file"):
        if not found[name]:
            raise UsageError(f"--{name} is required")
    if not found["client-ca-file"] and not found["service-account-key-file"]:
        raise UsageError("--client-ca-file or --service-account-key-file is required: nobody could log in")
    _seats(found["max-requests-inflight"], found["max-mutating-requests-inflight"],
           fair=found["enable-priority-and-fairness"])
    suites.version(found["tls-min-version"])
    suites.ciphers(found["tls-cipher-suites"])
    if found["store-synchronous"] not in ("normal", "full"):
        raise UsageError(f"--store-synchronous={found['store-synchronous']}: want normal or full")
    bind = found["bind-address"]
    return Options(
        bind=bind, port=found["secure-port"], advertise=found["advertise-address"] or _advertised(bind),
        data_dir=Path(found["data-dir"]) if found["data-dir"] else None, synchronous=found["store-synchronous"],
        history_seconds=found["etcd-compaction-interval"], history_revisions=found["store-retention-revisions"],
        etcd=Etcd(tuple(found["etcd-servers"]), found["etcd-prefix"], found["etcd-cafile"], found["etcd-certfile"],
                  found["etcd-keyfile"]),
        store_urls=tuple(found["store-listen-client-urls"]), store_certificate=found["store-cert-file"],
        store_key=found["store-key-file"], store_ca=found["store-trusted-ca-file"],
        serving=Files(found["tls-cert-file"], found["tls-private-key-file"], clients=found["client-ca-file"],
                      proxies=found["requestheader-client-ca-file"],
                      named=tuple(_named(text) for text in found["tls-sni-cert-key"])),
        tls_minimum=found["tls-min-version"], tls_ciphers=tuple(found["tls-cipher-suites"]),
        kubelet_certificate=found["kubelet-client-certificate"], kubelet_key=found["kubelet-client-key"],
        kubelet_ca=found["kubelet-certificate-authority"],
        kubelet_addresses=tuple(found["kubelet-preferred-address-types"]),
        issuers=tuple(found["service-account-issuer"]), token_keys=tuple(found["service-account-key-file"]),
        signing_key=found["service-account-signing-key-file"],
        service_networks=_networks(found["service-cluster-ip-range"]),
        node_ports=_ports(found["service-node-port-range"]),
        authorization_modes=_modes(found["authorization-mode"]), anonymous_auth=found["anonymous-auth"],
        token_file=found["token-auth-file"], bootstrap_tokens=found["enable-bootstrap-token-auth"],
        enabled_plugins=tuple(found["enable-admission-plugins"]),
        proxy_certificate=found["proxy-client-cert-file"], proxy_key=found["proxy-client-key-file"],
        request_header=RequestHeader(*(
            tuple(found[f"requestheader-{what}"]) for what in ("allowed-names", "username-headers", "uid-headers",
                                                               "group-headers", "extra-headers-prefix"))),
        audit_log=found["audit-log-path"], audit_policy=found["audit-policy-file"],
        audit_megabytes=found["audit-log-maxsize"], audit_backups=found["audit-log-maxbackup"],
        reading=found["max-requests-inflight"], writing=found["max-mutating-requests-inflight"],
        fair=found["enable-priority-and-fairness"],
        disabled_plugins=tuple(found["disable-admission-plugins"]), ready_file=found["ready-file"],
        verbosity=found["v"])


def _seats(reading: int, writing: int, *, fair: bool) -> None:
    for name, number in (("max-requests-inflight", reading), ("max-mutating-requests-inflight", writing)):
        if number < 0:
            raise UsageError(f"--{name} can not be negative value")
    if fair and reading + writing == 0:
        raise UsageError("invalid configuration: MaxRequestsInFlight=0 and MaxMutatingRequestsInFlight=0; they must "
                         "add up to something positive")


def _named(text: str) -> Named:
    """Return what `CERT,KEY[:NAME,...]` says. Raises UsageError."""
    files, colon, names = text.partition(":")
    certificate, comma, key = (part.strip() for part in files.partition(","))
    listed = tuple(name.strip() for name in names.split(",")) if names.strip() else ()
    problem = "" if certificate and comma and key and "," not in key \
        else "expected comma separated certificate and key file paths"
    if colon and not (listed and all(listed)):
        problem = problem or "empty names list is not allowed"
    if problem:
        raise UsageError(f'invalid argument "{text}" for "--tls-sni-cert-key" flag: {problem}')
    return Named(certificate, key, listed)


def _modes(words: Sequence[str]) -> tuple[str, ...]:
    for word in words:
        if word not in MODES:
            raise UsageError(f"--authorization-mode={word}: not a mode of this version: want {', '.join(MODES)}")
    if not words:
        raise UsageError("--authorization-mode: at least one mode must be passed")
    if len(set(words)) < len(words):
        raise UsageError(f"--authorization-mode={','.join(words)}: each mode at most once")
    return tuple(words)


def _advertised(bind: str) -> str:
    return "127.0.0.1" if bind in ("0.0.0.0", "::", "") else bind


def _networks(texts: Sequence[str]) -> tuple[Network, ...]:
    found: list[Network] = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise UsageError(f"--service-cluster-ip-range={text}: {error}") from None
        if any(other.version == network.version for other in found):
            raise UsageError("--service-cluster-ip-range: want at most one network per address family")
        if network.num_addresses < 8:
            raise UsageError(f"--service-cluster-ip-range={text}: too small, want at least 8 addresses")
        found.append(network)
    return tuple(found)


def _ports(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not (dash and low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high) <= 65535):
        raise UsageError(f"--service-node-port-range={text}: want two ports, such as 30000-32767")
    return int(low), int(high)
