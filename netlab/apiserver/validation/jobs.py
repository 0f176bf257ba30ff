"""Jobs and CronJobs (k8s.io/kubernetes/pkg/apis/batch/validation)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import indexes, meta, names, schedules
from netlab.apiserver.validation.amounts import counts
from netlab.apiserver.validation.apps import template_labels
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    invalid,
    not_supported,
    required,
    too_long,
    too_many,
    unsupported,
    without_value,
    wrong,
)
from netlab.apiserver.validation.pods import pod_template
from netlab.apiserver.validation.selectors import label_selector

UID_LABEL, NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
OLD_UID_LABEL, OLD_NAME_LABEL = "controller-uid", "job-name"

_COUNTS = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
           "backoffLimitPerIndex", "maxFailedIndexes")
_IMMUTABLE = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
_INDEXED_LIMIT = 100_000
_MANY, _LIMIT_OF_MANY = 100_000, 10_000
"""Above so many completions with a backoff limit per index, other limits are lower."""
_MANAGER_LIMIT = 63
_RULES, _CODES, _PATTERNS = 20, 255, 20
_INDEX_TEXT_LIMIT = 64 * 1024
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATES = ("False", "True", "Unknown")
_NAME_LIMIT = 52
"""A CronJob's name: its Jobs get eleven characters more, and 63 are the limit."""
_ZONE_PART = re.compile(r"[A-Za-z._0-9+-]{1,14}\Z")


def job(obj: Object) -> list[FieldError]:
    """Check a Job but for its metadata."""
    spec = obj["spec"]
    errors = _generated(obj)
    errors += job_spec(spec, "spec")
    errors += [required("spec.selector")] if spec.get("selector") is None else \
        list(label_selector(spec["selector"], "spec.selector"))
    errors += template_labels(spec, "spec")
    most = spec.get("completions") or 0
    if spec.get("completionMode") == "Indexed" and most > 0:
        name = obj["metadata"].get("name", "")
        host = f"{name}-{most - 1}"
        if names.dns_label(host):
            errors.append(invalid("metadata.name", name, f"will not able to create pod with invalid DNS label: {host}"))
    return errors


def job_spec(spec: Object, path: str) -> list[FieldError]:
    """Check a JobSpec but for its selector, which a CronJob's template has not."""
    errors = counts(spec, _COUNTS, path)
    per_index, failed = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    if failed is not None and per_index is None:
        errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if (manager := spec.get("managedBy")) is not None:
        errors += meta.domain_prefixed(f"{path}.managedBy", manager)
        if len(manager) > _MANAGER_LIMIT:
            errors.append(too_long(f"{path}.managedBy", _MANAGER_LIMIT))
    mode = spec.get("completionMode")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        errors.append(unsupported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        errors += _indexed(spec, path)
    elif mode in (None, "NonIndexed"):
        errors += [invalid(f"{path}.{part}", value, "requires indexed completion mode")
                   for part, value in (("backoffLimitPerIndex", per_index), ("maxFailedIndexes", failed))
                   if value is not None]
    failure, success = spec.get("podFailurePolicy"), spec.get("successPolicy")
    if failure is not None:
        errors += _failure_policy(failure, spec, f"{path}.podFailurePolicy")
    if success is not None:
        errors += [invalid(f"{path}.successPolicy", success, "requires indexed completion mode")] \
            if mode != "Indexed" else _success_policy(success, spec.get("completions") or 0, f"{path}.successPolicy")
    replacement = spec.get("podReplacementPolicy")
    allowed = ("Failed",) if failure is not None else ("Failed", "TerminatingOrFailed")
    if replacement is not None and replacement not in allowed:
        errors.append(not_supported(f"{path}.podReplacementPolicy", replacement, allowed))
    errors += pod_template(spec.get("template") or {}, f"{path}.template")
    return errors + _restart_policy(spec, f"{path}.template.spec.restartPolicy")


def job_update(obj: Object, old: Object) -> list[FieldError]:
    """Check what of a Job may not change."""
    spec, before = obj["spec"], old["spec"]
    wanted, was = spec.get("completions"), before.get("completions")
    errors: list[FieldError] = []
    if spec.get("completionMode") != "Indexed":
        errors += meta.immutable(wanted, was, "spec.completions")
    elif wanted not in (was, None) and wanted != spec.get("parallelism"):
        errors.append(invalid("spec.completions", wanted, "can only be modified in tandem with spec.parallelism"))
    errors += meta.immutable(spec.get("selector"), before.get("selector"), "spec.selector")
    errors += meta.immutable(spec.get("template"), _movable(spec["template"], old), "spec.template")
    for part in _IMMUTABLE:
        errors += meta.immutable(spec.get(part), before.get(part), f"spec.{part}")
    return errors


def cronjob(obj: Object, old: Object | None = None) -> list[FieldError]:
    """Check a CronJob but for its metadata; `old` is what it was before a change."""
    spec, path, before = obj["spec"], "spec", (old or {}).get("spec") or {}
    errors: list[FieldError] = []
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not schedule:
        errors.append(required(f"{path}.schedule"))
    else:
        errors += _schedule(schedule, zone, had_zone="TZ" in (before.get("schedule") or ""), path=f"{path}.schedule")
    errors += counts(spec, ("startingDeadlineSeconds",), path)
    if zone is not None and (old is None or zone != before.get("timeZone")):
        errors += _zone(zone, f"{path}.timeZone")
    policy = spec.get("concurrencyPolicy")
    if policy not in ("Allow", "Forbid", "Replace"):
        errors.append(not_supported(f"{path}.concurrencyPolicy", policy, ("Allow", "Forbid", "Replace")))
    inner, at = (spec.get("jobTemplate") or {}).get("spec") or {}, f"{path}.jobTemplate.spec"
    errors += job_spec(inner, at)
    if inner.get("selector") is not None:
        errors.append(invalid(f"{at}.selector", inner["selector"], "`selector` will be auto-generated"))
    if inner.get("manualSelector"):
        errors.append(unsupported(f"{at}.manualSelector", value=True, supported=("nil", "false")))
    errors += counts(spec, ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"), path)
    name = obj["metadata"].get("name", "")
    if old is None and len(name) > _NAME_LIMIT:
        errors.append(invalid("metadata.name", name, f"must be no more than {_NAME_LIMIT} characters"))
    return errors


def _generated(obj: Object) -> list[FieldError]:
    """Check that labels and selector are those that the server makes, unless the user makes them."""
    spec, uid, name = obj["spec"], obj["metadata"].get("uid", ""), obj["metadata"].get("name", "")
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    wanted = {OLD_UID_LABEL: uid, OLD_NAME_LABEL: name, UID_LABEL: uid, NAME_LABEL: name}
    errors: list[FieldError] = []
    for key, value in wanted.items():
        field = f"spec.template.metadata.labels[{key}]"
        if key not in labels:
            errors.append(required(field, f"must be '{value}'"))
        elif labels[key] != value:
            errors.append(invalid(field, labels[key], f"must be '{value}'"))
    if template_labels({"selector": spec["selector"], "template": {"metadata": {"labels": wanted}}}, "spec"):
        errors.append(invalid("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return errors


def _indexed(spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    failed, per_index = spec.get("maxFailedIndexes"), spec.get("backoffLimitPerIndex")
    if completions is None:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if parallelism > _INDEXED_LIMIT:
        errors.append(invalid(f"{path}.parallelism", parallelism,
                              f"must be less than or equal to {_INDEXED_LIMIT} when completion mode is Indexed"))
    if completions is not None and failed is not None and failed > completions:
        errors.append(invalid(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
    if failed is not None and failed > _INDEXED_LIMIT:
        errors.append(invalid(f"{path}.maxFailedIndexes", failed, f"must be less than or equal to {_INDEXED_LIMIT}"))
    if completions is None or completions <= _MANY or per_index is None:
        return errors
    if failed is None:
        errors.append(required(f"{path}.maxFailedIndexes", f"must be specified when completions is above {_MANY}"))
    said = (f"must be less than or equal to {_LIMIT_OF_MANY} when completions are above {_MANY} and used with backoff "
            "limit per index")
    errors += [invalid(f"{path}.{part}", value, said) for part, value in
               (("parallelism", parallelism), ("maxFailedIndexes", failed or 0)) if value > _LIMIT_OF_MANY]
    return errors


def _restart_policy(spec: Object, path: str) -> list[FieldError]:
    policy = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy") or "Always"
    if policy == "Always":  # what a template gets that says nothing
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [unsupported(path, policy, ("OnFailure", "Never"))]
    if policy != "Never" and spec.get("podFailurePolicy") is not None:
        return [invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def _failure_policy(policy: Object, spec: Object, path: str) -> list[FieldError]:
    rules = policy.get("rules") or []
    errors = [too_many(f"{path}.rules", len(rules), _RULES)] if len(rules) > _RULES else []
    inner = (spec.get("template") or {}).get("spec") or {}
    containers = {one.get("name") for part in ("containers", "initContainers") for one in inner.get(part) or []}
    for at, rule in enumerate(rules):
        field = f"{path}.rules[{at}]"
        action, codes, conditions = rule.get("action", ""), rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if action == "FailIndex":
            if spec.get("backoffLimitPerIndex") is None:
                errors.append(invalid(f"{field}.action", action, "requires the backoffLimitPerIndex to be set"))
        else:
            errors += _one_of(action, _ACTIONS, f"{field}.action")
        if codes is not None:
            errors += _exit_codes(codes, containers, f"{field}.onExitCodes")
        errors += _conditions(conditions, f"{field}.onPodConditions")
        if codes is not None and conditions:
            errors.append(without_value(field, "specifying both OnExitCodes and OnPodConditions is not supported"))
        elif codes is None and not conditions:
            errors.append(without_value(field, "specifying one of OnExitCodes and OnPodConditions is required"))
    return errors


def _one_of(value: str, known: Collection[str], path: str) -> list[FieldError]:
    if not value:
        return [required(path, "valid values: [" + " ".join(f'"{word}"' for word in known) + "]")]
    return [] if value in known else [not_supported(path, value, known)]


def _exit_codes(rule: Object, containers: Collection[Any], path: str) -> list[FieldError]:
    errors = _one_of(rule.get("operator", ""), _OPERATORS, f"{path}.operator")
    container, values = rule.get("containerName"), rule.get("values") or []
    if container is not None and container not in containers:
        errors.append(invalid(f"{path}.containerName", container,
                              "must be one of the container or initContainer names in the pod template"))
    if not values:
        errors.append(invalid(f"{path}.values", rule.get("values"), "at least one value is required"))
    elif len(values) > _CODES:
        errors.append(too_many(f"{path}.values", len(values), _CODES))
    for at, code in enumerate(values):
        if code == 0 and rule.get("operator") == "In":
            errors.append(invalid(f"{path}.values[{at}]", code, "must not be 0 for the In operator"))
        if code in values[:at]:
            errors.append(duplicate(f"{path}.values[{at}]", code))
    if values != sorted(values):
        errors.append(invalid(f"{path}.values", values, "must be ordered"))
    return errors


def _conditions(patterns: list[Object], path: str) -> list[FieldError]:
    errors = [too_many(path, len(patterns), _PATTERNS)] if len(patterns) > _PATTERNS else []
    for at, pattern in enumerate(patterns):
        kind = pattern.get("type", "")
        errors += wrong(f"{path}[{at}].type", kind, names.qualified_name(kind))
        errors += _one_of(pattern.get("status", ""), _STATES, f"{path}[{at}].status")
    return errors


def _success_policy(policy: Object, completions: int, path: str) -> list[FieldError]:
    rules = policy.get("rules") or []
    errors: list[FieldError] = []
    if not rules:
        errors.append(required(f"{path}.rules",
                               "at least one rules must be specified when the successPolicy is specified"))
    if len(rules) > _RULES:
        errors.append(too_many(f"{path}.rules", len(rules), _RULES))
    for at, rule in enumerate(rules):
        errors += _success_rule(rule, completions, f"{path}.rules[{at}]")
    return errors


def _success_rule(rule: Object, completions: int, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    count, text = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and text is None:
        errors.append(required(path, "at least one of succeededCount or succeededIndexes must be specified"))
    total = 0
    if text is not None:
        if len(text) > _INDEX_TEXT_LIMIT:
            errors.append(too_long(f"{path}.succeededIndexes", _INDEX_TEXT_LIMIT))
        try:
            total = sum(last - first + 1 for first, last in indexes.intervals(text, completions))
        except ValueError as error:
            errors.append(invalid(f"{path}.succeededIndexes", text, f"error parsing succeededIndexes: {error}"))
    if count is not None:
        errors += counts(rule, ("succeededCount",), path)
        if count > completions:
            errors.append(invalid(f"{path}.succeededCount", count, f"must be less than or equal to {completions} (the "
                                  "number of specified completions)"))
        if text is not None and count > total:
            errors.append(invalid(f"{path}.succeededCount", count, f"must be less than or equal to {total} (the number "
                                  "of indexes in the specified succeededIndexes field)"))
    return errors


def _movable(template: Object, old: Object) -> Object:
    """Return the template of before with what may change of it taken from the new one.

    A Job that is suspended, and whose Pods are gone or never were, may be placed anew: where it may run, labels and
    annotations (KEP-2926), and what it asks for (KEP-5440).
    """
    before: Object = old["spec"]["template"]
    status = old.get("status") or {}
    stopped = _true(status, "Suspended") and not status.get("active")
    if not old["spec"].get("suspend") or not (stopped or not status.get("startTime")):
        return before
    spec, inner = template.get("spec") or {}, dict(before.get("spec") or {})
    _take(inner, spec, ("nodeSelector", "tolerations", "schedulingGates"))
    affinity = dict(inner.get("affinity") or {})
    _take(affinity, spec.get("affinity") or {}, ("nodeAffinity",))
    if affinity or spec.get("affinity") is not None:
        inner["affinity"] = affinity
    else:
        inner.pop("affinity", None)
    for part in ("containers", "initContainers"):
        new, kept = spec.get(part) or [], inner.get(part) or []
        if kept and len(new) == len(kept):
            inner[part] = [_taken(mine, theirs, ("resources",)) for mine, theirs in zip(kept, new, strict=True)]
    metadata = _taken(before.get("metadata") or {}, template.get("metadata") or {}, ("labels", "annotations"))
    made = {**before, "spec": inner}
    if "metadata" in before or "metadata" in template:
        made["metadata"] = metadata
    return made


def _taken(mine: Object, theirs: Object, parts: Collection[str]) -> Object:
    made = dict(mine)
    _take(made, theirs, parts)
    return made


def _take(mine: Object, theirs: Object, parts: Collection[str]) -> None:
    for part in parts:
        if part in theirs:
            mine[part] = theirs[part]
        else:
            mine.pop(part, None)


def _true(status: Object, kind: str) -> bool:
    return any(one.get("type") == kind and one.get("status") == "True" for one in status.get("conditions") or [])


def _schedule(schedule: str, zone: str | None, *, had_zone: bool, path: str) -> list[FieldError]:
    said = schedules.complaint(schedule)
    errors = [invalid(path, schedule, said)] if said else []
    if "TZ" in schedule and not had_zone:
        errors.append(invalid(path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
    elif "TZ" in schedule and zone is not None:
        errors.append(invalid(path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
    return errors


def _zone(zone: str, path: str) -> list[FieldError]:
    if not zone:
        return [invalid(path, zone, "timeZone must be nil or non-empty string")]
    unknown = invalid(path, zone, f"unknown time zone {zone}")
    if any(part in (".", "..") or part.startswith("-") or not _ZONE_PART.match(part) for part in zone.split("/")):
        return [unknown]
    errors = [invalid(path, zone, "timeZone must be an explicit time zone as defined in "
                      "https://www.iana.org/time-zones")] if zone.lower() == "local" else []
    if zone == "Local":
        return errors
    import zoneinfo  # half a megabyte, for those who ask for one

    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        errors.append(unknown)
    return errors
