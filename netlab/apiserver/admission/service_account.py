"""ServiceAccount: every Pod runs as one, and gets a token of it mounted (kube-api-access-…)."""

from __future__ import annotations

import random
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step

MIRROR = "kubernetes.io/config.mirror"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
"""An hour, and seven seconds by which kubelets tell that the admission chose it."""
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


class ServiceAccount(Step):
    """Upstream's plugin of the same name."""

    name = "ServiceAccount"
    kinds = frozenset(("Pod",))

    async def mutate(self, attempt: Attempt) -> None:
        """Name the account, take over its pull secrets, mount its token."""
        if attempt.operation != "CREATE" or attempt.resource.kind != "Pod" or attempt.subresource:
            return
        pod, spec = attempt.obj, attempt.obj["spec"]
        if MIRROR in (pod["metadata"].get("annotations") or {}):
            self._check_mirror(attempt)
            return
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = spec.get("serviceAccount") or "default"
        name = spec["serviceAccountName"]
        spec["serviceAccount"] = name  # deprecated, still served
        account = await attempt.call.api.lookup("serviceaccounts", attempt.namespace, name)
        if account is None:
            raise status.forbidden(attempt.resource, pod["metadata"].get("name", ""),
                                   "error looking up service account "
                                   f'{attempt.namespace}/{name}: serviceaccount "{name}" not found')
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(reference) for reference in account["imagePullSecrets"]]
        if _wants_token(spec, account):
            _mount_token(spec)

    def _check_mirror(self, attempt: Attempt) -> None:
        spec = attempt.obj["spec"]
        if spec.get("serviceAccountName"):
            raise status.forbidden(attempt.resource, attempt.name, "a mirror pod may not reference service accounts")
        for volume in spec.get("volumes") or []:
            if any("serviceAccountToken" in part for part in (volume.get("projected") or {}).get("sources") or []):
                raise status.forbidden(attempt.resource, attempt.name,
                                       "a mirror pod may not use ServiceAccountToken volume projections")


def _wants_token(spec: Object, account: Object) -> bool:
    own = spec.get("automountServiceAccountToken")
    return bool(own if own is not None else account.get("automountServiceAccountToken", True))


def _mount_token(spec: Object) -> None:
    containers: list[Any] = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    without = [container for container in containers
               if all(mount.get("mountPath") != MOUNT_PATH for mount in container.get("volumeMounts") or [])]
    if not without:
        return
    name = "kube-api-access-" + "".join(random.choices(_SUFFIX, k=5))
    for container in without:
        container.setdefault("volumeMounts", []).append({"name": name, "readOnly": True, "mountPath": MOUNT_PATH})
    spec.setdefault("volumes", []).append({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {
            "apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]}})
