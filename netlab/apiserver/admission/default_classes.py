"""DefaultStorageClass, DefaultIngressClass: what names no class gets the one that is marked as the default."""

from __future__ import annotations

from netlab.apiserver.admission.base import Attempt, Step

_OLD_STORAGE, _OLD_INGRESS = "volume.beta.kubernetes.io/storage-class", "kubernetes.io/ingress.class"
"""Annotations that named a class before there was a field for it."""


class DefaultStorageClass(Step):
    """Upstream's plugin of the same name: for PersistentVolumeClaims."""

    name = "DefaultStorageClass"
    kinds = frozenset(("PersistentVolumeClaim",))

    async def mutate(self, attempt: Attempt) -> None:
        """Name the default class in a new claim."""
        if attempt.resource.kind != "PersistentVolumeClaim" or attempt.operation != "CREATE":
            return
        spec = attempt.obj["spec"]
        if spec.get("storageClassName") is None and _OLD_STORAGE not in (attempt.obj["metadata"].get("annotations")
                                                                         or {}):
            found = await attempt.call.api.default_storage()
            if found is not None:
                spec["storageClassName"] = found["metadata"]["name"]


class DefaultIngressClass(Step):
    """Upstream's plugin of the same name: for Ingresses."""

    name = "DefaultIngressClass"
    kinds = frozenset(("Ingress",))

    async def mutate(self, attempt: Attempt) -> None:
        """Name the default class in a new Ingress."""
        if attempt.resource.kind != "Ingress" or attempt.operation != "CREATE":
            return
        spec = attempt.obj.setdefault("spec", {})
        if spec.get("ingressClassName") is None and _OLD_INGRESS not in (attempt.obj["metadata"].get("annotations")
                                                                         or {}):
            found = await attempt.call.api.default_ingress()
            if found is not None:
                spec["ingressClassName"] = found["metadata"]["name"]
