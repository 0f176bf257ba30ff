"""One Pod's life on this node: made, kept as wanted, ended, forgotten.

A worker is one task. Whatever happens (the spec changed, the runtime said something, a probe's verdict, a back-off that
is over) only wakes it; it then looks at everything anew. The end can't be taken back: once begun it goes through, even
if the kubelet restarts in between.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import Callable

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.kubelet import admission, containers, ending, spec, status
from netlab.kubelet.backoff import Backoff
from netlab.kubelet.firm import firm
from netlab.kubelet.hands import Hands
from netlab.kubelet.probers import Outcome
from netlab.kubelet.probes import PodProbes
from netlab.kubelet.records import Container, PodRecord
from netlab.kubelet.shared import Node
from netlab.kubelet.sync import Plan, decide
from netlab.kubelet.volumes.setup import MountTrouble

log = logging.getLogger(__name__)

_ROUNDS = 20
"""How often one look may act and decide again before it lets others have their turn."""


class Stage(enum.Enum):
    """Where a Pod is in its life."""

    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"
    GONE = "gone"


class Worker:
    """One Pod. `on_gone(uid)` is called when nothing of it is left."""

    def __init__(self, node: Node, pod: Object, on_gone: Callable[[str], None]) -> None:
        self.uid = meta.uid(pod)
        self.pod = pod
        self.stage: Stage = Stage.RUNNING
        self._node, self._on_gone = node, on_gone
        self._wake = asyncio.Event()
        self._wake.set()
        self._alarm: asyncio.TimerHandle | None = None
        self._step: asyncio.Task[None] | None = None
        self._removed = False
        self._failure: tuple[str, str] | None = None
        self.admitted = False
        self.demand = admission.demand(pod)
        self._cut_short = False
        self._grace: float | None = None
        self._hands = Hands(node, pod, self._report)
        self._troubles = Backoff(0.5, 20.0)
        self._rest_until = 0.0
        self._probes = PodProbes(self._probe, self.wake, self._unhealthy)
        self._task = asyncio.create_task(self._live(), name=f"pod {meta.key(pod)}")

    # -- from outside --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the Pod looked at. While its end is under way nobody can look, but what changes is still reported."""
        self._wake.set()
        if self.stage is Stage.ENDING and self._step is not None:
            self._report()

    def retry(self) -> None:
        """Have it looked at, and tried again at once if it was in trouble: what the trouble was about has changed."""
        self._rest_until = 0.0
        self.wake()

    def update(self, pod: Object) -> None:
        """Take in the newest object."""
        old, self.pod = self.pod, pod
        if spec.spec(old) != spec.spec(pod):
            self._rest_until = 0.0
        self._hands.pod = pod
        if meta.labels(old) != meta.labels(pod) or meta.annotations(old) != meta.annotations(pod):
            self._hands.stale_volumes = True
        if meta.deleting(pod):
            self._end(spec.grace_period(pod))
        self.wake()

    def remove(self) -> None:
        """The Pod is no longer wanted here: deleted from the API by force, or its file is gone."""
        self._removed = True
        self._end(spec.grace_period(self.pod))
        self.wake()

    def refresh(self) -> None:
        """A ConfigMap or Secret of the Pod has changed."""
        self._hands.references_changed()
        self.retry()

    async def close(self) -> None:
        """Let go of the Pod without touching what runs: the kubelet ends, the Pod does not."""
        self._probes.stop()
        if self._alarm is not None:
            self._alarm.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        while self.stage is not Stage.GONE:
            await self._wake.wait()
            self._wake.clear()
            self._step = asyncio.create_task(self._look(), name=f"look at {self.uid}")
            try:
                await self._step
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    self._step.cancel()
                    await asyncio.gather(self._step, return_exceptions=True)
                    raise
            except (MountTrouble, NetlabError) as error:
                self._in_trouble(error)
            except Exception as error:  # no Pod may take the others with it
                log.exception("pod %s", spec.shown(self.pod))
                self._in_trouble(error)
            finally:
                self._step = None
        self._probes.stop()
        if self._alarm is not None:
            self._alarm.cancel()
        self._on_gone(self.uid)

    async def _look(self) -> None:
        if time.time() < self._rest_until:  # its own failures cause events, too: they must not drive it in circles
            self._report()
            self._look_again(self._rest_until)
            return
        if self.stage is Stage.RUNNING:
            await self._keep()
        if self.stage is Stage.ENDING:
            await self._bring_to_end()
        if self.stage is Stage.ENDED:
            await self._bury()

    def _in_trouble(self, error: Exception) -> None:
        """Try again later, and say why."""
        now = time.time()
        self._troubles.next("", now)
        delay = self._troubles.delay("")
        log.warning("pod %s: %s; again in %.1f s", spec.shown(self.pod), error, delay)
        if isinstance(error, MountTrouble):
            self._tell("Warning", "FailedMount", str(error))
        elif self.stage is not Stage.RUNNING:
            self._tell("Warning", "FailedKillPod", f"error killing pod: {error}")
        self._rest_until = now + delay
        self._look_again(self._rest_until)

    def _look_again(self, at: float) -> None:
        if at <= 0:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(0.0, at - time.time()), self.wake)

    def _end(self, grace: float) -> None:
        """Begin the Pod's end, or shorten the one under way."""
        if self._grace is None or grace < self._grace:
            self._grace = grace
            self._rest_until = 0.0
            if self._step is not None and self.stage in (Stage.RUNNING, Stage.ENDING):
                self._cut_short = True
                self._step.cancel()
        if self.stage is Stage.RUNNING:
            self.stage = Stage.ENDING

    # -- running -------------------------------------------------------------------------------------------------

    @property
    def _record(self) -> PodRecord:
        return self._node.means.observer.record(self.uid)

    async def _keep(self) -> None:
        """Bring the Pod to what is wanted, as far as it goes now."""
        if not self._admit():
            return
        if not self._node.may_start(self.pod):
            self._look_again(time.time() + 0.1)
            return
        await self._hands.renew_volumes()
        times = [self._deadline(), self._token_time()]
        for _ in range(_ROUNDS):
            now = time.time()
            self._probes.follow(self.pod, self._record, self._ready_before)
            plan = decide(self.pod, self._record, self._probes.verdict, self._node.crashes, now)
            self._hands.note_held(plan)
            self._report()
            if self._over(plan):
                self.stage = Stage.ENDING
                return
            if plan.nothing or not await self._hands.act(plan, now):
                times += [plan.look_again, *self._hands.held_until.values()]
                break
        else:
            times.append(time.time())
        self._troubles.forget("")
        await ending.collect(self._node.means, self._record)
        self._look_again(min((t for t in times if t), default=0.0))

    def _admit(self) -> bool:
        """Take the Pod in, once; a Pod that this node can't have fails at once."""
        if self.admitted or self._record.sandboxes:
            self.admitted = True
            return True
        if spec.finished(self.pod):
            self.stage = Stage.ENDING
            return True
        refused = self._node.admit(self.pod)
        self.admitted = refused is None
        if refused is not None:
            reason, message = refused
            self._tell("Warning", reason, message)
            self._failure = refused
            self.stage = Stage.ENDING
        return refused is None

    def _over(self, plan: Plan) -> bool:
        """Tell whether the Pod has come to its end by itself, or to its deadline."""
        deadline = self._deadline()
        if deadline and time.time() >= deadline:
            self._failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            self._tell("Normal", "DeadlineExceeded", self._failure[1])
            return True
        done = plan.sandbox is None and not (plan.kill or plan.start or plan.held)
        return done and (plan.stop or (self._record.gone and bool(self._record.sandboxes)))

    def _deadline(self) -> float:
        seconds = spec.spec(self.pod).get("activeDeadlineSeconds")
        began = (self._node.reporter.last(self.uid) or {}).get("startTime")
        return meta.parse_timestamp(began) + float(seconds) if seconds is not None and began else 0.0

    def _token_time(self) -> float:
        return self._node.volumes.renew_at(self.uid)

    # -- the end -------------------------------------------------------------------------------------------------

    async def _bring_to_end(self) -> None:
        """Stop all containers, sidecars after the others, then the sandboxes."""
        node = self._node
        if self._cut_short:
            await ending.relist(node.means, self.uid)
            self._cut_short = False
        grace = float(spec.grace_period(self.pod) if self._grace is None else self._grace)
        self._probes.follow(self.pod, self._record, self._ready_before, ending=True)
        self._report()
        await ending.stop_containers(node.means, self.pod, grace, self._hands.ip())
        self._report()
        await firm(node.sandboxes.end(self._record))
        self._probes.stop()
        self.stage = Stage.ENDED
        self._report()

    async def _bury(self) -> None:
        """Take away what the Pod leaves; the object too, where its deletion was asked for."""
        await self._node.volumes.tear_down(self.uid)
        if meta.deleting(self.pod) or self._removed:  # else: kept, with its logs, until someone deletes it
            await ending.forget(self._node, self.pod, in_api=not self._removed and not spec.is_static(self.pod))
            self.stage = Stage.GONE

    # -- status, probes, words -----------------------------------------------------------------------------------

    def _report(self) -> None:
        node = self._node
        old = node.reporter.last(self.uid) or self.pod.get("status") or {}
        if self.stage is Stage.ENDED and self._failure and not self._record.containers:
            new = status.rejected(self.pod, *self._failure, time.time())
        else:
            new = status.build(self.pod, self._record, old, status.Facts(
                now=time.time(), host_ips=node.host_ips(), verdict=self._probes.verdict, waiting=self._hands.waiting,
                ended=self.stage is Stage.ENDED, failure=self._failure))
        node.reporter.put(self.uid, new)

    def _ready_before(self, found: Container) -> bool | None:
        """Return the readiness that the API holds of a container: an adopted one keeps it until it is probed."""
        for row in (self.pod.get("status") or {}).get("containerStatuses") or []:
            if row.get("containerID") == found.url:
                return bool(row.get("ready"))
        return None

    async def _probe(self, probe: Object, found: Container) -> Outcome:
        means = self._node.means
        wanted = spec.container(self.pod, found.name) or {}
        return await means.probers.probe(probe, wanted, self._hands.ip(), containers.execute_in(means, found.id))

    def _unhealthy(self, name: str, message: str) -> None:
        self._tell("Warning", "Unhealthy", message, name)

    def _tell(self, kind: str, reason: str, message: str, container: str = "") -> None:
        self._node.means.tell(self.pod, kind, reason, message, container)
