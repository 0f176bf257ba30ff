"""Nobody hands out more than he has: writes of roles and bindings (pkg/registry/rbac, policybased storage).

Runs with the admission steps but is none that can be switched off: it belongs to RBAC.
"""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step
from netlab.apiserver.auth.authorize import MASTERS, Attributes
from netlab.apiserver.auth.rbac import GROUP, Rbac, not_found, rules_of
from netlab.apiserver.auth.rules import EVERYTHING, Rule, missing, quoted
from netlab.errors import ApiError

_ROLES = ("Role", "ClusterRole")
_BINDINGS = ("RoleBinding", "ClusterRoleBinding")
_HOUSEKEEPING = ("ownerReferences", "finalizers", "managedFields", "resourceVersion")


class Escalation(Step):
    """Upstream's escalation check."""

    kinds = frozenset((*_ROLES, *_BINDINGS))

    def __init__(self, rbac: Rbac) -> None:
        self._rbac = rbac

    async def validate(self, attempt: Attempt) -> None:
        """Refuse a write that gives away what the writer does not hold."""
        if attempt.resource.group != GROUP or attempt.operation not in ("CREATE", "UPDATE"):
            return
        if MASTERS in attempt.user.groups or _only_housekeeping(attempt):
            return
        await self._rbac.refresh(attempt.user)
        if attempt.resource.kind in _ROLES:
            self._role(attempt)
        elif attempt.resource.kind in _BINDINGS:
            self._binding(attempt)

    def _role(self, attempt: Attempt) -> None:
        name = attempt.obj["metadata"].get("name", "")
        if self._may(attempt, "escalate", attempt.resource.plural, name):
            return
        lacking = self._lacking(attempt, rules_of(attempt.obj))
        if lacking:
            raise _refused(attempt, lacking)
        if attempt.obj.get("aggregationRule") and self._lacking(attempt, EVERYTHING):
            raise status.forbidden(attempt.resource, name, "must have cluster-admin privileges to use the "
                                                           "aggregationRule")

    def _binding(self, attempt: Attempt) -> None:
        reference = attempt.obj.get("roleRef") or {}
        kind, name = reference.get("kind", ""), reference.get("name", "")
        if self._may(attempt, "bind", "roles" if kind == "Role" else "clusterroles", name):
            return
        role = (attempt.namespace if kind == "Role" else "", name)
        rules = self._rbac.role(role)
        if rules is None:
            raise ApiError(404, "NotFound", not_found(role), details={
                "name": name, "group": GROUP, "kind": "roles" if role[0] else "clusterroles"})
        lacking = self._lacking(attempt, rules)
        if lacking:
            raise _refused(attempt, lacking)

    def _may(self, attempt: Attempt, verb: str, plural: str, name: str) -> bool:
        asked = Attributes(attempt.user, verb, GROUP, "v1", plural, "", attempt.namespace, name)
        return attempt.call.api.authorizer.authorize(asked).allowed

    def _lacking(self, attempt: Attempt, rules: tuple[Rule, ...]) -> list[Rule]:
        return missing(rules, self._rbac.granted(attempt.user, attempt.namespace).rules)


def _refused(attempt: Attempt, lacking: list[Rule]) -> ApiError:
    texts = "\n".join(sorted(str(rule) for rule in lacking))
    return status.forbidden(attempt.resource, attempt.obj["metadata"].get("name", ""),
                            f'user "{attempt.user.name}" (groups={quoted(attempt.user.groups)}) is attempting to '
                            f"grant RBAC permissions not currently held:\n{texts}")


def _only_housekeeping(attempt: Attempt) -> bool:
    """Tell whether an update changes owners and finalizers at most: the garbage collector's business."""
    return attempt.old is not None and _rest(attempt.obj) == _rest(attempt.old)


def _rest(obj: Object) -> Object:
    metadata = {name: value for name, value in obj["metadata"].items() if name not in _HOUSEKEEPING}
    return {**obj, "metadata": metadata}
