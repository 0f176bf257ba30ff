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
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required, unsupported
from netlab.apiserver.validation.registration import client_config, review_versions

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_FORBIDDEN = ("definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties", "readOnly",
              "writeOnly", "xml", "$ref")
_PROTECTED = re.compile(r"(^|\.)(k8s|kubernetes)\.io$")
_APPROVED = "api-approved.kubernetes.io"
_LISTS = ("atomic", "set", "map")
_MIXED = "may have mixed case, but should otherwise match: "
_SIMPLE = "must be a simple json path starting with ."
_WARNING_LIMIT = 256


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
    return [*_top(spec, name), *_versions(spec), *_names(spec.get("names") or {}, "spec.names"), *_shared(spec),
            *_conversion(spec.get("conversion") or {}, "spec.conversion", preserve=bool(
                spec.get("preserveUnknownFields"))), *_stored(spec), *_approval(obj)]


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
        yield invalid("spec.group", group, ",".join(said))
    elif "." not in group:
        yield invalid("spec.group", group, "should be a domain with at least one dot")
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        yield not_supported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced")) if spec.get("scope") \
            else required("spec.scope")
    if spec.get("preserveUnknownFields"):
        yield invalid("spec.preserveUnknownFields", True, "cannot set to true, set x-kubernetes-preserve-unknown-"
                                                          "fields to true in spec.versions[*].schema instead")


def _names(called: Object, path: str) -> Iterator[FieldError]:
    yield from (required(f"{path}.{field}") for field in ("plural", "singular", "kind", "listKind")
                if not called.get(field))
    for field, said in (("plural", ""), ("singular", ""), ("kind", _MIXED), ("listKind", _MIXED)):
        text = called.get(field, "")
        wrong = names.dns_1035_label(text.lower() if said else text) if text else []
        if wrong:
            yield invalid(f"{path}.{field}", text, said + ",".join(wrong))
    yield from _words(called.get("shortNames") or [], f"{path}.shortNames")
    if called.get("kind") and called.get("kind") == called.get("listKind"):
        yield invalid(f"{path}.listKind", called["listKind"], "kind and listKind may not be the same")
    yield from _words(called.get("categories") or [], f"{path}.categories")


def _words(found: list[str], path: str) -> Iterator[FieldError]:
    for at, text in enumerate(found):
        if wrong := names.dns_1035_label(text):
            yield invalid(f"{path}[{at}]", text, ",".join(wrong))


def _same(versions: list[Object], part: str) -> bool:
    """Tell whether all versions agree in a part: then upstream has it once, above them, and says so of errors."""
    return all((version.get(part) or None) == (versions[0].get(part) or None) for version in versions)


def _versions(spec: Object) -> Iterator[FieldError]:
    versions = spec.get("versions") or []
    for at, version in enumerate(versions):
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            yield required(f"spec.versions[{at}].schema.openAPIV3Schema", "schemas are required")
    for at, version in enumerate(versions):
        path, name = f"spec.versions[{at}]", version.get("name", "")
        if wrong := names.dns_1035_label(name):
            yield invalid(f"{path}.name", name, ",".join(wrong))
        for said in _deprecation(version):
            yield invalid(f"{path}.deprecationWarning", version["deprecationWarning"], said)
        if not _same(versions, "schema"):
            yield from _schema_of(version, f"{path}.schema", status=_has_status(version))
        if not _same(versions, "subresources"):
            yield from _subresources(version.get("subresources") or {}, f"{path}.subresources")
        if not _same(versions, "additionalPrinterColumns"):
            yield from _columns(version.get("additionalPrinterColumns") or [], f"{path}.additionalPrinterColumns")
    called = [version.get("name", "") for version in versions]
    if len(set(called)) < len(called):
        yield invalid("spec.versions", versions, "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield invalid("spec.versions", versions, "must have exactly one version marked as storage version")
    if called and called[0] and (wrong := names.dns_1035_label(called[0])):
        yield invalid("spec.version", called[0], ",".join(wrong))


def _shared(spec: Object) -> Iterator[FieldError]:
    """Check what all versions have in common."""
    versions = spec.get("versions") or []
    if not versions:
        return
    if _same(versions, "schema"):
        yield from _schema_of(versions[0], "spec.validation", status=any(map(_has_status, versions)))
    if _same(versions, "subresources"):
        yield from _subresources(versions[0].get("subresources") or {}, "spec.subresources")
    if _same(versions, "additionalPrinterColumns"):
        yield from _columns(versions[0].get("additionalPrinterColumns") or [], "spec.additionalPrinterColumns")


def _has_status(version: Object) -> bool:
    return (version.get("subresources") or {}).get("status") is not None


def _deprecation(version: Object) -> Iterator[str]:
    """Yield what is wrong with a version's warning."""
    text = version.get("deprecationWarning")
    if text is None:
        return
    if not version.get("deprecated"):
        yield "can only be set for deprecated versions"
        return
    if len(text.encode()) > _WARNING_LIMIT:
        yield f"must be <= {_WARNING_LIMIT} characters long"
    if not text:
        yield "must not be an empty string"
    at = next((at for at, char in enumerate(text) if not char.isprintable()), -1)
    if at >= 0:
        yield (f"must only contain printable UTF-8 characters; non-printable character found at index "
               f"{len(text[:at].encode())}")


def _schema_of(version: Object, path: str, *, status: bool) -> Iterator[FieldError]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        return
    if status and schema.get("type", "") not in ("", "object"):
        yield invalid(f"{path}.openAPIV3Schema.type", schema["type"], 'only "object" is allowed as the type at the '
                      "root of the schema if the status subresource is enabled")
    yield from _schema(schema, f"{path}.openAPIV3Schema")


def _stored(spec: Object) -> Iterator[FieldError]:
    """Check that there is a version to store: what is said when there is not exactly one."""
    stored = [version for version in spec.get("versions") or [] if version.get("storage")]
    if not stored:
        yield invalid("status.storedVersions", [], "must have at least one stored version")
    for version in stored[1:]:
        yield invalid("status.storedVersions", version, f"must have the storage version {version.get('name', '')}")


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
            yield required(f"{field}.JSONPath")
            continue
        if not column["jsonPath"].startswith("."):
            yield invalid(f"{field}.JSONPath", column["jsonPath"], _SIMPLE)
            continue
        try:
            columns.parse(column["jsonPath"])
        except columns.BadPath as error:
            yield invalid(f"{field}.JSONPath", column["jsonPath"], str(error))


def _subresources(found: Object, path: str) -> Iterator[FieldError]:
    scale = found.get("scale")
    if scale is None:
        return
    for field, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        text = scale.get(field, "")
        if not text:
            yield required(f"{path}.scale.{field}")
        elif not text.startswith("."):
            yield invalid(f"{path}.scale.{field}", text, _SIMPLE)
        elif not text.startswith(prefix):
            yield invalid(f"{path}.scale.{field}", text, f"should be a json path under {prefix[:-1]}")
    text = scale.get("labelSelectorPath")
    if text and not text.startswith("."):
        yield invalid(f"{path}.scale.labelSelectorPath", text, _SIMPLE)
    elif text and not text.startswith((".spec.", ".status.")):
        yield invalid(f"{path}.scale.labelSelectorPath", text, "should be a json path under either .spec or .status")


def _conversion(found: Object, path: str, *, preserve: bool) -> Iterator[FieldError]:
    """Check the conversion; upstream names its parts as v1beta1 had them."""
    strategy, hook = found.get("strategy", ""), found.get("webhook") or {}
    config, versions = hook.get("clientConfig"), hook.get("conversionReviewVersions") or []
    if not strategy:
        yield required(f"{path}.strategy")
    elif strategy not in ("None", "Webhook"):
        yield unsupported(f"{path}.strategy", strategy, ("None", "Webhook"))
    if preserve and strategy != "None":
        yield invalid(f"{path}.strategy", strategy, "must be None if spec.preserveUnknownFields is true")
    if strategy == "Webhook":
        if config is None:
            yield required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook")
        else:
            yield from client_config(config, f"{path}.webhookClientConfig")
        yield from review_versions(versions, f"{path}.conversionReviewVersions", "")
        return
    if config is not None:
        yield forbidden(f"{path}.webhookClientConfig", "should not be set when strategy is not set to Webhook")
    if versions:
        yield forbidden(f"{path}.conversionReviewVersions", "should not be set when strategy is not set to Webhook")


def _approval(obj: Object) -> Iterator[FieldError]:
    group = (obj.get("spec") or {}).get("group", "")
    note = (obj["metadata"].get("annotations") or {}).get(_APPROVED, "")
    if _PROTECTED.search(group) and not note.startswith(("unapproved", "https://")):
        yield required(f"metadata.annotations[{_APPROVED}]", "protected groups must have approval annotation "
                       f'"{_APPROVED}", see https://github.com/kubernetes/enhancements/pull/1111')


def _schema(schema: Schema, path: str) -> Iterator[FieldError]:
    """Check that a schema is structural, that its defaults fit it, and that its rules compile."""
    if schema.get("type") != "object":
        if schema.get("type"):
            yield invalid(f"{path}.type", schema["type"], "must be object at the root")
        elif not schema.get(PRESERVE) and not schema.get(INT_OR_STRING):
            yield required(f"{path}.type", "must not be empty at the root")
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
        said = "must be object if x-kubernetes-embedded-resource is true"
        yield invalid(f"{path}.type", kind, said) if kind else required(f"{path}.type", said)
    if part.get(PRESERVE) is False:
        yield invalid(f"{path}.{PRESERVE}", False, "must be true or undefined")
    if part.get(EMBEDDED) and not part.get("properties") and PRESERVE not in part:
        yield required(f"{path}.properties", "must not be empty if x-kubernetes-embedded-resource is true without "
                                             "x-kubernetes-preserve-unknown-fields")
    if part.get("pattern"):
        try:
            regular.compile_(str(part["pattern"]))
        except ValueError as error:
            yield invalid(f"{path}.pattern", part["pattern"], f"must be a valid regular expression, but isn't: {error}")
    yield from _list(part, path)
    if "default" in part:
        problems = values.check(part["default"], part, base=f"{path}.default")
        yield from problems


def _list(part: Schema, path: str) -> Iterator[FieldError]:
    style, keys = part.get("x-kubernetes-list-type"), part.get("x-kubernetes-list-map-keys") or []
    if style is not None and part.get("type") != "array":
        said = "must be array if x-kubernetes-list-type is specified"
        yield invalid(f"{path}.type", part["type"], said) if part.get("type") else required(f"{path}.type", said)
    if style is not None and style not in _LISTS:
        yield unsupported(f"{path}.x-kubernetes-list-type", style, _LISTS)
    if keys and style != "map":
        said = "must be map if x-kubernetes-list-map-keys is non-empty"
        yield required(f"{path}.x-kubernetes-list-type", said) if style is None else \
            invalid(f"{path}.x-kubernetes-list-type", style, said)
    if style == "map":
        yield from _map(part.get("items"), keys, path)


def _map(items: Any, keys: list[str], path: str) -> Iterator[FieldError]:
    """Check a list that is a map: of objects, by fields that each of them has."""
    if not keys:
        yield required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        yield required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
        return
    if not isinstance(items, dict):
        yield invalid(f"{path}.items", items, "must only have a single schema if x-kubernetes-list-type is map")
        return
    if items.get("type") != "object":
        yield invalid(f"{path}.items.type", items.get("type", ""),
                      "must be object if parent array's x-kubernetes-list-type is map")
        return
    fields: Mapping[str, Any] = items.get("properties") or {}
    for at, key in enumerate(keys):
        field = f"{path}.items.properties[{key}]"
        if key in keys[:at]:
            yield invalid(f"{path}.x-kubernetes-list-map-keys", keys, "must not contain duplicate entries")
        if key not in fields:
            yield invalid(f"{path}.x-kubernetes-list-map-keys", keys, "entries must all be names of item properties")
            continue
        if fields[key].get("type") in ("array", "object"):
            yield invalid(f"{field}.type", items["type"],
                          "must be a scalar type if parent array's x-kubernetes-list-type is map")
        if key not in (items.get("required") or ()) and "default" not in fields[key]:
            yield required(f"{field}.default", "this property is in x-kubernetes-list-map-keys, so it must have a "
                                               "default or be a required property")
        if fields[key].get("nullable"):
            yield forbidden(f"{field}.nullable", "this property is in x-kubernetes-list-map-keys, so it cannot be "
                                                 "nullable")
