"""Taint eviction: Pods leave a node with NoExecute taints when their toleration ends."""

from __future__ import annotations

import logging
import time
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller
from netlab.controllers.nodelifecycle import index_by_node
from netlab.controllers.nodes import eviction_time
from netlab.controllers.pods import is_over, node_of, set_condition
from netlab.errors import ApiError

log = logging.getLogger(__name__)


class TaintEviction(Controller):
    """The loop; its keys are Pods."""

    name: ClassVar[str] = "taint-eviction-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.nodes = self.source("nodes", self._node_changed)
        self.pods = self.source("pods", self._pod_changed)
        self.pods.add_index("node", index_by_node)
        self.recorder = context.recorder("taint-eviction-controller")

    def _node_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        before, after = ((obj or {}).get("spec", {}).get("taints") or [] for obj in (old, new))
        if before != after:
            for pod in self.pods.by_index("node", key):
                self.queue.add(meta.key(pod))

    def _pod_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is not None and node_of(new) and (old is None or node_of(old) != node_of(new)
                                                 or old["spec"].get("tolerations") != new["spec"].get("tolerations")):
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        """Delete one Pod if its time on its node is over, or say when it will be."""
        pod = self.pods.get(key)
        node = self.nodes.get(node_of(pod)) if pod else None
        if pod is None or node is None or meta.deleting(pod) or is_over(pod):
            return None
        now = time.time()
        leave = eviction_time(pod, node["spec"].get("taints") or [], now)
        if leave is None:
            return None
        if leave > now:
            return leave - now
        log.info("evicting %s from %s", key, node_of(pod))
        self.recorder.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key}")
        row = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
               "message": "Taint manager: deleting due to NoExecute taint"}
        found = set_condition(list(pod.get("status", {}).get("conditions") or []), row, now)
        try:
            await self.client.patch("pods", meta.name(pod), {"metadata": {"uid": meta.uid(pod)}, "status": {
                "conditions": found}}, meta.namespace(pod), subresource="status")
            await self.client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except ApiError as error:
            if error.code not in (404, 409, 422):
                raise
        return None
