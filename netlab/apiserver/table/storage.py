"""Volumes, claims, storage classes; roles and bindings; disruption budgets."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.table.columns import NONE, UNSET, Cell, age, created_cells, name, table

_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(found: Any) -> str:
    return ",".join(_MODES.get(mode, "") for mode in _MODES if mode in (found or []))


def _claim(obj: Object, now: float) -> list[Cell]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else state.get("phase", "")
    bound = bool(spec.get("volumeName"))
    return [name(obj), phase, spec.get("volumeName", ""), (state.get("capacity") or {}).get("storage", "0") if bound
            else "",
            _modes(state.get("accessModes")) if bound else "", spec.get("storageClassName") or "",
            spec.get("volumeAttributesClassName") or UNSET, age(obj, now), spec.get("volumeMode") or UNSET]


def _volume(obj: Object, now: float) -> list[Cell]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}
    reference = spec.get("claimRef") or {}
    claim = f"{reference.get('namespace')}/{reference.get('name')}" if reference else ""
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else state.get("phase", "")
    return [name(obj), (spec.get("capacity") or {}).get("storage", ""), _modes(spec.get("accessModes")),
            spec.get("persistentVolumeReclaimPolicy", ""), phase, claim, spec.get("storageClassName", ""),
            spec.get("volumeAttributesClassName") or UNSET, state.get("reason", ""), age(obj, now),
            spec.get("volumeMode") or UNSET]


def _class(obj: Object, now: float) -> list[Cell]:
    annotations = obj["metadata"].get("annotations") or {}
    shown = name(obj)
    if annotations.get("storageclass.kubernetes.io/is-default-class") == "true":
        shown += " (default)"
    return [shown, obj.get("provisioner", ""), obj.get("reclaimPolicy", "Delete"), obj.get("volumeBindingMode",
                                                                                           "Immediate"),
            bool(obj.get("allowVolumeExpansion")), age(obj, now)]


def _binding(obj: Object, now: float) -> list[Cell]:
    role = obj.get("roleRef") or {}
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or []:
        text = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            text = f"{subject.get('namespace', '')}/{text}"
        by_kind.get(subject.get("kind"), []).append(text)
    return [name(obj), f"{role.get('kind')}/{role.get('name')}", age(obj, now), ", ".join(by_kind["User"]),
            ", ".join(by_kind["Group"]), ", ".join(by_kind["ServiceAccount"])]


def _budget(obj: Object, now: float) -> list[Cell]:
    spec, state = obj.get("spec") or {}, obj.get("status") or {}

    def shown(part: str) -> str:
        return str(spec[part]) if spec.get(part) is not None else "N/A"

    return [name(obj), shown("minAvailable"), shown("maxUnavailable"), state.get("disruptionsAllowed", 0), age(obj,
                                                                                                               now)]


def _driver(obj: Object, now: float) -> list[Cell]:
    spec = obj.get("spec") or {}
    requests = spec.get("tokenRequests")
    audiences = UNSET if requests is None else ",".join(entry.get("audience", "") for entry in requests)
    return [name(obj), bool(spec.get("attachRequired", True)), bool(spec.get("podInfoOnMount")),
            bool(spec.get("storageCapacity")), audiences, bool(spec.get("requiresRepublish")),
            ",".join(spec.get("volumeLifecycleModes") or []) or NONE, age(obj, now)]


def _csi_node(obj: Object, now: float) -> list[Cell]:
    return [name(obj), len((obj.get("spec") or {}).get("drivers") or []), age(obj, now)]


def _capacity(obj: Object, now: float) -> list[Cell]:
    return [name(obj), obj.get("storageClassName", ""), obj.get("capacity") or UNSET, age(obj, now)]


def _attachment(obj: Object, now: float) -> list[Cell]:
    spec = obj.get("spec") or {}
    return [name(obj), spec.get("attacher", ""), (spec.get("source") or {}).get("persistentVolumeName") or "",
            spec.get("nodeName", ""), bool((obj.get("status") or {}).get("attached")), age(obj, now)]


def _attributes(obj: Object, now: float) -> list[Cell]:
    return [name(obj), obj.get("driverName", ""), age(obj, now)]


CLAIMS = table("Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age | VolumeMode", _claim)
VOLUMES = table("Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass Reason Age "
                "| "
                "VolumeMode", _volume)
CLASSES = table("Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age", _class)
BINDINGS = table("Name Role Age | Users Groups ServiceAccounts", _binding)
BUDGETS = table("Name Min_Available Max_Unavailable Allowed_Disruptions:integer Age", _budget)
CREATED = table("Name Created_At:date", created_cells)
DRIVERS = table("Name AttachRequired:boolean PodInfoOnMount:boolean StorageCapacity:boolean TokenRequests "
                "RequiresRepublish:boolean Modes Age", _driver)
CSI_NODES = table("Name Drivers:integer Age", _csi_node)
CAPACITIES = table("Name StorageClassName Capacity Age", _capacity)
ATTACHMENTS = table("Name Attacher PV Node Attached:boolean Age", _attachment)
ATTRIBUTES_CLASSES = table("Name DriverName Age", _attributes)
