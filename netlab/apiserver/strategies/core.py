"""Namespaces, Nodes, ConfigMaps, Secrets, ServiceAccounts, Events, volumes, Leases."""

from __future__ import annotations

import base64

from netlab.api.meta import Object
from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import claims, events, meta, names, nodes
from netlab.apiserver.validation import core as checks
from netlab.apiserver.validation.errors import FieldError

NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceStrategy(Strategy):
    """Namespaces go when their content has gone: spec.finalizers keeps them until the controller says so."""

    returns_deleted = False

    def name_form(self, name: str) -> list[str]:
        """A namespace is a DNS label."""
        return names.dns_label(name)

    def default(self, obj: Object) -> None:
        """Label the namespace with its name."""
        name = obj["metadata"].get("name")
        if name:
            obj["metadata"].setdefault("labels", {}).setdefault(NAME_LABEL, name)

    def prepare_create(self, obj: Object) -> None:
        """Start active, held by the namespace controller."""
        obj["status"] = {"phase": "Active"}
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status and what holds the namespace (the finalize subresource changes that)."""
        obj["status"] = old.get("status", {})
        obj.setdefault("spec", {})["finalizers"] = (old.get("spec") or {}).get("finalizers", [])

    def gone(self, obj: Object) -> bool:
        """Tell whether nothing holds the namespace any more."""
        return super().gone(obj) and not (obj.get("spec") or {}).get("finalizers")

    def mark(self, obj: Object) -> None:
        """Show that the namespace is on its way out."""
        obj.setdefault("status", {})["phase"] = "Terminating"

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the namespace."""
        return [*super().validate(obj), *checks.namespace(obj)]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the phase."""
        return [*super().validate_status(obj, old), *checks.namespace_status(obj)]

    def validate_part(self, part: str, obj: Object, old: Object) -> list[FieldError]:  # noqa: ARG002 - only finalize
        """Check what holds the namespace."""
        return [*meta.object_meta_update(obj["metadata"], old["metadata"]), *checks.namespace_finalizers(obj)]


class NodeStrategy(Strategy):
    """Nodes."""

    def default(self, obj: Object) -> None:
        """Let podCIDR and podCIDRs say the same."""
        spec = obj.setdefault("spec", {})
        if spec.get("podCIDR") and not spec.get("podCIDRs"):
            spec["podCIDRs"] = [spec["podCIDR"]]
        elif spec.get("podCIDRs") and not spec.get("podCIDR"):
            spec["podCIDR"] = spec["podCIDRs"][0]
        pod_defaults.amounts(obj.get("status"), ("capacity", "allocatable"))

    def prepare_create(self, obj: Object) -> None:
        """A node may bring its status (kubelets register with it)."""
        obj.setdefault("spec", {})
        self._allocatable(obj)

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status."""
        obj["status"] = old.get("status", {})

    def prepare_status(self, obj: Object, old: Object) -> None:
        """Keep everything but the status; what is not said to be allocatable is the capacity."""
        super().prepare_status(obj, old)
        self._allocatable(obj)

    def _allocatable(self, obj: Object) -> None:
        status = obj.setdefault("status", {})
        if status.get("capacity") and not status.get("allocatable"):
            status["allocatable"] = dict(status["capacity"])

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the node."""
        return [*super().validate(obj), *nodes.node(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the node; its Pod addresses, once set, stay."""
        return [*super().validate_update(obj, old), *nodes.node_update(obj, old)]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check amounts and addresses."""
        return [*super().validate_status(obj, old), *nodes.node_status(obj)]


class ConfigMapStrategy(Strategy):
    """ConfigMaps."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check keys and size."""
        return [*super().validate(obj), *checks.config_map(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check keys and size, and that an immutable one stays."""
        return [*super().validate_update(obj, old), *checks.immutable_data(obj, old, ("data", "binaryData"))]


class SecretStrategy(Strategy):
    """Secrets: `stringData` is a convenience for writers and never comes back."""

    def default(self, obj: Object) -> None:
        """Move stringData into data."""
        obj.setdefault("type", "Opaque")
        if not obj["type"]:
            obj["type"] = "Opaque"
        plain = obj.pop("stringData", None)
        if isinstance(plain, dict):
            data = obj.get("data") or {}
            obj["data"] = data | {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check keys, encoding, size, and what the type demands."""
        return [*super().validate(obj), *checks.secret(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the same; the type stays, and an immutable one altogether."""
        return [*super().validate_update(obj, old), *checks.secret_update(obj, old)]


class ServiceAccountStrategy(Strategy):
    """ServiceAccounts; of their Secrets, the names are all that is kept."""

    returns_deleted = True

    def prepare_create(self, obj: Object) -> None:
        """Keep only the names of Secrets."""
        if obj.get("secrets"):
            obj["secrets"] = [{"name": one["name"]} if one.get("name") else {} for one in obj["secrets"]]

    def prepare_update(self, obj: Object, old: Object) -> None:  # noqa: ARG002 - the old one's are names already
        """Keep only the names of Secrets."""
        self.prepare_create(obj)


class EventStrategy(Strategy):
    """Events live for an hour."""

    ttl = 3600
    create_on_update = True

    def name_form(self, name: str) -> list[str]:
        """Events of core/v1 may be called as they like."""
        return names.path_segment(name)

    def validate(self, obj: Object) -> list[FieldError]:
        """Check that the event lies in the namespace of what it is about."""
        return [*super().validate(obj), *events.event(obj)]


class LeaseStrategy(Strategy):
    """Leases: whoever renews one must have seen it."""

    create_on_update = True
    unconditional_update = False

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the spec."""
        return [*super().validate(obj), *checks.lease(obj.get("spec") or {}, "spec")]


class VolumeStrategy(Strategy):
    """PersistentVolumes."""

    returns_deleted = True

    def default(self, obj: Object) -> None:
        """Retain, as a file system."""
        spec = obj.setdefault("spec", {})
        if not spec.get("persistentVolumeReclaimPolicy"):
            spec["persistentVolumeReclaimPolicy"] = "Retain"
        spec.setdefault("volumeMode", "Filesystem")
        pod_defaults.amounts(spec, ("capacity",))
        for kind, source in spec.items():
            if isinstance(source, dict):
                pod_defaults.source_defaults(kind, source)

    def prepare_create(self, obj: Object) -> None:
        """Start pending."""
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the volume."""
        return [*super().validate(obj), *claims.volume(obj["spec"], "spec", obj["metadata"].get("name", ""))]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the volume; what it is made of stays."""
        return [*super().validate_update(obj, old), *claims.volume_update(obj, old)]


class VolumeClaimStrategy(Strategy):
    """PersistentVolumeClaims."""

    returns_deleted = True

    def default(self, obj: Object) -> None:
        """A file system."""
        spec = obj.setdefault("spec", {})
        spec.setdefault("volumeMode", "Filesystem")
        pod_defaults.amounts(spec.get("resources"))

    def prepare_create(self, obj: Object) -> None:
        """Start pending."""
        obj["status"] = {"phase": "Pending"}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the claim."""
        return [*super().validate(obj), *claims.claim(obj["spec"], "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the claim; but for its size, when it is bound, it stays."""
        any_group = claims.keeps_any_group(old.get("spec") or {})
        return [
            *meta.object_meta_update(obj["metadata"], old["metadata"]),
            *super().validate(obj),
            *claims.claim(obj["spec"], "spec", any_group=any_group),
            *claims.claim_update(obj, old),
        ]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check sizes."""
        return [*super().validate_status(obj, old), *claims.claim_status(obj)]
