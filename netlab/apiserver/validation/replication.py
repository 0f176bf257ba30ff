"""ReplicationControllers (core/validation)."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.api.meta import Object
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, listed, required, unsupported
from netlab.apiserver.validation.pods import pod_template
from netlab.apiserver.validation.resources import NEGATIVE

_COUNTS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")


def controller(spec: Object, path: str) -> Iterator[FieldError]:
    """Check a ReplicationControllerSpec: the template has the selector's labels, and Pods that always restart."""
    selector, template = spec.get("selector") or {}, spec.get("template")
    if spec.get("minReadySeconds", 0) < 0:
        yield invalid(f"{path}.minReadySeconds", spec["minReadySeconds"], NEGATIVE)
    if not selector:
        yield required(f"{path}.selector")
    if spec.get("replicas", 0) < 0:
        yield invalid(f"{path}.replicas", spec["replicas"], NEGATIVE)
    if template is None:
        yield required(f"{path}.template")
        return
    labels = (template.get("metadata") or {}).get("labels") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        yield invalid(
            f"{path}.template.metadata.labels",
            listed((template.get("metadata") or {}).get("labels")),
            "`selector` does not match template `labels`",
        )
    yield from pod_template(template, f"{path}.template")
    inner = template.get("spec") or {}
    policy = inner.get("restartPolicy", "")
    if policy != "Always":
        yield unsupported(f"{path}.template.spec.restartPolicy", policy, ("Always",))
    if inner.get("activeDeadlineSeconds") is not None:
        yield forbidden(
            f"{path}.template.spec.activeDeadlineSeconds",
            "activeDeadlineSeconds in ReplicationController is not Supported",
        )


def status(found: Object) -> Iterator[FieldError]:
    """Check that the counts of a status fit each other."""
    for part in _COUNTS:
        if found.get(part, 0) < 0:
            yield invalid(f"status.{part}", found[part], NEGATIVE)
    for part in _COUNTS[1:4]:
        if found.get(part, 0) > found.get("replicas", 0):
            yield invalid(f"status.{part}", found.get(part, 0), "cannot be greater than status.replicas")
    available = found.get("availableReplicas", 0)
    if available > found.get("readyReplicas", 0):
        yield invalid("status.availableReplicas", available, "cannot be greater than readyReplicas")
