"""What a kubelet may do: its own Node and Lease, and what the Pods on its node refer to (KEP-279).

https://kubernetes.io/docs/reference/access-authn-authz/node/
"""

from __future__ import annotations

import orjson

from netlab.api import kinds
from netlab.api.references import Reference, references
from netlab.apiserver.auth.authorize import Attributes, Decision, Granted
from netlab.apiserver.auth.policy import NODE_RULES
from netlab.apiserver.http import User
from netlab.store import KeyValue, Store, Watch, WatchCut

GROUP, PREFIX = "system:nodes", "system:node:"
_BEHIND = 10_000
_LEASES = "kube-node-lease"
_READ = ("get", "list", "watch")
_OWN = ("get", "create", "update", "patch", "delete")
_NO = Decision(False)
_YES = Decision(True)


def node_of(user: User) -> str | None:
    """Return the node that a user is ("" when his name tells none), None for one that is no node."""
    if GROUP not in user.groups or not user.name.startswith(PREFIX):
        return None
    return user.name.removeprefix(PREFIX)


class NodeAuthorizer:
    """Upstream's Node authorizer."""

    takes_anonymous = True

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pods = f"{kinds.resource('pods').storage_prefix()}/".encode()
        self._volumes = f"{kinds.resource('persistentvolumes').storage_prefix()}/".encode()
        self._watches: list[Watch] = []
        self._links = Links()

    async def refresh(self, user: User) -> None:
        """Take in what was written since a node last asked."""
        if node_of(user) is None:
            return
        if self._watches:
            try:
                for watch in self._watches:
                    for event in watch.take():
                        self._take(self._links, event.kv)
            except WatchCut:
                pass
            else:
                return
        await self._load()

    async def _load(self) -> None:
        links, watches = Links(), []
        for prefix in (self._pods, self._volumes):
            part = await self._store.list(prefix)
            for kv in part.kvs:
                self._take(links, kv)
            watches.append(self._store.watch(prefix, after=part.revision, limit=_BEHIND))
        for watch in self._watches:
            watch.close()
        self._links, self._watches = links, watches

    def _take(self, links: Links, kv: KeyValue) -> None:
        if kv.key.startswith(self._pods):
            links.pod(kv)
        else:
            links.volume(kv.key[len(self._volumes):].decode(), kv)

    def authorize(self, attributes: Attributes) -> Decision:
        """Return the decision."""
        node = node_of(attributes.user)
        if node is None:
            return _NO
        if not node:
            return Decision(False, f'unknown node for user "{attributes.user.name}"')
        kind = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
        if kind in ("secrets", "configmaps"):
            return self._read(node, attributes)
        if kind in ("persistentvolumeclaims", "persistentvolumes"):
            if kind == "persistentvolumeclaims" and attributes.subresource == "status":
                if attributes.verb not in ("update", "patch"):
                    return Decision(False, "can only get/update/patch this type")
                return self._related(node, attributes)
            return self._get(node, attributes)
        if kind == "serviceaccounts":
            return self._token(node, attributes)
        if kind == "leases.coordination.k8s.io":
            return _lease(node, attributes)
        if kind == "nodes":
            return _node(node, attributes)
        if kind == "pods":
            return self._pod(node, attributes)
        return _YES if any(rule.allows(attributes) for rule in NODE_RULES) else _NO

    def granted(self, user: User, namespace: str) -> Granted:  # noqa: ARG002 - the interface's
        """Tell that what a node may do cannot be listed."""
        if node_of(user) is None:
            return Granted()
        return Granted(incomplete=True, error="node authorizer does not support user rule resolution")

    def _related(self, node: str, asked: Attributes) -> Decision:
        if not asked.name:
            return Decision(False, "No Object name found")
        if self._links.reaches(node, (asked.resource, asked.namespace, asked.name)):
            return _YES
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _get(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if asked.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, asked)

    def _read(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in _READ:
            return Decision(False, "can only read resources of this type")
        if asked.subresource:
            return Decision(False, "cannot read subresource")
        if not asked.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, asked)

    def _token(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "create" or not asked.name:
            return Decision(False, "can only create tokens for individual service accounts")
        if asked.subresource != "token":
            return Decision(False, "can only create token subresource of serviceaccount")
        return self._related(node, asked)

    def _pod(self, node: str, asked: Attributes) -> Decision:
        what = (asked.subresource, asked.verb)
        if what in (("", "create"), ("", "delete"), ("status", "update"), ("status", "patch"), ("eviction", "create")):
            return _YES
        if what == ("", "get"):
            return self._related(node, asked)
        if what in (("", "list"), ("", "watch")):
            if ("spec.nodeName", node) in asked.fields:
                return _YES
            if asked.name:
                return self._related(node, asked)
            return Decision(False, "can only list/watch pods with spec.nodeName field selector")
        return _NO


class Links:
    """Which objects each node's Pods refer to."""

    def __init__(self) -> None:
        self._of_pod: dict[bytes, tuple[str, int, frozenset[Reference]]] = {}
        self._counts: dict[str, dict[Reference, int]] = {}
        self._claims: dict[str, Reference] = {}

    def reaches(self, node: str, wanted: Reference) -> bool:
        """Tell whether a Pod on the node is, or refers to, the object."""
        if wanted[0] == "persistentvolumes":
            claim = self._claims.get(wanted[2])
            return claim is not None and self.reaches(node, claim)
        return wanted in self._counts.get(node, {})

    def pod(self, kv: KeyValue) -> None:
        """Take in a Pod as it is now, or its end."""
        known = self._of_pod.get(kv.key)
        if known is not None and kv.version and known[1] == kv.create_revision \
                and b'"ephemeralContainers"' not in kv.value:
            return  # once a Pod is bound, its node and its references are settled
        if known is not None:
            del self._of_pod[kv.key]
            self._count(known[0], known[2], -1)
        if not kv.version or b'"nodeName"' not in kv.value:
            return
        pod = orjson.loads(kv.value)
        node = (pod.get("spec") or {}).get("nodeName", "")
        if node:
            found = frozenset(references(pod))
            self._of_pod[kv.key] = (node, kv.create_revision, found)
            self._count(node, found, 1)

    def volume(self, name: str, kv: KeyValue) -> None:
        """Take in a PersistentVolume as it is now, or its end."""
        self._claims.pop(name, None)
        if kv.version:
            claim = (orjson.loads(kv.value).get("spec") or {}).get("claimRef") or {}
            if claim:
                self._claims[name] = ("persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))

    def _count(self, node: str, found: frozenset[Reference], step: int) -> None:
        counts = self._counts.setdefault(node, {})
        for reference in found:
            counts[reference] = counts.get(reference, 0) + step
            if not counts[reference]:
                del counts[reference]


def _lease(node: str, asked: Attributes) -> Decision:
    if asked.verb not in _OWN:
        return Decision(False, "can only get, create, update, patch, or delete a node lease")
    if asked.namespace != _LEASES:
        return Decision(False, f'can only access leases in the "{_LEASES}" system namespace')
    if asked.verb != "create" and asked.name != node:
        return Decision(False, "can only access node lease with the same name as the requesting node")
    return _YES


def _node(node: str, asked: Attributes) -> Decision:
    what = (asked.subresource, asked.verb)
    if what in (("", "create"), ("", "update"), ("", "patch"), ("status", "update"), ("status", "patch")):
        return _YES  # whose Node it is, is the NodeRestriction admission's to check
    if asked.subresource or asked.verb not in _READ:
        return _NO
    if asked.name == node:
        return _YES
    if not asked.name:
        return Decision(False, f"node '{node}' cannot read all nodes, only its own Node object")
    return Decision(False, f"node '{node}' cannot read '{asked.name}', only its own Node object")
