"""Steps that are off unless --enable-admission-plugins names them: no outside addresses, room for who needs devices."""

from __future__ import annotations

from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step
from netlab.apiserver.validation.resources import is_extended


class ExtendedResourceToleration(Step):
    """Upstream's plugin of the same name: nodes with devices may be tainted with the devices' names."""

    name = "ExtendedResourceToleration"
    kinds = frozenset(("Pod",))

    async def mutate(self, attempt: Attempt) -> None:
        """Let a Pod tolerate the taints of the extended resources that it asks for."""
        if attempt.resource.kind != "Pod" or attempt.subresource or attempt.operation not in ("CREATE", "UPDATE"):
            return
        spec = attempt.obj["spec"]
        wanted = {name for part in ("containers", "initContainers") for container in spec.get(part) or ()
                  for name in (container.get("resources") or {}).get("requests") or () if is_extended(name)}
        found = spec.get("tolerations") or []
        missing = [made for name in sorted(wanted)
                   if (made := {"key": name, "operator": "Exists", "effect": "NoSchedule"}) not in found]
        if missing:
            spec["tolerations"] = [*found, *missing]


class DenyServiceExternalIPs(Step):
    """Upstream's plugin of the same name."""

    name = "DenyServiceExternalIPs"
    kinds = frozenset(("Service",))

    async def validate(self, attempt: Attempt) -> None:
        """Refuse a Service's external addresses that it did not have before."""
        if attempt.resource.kind != "Service" or attempt.subresource or attempt.operation not in ("CREATE", "UPDATE"):
            return
        new, old = (set(((obj or {}).get("spec") or {}).get("externalIPs") or ()) for obj in (attempt.obj, attempt.old))
        if new - old:
            raise status.forbidden(attempt.resource, attempt.name, "Use of external IPs is denied by admission control")
