"""Follows the APIServices: local ones are registered, servers behind Services are asked what they serve."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver.aggregator.proxy import Backend, Unreachable
from netlab.apiserver.following import forever
from netlab.apiserver.health import REGISTRATION
from netlab.errors import ApiError
from netlab.store import Conflict, KeyExists, KeyMissing, KeyValue

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

log = logging.getLogger(__name__)

_KEY = ("apiregistration.k8s.io", "v1", "apiservices")
_MANAGED = "kube-aggregator.kubernetes.io/automanaged"
_CHECK_SECONDS = 5.0
_SOON_SECONDS = 0.5
_PRIORITIES = {"": 18000, "apiregistration.k8s.io": 18000, "apps": 17800, "events.k8s.io": 17750,
               "authentication.k8s.io": 17700, "authorization.k8s.io": 17600, "autoscaling": 17500, "batch": 17400,
               "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
               "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
               "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500,
               "node.k8s.io": 16300, "discovery.k8s.io": 16200, "resource.k8s.io": 16200,
               "flowcontrol.apiserver.k8s.io": 16100}
_CUSTOM_PRIORITY = 1000


class Aggregator:
    """One per API server."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._endpoint = api.endpoints[_KEY]
        self._backends: dict[tuple[str, str], Backend] = {}
        self._asking: dict[Backend, asyncio.Task[None]] = {}
        self._registered = -1
        self._started = False
        self.generation = 0

    def find(self, path: str) -> Backend | None:
        """Return who answers a path; None when this server does."""
        if not self._backends or not path.startswith("/apis/"):
            return None
        parts = path.split("/", 4)
        return self._backends.get((parts[2], parts[3])) if len(parts) > 3 else None

    def served(self) -> Mapping[tuple[str, str], Backend]:
        """Return the group versions of other servers."""
        return self._backends

    async def close(self) -> None:
        """Close the connections to other servers."""
        for backend in tuple(self._backends.values()):
            await self._end(backend)

    async def run(self) -> None:
        """Follow the APIServices for ever."""
        await forever(self._api, "API services", self._follow)

    async def _follow(self) -> None:
        folder = self._endpoint.folder
        await self._register()
        part = await self._api.store.list(folder.prefix)
        for kv in part.kvs:
            await self._take(kv)
        self._api.ready.update(REGISTRATION)
        with self._api.store.watch(folder.prefix, after=part.revision) as watch:
            while not self._api.stopping:
                waiting = any(not backend.available for backend in self._backends.values())
                events = await watch.next(_SOON_SECONDS if waiting else _CHECK_SECONDS)
                for event in events:
                    if event.deleted:
                        await self._drop(event.kv.key.decode().rpartition("/")[2])
                    else:
                        await self._take(event.kv)
                if self._registered != self._api.catalog.generation:
                    await self._register()
                if not events:
                    for key in self._backends:
                        self._ask(key)

    async def _register(self) -> None:
        """Register the group versions that this server answers itself; forget those of definitions that went."""
        self._registered = self._api.catalog.generation
        custom = {(row.group, row.version) for row in self._api.catalog.custom}
        served = self._api.catalog.group_versions()
        for group, version in served:
            own = (group, version) in custom
            await self._put({
                "kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
                "metadata": {"name": f"{version}.{group}", "labels": {_MANAGED: "true" if own else "onstart"}},
                "spec": {"group": group, "version": version,
                         "groupPriorityMinimum": _PRIORITIES.get(group, _CUSTOM_PRIORITY),
                         "versionPriority": 100 if own else 15}})
        for kv in (await self._api.store.list(self._endpoint.folder.prefix)).kvs:
            obj = self._endpoint.view(kv)
            spec, labels = obj.get("spec") or {}, obj["metadata"].get("labels") or {}
            if labels.get(_MANAGED) == "true" and (spec.get("group"), spec.get("version")) not in served:
                with contextlib.suppress(Conflict, KeyMissing):
                    await self._api.store.delete(kv.key, kv.mod_revision)
        self._started = True

    async def _put(self, wanted: Object) -> None:
        """Register a group version; put back what somebody changed, where that is this server's to say.

        Upstream's rule: those of definitions always, those that the server brings along when it starts; taking the
        label away makes an APIService its writer's own.
        """
        name = wanted["metadata"]["name"]
        key = self._endpoint.folder.key("", name)
        current = await self._api.store.get(key)
        if current is not None:
            obj = self._endpoint.fresh(current)
            label = (obj["metadata"].get("labels") or {}).get(_MANAGED)
            if obj.get("spec") != wanted["spec"] and (label == "true" or (label == "onstart" and not self._started)):
                log.warning("APIService %s: put back to what this server answers itself", name)
                obj["spec"] = wanted["spec"]
                with contextlib.suppress(Conflict, KeyMissing):
                    await self._api.store.update(key, self._endpoint.encode(obj), current.mod_revision)
            return
        now = meta.timestamp(self._api.clock())
        wanted["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now}
        wanted["status"] = {"conditions": [_condition(True, "Local", "Local APIServices are always available", now)]}
        with contextlib.suppress(KeyExists):
            await self._api.store.create(key, self._endpoint.encode(wanted))

    async def _take(self, kv: KeyValue) -> None:
        """Take in one APIService as it is now."""
        obj = self._endpoint.view(kv)
        spec = obj.get("spec") or {}
        key = (spec.get("group", ""), spec.get("version", ""))
        known = self._backends.get(key)
        if spec.get("service") is None:
            if known is not None:
                await self._drop(obj["metadata"]["name"])
            return
        if known is not None and known.spec == spec:
            return
        if known is not None:
            await self._end(known)
        if key in self._api.catalog.group_versions():
            if (obj["metadata"].get("labels") or {}).get(_MANAGED) == "true":
                self._registered = -1  # a definition's: it is put back
                return
            log.warning("APIService %s: requests for a group version of this server now go to service %s/%s",
                        obj["metadata"]["name"], spec["service"].get("namespace"), spec["service"].get("name"))
        try:
            self._backends[key] = Backend(self._api, spec)
        except (ApiError, ValueError, OSError) as error:  # a bundle that is no certificate: the condition says so
            self._backends.pop(key, None)
            await self._tell(obj["metadata"]["name"], False, "FailedDiscoveryCheck", str(error))
            return
        self.generation += 1
        self._ask(key)

    async def _drop(self, name: str) -> None:
        version, _, group = name.partition(".")
        backend = self._backends.pop((group, version), None)
        if backend is not None:
            await self._end(backend)
            self.generation += 1
            self._registered = -1  # this server's own answer, if it has one, is registered again

    async def _end(self, backend: Backend) -> None:
        """Ask a server no more, and close what leads there."""
        asking = self._asking.pop(backend, None)
        if asking is not None:
            asking.cancel()
        await backend.close()

    def _ask(self, key: tuple[str, str]) -> None:
        """Ask one server, beside all others: one that lets us wait holds up nobody. Once at a time."""
        backend, name = self._backends[key], f"{key[1]}.{key[0]}"
        if backend in self._asking:
            return

        def done(asking: asyncio.Task[None]) -> None:
            self._asking.pop(backend, None)
            if not asking.cancelled() and asking.exception() is not None:  # the store's: it is asked again soon
                log.warning("APIService %s: %s", name, asking.exception())

        self._asking[backend] = asyncio.create_task(self._asked(backend, name))
        self._asking[backend].add_done_callback(done)

    async def _asked(self, backend: Backend, name: str) -> None:
        """Ask one server what it serves, and write down whether it answered."""
        try:
            found = await backend.discover()
        except Unreachable as error:
            backend.available = False
            await self._tell(name, False, error.reason, str(error))
            return
        backend.available = True
        if found != backend.listed:
            backend.listed = found
            self.generation += 1
        await self._tell(name, True, "Passed", "all checks passed")

    async def _tell(self, name: str, available: bool, reason: str, message: str) -> None:
        key = self._endpoint.folder.key("", name)
        current = await self._api.store.get(key)
        if current is None:
            return
        obj = self._endpoint.fresh(current)
        before: Object = next((one for one in (obj.get("status") or {}).get("conditions") or []
                       if one.get("type") == "Available"), {})
        wanted = _condition(available, reason, message, meta.timestamp(self._api.clock()))
        if all(before.get(part) == wanted[part] for part in ("status", "reason", "message")):
            return
        if before.get("status") == wanted["status"]:
            wanted["lastTransitionTime"] = before.get("lastTransitionTime", wanted["lastTransitionTime"])
        obj["status"] = {"conditions": [wanted]}
        with contextlib.suppress(Conflict, KeyMissing):
            await self._api.store.update(key, self._endpoint.encode(obj), current.mod_revision)


def _condition(available: bool, reason: str, message: str, now: str) -> Object:
    return {"type": "Available", "status": "True" if available else "False", "lastTransitionTime": now,
            "reason": reason, "message": message}


def aggregated(listed: Object) -> list[dict[str, Any]]:
    """Return an APIResourceList as the resources of an aggregated discovery document."""
    found: dict[str, dict[str, Any]] = {}
    group, _, version = str(listed.get("groupVersion", "")).rpartition("/")
    for row in listed.get("resources") or ():
        name, slash, part = str(row.get("name", "")).partition("/")
        kind = {"group": row.get("group") or group, "version": row.get("version") or version,
                "kind": row.get("kind", "")}
        if slash:
            if name in found:
                found[name].setdefault("subresources", []).append(
                    {"subresource": part, "responseKind": kind, "verbs": row.get("verbs") or []})
            continue
        entry: dict[str, Any] = {
            "resource": name, "responseKind": kind, "scope": "Namespaced" if row.get("namespaced") else "Cluster",
            "singularResource": row.get("singularName") or str(row.get("kind", "")).lower(),
            "verbs": row.get("verbs") or []}
        for key in ("shortNames", "categories"):
            if row.get(key):
                entry[key] = row[key]
        found[name] = entry
    return list(found.values())

