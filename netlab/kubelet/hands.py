"""Carry out what was decided for one Pod: sandbox, volumes, kills, starts; and remember what keeps it from starting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from netlab.api import meta
from netlab.api.meta import Object
from netlab.kubelet import containers, ending, spec
from netlab.kubelet.backoff import Backoff
from netlab.kubelet.containers import Tell
from netlab.kubelet.downward import Surroundings
from netlab.kubelet.firm import firm
from netlab.kubelet.images import StartTrouble
from netlab.kubelet.records import Container, PodRecord
from netlab.kubelet.shared import Node
from netlab.kubelet.sync import Plan, Start, backoff_key
from netlab.kubelet.volumes.setup import MountTrouble

_NETWORK_SECONDS = 5.0


class Hands:
    """What works for one Pod."""

    def __init__(self, node: Node, pod: Object, report: Callable[[], None]) -> None:
        """Make it; `report` writes the Pod's status, after a step that people may want to see."""
        self.pod = pod
        self.waiting: dict[str, tuple[str, str]] = {}
        """By container: (reason, message) of what keeps it from running."""
        self.held_until: dict[str, float] = {}
        """By container: when to try again, Unix seconds."""
        self.stale_volumes = True
        self._node, self._report = node, report
        self._volumes: dict[str, Path] | None = None
        self._troubles = Backoff(0.5, 20.0)

    @property
    def _uid(self) -> str:
        return meta.uid(self.pod)

    @property
    def _record(self) -> PodRecord:
        return self._node.means.observer.record(self._uid)

    @property
    def _tell(self) -> Tell:
        return self._node.means.tell

    def references_changed(self) -> None:
        """Look at the volumes again, and at once at what could not start for want of a ConfigMap or Secret."""
        self.stale_volumes = True
        for name, (reason, _) in self.waiting.items():
            if reason == "CreateContainerConfigError":
                self.held_until.pop(name, None)

    def note_held(self, plan: Plan) -> None:
        """Note which containers wait because they crash, and tell of each once per crash."""
        now = time.time()
        self.held_until = {name: until for name, until in self.held_until.items() if until > now}
        for held in plan.held:
            waits = (f"back-off {_go_duration(held.delay)} restarting failed container={held.name} "
                     f"pod={spec.shown(self.pod)}")
            if self.waiting.get(held.name) != ("CrashLoopBackOff", waits):
                self.waiting[held.name] = ("CrashLoopBackOff", waits)
                self._tell(self.pod, "Warning", "BackOff", f"Back-off restarting failed container {held.name} in pod "
                                                           f"{spec.shown(self.pod)}", held.name)

    async def act(self, plan: Plan, now: float) -> bool:
        """Carry a plan out. Tell whether it makes sense to decide again at once."""
        if plan.stop or plan.sandbox is not None:
            return await self._new_sandbox(plan)
        for kill in plan.kill:
            await containers.stop(self._node.means, self.pod, kill.container, message=kill.message,
                                  grace=self._grace_of(kill.container, kill.reason), ip=self.ip())
        progress = bool(plan.kill)
        if plan.start:
            volumes = await self.set_up_volumes()
            hosts = self._node.sandboxes.hosts_file(self.pod, self.ips())
            for start in plan.start:
                if self.held_until.get(start.name, 0.0) > now:
                    continue
                started = await self._start(start, volumes, hosts)
                progress |= started
                if not started and start.init:
                    break
        return progress

    async def _new_sandbox(self, plan: Plan) -> bool:
        node, record = self._node, self._record
        if plan.stop:
            if record.sandbox is not None and plan.sandbox is not None:
                self._tell(self.pod, "Normal", "SandboxChanged",
                           "Pod sandbox changed, it will be killed and re-created.", "")
            await ending.stop_containers(node.means, self.pod, spec.grace_period(self.pod), self.ip())
        await firm(node.sandboxes.end(self._record))
        if plan.sandbox is None:
            return True
        trouble = "" if spec.host_network(self.pod) else node.sandboxes.network.ready()
        if trouble:
            self._tell(self.pod, "Warning", "NetworkNotReady", f"network is not ready: {trouble}", "")
            self.held_until[""] = time.time() + _NETWORK_SECONDS
            return False
        made = await asyncio.gather(node.sandboxes.make(self.pod, plan.sandbox), self.set_up_volumes(),
                                    return_exceptions=True)
        for error in made:
            if isinstance(error, MountTrouble | asyncio.CancelledError):
                raise error
        if isinstance(made[0], Exception):
            self._tell(self.pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {made[0]}", "")
        for error in made:
            if isinstance(error, BaseException):
                raise error
        return True

    async def _start(self, start: Start, volumes: dict[str, Path], hosts: Path | None) -> bool:
        """Start one container; tell whether it runs."""
        wanted, sandbox = spec.container(self.pod, start.name), self._record.sandbox
        if wanted is None or sandbox is None:
            return False
        if not spec.is_static(self.pod):
            await self._node.services_known()
        if start.attempt:
            last = self._record.latest(start.name)
            self._node.crashes.next(backoff_key(self.pod, wanted), (last.finished_at if last else 0) or time.time())
        around = self._around()
        try:
            await containers.start(self._node.means, self.pod, wanted, start.attempt, sandbox, volumes, around, hosts)
        except StartTrouble as error:
            self.waiting[start.name] = (error.reason, error.message)
            self.held_until[start.name] = error.until or time.time() + self._start_delay(start.name)
            self._report()
            return False
        self.waiting.pop(start.name, None)
        self.held_until.pop(start.name, None)
        self._troubles.forget(start.name)
        return True

    def _start_delay(self, name: str) -> float:
        self._troubles.next(name, time.time())
        return self._troubles.delay(name)

    def _grace_of(self, found: Container, reason: str) -> float:
        """Return how long a container has to stop, which a probe may say in its own way."""
        wanted = spec.container(self.pod, found.name) or {}
        probe = wanted.get({"liveness": "livenessProbe", "startup": "startupProbe"}.get(reason, "")) or {}
        own = probe.get("terminationGracePeriodSeconds")
        return float(own) if own is not None else spec.grace_period(self.pod)

    async def set_up_volumes(self) -> dict[str, Path]:
        if self._volumes is None or self.stale_volumes:
            self.stale_volumes = False
            try:
                self._volumes = await self._node.volumes.set_up(self.pod, self._around())
            except BaseException:
                self.stale_volumes = True
                raise
        return self._volumes

    async def renew_volumes(self) -> None:
        """Bring the volumes of a running Pod up to date, if something that they come from has changed."""
        renew = self._node.volumes.renew_at(self._uid)
        if renew and time.time() >= renew:
            self.stale_volumes = True
        if self._record.containers and self.stale_volumes:
            try:
                await self.set_up_volumes()
            except MountTrouble as error:  # what runs goes on with what it has
                self._tell(self.pod, "Warning", "FailedMount", str(error), "")
                self.held_until[""] = time.time() + 10

    def ips(self) -> tuple[str, ...]:
        """Return the Pod's addresses."""
        if spec.host_network(self.pod):
            return self._node.host_ips()
        sandbox = self._record.sandbox
        return sandbox.ips if sandbox else ()

    def ip(self) -> str:
        """Return the Pod's first address, "" while it has none."""
        return next(iter(self.ips()), "")

    def _around(self) -> Surroundings:
        return Surroundings(self._node.means.config.node_name, self._node.host_ips(), self.ips(),
                            self._node.allocatable())


def _go_duration(seconds: float) -> str:
    """Write whole seconds as Go does: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
