"""Where a container sees the Pod's volumes: as directories, or as block devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import paths
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_found, not_supported, required

_PROPAGATION = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE = ("Disabled", "Enabled", "IfPossible")

Volumes = Mapping[str, Object]
"""Name → the volume as on the wire, of those without a fault."""


def mounts(found: list[Any], path: str, volumes: Volumes, container: Object) -> Iterator[FieldError]:
    """Check a container's volumeMounts. (Upstream's paths of what lies deeper have no place in the list.)"""
    devices = {device.get("name", ""): device.get("devicePath", "") for device in container.get("volumeDevices") or ()}
    seen: set[str] = set()
    for at, mount in enumerate(found):
        field, name, where = f"{path}[{at}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield required(f"{field}.name")
        if name not in volumes:
            yield not_found(f"{field}.name", name)
        if not where:
            yield required(f"{field}.mountPath")
        if where in seen:
            yield invalid(f"{field}.mountPath", where, "must be unique")
        seen.add(where)
        if name in devices:
            yield invalid(f"{field}.name", name, "must not already exist in volumeDevices")
        if devices and where in devices.values():
            yield invalid(f"{field}.mountPath", where, "must not already exist as a path in volumeDevices")
        if len(mount) > 2:
            yield from _details(mount, path, field, container)


def _details(mount: Object, path: str, field: str, container: Object) -> Iterator[FieldError]:
    sub, expression = mount.get("subPath", ""), mount.get("subPathExpr", "")
    if sub:
        yield from paths.descending(sub, f"{path}.subPath")
    if expression:
        if sub:
            yield invalid(f"{field}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        yield from paths.descending(expression, f"{path}.subPathExpr")
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        if propagation not in _PROPAGATION:
            yield not_supported(f"{path}.mountPropagation", propagation, _PROPAGATION)
        if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
            yield forbidden(
                f"{path}.mountPropagation", "Bidirectional mount propagation is available only to privileged containers"
            )
    recursive = mount.get("recursiveReadOnly")
    if recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            yield forbidden(f"{path}.recursiveReadOnly", "may only be specified when readOnly is true")
        if propagation not in (None, "None"):
            yield forbidden(
                f"{path}.recursiveReadOnly", "may only be specified when mountPropagation is None or not specified"
            )
    elif recursive is not None and recursive != "Disabled":
        yield not_supported(f"{path}.recursiveReadOnly", recursive, _RECURSIVE)


def devices(found: list[Any], path: str, volumes: Volumes, container: Object) -> Iterator[FieldError]:
    """Check a container's volumeDevices: block devices, which only claims have."""
    mounted = {mount.get("name", ""): mount.get("mountPath", "") for mount in container.get("volumeMounts") or ()}
    named: set[str] = set()
    placed: set[str] = set()
    for at, device in enumerate(found):
        field, name, where = f"{path}[{at}]", device.get("name", ""), device.get("devicePath", "")
        if not name:
            yield required(f"{field}.name")
        if name in named:
            yield invalid(f"{field}.name", name, "must be unique")
        volume = volumes.get(name)
        if volume is None:
            yield not_found(f"{field}.name", name)
        elif volume.get("persistentVolumeClaim") is None and volume.get("ephemeral") is None:
            yield invalid(
                f"{field}.name",
                name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            )
        if not where:
            yield required(f"{field}.devicePath")
        if where in placed:
            yield invalid(f"{field}.devicePath", where, "must be unique")
        if where and any(paths.no_backsteps(where, "")):
            yield invalid(f"{field}.devicePath", where, "can not contain backsteps ('..')")
        else:
            placed.add(where)
        if name in mounted:
            yield invalid(f"{field}.name", name, "must not already exist in volumeMounts")
        if where in mounted.values():
            yield invalid(f"{field}.devicePath", where, "must not already exist as a path in volumeMounts")
        if name:
            named.add(name)
