"""NodeRestriction: a kubelet changes its own Node, the Pods bound to it, and what belongs to them; nothing else.

https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction
"""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.api.node_labels import may_label
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step
from netlab.errors import ApiError

_GROUP, _USER = "system:nodes", "system:node:"
_MIRROR = "kubernetes.io/config.mirror"


class NodeRestriction(Step):
    """Upstream's plugin of the same name (off unless --enable-admission-plugins names it, as kubeadm does)."""

    name = "NodeRestriction"

    async def validate(self, attempt: Attempt) -> None:
        """Refuse what is not the node's own."""
        user = attempt.user
        if _GROUP not in user.groups or not user.name.startswith(_USER) or attempt.operation == "CONNECT":
            return
        node = user.name.removeprefix(_USER)
        if not node:
            raise self._no(attempt, f'could not determine node from user "{user.name}"')
        kind = attempt.resource.group_resource
        if kind == "pods":
            await self._pod(attempt, node)
        elif kind == "nodes":
            self._node(attempt, node)
        elif kind == "leases.coordination.k8s.io":
            self._lease(attempt, node)
        elif kind in ("csinodes.storage.k8s.io", "resourceslices.resource.k8s.io"):
            self._named(attempt, node)
        elif kind == "serviceaccounts" and attempt.subresource == "token":
            await self._token(attempt, node)

    async def _pod(self, attempt: Attempt, node: str) -> None:
        obj = attempt.obj or attempt.old or {}
        bound = ((attempt.old if attempt.operation != "CREATE" else obj) or {}).get("spec", {}).get("nodeName", "")
        if attempt.subresource == "eviction":
            pod = await attempt.call.api.lookup("pods", attempt.namespace, attempt.name)
            bound = ((pod or {}).get("spec") or {}).get("nodeName", "")
        elif attempt.operation == "CREATE":
            if _MIRROR not in ((obj.get("metadata") or {}).get("annotations") or {}):
                raise self._no(attempt, f'pod does not have "{_MIRROR}" annotation, node "{node}" can only create '
                                        "mirror pods")
            self._mirror(attempt, obj, node)
        elif attempt.operation == "UPDATE" and attempt.subresource != "status":
            raise self._no(attempt, f'unexpected subresource "{attempt.subresource}", only status may be updated')
        if bound != node:
            verb = {"CREATE": "create", "DELETE": "delete", "UPDATE": "update status for"}[attempt.operation]
            raise self._no(attempt, f'node "{node}" can only {verb} pods with spec.nodeName set to itself')
        if attempt.operation == "UPDATE" and (attempt.obj["metadata"].get("labels") or {}) != (
                (attempt.old or {}).get("metadata", {}).get("labels") or {}):
            raise self._no(attempt, f'node "{node}" cannot update labels through pod status')

    def _mirror(self, attempt: Attempt, obj: Object, node: str) -> None:
        owners = obj["metadata"].get("ownerReferences") or []
        if owners and not (len(owners) == 1 and owners[0].get("apiVersion") == "v1" and owners[0].get("kind") == "Node"
                           and owners[0].get("name") == node and owners[0].get("controller")):
            raise self._no(attempt, f'node "{node}" can only create pods with an owner reference set to itself')
        spec = obj["spec"]
        if spec.get("serviceAccountName"):
            raise self._no(attempt, f'node "{node}" can not create pods that reference a service account')
        for volume in spec.get("volumes") or ():
            refers = [part for part in ("secret", "configMap", "persistentVolumeClaim") if part in volume]
            refers += [part for source in (volume.get("projected") or {}).get("sources") or () for part in source
                       if part in ("secret", "configMap", "serviceAccountToken")]
            if refers:
                raise self._no(attempt, f'node "{node}" can not create pods that reference {refers[0].lower()}s')

    def _node(self, attempt: Attempt, node: str) -> None:
        name = attempt.name or (attempt.obj.get("metadata") or {}).get("name", "")
        if name != node:
            raise self._no(attempt, f'node "{node}" is not allowed to modify node "{name}"')
        if attempt.operation == "CREATE":
            self._labels(attempt, node, {})
            return
        if attempt.operation != "UPDATE":
            return
        old = attempt.old or {}
        if attempt.subresource == "":
            if (attempt.obj.get("spec") or {}).get("taints") != (old.get("spec") or {}).get("taints"):
                raise self._no(attempt, f'node "{node}" is not allowed to modify taints')
            if (attempt.obj.get("spec") or {}).get("configSource") != (old.get("spec") or {}).get("configSource"):
                raise self._no(attempt, f'node "{node}" is not allowed to update configSource')
        if attempt.obj["metadata"].get("ownerReferences") != old.get("metadata", {}).get("ownerReferences"):
            raise self._no(attempt, f'node "{node}" is not allowed to modify ownerReferences')
        self._labels(attempt, node, old.get("metadata", {}).get("labels") or {})

    def _labels(self, attempt: Attempt, node: str, old: Object) -> None:
        new = attempt.obj["metadata"].get("labels") or {}
        changed = {key for key in set(new) | set(old) if new.get(key) != old.get(key)}
        bad = sorted(key for key in changed if not may_label(key))
        if bad:
            verb = "set the following labels" if attempt.operation == "CREATE" else "modify labels"
            raise self._no(attempt, f'node "{node}" is not allowed to {verb}: {", ".join(bad)}')

    def _lease(self, attempt: Attempt, node: str) -> None:
        if attempt.namespace != "kube-node-lease":
            raise self._no(attempt, 'can only access leases in the "kube-node-lease" system namespace')
        self._named(attempt, node)

    def _named(self, attempt: Attempt, node: str) -> None:
        obj = attempt.obj or attempt.old or {}
        if attempt.resource.kind == "ResourceSlice":
            if (obj.get("spec") or {}).get("nodeName") != node:
                raise self._no(attempt, f'can only create or modify ResourceSlices with node "{node}"')
            return
        name = attempt.name or (obj.get("metadata") or {}).get("name", "")
        if name != node:
            raise self._no(attempt, "can only access " + (
                "node lease with the same name as the requesting node" if attempt.resource.kind == "Lease" else
                "CSINode with the same name as the requesting node"))

    async def _token(self, attempt: Attempt, node: str) -> None:
        reference = (attempt.obj.get("spec") or {}).get("boundObjectRef")
        if not reference:
            raise self._no(attempt, "node requested token not bound to a pod")
        if reference.get("kind") != "Pod" or reference.get("apiVersion") != "v1":
            raise self._no(attempt, "node requested token not bound to a pod")
        pod = await attempt.call.api.lookup("pods", attempt.namespace, reference.get("name", ""))
        if pod is None:
            raise self._no(attempt, f'pod "{reference.get("name", "")}" not found')
        if reference.get("uid") and reference["uid"] != pod["metadata"].get("uid"):
            raise self._no(attempt, f"the UID in the bound object reference ({reference['uid']}) does not match the "
                                    "UID in record. The object might have been deleted and then recreated")
        if (pod.get("spec") or {}).get("nodeName") != node:
            raise self._no(attempt, "node requested token bound to a pod scheduled on a different node")

    @staticmethod
    def _no(attempt: Attempt, said: str) -> ApiError:
        return status.forbidden(attempt.resource, attempt.name, said)
