"""CertificateSigningRequests: kubelets' own are approved, approved ones signed, old ones removed."""

from __future__ import annotations

import base64
import logging
import time
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers import signing
from netlab.controllers.base import Context, Controller
from netlab.errors import ApiError

log = logging.getLogger(__name__)

_RESOURCE = "certificatesigningrequests"
_KEPT_SECONDS = {"Approved": 3600.0, "Denied": 3600.0, "Failed": 3600.0, "": 86400.0}
"""How long requests stay after they were decided; undecided ones after they were made."""


def _kinds(csr: Object) -> set[str]:
    return {condition.get("type", "") for condition in (csr.get("status") or {}).get("conditions") or []}


class _Requests(Controller):
    """What the three have in common: their keys are CertificateSigningRequests."""

    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requests = self.source(_RESOURCE, self.enqueue)


class CertificateSigner(_Requests):
    """Signs what is approved, with the cluster's CA (--cluster-signing-cert-file)."""

    name: ClassVar[str] = "certificatesigningrequest-signing-controller"

    async def reconcile(self, key: str) -> float | None:
        """Sign one request, or say why it can't be."""
        csr = self.requests.get(key)
        if csr is None or meta.deleting(csr) or not self.options.signing_certificate:
            return None
        kinds, state = _kinds(csr), csr.get("status") or {}
        if "Approved" not in kinds or kinds & {"Denied", "Failed"} or state.get("certificate") \
                or csr["spec"].get("signerName") not in signing.SIGNERS:
            return None
        try:
            request = signing.request_of(csr)
            signing.check(csr, request)
        except ValueError as error:
            conditions = [*(state.get("conditions") or ()), {
                "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(error)}]
            await self._put({**csr, "status": {**state, "conditions": conditions}})
            return None
        pem = signing.sign(csr, request, self.options.signing_certificate, self.options.signing_key, now=time.time(),
                           longest=self.options.signing_seconds)
        await self._put({**csr, "status": {**state, "certificate": base64.b64encode(pem).decode()}})
        log.info("signed %s for %s", key, csr["spec"].get("username"))
        return None

    async def _put(self, csr: Object) -> None:
        try:
            await self.client.update(_RESOURCE, csr, subresource="status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise


class CertificateApprover(_Requests):
    """Approves the client certificates of kubelets, where RBAC lets who asks have one without being looked at."""

    name: ClassVar[str] = "certificatesigningrequest-approving-controller"

    async def reconcile(self, key: str) -> float | None:
        """Approve one request if it is a kubelet's for itself."""
        csr = self.requests.get(key)
        if csr is None or meta.deleting(csr) or _kinds(csr) or csr["spec"].get("signerName") != signing.NODE_CLIENT:
            return None
        try:
            request = signing.request_of(csr)
            signing.check(csr, request)
        except ValueError:
            return None  # for a person to look at
        own = signing.subject(request)[0] == csr["spec"].get("username")
        for subresource in ("selfnodeclient", "nodeclient") if own else ("nodeclient",):
            if await self._may(csr, subresource):
                word = "self " if subresource.startswith("self") else ""
                message = f"Auto approving {word}kubelet client certificate after SubjectAccessReview."
                conditions = [{"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}]
                try:
                    await self.client.update(_RESOURCE, {**csr, "status": {
                        **(csr.get("status") or {}), "conditions": conditions}}, subresource="approval")
                except ApiError as error:
                    if error.code not in (404, 409):
                        raise
                return None
        return None

    async def _may(self, csr: Object, subresource: str) -> bool:
        spec = csr["spec"]
        review = await self.client.create("subjectaccessreviews.authorization.k8s.io", {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
                "user": spec.get("username", ""), "uid": spec.get("uid", ""), "groups": spec.get("groups") or [],
                "extra": spec.get("extra") or {}, "resourceAttributes": {
                    "group": "certificates.k8s.io", "resource": _RESOURCE, "verb": "create", "version": "*",
                    "subresource": subresource}}})
        return bool((review.get("status") or {}).get("allowed"))


class CertificateCleaner(_Requests):
    """Removes requests that were decided an hour ago, and those that nobody decided for a day."""

    name: ClassVar[str] = "certificatesigningrequest-cleaner-controller"

    async def reconcile(self, key: str) -> float | None:
        """Remove one request when its time has come; else come back then."""
        csr = self.requests.get(key)
        if csr is None or meta.deleting(csr):
            return None
        left = remaining(csr, time.time())
        if left > 0:
            return left
        await self.client.delete(_RESOURCE, key, uid=csr["metadata"].get("uid", ""))
        return None


def remaining(csr: Object, now: float) -> float:
    """Return for how many seconds a request stays."""
    times = [now]
    decided = [condition for condition in (csr.get("status") or {}).get("conditions") or []
               if condition.get("type") in _KEPT_SECONDS]
    for condition in decided:
        at = condition.get("lastUpdateTime") or condition.get("lastTransitionTime")
        if at:
            times.append(meta.parse_timestamp(at) + _KEPT_SECONDS[condition["type"]])
    if not decided:
        times.append(meta.parse_timestamp(csr["metadata"]["creationTimestamp"]) + _KEPT_SECONDS[""])
    return max(times[1:] or [now]) - now
