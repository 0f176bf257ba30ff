"""Storage classes, drivers, attachments, and the classes that describe a volume's attributes."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required
from netlab.apiserver.validation.meta import immutable

_RECLAIM = ("Delete", "Recycle", "Retain")
_BINDING = ("Immediate", "WaitForFirstConsumer")
_MODES = ("Ephemeral", "Persistent")
_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")


class StorageClassStrategy(Strategy):
    """StorageClasses."""

    def default(self, obj: Object) -> None:
        """Delete, bind at once."""
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the class."""
        errors = super().validate(obj)
        provisioner = obj.get("provisioner", "")
        if not provisioner:
            errors.append(required("provisioner"))
        else:
            errors += [invalid("provisioner", provisioner, said) for said in names.qualified_name(provisioner.lower())]
        errors += [required("parameters") for key in obj.get("parameters") or {} if not key]
        if obj["reclaimPolicy"] not in _RECLAIM:
            errors.append(not_supported("reclaimPolicy", obj["reclaimPolicy"], _RECLAIM))
        if obj["volumeBindingMode"] not in _BINDING:
            errors.append(not_supported("volumeBindingMode", obj["volumeBindingMode"], _BINDING))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that what volumes were made by stays."""
        errors = super().validate_update(obj, old)
        errors += [forbidden(part, f"updates to {part} are forbidden.") for part in ("parameters", "provisioner")
                   if (obj.get(part) or {}) != (old.get(part) or {})]
        if obj["reclaimPolicy"] != old.get("reclaimPolicy"):
            errors.append(forbidden("reclaimPolicy", "updates to reclaimPolicy are forbidden."))
        return [*errors, *immutable(obj["volumeBindingMode"], old.get("volumeBindingMode"), "volumeBindingMode")]


class DriverStrategy(Strategy):
    """CSIDrivers."""

    generation = True

    def default(self, obj: Object) -> None:
        """Attach, tell nothing of Pods, persistent volumes, ownership by file system."""
        spec = obj.setdefault("spec", {})
        spec.setdefault("attachRequired", True)
        for part in ("podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
            spec.setdefault(part, False)
        spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the driver."""
        errors, spec = super().validate(obj), obj["spec"]
        if len(obj["metadata"].get("name", "")) > 63:
            errors.append(FieldError("FieldValueTooLong", "metadata.name", "Too long: may not be more than 63 bytes"))
        errors += [not_supported("spec.volumeLifecycleModes", mode, _MODES) for mode in spec["volumeLifecycleModes"]
                   if mode not in _MODES]
        if spec["fsGroupPolicy"] not in _GROUP_POLICIES:
            errors.append(not_supported("spec.fsGroupPolicy", spec["fsGroupPolicy"], _GROUP_POLICIES))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that what attached volumes rely on stays."""
        errors = super().validate_update(obj, old)
        for part in ("attachRequired", "fsGroupPolicy", "volumeLifecycleModes"):
            errors += immutable(obj["spec"].get(part), old["spec"].get(part), f"spec.{part}")
        return errors


class CsiNodeStrategy(Strategy):
    """CSINodes: the drivers on a node, each once."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the drivers."""
        errors, seen = super().validate(obj), set()
        for at, driver in enumerate((obj.get("spec") or {}).get("drivers") or []):
            field, name = f"spec.drivers[{at}]", driver.get("name", "")
            errors += [required(f"{field}.{part}") for part in ("name", "nodeID") if not driver.get(part)]
            if name in seen:
                errors.append(FieldError("FieldValueDuplicate", f"{field}.name", f'Duplicate value: "{name}"'))
            seen.add(name)
        return errors


class CapacityStrategy(Strategy):
    """CSIStorageCapacities: which class, where, never changes."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the class's name."""
        found = obj.get("storageClassName", "")
        return [*super().validate(obj), *(invalid("storageClassName", found, said)
                                          for said in names.dns_subdomain(found))]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that topology and class stay."""
        errors = super().validate_update(obj, old)
        for part in ("nodeTopology", "storageClassName"):
            errors += immutable(obj.get(part), old.get(part), part)
        return errors


class AttachmentStrategy(Strategy):
    """VolumeAttachments: the wish never changes, only the status does."""

    def prepare_create(self, obj: Object) -> None:
        """Start unattached."""
        obj["status"] = {"attached": False}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check who attaches what where."""
        errors, spec = super().validate(obj), obj.get("spec") or {}
        errors += [required(f"spec.{part}") for part in ("attacher", "nodeName") if not spec.get(part)]
        source = spec.get("source") or {}
        given = [part for part in ("inlineVolumeSpec", "persistentVolumeName") if source.get(part)]
        if not given:
            errors.append(required("spec.source", "must specify exactly one of inlineVolumeSpec and "
                                                  "persistentVolumeName"))
        elif len(given) > 1:
            errors.append(forbidden("spec.source", "must specify exactly one of inlineVolumeSpec and "
                                                   "persistentVolumeName"))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the wish stays."""
        return [*super().validate_update(obj, old), *immutable(obj.get("spec"), old.get("spec"), "spec")]


class AttributesClassStrategy(Strategy):
    """VolumeAttributesClasses: another wish is another class."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check driver and parameters."""
        errors = super().validate(obj)
        if not obj.get("driverName"):
            errors.append(required("driverName"))
        if not obj.get("parameters"):
            errors.append(required("parameters", "must contain at least one key/value pair"))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that both stay."""
        errors = super().validate_update(obj, old)
        if obj.get("driverName") != old.get("driverName"):
            errors.append(forbidden("driverName", "updates to driverName are forbidden."))
        if (obj.get("parameters") or {}) != (old.get("parameters") or {}):
            errors.append(forbidden("parameters", "updates to parameters are forbidden."))
        return errors
