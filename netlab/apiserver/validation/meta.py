"""ObjectMeta (k8s.io/apimachinery/pkg/api/validation/objectmeta.go)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, required, too_long

NameForm = Callable[[str], list[str]]

_ANNOTATIONS_LIMIT = 256 * 1024
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_HTTP_PATH_FORM = "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+"
_HTTP_PATH = re.compile(rf"{_HTTP_PATH_FORM}\Z")
_HTTP_PATH_TEXT = f"Invalid path (regex used for validation is '{_HTTP_PATH_FORM}')"
IMMUTABLE = "field is immutable"
FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")
"""Those that need no prefix."""


def object_meta(metadata: Object, *, namespaced: bool, name_form: NameForm = names.dns_subdomain,
                path: str = "metadata", prefixed: bool = True) -> list[FieldError]:
    """Check the metadata of a new or changed object; `prefixed`: its finalizers have a domain, or are known ones."""
    errors: list[FieldError] = []
    generate, name = metadata.get("generateName", ""), metadata.get("name", "")
    if generate:
        stem = generate[:-1] + "a" if generate.endswith("-") else generate
        errors += [invalid(f"{path}.generateName", generate, said) for said in name_form(stem)]
    if not name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    else:
        errors += [invalid(f"{path}.name", name, said) for said in name_form(name)]
    namespace = metadata.get("namespace", "")
    if namespaced and not namespace:
        errors.append(required(f"{path}.namespace"))
    elif namespaced:
        errors += [invalid(f"{path}.namespace", namespace, said) for said in names.dns_label(namespace)]
    elif namespace:
        errors.append(forbidden(f"{path}.namespace", "not allowed on this type"))
    return errors + _maps(metadata, path, prefixed=prefixed)


def _maps(metadata: Object, path: str, *, prefixed: bool) -> list[FieldError]:
    return [*check_labels(metadata.get("labels"), f"{path}.labels"),
            *check_annotations(metadata.get("annotations"), f"{path}.annotations"),
            *_owners(metadata.get("ownerReferences") or [], f"{path}.ownerReferences"),
            *_finalizers(metadata.get("finalizers") or [], f"{path}.finalizers", prefixed=prefixed)]


def bare(name: Any) -> bool:
    """Tell whether a finalizer names no domain and is none of those that need none."""
    return "/" not in str(name) and name not in FINALIZERS


def _finalizers(found: list[Any], path: str, *, prefixed: bool) -> list[FieldError]:
    errors = [invalid(path, name, said) for name in found for said in names.qualified_name(str(name))]
    if "orphan" in found and "foregroundDeletion" in found:
        errors.append(invalid(path, found, "finalizer orphan and foregroundDeletion cannot be both set"))
    for at, name in enumerate(found):
        if prefixed and bare(name):
            errors.append(invalid(f"{path}[{at}]", name,
                                  "name is neither a standard finalizer name nor is it fully qualified"))
    return errors


def check_labels(found: Any, path: str) -> list[FieldError]:
    """Check a map of labels."""
    errors: list[FieldError] = []
    for key, value in (found or {}).items():
        errors += [invalid(path, key, said) for said in names.qualified_name(key)]
        errors += [invalid(path, value, said) for said in names.label_value(value)]
    return errors


def check_annotations(found: Any, path: str) -> list[FieldError]:
    """Check a map of annotations."""
    errors: list[FieldError] = []
    size = 0
    for key, value in (found or {}).items():
        errors += [invalid(path, key, said) for said in names.qualified_name(key.lower())]
        size += len(key) + len(value)
    if size > _ANNOTATIONS_LIMIT:
        errors.append(too_long(path, _ANNOTATIONS_LIMIT))
    return errors


def _owners(references: list[Object], path: str) -> list[FieldError]:
    """Check owners. (Upstream's paths have no place in the list.)"""
    errors: list[FieldError] = []
    controller = ""
    for reference in references:
        version = reference.get("apiVersion", "")
        if not version.rpartition("/")[2] or version.count("/") > 1:
            errors.append(invalid(f"{path}.apiVersion", version, "version must not be empty"))
        errors += [invalid(f"{path}.{part}", "", f"{part} must not be empty") for part in ("kind", "name", "uid")
                   if not reference.get(part)]
        if reference.get("apiVersion") == "v1" and reference.get("kind") == "Event":
            errors.append(invalid(path, reference, "/v1, Kind=Event is disallowed from being an owner"))
        if reference.get("controller"):
            this = f"{reference.get('kind', '')}/{reference.get('name', '')}"
            if controller:
                errors.append(invalid(path, references, "Only one reference can have Controller set to true. Found "
                                      f'"true" in references for {controller} and {this}'))
            else:
                controller = this
    return errors


def object_meta_update(new: Object, old: Object, path: str = "metadata", *, prefixed: bool = True) -> list[FieldError]:
    """Check what of the metadata may not change, and what changes with every kind."""
    errors = [_changed(part, new.get(part), path) for part in _IMMUTABLE if new.get(part) != old.get(part)]
    errors += _maps(new, path, prefixed=prefixed)
    if old.get("deletionTimestamp"):
        added = sorted(set(new.get("finalizers") or []) - set(old.get("finalizers") or []))
        if added:
            said = "[" + " ".join(f'"{name}"' for name in added) + "]"
            errors.append(forbidden(f"{path}.finalizers",
                                    "no new finalizers can be added if the object is being deleted, "
                                    f"found new finalizers []string{{{said[1:-1].replace(' ', ', ')}}}"))
    return errors


def _changed(part: str, value: Any, path: str) -> FieldError:
    if part.endswith("Timestamp") and isinstance(value, str):  # as a time prints itself
        return FieldError("FieldValueInvalid", f"{path}.{part}",
                          f"Invalid value: {value.replace('T', ' ').replace('Z', ' +0000 UTC')}: {IMMUTABLE}")
    return invalid(f"{path}.{part}", value, IMMUTABLE)


def domain_prefixed(path: str, text: str) -> list[FieldError]:
    """Check a name like `acme.io/foo`, as controllers and managers have them (IsDomainPrefixedPath)."""
    host, _, rest = text.partition("/")
    if not text:
        return [required(path)]
    if not host or not rest:
        return [invalid(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors = [invalid(path, host, said) for said in names.dns_subdomain(host)]
    return errors if _HTTP_PATH.match(rest) else [*errors, invalid(path, rest, _HTTP_PATH_TEXT)]


def immutable(new: Any, old: Any, path: str) -> list[FieldError]:
    """Check that a part did not change."""
    return [] if new == old else [invalid(path, new, IMMUTABLE)]
