"""Start and stop one container: image, environment, mounts, the runtime's words, hooks, and the events that tell of it.

After k8s:pkg/kubelet/kuberuntime/kuberuntime_container.go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.kubelet import env, hooks, spec
from netlab.kubelet.config import Config
from netlab.kubelet.container_config import Place, container_config
from netlab.kubelet.downward import Surroundings
from netlab.kubelet.firm import firm
from netlab.kubelet.images import Images, StartTrouble
from netlab.kubelet.observe import Observer
from netlab.kubelet.probers import Exec, Probers
from netlab.kubelet.records import Container, Sandbox
from netlab.kubelet.references import References
from netlab.kubelet.volumes.mounts import mounts
from netlab.runtime.shimclient import ShimClient

log = logging.getLogger(__name__)

Tell = Callable[[Object, str, str, str, str], None]
"""(Pod, Normal | Warning, reason, message, container's name or "")."""

LEAST_GRACE = 2.0
"""Seconds that a container has after a preStop hook that took all its grace period."""


@dataclass(frozen=True)
class Means:
    """What starting and stopping works with; one per kubelet."""

    config: Config
    shim: ShimClient
    observer: Observer
    images: Images
    references: References
    probers: Probers
    tell: Tell
    services: Callable[[str], Iterable[Object]]
    """namespace → its Services."""
    memory: int = 0
    """The machine's, in bytes."""


async def start(means: Means, pod: Object, wanted: Object, attempt: int, sandbox: Sandbox,
                volumes: Mapping[str, Path], around: Surroundings, hosts: Path | None) -> None:
    """Start one container and run its postStart hook.

    Args:
        means: what to work with.
        pod: the Pod.
        wanted: the container.
        attempt: how often it has run before.
        sandbox: where.
        volumes: host paths by volume name.
        around: for the downward API.
        hosts: the Pod's /etc/hosts on the node; None leaves the sandbox's.

    Raises:
        StartTrouble: it does not run; events tell of it already.
    """
    name = wanted["name"]

    def tell(kind: str, reason: str, message: str) -> None:
        means.tell(pod, kind, reason, message, name)

    def refuse(reason: str, error: Exception) -> StartTrouble:
        tell("Warning", "Failed", f"Error: {error}")
        return StartTrouble(reason, str(error))

    image = await means.images.ensure(pod, wanted, tell)
    space = meta.namespace(pod)
    try:
        needed = env.references(wanted)
        if needed:
            await means.references.hold(meta.uid(pod), [(resource, space, ref) for resource, ref in needed])
        services = env.services_for(pod, means.services)
        environment = env.make(pod, wanted, services, lambda resource, ref: means.references.get(resource, space, ref),
                               around)
        place = Place(attempt=attempt, log=log_path(means.config.logs, pod, name, attempt),
                      message=_message_file(means.config.root, pod, name, attempt), hosts=hosts,
                      mounts=tuple(mounts(wanted, volumes, environment)),
                      image_user=image.user if image else "", memory=means.memory)
        wish = container_config(pod, wanted, environment, place)
    except (ValueError, OSError, NetlabError) as error:
        raise refuse("CreateContainerConfigError", error) from error
    try:
        place.log.parent.mkdir(parents=True, exist_ok=True)
        container_id = await firm(means.shim.create_container(sandbox.id, wish))
    except (OSError, NetlabError) as error:
        raise refuse("CreateContainerError", error) from error
    tell("Normal", "Created", "Container created")
    try:
        await firm(means.shim.start_container(container_id))
    except NetlabError as error:
        await means.observer.look_at_container(container_id)
        raise refuse("RunContainerError", error) from error
    tell("Normal", "Started", "Container started")
    await means.observer.look_at_container(container_id)
    await _post_start(means, pod, wanted, container_id, next(iter(around.pod_ips), ""), tell)


async def stop(means: Means, pod: Object, found: Container, *, message: str, grace: float, ip: str = "") -> None:
    """Stop one container: preStop hook, SIGTERM, and SIGKILL when its grace period (seconds) is over."""
    wanted = spec.container(pod, found.name) or {"name": found.name}
    began, hook = time.monotonic(), (wanted.get("lifecycle") or {}).get("preStop")
    means.tell(pod, "Normal", "Killing", message, found.name)
    if hook and grace > 0 and found.running:
        try:
            async with asyncio.timeout(grace):
                await hooks.run(hook, wanted, ip, execute_in(means, found.id), means.probers)
        except (TimeoutError, hooks.HookFailed) as error:
            log.warning("preStop hook of %s in %s: %s", found.name, spec.shown(pod), error)
            means.tell(pod, "Warning", "FailedPreStopHook", "PreStopHook failed", found.name)
    left = max(grace - (time.monotonic() - began), LEAST_GRACE) if grace > 0 else 0.0
    await means.shim.stop_container(found.id, left)
    await means.observer.look_at_container(found.id)


def execute_in(means: Means, container_id: str) -> Exec:
    """Return what runs a command in a container to its end, output of both streams together."""
    async def execute(command: Sequence[str], seconds: float) -> tuple[int, bytes]:
        result = await means.shim.exec_sync(container_id, command, seconds)
        return result.exit_code, result.stdout + result.stderr

    return execute


def log_path(logs: Path, pod: Object, container: str, attempt: int) -> Path:
    """Return where a container's log is."""
    return log_dir(logs, meta.namespace(pod), meta.name(pod), meta.uid(pod)) / container / f"{attempt}.log"


def log_dir(logs: Path, namespace: str, name: str, uid: str) -> Path:
    """Return the directory of all logs of a Pod."""
    return logs / f"{namespace}_{name}_{uid}"


def _message_file(root: Path, pod: Object, container: str, attempt: int) -> Path:
    place = root / "pods" / meta.uid(pod) / "containers" / container / str(attempt)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    place.chmod(0o666)
    return place


async def _post_start(means: Means, pod: Object, wanted: Object, container_id: str, ip: str,
                      tell: Callable[[str, str, str], None]) -> None:
    hook = (wanted.get("lifecycle") or {}).get("postStart")
    if not hook:
        return
    try:
        await hooks.run(hook, wanted, ip, execute_in(means, container_id), means.probers)
    except hooks.HookFailed as error:
        log.warning("postStart hook of %s in %s: %s", wanted["name"], spec.shown(pod), error)
        tell("Warning", "FailedPostStartHook", "PostStartHook failed")
        found = means.observer.find(container_id)
        if found is not None:
            await stop(means, pod, found[1], message="FailedPostStartHook", grace=spec.grace_period(pod), ip=ip)
        raise StartTrouble("PostStartHookError", "PostStartHook failed") from error
