"""The ClusterRoles and bindings that every cluster starts with: users' and components'; controllers' in their own file.

Names and rules are upstream's for v1.36 (plugin/pkg/auth/authorizer/rbac/bootstrappolicy). Each is made at start, and
gets back what it lacks, unless its annotation rbac.authorization.kubernetes.io/autoupdate says "false".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netlab.apiserver.auth.rules import Rule

READ = "get list watch"
WRITE = "create update patch delete deletecollection"
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"
APPS, BATCH, EVENTS, POLICY, STORAGE = "apps", "batch", "events.k8s.io", "policy", "storage.k8s.io"
AUTHN, AUTHZ, RBAC = "authentication.k8s.io", "authorization.k8s.io", "rbac.authorization.k8s.io"
COORDINATION, DISCOVERY, NETWORKING = "coordination.k8s.io", "discovery.k8s.io", "networking.k8s.io"
CERTIFICATES, RESOURCE, SCALING = "certificates.k8s.io", "resource.k8s.io", "autoscaling"
_HEALTH = "/livez /readyz /healthz"
_SIGNERS = "kubernetes.io/"


def rule(verbs: str, resources: str, *groups: str, names: str = "") -> Rule:
    """Return a rule on resources (words) of groups, the core group when none is given."""
    return Rule(tuple(verbs.split()), groups or ("",), tuple(resources.split()), tuple(names.split()))


def paths(verbs: str, urls: str) -> Rule:
    """Return a rule on paths that are no resources."""
    return Rule(tuple(verbs.split()), urls=tuple(urls.split()))


@dataclass(frozen=True, slots=True)
class Role:
    """A ClusterRole, or a Role when `namespace` is set. `gathers` is the aggregation label it collects rules by."""

    name: str
    rules: tuple[Rule, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    gathers: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of its role to subjects: "User:NAME", "Group:NAME", "ServiceAccount:NAMESPACE/NAME"."""

    name: str
    subjects: tuple[str, ...] = ()
    role: str = ""
    namespace: str = ""


EVENT_RULE = rule("create update patch", "events", "", EVENTS)
_REVIEWS = (rule("create", "tokenreviews", AUTHN), rule("create", "subjectaccessreviews", AUTHZ))

NODE_RULES = (
    rule("create", "tokenreviews", AUTHN), rule("create", "subjectaccessreviews localsubjectaccessreviews", AUTHZ),
    rule(READ, "services"), rule("create get list watch", "nodes"), rule("update patch", "nodes/status"),
    rule("update patch", "nodes"), rule("create update patch", "events", "", EVENTS), rule(READ, "pods"),
    rule("create delete", "pods"), rule("update patch", "pods/status"), rule("create", "pods/eviction"),
    rule(READ, "secrets configmaps"), rule("get", "persistentvolumeclaims persistentvolumes"),
    rule("get", "endpoints"), rule("create get list watch", "certificatesigningrequests", CERTIFICATES),
    rule("get create update patch delete", "leases", COORDINATION), rule("get", "volumeattachments", STORAGE),
    rule("get update patch", "persistentvolumeclaims/status"), rule("create", "serviceaccounts/token"),
    rule(READ, "csidrivers", STORAGE), rule("get create update patch delete", "csinodes", STORAGE),
    rule(READ, "runtimeclasses", "node.k8s.io"), rule("get", "resourceclaims", RESOURCE),
    rule("deletecollection " + READ + " create update patch delete", "resourceslices", RESOURCE))
"""What all kubelets may do but for what the Node authorizer looks at more closely; also the role system:node."""

_SCALED = "replicationcontrollers replicationcontrollers/scale"

USER_ROLES = (
    Role("cluster-admin", (rule("*", "*", "*"), paths("*", "*"))),
    Role("system:discovery", (
        paths("get", f"{_HEALTH} /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*"),)),
    Role("system:basic-user", (rule("create", "selfsubjectaccessreviews selfsubjectrulesreviews", AUTHZ),
                               rule("create", "selfsubjectreviews", AUTHN))),
    Role("system:public-info-viewer", (paths("get", f"{_HEALTH} /version /version/"),)),
    Role("system:monitoring", (paths("get", f"/metrics /metrics/slis {_HEALTH} /livez/* /readyz/* /healthz/*"),)),
    Role("admin", gathers="admin"),
    Role("edit", labels={AGGREGATE + "admin": "true"}, gathers="edit"),
    Role("view", labels={AGGREGATE + "edit": "true"}, gathers="view"),
    Role("system:aggregate-to-admin", (
        rule("create", "localsubjectaccessreviews", AUTHZ), rule(f"{READ} {WRITE}", "roles rolebindings", RBAC)),
        {AGGREGATE + "admin": "true"}),
    Role("system:aggregate-to-edit", (
        rule(READ, "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
        rule("impersonate", "serviceaccounts"),
        rule(WRITE, "pods pods/attach pods/proxy pods/exec pods/portforward"), rule("create", "pods/eviction"),
        rule(WRITE, f"{_SCALED} serviceaccounts services services/proxy persistentvolumeclaims configmaps secrets "
                    "events"),
        rule("create", "serviceaccounts/token"),
        rule(WRITE, "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback "
                    "replicasets replicasets/scale", APPS),
        rule(WRITE, "horizontalpodautoscalers", SCALING), rule(WRITE, "jobs cronjobs", BATCH),
        rule(WRITE, "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets "
                    "replicasets/scale replicationcontrollers/scale networkpolicies", "extensions"),
        rule(WRITE, "poddisruptionbudgets", POLICY), rule(WRITE, "networkpolicies ingresses", NETWORKING),
        rule(f"{READ} {WRITE}", "leases", COORDINATION),
        rule(WRITE, "resourceclaims resourceclaimtemplates", RESOURCE)), {AGGREGATE + "edit": "true"}),
    Role("system:aggregate-to-view", (
        rule(READ, f"pods {_SCALED} serviceaccounts services services/status endpoints persistentvolumeclaims "
                   "persistentvolumeclaims/status configmaps"),
        rule(READ, "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status "
                   "replicationcontrollers/status pods/log"),
        rule(READ, "namespaces"), rule(READ, "endpointslices", DISCOVERY),
        rule(READ, "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets "
                   "daemonsets/status deployments deployments/status deployments/scale replicasets replicasets/status "
                   "replicasets/scale", APPS),
        rule(READ, "horizontalpodautoscalers horizontalpodautoscalers/status", SCALING),
        rule(READ, "jobs cronjobs cronjobs/status jobs/status", BATCH),
        rule(READ, "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses "
                   "ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale "
                   "networkpolicies", "extensions"),
        rule(READ, "poddisruptionbudgets poddisruptionbudgets/status", POLICY),
        rule(READ, "networkpolicies ingresses ingresses/status", NETWORKING),
        rule(READ, "resourceclaims resourceclaims/status resourceclaimtemplates", RESOURCE)),
        {AGGREGATE + "view": "true"}),
)

COMPONENT_ROLES = (
    Role("system:heapster", (rule(READ, "events pods nodes namespaces"), rule(READ, "deployments", "extensions"))),
    Role("system:node", NODE_RULES),
    Role("system:node-problem-detector", (rule("get", "nodes"), rule("patch", "nodes/status"), EVENT_RULE)),
    Role("system:kubelet-api-admin", (
        rule(READ, "nodes"), rule("proxy", "nodes"),
        rule("*", "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/configz nodes/healthz nodes/pods"))),
    Role("system:node-bootstrapper", (rule("create get list watch", "certificatesigningrequests", CERTIFICATES),)),
    Role("system:auth-delegator", _REVIEWS),
    Role("system:kube-aggregator", (rule(READ, "services endpoints"),)),
    Role("system:kube-controller-manager", (
        EVENT_RULE, rule("create", "leases", COORDINATION),
        rule("get update", "leases", COORDINATION, names="kube-controller-manager"),
        rule("create", "secrets serviceaccounts"), rule("delete", "secrets"),
        rule("get", "namespaces secrets serviceaccounts configmaps"), rule("update", "secrets serviceaccounts"),
        *_REVIEWS, rule("list watch", "*", "*"), rule("create", "serviceaccounts/token"))),
    Role("system:kube-dns", (rule("list watch", "endpoints services"),)),
    Role("system:persistent-volume-provisioner", (
        rule(f"{READ} create delete", "persistentvolumes"), rule(f"{READ} update", "persistentvolumeclaims"),
        rule(READ, "storageclasses", STORAGE), rule("watch", "events"), EVENT_RULE)),
    Role("system:certificates.k8s.io:certificatesigningrequests:nodeclient", (
        rule("create", "certificatesigningrequests/nodeclient", CERTIFICATES),)),
    Role("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", (
        rule("create", "certificatesigningrequests/selfnodeclient", CERTIFICATES),)),
    Role("system:volume-scheduler", (
        rule(f"{READ} update patch", "persistentvolumes"), rule(READ, "storageclasses", STORAGE),
        rule(f"{READ} update patch", "persistentvolumeclaims"))),
    *(Role(f"system:certificates.k8s.io:{name}-approver", (
        rule("approve", "signers", CERTIFICATES, names=_SIGNERS + name),))
      for name in ("legacy-unknown", "kubelet-serving", "kube-apiserver-client", "kube-apiserver-client-kubelet")),
    Role("system:service-account-issuer-discovery", (
        paths("get", "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks "
                     "/openid/v1/jwks/"),)),
    Role("system:node-proxier", (
        rule("list watch", "services endpoints"), rule(READ, "nodes"), EVENT_RULE,
        rule("list watch", "servicecidrs", NETWORKING), rule("list watch", "endpointslices", DISCOVERY))),
    Role("system:kube-scheduler", (
        EVENT_RULE, rule("create", "leases", COORDINATION),
        rule("get update", "leases", COORDINATION, names="kube-scheduler"),
        rule("create", "leasecandidates", COORDINATION), rule(f"{READ} update patch", "leasecandidates", COORDINATION),
        rule(READ, "nodes"), rule("get list watch delete", "pods"), rule("create", "pods/binding bindings"),
        rule("patch update", "pods/status"), rule(READ, "services replicationcontrollers"),
        rule(READ, "replicasets", APPS, "extensions"), rule(READ, "statefulsets", APPS),
        rule(READ, "poddisruptionbudgets", POLICY), rule(READ, "persistentvolumeclaims persistentvolumes"),
        *_REVIEWS, rule(READ, "csinodes", STORAGE), rule(READ, "namespaces"), rule(READ, "csidrivers", STORAGE),
        rule(READ, "csistoragecapacities", STORAGE), rule(READ, "volumeattachments", STORAGE),
        rule(READ, "deviceclasses resourceclaims resourceslices", RESOURCE),
        rule("update patch", "resourceclaims/status", RESOURCE),
        rule("update patch", "resourceclaims", RESOURCE), rule("update patch", "pods/finalizers"))),
)

_ALL, _ANONYMOUS = "Group:system:authenticated", "Group:system:unauthenticated"
_MANAGER, _SCHEDULER = "User:system:kube-controller-manager", "User:system:kube-scheduler"

BINDINGS = (
    Binding("cluster-admin", ("Group:system:masters",)),
    Binding("system:monitoring", ("Group:system:monitoring",)),
    Binding("system:discovery", (_ALL,)),
    Binding("system:basic-user", (_ALL,)),
    Binding("system:public-info-viewer", (_ALL, _ANONYMOUS)),
    Binding("system:node-proxier", ("User:system:kube-proxy",)),
    Binding("system:kube-controller-manager", (_MANAGER,)),
    Binding("system:kube-dns", ("ServiceAccount:kube-system/kube-dns",)),
    Binding("system:kube-scheduler", (_SCHEDULER,)),
    Binding("system:volume-scheduler", (_SCHEDULER,)),
    Binding("system:service-account-issuer-discovery", ("Group:system:serviceaccounts",)),
    Binding("system:node"),  # nobody: the Node authorizer has taken over
)

_SYSTEM = "kube-system"

NAMESPACED_ROLES = (
    Role("extension-apiserver-authentication-reader", (
        rule(READ, "configmaps", names="extension-apiserver-authentication"),), namespace=_SYSTEM),
    Role("system:controller:bootstrap-signer", (rule(READ, "secrets"),), namespace=_SYSTEM),
    Role("system:controller:cloud-provider", (rule("create get list watch", "configmaps"),), namespace=_SYSTEM),
    Role("system:controller:token-cleaner", (rule("get list watch delete", "secrets"), EVENT_RULE), namespace=_SYSTEM),
    *(Role(f"system::leader-locking-{name}", (
        rule("watch", "configmaps"), rule("get update", "configmaps", names=name)), namespace=_SYSTEM)
      for name in ("kube-controller-manager", "kube-scheduler")),
    Role("system:controller:bootstrap-signer", (
        rule(READ, "configmaps"), rule("update", "configmaps", names="cluster-info"), EVENT_RULE),
        namespace="kube-public"),
)

NAMESPACED_BINDINGS = (
    Binding("system::extension-apiserver-authentication-reader", (_MANAGER, _SCHEDULER),
            "extension-apiserver-authentication-reader", _SYSTEM),
    Binding("system::leader-locking-kube-controller-manager",
            (_MANAGER, f"ServiceAccount:{_SYSTEM}/kube-controller-manager"), namespace=_SYSTEM),
    Binding("system::leader-locking-kube-scheduler", (_SCHEDULER, f"ServiceAccount:{_SYSTEM}/kube-scheduler"),
            namespace=_SYSTEM),
    *(Binding(f"system:controller:{name}", (f"ServiceAccount:{_SYSTEM}/{name}",), namespace=_SYSTEM)
      for name in ("bootstrap-signer", "cloud-provider", "token-cleaner")),
    Binding("system:controller:bootstrap-signer", (f"ServiceAccount:{_SYSTEM}/bootstrap-signer",),
            namespace="kube-public"),
)
