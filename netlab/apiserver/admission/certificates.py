"""CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may decide on a signing request.

Approving and signing are asked of the authorizer as verbs on `signers` (plugin/pkg/admission/certificates).
"""

from __future__ import annotations

import base64

from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step
from netlab.apiserver.auth.authorize import MASTERS, Attributes

_GROUP = "certificates.k8s.io"
_API_CLIENT = "kubernetes.io/kube-apiserver-client"


class CertificateApproval(Step):
    """Who approves or denies needs the verb approve on the signer."""

    name = "CertificateApproval"
    kinds = frozenset(("CertificateSigningRequest",))

    async def validate(self, attempt: Attempt) -> None:
        """Refuse who may not."""
        if attempt.resource.group == _GROUP and attempt.operation == "UPDATE" and attempt.subresource == "approval":
            await _must(attempt, "approve", f"user not permitted to approve requests with signerName "
                                            f'"{_signer(attempt)}"')


class CertificateSigning(Step):
    """Who issues a certificate, or says that it can't be, needs the verb sign on the signer."""

    name = "CertificateSigning"
    kinds = frozenset(("CertificateSigningRequest",))

    async def validate(self, attempt: Attempt) -> None:
        """Refuse who may not."""
        if attempt.resource.group != _GROUP or attempt.operation != "UPDATE" or attempt.subresource != "status":
            return
        before, after = ((one or {}).get("status") or {} for one in (attempt.old, attempt.obj))
        if all(before.get(part) == after.get(part) for part in ("certificate", "conditions")):
            return
        await _must(attempt, "sign", f'user not permitted to sign requests with signerName "{_signer(attempt)}"')


class CertificateSubjectRestriction(Step):
    """Nobody is made a member of system:masters by a certificate."""

    name = "CertificateSubjectRestriction"
    kinds = frozenset(("CertificateSigningRequest",))

    async def validate(self, attempt: Attempt) -> None:
        """Refuse a request for such a client certificate."""
        if attempt.resource.group != _GROUP or attempt.operation != "CREATE" or attempt.subresource \
                or _signer(attempt) != _API_CLIENT:
            return
        from cryptography import x509
        from cryptography.x509.oid import NameOID
        try:
            request = x509.load_pem_x509_csr(base64.b64decode(attempt.obj["spec"]["request"]))
        except ValueError:
            return  # said by the checks
        groups = [entry.value for entry in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        if MASTERS in groups:
            raise status.forbidden(attempt.resource, attempt.name,
                                   f"use of {_API_CLIENT} signer with {MASTERS} group is not allowed")


def _signer(attempt: Attempt) -> str:
    return str(((attempt.old or attempt.obj).get("spec") or {}).get("signerName", ""))


async def _must(attempt: Attempt, verb: str, said: str) -> None:
    """Ask for the verb on the signer, or on all signers of its domain.

    Raises:
        ApiError: 403.
    """
    signer = _signer(attempt)
    authorizer = attempt.call.api.authorizer
    for name in (signer, f"{signer.partition('/')[0]}/*"):
        asked = Attributes(attempt.user, verb, group=_GROUP, version="*", resource="signers", name=name)
        if authorizer.authorize(asked).allowed:
            return
    raise status.forbidden(attempt.resource, attempt.name, said)
