"""What a Pod refers to: the objects that must be read to run it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api.meta import Object

MIRROR = "kubernetes.io/config.mirror"

Reference = tuple[str, str, str]
"""(plural, namespace, name)."""


def references(pod: Object) -> Iterator[Reference]:
    """Return the Pod itself and every object that its kubelet must read to run it; a mirror Pod refers to none."""
    metadata, spec = pod["metadata"], pod["spec"]
    namespace = metadata.get("namespace", "")
    yield "pods", namespace, metadata["name"]
    if MIRROR in (metadata.get("annotations") or {}):
        return
    if spec.get("serviceAccountName"):
        yield "serviceaccounts", namespace, spec["serviceAccountName"]
    for reference in spec.get("imagePullSecrets") or ():
        yield "secrets", namespace, reference.get("name", "")
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(part) or ():
            yield from _environment(container, namespace)
    for volume in spec.get("volumes") or ():
        yield from _volume(volume, namespace, metadata["name"])


def _environment(container: Object, namespace: str) -> Iterator[Reference]:
    for source in container.get("envFrom") or ():
        for key, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
            if source.get(key):
                yield plural, namespace, source[key].get("name", "")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for key, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            if source.get(key):
                yield plural, namespace, source[key].get("name", "")


def _volume(volume: Object, namespace: str, pod: str) -> Iterator[Reference]:
    sources: list[Any] = [volume, *((volume.get("projected") or {}).get("sources") or ())]
    for source in sources:
        if source.get("secret"):
            yield "secrets", namespace, source["secret"].get("secretName") or source["secret"].get("name", "")
        if source.get("configMap"):
            yield "configmaps", namespace, source["configMap"].get("name", "")
    if volume.get("persistentVolumeClaim"):
        yield "persistentvolumeclaims", namespace, volume["persistentVolumeClaim"].get("claimName", "")
    if volume.get("ephemeral"):
        yield "persistentvolumeclaims", namespace, f"{pod}-{volume['name']}"
    for driver, key in (("csi", "nodePublishSecretRef"), ("cephfs", "secretRef"), ("rbd", "secretRef"),
                        ("iscsi", "secretRef"), ("flexVolume", "secretRef"), ("scaleIO", "secretRef"),
                        ("storageos", "secretRef")):
        reference = (volume.get(driver) or {}).get(key)
        if reference:
            yield "secrets", namespace, reference.get("name", "")
    if (volume.get("azureFile") or {}).get("secretName"):
        yield "secrets", namespace, volume["azureFile"]["secretName"]
