"""Priority: the number behind a Pod's priorityClassName; two classes are there from the start."""

from __future__ import annotations

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step

SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_RESERVED = "system-"


class Priority(Step):
    """Upstream's plugin of the same name."""

    name = "Priority"
    kinds = frozenset(("Pod", "PriorityClass"))

    async def mutate(self, attempt: Attempt) -> None:
        """Set priority, class and preemption of a new Pod."""
        if attempt.resource.kind != "Pod" or attempt.subresource or attempt.operation != "CREATE":
            return
        spec = attempt.obj["spec"]
        name = spec.get("priorityClassName", "")
        found: Object | None = None
        if name:
            found = await attempt.call.api.lookup("priorityclasses", "", name)
            if found is None and name in SYSTEM_CLASSES:
                found = {"value": SYSTEM_CLASSES[name]}
            if found is None:
                raise status.forbidden(attempt.resource, attempt.obj["metadata"].get("name", ""),
                                       f"no PriorityClass with name {name} was found")
        else:
            found = await attempt.call.api.default_priority()
            if found is not None:
                spec["priorityClassName"] = found["metadata"]["name"]
        number = int((found or {}).get("value", 0))
        if spec.get("priority") is not None and spec["priority"] != number:
            raise status.forbidden(attempt.resource, attempt.obj["metadata"].get("name", ""),
                                   f"the integer value of priority ({spec['priority']}) must not be provided in pod "
                                   "spec; "
                                   f"priority admission controller computed {number} from the given PriorityClass name")
        spec["priority"] = number
        spec.setdefault("preemptionPolicy", (found or {}).get("preemptionPolicy") or "PreemptLowerPriority")

    async def validate(self, attempt: Attempt) -> None:
        """Keep the names of the system's classes for the system."""
        if attempt.resource.kind == "PriorityClass" and attempt.operation == "CREATE" \
                and attempt.name.startswith(_RESERVED) and attempt.name not in SYSTEM_CLASSES:
            raise status.forbidden(attempt.resource, attempt.name,
                                   f"priority class names with '{_RESERVED}' prefix are reserved for system use only")
