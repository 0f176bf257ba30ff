"""Which Services select which Pods, kept current: what both endpoint controllers react to."""

from __future__ import annotations

import time
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.placement import selects_all
from netlab.client.informer import Informer
from netlab.controllers.base import Context, Controller
from netlab.controllers.claim import index_by_namespace
from netlab.controllers.pods import condition


def _seen(pod: Object | None) -> tuple[object, ...]:
    """Return all of a Pod that endpoints depend on."""
    if pod is None:
        return ()
    status = pod.get("status", {})
    return (meta.labels(pod), status.get("podIP"), status.get("podIPs"), status.get("phase"), meta.deleting(pod),
            (condition(pod, "Ready") or {}).get("status"), pod["spec"].get("nodeName"))


class ServiceController(Controller):
    """A controller whose keys are Services and that looks at the Pods they select."""

    workers: ClassVar[int] = 5

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.services: Informer = self.source("services", self._service_changed)
        self.services.add_index("namespace", index_by_namespace)
        self.pods: Informer = self.source("pods", self._pod_changed)
        self.pods.add_index("namespace", index_by_namespace)
        self._triggers: dict[str, float] = {}

    def selected(self, service: Object) -> list[Object]:
        """Return the Pods that a Service selects."""
        selector = service["spec"].get("selector") or {}
        return [pod for pod in self.pods.by_index("namespace", meta.namespace(service))
                if selects_all(selector, meta.labels(pod))]

    def trigger(self, key: str) -> str:
        """Take the time of the oldest change since the last call, "" if it is unknown."""
        at = self._triggers.pop(key, None)
        return meta.timestamp(at) if at is not None else ""

    def _touch(self, key: str, at: float) -> None:
        self._triggers[key] = min(self._triggers.get(key, at), at)
        self.queue.add(key)

    def _service_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._triggers.pop(key, None)
            self.queue.add(key)
        elif old is None:
            self._touch(key, meta.parse_timestamp(new["metadata"].get("creationTimestamp") or meta.timestamp(0)))
        else:
            self.queue.add(key)

    def _pod_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        if _seen(old) == _seen(new):
            return
        pod = new or old or {}
        for service in self.services.by_index("namespace", meta.namespace(pod)):
            selector = service["spec"].get("selector")
            if selector and any(obj is not None and selects_all(selector, meta.labels(obj)) for obj in (old, new)):
                self._touch(meta.key(service), _changed_at(new))


def _changed_at(pod: Object | None) -> float:
    """Return when the change of a Pod happened, as far as it says so."""
    if pod is None:
        return time.time()
    if meta.deleting(pod):
        return min(time.time(), meta.parse_timestamp(pod["metadata"]["deletionTimestamp"]))
    ready = condition(pod, "Ready") or {}
    return meta.parse_timestamp(ready["lastTransitionTime"]) if ready.get("lastTransitionTime") else time.time()
