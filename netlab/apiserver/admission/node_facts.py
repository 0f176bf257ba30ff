"""What a new node is taken for, what a Pod is told of its own, and what may be asked of that."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.api import meta, placement, quantity
from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step

_TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class TaintNodesByCondition(Step):
    """Upstream's plugin of the same name: a node is not ready until the node lifecycle controller has seen it ready.

    Without that, Pods would be scheduled to it in the moment before the controller taints it.
    """

    name = "TaintNodesByCondition"
    kinds = frozenset(("Node",))

    async def mutate(self, attempt: Attempt) -> None:
        """Taint a new node."""
        if attempt.resource.kind != "Node" or attempt.resource.group or attempt.operation != "CREATE":
            return
        spec = attempt.obj.setdefault("spec", {})
        found = spec.get("taints") or []
        if not any(taint.get("key") == placement.NOT_READY and taint.get("effect") == "NoSchedule" for taint in found):
            spec["taints"] = [*found, {"key": placement.NOT_READY, "effect": "NoSchedule"}]


class PodTopologyLabels(Step):
    """Upstream's plugin of the same name: zone and region of its node are labels of a Pod, too."""

    name = "PodTopologyLabels"
    kinds = frozenset(("Pod",))

    async def mutate(self, attempt: Attempt) -> None:
        """Copy the node's labels to a Binding, from which they come to the Pod, or to a Pod that is made on a node."""
        if attempt.resource.kind != "Pod" or attempt.operation != "CREATE" \
                or attempt.subresource not in ("", "binding"):
            return
        obj = attempt.obj
        if attempt.subresource:
            target = obj.get("target") or {}
            node = target.get("name") if target.get("kind") == "Node" else ""
        else:
            node = (obj.get("spec") or {}).get("nodeName")
        found = await attempt.call.api.lookup("nodes", "", node) if node else None
        labels = ((found or {}).get("metadata") or {}).get("labels") or {}
        wanted = {key: labels[key] for key in _TOPOLOGY if key in labels}
        if wanted:
            metadata = obj.setdefault("metadata", {})
            metadata["labels"] = wanted | (metadata.get("labels") or {})


class NodeDeclaredFeatureValidator(Step):
    """Upstream's plugin of the same name: a Pod may not be changed into what its node has not declared that it can."""

    name = "NodeDeclaredFeatureValidator"
    kinds = frozenset(("Pod",))

    async def validate(self, attempt: Attempt) -> None:
        """Refuse such a change."""
        if attempt.resource.group_resource != "pods" or attempt.operation != "UPDATE" \
                or attempt.subresource not in ("", "resize") or attempt.old is None:
            return
        node = attempt.obj["spec"].get("nodeName")
        if not node or attempt.obj["metadata"].get("generation") == attempt.old["metadata"].get("generation"):
            return
        wanted = sorted(_features(attempt.old, attempt.obj))
        if not wanted:
            return
        found = await attempt.call.api.lookup("nodes", "", node)
        if found is None:
            raise status.forbidden(attempt.resource, attempt.name, f'node "{node}" not found')
        declared = (found.get("status") or {}).get("declaredFeatures") or ()
        if missing := [name for name in wanted if name not in declared]:
            raise status.forbidden(attempt.resource, attempt.name, f"pod update requires features {', '.join(missing)} "
                                   f'which are not available on node "{meta.name(found)}"')


def _features(old: Object, new: Object) -> Iterator[str]:
    """Yield what a node must be able to do for a change (k8s.io/component-helpers/nodedeclaredfeatures)."""
    before, after = old["spec"], new["spec"]
    if before.get("resources") != after.get("resources"):
        yield "InPlacePodLevelResourcesVerticalScaling"
    if (old.get("status") or {}).get("qosClass") == "Guaranteed" and any(
            _cpu(mine) != _cpu(other) for mine, other in zip(before["containers"], after["containers"], strict=False)):
        yield "GuaranteedQoSPodCPUResize"


def _cpu(container: Object) -> object:
    return quantity.parse(((container.get("resources") or {}).get("requests") or {}).get("cpu", "0"))
