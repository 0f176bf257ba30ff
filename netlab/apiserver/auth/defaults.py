"""Puts the default roles and bindings in place when the server starts, and gives back what was taken from them.

Rules and subjects that somebody added stay (upstream's rbac/bootstrap-roles hook does not tighten either).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.auth import policy, policy_controllers
from netlab.apiserver.auth.policy import RBAC, Binding, Role
from netlab.apiserver.auth.rbac import rules_of
from netlab.apiserver.auth.rules import missing

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
"""On every default object."""
_AT_ONCE = 40

Change = Callable[[Object], Object | None]
"""The object that is there → what it should be, None when it is fine."""
Put = Callable[[str, Object, Change], Awaitable[None]]
"""(plural, wanted object, change): create it, or change what is there."""


def objects() -> Iterable[tuple[str, Object, Change]]:
    """Return every default object with its plural and what to do when it is there already."""
    for role in (*policy.USER_ROLES, *policy.COMPONENT_ROLES, *policy_controllers.ROLES, *policy.NAMESPACED_ROLES):
        obj = role_object(role)
        yield ("roles" if role.namespace else "clusterroles"), obj, _role_change(obj)
    for binding in (*policy.BINDINGS, *policy_controllers.BINDINGS, *policy.NAMESPACED_BINDINGS):
        obj = binding_object(binding)
        yield ("rolebindings" if binding.namespace else "clusterrolebindings"), obj, _binding_change(obj)


async def ensure(put: Put) -> None:
    """Put all of them in place.

    Raises:
        ApiError: the store or a check refused one.
    """
    wanted = list(objects())
    for start in range(0, len(wanted), _AT_ONCE):
        await asyncio.gather(*(put(*each) for each in wanted[start:start + _AT_ONCE]))


def role_object(role: Role) -> Object:
    """Return the Role or ClusterRole."""
    obj: Object = {"kind": "Role" if role.namespace else "ClusterRole", "apiVersion": f"{RBAC}/v1",
                   "metadata": _metadata(role.name, role.namespace, role.labels)}
    if role.gathers:
        obj["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {policy.AGGREGATE + role.gathers: "true"}}]}
    obj["rules"] = [rule.to_object() for rule in role.rules]
    return obj


def binding_object(binding: Binding) -> Object:
    """Return the RoleBinding or ClusterRoleBinding; its role has the same name unless it says otherwise."""
    kind = "Role" if binding.namespace else "ClusterRole"
    subjects: list[Any] = []
    for subject in binding.subjects:
        what, _, name = subject.partition(":")
        if what == "ServiceAccount":
            namespace, _, name = name.partition("/")
            subjects.append({"kind": what, "name": name, "namespace": namespace})
        else:
            subjects.append({"kind": what, "apiGroup": RBAC, "name": name})
    obj: Object = {"kind": f"{kind}Binding", "apiVersion": f"{RBAC}/v1",
                   "metadata": _metadata(binding.name, binding.namespace, {}),
                   "roleRef": {"apiGroup": RBAC, "kind": kind, "name": binding.role or binding.name}}
    return obj | ({"subjects": subjects} if subjects else {})


def _metadata(name: str, namespace: str, labels: Any) -> Object:
    metadata: Object = {"name": name, "labels": {**LABELS, **labels}, "annotations": {AUTOUPDATE: "true"}}
    return metadata | ({"namespace": namespace} if namespace else {})


def _role_change(wanted: Object) -> Change:
    def change(there: Object) -> Object | None:
        if (there["metadata"].get("annotations") or {}).get(AUTOUPDATE) == "false":
            return None
        new = {**there, "metadata": _marked(there, wanted)}
        if "aggregationRule" in wanted:
            new["aggregationRule"] = there.get("aggregationRule") or wanted["aggregationRule"]
        elif there.get("rules") != wanted["rules"]:
            lacking = missing(rules_of(wanted), rules_of(there))
            if lacking:
                new["rules"] = [*(there.get("rules") or []), *(rule.to_object() for rule in lacking)]
        return None if new == there else new

    return change


def _binding_change(wanted: Object) -> Change:
    def change(there: Object) -> Object | None:
        if (there["metadata"].get("annotations") or {}).get(AUTOUPDATE) == "false":
            return None
        new = {**there, "metadata": _marked(there, wanted), "roleRef": wanted["roleRef"]}
        held = there.get("subjects") or []
        lacking = [subject for subject in wanted.get("subjects") or [] if subject not in held]
        if lacking:
            new["subjects"] = [*held, *lacking]
        return None if new == there else new

    return change


def _marked(there: Object, wanted: Object) -> Object:
    metadata: Object = dict(there["metadata"])
    for part in ("labels", "annotations"):
        metadata[part] = {**wanted["metadata"][part], **(metadata.get(part) or {})}
    return metadata
