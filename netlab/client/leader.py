"""Leader election: among several copies of a component one works, the others stand by.

The lock is a Lease (coordination.k8s.io/v1) and the rules are client-go's tools/leaderelection: whoever holds it
renews every `retry` seconds and stops within `renew` of its last success; others take it `lease` seconds after the
last change that they saw by their own clock (clocks of other machines are never compared). On an orderly end the lock
is given back, so the next one starts at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import ApiError, NetlabError, TemporaryError
from netlab.flags import Flag

log = logging.getLogger(__name__)


def flags(program: str) -> tuple[Flag, ...]:
    """Return upstream's leader election flags, for a component whose lease bears its own name by default."""
    return (
        Flag("leader-elect", "bool", True, "Work only while holding the lease of the same name."),
        Flag("leader-elect-lease-duration", "duration", 15.0, "Seconds after which others may take the lease."),
        Flag("leader-elect-renew-deadline", "duration", 10.0, "Seconds without success after which the holder ends."),
        Flag("leader-elect-retry-period", "duration", 2.0, "Seconds between tries."),
        Flag("leader-elect-resource-name", default=program, help="Name of the lease."),
        Flag("leader-elect-resource-namespace", default="kube-system", help="Namespace of the lease."),
    )


def new_identity() -> str:
    """Return `hostname_uuid`, as upstream's components call themselves."""
    return f"{_on_this_host()}{uuid.uuid4()}"


def _on_this_host() -> str:
    return f"{socket.gethostname()}_"


@dataclass
class LeaderElector:
    """One candidate for the Lease `namespace/name`. `lease`, `renew` and `retry` are seconds.

    `alone` says that no other copy can be alive on this host: the caller holds something that there is once, such as
    the component's port. Then a lock held from this host is that of a copy that was killed, and is taken at once.
    """

    client: Client
    name: str
    namespace: str = "kube-system"
    identity: str = field(default_factory=new_identity)
    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0
    alone: bool = False
    leader: str = ""
    """Who holds the lock, as last seen."""

    def __post_init__(self) -> None:
        self._seen: Object | None = None
        self._seen_at = 0.0

    async def run(self, stop: asyncio.Event, lead: Callable[[asyncio.Event], Awaitable[object]]) -> None:
        """Wait for the lock, then run `lead(stop)` under it until `stop` is set or `lead` ends.

        Raises:
            TemporaryError: the lock was lost; the process should end, since it no longer knows what it may do.
        """
        if not await self._acquire(stop):
            return
        lost = asyncio.Event()
        ended = asyncio.Event()  # what `lead` is told: the end of the process, or of the leadership
        work = asyncio.ensure_future(lead(ended))
        keeper = asyncio.ensure_future(self._keep(lost))
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, lost)]
        try:
            await asyncio.wait({work, *waits}, return_when=asyncio.FIRST_COMPLETED)
            ended.set()
            if lost.is_set():
                work.cancel()
                raise TemporaryError(f"leader election lost: {self.namespace}/{self.name} is held by "
                                     f"{self.leader or 'nobody'}")
            await work
        finally:
            ended.set()
            for task in (work, keeper, *waits):
                task.cancel()
            await asyncio.gather(work, keeper, *waits, return_exceptions=True)
            if not lost.is_set():
                await self._release()

    async def _acquire(self, stop: asyncio.Event) -> bool:
        log.info("attempting to acquire leader lease %s/%s...", self.namespace, self.name)
        while not stop.is_set():
            wait = self.retry * random.uniform(1.0, 1.2)
            try:
                if await self._try():
                    log.info("successfully acquired lease %s/%s", self.namespace, self.name)
                    return True
                wait = min(wait, max(0.01, self._seen_at + self._duration() - time.monotonic()))
                watching = asyncio.ensure_future(self._changed())
            except NetlabError as error:
                log.debug("leader election: %s", error)
                watching = asyncio.ensure_future(asyncio.sleep(min(wait, 0.2)))
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait({watching, stopped}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, stopped):
                task.cancel()
            await asyncio.gather(watching, stopped, return_exceptions=True)
        return False

    async def _changed(self) -> None:
        """Return when somebody else than the leader's usual renewal happens to the lock."""
        revision = str((self._seen or {}).get("metadata", {}).get("resourceVersion", ""))
        try:
            async for kind, obj in self.client.watch("leases.coordination.k8s.io", self.namespace,
                                                     fields=f"metadata.name={self.name}", revision=revision):
                if kind == "DELETED" or not obj.get("spec", {}).get("holderIdentity"):
                    return
                self._observe(obj)
        except NetlabError:
            await asyncio.sleep(self.retry)

    async def _keep(self, lost: asyncio.Event) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self.retry)
            try:
                async with asyncio.timeout(max(0.1, renewed + self.renew - time.monotonic())):
                    held = await self._try()
            except (NetlabError, TimeoutError) as error:
                log.warning("failed to renew lease %s/%s: %s", self.namespace, self.name, error)
                held = False
            if held:
                renewed = time.monotonic()
            elif self.leader not in ("", self.identity) or time.monotonic() - renewed >= self.renew:
                lost.set()
                return

    def _duration(self) -> float:
        return float((self._seen or {}).get("spec", {}).get("leaseDurationSeconds") or self.lease)

    def _observe(self, obj: Object) -> None:
        if self._seen is None or self._seen.get("spec") != obj.get("spec"):
            self._seen_at = time.monotonic()
        self._seen = obj
        self.leader = str(obj.get("spec", {}).get("holderIdentity") or "")

    async def _try(self) -> bool:
        """Take or renew the lock; False if somebody else has it."""
        now = meta.micro_timestamp(time.time())
        spec: Object = {"holderIdentity": self.identity, "leaseDurationSeconds": int(self.lease), "acquireTime": now,
                        "renewTime": now, "leaseTransitions": 0}
        try:
            found = await self.client.get("leases.coordination.k8s.io", self.name, self.namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            made: Object = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                            "metadata": {"name": self.name, "namespace": self.namespace}, "spec": spec}
            self._observe(await self.client.create("leases.coordination.k8s.io", made))
            return True
        self._observe(found)
        old = found.get("spec", {})
        if self.leader == self.identity:
            spec |= {"acquireTime": old.get("acquireTime", now), "leaseTransitions": old.get("leaseTransitions", 0)}
        elif self.leader and time.monotonic() < self._seen_at + self._duration() and not (
                self.alone and self.leader.startswith(_on_this_host())):
            return False
        else:
            spec["leaseTransitions"] = int(old.get("leaseTransitions") or 0) + 1
        try:
            self._observe(await self.client.update("leases.coordination.k8s.io", {**found, "spec": spec}))
        except ApiError as error:
            if error.reason != "Conflict":
                raise
            return False
        return True

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(2.0):
                found = await self.client.get("leases.coordination.k8s.io", self.name, self.namespace)
                if found.get("spec", {}).get("holderIdentity") == self.identity:
                    now = meta.micro_timestamp(time.time())
                    spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now,
                            "leaseTransitions": found["spec"].get("leaseTransitions", 0)}
                    await self.client.update("leases.coordination.k8s.io", {**found, "spec": spec})
        except (NetlabError, TimeoutError) as error:
            log.warning("could not give lease %s/%s back: %s", self.namespace, self.name, error)
