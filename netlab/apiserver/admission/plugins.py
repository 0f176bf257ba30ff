"""Which admission steps there are, in upstream's order (pkg/kubeapiserver/options/plugins.go)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netlab.apiserver.admission.base import Chain, Step
from netlab.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from netlab.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from netlab.apiserver.admission.policies import MutatingPolicies, ValidatingPolicies
from netlab.apiserver.admission.priority import Priority
from netlab.apiserver.admission.service_account import ServiceAccount
from netlab.apiserver.admission.tolerations import DefaultTolerationSeconds
from netlab.apiserver.admission.webhooks import MutatingWebhooks, ValidatingWebhooks

ORDER: tuple[Callable[[], Step], ...] = (
    NamespaceLifecycle, ServiceAccount, Priority, DefaultTolerationSeconds, CertificateApproval, CertificateSigning,
    CertificateSubjectRestriction, MutatingPolicies, MutatingWebhooks, ValidatingPolicies,
    ValidatingWebhooks)


def chain(*, disabled: Sequence[str] = ()) -> Chain:
    """Return the steps that are switched on."""
    return Chain([step for step in (make() for make in ORDER) if step.name not in disabled])
