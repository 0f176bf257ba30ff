"""The strategies of definitions, and of the resources that they define."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.api.patch.fieldset import Set
from netlab.apiserver.crd import definition, embedded, lists, rules, scales, structural, values
from netlab.apiserver.strategies.base import ScalePaths, Strategy
from netlab.apiserver.validation import meta
from netlab.apiserver.validation.errors import FieldError

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_BLOCKING = ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany",
             "FieldValueTypeInvalid")
"""Errors of which rules could be surprised."""
_SKIPPED = FieldError("FieldValueInvalid", "<nil>", 'Invalid value: null: some validation rules were not checked '
                      "because the object was invalid; correct the existing errors to complete validation")


class DefinitionStrategy(Strategy):
    """CustomResourceDefinitions. One that goes takes its objects along before: its finalizer waits for that."""

    generation = True

    def default(self, obj: Object) -> None:
        """Fill in what follows from the rest."""
        definition.default(obj)

    def prepare_create(self, obj: Object) -> None:
        """Start unknown; what is stored will be in the storage version."""
        obj["status"] = {"conditions": [], "acceptedNames": {"plural": "", "kind": ""},
                         "storedVersions": _stored(obj)}

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status; a new storage version joins those that may be in the store."""
        super().prepare_update(obj, old)
        state = obj.setdefault("status", {})
        known = list(state.get("storedVersions") or [])
        obj["status"] = {**state, "storedVersions": known + [name for name in _stored(obj) if name not in known]}

    def gone(self, obj: Object) -> bool:
        """Tell whether its objects are gone: before that has begun to be looked after, they are not."""
        return super().gone(obj) and any(condition.get("type") == "Terminating"
                                         for condition in (obj.get("status") or {}).get("conditions") or [])

    def mark(self, obj: Object) -> None:
        """Begin to go: the objects first."""
        finalizers = obj["metadata"].setdefault("finalizers", [])
        if FINALIZER not in finalizers:
            finalizers.append(FINALIZER)

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the definition."""
        return [*super().validate(obj), *definition.check(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the definition, and what may not change."""
        return [*super().validate_update(obj, old), *definition.check_update(obj, old)]


def _stored(obj: Object) -> list[str]:
    return [version["name"] for version in (obj.get("spec") or {}).get("versions") or [] if version.get("storage")]


class CustomStrategy(Strategy):
    """The objects of one version of a definition."""

    unconditional_update = False
    prefixed_finalizers = False

    def __init__(self, resource: Resource, version: Mapping[str, Any], successor: str = "") -> None:
        """Take the version, and the name of the one to use instead where it is deprecated."""
        super().__init__(resource)
        self.generation = True
        self.schema: structural.Schema = (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"}
        self._ruled = rules.has_rules(self.schema)
        scale = (version.get("subresources") or {}).get("scale")
        if scale is not None:
            self.scale_paths = ScalePaths(_names(scale["specReplicasPath"]), _names(scale["statusReplicasPath"]),
                                          _names(scale.get("labelSelectorPath") or ""))
        self._warning = ""
        if version.get("deprecated"):
            newer = f"; use {resource.group}/{successor} {resource.kind}" if successor else ""
            self._warning = version.get("deprecationWarning") or (
                f"{resource.api_version} {resource.kind} is deprecated{newer}")

    def default(self, obj: Object) -> None:
        """Fill in the schema's defaults."""
        structural.default(obj, {**self.schema, "properties": {
            name: part for name, part in (self.schema.get("properties") or {}).items() if name != "metadata"}})

    def shown(self, obj: Object) -> Object:
        """Return an object of another version as this one shows it: without what the schema does not name."""
        pruned, _ = structural.prune({**obj, "apiVersion": self.resource.api_version}, self.schema)
        structural.drop_nulls(pruned, self.schema)
        return pruned

    def settled(self, obj: Object) -> Object:
        """Return a stored object as this version has it now: without what the schema no longer names, with defaults."""
        if obj.get("apiVersion") != self.resource.api_version:
            obj = {**obj, "apiVersion": self.resource.api_version}
        pruned, _ = structural.prune(obj, self.schema)
        structural.drop_nulls(pruned, self.schema)
        self.default(pruned)
        return pruned

    def changed(self, obj: Object, old: Object) -> bool:
        """Without a status subresource, the status counts as well."""
        skip = ("kind", "apiVersion", "metadata", *(("status",) if self.has_status else ()))
        return any(obj.get(part) != old.get(part) for part in set(obj) | set(old) if part not in skip)

    def resets(self, subresource: str) -> Set:
        """Return what a write can't change: of an object without a status subresource that is nothing."""
        if subresource == "status":
            return {"f:metadata": {}, "f:spec": {}}
        return {"f:status": {}} if self.has_status and not subresource else {}

    def prepare_status(self, obj: Object, old: Object) -> None:
        """Keep everything but the status, and who manages what."""
        status, managed = obj.get("status", values.ABSENT), obj["metadata"].get("managedFields")
        obj.clear()
        obj |= {**old, "metadata": {**old["metadata"], "managedFields": managed}}
        obj.pop("status", None)
        if status is not values.ABSENT:
            obj["status"] = status

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the object against schema and rules."""
        return self._ruled_by([*super().validate(obj), *values.check(obj, self.schema),
                               *scales.check(obj, self.scale_paths), *embedded.check(obj, self.schema),
                               *lists.check(obj, self.schema)], obj, None)

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the object; what was wrong before and did not change is let be (ratcheting)."""
        return self._ruled_by([*self.meta_update(obj, old), *super().validate(obj),
                               *values.check(obj, self.schema, old=old),
                               *scales.check(obj, self.scale_paths), *embedded.check(obj, self.schema),
                               *self._lists(obj, old)], obj, old)

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the object with its new status."""
        schema, errors = (self.schema.get("properties") or {}).get("status"), super().validate_status(obj, old)
        if "status" in obj and schema is not None:
            errors += values.check(obj["status"], schema, base="status", old=old.get("status", values.ABSENT))
        return self._ruled_by([*errors, *scales.check(obj, self.scale_paths, status_only=True),
                               *self._lists(obj, old)], obj, old)

    def _lists(self, obj: Object, old: Object) -> list[FieldError]:
        errors = [*lists.check(obj, self.schema)]
        return [] if errors and any(lists.check(old, self.schema)) else errors

    def _ruled_by(self, errors: list[FieldError], obj: Object, old: Object | None) -> list[FieldError]:
        """Add what the rules say, where the object is such that they can be asked."""
        if not self._ruled:
            return errors
        if any(error.reason in _BLOCKING for error in errors):
            return [*errors, _SKIPPED]
        return [*errors, *rules.check(obj, old, self.schema, updating=old is not None)]

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        """Tell which new finalizers might be somebody else's as well."""
        known = old["metadata"].get("finalizers") or () if old is not None else ()
        added = sorted(set(obj["metadata"].get("finalizers") or ()) - set(known))
        return [f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name '
                f'{"including a path (/) " if "." in name else ""}to avoid accidental conflicts with other finalizer '
                "writers" for name in added if meta.bare(name)]

    @property
    def deprecation(self) -> str:
        """Return what to tell who uses this version, "" for nothing."""
        return self._warning


def _names(path: str) -> tuple[str, ...]:
    return tuple(path.strip(".").split(".")) if path else ()
