"""How a Pod's things come to their end: containers stopped in order, old runs collected, everything forgotten."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from pathlib import Path

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import ApiError, NetlabError, NotFound
from netlab.kubelet import containers, spec
from netlab.kubelet.containers import Means
from netlab.kubelet.firm import firm
from netlab.kubelet.observe import POD_UID
from netlab.kubelet.records import Container, PodRecord
from netlab.kubelet.shared import Node

log = logging.getLogger(__name__)


async def relist(means: Means, uid: str) -> None:
    """Read a Pod anew: a step that was cut short may have made something that no event has told of yet."""
    for sandbox in await means.shim.list_pod_sandboxes({POD_UID: uid}):
        means.observer.put_sandbox(sandbox)
        for found in await means.shim.list_containers(sandbox.id):
            await means.observer.look_at_container(found.id)


async def stop_containers(means: Means, pod: Object, grace: float, ip: str) -> None:
    """Stop all that runs, sidecars last and in reverse order (KEP-753); all share one grace period in seconds."""
    began, uid = time.monotonic(), meta.uid(pod)
    sidecars = [c["name"] for c in spec.init_containers(pod) if spec.is_sidecar(c)]
    running = means.observer.record(uid).running()
    await _stop(means, pod, [c for c in running if c.name not in sidecars], grace, ip)
    for name in reversed(sidecars):
        left = max(0.0, grace - (time.monotonic() - began)) if grace else 0.0
        await _stop(means, pod, [c for c in means.observer.record(uid).running() if c.name == name], left, ip)


async def collect(means: Means, record: PodRecord) -> None:
    """Remove all but the last ended run of each container (that one is for `logs --previous`), with their logs."""
    seen: set[str] = set()
    for found in record.containers:
        if found.running:
            continue
        if found.name in seen:
            try:
                await means.shim.remove_container(found.id)
                await means.observer.look_at_container(found.id)
            except NetlabError as error:
                log.debug("container %s stays: %s", found.id, error)
                continue
            if found.log_path:
                Path(found.log_path).unlink(missing_ok=True)
        seen.add(found.name)


async def forget(node: Node, pod: Object, *, in_api: bool) -> None:
    """Remove the sandboxes, the object in the API once it has the last status, and the logs."""
    uid, means = meta.uid(pod), node.means
    in_api = in_api and node.client is not None
    if in_api:
        await node.reporter.flush(uid)
    await firm(node.sandboxes.remove(means.observer.record(uid)))
    if in_api and node.client is not None:
        try:
            await node.client.delete("pods", meta.name(pod), meta.namespace(pod), uid=uid, grace=0)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
    shutil.rmtree(node.sandboxes.logs(pod), ignore_errors=True)
    node.reporter.drop(uid)
    node.crashes.forget(f"{uid}/")
    means.images.drop(uid)


async def _stop(means: Means, pod: Object, found: list[Container], grace: float, ip: str) -> None:
    results = await asyncio.gather(*(
        containers.stop(means, pod, c, grace=grace, ip=ip, message=f"Stopping container {c.name}") for c in found),
        return_exceptions=True)
    for error in results:
        if isinstance(error, BaseException) and not isinstance(error, NotFound):
            raise error
