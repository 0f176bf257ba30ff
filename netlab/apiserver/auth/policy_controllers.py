"""The ClusterRoles of the controllers, system:controller:NAME, each bound to kube-system's service account NAME."""

from __future__ import annotations

from netlab.apiserver.auth.policy import (
    APPS,
    AUTHZ,
    BATCH,
    CERTIFICATES,
    DISCOVERY,
    EVENT_RULE,
    NETWORKING,
    POLICY,
    RBAC,
    READ,
    RESOURCE,
    SCALING,
    STORAGE,
    Binding,
    Role,
    rule,
)
from netlab.apiserver.auth.rules import Rule

_PREFIX = "system:controller:"
_CRUD = f"{READ} create update delete"
_REVISIONS = rule(f"{_CRUD} patch", "controllerrevisions", APPS)
_BOTH = ("extensions", APPS)
_ADMISSION = "admissionregistration.k8s.io"
_SIGNED = ("kubernetes.io/legacy-unknown kubernetes.io/kube-apiserver-client "
           "kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving")


def _owner(plural: str, *groups: str, verbs: str = f"{READ} update") -> tuple[Rule, ...]:
    """A controller's own kind: the objects, their status, the right to own others."""
    return (rule(verbs, plural, *groups), rule("update", f"{plural}/status", *groups),
            rule("update", f"{plural}/finalizers", *groups))


_RULES: dict[str, tuple[Rule, ...]] = {
    "attachdetach-controller": (
        rule("list watch", "persistentvolumes persistentvolumeclaims"), rule(READ, "nodes"),
        rule("patch update", "nodes/status"), rule("list watch", "pods"), EVENT_RULE,
        rule(f"{READ} create delete", "volumeattachments", STORAGE), rule(READ, "csidrivers", STORAGE),
        rule(READ, "csinodes", STORAGE)),
    "clusterrole-aggregation-controller": (rule(f"escalate {READ} update patch", "clusterroles", RBAC),),
    "cronjob-controller": (
        *_owner("cronjobs", BATCH), rule(f"{_CRUD} patch", "jobs", BATCH), rule("list watch delete", "pods"),
        EVENT_RULE),
    "daemon-set-controller": (
        *_owner("daemonsets", *_BOTH, verbs=READ), rule("list watch", "nodes"),
        rule("list watch create delete patch", "pods"), rule("create", "pods/binding"), _REVISIONS, EVENT_RULE),
    "deployment-controller": (
        *_owner("deployments", *_BOTH), rule(f"{_CRUD} patch", "replicasets", *_BOTH), rule(f"{READ} update", "pods"),
        EVENT_RULE),
    "disruption-controller": (
        rule(READ, "deployments", *_BOTH), rule(READ, "replicasets", *_BOTH), rule(READ, "replicationcontrollers"),
        rule(READ, "poddisruptionbudgets", POLICY), rule(READ, "statefulsets", APPS),
        rule("update", "poddisruptionbudgets/status", POLICY), rule("patch update", "pods/status"),
        rule("get", "*/scale", "*"), EVENT_RULE),
    "endpoint-controller": (
        rule(READ, "services pods"), rule(_CRUD, "endpoints"), rule("create", "endpoints/restricted"), EVENT_RULE),
    "endpointslice-controller": (
        rule(READ, "services pods nodes"), rule("update", "services/finalizers"),
        rule(_CRUD, "endpointslices", DISCOVERY), rule("create", "endpointslices/restricted", DISCOVERY), EVENT_RULE),
    "endpointslicemirroring-controller": (
        rule(READ, "services endpoints"), rule("update", "services/finalizers"),
        rule("update", "endpoints/finalizers"), rule(_CRUD, "endpointslices", DISCOVERY),
        rule("create", "endpointslices/restricted", DISCOVERY), EVENT_RULE),
    "expand-controller": (
        rule(f"{READ} update patch", "persistentvolumes"), rule("update patch", "persistentvolumeclaims/status"),
        rule(READ, "persistentvolumeclaims"), EVENT_RULE),
    "ephemeral-volume-controller": (
        rule(READ, "pods"), rule("update", "pods/finalizers"), rule(f"{READ} create", "persistentvolumeclaims"),
        EVENT_RULE),
    "resource-claim-controller": (
        rule(READ, "pods"), rule("update", "pods/finalizers"),
        rule(f"{READ} create delete", "resourceclaims", RESOURCE),
        rule("update patch", "resourceclaims resourceclaims/status", RESOURCE), rule("update patch", "pods/status"),
        EVENT_RULE),
    "generic-garbage-collector": (rule(f"{READ} patch update delete", "*", "*"), EVENT_RULE),
    "horizontal-pod-autoscaler": (
        rule(READ, "horizontalpodautoscalers", SCALING), rule("update", "horizontalpodautoscalers/status", SCALING),
        rule("get update", "*/scale", "*"), rule("list", "pods"), rule("list", "pods", "metrics.k8s.io"),
        rule("get list", "*", "custom.metrics.k8s.io"), rule("get list", "*", "external.metrics.k8s.io"), EVENT_RULE),
    "job-controller": (
        *_owner("jobs", BATCH, verbs=f"{READ} update patch"), rule("list watch create delete patch", "pods"),
        EVENT_RULE),
    "namespace-controller": (
        rule("get list watch delete", "namespaces"), rule("update", "namespaces/finalize namespaces/status"),
        rule("get list delete deletecollection", "*", "*")),
    "node-controller": (
        rule(f"{READ} update delete patch", "nodes"), rule("patch update", "nodes/status"),
        rule("patch update", "pods/status"), rule("list watch get delete", "pods"), EVENT_RULE),
    "persistent-volume-binder": (
        rule(_CRUD, "persistentvolumes"), rule("update", "persistentvolumes/status"),
        rule(f"{READ} update", "persistentvolumeclaims"), rule("update", "persistentvolumeclaims/status"),
        rule(f"{READ} create delete", "pods"), rule(READ, "storageclasses", STORAGE), rule("list watch", "nodes"),
        EVENT_RULE, rule("watch", "events")),
    "pod-garbage-collector": (
        rule("list watch delete", "pods"), rule("get list", "nodes"), rule("patch", "pods/status")),
    "replicaset-controller": (
        *_owner("replicasets", APPS, "extensions"), rule("list watch patch create delete", "pods"), EVENT_RULE),
    "replication-controller": (
        *_owner("replicationcontrollers"), rule("list watch patch create delete", "pods"), EVENT_RULE),
    "resourcequota-controller": (
        rule("list watch", "*", "*"), rule("update", "resourcequotas/status"), EVENT_RULE),
    "route-controller": (rule("list watch", "nodes"), rule("patch", "nodes/status"), EVENT_RULE),
    "service-account-controller": (rule("create", "serviceaccounts"), EVENT_RULE),
    "service-controller": (
        rule(READ, "services"), rule("patch update", "services/status"), rule("list watch", "nodes"), EVENT_RULE),
    "service-cidrs-controller": (
        rule(f"{READ} patch update", "servicecidrs", NETWORKING),
        rule("patch update", "servicecidrs/finalizers", NETWORKING),
        rule("patch update", "servicecidrs/status", NETWORKING), rule(READ, "ipaddresses", NETWORKING), EVENT_RULE),
    "statefulset-controller": (
        rule("list watch", "pods"), *_owner("statefulsets", APPS, verbs=READ),
        rule("get create delete update patch", "pods"), _REVISIONS,
        rule("get create list watch", "persistentvolumeclaims"), rule("update delete", "persistentvolumeclaims"),
        rule("update", "pods/finalizers"), EVENT_RULE),
    "ttl-controller": (rule("update patch list watch", "nodes"), EVENT_RULE),
    "certificate-controller": (
        rule("get list watch delete", "certificatesigningrequests", CERTIFICATES),
        rule("update", "certificatesigningrequests/status certificatesigningrequests/approval", CERTIFICATES),
        rule("approve", "signers", CERTIFICATES, names="kubernetes.io/kube-apiserver-client-kubelet"),
        rule("sign", "signers", CERTIFICATES, names=_SIGNED), rule("create", "subjectaccessreviews", AUTHZ),
        EVENT_RULE),
    "pvc-protection-controller": (
        rule(f"{READ} update", "persistentvolumeclaims"), rule(READ, "pods"), EVENT_RULE),
    "pv-protection-controller": (rule(f"{READ} update", "persistentvolumes"), EVENT_RULE),
    "volumeattributesclass-protection-controller": (
        rule(READ, "persistentvolumeclaims"), rule(READ, "persistentvolumes"),
        rule(f"{READ} update", "volumeattributesclasses", STORAGE), EVENT_RULE),
    "ttl-after-finished-controller": (rule("get list watch delete", "jobs", BATCH), EVENT_RULE),
    "root-ca-cert-publisher": (rule("create update", "configmaps"), EVENT_RULE),
    "validatingadmissionpolicy-status-controller": (
        rule(READ, "validatingadmissionpolicies", _ADMISSION),
        rule("get patch update", "validatingadmissionpolicies/status", _ADMISSION), EVENT_RULE),
    "legacy-service-account-token-cleaner": (
        rule("get", "configmaps", names="kube-apiserver-legacy-service-account-token-tracking"),
        rule("patch delete", "secrets")),
    "selinux-warning-controller": (
        EVENT_RULE, rule(READ, "persistentvolumes"), rule(READ, "persistentvolumeclaims"), rule(READ, "pods"),
        rule(READ, "csidrivers", STORAGE)),
}

_TOGETHER = "netlab:controllers"

ROLES = (
    *(Role(_PREFIX + name, rules) for name, rules in _RULES.items()),
    # our kube-controller-manager runs every loop as its own user; there must be no moment at which it may do less
    Role(_TOGETHER, tuple(dict.fromkeys(rule for rules in _RULES.values() for rule in rules))))
BINDINGS = (*(Binding(_PREFIX + name, (f"ServiceAccount:kube-system/{name}",)) for name in _RULES),
            Binding(_TOGETHER, ("User:system:kube-controller-manager",)))
