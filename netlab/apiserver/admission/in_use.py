"""StorageObjectInUseProtection, PersistentVolumeClaimResize: volumes that are used stay, and grow only where they can.

The finalizers are taken away by the controller manager's protection controllers when nobody uses the object.
"""

from __future__ import annotations

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step

_FINALIZERS = {"PersistentVolume": "kubernetes.io/pv-protection",
               "PersistentVolumeClaim": "kubernetes.io/pvc-protection",
               "VolumeAttributesClass": "kubernetes.io/vac-protection"}
_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"


class StorageObjectInUseProtection(Step):
    """Upstream's plugin of the same name."""

    name = "StorageObjectInUseProtection"
    kinds = frozenset(_FINALIZERS)

    async def mutate(self, attempt: Attempt) -> None:
        """Put the finalizer on a new object."""
        finalizer = _FINALIZERS.get(attempt.resource.kind)
        if finalizer is None or attempt.operation != "CREATE" or attempt.resource.group not in ("", "storage.k8s.io"):
            return
        found = attempt.obj["metadata"].get("finalizers") or []
        if finalizer not in found:
            attempt.obj["metadata"]["finalizers"] = [*found, finalizer]


class PersistentVolumeClaimResize(Step):
    """Upstream's plugin of the same name."""

    name = "PersistentVolumeClaimResize"
    kinds = frozenset(("PersistentVolumeClaim",))

    async def validate(self, attempt: Attempt) -> None:
        """Refuse a larger claim that is not bound, or whose class does not allow it."""
        if attempt.resource.kind != "PersistentVolumeClaim" or attempt.operation != "UPDATE" or attempt.subresource \
                or attempt.old is None or _size(attempt.obj) <= _size(attempt.old):
            return
        if (attempt.old.get("status") or {}).get("phase") != "Bound":
            raise status.forbidden(attempt.resource, attempt.name,
                                   "Only bound persistent volume claims can be expanded")
        name, found = _class(attempt.obj), None
        if name and name == _class(attempt.old):
            found = await attempt.call.api.lookup("storageclasses", "", name)
        if not (found or {}).get("allowVolumeExpansion"):
            raise status.forbidden(attempt.resource, attempt.name,
                                   "only dynamically provisioned pvc can be resized and the storageclass that "
                                   "provisions the pvc must support resize")


def _size(claim: Object) -> quantity.Quantity:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return quantity.parse(requests.get("storage", "0"))


def _class(claim: Object) -> str:
    old = (claim["metadata"].get("annotations") or {}).get(_OLD_CLASS)
    return str(old if old is not None else (claim.get("spec") or {}).get("storageClassName") or "")
