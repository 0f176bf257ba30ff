"""Follows the CustomResourceDefinitions in the store: accepts names, serves what they define, ends those that go."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.patch import apply
from netlab.apiserver.crd import serve
from netlab.apiserver.crd.strategy import FINALIZER
from netlab.apiserver.following import forever
from netlab.apiserver.health import DEFINITIONS, DEFINITIONS_SYNCED
from netlab.errors import ApiError, NetlabError
from netlab.store import Conflict, KeyMissing, KeyValue, StoreError

if TYPE_CHECKING:
    from netlab.apiserver.api import Api
    from netlab.apiserver.endpoint import Endpoint

log = logging.getLogger(__name__)

_KEY = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_LATER_SECONDS = 0.2
_MANAGER = "kube-apiserver"
"""Who owns what this writes, as upstream's part of that name does."""


class Keeper:
    """One per API server; several servers on one store come to the same."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._endpoint = api.endpoints[_KEY]
        self._definitions: dict[str, Object] = {}
        self._served: dict[str, tuple[Any, ...]] = {}
        self._since: dict[str, int] = {}
        self._storage: dict[str, Endpoint] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._revision = 0

    async def load(self) -> None:
        """Serve every definition that is stored."""
        part = await self._api.store.list(self._endpoint.folder.prefix)
        self._revision = part.revision
        gone = set(self._definitions) - {self._endpoint.view(kv)["metadata"]["name"] for kv in part.kvs}
        for name in gone:
            self._forget(name)
        for kv in part.kvs:
            await self._take(kv)
        self._api.ready.add(DEFINITIONS_SYNCED)

    async def run(self) -> None:
        """Follow the changes for ever."""
        await forever(self._api, "custom resource definitions", self._follow)

    async def _follow(self) -> None:
        await self.load()
        with self._api.store.watch(self._endpoint.folder.prefix, after=self._revision) as watch:
            self._api.ready.add(DEFINITIONS)
            while not self._api.stopping:
                going = [name for name, obj in self._definitions.items() if "deletionTimestamp" in obj["metadata"]]
                events = await watch.next(_LATER_SECONDS if going else 3600.0)
                for event in events:
                    self._revision = event.revision
                    if event.deleted:
                        self._forget(event.kv.key.decode().rpartition("/")[2])
                    else:
                        await self._take(event.kv)
                if not events:
                    for name in going:
                        self._end(name)

    async def _take(self, kv: KeyValue) -> None:
        """Take in one definition as it is now; one that can't be leaves the others alone."""
        try:
            await self._look(kv)
        except (NetlabError, StoreError):
            raise
        except Exception:
            log.exception("%s can't be served", kv.key.decode())

    async def _look(self, kv: KeyValue) -> None:
        """Put the status of a definition right, then what it serves."""
        obj = self._endpoint.view(kv)
        name = obj["metadata"]["name"]
        state = self._status(obj)
        if state != obj.get("status"):
            try:
                new = apply.track(obj, {**obj, "status": state}, manager=_MANAGER, subresource="status",
                                  api_version=obj["apiVersion"], kind=obj["kind"], now=meta.timestamp(time.time()))
                kv = await self._api.store.update(kv.key, self._endpoint.encode(new), kv.mod_revision)
            except (Conflict, KeyMissing):
                return  # changed meanwhile: that change comes by, too
            obj = self._endpoint.view(kv)
        before = self._definitions.get(name)
        if before is None:
            self._since[name] = kv.mod_revision
        elif before["spec"] != obj["spec"]:  # what was written until now may be in the old shape
            self._since[name] = self._api.store.revision
        self._definitions[name] = obj
        if _true(obj, "Established"):
            self._serve(name, obj)
        else:
            self._withdraw(name)
        if "deletionTimestamp" in obj["metadata"]:
            self._end(name)

    def _serve(self, name: str, obj: Object) -> None:
        self._withdraw_endpoints(name)
        found = serve.endpoints(obj, self._api.store, self._api.decoded, self._api.hooks, self._since[name])
        for endpoint in found.endpoints:
            row = endpoint.resource
            self._api.endpoints[row.group, row.version, row.plural] = endpoint
        self._served[name], self._storage[name] = found.rows, found.storage
        self._api.catalog.define(name, found.rows, found.schemas)

    def _withdraw_endpoints(self, name: str) -> None:
        rows = self._served.pop(name, ())
        serve.forget(rows)
        for row in rows:
            self._api.endpoints.pop((row.group, row.version, row.plural), None)

    def _withdraw(self, name: str) -> None:
        if name in self._served:
            self._withdraw_endpoints(name)
            self._api.catalog.withdraw(name)

    def _forget(self, name: str) -> None:
        self._definitions.pop(name, None)
        self._since.pop(name, None)
        self._storage.pop(name, None)
        self._withdraw(name)

    def _status(self, obj: Object) -> Object:
        """Return the status that a definition should have, given the others."""
        called, state = obj["spec"]["names"], dict(obj.get("status") or {})
        taken = self._conflict(obj)
        conditions = {condition.get("type"): condition for condition in state.get("conditions") or []}
        now = meta.timestamp(self._api.clock())

        def put(kind: str, truth: bool, reason: str, message: str) -> None:
            before = conditions.get(kind)
            status = "True" if truth else "False"
            if before is not None and (before.get("status"), before.get("reason")) == (status, reason):
                return
            kept = before is not None and before.get("status") == status and before.get("lastTransitionTime")
            since = kept or now
            conditions[kind] = {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason,
                                "message": message}

        if taken:
            put("NamesAccepted", False, taken[0], taken[1])
            if "Established" not in conditions:
                put("Established", False, "NotAccepted", "not all names are accepted")
        else:
            put("NamesAccepted", True, "NoConflicts", "no conflicts found")
            put("Established", True, "InitialNamesAccepted", "the initial names have been accepted")
            state["acceptedNames"] = called
        if "deletionTimestamp" in obj["metadata"]:
            put("Terminating", True, "InstanceDeletionPending", "CustomResourceDefinition marked for deletion; "
                                                                "CustomResource deletion will begin soon")
        state["conditions"] = list(conditions.values())
        return state

    def _conflict(self, obj: Object) -> tuple[str, str] | None:
        """Return why a definition's names can't be had, None when they can."""
        spec, own = obj["spec"], obj["metadata"]["name"]
        kinds: set[str] = set()
        plurals: set[str] = set()
        for row in self._api.catalog.rows:
            if row.group == spec["group"] and row not in self._served.get(own, ()):
                kinds |= {row.kind, row.list_kind or f"{row.kind}List"}
                plurals |= {row.plural, row.singular, *row.short_names}
        called = spec["names"]
        for field, reason in (("plural", "PluralConflict"), ("singular", "SingularConflict")):
            if called.get(field) in plurals:
                return reason, f'"{called[field]}" is already in use'
        for short in called.get("shortNames") or []:
            if short in plurals:
                return "ShortNamesConflict", f'"{short}" is already in use'
        for field, reason in (("kind", "KindConflict"), ("listKind", "ListKindConflict")):
            if called.get(field) in kinds:
                return reason, f'"{called[field]}" is already in use'
        return None

    def _end(self, name: str) -> None:
        """End a definition beside everything else: webhooks that have a say in its objects' end may take their time."""
        if name in self._ending:
            return

        def done(ending: asyncio.Task[None]) -> None:
            self._ending.pop(name, None)
            if not ending.cancelled() and ending.exception() is not None:  # it is tried again
                log.warning("%s: %s", name, ending.exception())

        self._ending[name] = asyncio.create_task(self._ended(name))
        self._ending[name].add_done_callback(done)

    async def _ended(self, name: str) -> None:
        """Delete the objects of a definition that goes; once there is none, let the definition go."""
        from netlab.apiserver.call import Call
        from netlab.apiserver.http import Request, User
        from netlab.apiserver.route import Target
        from netlab.apiserver.verbs.delete import Options, remove

        obj = self._definitions.get(name)
        if obj is None or FINALIZER not in (obj["metadata"].get("finalizers") or []):
            return

        async def nothing() -> bytes:
            return b""

        user = User("system:apiserver", ("system:masters", "system:authenticated"))
        if (endpoint := self._storage.get(name)) is not None:
            folder = endpoint.folder
            for kv in (await self._api.store.list(folder.prefix)).kvs:
                metadata = folder.view(kv)["metadata"]
                target = Target(endpoint.resource, "delete", metadata.get("namespace", ""), metadata["name"])
                request = Request("DELETE", "/", {}, {"User-Agent": "kube-apiserver/netlab"}, nothing, user=user)
                try:
                    await remove(Call(self._api, request, target, endpoint, self._api.clock()), Options())
                except ApiError as error:
                    if error.code != 404:
                        log.warning("%s %s: %s", endpoint.resource.group_resource, metadata["name"], error)
            if (await self._api.store.list(folder.prefix, limit=1)).kvs:
                return  # some wait for finalizers of their own
        key = self._endpoint.folder.key("", name)
        current = await self._api.store.get(key)
        if current is None:
            return
        fresh = self._endpoint.fresh(current)
        fresh["metadata"]["finalizers"] = [one for one in fresh["metadata"].get("finalizers") or [] if one != FINALIZER]
        try:
            if fresh["metadata"]["finalizers"]:
                await self._api.store.update(key, self._endpoint.encode(fresh), current.mod_revision)
            else:
                await self._api.store.delete(key, current.mod_revision)
        except (Conflict, KeyMissing):
            return


def _true(obj: Object, kind: str) -> bool:
    return any(condition.get("type") == kind and condition.get("status") == "True"
               for condition in (obj.get("status") or {}).get("conditions") or [])
