"""TaintNodesByCondition, PodTopologyLabels: what a new node is taken for, and what a Pod is told of its own."""

from __future__ import annotations

from netlab.api import placement
from netlab.apiserver.admission.base import Attempt, Step

_TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class TaintNodesByCondition(Step):
    """Upstream's plugin of the same name: a node is not ready until the node lifecycle controller has seen it ready.

    Without that, Pods would be scheduled to it in the moment before the controller taints it.
    """

    name = "TaintNodesByCondition"

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
