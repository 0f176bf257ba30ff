"""What to do for one Pod, decided from its spec and from what the runtime has; pure.

After k8s:pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodActions): the sandbox first, then init containers
in their order (sidecars stay), then all the others; a Pod whose containers are all done for good is stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from netlab.api import meta
from netlab.api.meta import Object
from netlab.kubelet import spec
from netlab.kubelet.backoff import Backoff
from netlab.kubelet.records import Container, PodRecord

KillReason = Literal["liveness", "startup", "changed"]


@dataclass(frozen=True)
class Verdict:
    """What the probes say of one running container. Without a probe of a kind, its field has the value given here."""

    live: bool = True
    started: bool = True
    startup_failed: bool = False
    ready: bool = True


Verdicts = Callable[[Container], Verdict]


@dataclass(frozen=True)
class Start:
    """Start a container; `attempt` counts its earlier runs."""

    name: str
    attempt: int
    init: bool = False
    """Whether what comes after must wait for it: a failed start ends this round."""


@dataclass(frozen=True)
class Kill:
    """Stop a container that must not go on as it is. `message` is the Killing event's."""

    container: Container
    reason: KillReason
    message: str


@dataclass(frozen=True)
class Held:
    """A container that would start but for its back-off: `until` is Unix seconds, `delay` seconds."""

    name: str
    until: float
    delay: float


@dataclass(frozen=True)
class Plan:
    """What to do now, in the order of the fields. An empty plan: all is as it should be."""

    stop: bool = False
    """Stop every container and the sandbox."""
    sandbox: int | None = None
    """Make a sandbox with this attempt number; look again afterwards."""
    kill: tuple[Kill, ...] = ()
    start: tuple[Start, ...] = ()
    held: tuple[Held, ...] = ()

    @property
    def nothing(self) -> bool:
        """Tell whether there is nothing to do (but perhaps to wait)."""
        return not (self.stop or self.kill or self.start) and self.sandbox is None

    @property
    def look_again(self) -> float:
        """Return when the first back-off ends, 0.0 when there is none."""
        return min((held.until for held in self.held), default=0.0)


@dataclass
class _Round:
    """One look at a Pod: what is known, and the lists that grow while deciding."""

    pod: Object
    record: PodRecord
    verdict: Verdicts
    backoff: Backoff
    now: float
    kill: list[Kill] = field(default_factory=list)
    start: list[Start] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def plan(self) -> Plan:
        return Plan(kill=tuple(self.kill), start=tuple(self.start), held=tuple(self.held))

    def run(self, wanted: Object, *, init: bool = False) -> None:
        """Start a container now, or hold it until its back-off is over."""
        name = str(wanted["name"])
        newest = self.record.latest(name)
        ended = next((c for c in self.record.containers if c.name == name and c.state != "running"), None)
        until = self.backoff.until(backoff_key(self.pod, wanted), ended.finished_at or ended.created_at) if ended else 0
        if until > self.now:
            self.held.append(Held(name, until, self.backoff.delay(backoff_key(self.pod, wanted))))
        else:
            attempt = newest.attempt + 1 if newest else spec.runs_before(self.pod, name)
            self.start.append(Start(name, attempt, init=init))

    def must_go(self, wanted: Object, running: Container) -> bool:
        """Kill a running container that its probes or a changed spec condemn; tell whether it was so."""
        verdict, name = self.verdict(running), running.name
        if running.hash and running.hash != spec.container_hash(wanted):
            why: tuple[KillReason, str] = ("changed", f"Container {name} definition changed")
        elif not verdict.live:
            why = ("liveness", f"Container {name} failed liveness probe")
        elif verdict.startup_failed:
            why = ("startup", f"Container {name} failed startup probe")
        else:
            return False
        again = why[0] == "changed" or spec.restart_policy(self.pod) != "Never" or spec.is_sidecar(wanted)
        self.kill.append(Kill(running, why[0], why[1] + (", will be restarted" if again else "")))
        return True


def backoff_key(pod: Object, wanted: Object) -> str:
    """Return the key under which a container's crashes are counted: a changed container starts afresh."""
    return f"{meta.uid(pod)}/{wanted['name']}/{spec.container_hash(wanted)}"


def decide(pod: Object, record: PodRecord, verdict: Verdicts, backoff: Backoff, now: float) -> Plan:
    """Return what to do for a Pod that is to run.

    Args:
        pod: the Pod as wanted.
        record: what the runtime has.
        verdict: what the probes say of a running container.
        backoff: the crash counts; read, not changed.
        now: Unix seconds.
    """
    sandbox = record.sandbox
    if sandbox is None or not sandbox.ready or not (sandbox.ips or spec.host_network(pod)):
        return _sandbox(pod, record)
    look = _Round(pod, record, verdict, backoff, now)
    for wanted in spec.ephemeral_containers(pod):
        if record.latest(wanted["name"]) is None:
            look.start.append(Start(wanted["name"], 0))
    if _begun(pod, record):
        for wanted in spec.init_containers(pod):
            if spec.is_sidecar(wanted):
                _sidecar(look, wanted)
    else:
        done = _initialize(look)
        if done is None:
            return Plan(stop=not record.gone)
        if not done:
            return look.plan()
    if not _ordinary(look):
        return Plan(stop=not record.gone)
    return look.plan()


def _sandbox(pod: Object, record: PodRecord) -> Plan:
    """A new sandbox, unless the Pod has run and has nothing left to run."""
    old = record.sandbox
    stop = not record.gone
    if old is not None and record.containers:
        left = [c for c in spec.containers(pod) if _to_run(pod, c, record.latest(c["name"]))]
        if not left or spec.restart_policy(pod) == "Never":
            return Plan(stop=stop)
    return Plan(stop=stop, sandbox=old.attempt + 1 if old else 0)


def _to_run(pod: Object, wanted: Object, last: Container | None) -> bool:
    return last is None or last.state != "exited" or spec.should_restart(pod, wanted, last.exit_code)


def _begun(pod: Object, record: PodRecord) -> bool:
    """Tell whether initialization is over: an ordinary container exists in this sandbox."""
    current = record.sandbox.id if record.sandbox else ""
    return any(record.latest(c["name"], sandbox_id=current) for c in spec.containers(pod))


def _initialize(look: _Round) -> bool | None:
    """Take the init containers one step on. True: all done; False: wait; None: failed for good."""
    current = look.record.sandbox.id if look.record.sandbox else ""
    for wanted in spec.init_containers(look.pod):
        last = look.record.latest(wanted["name"], sandbox_id=current)
        if spec.is_sidecar(wanted):
            if not _sidecar(look, wanted):
                return False
        elif last is None:
            look.run(wanted, init=True)
            return False
        elif last.running:
            return False
        elif last.state != "exited" or last.exit_code != 0:
            if last.state == "exited" and not spec.should_restart(look.pod, wanted, last.exit_code, init=True):
                return None
            look.run(wanted, init=True)
            return False
    return True


def _sidecar(look: _Round, wanted: Object) -> bool:
    """Keep a sidecar running. Tell whether the next container may start: it runs and has passed its startup probe."""
    current = look.record.sandbox.id if look.record.sandbox else ""
    last = look.record.latest(wanted["name"], sandbox_id=current)
    if last is None or not last.running:
        look.run(wanted, init=True)
        return False
    if look.must_go(wanted, last):
        look.run(wanted, init=True)
        return False
    return look.verdict(last).started


def _ordinary(look: _Round) -> bool:
    """Keep or start the ordinary containers. Tell whether any of them is left to run."""
    alive = False
    for wanted in spec.containers(look.pod):
        last = look.record.latest(wanted["name"])
        if last is not None and last.running:
            if not look.must_go(wanted, last):
                alive = True
                continue
            if look.kill[-1].reason != "changed" and not spec.should_restart(look.pod, wanted, 137):
                alive = True  # it goes on to its end first; what remains is decided then
                continue
        elif not _to_run(look.pod, wanted, last):
            continue
        look.run(wanted)
        alive = True
    return alive
