"""Garbage collection: dependents go after, before or without their owners, as ownerReferences and finalizers say."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar

from netlab.api import meta
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.client.informer import Informer
from netlab.controllers.base import Context, Controller, all_of
from netlab.controllers.discovery import resources
from netlab.controllers.ownership import FOREGROUND, ORPHAN, Fate, Graph, Node, fate
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)

_IGNORED = {("", "events"), ("events.k8s.io", "events")}
_DISCOVERY_SECONDS = 30.0  # as upstream: how soon the objects of a new custom resource are collected
_SETTLE_SECONDS = 2.0  # resources that nobody else watches can wait while a cluster starts
_REMEMBERED = 500


def _outline(obj: Object) -> Object:
    head = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp")
    return {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"),
            "metadata": {part: head[part] for part in kept if part in head}}


def _established(definition: Object | None) -> bool:
    return any(condition.get("type") == "Established" and condition.get("status") == "True"
               for condition in ((definition or {}).get("status") or {}).get("conditions") or [])


class GarbageCollector(Controller):
    """The loop; its keys are uids."""

    name: ClassVar[str] = "garbage-collector-controller"
    workers: ClassVar[int] = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.graph = Graph()
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._informers: dict[Resource, Informer] = {}
        self._own: dict[Resource, asyncio.Task[None]] = {}
        self._complete = False
        """Every resource of the last discovery is monitored."""
        self._begun = asyncio.Event()
        self._redefined = asyncio.Event()
        self.source("customresourcedefinitions.apiextensions.k8s.io", self._definition_changed)

    def _definition_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        """Look for new resources at once when a definition begins or ceases to be served."""
        if _established(old) != _established(new):
            self._redefined.set()

    async def synced(self) -> None:
        """Wait until the resources that other controllers watch anyway are known."""
        await self._begun.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch every resource that can be deleted, also those that appear later, and collect."""
        discovery = asyncio.ensure_future(self._discover(stop))
        try:
            await super().run(stop)
        finally:
            discovery.cancel()
            for task in self._own.values():
                task.cancel()
            await asyncio.gather(discovery, *self._own.values(), return_exceptions=True)

    async def _discover(self, stop: asyncio.Event) -> None:
        delay = 0.1
        while True:
            try:
                found = {kind for kind in await resources(self.client, "list", "watch", "delete")
                         if (kind.group, kind.plural) not in _IGNORED}
            except NetlabError as error:
                log.debug("garbage collector: %s", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _DISCOVERY_SECONDS)
                continue
            new = sorted(found - set(self._informers), key=lambda row: row.group_resource)
            for kind in new:
                shared = self.context.existing(kind.group_resource)
                if shared is not None:
                    await self._monitor(kind, shared)
            if not self._begun.is_set():
                self._begun.set()
                await asyncio.sleep(_SETTLE_SECONDS)
            for kind in new:
                if kind not in self._informers:
                    informer = Informer(self.client, kind, transform=_outline)
                    self._own[kind] = asyncio.ensure_future(informer.run(stop))
                    await self._monitor(kind, informer)
            for kind in set(self._own) - found:
                self._own.pop(kind).cancel()
                del self._informers[kind]
            self._complete = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._redefined.wait(), _DISCOVERY_SECONDS)
            self._redefined.clear()

    async def _monitor(self, kind: Resource, informer: Informer) -> None:
        informer.add_handler(self._handler(kind))
        self._informers[kind] = informer
        try:
            async with asyncio.timeout(1.0):  # one after the other, so that the start of a cluster is not crowded
                await informer.synced.wait()
        except TimeoutError:
            pass

    def _handler(self, kind: Resource) -> Callable[[str, Object | None, Object | None], None]:
        def changed(_key: str, old: Object | None, new: Object | None) -> None:
            if new is None:
                dependents, owners = self.graph.forget(meta.uid(old or {}))
                self._absent[meta.uid(old or {})] = None
                if len(self._absent) > _REMEMBERED:
                    self._absent.popitem(last=False)
                for node in dependents:
                    self.queue.add(node.uid)
                for node in owners:
                    if node.waits_for_dependents:
                        self.queue.add(node.uid)
                return
            before = old["metadata"].get("ownerReferences") if old else None
            node = self.graph.see(kind, new)
            if node.deleting or (node.owners and node.owners != before) or (before and not node.owners):
                self.queue.add(node.uid)
            for row in before or []:  # a reference that went away may have been what an owner waited for
                above = self.graph.nodes.get(row["uid"])
                if above is not None and above.waits_for_dependents:
                    self.queue.add(above.uid)

        return changed

    async def reconcile(self, key: str) -> float | None:
        """Decide about one object by its present state on the server."""
        node = self.graph.nodes.get(key)
        if node is None or node.kind is None:
            return None
        live = await self._live(node)
        if live is None:
            return None
        node = self.graph.see(node.kind, live)
        if node.orphans_dependents:
            await self._orphan(node)
        elif node.waits_for_dependents:
            return await self._foreground(node)
        elif not node.deleting and node.owners:
            await self._collect(node, live)
        return None

    async def _live(self, node: Node) -> Object | None:
        try:
            live = await self.client.get(node.kind or "", node.name, node.namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return None
        return live if meta.uid(live) == node.uid else None

    async def _collect(self, node: Node, live: Object) -> None:
        states = {row["uid"]: await self._state(row, node.namespace) for row in node.owners}
        verdict, kept = fate(node.owners, lambda row: states[row["uid"]])
        if verdict is Fate.KEEP:
            return
        if verdict is Fate.TRIM:
            await self._set_owners(node, live, kept)
            return
        policy = "Background"
        if verdict is Fate.DELETE_FIRST and any(one.waits_for_dependents for one in node.dependents):
            # A dependent waits already, perhaps for the owner's end: in a circle each would wait for the next for ever.
            live = await self._unblock(node, live)
        if ORPHAN in node.finalizers:
            policy = "Orphan"
        elif FOREGROUND in node.finalizers or (verdict is Fate.DELETE_FIRST and node.dependents):
            policy = "Foreground"
        log.info("deleting %s %s/%s: its owner is gone", node.kind.kind if node.kind else "", node.namespace, node.name)
        try:
            await self.client.delete(node.kind or "", node.name, node.namespace, uid=node.uid, propagation=policy,
                                     revision=live["metadata"]["resourceVersion"])
        except ApiError as error:
            if error.code != 404:
                raise

    async def _state(self, reference: Object, namespace: str) -> str:
        """Return "solid", "waiting" or "gone" for an owner."""
        known = self.graph.nodes.get(reference["uid"])
        if known is not None and known.kind is not None:
            return "waiting" if known.waits_for_dependents else "solid"
        if reference["uid"] in self._absent:
            return "gone"
        try:
            kind = await self.client.resource_of(reference["apiVersion"], reference["kind"])
            live = await self.client.get(kind, reference["name"], namespace if kind.namespaced else "")
        except ApiError as error:
            if error.code != 404:
                raise
            self._absent[reference["uid"]] = None
            return "gone"
        if meta.uid(live) != reference["uid"]:
            self._absent[reference["uid"]] = None
            return "gone"
        waiting = meta.deleting(live) and FOREGROUND in (live["metadata"].get("finalizers") or [])
        return "waiting" if waiting else "solid"

    async def _foreground(self, node: Node) -> float | None:
        """Delete the dependents that hold the owner back, or let it go when there are none."""
        blockers = self.graph.blockers(node)
        for one in blockers:
            if not one.deleting:
                self.queue.add(one.uid)
        if blockers:
            return None
        if not self._complete or not all(informer.synced.is_set() for informer in self._informers.values()):
            return 0.2  # a dependent may be of a resource that is not known yet
        await self._drop_finalizer(node, FOREGROUND)
        return None

    async def _orphan(self, node: Node) -> None:
        async def free(one: Node) -> None:
            live = await self._live(one) if one.kind else None
            if live is not None:
                rows = live["metadata"].get("ownerReferences") or []
                await self._set_owners(one, live, [row for row in rows if row["uid"] != node.uid])

        await all_of(list(node.dependents), free)
        await self._drop_finalizer(node, ORPHAN)

    async def _unblock(self, node: Node, live: Object) -> Object:
        """Let an object hold up none of its owners any more; return what is stored then."""
        rows = [{**row, "blockOwnerDeletion": False} for row in live["metadata"].get("ownerReferences") or []]
        await self._set_owners(node, live, rows)
        return await self._live(node) or live

    async def _set_owners(self, node: Node, live: Object, kept: list[Object]) -> None:
        body = {"metadata": {"uid": node.uid, "resourceVersion": live["metadata"]["resourceVersion"],
                             "ownerReferences": kept or None}}
        try:
            await self.client.patch(node.kind or "", node.name, body, node.namespace)
        except ApiError as error:
            if error.code != 404:
                raise

    async def _drop_finalizer(self, node: Node, finalizer: str) -> None:
        live = await self._live(node)
        if live is None:
            return
        left = [name for name in live["metadata"].get("finalizers") or [] if name != finalizer]
        body = {"metadata": {"uid": node.uid, "resourceVersion": live["metadata"]["resourceVersion"],
                             "finalizers": left or None}}
        try:
            await self.client.patch(node.kind or "", node.name, body, node.namespace)
        except ApiError as error:
            if error.code != 404:
                raise
