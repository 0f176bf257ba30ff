"""Protection of storage objects in use: they go when nobody uses them any more, and not before.

The finalizer is put on new objects by the API server (StorageObjectInUseProtection), and here on those that lack it.
k8s:pkg/controller/volume/pvcprotection, pvprotection, vacprotection
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.references import references
from netlab.controllers.base import Context, Controller
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)


class Protection(Controller):
    """What the three have in common: their keys are the protected objects."""

    workers: ClassVar[int] = 1
    resource: ClassVar[str]
    finalizer: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.objects = self.source(self.resource, self.enqueue)

    async def used(self, obj: Object) -> bool:
        """Tell whether somebody uses the object, which is to be deleted."""
        raise NetlabError(f"{self.name} cannot tell who uses {meta.key(obj)}")

    async def reconcile(self, key: str) -> float | None:
        """Put the finalizer on an object, or take it from one that is to go and that nobody uses."""
        obj = self.objects.get(key)
        if obj is None:
            return None
        finalizers = obj["metadata"].get("finalizers") or []
        if meta.deleting(obj) == (self.finalizer not in finalizers) or (meta.deleting(obj) and await self.used(obj)):
            return None
        wanted = [one for one in finalizers if one != self.finalizer] if meta.deleting(obj) \
            else [*finalizers, self.finalizer]
        try:
            made = await self.client.update(self.resource, {**obj, "metadata": {**obj["metadata"],
                                                                                "finalizers": wanted}})
        except ApiError as error:
            if error.code not in (404, 409):  # somebody was faster: what they wrote will be looked at
                raise
            return None
        if wanted or not meta.deleting(obj):
            self.wrote(key, self.objects, made)
        return None


class ClaimProtection(Protection):
    """PersistentVolumeClaims: those stay that a Pod on a node uses."""

    name: ClassVar[str] = "persistentvolumeclaim-protection-controller"
    resource, finalizer = "persistentvolumeclaims", "kubernetes.io/pvc-protection"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pods = self.source("pods", self._pod_changed)

    def _pod_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or meta.uid(new) != meta.uid(old)):
            for key in claims(old):
                self.queue.add(key)

    async def used(self, obj: Object) -> bool:
        """Tell whether a Pod uses it: by what is known here, and if none does, by what the API server knows."""
        key = meta.key(obj)
        if any(_uses(pod, key) for pod in self.pods.all()):
            return True
        pods, _ = await self.client.list("pods", meta.namespace(obj))
        return any(_uses(pod, key) for pod in pods)


def claims(pod: Object) -> Iterator[str]:
    """Return the keys of the claims that a Pod uses."""
    return (f"{namespace}/{name}" for plural, namespace, name in references(pod) if plural == "persistentvolumeclaims")


def _uses(pod: Object, key: str) -> bool:
    """Tell whether a Pod uses a claim. One without a node does not: no kubelet starts it on a claim that is to go."""
    return bool(pod["spec"].get("nodeName")) and key in claims(pod)


class VolumeProtection(Protection):
    """PersistentVolumes: those stay that are bound."""

    name: ClassVar[str] = "persistentvolume-protection-controller"
    resource, finalizer = "persistentvolumes", "kubernetes.io/pv-protection"

    async def used(self, obj: Object) -> bool:
        """Tell whether it is bound."""
        return bool((obj.get("status") or {}).get("phase") == "Bound")


class AttributesClassProtection(Protection):
    """VolumeAttributesClasses: those stay that a claim or a volume names."""

    name: ClassVar[str] = "volumeattributesclass-protection-controller"
    resource, finalizer = "volumeattributesclasses.storage.k8s.io", "kubernetes.io/vac-protection"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claims = self.source("persistentvolumeclaims", self._user_changed)
        self.volumes = self.source("persistentvolumes", self._user_changed)

    def _user_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        for name in set(_classes(old or {})) - set(_classes(new or {})):
            self.queue.add(name)

    async def used(self, obj: Object) -> bool:
        """Tell whether somebody names it."""
        return any(meta.name(obj) in _classes(user) for user in (*self.claims.all(), *self.volumes.all()))


def _classes(user: Object) -> Iterator[str]:
    """Return the VolumeAttributesClasses that a claim or a volume has, or is to get."""
    spec, state = user.get("spec") or {}, user.get("status") or {}
    for name in (spec.get("volumeAttributesClassName"), state.get("currentVolumeAttributesClassName"),
                 (state.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")):
        if name:
            yield name
