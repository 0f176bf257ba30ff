"""PersistentVolumeClaims and PersistentVolumes (core/validation)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names, resources
from netlab.apiserver.validation.errors import (
    FieldError,
    forbidden,
    invalid,
    listed,
    not_supported,
    required,
    shown,
    unsupported,
    wrong,
)
from netlab.apiserver.validation.selectors import label_selector, node_selector
from netlab.apiserver.validation.volume_sources import OF_VOLUME, one_source, sources

_ACCESS = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_MODES = ("Block", "Filesystem")
_RECLAIM = ("Delete", "Recycle", "Retain")
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_GA = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}
_RESIZES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)
_META = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
_GO_NAMES = {"uid": "uID"}


def template(found: Object, path: str) -> Iterator[FieldError]:
    """Check the claim that is made for an ephemeral volume: labels and annotations are all its metadata."""
    metadata = found.get("metadata") or {}
    yield from meta.check_annotations(metadata.get("annotations"), f"{path}.metadata.annotations")
    yield from meta.check_labels(metadata.get("labels"), f"{path}.metadata.labels")
    for part in _META:
        if metadata.get(part):
            yield forbidden(f"{path}.metadata.{_GO_NAMES.get(part, part)}", "cannot be set")
    yield from claim(found.get("spec") or {}, f"{path}.spec")


def claim(spec: Object, path: str, *, any_group: bool = False) -> Iterator[FieldError]:
    """Check a PersistentVolumeClaimSpec. `any_group`: a data source's group stays as it was, good or bad."""
    modes = spec.get("accessModes") or []
    if not modes:
        yield required(f"{path}.accessModes", "at least 1 access mode is required")
    yield from label_selector(spec.get("selector"), f"{path}.selector")
    yield from _access(modes, f"{path}.accessModes")
    field = f"{path}.resources[storage]"
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if asked is None:
        yield required(field)
    else:
        yield from resources.positive(quantity.parse(asked), field)
    name = spec.get("storageClassName")
    if name:
        yield from wrong(f"{path}.storageClassName", name, names.dns_subdomain(name))
    if spec.get("volumeMode") is not None and spec["volumeMode"] not in _MODES:
        yield not_supported(f"{path}.volumeMode", spec["volumeMode"], _MODES)
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for part, found in (("dataSource", source), ("dataSourceRef", reference)):
        if found is not None:
            yield from _data_source(found, f"{path}.{part}", any_group=any_group)
    if source is not None and reference is not None:
        if reference.get("namespace"):
            yield invalid(path, {}, "may not be specified when dataSourceRef.namespace is specified")
        elif any(source.get(part) != reference.get(part) for part in ("apiGroup", "kind", "name")):
            yield invalid(path, {}, "must match dataSourceRef")
    name = spec.get("volumeAttributesClassName")
    if name:
        yield from wrong(f"{path}.volumeAttributesClassName", name, names.dns_subdomain(name))


def _access(modes: Sequence[str], path: str) -> Iterator[FieldError]:
    for mode in modes:
        if mode not in _ACCESS:
            yield not_supported(path, mode, _ACCESS)
    if "ReadWriteOncePod" in modes and any(mode in _ACCESS[:3] for mode in modes):
        yield forbidden(path, "may not use ReadWriteOncePod with other access modes")


def _data_source(found: Object, path: str, *, any_group: bool) -> Iterator[FieldError]:
    for part in ("name", "kind"):
        if not found.get(part):
            yield required(f"{path}.{part}")
    group = found.get("apiGroup") or ""
    if not group and found.get("kind", "") != "PersistentVolumeClaim":
        yield invalid(
            path, found.get("kind", ""), "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        )
    if group and not any_group:
        yield from wrong(f"{path}.apiGroup", group, names.dns_subdomain(group))
    if found.get("namespace"):
        yield from wrong(f"{path}.namespace", found["namespace"], names.dns_label(found["namespace"]))


def keeps_any_group(old: Object) -> bool:
    """Tell whether a claim as it was has a group in its data source."""
    return any((old.get(part) or {}).get("apiGroup") is not None for part in ("dataSource", "dataSourceRef"))


def claim_update(obj: Object, old: Object) -> Iterator[FieldError]:
    """Check what may change in a claim: its volume once, and when it is bound its size and attributes."""
    new, before = dict(obj.get("spec") or {}), dict(old.get("spec") or {})
    if not before.get("volumeName"):
        _follow(before, new, "volumeName")
    old_notes, notes = (one["metadata"].get("annotations") or {} for one in (old, obj))
    of_note, wanted, had = old_notes.get(_BETA_CLASS), new.get("storageClassName"), before.get("storageClassName")
    if of_note is not None and had is None and wanted == of_note and notes.get(_BETA_CLASS, of_note) == of_note:
        new.pop("storageClassName", None)
    else:
        if notes.get(_BETA_CLASS, "") != old_notes.get(_BETA_CLASS, ""):
            yield invalid(f"metadata.annotations.{_BETA_CLASS}", notes.get(_BETA_CLASS, ""), meta.IMMUTABLE)
        if wanted is not None and had is None and of_note in (None, wanted):
            new.pop("storageClassName", None)
    size, old_size = _storage(new), _storage(before)
    if (obj.get("status") or {}).get("phase") == "Bound":
        if "requests" in (new.get("resources") or {}):
            requests = dict(new["resources"]["requests"])
            _follow(requests, (before.get("resources") or {}).get("requests") or {}, "storage")
            new["resources"] = new["resources"] | {"requests": requests}
        _follow(new, before, "volumeAttributesClassName")
    if new != before:
        yield forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and "
            f"volumeAttributesClassName for bound claims\n{difference(new, before)}",
        )
    held = quantity.parse(((old.get("status") or {}).get("capacity") or {}).get("storage", 0))
    if size < old_size and size <= held:
        yield forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")
    yield from meta.immutable(new.get("volumeMode"), before.get("volumeMode"), "volumeMode")
    attributes, current = (
        (obj.get("spec") or {}).get("volumeAttributesClassName"),
        (old.get("status") or {}).get("currentVolumeAttributesClassName"),
    )
    if (
        attributes != (old.get("spec") or {}).get("volumeAttributesClassName")
        and current is not None
        and not attributes
    ):
        yield forbidden(
            "spec.volumeAttributesClassName",
            f"update to {'nil' if attributes is None else 'empty string'}"
            " is forbidden when status.currentVolumeAttributesClassName "
            "is not nil",
        )


def _follow(one: Object, other: Object, part: str) -> None:
    if part in other:
        one[part] = other[part]
    else:
        one.pop(part, None)


def _storage(spec: Object) -> quantity.Quantity:
    return quantity.parse(((spec.get("resources") or {}).get("requests") or {}).get("storage", 0))


def claim_status(obj: Object) -> Iterator[FieldError]:
    """Check a claim's status: sizes, and how far growing them is."""
    status = obj.get("status") or {}
    if not (obj.get("spec") or {}).get("accessModes"):
        yield required("Spec.accessModes")
    for name, text in (status.get("capacity") or {}).items():
        yield from resources.basic(quantity.parse(text), f"status.capacity[{name}]")
    for name, state in (status.get("allocatedResourceStatuses") or {}).items():
        yield from _storage_name(name, "status.allocatedResourceStatuses")
        if state not in _RESIZES:
            yield not_supported("status.allocatedResourceStatuses", name, _RESIZES)
    for name, text in (status.get("allocatedResources") or {}).items():
        problems = [*_storage_name(name, "status.allocatedResources")]
        yield from problems or resources.basic(quantity.parse(text), f"status.allocatedResources[{name}]")


def _storage_name(name: str, path: str) -> Iterator[FieldError]:
    complaints = names.qualified_name(name)
    yield from wrong(path, name, complaints)
    if not complaints and resources.is_native(name) and name != "storage":
        yield not_supported(path, name, ("storage",))


def volume(spec: Object, path: str, name: str, *, inline: bool = False) -> Iterator[FieldError]:
    """Check a PersistentVolumeSpec of a volume with this name, or one that is told `inline`, in an attachment."""
    if inline:
        yield from _inline(spec, path)
    if not spec.get("accessModes"):
        yield required(f"{path}.accessModes")
    yield from _access(spec.get("accessModes") or [], f"{path}.accessModes")
    if not inline:
        yield from _place(spec, path)
    yield from _source(spec, path, name)
    host, policy = spec.get("hostPath"), spec.get("persistentVolumeReclaimPolicy")
    if host is not None and posixpath.normpath(host.get("path") or ".") in ("/", "//") and policy == "Recycle":
        yield forbidden(f"{path}.persistentVolumeReclaimPolicy", "may not be 'recycle' for a hostPath mount of '/'")
    if spec.get("storageClassName") and not inline:
        yield from wrong(
            f"{path}.storageClassName", spec["storageClassName"], names.dns_subdomain(spec["storageClassName"])
        )
    if spec.get("volumeMode") is not None and spec["volumeMode"] not in _MODES and not inline:
        yield not_supported(f"{path}.volumeMode", spec["volumeMode"], _MODES)
    attributes = spec.get("volumeAttributesClassName")
    if attributes is not None:
        if not attributes:
            yield required(f"{path}.volumeAttributesClassName", "an empty string is disallowed")
        else:
            yield from wrong(f"{path}.volumeAttributesClassName", attributes, names.dns_subdomain(attributes))
        if spec.get("csi") is None:
            yield required(f"{path}.csi", "has to be specified when using volumeAttributesClassName")


def _inline(spec: Object, path: str) -> Iterator[FieldError]:
    for part in ("claimRef", "capacity"):
        if spec.get(part):
            yield forbidden(f"{path}.{part}", "may not be specified in the context of inline volumes")
    if spec.get("csi") is None:
        yield required(f"{path}.csi", "has to be specified in the context of inline volumes")
    for part in ("persistentVolumeReclaimPolicy", "nodeAffinity", "storageClassName", "volumeMode"):
        if spec.get(part) or (part in ("nodeAffinity", "volumeMode") and spec.get(part) is not None):
            yield forbidden(f"{path}.{part}", "may not be specified in the context of inline volumes")


def _place(spec: Object, path: str) -> Iterator[FieldError]:
    """Check how much room a volume has, what becomes of it, and where it is."""
    capacity = spec.get("capacity") or {}
    if not capacity:
        yield required(f"{path}.capacity")
    if "storage" not in capacity or len(capacity) > 1:
        yield unsupported(f"{path}.capacity", listed(spec.get("capacity")), ("storage",))
    for kind, text in capacity.items():
        yield from resources.basic(quantity.parse(text), f"{path}.capacity[{kind}]")
        yield from resources.positive(quantity.parse(text), f"{path}.capacity[{kind}]")
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in _RECLAIM:
        yield not_supported(f"{path}.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            yield required(f"{path}.nodeAffinity.required", "must specify required node constraints")
        else:
            yield from node_selector(affinity["required"], f"{path}.nodeAffinity.required")


def _source(spec: Object, path: str, name: str) -> Iterator[FieldError]:
    given = sources(spec, OF_VOLUME)
    yield from one_source(spec, given, OF_VOLUME, path)
    first = given[0] if given else ""
    if first == "local" and spec.get("nodeAffinity") is None:
        yield required(f"{path}.nodeAffinity", "Local volume requires node affinity")
    disk = spec.get("iscsi") or {}
    if first == "iscsi" and disk.get("initiatorName") is not None:
        portal = disk.get("targetPortal", "")
        if len(f"{name}:{portal}".encode()) > 64:
            yield invalid(
                f"{path}.iscsi.targetportal",
                portal,
                "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if "
                "iscsi.initiatorName is specified.",
            )


def volume_update(obj: Object, old: Object) -> Iterator[FieldError]:
    """Check that a volume's source, mode and place stay."""
    new, before = obj.get("spec") or {}, old.get("spec") or {}
    source, was = ({kind: spec[kind] for kind in OF_VOLUME if spec.get(kind) is not None} for spec in (new, before))
    if "csi" in was and "csi" in source and was["csi"].get("controllerExpandSecretRef") is None:
        source["csi"] = {part: value for part, value in source["csi"].items() if part != "controllerExpandSecretRef"}
    if source != was:
        yield forbidden(
            "spec.persistentvolumesource",
            f"spec.persistentvolumesource is immutable after creation\n{difference(source, was)}",
        )
    yield from meta.immutable(new.get("volumeMode"), before.get("volumeMode"), "volumeMode")
    place, held = new.get("nodeAffinity"), before.get("nodeAffinity")
    if held is not None and place != held and _renamed(held, place) != place:
        yield invalid("nodeAffinity", place, f"{meta.IMMUTABLE}, except for updating from beta label to GA")
    if before.get("volumeAttributesClassName") is not None and new.get("volumeAttributesClassName") is None:
        yield forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden")


def _renamed(held: Any, place: Any) -> Any:
    """Return the old affinity with those labels under their new names that have them so in the new one."""
    if isinstance(held, dict) and isinstance(place, dict):
        changed = {part: _renamed(value, place.get(part)) for part, value in held.items()}
        if "operator" in held and _GA.get(held.get("key", "")) == place.get("key", ""):
            changed["key"] = place["key"]
        return changed
    if isinstance(held, list) and isinstance(place, list) and len(held) == len(place):
        return [_renamed(one, other) for one, other in zip(held, place, strict=True)]
    return held


def difference(new: Object, old: Object) -> str:
    """Return which parts differ, one per line, old behind "-" and new behind "+"."""
    lines = []
    for part in sorted(set(new) | set(old)):
        if new.get(part) != old.get(part):
            lines += [f"- {part}: {shown(old.get(part))}", f"+ {part}: {shown(new.get(part))}"]
    return "\n".join(lines)
