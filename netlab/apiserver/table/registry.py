"""Which columns each resource has."""

from __future__ import annotations

from netlab.api.kinds import Resource
from netlab.apiserver.table import cluster, extensions, network, pods, scaling, storage, workloads
from netlab.apiserver.table.columns import Columns, default_cells, table

_DEFAULT = table("Name Age", default_cells)
_COLUMNS: dict[str, Columns] = {
    "pods": pods.PODS, "podtemplates": pods.POD_TEMPLATES,
    "services": network.SERVICES, "endpoints": network.ENDPOINTS,
    "endpointslices.discovery.k8s.io": network.ENDPOINT_SLICES,
    "ingresses.networking.k8s.io": network.INGRESSES, "ingressclasses.networking.k8s.io": network.INGRESS_CLASSES,
    "networkpolicies.networking.k8s.io": network.NETWORK_POLICIES,
    "deployments.apps": workloads.DEPLOYMENTS, "replicasets.apps": workloads.REPLICASETS,
    "replicationcontrollers": workloads.REPLICATION_CONTROLLERS, "daemonsets.apps": workloads.DAEMONSETS,
    "statefulsets.apps": workloads.STATEFULSETS, "jobs.batch": workloads.JOBS, "cronjobs.batch": workloads.CRONJOBS,
    "controllerrevisions.apps": workloads.CONTROLLER_REVISIONS,
    "nodes": cluster.NODES, "namespaces": cluster.NAMESPACES, "events": cluster.EVENTS,
    "events.events.k8s.io": cluster.NEW_EVENTS, "leases.coordination.k8s.io": cluster.LEASES,
    "componentstatuses": cluster.COMPONENT_STATUSES, "configmaps": cluster.CONFIG_MAPS, "secrets": cluster.SECRETS,
    "serviceaccounts": cluster.SERVICE_ACCOUNTS, "resourcequotas": cluster.RESOURCE_QUOTAS,
    "priorityclasses.scheduling.k8s.io": cluster.PRIORITY_CLASSES,
    "persistentvolumes": storage.VOLUMES, "persistentvolumeclaims": storage.CLAIMS,
    "storageclasses.storage.k8s.io": storage.CLASSES, "poddisruptionbudgets.policy": storage.BUDGETS,
    "rolebindings.rbac.authorization.k8s.io": storage.BINDINGS,
    "clusterrolebindings.rbac.authorization.k8s.io": storage.BINDINGS,
    "roles.rbac.authorization.k8s.io": storage.CREATED, "clusterroles.rbac.authorization.k8s.io": storage.CREATED,
    "limitranges": storage.CREATED, "customresourcedefinitions.apiextensions.k8s.io": storage.CREATED,
    "horizontalpodautoscalers.autoscaling": scaling.AUTOSCALERS,
    "servicecidrs.networking.k8s.io": network.SERVICE_RANGES, "ipaddresses.networking.k8s.io": network.ADDRESSES,
    "csidrivers.storage.k8s.io": storage.DRIVERS, "csinodes.storage.k8s.io": storage.CSI_NODES,
    "csistoragecapacities.storage.k8s.io": storage.CAPACITIES,
    "volumeattachments.storage.k8s.io": storage.ATTACHMENTS,
    "volumeattributesclasses.storage.k8s.io": storage.ATTRIBUTES_CLASSES,
    "certificatesigningrequests.certificates.k8s.io": extensions.SIGNING_REQUESTS,
    "apiservices.apiregistration.k8s.io": extensions.API_SERVICES,
    "runtimeclasses.node.k8s.io": extensions.RUNTIME_CLASSES,
    "flowschemas.flowcontrol.apiserver.k8s.io": extensions.FLOW_SCHEMAS,
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": extensions.PRIORITY_LEVELS,
    "resourceclaims.resource.k8s.io": extensions.RESOURCE_CLAIMS,
    "resourceslices.resource.k8s.io": extensions.RESOURCE_SLICES,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": extensions.WEBHOOKS,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": extensions.WEBHOOKS,
    "validatingadmissionpolicies.admissionregistration.k8s.io": extensions.VALIDATING_POLICIES,
    "mutatingadmissionpolicies.admissionregistration.k8s.io": extensions.MUTATING_POLICIES,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": extensions.POLICY_BINDINGS,
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": extensions.POLICY_BINDINGS,
}


def columns(resource: Resource) -> Columns:
    """Return a resource's columns; name and age where nothing else is known."""
    if resource.api_version == "autoscaling/v1":
        return scaling.OLD_AUTOSCALERS
    return _COLUMNS.get(resource.group_resource, _DEFAULT)
