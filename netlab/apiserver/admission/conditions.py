"""matchConditions: expressions that say whether a webhook or a policy is asked at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netlab.apiserver.admission import review
from netlab.apiserver.cel import CelError, compile_

if TYPE_CHECKING:
    from netlab.api.meta import Object
    from netlab.apiserver.admission.base import Attempt

NAMES = ("object", "oldObject", "request", "namespaceObject", "params", "variables", "authorizer")


class ConditionFailed(ValueError):
    """A condition has no value."""


def values(attempt: Attempt, *, namespace: Object | None = None, params: Object | None = None,
           variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the variables that expressions about a write may use.

    https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
    """
    asked = review.request(attempt, attempt.resource, None, None, dry_run=attempt.call.dry_run())
    asked.pop("object")
    asked.pop("oldObject")
    return {"object": attempt.obj or None, "oldObject": attempt.old, "request": asked, "namespaceObject": namespace,
            "params": params, "variables": dict(variables or {}), "authorizer": None}


def hold(conditions: Sequence[Mapping[str, Any]], attempt: Attempt, given: Mapping[str, Any] | None = None) -> bool:
    """Tell whether all conditions hold; one that is false settles it, whatever others lack.

    Raises:
        ConditionFailed: one has no value, and none is false.
    """
    if not conditions:
        return True
    given = values(attempt) if given is None else given
    failed = ""
    for condition in conditions:
        try:
            if compile_(str(condition.get("expression", "")), NAMES).evaluate(given) is not True:
                return False
        except CelError as error:
            failed = failed or f"match condition \"{condition.get('name', '')}\": {error}"
    if failed:
        raise ConditionFailed(failed)
    return True
