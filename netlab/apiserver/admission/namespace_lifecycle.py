"""NamespaceLifecycle: nothing is made in a namespace that is absent or on its way out; four namespaces stay."""

from __future__ import annotations

from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step
from netlab.errors import ApiError

IMMORTAL = ("default", "kube-system", "kube-public")


class NamespaceLifecycle(Step):
    """Upstream's plugin of the same name."""

    name = "NamespaceLifecycle"

    async def validate(self, attempt: Attempt) -> None:
        """Refuse deletions of what must stay."""
        if attempt.operation == "DELETE" and attempt.resource.kind == "Namespace" and attempt.name in IMMORTAL:
            raise status.forbidden(attempt.resource, attempt.name, "this namespace may not be deleted")

    async def mutate(self, attempt: Attempt) -> None:
        """Refuse creations in a namespace that cannot take them."""
        if attempt.operation != "CREATE" or not attempt.resource.namespaced or not attempt.namespace:
            return
        namespace = await attempt.call.api.lookup("namespaces", "", attempt.namespace)
        if namespace is None:
            raise ApiError(404, "NotFound", f'namespaces "{attempt.namespace}" not found',
                           details={"name": attempt.namespace, "kind": "namespaces"})
        if namespace["metadata"].get("deletionTimestamp") \
                or (namespace.get("status") or {}).get("phase") == "Terminating":
            error = status.forbidden(attempt.resource, attempt.name, "unable to create new content in namespace "
                                     f"{attempt.namespace} because it is being terminated")
            error.details["causes"] = [{"reason": "NamespaceTerminating", "field": "metadata.namespace", "message":
                                        f"namespace {attempt.namespace} is being terminated"}]
            raise error
