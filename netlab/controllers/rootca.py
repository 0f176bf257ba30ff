"""Root CA publisher: the ConfigMap kube-root-ca.crt in every namespace, from which Pods know the API server."""

from __future__ import annotations

from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller
from netlab.errors import ApiError

NAME = "kube-root-ca.crt"
_NOTE = {"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using "
                                      "internal endpoints such as the internal service IP or "
                                      "kubernetes.default.svc. No other usage is guaranteed across distributions of "
                                      "Kubernetes clusters."}


class RootCaPublisher(Controller):
    """The loop; its keys are Namespaces."""

    name: ClassVar[str] = "root-ca-certificate-publisher-controller"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.source("namespaces", self.enqueue)
        self.maps = self.source("configmaps", self._map_changed)

    def _map_changed(self, key: str, old: Object | None, _new: Object | None) -> None:
        namespace, name = meta.split_key(key)
        if name == NAME and old is not None:
            self.queue.add(namespace)

    async def reconcile(self, key: str) -> float | None:
        """Make the ConfigMap of one namespace, or put back what somebody changed in it."""
        namespace = self.namespaces.get(key)
        if namespace is None or meta.deleting(namespace) or not self.options.root_ca:
            return None
        current, data = self.maps.get(f"{key}/{NAME}"), {"ca.crt": self.options.root_ca}
        if current is not None and current.get("data") == data:
            return None
        body: Object = {"apiVersion": "v1", "kind": "ConfigMap", "data": data,
                        "metadata": {"name": NAME, "namespace": key, "annotations": _NOTE}}
        try:
            if current is None:
                await self.client.create("configmaps", body)
            else:
                await self.client.update("configmaps", {**current, "data": data})
        except ApiError as error:
            if error.code == 403 or error.reason in ("AlreadyExists", "NotFound"):
                return None
            raise
        return None
