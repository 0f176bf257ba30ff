"""The kinds that make Pods: Deployment, ReplicaSet, DaemonSet, StatefulSet, ReplicationController, Job, CronJob."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import apps as checks
from netlab.apiserver.validation.errors import FieldError


class WorkloadStrategy(Strategy):
    """What they share: a template, a selector that never changes, a generation."""

    generation = True
    status_keeps_labels = True

    def default(self, obj: Object) -> None:
        """Fill in the spec and its template."""
        spec = obj.setdefault("spec", {})
        pod_defaults.pod_template(spec.setdefault("template", {}))
        self.default_spec(spec)

    def default_spec(self, spec: Object) -> None:
        """Fill in what is the kind's own."""

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status."""
        obj["status"] = {}

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status."""
        obj["status"] = old.get("status", {})


class DeploymentStrategy(WorkloadStrategy):
    """Deployments."""

    def default_spec(self, spec: Object) -> None:
        """One replica, rolling by a quarter, ten old revisions, ten minutes to progress."""
        spec.setdefault("replicas", 1)
        strategy = spec.setdefault("strategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("progressDeadlineSeconds", 600)

    def changed(self, obj: Object, old: Object) -> bool:
        """Annotations count, too: the rollout's revision lives there."""
        return super().changed(obj, old) or obj["metadata"].get("annotations") != old["metadata"].get("annotations")

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the Deployment."""
        return [*super().validate(obj), *checks.deployment(obj["spec"], "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the Deployment; the selector stays."""
        return [*super().validate_update(obj, old), *checks.selector_update(obj, old)]


class ReplicaSetStrategy(WorkloadStrategy):
    """ReplicaSets."""

    def default_spec(self, spec: Object) -> None:
        """One replica."""
        spec.setdefault("replicas", 1)

    def prepare_create(self, obj: Object) -> None:
        """Start with no replicas."""
        obj["status"] = {"replicas": 0}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the ReplicaSet."""
        return [*super().validate(obj), *checks.replicaset(obj["spec"], "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the ReplicaSet; the selector stays."""
        return [*super().validate_update(obj, old), *checks.selector_update(obj, old)]


class ReplicationControllerStrategy(WorkloadStrategy):
    """ReplicationControllers: the selector is a map, and the template's labels stand in for it."""

    def default(self, obj: Object) -> None:
        """One replica; labels and selector from the template."""
        super().default(obj)
        spec = obj["spec"]
        spec.setdefault("replicas", 1)
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        if labels and not spec.get("selector"):
            spec["selector"] = dict(labels)
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)

    def prepare_create(self, obj: Object) -> None:
        """Start with no replicas."""
        obj["status"] = {"replicas": 0}


class DaemonSetStrategy(WorkloadStrategy):
    """DaemonSets."""

    def default_spec(self, spec: Object) -> None:
        """Roll one node at a time, ten old revisions."""
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", 10)

    def prepare_create(self, obj: Object) -> None:
        """Start with nothing scheduled."""
        obj["status"] = {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0,
                         "numberReady": 0}
        obj["metadata"].setdefault("annotations", {})["deprecated.daemonset.template.generation"] = "1"

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the DaemonSet."""
        return [*super().validate(obj), *checks.daemonset(obj["spec"], "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the DaemonSet; the selector stays."""
        return [*super().validate_update(obj, old), *checks.selector_update(obj, old)]

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Count the template's generations in the annotation, as upstream still does."""
        super().prepare_update(obj, old)
        key = "deprecated.daemonset.template.generation"
        before = int((old["metadata"].get("annotations") or {}).get(key) or 1)
        after = before + (obj["spec"].get("template") != old["spec"].get("template"))
        obj["metadata"].setdefault("annotations", {})[key] = str(after)


class StatefulSetStrategy(WorkloadStrategy):
    """StatefulSets."""

    def default_spec(self, spec: Object) -> None:
        """One replica, in order, rolling, ten old revisions, claims kept."""
        if not spec.get("podManagementPolicy"):
            spec["podManagementPolicy"] = "OrderedReady"
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", 10)
        retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        retention.setdefault("whenDeleted", "Retain")
        retention.setdefault("whenScaled", "Retain")
        for claim in spec.get("volumeClaimTemplates") or []:
            claim.setdefault("apiVersion", "v1")
            claim.setdefault("kind", "PersistentVolumeClaim")
            claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
            claim.setdefault("status", {}).setdefault("phase", "Pending")

    def prepare_create(self, obj: Object) -> None:
        """Start with no replicas."""
        obj["status"] = {"replicas": 0, "availableReplicas": 0}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the StatefulSet."""
        return [*super().validate(obj), *checks.statefulset(obj["spec"], "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the StatefulSet; the selector stays."""
        return [*super().validate_update(obj, old), *checks.selector_update(obj, old)]


class JobStrategy(WorkloadStrategy):
    """Jobs: the server makes the selector from the Job's uid."""

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

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status; make selector and template labels of the Job's uid."""
        super().prepare_create(obj)
        spec, uid, name = obj["spec"], obj["metadata"].get("uid", ""), obj["metadata"].get("name", "")
        if spec.get("manualSelector"):
            return
        labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
        labels |= {"batch.kubernetes.io/controller-uid": uid, "controller-uid": uid,
                   "batch.kubernetes.io/job-name": name, "job-name": name}
        spec.setdefault("selector", {}).setdefault("matchLabels", {})["batch.kubernetes.io/controller-uid"] = uid

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the Job."""
        return [*super().validate(obj), *checks.job(obj["spec"], "spec")]


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
        template = spec.setdefault("jobTemplate", {}).setdefault("spec", {}).setdefault("template", {})
        pod_defaults.pod_template(template)

    def prepare_create(self, obj: Object) -> None:
        """Start with an empty status."""
        obj["status"] = {}

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep the status."""
        obj["status"] = old.get("status", {})

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the CronJob."""
        return [*super().validate(obj), *checks.cronjob(obj["spec"], "spec")]
