"""Admission webhooks and policies (k8s.io/kubernetes/pkg/apis/admissionregistration/validation)."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import urlsplit

from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    each_once,
    forbidden,
    invalid,
    not_supported,
    required,
    too_many,
    wrong,
)
from netlab.apiserver.validation.selectors import label_selector

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_FAILURE = ("Fail", "Ignore")
_MATCH = ("Equivalent", "Exact")
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_REINVOCATION = ("IfNeeded", "Never")
_ACTIONS = ("Audit", "Deny", "Warn")
_REVIEWS = ("v1", "v1beta1")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_PATCHES = ("ApplyConfiguration", "JSONPatch")

_MOST_CONDITIONS = 64


def webhooks(hooks: list[Any], path: str, *, mutating: bool) -> list[FieldError]:
    """Check the webhooks of a configuration; each name once."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, hook in enumerate(hooks):
        field, name = f"{path}[{at}]", hook.get("name", "")
        errors += _webhook(hook, field, mutating=mutating)
        if name and name in seen:
            errors.append(duplicate(f"{field}.name", name))
        seen.add(name)
    return errors


def _webhook(hook: Object, path: str, *, mutating: bool) -> list[FieldError]:
    errors = _full_name(hook.get("name", ""), f"{path}.name")
    versions = hook.get("admissionReviewVersions") or []
    errors += review_versions(versions, f"{path}.admissionReviewVersions")
    for at, rule in enumerate(hook.get("rules") or []):
        errors += _rule(rule, f"{path}.rules[{at}]")
    for part, allowed in (("failurePolicy", _FAILURE), ("matchPolicy", _MATCH), ("sideEffects", _SIDE_EFFECTS)):
        value = hook.get(part)
        if value is None:
            errors.append(required(f"{path}.{part}", f"must specify one of {', '.join(allowed)}"))
        elif value not in allowed:
            errors.append(not_supported(f"{path}.{part}", value, allowed))
    if mutating and hook.get("reinvocationPolicy") not in _REINVOCATION:
        errors.append(not_supported(f"{path}.reinvocationPolicy", hook.get("reinvocationPolicy"), _REINVOCATION))
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        errors.append(invalid(f"{path}.timeoutSeconds", seconds, "the timeout value must be between 1 and 30 seconds"))
    for part in ("namespaceSelector", "objectSelector"):
        errors += label_selector(hook.get(part), f"{path}.{part}")
    errors += client_config(hook.get("clientConfig") or {}, f"{path}.clientConfig")
    return errors + _conditions(hook.get("matchConditions") or [], f"{path}.matchConditions")


def review_versions(versions: list[str], path: str, hint: str = f"must specify one of {', '.join(_REVIEWS)}",
                    ) -> list[FieldError]:
    """Check which versions of its question a webhook understands; `hint` is told when there are none."""
    if not versions:
        return [required(path, hint)]
    errors: list[FieldError] = []
    for at, version in enumerate(versions):
        if version in versions[:at]:
            errors.append(invalid(f"{path}[{at}]", version, "duplicate version"))
        else:
            errors += wrong(f"{path}[{at}]", version, names.dns_1035_label(version))
    if not any(version in _REVIEWS for version in versions):
        errors.append(invalid(path, versions, f"must include at least one of {', '.join(_REVIEWS)}"))
    return errors


def client_config(config: Object, path: str) -> list[FieldError]:
    """Check how a webhook is reached: by a URL or by a Service, one of the two."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    if service is None:
        return _url(str(url), f"{path}.url")
    errors = [required(f"{path}.service.{said}") for part, said in (
        ("name", "namespace"), ("namespace", "name")) if not service.get(part)]  # upstream takes one for the other
    errors += [invalid(f"{path}.service.port", service.get("port", 443), f"port is not valid: {said}")
               for said in names.port_number(service.get("port", 443))]
    return errors + _url_path(service.get("path") or "", f"{path}.service.path")


def _url_path(text: str, path: str) -> list[FieldError]:
    """Check a Service's path: names of subdomains' form between slashes, the last of which may stay open."""
    if text in ("", "/"):
        return []
    if text == "//":
        return [invalid(path, text, "segment[0] may not be empty")]
    errors = [] if text.startswith("/") else [invalid(path, text, "must start with a '/'")]
    for at, step in enumerate(text[1:].removesuffix("/").split("/")):
        said = [f": {why}" for why in names.dns_subdomain(step)] if step else [" may not be empty"]
        errors += [invalid(path, text, f"segment[{at}]{why}") for why in said]
    return errors


def _url(text: str, path: str) -> list[FieldError]:
    form = "; desired format: https://host[/path]"
    escape = _ESCAPE.search(text)
    if escape is not None:
        said = f'parse "{text}": invalid URL escape "{escape.group()}"'
        return [required(path, f"url must be a valid URL: {said}{form}")]
    try:
        parts = urlsplit(text)
    except ValueError as error:
        return [required(path, f"url must be a valid URL: {error}{form}")]
    errors: list[FieldError] = []
    if parts.scheme != "https":
        errors.append(invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{form}"))
    if not parts.netloc:
        errors.append(invalid(path, parts.netloc, f"host must be provided{form}"))
    if parts.username is not None:
        errors.append(invalid(path, parts.username, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid(path, parts.query, "query parameters are not permitted in the URL"))
    return errors


def _full_name(name: str, path: str) -> list[FieldError]:
    if not name:
        return [required(path)]
    errors = [invalid(path, name, said) for said in names.dns_subdomain(name)]
    if not errors and len(name.split(".")) < 3:
        errors.append(invalid(path, name, "should be a domain with at least three segments separated by dots"))
    return errors


def _rule(rule: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    operations = rule.get("operations") or []
    if not operations:
        errors.append(required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        errors.append(invalid(f"{path}.operations", operations, "if '*' is present, must not specify other operations"))
    errors += [not_supported(f"{path}.operations[{at}]", operation, _OPERATIONS)
               for at, operation in enumerate(operations) if operation not in _OPERATIONS]
    for part in ("apiGroups", "apiVersions", "resources"):
        values = rule.get(part) or []
        if not values:
            errors.append(required(f"{path}.{part}"))
        if part != "resources" and len(values) > 1 and "*" in values:
            errors.append(invalid(f"{path}.{part}", values, f"if '*' is present, must not specify other "
                                  f"{'API groups' if part == 'apiGroups' else 'API versions'}"))
    scope = rule.get("scope")
    if scope is not None and scope not in _SCOPES:
        errors.append(not_supported(f"{path}.scope", scope, _SCOPES))
    return errors


def _conditions(conditions: list[Any], path: str) -> list[FieldError]:
    errors = [too_many(path, len(conditions), _MOST_CONDITIONS)] if len(conditions) > _MOST_CONDITIONS else []
    seen: set[str] = set()
    for at, condition in enumerate(conditions):
        field, name = f"{path}[{at}]", condition.get("name", "")
        if not name:
            errors.append(required(f"{field}.name"))
        else:
            errors += [invalid(f"{field}.name", name, said) for said in names.qualified_name(name)]
            if name in seen:
                errors.append(duplicate(f"{field}.name", name))
        seen.add(name)
        if not (condition.get("expression") or "").strip():
            errors.append(required(f"{field}.expression"))
    return errors


def policy(spec: Object, path: str, *, mutating: bool) -> list[FieldError]:
    """Check the spec of an admission policy (its CEL texts are compiled elsewhere)."""
    errors: list[FieldError] = []
    if spec.get("failurePolicy") not in _FAILURE:
        errors.append(not_supported(f"{path}.failurePolicy", spec.get("failurePolicy"), _FAILURE))
    kind = spec.get("paramKind")
    if kind is not None:
        errors += [required(f"{path}.paramKind.{part}") for part in ("apiVersion", "kind") if not kind.get(part)]
    match = spec.get("matchConstraints")
    if match is None:
        errors.append(required(f"{path}.matchConstraints"))
    else:
        errors += _resources(match, f"{path}.matchConstraints", rules_required=True)
    errors += _conditions(spec.get("matchConditions") or [], f"{path}.matchConditions")
    if mutating:
        return errors + _mutations(spec.get("mutations") or [], f"{path}.mutations")
    checks, notes = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not checks and not notes:
        errors.append(required(f"{path}.validations", "validations or auditAnnotations must contain at least one item"))
    for at, check in enumerate(checks):
        field = f"{path}.validations[{at}]"
        if not (check.get("expression") or "").strip():
            errors.append(required(f"{field}.expression", "expression is not specified"))
        message = check.get("message", "")
        if message and not message.strip():
            errors.append(invalid(f"{field}.message", message, "message must be non-empty if specified"))
        if "\n" in message:
            errors.append(invalid(f"{field}.message", message, "message must not contain line breaks"))
        if check.get("reason") is not None and check["reason"] not in _REASONS:
            errors.append(not_supported(f"{field}.reason", check["reason"], _REASONS))
    for at, note in enumerate(notes):
        field = f"{path}.auditAnnotations[{at}]"
        errors += [required(f"{field}.key")] if not note.get("key") else [
            invalid(f"{field}.key", note["key"], said) for said in names.qualified_name(note["key"])]
        if not (note.get("valueExpression") or "").strip():
            errors.append(required(f"{field}.valueExpression", "valueExpression is not specified"))
    return errors


def _mutations(found: list[Any], path: str) -> list[FieldError]:
    if not found:
        return [required(path, "mutations must contain at least one item")]
    errors: list[FieldError] = []
    for at, mutation in enumerate(found):
        kind = mutation.get("patchType", "")
        field = f"{path}[{at}]"
        if kind not in _PATCHES:
            errors.append(required(f"{field}.patchType") if not kind else
                          not_supported(f"{field}.patchType", kind, _PATCHES))
            continue
        part = "applyConfiguration" if kind == "ApplyConfiguration" else "jsonPatch"
        other = "jsonPatch" if part == "applyConfiguration" else "applyConfiguration"
        if not ((mutation.get(part) or {}).get("expression") or "").strip():
            errors.append(required(f"{field}.{part}.expression", f"must be specified when patchType is {kind}"))
        if mutation.get(other) is not None:
            errors.append(forbidden(f"{field}.{other}", f"must not be set when patchType is {kind}"))
    return errors


def _resources(match: Object, path: str, *, rules_required: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in ("namespaceSelector", "objectSelector"):
        if match.get(part) is None:
            errors.append(required(f"{path}.{part}"))
        else:
            errors += label_selector(match[part], f"{path}.{part}")
    if match.get("matchPolicy") not in _MATCH:
        errors.append(not_supported(f"{path}.matchPolicy", match.get("matchPolicy"), _MATCH))
    for part in ("resourceRules", "excludeResourceRules"):
        for at, rule in enumerate(match.get(part) or []):
            errors += _rule(rule, f"{path}.{part}[{at}]")
    if rules_required and not match.get("resourceRules"):
        errors.append(required(f"{path}.resourceRules"))
    return errors


def binding(spec: Object, path: str, *, mutating: bool) -> list[FieldError]:
    """Check the spec of a policy's binding."""
    errors: list[FieldError] = []
    if not spec.get("policyName"):
        errors.append(required(f"{path}.policyName"))
    else:
        errors += [invalid(f"{path}.policyName", spec["policyName"], said)
                   for said in names.dns_subdomain(spec["policyName"])]
    if spec.get("matchResources") is not None:
        errors += _resources(spec["matchResources"], f"{path}.matchResources", rules_required=False)
    reference = spec.get("paramRef")
    if reference is not None:
        name, chosen = reference.get("name"), reference.get("selector")
        if name and chosen is not None:
            errors.append(forbidden(f"{path}.paramRef.name", "name and selector are mutually exclusive"))
        elif not name and chosen is None:
            errors.append(required(f"{path}.paramRef", "one of name or selector must be specified"))
        missing = reference.get("parameterNotFoundAction")
        if missing is None:
            errors.append(required(f"{path}.paramRef.parameterNotFoundAction"))
        elif missing not in ("Allow", "Deny"):
            errors.append(not_supported(f"{path}.paramRef.parameterNotFoundAction", missing, ("Allow", "Deny")))
    if mutating:
        return errors
    actions = spec.get("validationActions") or []
    if not actions:
        errors.append(required(f"{path}.validationActions"))
    errors += each_once(f"{path}.validationActions", actions, _ACTIONS)
    if {"Deny", "Warn"} <= set(actions):
        errors.append(invalid(f"{path}.validationActions", actions, "must not contain both Deny and Warn (repeating "
                              "the same validation failure information in the API response and headers serves no "
                              "purpose)"))
    return errors


def api_service(spec: Object, name: str) -> list[FieldError]:
    """Check the spec of an APIService (k8s.io/kube-aggregator/pkg/apis/apiregistration/validation)."""
    group, version = spec.get("group", ""), spec.get("version", "")
    errors: list[FieldError] = []
    if name != f"{version}.{group}":
        errors.append(invalid("metadata.name", name, f"must be `spec.version+\".\"+spec.group`: "
                                                     f"\"{version}.{group}\""))
    errors += [invalid("spec.version", version, said) for said in names.dns_1035_label(version)]
    if group:
        errors += [invalid("spec.group", group, said) for said in names.dns_subdomain(group)]
    for field, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        value = spec.get(field, 0)
        if not 0 < value <= most:
            errors.append(invalid(f"spec.{field}", value, f"must be positive and less than {most}"))
    service = spec.get("service")
    if service is None:
        if spec.get("caBundle"):
            size = len(base64.b64decode(spec["caBundle"]))
            errors.append(invalid("spec.caBundle", f"{size} bytes", "local APIServices may not have a caBundle"))
        if spec.get("insecureSkipTLSVerify"):
            errors.append(invalid("spec.insecureSkipTLSVerify", True,
                                  "local APIServices may not have insecureSkipTLSVerify"))
        return errors
    errors += [required(f"spec.service.{field}") for field in ("namespace", "name") if not service.get(field)]
    errors += [invalid("spec.service.port", service.get("port", 443), f"port is not valid: {said}")
               for said in names.port_number(service.get("port", 443))]
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        errors.append(invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return errors
