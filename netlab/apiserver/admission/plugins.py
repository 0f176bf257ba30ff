"""Which admission steps there are, in upstream's order (pkg/kubeapiserver/options/plugins.go)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netlab.apiserver.admission.always_pull import AlwaysPullImages
from netlab.apiserver.admission.base import Chain, Step
from netlab.apiserver.admission.by_name import DenyServiceExternalIPs, ExtendedResourceToleration
from netlab.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from netlab.apiserver.admission.default_classes import DefaultIngressClass, DefaultStorageClass
from netlab.apiserver.admission.in_use import PersistentVolumeClaimResize, StorageObjectInUseProtection
from netlab.apiserver.admission.limit_ranger import LimitRanger
from netlab.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from netlab.apiserver.admission.node_facts import (
    NodeDeclaredFeatureValidator,
    PodTopologyLabels,
    TaintNodesByCondition,
)
from netlab.apiserver.admission.node_restriction import NodeRestriction
from netlab.apiserver.admission.pod_security import PodSecurity
from netlab.apiserver.admission.policies import MutatingPolicies, ValidatingPolicies
from netlab.apiserver.admission.priority import Priority
from netlab.apiserver.admission.resource_quota import ResourceQuota
from netlab.apiserver.admission.runtime_class import RuntimeClass
from netlab.apiserver.admission.service_account import ServiceAccount
from netlab.apiserver.admission.tolerations import DefaultTolerationSeconds
from netlab.apiserver.admission.webhooks import MutatingWebhooks, ValidatingWebhooks
from netlab.errors import UsageError

ORDER: tuple[Callable[[], Step], ...] = (
    NamespaceLifecycle, LimitRanger, ServiceAccount, NodeRestriction, TaintNodesByCondition, AlwaysPullImages,
    PodSecurity, Priority, DefaultTolerationSeconds, ExtendedResourceToleration, DefaultStorageClass,
    StorageObjectInUseProtection, PersistentVolumeClaimResize, RuntimeClass, CertificateApproval, CertificateSigning,
    CertificateSubjectRestriction, DefaultIngressClass, DenyServiceExternalIPs, PodTopologyLabels,
    NodeDeclaredFeatureValidator, MutatingPolicies, MutatingWebhooks, ValidatingPolicies, ValidatingWebhooks,
    ResourceQuota)
_OFF = frozenset((NodeRestriction.name, AlwaysPullImages.name, ExtendedResourceToleration.name,
                  DenyServiceExternalIPs.name))
"""Those that are on only when --enable-admission-plugins names them."""
_UPSTREAMS = frozenset((
    "AlwaysAdmit", "AlwaysDeny", "ClusterTrustBundleAttest", "EventRateLimit", "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology", "NamespaceAutoProvision", "NamespaceExists",
    "OwnerReferencesPermissionEnforcement", "PodNodeSelector", "PodTolerationRestriction"))
"""Upstream's that this server does not have: they may be named, and do nothing."""


def chain(*, enabled: Sequence[str] = (), disabled: Sequence[str] = ()) -> Chain:
    """Return the steps that are switched on.

    Raises:
        UsageError: a name that neither this server nor upstream knows, or one that is switched both on and off.
    """
    steps = [make() for make in ORDER]
    known = {step.name for step in steps} | _UPSTREAMS
    wrong = [f'{flag}-admission-plugins plugin "{name}" is unknown' for flag, names in (
        ("enable", enabled), ("disable", disabled)) for name in names if name not in known]
    both = sorted(set(enabled) & set(disabled))
    if both:
        wrong.append(f"[{' '.join(both)}] in enable-admission-plugins and disable-admission-plugins overlapped")
    if wrong:
        raise UsageError(wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]", hint=", ".join(sorted(known)))
    on = {step.name for step in steps} - _OFF | set(enabled)
    return Chain([step for step in steps if step.name in on - set(disabled)])
