"""--authorization-mode: several authorizers in a row, the first yes counts (k8s.io/apiserver …/authorizer/union)."""

from __future__ import annotations

from collections.abc import Sequence

from netlab.apiserver.auth.authorize import MASTERS, AlwaysAllow, AlwaysDeny, Attributes, Authorizer, Decision, Granted
from netlab.apiserver.auth.node import NodeAuthorizer
from netlab.apiserver.auth.rbac import Rbac
from netlab.apiserver.http import User
from netlab.store import Store

MODES = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC")
_MASTERED = Decision(True)


class Modes:
    """The chosen authorizers in order, and before them the group that may do everything."""

    def __init__(self, members: Sequence[Authorizer]) -> None:
        self._members = tuple(members)
        self.takes_anonymous = all(member.takes_anonymous for member in members)

    async def refresh(self, user: User) -> None:
        """Let every member take in what was written."""
        for member in self._members:
            await member.refresh(user)

    def authorize(self, attributes: Attributes) -> Decision:
        """Return the first yes, or a no with everybody's reasons."""
        if MASTERS in attributes.user.groups:
            return _MASTERED
        reasons = []
        for member in self._members:
            decision = member.authorize(attributes)
            if decision.allowed:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(False, "\n".join(reasons))

    def granted(self, user: User, namespace: str) -> Granted:
        """Return what all members grant."""
        found = [member.granted(user, namespace) for member in self._members]
        return Granted(tuple(dict.fromkeys(rule for each in found for rule in each.rules)),
                       any(each.incomplete for each in found), ", ".join(each.error for each in found if each.error))


def authorizer(modes: Sequence[str], store: Store) -> tuple[Authorizer, Rbac | None]:
    """Return the authorizer for the flag's words, and RBAC's own when it is among them."""
    rbac = Rbac(store) if "RBAC" in modes else None
    members: list[Authorizer] = []
    for mode in modes:
        if mode == "RBAC" and rbac is not None:
            members.append(rbac)
        elif mode == "Node":
            members.append(NodeAuthorizer(store))
        else:
            members.append(AlwaysAllow() if mode == "AlwaysAllow" else AlwaysDeny())
    return (members[0] if len(members) == 1 and isinstance(members[0], AlwaysAllow) else Modes(members)), rbac
