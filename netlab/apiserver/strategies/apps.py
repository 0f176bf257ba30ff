"""The kinds whose Pods run on: Deployment, ReplicaSet, DaemonSet, StatefulSet, ReplicationController."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver.strategies import pod_defaults
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import apps as checks
from netlab.apiserver.validation import meta as meta_checks
from netlab.apiserver.validation import names, replication
from netlab.apiserver.validation.errors import FieldError


class WorkloadStrategy(Strategy):
    """What they share with Jobs: a template, a selector that never changes, a generation."""

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


class LastingStrategy(WorkloadStrategy):
    """What those of the apps group share: counts in their status."""

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the counts."""
        return [*super().validate_status(obj, old), *checks.status(self.resource.kind, obj, old)]


class DeploymentStrategy(LastingStrategy):
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


class ReplicaSetStrategy(LastingStrategy):
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

    orphans = True

    def default(self, obj: Object) -> None:
        """One replica; labels and selector from the template."""
        spec = obj.setdefault("spec", {})
        if spec.get("template") is not None:
            super().default(obj)
        spec.setdefault("replicas", 1)
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if labels and not spec.get("selector"):
            spec["selector"] = dict(labels)
        if labels and not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(labels)

    def prepare_create(self, obj: Object) -> None:
        """Start with no replicas."""
        obj["status"] = {"replicas": 0}

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the controller."""
        return [*super().validate(obj), *replication.controller(obj["spec"], "spec")]

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the counts fit each other."""
        return [*super().validate_status(obj, old), *replication.status(obj.get("status") or {})]


class DaemonSetStrategy(LastingStrategy):
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


class StatefulSetStrategy(LastingStrategy):
    """StatefulSets."""

    def default_spec(self, spec: Object) -> None:
        """One replica, in order, rolling, ten old revisions, claims kept."""
        if not spec.get("podManagementPolicy"):
            spec["podManagementPolicy"] = "OrderedReady"
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("partition", 0)
            rolling.setdefault("maxUnavailable", 1)
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

    def name_form(self, name: str) -> list[str]:
        """A label, as its Pods' host names are."""
        return names.dns_label(name)

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the StatefulSet."""
        return [*super().validate(obj), *checks.statefulset(obj["spec"], "spec")]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check the StatefulSet; most of it stays."""
        return [*meta_checks.object_meta_update(obj["metadata"], old["metadata"]),
                *checks.statefulset(obj["spec"], "spec", new=False), *checks.statefulset_update(obj, old)]


class ControllerRevisionStrategy(Strategy):
    """ControllerRevisions: a picture of something, so it does not change."""

    def validate(self, obj: Object) -> list[FieldError]:
        """Check that there is a picture."""
        return [*super().validate(obj), *checks.revision(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that it stays."""
        return [*meta_checks.object_meta_update(obj["metadata"], old["metadata"]), *checks.revision(obj, old)]
