"""Which strategy and which stored form each resource has."""

from __future__ import annotations

from netlab.api import kinds
from netlab.api.kinds import Resource
from netlab.apiserver import autoscaling, events
from netlab.apiserver.allocator import ServiceStock
from netlab.apiserver.crd.strategy import DefinitionStrategy
from netlab.apiserver.endpoint import Conversion
from netlab.apiserver.strategies import (
    apps,
    batch,
    certificates,
    cluster,
    core,
    endpoints,
    pod,
    policy,
    rbac,
    registration,
    scaling,
    storage,
)
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.strategies.service import ServiceStrategy

_STRATEGIES: dict[str, type[Strategy]] = {
    "namespaces": core.NamespaceStrategy,
    "nodes": core.NodeStrategy,
    "pods": pod.PodStrategy,
    "podtemplates": pod.PodTemplateStrategy,
    "endpoints": endpoints.EndpointsStrategy,
    "endpointslices.discovery.k8s.io": endpoints.EndpointSliceStrategy,
    "configmaps": core.ConfigMapStrategy,
    "secrets": core.SecretStrategy,
    "serviceaccounts": core.ServiceAccountStrategy,
    "events": core.EventStrategy,
    "events.events.k8s.io": events.NewEventStrategy,
    "leases.coordination.k8s.io": core.LeaseStrategy,
    "persistentvolumes": core.VolumeStrategy,
    "persistentvolumeclaims": core.VolumeClaimStrategy,
    "limitranges": policy.LimitRangeStrategy,
    "resourcequotas": policy.ResourceQuotaStrategy,
    "replicationcontrollers": apps.ReplicationControllerStrategy,
    "deployments.apps": apps.DeploymentStrategy,
    "replicasets.apps": apps.ReplicaSetStrategy,
    "daemonsets.apps": apps.DaemonSetStrategy,
    "statefulsets.apps": apps.StatefulSetStrategy,
    "controllerrevisions.apps": apps.ControllerRevisionStrategy,
    "jobs.batch": batch.JobStrategy,
    "cronjobs.batch": batch.CronJobStrategy,
    "networkpolicies.networking.k8s.io": policy.NetworkPolicyStrategy,
    "ingresses.networking.k8s.io": policy.IngressStrategy,
    "ingressclasses.networking.k8s.io": policy.IngressClassStrategy,
    "servicecidrs.networking.k8s.io": policy.ServiceRangeStrategy,
    "ipaddresses.networking.k8s.io": policy.AddressStrategy,
    "poddisruptionbudgets.policy": scaling.BudgetStrategy,
    "roles.rbac.authorization.k8s.io": rbac.RoleStrategy,
    "clusterroles.rbac.authorization.k8s.io": rbac.RoleStrategy,
    "rolebindings.rbac.authorization.k8s.io": rbac.BindingStrategy,
    "clusterrolebindings.rbac.authorization.k8s.io": rbac.BindingStrategy,
    "priorityclasses.scheduling.k8s.io": policy.PriorityClassStrategy,
    "storageclasses.storage.k8s.io": storage.StorageClassStrategy,
    "csidrivers.storage.k8s.io": storage.DriverStrategy,
    "csinodes.storage.k8s.io": storage.CsiNodeStrategy,
    "csistoragecapacities.storage.k8s.io": storage.CapacityStrategy,
    "volumeattachments.storage.k8s.io": storage.AttachmentStrategy,
    "volumeattributesclasses.storage.k8s.io": storage.AttributesClassStrategy,
    "horizontalpodautoscalers.autoscaling": scaling.AutoscalerStrategy,
    "certificatesigningrequests.certificates.k8s.io": certificates.SigningRequestStrategy,
    "runtimeclasses.node.k8s.io": cluster.RuntimeClassStrategy,
    "flowschemas.flowcontrol.apiserver.k8s.io": cluster.FlowSchemaStrategy,
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": cluster.PriorityLevelStrategy,
    "deviceclasses.resource.k8s.io": cluster.DeviceClassStrategy,
    "resourceclaims.resource.k8s.io": cluster.ClaimStrategy,
    "resourceclaimtemplates.resource.k8s.io": cluster.ClaimTemplateStrategy,
    "resourceslices.resource.k8s.io": cluster.SliceStrategy,
    "customresourcedefinitions.apiextensions.k8s.io": DefinitionStrategy,
    "apiservices.apiregistration.k8s.io": registration.ApiServiceStrategy,
    "validatingwebhookconfigurations.admissionregistration.k8s.io": registration.WebhooksStrategy,
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": registration.WebhooksStrategy,
    "validatingadmissionpolicies.admissionregistration.k8s.io": registration.PolicyStrategy,
    "mutatingadmissionpolicies.admissionregistration.k8s.io": registration.PolicyStrategy,
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": registration.PolicyBindingStrategy,
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": registration.PolicyBindingStrategy,
}


def strategy(row: Resource, stock: ServiceStock) -> Strategy:
    """Return a resource's strategy."""
    if row.group_resource == "services":
        return ServiceStrategy(row, stock)
    if row.api_version == "autoscaling/v1":
        return scaling.OldAutoscalerStrategy(row)
    return _STRATEGIES.get(row.group_resource, Strategy)(row)


def conversion(row: Resource) -> tuple[Conversion | None, Resource]:
    """Return how a resource's served form is made of the stored one, and the resource as which it is stored."""
    if row.group_resource == "events.events.k8s.io":
        return Conversion(events.outward, events.inward), kinds.resource("events")
    if row.api_version == "autoscaling/v1":
        return Conversion(autoscaling.to_v1, autoscaling.to_v2), kinds.resource("horizontalpodautoscalers.autoscaling")
    return None, row
