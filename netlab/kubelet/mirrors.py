"""Mirror Pods: how static Pods show in the API. They only show; deleting one brings it back.

After k8s:pkg/kubelet/pod/mirror_client.go. What to do is decided purely (`plan`); one task carries it out whenever the
API server answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import orjson

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import ApiError, NetlabError
from netlab.kubelet import spec

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.2, 10.0


@dataclass(frozen=True)
class Plan:
    """Mirrors to delete, then to create."""

    delete: tuple[Object, ...] = ()
    create: tuple[Object, ...] = ()


def plan(statics: Iterable[Object], mirrors: Iterable[Object], ending: set[str]) -> Plan:
    """Compare static Pods with their mirrors.

    Args:
        statics: the static Pods that are to run.
        mirrors: this node's mirrors in the API.
        ending: uids of static Pods that are still ending: their mirrors show that, and stay until it is over.
    """
    wanted = {spec.full_name(pod): pod for pod in statics}
    delete, create = [], dict(wanted)
    for mirror in mirrors:
        pod, static_uid = wanted.get(spec.full_name(mirror)), meta.annotations(mirror).get(spec.CONFIG_HASH, "")
        if pod is not None and static_uid == meta.uid(pod) and not meta.deleting(mirror):
            create.pop(spec.full_name(mirror))
        elif static_uid in ending and not meta.deleting(mirror):
            create.pop(spec.full_name(mirror), None)
        else:
            delete.append(mirror)
    return Plan(tuple(delete), tuple(create.values()))


def mirror_of(pod: Object, node: Object) -> Object:
    """Return the mirror to create; the node owns it."""
    made: Object = orjson.loads(orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"],
                                              "spec": pod["spec"]}))
    made["metadata"].pop("uid")
    made["metadata"]["annotations"][spec.CONFIG_MIRROR] = meta.uid(pod)
    made["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": meta.name(node),
                                            "uid": meta.uid(node), "controller": True}]
    return made


class Mirrors:
    """Keeps the mirrors as they should be."""

    def __init__(self, client: Client, node: Callable[[], Object | None], decide: Callable[[], Plan]) -> None:
        """Make it; `node` returns this node's object once there is one, `decide` what to do now."""
        self._client, self._node, self._decide = client, node, decide
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Have them looked at."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        delay = _FIRST_DELAY
        while not stop.is_set():
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._act(self._decide())
                delay = _FIRST_DELAY
            except NetlabError as error:
                log.info("mirror Pods: %s; again in %.1f s", error, delay)
                asyncio.get_running_loop().call_later(delay, self.wake)
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _act(self, todo: Plan) -> None:
        for mirror in todo.delete:
            try:
                await self._client.delete("pods", meta.name(mirror), meta.namespace(mirror), uid=meta.uid(mirror),
                                          grace=0)
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
        node = self._node()
        if node is None:
            return
        for pod in todo.create:
            try:
                await self._client.create("pods", mirror_of(pod, node))
            except ApiError as error:
                if error.code != 409:
                    raise
