"""Pod garbage collection: Pods that nobody will ever finish (k8s:pkg/controller/podgc)."""

from __future__ import annotations

import logging
import time
from typing import ClassVar

from netlab.api import meta, placement
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller
from netlab.controllers.nodelifecycle import index_by_node
from netlab.controllers.pods import is_over, node_of, set_condition
from netlab.errors import ApiError

log = logging.getLogger(__name__)

_QUARANTINE = 40.0  # seconds: a node that is made anew under its name keeps its Pods
_OVER = "<over>"    # the key for Pods that have ended, among keys that are Pods


class PodCollector(Controller):
    """The loop; its keys are Pods, and one for the number of Pods that have ended."""

    name: ClassVar[str] = "pod-garbage-collector-controller"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._missing: dict[str, float] = {}
        self.nodes = self.source("nodes", self._node_changed)
        self.pods = self.source("pods", self._pod_changed)
        self.pods.add_index("node", index_by_node)
        self.pods.add_index("over", lambda pod: ["yes"] if is_over(pod) else [])

    def _node_changed(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._missing.pop(key, None)
        out = any(row["key"] == placement.OUT_OF_SERVICE for row in (new or {}).get("spec", {}).get("taints") or [])
        if new is None or out:
            for pod in self.pods.by_index("node", key):
                self.queue.add(meta.key(pod))

    def _pod_changed(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        if is_over(new) and len(self.pods.by_index("over", "yes")) > self.options.terminated_pod_threshold > 0:
            self.queue.add(_OVER)
        if (node_of(new) and self.nodes.get(node_of(new)) is None) or meta.deleting(new):
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        """Delete one Pod for good if nothing else will."""
        if key == _OVER:
            ended = sorted(self.pods.by_index("over", "yes"), key=lambda pod: pod["metadata"]["creationTimestamp"])
            for one in ended[:max(0, len(ended) - self.options.terminated_pod_threshold)]:
                await self._delete(one, "")
            return None
        pod = self.pods.get(key)
        if pod is None:
            return None
        name = node_of(pod)
        if not name:
            if meta.deleting(pod):
                await self._delete(pod, "")
            return None
        node = self.nodes.get(name)
        if node is not None:
            out = [row for row in node["spec"].get("taints") or [] if row["key"] == placement.OUT_OF_SERVICE]
            ready = any(row.get("type") == "Ready" and row.get("status") == "True"
                        for row in node.get("status", {}).get("conditions") or [])
            if out and not ready and meta.deleting(pod):
                await self._delete(pod, "PodGC: node has the out-of-service taint")
            return None
        left = self._missing.setdefault(name, time.monotonic()) + _QUARANTINE - time.monotonic()
        if left > 0:
            return left
        try:
            await self.client.get("nodes", name)
        except ApiError as error:
            if error.code != 404:
                raise
            await self._delete(pod, "PodGC: node no longer exists")
        return None

    async def _delete(self, pod: Object, why: str) -> None:
        log.info("deleting %s: %s", meta.key(pod), why or "it is over")
        try:
            if why and not is_over(pod):
                row = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": why}
                found = set_condition(list(pod.get("status", {}).get("conditions") or []), row, time.time())
                await self.client.patch("pods", meta.name(pod), {"metadata": {"uid": meta.uid(pod)}, "status": {
                    "phase": "Failed", "conditions": found}}, meta.namespace(pod), subresource="status")
            await self.client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod), grace=0)
        except ApiError as error:
            if error.code not in (404, 409, 422):
                raise
