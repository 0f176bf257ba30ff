"""Definitions themselves: defaults, and what is wrong with one (pkg/apis/apiextensions/validation)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.crd import places, schema_checks
from netlab.apiserver.crd.structural import PRESERVE
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    listed,
    not_supported,
    required,
    too_many,
    unsupported,
)
from netlab.apiserver.validation.registration import client_config, review_versions

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_MOST_SELECTABLE = 8
_AT_THE_ROOT = ("description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum",
                "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required",
                "items", "properties", "externalDocs", "example", PRESERVE, "x-kubernetes-validations")
"""What the root of a schema may say when its status has a schema of its own."""
_PROTECTED = re.compile(r"(^|\.)(k8s|kubernetes)\.io$")
_APPROVED = "api-approved.kubernetes.io"
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
            yield required(f"spec.versions[{at}].schema.openAPIV3Schema")
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
        if not _same(versions, "selectableFields"):
            yield from _selectable(version, f"{path}.selectableFields")
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
    if _same(versions, "selectableFields"):
        yield from _selectable(versions[0], "spec.selectableFields")


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
    elif status and (other := next((word for word in schema if word not in _AT_THE_ROOT and schema[word]), "")):
        yield forbidden(f"{path}.openAPIV3Schema.{other}", "is not allowed at the root of the schema if the status "
                                                           "subresource is enabled")
    yield from schema_checks.check(schema, f"{path}.openAPIV3Schema")


def _stored(spec: Object) -> Iterator[FieldError]:
    """Check that there is a version to store: what is said when there is not exactly one."""
    stored = [version for version in spec.get("versions") or [] if version.get("storage")]
    if not stored:
        yield invalid("status.storedVersions", listed(None), "must have at least one stored version")
    for version in stored[1:]:
        yield invalid("status.storedVersions", [stored[0].get("name", "")],
                      f"must have the storage version {version.get('name', '')}")


def _columns(found: list[Any], path: str) -> Iterator[FieldError]:
    for at, column in enumerate(found):
        field = f"{path}[{at}]"
        if not column.get("name"):
            yield required(f"{field}.name")
        if not column.get("type"):
            yield required(f"{field}.type", f"must be one of {','.join(_COLUMN_TYPES)}")
        elif column["type"] not in _COLUMN_TYPES:
            yield invalid(f"{field}.type", column["type"], f"must be one of {','.join(_COLUMN_TYPES)}")
        if column.get("format") and column["format"] not in _COLUMN_FORMATS:
            yield invalid(f"{field}.format", column["format"], f"must be one of {','.join(_COLUMN_FORMATS)}")
        if not column.get("jsonPath"):
            yield required(f"{field}.JSONPath")
            continue
        if not column["jsonPath"].startswith("."):
            yield invalid(f"{field}.JSONPath", column["jsonPath"], _SIMPLE)


def _selectable(version: Object, path: str) -> Iterator[FieldError]:
    """Check by which fields of its own a kind can be selected: scalars that the schema has."""
    schema, seen = (version.get("schema") or {}).get("openAPIV3Schema"), set[tuple[str, ...]]()
    if version.get("selectableFields") and schema is None:
        yield invalid(path, "", "may only be set when validations.schema is included")
        return
    for at, entry in enumerate(version.get("selectableFields") or ()):
        field, text = f"{path}[{at}].jsonPath", entry.get("jsonPath", "")
        if not text:
            yield required(field)
            continue
        try:
            names_, part = places.find(text, schema or {}, brackets=False)
        except places.NoPlace as error:
            yield invalid(field, text, f"is an invalid path: {error}")
            continue
        if names_[0] == "metadata":
            yield invalid(field, text, "must not point to fields in metadata")
        if part.get("type") not in ("string", "boolean", "integer"):
            yield invalid(field, text, "must point to a field of type string, boolean or integer. Enum string fields "
                                       "and strings with formats are allowed.")
        if names_ in seen:
            yield duplicate(field, text)
        seen.add(names_)
    if len(seen) > _MOST_SELECTABLE:
        yield too_many(path, len(seen), _MOST_SELECTABLE)


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
