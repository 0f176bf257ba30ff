"""PodSecurity: a namespace's labels say which Pod Security Standard its Pods must keep to.

https://kubernetes.io/docs/concepts/security/pod-security-admission/
"""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission import pod_standards
from netlab.apiserver.admission.base import Attempt, Step

_LABEL = "pod-security.kubernetes.io/"
_TEMPLATES = {"Deployment": ("spec", "template"), "ReplicaSet": ("spec", "template"), "DaemonSet": ("spec", "template"),
              "StatefulSet": ("spec", "template"), "Job": ("spec", "template"), "PodTemplate": ("template",),
              "ReplicationController": ("spec", "template"), "CronJob": ("spec", "jobTemplate", "spec", "template")}


class PodSecurity(Step):
    """Upstream's plugin of the same name."""

    name = "PodSecurity"
    kinds = frozenset(("Pod", *_TEMPLATES))

    async def validate(self, attempt: Attempt) -> None:
        """Refuse Pods, and warn of Pods and templates, that violate the namespace's levels."""
        if attempt.operation not in ("CREATE", "UPDATE") or not attempt.namespace:
            return
        if attempt.resource.kind == "Pod" and not attempt.resource.group:
            if attempt.subresource in ("", "ephemeralcontainers") and not (
                    attempt.operation == "UPDATE" and _same(attempt.obj, attempt.old)):
                await self._judge(attempt, attempt.obj, enforced=True)
        elif attempt.resource.kind in _TEMPLATES and not attempt.subresource:
            template: Any = attempt.obj
            for part in _TEMPLATES[attempt.resource.kind]:
                template = (template or {}).get(part)
            if template and template.get("spec"):
                await self._judge(attempt, template, enforced=False)

    async def _judge(self, attempt: Attempt, pod: Object, *, enforced: bool) -> None:
        namespace = await attempt.call.api.lookup("namespaces", "", attempt.namespace)
        labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
        for mode in ("enforce", "warn"):
            level = labels.get(_LABEL + mode, "privileged")
            if level not in pod_standards.LEVELS:
                level = "restricted"  # who mistyped a level wanted some
            found = pod_standards.violations(pod.get("metadata") or {}, pod["spec"], level)
            if not found:
                continue
            policy = f'{level}:{labels.get(f"{_LABEL}{mode}-version", "latest")}'
            if mode == "warn":
                attempt.call.request.warnings.append(
                    f'would violate PodSecurity "{policy}": {pod_standards.said(found)}')
            elif enforced:
                raise status.forbidden(attempt.resource, attempt.name or pod["metadata"].get("name", ""),
                                       f'violates PodSecurity "{policy}": {pod_standards.said(found)}')


def _same(new: Object, old: Object | None) -> bool:
    """Tell whether an update leaves alone what the standards look at: all but images, tolerations and metadata."""
    def shape(pod: Object) -> Any:
        spec = {key: value for key, value in (pod.get("spec") or {}).items() if key not in (
            "tolerations", "activeDeadlineSeconds", "nodeName")}
        for part in ("containers", "initContainers"):
            spec[part] = [{key: value for key, value in container.items() if key not in ("image", "resources")}
                          for container in spec.get(part) or ()]
        return spec
    return old is not None and shape(new) == shape(old)
