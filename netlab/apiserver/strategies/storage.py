"""Storage classes, drivers, attachments, and the classes that describe a volume's attributes."""

from __future__ import annotations

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import names
from netlab.apiserver.validation import storage as checks
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid
from netlab.apiserver.validation.meta import immutable
from netlab.apiserver.validation.resources import basic
from netlab.apiserver.validation.selectors import label_selector


class StorageClassStrategy(Strategy):
    """StorageClasses."""

    def default(self, obj: Object) -> None:
        """Delete, bind at once."""
        obj.setdefault("reclaimPolicy", "Delete")
        obj.setdefault("volumeBindingMode", "Immediate")

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the class."""
        return [*super().validate(obj), *checks.storage_class(obj)]

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
        return [*super().validate(obj), *checks.driver(obj["spec"], "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that what attached volumes rely on stays."""
        errors = super().validate_update(obj, old)
        for part, called in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")):
            errors += immutable(obj["spec"].get(part), old["spec"].get(part), f"spec.{called}")
        return errors


class CsiNodeStrategy(Strategy):
    """CSINodes: the drivers on a node, each once."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the drivers."""
        return [*super().validate(obj), *checks.node(obj.get("spec") or {}, "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that those which stay do not change."""
        return [*super().validate_update(obj, old), *checks.node_update(obj, old)]


class CapacityStrategy(Strategy):
    """CSIStorageCapacities: which class, where, never changes."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check where, of which class, and how much."""
        found, room = obj.get("storageClassName", ""), obj.get("capacity")
        return [*super().validate(obj), *label_selector(obj.get("nodeTopology"), "nodeTopology"),
                *(invalid("storageClassName", found, said) for said in names.dns_subdomain(found)),
                *(basic(quantity.parse(room), "capacity") if room is not None else ())]

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
        return [*super().validate(obj), *checks.attachment(obj.get("spec") or {}, "spec")]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check what the attacher says."""
        return [*super().validate_status(obj, old), *checks.attachment_status(obj.get("status"), "status")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the wish stays."""
        return [*super().validate_update(obj, old), *immutable(obj.get("spec"), old.get("spec"), "spec")]


class AttributesClassStrategy(Strategy):
    """VolumeAttributesClasses: another wish is another class."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check driver and parameters."""
        return [*super().validate(obj), *checks.attributes_class(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that both stay."""
        errors = super().validate_update(obj, old)
        if obj.get("driverName") != old.get("driverName"):
            errors.append(forbidden("driverName", "updates to driverName are forbidden."))
        if (obj.get("parameters") or {}) != (old.get("parameters") or {}):
            errors.append(forbidden("parameters", "updates to parameters are forbidden."))
        return errors
