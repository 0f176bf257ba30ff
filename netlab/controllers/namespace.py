"""Namespace: delete what is in a namespace that is being deleted, then let it go (k8s:pkg/controller/namespace)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import ClassVar

from netlab.api import meta
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller
from netlab.controllers.claim import index_by_namespace
from netlab.controllers.discovery import resources
from netlab.controllers.pods import set_condition
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)

_FINALIZER, _FIRST = "kubernetes", "pods"
_CONDITIONS = {  # by type: reason while True, reason while False, message while False
    "NamespaceDeletionContentFailure": ("ContentDeletionFailed", "ContentDeleted",
                                        "All content successfully deleted, may be waiting on finalization"),
    "NamespaceContentRemaining": ("SomeResourcesRemain", "ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("SomeFinalizersRemain", "ContentHasNoFinalizers",
                                     "All content-preserving finalizers finished")}


def conditions(namespace: Object, left: Sequence[tuple[Resource, Sequence[Object]]], errors: Sequence[str],
               now: float) -> list[Object]:
    """Return the conditions that say what a namespace's deletion waits for."""
    finalizers: dict[str, int] = {}
    for _, items in left:
        for item in items:
            for name in item["metadata"].get("finalizers") or []:
                finalizers[name] = finalizers.get(name, 0) + 1
    messages = {
        "NamespaceDeletionContentFailure": "Failed to delete all resource types, "
                                           f"{len(errors)} remaining: {', '.join(errors)}" if errors else "",
        "NamespaceContentRemaining": "Some resources are remaining: " + ", ".join(
            f"{kind.group_resource}. has {len(items)} resource instances" for kind, items in left) if left else "",
        "NamespaceFinalizersRemaining": "Some content in the namespace has finalizers remaining: " + ", ".join(
            f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
        if finalizers else ""}
    found = list(namespace.get("status", {}).get("conditions") or [])
    for kind, (bad, good, calm) in _CONDITIONS.items():
        row = {"type": kind, "status": "True" if messages[kind] else "False", "reason": bad if messages[kind] else good,
               "message": messages[kind] or calm}
        found = set_condition(found, row, now)
    return found


class Namespaces(Controller):
    """The loop for Namespaces."""

    name: ClassVar[str] = "namespace-controller"
    workers: ClassVar[int] = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.source("namespaces", self._changed)
        self.pods = self.source("pods", self._pod_changed)
        self.pods.add_index("namespace", index_by_namespace)
        self._tries: dict[str, int] = {}

    def _changed(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None and meta.deleting(new):
            self.queue.add(key)
        elif new is None:
            self._tries.pop(key, None)

    def _pod_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        """Pods take their grace period: look again when the last one is gone."""
        if new is None and old is not None:
            namespace = self.namespaces.get(meta.namespace(old))
            if namespace is not None and meta.deleting(namespace) \
                    and not self.pods.by_index("namespace", meta.namespace(old)):
                self.queue.add(meta.namespace(old))

    async def reconcile(self, key: str) -> float | None:
        """Delete the contents of one namespace; when nothing is left, remove its finalizer."""
        namespace = self.namespaces.get(key)
        if namespace is None or not meta.deleting(namespace):
            return None
        if _FINALIZER not in (namespace["spec"].get("finalizers") or []):
            return None
        kinds = [kind for kind in await resources(self.client, "list", "delete") if kind.namespaced]
        errors: list[str] = []
        left: list[tuple[Resource, list[Object]]] = []
        for some in ([kind for kind in kinds if kind.group_resource == _FIRST],
                     [kind for kind in kinds if kind.group_resource != _FIRST]):
            left += [(kind, items) for kind, items in await asyncio.gather(*(self._empty(kind, key, errors)
                                                                            for kind in some)) if items]
            if left or errors:  # nothing that protects a Pod goes while it still runs (KEP-5080)
                break
        if not left and not errors:
            log.info("namespace %s is empty", key)
            fresh = await self.client.get("namespaces", key)
            spec = {**fresh["spec"], "finalizers": [f for f in fresh["spec"]["finalizers"] if f != _FINALIZER]}
            await self.client.update("namespaces", {**fresh, "spec": spec}, subresource="finalize")
            return None
        found = conditions(namespace, left, errors, time.time())
        if found != namespace.get("status", {}).get("conditions"):
            status = {**namespace.get("status", {}), "conditions": found}
            made = await self.client.update("namespaces", {**namespace, "status": status}, subresource="status")
            self.wrote(key, self.namespaces, made)
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        return min(0.05 * 2.0 ** tries, 5.0)

    async def _empty(self, kind: Resource, namespace: str, errors: list[str]) -> tuple[Resource, list[Object]]:
        """Delete all objects of one kind; return those that are still there."""
        try:
            items, _ = await self.client.list(kind, namespace)
            doomed = [item for item in items if not meta.deleting(item)]
            await asyncio.gather(*(self._delete(kind, item) for item in doomed))
            return kind, (await self.client.list(kind, namespace))[0] if doomed else items
        except NetlabError as error:
            if isinstance(error, ApiError) and error.code in (404, 405):
                return kind, []
            errors.append(f"{kind.group_resource}: {error}")
            return kind, []

    async def _delete(self, kind: Resource, item: Object) -> None:
        try:
            await self.client.delete(kind, meta.name(item), meta.namespace(item), propagation="Background")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
