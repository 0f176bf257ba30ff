"""Role-based access control: bindings by subject, roles by name, kept at the store's newest revision.

A request costs one look-up when the same was asked before, else a walk over the bindings of its user and groups:
cluster-wide ones, and those of its namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from netlab.api import kinds
from netlab.api.meta import Object
from netlab.apiserver.auth.authorize import Attributes, Decision, Granted
from netlab.apiserver.auth.rules import Rule, from_object
from netlab.apiserver.http import User
from netlab.store import Event, Store, Watch, WatchCut

GROUP = "rbac.authorization.k8s.io"
_KINDS = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
_BEHIND = 10_000
"""Changes that may pile up between two requests; more make the next one read everything anew."""
_CACHED = 8192

RoleKey = tuple[str, str]
"""(namespace, name); the namespace of a ClusterRole is ""."""
Subject = tuple[str, str]
"""("User" | "Group", name); service accounts are users."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a binding gives to one of its subjects. `why` is upstream's sentence for the audit."""

    role: RoleKey
    why: str


class Index:
    """Roles by name, and what bindings grant by namespace and subject."""

    def __init__(self) -> None:
        self.roles: dict[RoleKey, tuple[Rule, ...]] = {}
        self._bound: dict[RoleKey, list[Subject]] = {}
        self._grants: dict[str, dict[Subject, dict[str, Grant]]] = {}

    def of(self, user: User, namespace: str) -> Iterator[Grant]:
        """Return what is granted to a user and his groups, cluster-wide and in the namespace."""
        for place in ("", namespace) if namespace else ("",):
            subjects = self._grants.get(place)
            if subjects:
                yield from subjects.get(("User", user.name), {}).values()
                for group in user.groups:
                    yield from subjects.get(("Group", group), {}).values()

    def put(self, kind: str, key: RoleKey, obj: Object) -> None:
        """Take in an object of one of the four kinds (`kind` is its plural)."""
        if kind in ("roles", "clusterroles"):
            self.roles[key] = rules_of(obj)
            return
        namespace, name = key
        reference = obj.get("roleRef") or {}
        role = (namespace if reference.get("kind") == "Role" else "", reference.get("name", ""))
        binding = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
        subjects = self._grants.setdefault(namespace, {})
        for raw in obj.get("subjects") or ():
            subject, shown = _subject(raw, namespace)
            why = f'RBAC: allowed by {binding} of {reference.get("kind", "")} "{role[1]}" to {shown}'
            subjects.setdefault(subject, {})[name] = Grant(role, why)
            self._bound.setdefault(key, []).append(subject)

    def drop(self, kind: str, key: RoleKey) -> None:
        """Forget an object."""
        if kind in ("roles", "clusterroles"):
            self.roles.pop(key, None)
            return
        namespace, name = key
        subjects = self._grants.get(namespace, {})
        for subject in self._bound.pop(key, ()):
            grants = subjects.get(subject, {})
            grants.pop(name, None)
            if not grants:
                subjects.pop(subject, None)
        if not subjects:
            self._grants.pop(namespace, None)


class Rbac:
    """Upstream's RBAC authorizer over the four kinds of rbac.authorization.k8s.io."""

    takes_anonymous = True

    def __init__(self, store: Store) -> None:
        self._store = store
        self._prefixes = {kind: f"{kinds.resource(f'{kind}.{GROUP}').storage_prefix()}/".encode() for kind in _KINDS}
        self._watches: list[tuple[str, Watch]] = []
        self._index = Index()
        self._decisions: dict[tuple[object, ...], Decision] = {}

    async def refresh(self, user: User) -> None:  # noqa: ARG002 - the interface's
        """Take in what was written since the last call."""
        if self._watches:
            try:
                for kind, watch in self._watches:
                    for event in watch.take():
                        self._take(kind, event)
            except WatchCut:
                pass
            else:
                return
        await self._load()

    async def _load(self) -> None:
        index, watches = Index(), []
        for kind, prefix in self._prefixes.items():
            part = await self._store.list(prefix)
            for kv in part.kvs:
                index.put(kind, self._key(kind, kv.key), orjson.loads(kv.value))
            watches.append((kind, self._store.watch(prefix, after=part.revision, limit=_BEHIND)))
        for _, watch in self._watches:
            watch.close()
        self._index, self._watches, self._decisions = index, watches, {}

    def _take(self, kind: str, event: Event) -> None:
        self._decisions.clear()
        key = self._key(kind, event.kv.key)
        self._index.drop(kind, key)
        if not event.deleted:
            self._index.put(kind, key, orjson.loads(event.kv.value))

    def _key(self, kind: str, key: bytes) -> RoleKey:
        path = key[len(self._prefixes[kind]):].decode()
        if kind.startswith("cluster"):
            return "", path
        namespace, _, name = path.partition("/")
        return namespace, name

    def authorize(self, attributes: Attributes) -> Decision:
        """Return the decision."""
        user = attributes.user
        key = (user.name, user.groups, attributes.verb, attributes.group, attributes.resource, attributes.subresource,
               attributes.namespace, attributes.name, attributes.path)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._decide(attributes)
            if len(self._decisions) >= _CACHED:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision

    def _decide(self, asked: Attributes) -> Decision:
        absent: list[str] = []
        for grant in self._index.of(asked.user, asked.namespace):
            rules = self._index.roles.get(grant.role)
            if rules is None:
                absent.append(not_found(grant.role))
            elif any(rule.allows(asked) for rule in rules):
                return Decision(True, grant.why)
        return Decision(False, f"RBAC: {_joined(absent)}" if absent else "")

    def granted(self, user: User, namespace: str) -> Granted:
        """Return the rules that hold for a user in a namespace."""
        rules: dict[Rule, None] = {}
        absent = []
        for grant in self._index.of(user, namespace):
            found = self._index.roles.get(grant.role)
            if found is None:
                absent.append(not_found(grant.role))
            rules |= dict.fromkeys(found or ())
        return Granted(tuple(rules), bool(absent), _joined(absent) if absent else "")

    def role(self, key: RoleKey) -> tuple[Rule, ...] | None:
        """Return the rules of a Role or ClusterRole, None when there is no such role."""
        return self._index.roles.get(key)


def rules_of(role: Object) -> tuple[Rule, ...]:
    """Return the rules of a Role or ClusterRole."""
    return tuple(from_object(raw) for raw in role.get("rules") or ())


def not_found(role: RoleKey) -> str:
    """Return upstream's words for a role that a binding names and nobody has made."""
    return f'{"role" if role[0] else "clusterrole"}.{GROUP} "{role[1]}" not found'


def _subject(raw: Object, namespace: str) -> tuple[Subject, str]:
    kind, name = str(raw.get("kind", "")), str(raw.get("name", ""))
    if kind != "ServiceAccount":
        return (kind, name), f'{kind} "{name}"'
    home = raw.get("namespace") or namespace
    return ("User", f"system:serviceaccount:{home}:{name}"), f'ServiceAccount "{name}/{home}"'


def _joined(texts: list[str]) -> str:
    unique = list(dict.fromkeys(texts))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
