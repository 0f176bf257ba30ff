"""Keep this node known to the API server: register it, report its health, renew its lease."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import ApiError, NetlabError
from netlab.kubelet import node as nodes
from netlab.kubelet.config import Config
from netlab.kubelet.machine import Machine

log = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 1.0
_READY_REASONS = {"True": "NodeReady", "False": "NodeNotReady"}


class Registration:
    """This node in the API. `tell(type, reason, message)` writes an event about it."""

    def __init__(self, client: Client, config: Config, machine: Machine, addresses: Callable[[], tuple[str, ...]],
                 health: Callable[[], nodes.Health], tell: Callable[[str, str, str], None]) -> None:
        self.node: Object | None = None
        self.answered = asyncio.Event()
        """Set once the API server has answered anything at all."""
        self.registered = asyncio.Event()
        self._client, self._config, self._machine = client, config, machine
        self._addresses, self._health, self._tell = addresses, health, tell
        self._wake = asyncio.Event()
        self._reported = 0.0

    def wake(self) -> None:
        """Something about the node's health may have changed."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Register, then report until `stop` is set."""
        await self._register(stop)
        lease = asyncio.create_task(self._renew(stop), name="lease")
        fresh = True
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    await self._report(fresh=fresh)
                except NetlabError as error:
                    if isinstance(error, ApiError) and error.code == 404:
                        log.warning("the node is not in the API any more, registering it again")
                        self.node = None
                        await self._register(stop)
                        continue
                    log.warning("node status: %s", error)
                    self._reported = 0.0
                try:
                    async with asyncio.timeout(_LOOK_SECONDS if self._reported else _LONGEST_DELAY):
                        await self._wake.wait()
                    fresh = True
                except TimeoutError:
                    fresh = False
        finally:
            lease.cancel()
            await asyncio.gather(lease, return_exceptions=True)

    async def _register(self, stop: asyncio.Event) -> None:
        delay = _FIRST_DELAY
        while not stop.is_set():
            try:
                self.node = await self._create_or_adopt()
                self.answered.set()
                self.registered.set()
                return
            except NetlabError as error:
                if isinstance(error, ApiError):
                    self.answered.set()
                    log.warning("registering the node: %s", error)
                else:
                    log.debug("registering the node: %s", error)
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            delay = min(delay * 1.3, _LONGEST_DELAY)

    async def _create_or_adopt(self) -> Object:
        name = self._config.node_name
        if not self._config.register:
            return await self._client.get("nodes", name)
        wanted = nodes.make(self._config, self._machine, self._addresses(), self._health())
        try:
            made = await self._client.create("nodes", wanted)
            log.info("registered node %s", name)
            self._tell("Normal", "Starting", "Starting kubelet.")
            return made
        except ApiError as error:
            if error.code != 409:
                raise
        found = await self._client.get("nodes", name)
        missing = {key: value for key, value in meta.labels(wanted).items() if meta.labels(found).get(key) != value}
        if missing:
            found = await self._client.patch("nodes", name, {"metadata": {"labels": missing}}, type="strategic")
        log.info("node %s was registered before", name)
        self._tell("Normal", "Starting", "Starting kubelet.")
        return found

    async def _report(self, *, fresh: bool) -> None:
        """Write what is new. `fresh`: what we know of the Node is new enough to start from.

        Otherwise it is read first: the node controller writes conditions too, such as Ready Unknown after a silence.
        """
        if self.node is None:
            return
        if not fresh:
            self.node = await self._client.get("nodes", self._config.node_name)
        health = self._health()
        old = self.node.get("status") or {}
        new = nodes.status(self._config, self._machine, self._addresses(), old, health)
        if not nodes.differs(old, new) and health.now - self._reported < self._config.status_seconds:
            return
        before = _ready(old)
        self.node = await self._client.patch("nodes", self._config.node_name, nodes.patch(old, new), type="strategic",
                                             subresource="status")
        self._reported = health.now
        if before != _ready(new):
            reason = _READY_REASONS[_ready(new)]
            log.info("node status is now: %s", reason)
            self._tell("Normal", reason, f"Node {self._config.node_name} status is now: {reason}")

    async def _renew(self, stop: asyncio.Event) -> None:
        """Renew the lease four times in its lifetime."""
        held: Object | None = None
        while not stop.is_set():
            wanted = nodes.lease(self._config, self.node, time.time())
            try:
                held = await self._write_lease(held, wanted)
                pause = self._config.lease_seconds / 4
            except NetlabError as error:
                log.warning("failed to update lease: %s", error)
                held, pause = None, 1.0
            await asyncio.sleep(pause * random.uniform(0.96, 1.04))

    async def _write_lease(self, held: Object | None, wanted: Object) -> Object:
        if held is None:
            try:
                held = await self._client.get("leases.coordination.k8s.io", self._config.node_name, "kube-node-lease")
            except ApiError as error:
                if error.code != 404:
                    raise
                return await self._client.create("leases.coordination.k8s.io", wanted, "kube-node-lease")
        fresh = {**held, "spec": {**(held.get("spec") or {}), **wanted["spec"]}}
        if wanted["metadata"].get("ownerReferences"):
            fresh["metadata"] = {**held["metadata"], "ownerReferences": wanted["metadata"]["ownerReferences"]}
        return await self._client.update("leases.coordination.k8s.io", fresh)


def _ready(status: Object) -> str:
    return next((str(c.get("status")) for c in status.get("conditions") or [] if c.get("type") == "Ready"), "")
