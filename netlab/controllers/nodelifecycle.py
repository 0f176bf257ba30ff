"""Node lifecycle: a node that is not heard becomes Unknown, is tainted, and its Pods stop counting as ready."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller
from netlab.controllers.nodes import silent_conditions, taints
from netlab.controllers.pods import condition, is_ready, node_of, set_condition
from netlab.errors import ApiError

log = logging.getLogger(__name__)

LEASES = "kube-node-lease"


def index_by_node(pod: Object) -> list[str]:
    """Return the node a Pod is bound to, as an index."""
    return [node_of(pod)] if node_of(pod) else []


@dataclass
class _Heard:
    """What a node last said, and when we noticed: by our clock, since nodes' clocks need not agree with it."""

    at: float
    words: tuple[object, ...]


class NodeLifecycle(Controller):
    """The loop for node health."""

    name: ClassVar[str] = "node-lifecycle-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._heard: dict[str, _Heard] = {}
        self.nodes = self.source("nodes", self._node_changed)
        self.leases = self.source("leases.coordination.k8s.io", self._lease_changed, namespace=LEASES)
        self.pods = self.source("pods")
        self.pods.add_index("node", index_by_node)
        self.recorder = context.recorder("node-controller")

    def _node_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._heard.pop(key, None)
            if old is not None:
                self.recorder.event(old, "Normal", "RemovingNode", f"Node {key} event: Removing Node {key} from "
                                                                   "Controller")
            return
        if old is None:
            self.recorder.event(new, "Normal", "RegisteredNode", f"Node {key} event: Registered Node {key} in "
                                                                 "Controller")
        self.queue.add(key)

    def _lease_changed(self, key: str, _old: Object | None, _new: Object | None) -> None:
        self.queue.add(meta.split_key(key)[1])

    async def reconcile(self, key: str) -> float | None:
        """Look at one node; return the seconds until its silence would be too long."""
        node = self.nodes.get(key)
        if node is None:
            return None
        now, ready = time.time(), condition(node, "Ready")
        lease = self.leases.get(f"{LEASES}/{key}")
        words = ((lease or {}).get("spec", {}).get("renewTime"), (ready or {}).get("lastHeartbeatTime"),
                 (ready or {}).get("status") if (ready or {}).get("status") != "Unknown" else None)
        heard = self._heard.get(key)
        if heard is None or heard.words != words:
            heard = self._heard[key] = _Heard(time.monotonic(), words)
        grace = self.options.node_monitor_grace if ready else self.options.node_startup_grace
        # silence counts only while we listened: an API server that was away must not cost all nodes their Pods
        left = max(heard.at, self.leases.listening_since, self.nodes.listening_since) + grace - time.monotonic()
        if left <= 0:
            node = await self._silence(key, node, now)
            left = grace
        node = await self._taint(key, node, now)
        ready = condition(node, "Ready")
        if ready is not None and ready.get("status") == "Unknown":  # while a kubelet speaks, it speaks for its Pods
            await self._unready_pods(node, now)
        return left + 0.01

    async def _silence(self, key: str, node: Object, now: float) -> Object:
        found = silent_conditions(node, now)
        if found == (node.get("status", {}).get("conditions") or []):
            return node
        log.warning("node %s has not been heard for too long", key)
        status = {**node.get("status", {}), "conditions": found}
        made = await self.client.update("nodes", {**node, "status": status}, subresource="status")
        self.wrote(key, self.nodes, made)
        self.recorder.event(made, "Normal", "NodeNotReady", f"Node {key} status is now: NodeNotReady")
        return made

    async def _taint(self, key: str, node: Object, now: float) -> Object:
        found = taints(node, now)
        if found == (node["spec"].get("taints") or []):
            return node
        body = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}, "spec": {"taints": found or None}}
        made = await self.client.patch("nodes", key, body)
        self.wrote(key, self.nodes, made)
        return made

    async def _unready_pods(self, node: Object, now: float) -> None:
        """Take the Pods of a node that is not heard out of their Services."""
        for pod in self.pods.by_index("node", meta.name(node)):
            if not is_ready(pod):
                continue
            row = {**(condition(pod, "Ready") or {}), "type": "Ready", "status": "False"}
            found = set_condition(list(pod["status"]["conditions"]), row, now)
            try:
                await self.client.patch("pods", meta.name(pod), {"metadata": {"uid": meta.uid(pod)}, "status": {
                    "conditions": found}}, meta.namespace(pod), subresource="status")
            except ApiError as error:
                if error.code not in (404, 409, 422):
                    raise
                continue
            self.recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")
