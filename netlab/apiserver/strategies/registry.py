"""Which strategy and which stored form each resource has."""

from __future__ import annotations

from netlab.api import kinds
from netlab.api.kinds import Resource
from netlab.apiserver import events
from netlab.apiserver.allocator import ServiceStock
from netlab.apiserver.endpoint import Conversion
from netlab.apiserver.strategies import apps, core, endpoints, pod, policy, rbac
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
    "jobs.batch": apps.JobStrategy,
    "cronjobs.batch": apps.CronJobStrategy,
    "networkpolicies.networking.k8s.io": policy.NetworkPolicyStrategy,
    "ingresses.networking.k8s.io": policy.GenerationStrategy,
    "ingressclasses.networking.k8s.io": policy.GenerationStrategy,
    "poddisruptionbudgets.policy": policy.BudgetStrategy,
    "roles.rbac.authorization.k8s.io": rbac.RoleStrategy,
    "clusterroles.rbac.authorization.k8s.io": rbac.RoleStrategy,
    "rolebindings.rbac.authorization.k8s.io": rbac.BindingStrategy,
    "clusterrolebindings.rbac.authorization.k8s.io": rbac.BindingStrategy,
    "priorityclasses.scheduling.k8s.io": policy.PriorityClassStrategy,
    "storageclasses.storage.k8s.io": policy.StorageClassStrategy,
}


def strategy(row: Resource, stock: ServiceStock) -> Strategy:
    """Return a resource's strategy."""
    if row.group_resource == "services":
        return ServiceStrategy(row, stock)
    return _STRATEGIES.get(row.group_resource, Strategy)(row)


def conversion(row: Resource) -> tuple[Conversion | None, Resource]:
    """Return how a resource's served form is made of the stored one, and the resource as which it is stored."""
    if row.group_resource == "events.events.k8s.io":
        return Conversion(events.outward, events.inward), kinds.resource("events")
    return None, row
