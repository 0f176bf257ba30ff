"""Probes over time: when to probe, what a row of outcomes means, and what is then known of a container.

After k8s:pkg/kubelet/prober (worker.go, prober_manager.go). The counting is pure (`Count`); a task per probe does the
waiting. One thing is better than upstream: the first look at a readiness or startup probe comes at once and, while the
container is still coming up, again after a few milliseconds, without counting as failures; upstream's first look comes
up to a second late, and the next a whole period after that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from netlab.api.meta import Object
from netlab.kubelet import spec
from netlab.kubelet.probers import Outcome
from netlab.kubelet.records import Container, PodRecord
from netlab.kubelet.sync import Verdict

log = logging.getLogger(__name__)

Kind = Literal["liveness", "readiness", "startup"]
FIELDS: dict[Kind, str] = {"liveness": "livenessProbe", "readiness": "readinessProbe", "startup": "startupProbe"}
SETTLING = 1.0
"""Seconds after a container's start in which a probe that has not passed yet is repeated quickly and in silence."""
_QUICK, _QUICKEST = 0.4, 0.02

Probe = Callable[[Object, Container], Awaitable[Outcome]]


@dataclass(frozen=True)
class Count:
    """A row of equal outcomes and the verdict that stands: None while there is none yet."""

    verdict: bool | None
    last: bool | None = None
    row: int = 0

    def add(self, ok: bool, *, successes: int, failures: int) -> Count:
        """Return the count after one more outcome."""
        row = self.row + 1 if ok == self.last else 1
        if row >= (successes if ok else failures):
            return Count(ok, ok, row)
        return Count(self.verdict, ok, row)


class PodProbes:
    """The probes of one Pod's running containers."""

    def __init__(self, probe: Probe, changed: Callable[[], None], unhealthy: Callable[[str, str], None]) -> None:
        """Make it.

        Args:
            probe: probes once.
            changed: called when a verdict has changed.
            unhealthy: called with (container's name, message) for the Unhealthy event.
        """
        self._probe, self._changed, self._unhealthy = probe, changed, unhealthy
        self._counts: dict[tuple[str, Kind], Count] = {}
        self._tasks: dict[tuple[str, Kind], asyncio.Task[None]] = {}
        self._probed: dict[str, frozenset[Kind]] = {}

    def follow(self, pod: Object, record: PodRecord, ready_before: Callable[[Container], bool | None], *,
               ending: bool = False) -> None:
        """Probe the containers that run, and no others.

        Args:
            pod: the Pod.
            record: what the runtime has.
            ready_before: the readiness that an earlier kubelet had reported of a container, None for none.
            ending: the Pod is on its way out: liveness and startup no longer matter.
        """
        running = {c.id: c for c in record.containers if c.running}
        for container_id, found in running.items():
            wanted = spec.container(pod, found.name)
            if wanted is None or container_id in self._probed:
                continue
            kinds = frozenset(kind for kind, name in FIELDS.items() if wanted.get(name))
            self._probed[container_id] = kinds
            for kind in kinds:
                before = ready_before(found)
                first = {"liveness": True, "readiness": before or False, "startup": True if before else None}[kind]
                self._counts[container_id, kind] = Count(first)
                self._tasks[container_id, kind] = asyncio.create_task(
                    self._go(kind, wanted, found), name=f"{kind} probe of {found.name}")
        for container_id in [i for i in self._probed if i not in running]:
            for kind in self._probed.pop(container_id):
                self._end(container_id, kind)
        if ending:
            for container_id, kind in [key for key in self._tasks if key[1] != "readiness"]:
                self._tasks.pop((container_id, kind)).cancel()

    def verdict(self, found: Container) -> Verdict:
        """Return what is known of a running container."""
        kinds = self._probed.get(found.id)
        if kinds is None:
            return Verdict()
        count = {kind: self._counts[found.id, kind] for kind in kinds if (found.id, kind) in self._counts}
        startup = count.get("startup")
        return Verdict(live=count["liveness"].verdict is not False if "liveness" in count else True,
                       started=startup is None or startup.verdict is True,
                       startup_failed=startup is not None and startup.verdict is False,
                       ready=count["readiness"].verdict is True if "readiness" in count else True)

    def stop(self) -> None:
        """End all probing."""
        for container_id, kinds in list(self._probed.items()):
            for kind in kinds:
                self._end(container_id, kind)
        self._probed.clear()

    def _end(self, container_id: str, kind: Kind) -> None:
        self._counts.pop((container_id, kind), None)
        task = self._tasks.pop((container_id, kind), None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _go(self, kind: Kind, wanted: Object, found: Container) -> None:
        probe = wanted[FIELDS[kind]]
        period = float(probe.get("periodSeconds") or 10)
        delay = float(probe.get("initialDelaySeconds") or 0)
        key = (found.id, kind)
        await asyncio.sleep(max(0.0, found.started_at + delay - time.time()))
        quick = _QUICKEST
        while True:
            if kind != "startup" and not self.verdict(found).started:
                await asyncio.sleep(min(period, 0.1))
                continue
            began = time.monotonic()
            try:
                outcome = await self._probe(probe, found)
            except Exception:  # a probe must not end the probing
                log.exception("%s probe of container %s", kind, found.name)
                outcome = Outcome(None, "internal error")
            if key not in self._counts:
                return
            settling = time.time() - found.started_at < delay + SETTLING and kind != "liveness"
            if outcome.ok is not True and settling and not self._counts[key].verdict:
                await asyncio.sleep(quick)
                quick = min(quick * 2, _QUICK)
                continue
            if self._take(kind, probe, found, outcome):
                return
            await asyncio.sleep(max(0.0, period - (time.monotonic() - began)))

    def _take(self, kind: Kind, probe: Object, found: Container, outcome: Outcome) -> bool:
        """Count one outcome. Tell whether this probe has done its work."""
        shown = kind.capitalize()
        if outcome.ok is None:
            self._unhealthy(found.name, f"{shown} probe errored and resulted in unknown state: {outcome.output}")
            return False
        if not outcome.ok:
            self._unhealthy(found.name, f"{shown} probe failed: {outcome.output}")
        before = self._counts[found.id, kind]
        after = before.add(outcome.ok, successes=int(probe.get("successThreshold") or 1),
                           failures=int(probe.get("failureThreshold") or 3))
        self._counts[found.id, kind] = after
        if after.verdict != before.verdict:
            self._changed()
        # a container that has started, or is condemned, needs no more of these probes
        return (kind == "startup" and after.verdict is not None) or (kind == "liveness" and after.verdict is False)
