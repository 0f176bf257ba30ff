"""matchConditions: expressions that say whether a webhook or a policy is asked at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from netlab.apiserver.admission import review
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.cel import Budget, CelError, authorizer, compile_dynamic, timestamp
from netlab.apiserver.http import User

if TYPE_CHECKING:
    from netlab.api.kinds import Resource
    from netlab.api.meta import Object
    from netlab.apiserver.admission.base import Attempt

NAMES = ("object", "oldObject", "request", "namespaceObject", "params", "variables", "authorizer",
         "authorizer.requestResource")
_BUDGET = 2_500_000
"""What the conditions of one webhook, or one policy's binding, may cost for one request."""


class ConditionFailed(ValueError):
    """A condition has no value."""


async def shown(attempt: Attempt, resource: Resource, *, namespace: Object | None = None,
                params: Object | None = None) -> dict[str, Any]:
    """Return the variables that expressions about a write may use, its objects in the version of `resource`.

    https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/

    Raises:
        ApiError: 500, a conversion webhook failed.
    """
    obj, old = await attempt.seen(resource)
    asked = review.request(attempt, resource, None, None, dry_run=attempt.call.dry_run())
    asked.pop("object")
    asked.pop("oldObject")
    return {"object": obj or None, "oldObject": old, "request": asked, "namespaceObject": _timed(namespace),
            "params": params, "variables": {}, **authorizer.values(asked)}


def _timed(namespace: Object | None) -> Object | None:
    """Return a namespace as its declared type has it: with times that are such."""
    if namespace is None or "creationTimestamp" not in namespace["metadata"]:
        return namespace
    metadata = namespace["metadata"]
    return {**namespace, "metadata": {**metadata, **{name: timestamp(metadata[name]) for name in (
        "creationTimestamp", "deletionTimestamp") if name in metadata}}}


def hold(conditions: Sequence[Mapping[str, Any]], attempt: Attempt, given: Mapping[str, Any] | None,
         within: Budget | None = None) -> bool:
    """Tell whether all conditions hold; one that is false settles it, whatever others lack.

    Raises:
        ConditionFailed: one has no value, and none is false.
    """
    if not conditions or given is None:
        return True
    failed, budget = "", Budget(_BUDGET, within=within)
    with answering(attempt):
        for condition in conditions:
            try:
                if compile_dynamic(str(condition.get("expression", "")), NAMES).evaluate(given, budget) is not True:
                    return False
            except CelError as error:
                failed = failed or f"match condition \"{condition.get('name', '')}\": {error}"
    if failed:
        raise ConditionFailed(failed)
    return True


def answering(attempt: Attempt) -> AbstractContextManager[None]:
    """Let the server's authorizer answer while the body evaluates expressions about a write."""
    def decide(asked: Mapping[str, str]) -> tuple[bool, str]:
        user = attempt.user
        if asked.get("serviceAccount"):
            namespace, _, name = asked["serviceAccount"].partition("/")
            user = User(f"system:serviceaccount:{namespace}:{name}", (
                "system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"))
        wanted = Attributes(user, asked["verb"], asked.get("group", ""), "*", asked.get("resource", ""),
                            asked.get("subresource", ""), asked.get("namespace", ""), asked.get("name", ""),
                            path=asked.get("path", ""))
        decision = attempt.call.api.authorizer.authorize(wanted)
        return decision.allowed, decision.reason
    return authorizer.asking(decide)
