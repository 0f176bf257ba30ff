"""The kinds whose Pods come to an end: Job and CronJob."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.strategies.apps import WorkloadStrategy
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import job_status, names
from netlab.apiserver.validation import jobs as checks
from netlab.apiserver.validation import meta as meta_checks
from netlab.apiserver.validation.errors import FieldError


class JobStrategy(WorkloadStrategy):
    """Jobs: the server makes the selector from the Job's uid."""

    orphans = True
    orphans_warning = ("child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to "
                       "remove them or set propagationPolicy=Orphan to suppress this warning")

    def default(self, obj: Object) -> None:
        """Fill in the spec; the template's labels stand in for the Job's."""
        super().default(obj)
        labels = (obj["spec"]["template"].get("metadata") or {}).get("labels")
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)

    def default_spec(self, spec: Object) -> None:
        """One completion, one at a time, six retries."""
        if spec.get("completions") is None and spec.get("parallelism") is None:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", 2147483647 if spec.get("backoffLimitPerIndex") is not None else 6)
        spec.setdefault("completionMode", "NonIndexed")
        spec.setdefault("suspend", False)
        spec.setdefault("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
        spec.setdefault("manualSelector", False)
        _conditions(spec)

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status; make selector and template labels of the Job's uid, but for those given."""
        super().prepare_create(obj)
        spec, uid, name = obj["spec"], obj["metadata"].get("uid", ""), obj["metadata"].get("name", "")
        if spec.get("manualSelector"):
            return
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        own = obj["metadata"].get("labels")
        shared = own and own == labels  # upstream's defaulting makes one map of both
        for key, value in ((checks.UID_LABEL, uid), (checks.OLD_UID_LABEL, uid), (checks.NAME_LABEL, name),
                           (checks.OLD_NAME_LABEL, name)):
            labels.setdefault(key, value)
        if shared:
            obj["metadata"]["labels"] = dict(labels)
        spec.setdefault("selector", {}).setdefault("matchLabels", {}).setdefault(checks.UID_LABEL, uid)

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the Job."""
        return [*super().validate(obj), *checks.job(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the Job; most of it stays."""
        return [*super().validate_update(obj, old), *checks.job_update(obj, old)]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check how the Job goes on."""
        return [*super().validate_status(obj, old), *job_status.job_status(obj, old)]

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:  # noqa: ARG002 - as for new ones
        """Return what is unwise: a name that no Pod's host name can be made of."""
        return _surprising(obj)


class CronJobStrategy(Strategy):
    """CronJobs."""

    generation = True
    status_keeps_labels = True

    def default(self, obj: Object) -> None:
        """Overlapping runs are fine; three good and one failed Job are kept."""
        spec = obj.setdefault("spec", {})
        for name, value in (("concurrencyPolicy", "Allow"), ("suspend", False), ("successfulJobsHistoryLimit", 3),
                            ("failedJobsHistoryLimit", 1)):
            spec.setdefault(name, value)
        inner = spec.setdefault("jobTemplate", {}).setdefault("spec", {})
        pod_defaults.pod_template(inner.setdefault("template", {}))
        _conditions(inner)

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status."""
        obj["status"] = {}

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status."""
        obj["status"] = old.get("status", {})

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the CronJob."""
        return [*super().validate(obj), *checks.cronjob(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the CronJob; what it was before decides whether a zone may stand in its schedule."""
        return [*meta_checks.object_meta_update(obj["metadata"], old["metadata"]), *checks.cronjob(obj, old)]

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:  # noqa: ARG002 - as for new ones
        """Return what is unwise: such a name, a zone in the schedule."""
        zoned = "TZ" in (obj.get("spec") or {}).get("schedule", "")
        return _surprising(obj) + (["cannot use TZ or CRON_TZ in spec.schedule, use timeZone field instead"]
                                   if zoned else [])


def _conditions(spec: Object) -> None:
    """A condition of a Pod that a failure policy looks for is a true one, unless it says so."""
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or []:
        for pattern in rule.get("onPodConditions") or []:
            pattern.setdefault("status", "True")


def _surprising(obj: Object) -> list[str]:
    said = names.dns_label(obj["metadata"].get("name", ""))
    advice = "which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: this is used in Pod names and hostnames, {advice}: [{' '.join(said)}]"] if said else []
