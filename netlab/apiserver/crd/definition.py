"""Definitions themselves: defaults, and what is wrong with one (pkg/apis/apiextensions/validation)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver import regular
from netlab.apiserver.crd import columns, rule_checks, structural, values
from netlab.apiserver.crd.structural import EMBEDDED, INT_OR_STRING, PRESERVE, Schema
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required
from netlab.apiserver.validation.registration import client_config

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_FORBIDDEN = ("definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties", "readOnly",
              "writeOnly", "xml", "$ref")
_PROTECTED = re.compile(r"(^|\.)(k8s|kubernetes)\.io$")
_APPROVED = "api-approved.kubernetes.io"


def default(obj: Object) -> None:
    """Fill in singular and list kind, the conversion, the port of its webhook."""
    spec = obj.setdefault("spec", {})
    called = spec.setdefault("names", {})
    if called.get("kind"):
        if not called.get("singular"):
            called["singular"] = called["kind"].lower()
        if not called.get("listKind"):
            called["listKind"] = f"{called['kind']}List"
    conversion = spec.setdefault("conversion", {"strategy": "None"})
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def check(obj: Object) -> list[FieldError]:
    """Return what is wrong with a definition."""
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
    return [*_top(spec, name), *_names(spec.get("names") or {}, "spec.names"), *_versions(spec),
            *_conversion(spec.get("conversion") or {}, "spec.conversion"), *_approval(obj)]


def check_update(obj: Object, old: Object) -> list[FieldError]:
    """Return what may not change once the definition is served."""
    if not established(old):
        return []
    new, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = [invalid(f"spec.{field}", new.get(field, ""), "field is immutable") for field in ("group", "scope")
              if new.get(field) != before.get(field)]
    called, known = new.get("names") or {}, before.get("names") or {}
    return errors + [invalid(f"spec.names.{field}", called.get(field, ""), "field is immutable")
                     for field in ("kind", "plural") if called.get(field) != known.get(field)]


def established(obj: Object) -> bool:
    """Tell whether a definition is served."""
    return any(condition.get("type") == "Established" and condition.get("status") == "True"
               for condition in (obj.get("status") or {}).get("conditions") or [])


def _top(spec: Object, name: str) -> Iterator[FieldError]:
    group, plural = spec.get("group", ""), (spec.get("names") or {}).get("plural", "")
    if name != f"{plural}.{group}":
        yield invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group")
    if not group:
        yield required("spec.group")
    elif said := names.dns_subdomain(group):
        yield from (invalid("spec.group", group, text) for text in said)
    elif "." not in group:
        yield invalid("spec.group", group, "should be a domain with at least one dot")
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        yield not_supported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced")) if spec.get("scope") \
            else required("spec.scope")
    if spec.get("preserveUnknownFields"):
        yield invalid("spec.preserveUnknownFields", True, "cannot set to true, set x-kubernetes-preserve-unknown-"
                                                          "fields to true in spec.versions[*].schema instead")


def _names(called: Object, path: str) -> Iterator[FieldError]:
    for field in ("plural", "singular", "kind", "listKind"):
        text = called.get(field, "")
        if not text:
            yield required(f"{path}.{field}")
            continue
        yield from (invalid(f"{path}.{field}", text, said) for said in names.dns_1035_label(text.lower()))
    for field in ("shortNames", "categories"):
        for at, text in enumerate(called.get(field) or []):
            yield from (invalid(f"{path}.{field}[{at}]", text, said) for said in names.dns_1035_label(text))
    if called.get("kind") and called.get("kind") == called.get("listKind"):
        yield invalid(f"{path}.listKind", called["listKind"], "kind and listKind may not be the same")


def _versions(spec: Object) -> Iterator[FieldError]:
    versions = spec.get("versions") or []
    if not versions:
        yield invalid("spec.versions", versions, "must have exactly one version marked as storage version")
        return
    seen: set[str] = set()
    for at, version in enumerate(versions):
        path, name = f"spec.versions[{at}]", version.get("name", "")
        if name in seen:
            yield invalid("spec.versions", list(seen), "must contain unique version names")
        seen.add(name)
        yield from (invalid(f"{path}.name", name, said) for said in names.dns_1035_label(name))
        if "served" not in version:
            yield required(f"{path}.served")
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            yield required(f"{path}.schema.openAPIV3Schema", "schemas are required")
        else:
            yield from _schema(schema, f"{path}.schema.openAPIV3Schema")
        yield from _columns(version.get("additionalPrinterColumns") or [], f"{path}.additionalPrinterColumns")
        yield from _subresources(version.get("subresources") or {}, f"{path}.subresources")
    stored = [version.get("name") for version in versions if version.get("storage")]
    if len(stored) != 1:
        yield invalid("spec.versions", stored, "must have exactly one version marked as storage version")


def _columns(found: list[Any], path: str) -> Iterator[FieldError]:
    for at, column in enumerate(found):
        field = f"{path}[{at}]"
        if not column.get("name"):
            yield required(f"{field}.name")
        if not column.get("type"):
            yield required(f"{field}.type", f"must be one of {','.join(_COLUMN_TYPES)}")
        elif column["type"] not in _COLUMN_TYPES:
            yield invalid(f"{field}.type", column["type"], f"must be one of {','.join(_COLUMN_TYPES)}")
        if not column.get("jsonPath"):
            yield required(f"{field}.jsonPath")
            continue
        try:
            columns.parse(column["jsonPath"])
        except columns.BadPath as error:
            yield invalid(f"{field}.jsonPath", column["jsonPath"], str(error))


def _subresources(found: Object, path: str) -> Iterator[FieldError]:
    scale = found.get("scale")
    if scale is None:
        return
    for field, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        text = scale.get(field, "")
        if not text:
            yield required(f"{path}.scale.{field}")
        elif not text.startswith(prefix):
            yield invalid(f"{path}.scale.{field}", text, f"should be a json path under {prefix[:-1]}")
    text = scale.get("labelSelectorPath")
    if text and not text.startswith((".spec.", ".status.")):
        yield invalid(f"{path}.scale.labelSelectorPath", text, "should be a json path under either .spec or .status")


def _conversion(found: Object, path: str) -> Iterator[FieldError]:
    strategy, hook = found.get("strategy", "None"), found.get("webhook")
    if strategy not in ("None", "Webhook"):
        yield not_supported(f"{path}.strategy", strategy, ("None", "Webhook"))
    elif strategy == "None" and hook is not None:
        yield forbidden(f"{path}.webhook", "should not be set when strategy is not set to Webhook")
    elif strategy == "Webhook":
        if hook is None or hook.get("clientConfig") is None:
            yield required(f"{path}.webhook.clientConfig", "required when strategy is set to Webhook")
        else:
            yield from client_config(hook["clientConfig"], f"{path}.webhook.clientConfig")
        if hook is not None and not hook.get("conversionReviewVersions"):
            yield required(f"{path}.webhook.conversionReviewVersions")


def _approval(obj: Object) -> Iterator[FieldError]:
    group = (obj.get("spec") or {}).get("group", "")
    note = (obj["metadata"].get("annotations") or {}).get(_APPROVED, "")
    if _PROTECTED.search(group) and not note.startswith(("unapproved", "https://")):
        yield required(f"metadata.annotations[{_APPROVED}]", "protected groups must have approval annotation "
                       f'"{_APPROVED}", see https://github.com/kubernetes/enhancements/pull/1111')


def _schema(schema: Schema, path: str) -> Iterator[FieldError]:
    """Check that a schema is structural, that its defaults fit it, and that its rules compile."""
    if schema.get("type") != "object":
        yield invalid(f"{path}.type", schema.get("type", ""), "must be object at the root") if schema.get("type") \
            else required(f"{path}.type", "must not be empty at the root")
    wrong = [error for place, part in structural.walk(schema, path) for error in _part(part, place, root=place == path)]
    yield from wrong or rule_checks.check(schema, path)


def _part(part: Schema, path: str, *, root: bool) -> Iterator[FieldError]:
    kind = part.get("type", "")
    if not kind and not part.get(INT_OR_STRING) and not part.get(PRESERVE) and not root:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    elif kind and kind not in _TYPES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    if part.get(INT_OR_STRING) and kind:
        yield invalid(f"{path}.type", kind, "must be empty if x-kubernetes-int-or-string is true")
    yield from (forbidden(f"{path}.{word}", f"{word} is not supported") for word in _FORBIDDEN if part.get(word))
    if isinstance(part.get("items"), list):
        yield forbidden(f"{path}.items", "items must be a schema object and not an array")
    elif not isinstance(part.get("items") or {}, dict):
        yield invalid(f"{path}.items", part["items"], "must be a schema object")
    elif kind == "array" and part.get("items") is None:
        yield required(f"{path}.items", "must be specified")
    if part.get("additionalProperties") is not None and part.get("properties"):
        yield forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if not isinstance(part.get("additionalProperties") or False, (bool, dict)):
        yield invalid(f"{path}.additionalProperties", part["additionalProperties"],
                      "must be true, false or a schema object")
    if part.get("uniqueItems"):
        yield forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes "
                                               "quadratic")
    if part.get(EMBEDDED) and kind != "object":
        yield invalid(f"{path}.type", kind, "must be object if x-kubernetes-embedded-resource is true")
    if part.get("pattern"):
        try:
            regular.compile_(str(part["pattern"]))
        except ValueError as error:
            yield invalid(f"{path}.pattern", part["pattern"], f"must be a valid regular expression, but isn't: {error}")
    yield from _list(part, path)
    if "default" in part:
        problems = values.check(part["default"], part, f"{path}.default")
        yield from problems


def _list(part: Schema, path: str) -> Iterator[FieldError]:
    style, keys = part.get("x-kubernetes-list-type"), part.get("x-kubernetes-list-map-keys") or []
    if style is not None and part.get("type") != "array":
        yield invalid(f"{path}.type", part.get("type", ""), "must be array if x-kubernetes-list-type is specified")
    if style is not None and style not in ("atomic", "map", "set"):
        yield not_supported(f"{path}.x-kubernetes-list-type", style, ("atomic", "map", "set"))
    if style == "map" and not keys:
        yield required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    if keys and style != "map":
        yield invalid(f"{path}.x-kubernetes-list-type", style or "", "must be map if x-kubernetes-list-map-keys is "
                                                                     "non-empty")
    fields: Mapping[str, Any] = (part.get("items") or {}).get("properties") or {} \
        if isinstance(part.get("items"), dict) else {}
    needed = (part.get("items") or {}).get("required") or () if isinstance(part.get("items"), dict) else ()
    for at, key in enumerate(keys if style == "map" else ()):
        if key not in fields:
            yield invalid(f"{path}.x-kubernetes-list-map-keys[{at}]", key,
                          "entries must all be names of item properties")
        elif key not in needed and "default" not in fields[key]:
            yield required(f"{path}.items.properties[{key}].default",
                           "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required "
                           "property")
