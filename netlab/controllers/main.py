"""The program kube-controller-manager."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from netlab import daemon, flags, klog
from netlab.client import config, guard, leader
from netlab.client.client import Client
from netlab.client.health import serving
from netlab.client.leader import LeaderElector, new_identity
from netlab.controllers.base import Context, Controller, Options
from netlab.controllers.certificates import CertificateApprover, CertificateCleaner, CertificateSigner
from netlab.controllers.daemonset import DaemonSets
from netlab.controllers.deployment import Deployments
from netlab.controllers.endpoints import EndpointsController
from netlab.controllers.endpointslice import EndpointSlices
from netlab.controllers.garbage import GarbageCollector
from netlab.controllers.legacy_tokens import TokenCleaner, Tokens
from netlab.controllers.mirroring import EndpointSliceMirroring
from netlab.controllers.namespace import Namespaces
from netlab.controllers.nodeipam import NodeIpam
from netlab.controllers.nodelifecycle import NodeLifecycle
from netlab.controllers.podgc import PodCollector
from netlab.controllers.protection import AttributesClassProtection, ClaimProtection, VolumeProtection
from netlab.controllers.replicaset import ReplicaSets, ReplicationControllers
from netlab.controllers.resourcequota import ResourceQuotas
from netlab.controllers.rootca import RootCaPublisher
from netlab.controllers.serviceaccount import ServiceAccounts
from netlab.controllers.tainteviction import TaintEviction
from netlab.errors import NetlabError, UsageError
from netlab.flags import Flag, Flags

log = logging.getLogger(__name__)

PROGRAM = "kube-controller-manager"

CONTROLLERS: tuple[type[Controller], ...] = (
    NodeIpam, ServiceAccounts, RootCaPublisher, DaemonSets, Deployments, ReplicaSets, ReplicationControllers,
    EndpointSlices, EndpointsController, EndpointSliceMirroring, NodeLifecycle, TaintEviction, Namespaces,
    PodCollector, Tokens, TokenCleaner, ResourceQuotas, CertificateApprover, CertificateSigner,
    CertificateCleaner, ClaimProtection, VolumeProtection, AttributesClassProtection, GarbageCollector)

_ALIASES = {  # the names before Kubernetes 1.27, which upstream still takes
    "endpointslicemirroring": "endpointslice-mirroring-controller", "resourcequota": "resourcequota-controller",
    "csrsigning": "certificatesigningrequest-signing-controller",
    "csrapproving": "certificatesigningrequest-approving-controller",
    "csrcleaner": "certificatesigningrequest-cleaner-controller",
    "endpoint": "endpoints-controller", "endpointslice": "endpointslice-controller",
    "replicationcontroller": "replicationcontroller-controller", "podgc": "pod-garbage-collector-controller",
    "namespace": "namespace-controller", "serviceaccount": "serviceaccount-controller",
    "garbagecollector": "garbage-collector-controller", "daemonset": "daemonset-controller",
    "deployment": "deployment-controller", "replicaset": "replicaset-controller",
    "serviceaccount-token": "serviceaccount-token-controller",
    "legacy-service-account-token-cleaner": "legacy-serviceaccount-token-cleaner-controller",
    "nodeipam": "node-ipam-controller", "pvc-protection": "persistentvolumeclaim-protection-controller",
    "pv-protection": "persistentvolume-protection-controller",
    "nodelifecycle": "node-lifecycle-controller", "root-ca-cert-publisher": "root-ca-certificate-publisher-controller"}

_UPSTREAMS = frozenset((  # upstream's that netlab does not have: they may be named, and do nothing
    "bootstrapsigner", "bootstrap-signer-controller", "tokencleaner", "token-cleaner-controller", "job",
    "job-controller", "cronjob", "cronjob-controller", "statefulset", "statefulset-controller", "disruption",
    "disruption-controller", "ttl", "ttl-controller", "ttl-after-finished", "ttl-after-finished-controller",
    "attachdetach", "persistentvolume-attach-detach-controller",
    "persistentvolume-binder", "persistentvolume-binder-controller", "persistentvolume-expander",
    "persistentvolume-expander-controller", "ephemeral-volume",
    "ephemeral-volume-controller", "horizontalpodautoscaling", "horizontal-pod-autoscaler-controller",
    "clusterrole-aggregation",
    "clusterrole-aggregation-controller", "service",
    "service-lb-controller", "route", "node-route-controller", "cloud-node-lifecycle",
    "cloud-node-lifecycle-controller", "validatingadmissionpolicy-status-controller", "service-cidr-controller",
    "resourceclaim-controller", "storage-version-migrator-controller", "selinux-warning-controller",
    "device-taint-eviction-controller", "storageversion-garbage-collector-controller",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller", "podcertificaterequest-cleaner-controller"))

FLAGS: tuple[Flag, ...] = (
    Flag("kubeconfig", help="Path of the kubeconfig; without it the Pod's service account is used."),
    Flag("master", help="Address of the API server, in place of the kubeconfig's."),
    Flag("controllers", "list", ["*"], "Controllers to run: '*' all, 'foo' that one, '-foo' not that one."),
    *leader.flags(PROGRAM),
    Flag("bind-address", default="0.0.0.0", help="Address of the health server."),
    Flag("secure-port", "int", 10257, "Port of the health server; 0 for none."),
    Flag("tls-cert-file", help="Certificate of the health server; without it a self-signed one is made."),
    Flag("tls-private-key-file", help="Key of that certificate."),
    Flag("allocate-node-cidrs", "bool", False, "Give each node its part of --cluster-cidr."),
    Flag("cluster-cidr", "list", [], "Pod network of the cluster, one of each family."),
    Flag("node-cidr-mask-size", "int", 0, "Prefix length of a node's Pod network (default 24, IPv6 64)."),
    Flag("node-cidr-mask-size-ipv4", "int", 0, "The same for IPv4 in a dual-stack cluster."),
    Flag("node-cidr-mask-size-ipv6", "int", 0, "The same for IPv6 in a dual-stack cluster."),
    Flag("service-account-private-key-file", help="Key that signs long-lived service account tokens."),
    Flag("legacy-service-account-token-clean-up-period", "duration", 365 * 86400.0,
         "How long a token that was made for an account unasked may be unused until it is marked as invalid, and then "
         "until it is deleted."),
    Flag("root-ca-file", help="CA bundle to publish in every namespace."),
    Flag("cluster-signing-cert-file", help="CA certificate that signs approved CertificateSigningRequests."),
    Flag("cluster-signing-key-file", help="Key of that certificate."),
    Flag("cluster-signing-duration", "duration", 365 * 86400.0, "The longest that a signed certificate is good for."),
    Flag("node-monitor-grace-period", "duration", 50.0, "Silence after which a node is Unknown."),
    Flag("node-startup-grace-period", "duration", 60.0, "Silence after which a node that never spoke is Unknown."),
    Flag("terminated-pod-gc-threshold", "int", 12500, "Ended Pods to keep; 0 keeps all."),
    Flag("max-endpoints-per-slice", "int", 100, "Endpoints in one EndpointSlice."),
    *guard.FLAGS,
    Flag("v", "int", 0, "Verbosity of the log; 4 and more is debugging."),
    Flag("help", "bool", False, "Print this."),
    *(Flag(name, ignored=True) for name in (
        "cluster-name", "service-cluster-ip-range", "feature-gates", "logging-format", "cloud-provider",
        "cloud-config", "leader-elect-resource-lock", "node-monitor-period", "horizontal-pod-autoscaler-sync-period",
        "flex-volume-plugin-dir", "kube-api-qps", "kube-api-burst", "kube-api-content-type", "tls-min-version",
        "tls-cipher-suites", "cert-dir", "external-cloud-volume-plugin",
        "route-reconciliation-period", "resource-quota-sync-period", "namespace-sync-period", "min-resync-period",
        "node-eviction-rate", "secondary-node-eviction-rate", "unhealthy-zone-threshold",
        "large-cluster-size-threshold", "pod-eviction-timeout", "vmodule", "concurrent-deployment-syncs",
        "concurrent-replicaset-syncs",
        "concurrent-endpoint-syncs", "concurrent-service-endpoint-syncs", "concurrent-gc-syncs",
        "concurrent-namespace-syncs", "concurrent-daemonset-syncs", "concurrent-serviceaccount-token-syncs",
        "pvclaimbinder-sync-period", "permit-address-sharing", "permit-port-sharing")),
    *(Flag(name, "bool", ignored=True) for name in (
        "use-service-account-credentials", "profiling", "contention-profiling", "configure-cloud-routes",
        "enable-garbage-collector", "enable-dynamic-provisioning", "leader-migration-enabled")))


def chosen(words: Sequence[str]) -> tuple[type[Controller], ...]:
    """Return the controllers that --controllers names.

    Raises:
        UsageError: a name that neither we nor upstream know.
    """
    known = {row.name for row in CONTROLLERS}
    on: set[str] = set()
    off: set[str] = set()
    for word in words:
        name = _ALIASES.get(word.lstrip("-"), word.lstrip("-"))
        if name != "*" and name not in known and name not in _UPSTREAMS:
            raise UsageError(f'"{name}" is not in the list of known controllers', hint=", ".join(sorted(known)))
        (off if word.startswith("-") else on).add(name)
    return tuple(row for row in CONTROLLERS if row.name not in off and ("*" in on or row.name in on))


def options(given: Flags) -> Options:
    """Return the controllers' settings.

    Raises:
        UsageError: a file can't be read.
    """
    size = given["node-cidr-mask-size"]
    masks = {4: given["node-cidr-mask-size-ipv4"] or size or 24, 6: given["node-cidr-mask-size-ipv6"] or 64}
    if size and all(":" in text for text in given["cluster-cidr"]):
        masks[6] = size
    return Options(cluster_cidrs=tuple(given["cluster-cidr"]), allocate_node_cidrs=given["allocate-node-cidrs"],
                   node_masks=masks, root_ca=_file(given, "root-ca-file").decode(),
                   service_account_key=_file(given, "service-account-private-key-file"),
                   legacy_token_seconds=_period(given), node_monitor_grace=given["node-monitor-grace-period"],
                   node_startup_grace=given["node-startup-grace-period"],
                   terminated_pod_threshold=given["terminated-pod-gc-threshold"],
                   signing_certificate=_file(given, "cluster-signing-cert-file"),
                   signing_key=_file(given, "cluster-signing-key-file"),
                   signing_seconds=given["cluster-signing-duration"],
                   max_endpoints_per_slice=given["max-endpoints-per-slice"])


def main(argv: list[str]) -> int:
    """Run the program; return its exit code."""
    try:
        given = flags.parse(PROGRAM, argv, FLAGS)
        if given["help"]:
            sys.stdout.write(flags.usage(PROGRAM, "Runs the control loops that come with Kubernetes.", FLAGS))
            return 0
        kinds = chosen(given["controllers"])
        settings = options(given)
        where = config.load(given["kubeconfig"]) if given["kubeconfig"] else config.in_cluster()
        where = replace(where, server=given["master"].rstrip("/")) if given["master"] else where
    except NetlabError as error:
        sys.stderr.write(f"{PROGRAM}: {error}{f' ({error.hint})' if error.hint else ''}\n")
        return 1
    klog.setup(verbosity=given["v"])
    random.seed()
    if not settings.allocate_node_cidrs or not settings.cluster_cidrs:
        kinds = tuple(kind for kind in kinds if kind is not NodeIpam)
    return daemon.run(lambda stop: run(stop, given, kinds, settings, where))


async def run(stop: asyncio.Event, given: Flags, kinds: Sequence[type[Controller]], settings: Options,
              where: config.Config) -> None:
    """Run the controllers until `stop` is set, under the lease unless --leader-elect=false."""
    loops: list[Controller] = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(where, PROGRAM))
        elector = LeaderElector(client, given["leader-elect-resource-name"], given["leader-elect-resource-namespace"],
                                new_identity(), given["leader-elect-lease-duration"],
                                given["leader-elect-renew-deadline"], given["leader-elect-retry-period"],
                                alone=bool(given["secure-port"]))
        door = await guard.guarding(stack, given, client, PROGRAM)
        await stack.enter_async_context(serving(
            given["bind-address"], given["secure-port"], certificate=given["tls-cert-file"],
            key=given["tls-private-key-file"], metrics=lambda: _metrics(loops, elector), guard=door))
        if not await client.ready(stop):
            return
        await stack.enter_async_context(door.informed())
        context = Context(client, settings)
        loops += [kind(context) for kind in kinds]
        await stack.enter_async_context(context.started())

        async def lead(ended: asyncio.Event) -> None:
            await asyncio.gather(*(loop.run(ended) for loop in loops))

        await (elector.run(stop, lead) if given["leader-elect"] else lead(stop))


def _metrics(loops: Sequence[Controller], elector: LeaderElector) -> str:
    lines = ["# TYPE workqueue_depth gauge"]
    lines += [f'workqueue_depth{{name="{loop.name}"}} {len(loop.queue)}' for loop in loops]
    lines += ["# TYPE leader_election_master_status gauge",
              f'leader_election_master_status{{name="{elector.name}"}} {int(elector.leader == elector.identity)}']
    return "\n".join(lines) + "\n"


def _period(given: Flags) -> float:
    name = "legacy-service-account-token-clean-up-period"
    if given[name] <= 0:
        raise UsageError(f"--{name} must be positive")
    return float(given[name])


def _file(given: Flags, name: str) -> bytes:
    if not given[name]:
        return b""
    try:
        return Path(given[name]).read_bytes()
    except OSError as error:
        raise UsageError(f"--{name}: can't read {given[name]}: {error.strerror}") from error
