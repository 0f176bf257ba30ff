"""Which admission steps there are, in upstream's order (pkg/kubeapiserver/options/plugins.go)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netlab.apiserver.admission.always_pull import AlwaysPullImages
from netlab.apiserver.admission.base import Chain, Step
from netlab.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from netlab.apiserver.admission.limit_ranger import LimitRanger
from netlab.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from netlab.apiserver.admission.node_restriction import NodeRestriction
from netlab.apiserver.admission.pod_security import PodSecurity
from netlab.apiserver.admission.policies import MutatingPolicies, ValidatingPolicies
from netlab.apiserver.admission.priority import Priority
from netlab.apiserver.admission.resource_quota import ResourceQuota
from netlab.apiserver.admission.service_account import ServiceAccount
from netlab.apiserver.admission.tolerations import DefaultTolerationSeconds
from netlab.apiserver.admission.webhooks import MutatingWebhooks, ValidatingWebhooks
from netlab.errors import UsageError

ORDER: tuple[Callable[[], Step], ...] = (
    NamespaceLifecycle, LimitRanger, ServiceAccount, NodeRestriction, AlwaysPullImages, PodSecurity, Priority,
    DefaultTolerationSeconds, CertificateApproval, CertificateSigning, CertificateSubjectRestriction, MutatingPolicies,
    MutatingWebhooks, ValidatingPolicies, ValidatingWebhooks, ResourceQuota)
_OFF = frozenset((NodeRestriction.name, AlwaysPullImages.name))
"""Those that are on only when --enable-admission-plugins names them."""
_UPSTREAMS = frozenset((
    "AlwaysAdmit", "AlwaysDeny", "ClusterTrustBundleAttest", "DefaultIngressClass", "DefaultStorageClass",
    "DenyServiceExternalIPs", "EventRateLimit", "ExtendedResourceToleration", "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology", "NamespaceAutoProvision", "NamespaceExists",
    "OwnerReferencesPermissionEnforcement", "PersistentVolumeClaimResize", "PodNodeSelector",
    "PodTolerationRestriction", "PodTopologyLabels", "RuntimeClass", "StorageObjectInUseProtection",
    "TaintNodesByCondition"))
"""Upstream's that this server does not have: they may be named, and do nothing."""


def chain(*, enabled: Sequence[str] = (), disabled: Sequence[str] = ()) -> Chain:
    """Return the steps that are switched on.

    Raises:
        UsageError: a name that neither this server nor upstream knows, or one that is switched both on and off.
    """
    steps = [make() for make in ORDER]
    known = {step.name for step in steps} | _UPSTREAMS
    for flag, names in (("enable", enabled), ("disable", disabled)):
        for name in names:
            if name not in known:
                raise UsageError(f'--{flag}-admission-plugins plugin "{name}" is unknown',
                                 hint=", ".join(sorted(known)))
    both = set(enabled) & set(disabled)
    if both:
        raise UsageError(f"{', '.join(sorted(both))} in --enable-admission-plugins and --disable-admission-plugins "
                         "overlapped")
    on = {step.name for step in steps} - _OFF | set(enabled)
    return Chain([step for step in steps if step.name in on - set(disabled)])
