"""ServiceCIDRs and IPAddresses: the ranges that cluster IPs come from, and who has which address (KEP-1880).

The first range is the server's own (--service-cluster-ip-range); others may be added and taken away while it runs. Who
holds what is decided in memory as a Service is written; the IPAddress that tells of it follows at once, and one that
somebody else makes keeps its address from being handed out. A ServiceCIDR that goes waits until nobody has an address
of it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver.allocator import Addresses, OutOfRange, Taken
from netlab.apiserver.endpoint import Endpoint
from netlab.apiserver.following import forever
from netlab.apiserver.health import RANGES
from netlab.store import Conflict, Event, KeyExists, KeyMissing

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

log = logging.getLogger(__name__)

_GROUP = "networking.k8s.io"
_DEFAULT = "kubernetes"
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_LABELS = "ipaddress.kubernetes.io/"
_MANAGER = "ipallocator.k8s.io"
_LATER_SECONDS = 0.5


class Ranges:
    """One per API server."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._ranges = api.endpoints[_GROUP, "v1", "servicecidrs"]
        self._addresses = api.endpoints[_GROUP, "v1", "ipaddresses"]
        self._services = api.endpoints["", "v1", "services"]
        self._going: set[str] = set()

    async def load(self) -> None:
        """Take in the ranges and addresses that are stored: before anybody is given an address."""
        await self._create(self._ranges, _DEFAULT, {
            "kind": "ServiceCIDR", "apiVersion": f"{_GROUP}/v1", "metadata": {"name": _DEFAULT},
            "spec": {"cidrs": [str(pool.network) for pool in self._api.stock.networks]}})
        for kv in (await self._api.store.list(self._ranges.folder.prefix)).kvs:
            await self._range(self._ranges.view(kv))
        for kv in (await self._api.store.list(self._addresses.folder.prefix)).kvs:
            self._reserve(self._addresses.view(kv))
        self._api.ready.add(RANGES)

    async def run(self) -> None:
        """Follow Services, addresses and ranges for ever."""
        await forever(self._api, "service addresses", self._follow)

    async def _follow(self) -> None:
        store = self._api.store
        part = await store.list(self._services.folder.prefix)
        wanted = {address: obj for kv in part.kvs for obj in (self._services.view(kv),) for address in _of(obj)}
        for address, obj in wanted.items():
            await self._told(address, obj)
        for kv in (await store.list(self._addresses.folder.prefix)).kvs:
            obj = self._addresses.view(kv)
            if _managed(obj) and obj["metadata"]["name"] not in wanted:
                await self._forget(obj["metadata"]["name"])
        followers = [asyncio.ensure_future(self._each(endpoint, part.revision, handle)) for endpoint, handle in (
            (self._services, self._service_changed), (self._ranges, self._range_changed),
            (self._addresses, self._address_changed))]
        try:
            await asyncio.gather(*followers)
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def _each(self, endpoint: Endpoint, after: int, handle: Callable[[Event], Awaitable[None]]) -> None:
        with self._api.store.watch(endpoint.folder.prefix, after=after) as watch:
            while not self._api.stopping:
                events = await watch.next(_LATER_SECONDS if self._going and endpoint is self._ranges else 3600.0)
                for event in events:
                    await handle(event)
                if not events:
                    for name in tuple(self._going):
                        await self._end(name)

    async def _service_changed(self, event: Event) -> None:
        before = _of(self._services.view(event.prev)) if event.prev is not None and event.prev.value else set()
        obj = None if event.deleted else self._services.view(event.kv)
        after = _of(obj) if obj is not None else set()
        for address in after - before:
            await self._told(address, obj or {})
        for address in before - after:
            await self._forget(address)

    async def _range_changed(self, event: Event) -> None:
        if not event.deleted:
            await self._range(self._ranges.view(event.kv))
        elif event.prev is not None:
            self._withdraw(self._ranges.view(event.prev))

    async def _address_changed(self, event: Event) -> None:
        if not event.deleted:
            self._reserve(self._addresses.view(event.kv))
        elif event.prev is not None:
            self._release(self._addresses.view(event.prev))

    # --- addresses ----------------------------------------------------------------------------------------------------

    async def _told(self, address: str, service: Object) -> None:
        """Write down that a Service has an address."""
        metadata = service["metadata"]
        await self._create(self._addresses, address, {
            "kind": "IPAddress", "apiVersion": f"{_GROUP}/v1", "metadata": {"name": address, "labels": {
                f"{_LABELS}ip-family": "IPv6" if ":" in address else "IPv4", f"{_LABELS}managed-by": _MANAGER}},
            "spec": {"parentRef": {"group": "", "resource": "services", "namespace": metadata.get("namespace", ""),
                                   "name": metadata["name"]}}})

    async def _forget(self, address: str) -> None:
        with contextlib.suppress(KeyMissing, Conflict):
            await self._api.store.delete(self._addresses.folder.key("", address))

    def _reserve(self, obj: Object) -> None:
        if not _managed(obj):
            for pool in self._api.stock.addresses.values():
                with contextlib.suppress(Taken, OutOfRange):
                    pool.take(obj["metadata"]["name"])

    def _release(self, obj: Object) -> None:
        if not _managed(obj):
            for pool in self._api.stock.addresses.values():
                pool.give_back(obj["metadata"]["name"])

    # --- ranges -------------------------------------------------------------------------------------------------------

    async def _range(self, obj: Object) -> None:
        """Take in one range as it is now."""
        name = obj["metadata"]["name"]
        if "deletionTimestamp" in obj["metadata"]:
            self._withdraw(obj)
            self._going.add(name)
            await self._end(name)
            return
        for cidr in (obj.get("spec") or {}).get("cidrs") or ():
            network = ipaddress.ip_network(cidr)
            pool = self._api.stock.addresses.get(f"IPv{network.version}")
            if pool is not None and pool.add(Addresses(network)):
                log.info("cluster IPs may come from %s too (ServiceCIDR %s)", network, name)
        await self._put(name, obj, ready=True, reason="", message="Kubernetes Service CIDR is ready")

    def _withdraw(self, obj: Object) -> None:
        """Hand out nothing of a range any more."""
        for cidr in (obj.get("spec") or {}).get("cidrs") or ():
            network = ipaddress.ip_network(cidr)
            pool = self._api.stock.addresses.get(f"IPv{network.version}")
            if pool is not None:
                pool.drop(network)

    async def _end(self, name: str) -> None:
        """Let a range go that nobody has an address of."""
        key = self._ranges.folder.key("", name)
        current = await self._api.store.get(key)
        if current is None:
            self._going.discard(name)
            return
        obj = self._ranges.fresh(current)
        networks = [ipaddress.ip_network(cidr) for cidr in (obj.get("spec") or {}).get("cidrs") or ()]
        others = [ipaddress.ip_network(cidr) for kv in (await self._api.store.list(self._ranges.folder.prefix)).kvs
                  for other in (self._ranges.view(kv),) if other["metadata"]["name"] != name
                  and "deletionTimestamp" not in other["metadata"] for cidr in (other.get("spec") or {})["cidrs"]]
        for kv in (await self._api.store.list(self._addresses.folder.prefix)).kvs:
            address: Any = ipaddress.ip_address(self._addresses.view(kv)["metadata"]["name"])
            if any(_holds(network, address) for network in networks) \
                    and not any(_holds(network, address) for network in others):
                await self._put(name, obj, ready=False, reason="Terminating", message="There are still IPAddresses "
                                "referencing the ServiceCIDR, please remove them or create a new ServiceCIDR")
                return
        obj["metadata"]["finalizers"] = [one for one in obj["metadata"].get("finalizers") or [] if one != FINALIZER]
        with contextlib.suppress(Conflict, KeyMissing):
            if obj["metadata"]["finalizers"]:
                await self._api.store.update(key, self._ranges.encode(obj), current.mod_revision)
            else:
                await self._api.store.delete(key, current.mod_revision)
            self._going.discard(name)

    async def _put(self, name: str, obj: Object, *, ready: bool, reason: str, message: str) -> None:
        """Write finalizer and condition, if they are not there yet."""
        key = self._ranges.folder.key("", name)
        current = await self._api.store.get(key)
        if current is None:
            return
        fresh = self._ranges.fresh(current)
        finalizers = fresh["metadata"].setdefault("finalizers", [])
        conditions = (fresh.get("status") or {}).get("conditions") or []
        known = next((one for one in conditions if one.get("type") == "Ready"), None)
        state = "True" if ready else "False"
        if (FINALIZER in finalizers or not ready) and known is not None and known["status"] == state:
            return
        if ready and FINALIZER not in finalizers and "deletionTimestamp" not in obj["metadata"]:
            finalizers.append(FINALIZER)
        fresh["status"] = {"conditions": [{
            "type": "Ready", "status": state, "reason": reason, "message": message,
            "lastTransitionTime": meta.timestamp(self._api.clock())}]}
        with contextlib.suppress(Conflict, KeyMissing):
            await self._api.store.update(key, self._ranges.encode(fresh), current.mod_revision)

    async def _create(self, endpoint: Any, name: str, obj: Object) -> None:
        key = endpoint.folder.key("", name)
        if await self._api.store.get(key) is not None:
            return
        obj["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": meta.timestamp(self._api.clock())}
        with contextlib.suppress(KeyExists):
            await self._api.store.create(key, endpoint.encode(obj))


def _of(service: Object) -> set[str]:
    """Return a Service's cluster IPs."""
    spec = service.get("spec") or {}
    return {address for address in spec.get("clusterIPs") or [spec.get("clusterIP", "")] if address not in ("", "None")}


def _managed(obj: Object) -> bool:
    return bool((obj["metadata"].get("labels") or {}).get(f"{_LABELS}managed-by") == _MANAGER)


def _holds(network: Any, address: Any) -> bool:
    return bool(network.version == address.version and address in network)
