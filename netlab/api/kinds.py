"""The resources of the API: one row each, from which discovery, paths and storage keys are made."""

from __future__ import annotations

from dataclasses import dataclass

CRUD = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Resource:
    """One resource of one group version.

    `subresources` are names such as "status" or "scale"; `prefix` is the folder below /registry where upstream keeps
    the objects (services live in services/specs, endpoints in services/endpoints). Names that do not follow from the
    kind are given: only custom resources have such.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = CRUD
    prefix: str = ""
    singular_name: str = ""
    list_kind: str = ""
    stored: str = ""
    """The apiVersion that objects are stored in, where it is another one."""

    @property
    def singular(self) -> str:
        """Return the singular name, as discovery shows it."""
        return self.singular_name or self.kind.lower()

    @property
    def api_version(self) -> str:
        """Return `v1` or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """Return `pods` or `deployments.apps`: how errors and metrics name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def root(self) -> str:
        """Return `/api/v1` or `/apis/apps/v1`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection or of one object."""
        path = self.root + (f"/namespaces/{namespace}" if namespace and self.namespaced else "") + f"/{self.plural}"
        return path + (f"/{name}" if name else "") + (f"/{subresource}" if subresource else "")

    def storage_prefix(self) -> str:
        """Return the storage folder, e.g. `/registry/pods`; objects are at prefix/[namespace/]name."""
        return f"/registry/{self.prefix or self.plural}"


def _row(api: str, kind: str, plural: str, namespaced: bool, *, short: str = "", categories: str = "", sub: str = "",
         verbs: tuple[str, ...] = CRUD, prefix: str = "", stored: str = "") -> Resource:
    group, _, version = api.rpartition("/")
    return Resource(group, version, kind, plural, namespaced, tuple(short.split()), tuple(categories.split()),
                    tuple(sub.split()), verbs, prefix, stored=stored)


RESOURCES: tuple[Resource, ...] = (
    _row("v1", "Namespace", "namespaces", False, short="ns", sub="status finalize",
         verbs=("create", "delete", "get", "list", "patch", "update", "watch")),
    _row("v1", "Node", "nodes", False, short="no", sub="status proxy", prefix="minions"),
    _row("v1", "Pod", "pods", True, short="po", categories="all",
         sub="status log exec attach portforward proxy binding eviction ephemeralcontainers resize"),
    _row("v1", "Service", "services", True, short="svc", categories="all", sub="status proxy", prefix="services/specs"),
    _row("v1", "Endpoints", "endpoints", True, short="ep", prefix="services/endpoints"),
    _row("v1", "ConfigMap", "configmaps", True, short="cm"),
    _row("v1", "Secret", "secrets", True),
    _row("v1", "ServiceAccount", "serviceaccounts", True, short="sa", sub="token"),
    _row("v1", "Event", "events", True, short="ev"),
    _row("v1", "ReplicationController", "replicationcontrollers", True, short="rc", categories="all",
         sub="status scale", prefix="controllers"),
    _row("v1", "PersistentVolume", "persistentvolumes", False, short="pv", sub="status"),
    _row("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True, short="pvc", sub="status"),
    _row("v1", "LimitRange", "limitranges", True, short="limits"),
    _row("v1", "ResourceQuota", "resourcequotas", True, short="quota", sub="status"),
    _row("v1", "PodTemplate", "podtemplates", True),
    _row("v1", "Binding", "bindings", True, verbs=("create",)),
    _row("v1", "ComponentStatus", "componentstatuses", False, short="cs", verbs=("get", "list")),
    _row("apps/v1", "Deployment", "deployments", True, short="deploy", categories="all", sub="status scale"),
    _row("apps/v1", "ReplicaSet", "replicasets", True, short="rs", categories="all", sub="status scale"),
    _row("apps/v1", "DaemonSet", "daemonsets", True, short="ds", categories="all", sub="status"),
    _row("apps/v1", "StatefulSet", "statefulsets", True, short="sts", categories="all", sub="status scale"),
    _row("apps/v1", "ControllerRevision", "controllerrevisions", True),
    _row("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, short="hpa", categories="all",
         sub="status"),
    _row("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True, short="hpa", categories="all",
         sub="status", stored="autoscaling/v2"),
    _row("batch/v1", "Job", "jobs", True, categories="all", sub="status"),
    _row("batch/v1", "CronJob", "cronjobs", True, short="cj", categories="all", sub="status"),
    _row("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", True),
    _row("coordination.k8s.io/v1", "Lease", "leases", True),
    _row("events.k8s.io/v1", "Event", "events", True, short="ev", stored="v1"),
    _row("networking.k8s.io/v1", "Ingress", "ingresses", True, short="ing", sub="status", prefix="ingress"),
    _row("networking.k8s.io/v1", "IngressClass", "ingressclasses", False),
    _row("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", True, short="netpol"),
    _row("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs", False, sub="status"),
    _row("networking.k8s.io/v1", "IPAddress", "ipaddresses", False, short="ip"),
    _row("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", True, short="pdb", sub="status"),
    _row("rbac.authorization.k8s.io/v1", "Role", "roles", True),
    _row("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", True),
    _row("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", False),
    _row("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", False),
    _row("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", False, short="pc"),
    _row("storage.k8s.io/v1", "StorageClass", "storageclasses", False, short="sc"),
    _row("storage.k8s.io/v1", "CSIDriver", "csidrivers", False),
    _row("storage.k8s.io/v1", "CSINode", "csinodes", False),
    _row("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities", True),
    _row("storage.k8s.io/v1", "VolumeAttachment", "volumeattachments", False, sub="status"),
    _row("storage.k8s.io/v1", "VolumeAttributesClass", "volumeattributesclasses", False, short="vac"),
    _row("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests", False, short="csr",
         sub="status approval"),
    _row("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", False),
    _row("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "flowschemas", False, sub="status"),
    _row("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", False,
         sub="status"),
    _row("resource.k8s.io/v1", "DeviceClass", "deviceclasses", False),
    _row("resource.k8s.io/v1", "ResourceClaim", "resourceclaims", True, sub="status"),
    _row("resource.k8s.io/v1", "ResourceClaimTemplate", "resourceclaimtemplates", True),
    _row("resource.k8s.io/v1", "ResourceSlice", "resourceslices", False),
    _row("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", False,
         categories="api-extensions"),
    _row("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", False,
         categories="api-extensions"),
    _row("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", False,
         categories="api-extensions", sub="status"),
    _row("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings",
         False, categories="api-extensions"),
    _row("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies", False,
         categories="api-extensions"),
    _row("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", False,
         categories="api-extensions"),
    _row("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False, short="crd crds",
         categories="api-extensions", sub="status", prefix="apiextensions.k8s.io/customresourcedefinitions"),
    _row("apiregistration.k8s.io/v1", "APIService", "apiservices", False, categories="api-extensions", sub="status",
         prefix="apiregistration.k8s.io/apiservices"),
    _row("authentication.k8s.io/v1", "TokenReview", "tokenreviews", False, verbs=("create",)),
    _row("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews", False, verbs=("create",)),
    _row("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews", False, verbs=("create",)),
    _row("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False, verbs=("create",)),
    _row("authorization.k8s.io/v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", True, verbs=("create",)),
    _row("authorization.k8s.io/v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False, verbs=("create",)),
)

_BY_GROUP_RESOURCE = {row.group_resource: row for row in reversed(RESOURCES)}  # of several versions, the first one
_BY_KIND = {(row.api_version, row.kind): row for row in RESOURCES}


def resource(text: str) -> Resource:
    """Return the row for `pods`, `deployments.apps`, or a bare plural that only one group has.

    A bare plural that several groups have (`events`) means the core group's.

    Raises:
        KeyError: no such resource.
    """
    if text in _BY_GROUP_RESOURCE:
        return _BY_GROUP_RESOURCE[text]
    for row in RESOURCES:
        if row.plural == text:
            return row
    raise KeyError(text)


def by_kind(api_version: str, kind: str) -> Resource:
    """Return the row of a kind.

    Raises:
        KeyError: no such kind in that group version.
    """
    return _BY_KIND[(api_version, kind)]
