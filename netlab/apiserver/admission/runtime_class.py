"""RuntimeClass: what a Pod's runtime costs, and where it can run, is told by its class."""

from __future__ import annotations

from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step

_MISMATCH = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"


class RuntimeClass(Step):
    """Upstream's plugin of the same name."""

    name = "RuntimeClass"
    kinds = frozenset(("Pod",))

    async def mutate(self, attempt: Attempt) -> None:
        """Take over the class's overhead, node selector and tolerations."""
        if not _new_pod(attempt):
            return
        found, spec = await _class(attempt), attempt.obj["spec"]
        fixed = _overhead(found)
        if fixed is not None:
            if spec.get("overhead") is not None and not _same(spec["overhead"], fixed):
                raise _refused(attempt, _MISMATCH)
            spec["overhead"] = dict(fixed)
        scheduling = (found or {}).get("scheduling") or {}
        if not scheduling:
            return
        selector = dict(spec.get("nodeSelector") or {})
        for key, value in (scheduling.get("nodeSelector") or {}).items():
            if selector.get(key, value) != value:
                raise _refused(attempt, f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                                        f"pod.spec.nodeSelector[{key}] = {selector[key]}")
            selector[key] = value
        if selector:
            spec["nodeSelector"] = selector
        tolerations = merged([*(spec.get("tolerations") or ()), *(scheduling.get("tolerations") or ())])
        if tolerations:
            spec["tolerations"] = tolerations

    async def validate(self, attempt: Attempt) -> None:
        """Refuse an overhead that no class tells."""
        if not _new_pod(attempt):
            return
        fixed, told = _overhead(await _class(attempt)), attempt.obj["spec"].get("overhead")
        if fixed is None and told is not None:
            raise _refused(attempt, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined "
                                    "Overhead")
        if fixed is not None and not _same(told or {}, fixed):
            raise _refused(attempt, _MISMATCH)


def _new_pod(attempt: Attempt) -> bool:
    return attempt.resource.kind == "Pod" and attempt.operation == "CREATE" and not attempt.subresource


async def _class(attempt: Attempt) -> Object | None:
    name = attempt.obj["spec"].get("runtimeClassName")
    if name is None:
        return None
    found = await attempt.call.api.lookup("runtimeclasses", "", name)
    if found is None:
        raise _refused(attempt, f'pod rejected: RuntimeClass "{name}" not found')
    return found


def _overhead(found: Object | None) -> dict[str, Any] | None:
    overhead = (found or {}).get("overhead")
    return None if overhead is None else overhead.get("podFixed") or {}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    try:
        return {name: quantity.parse(text) for name, text in one.items()} == {
            name: quantity.parse(text) for name, text in other.items()}
    except ValueError:
        return False  # said by the checks


def _refused(attempt: Attempt, why: str) -> Exception:
    return status.forbidden(attempt.resource, attempt.obj["metadata"].get("name", ""), why)


def merged(tolerations: list[Object]) -> list[Object]:
    """Return the tolerations without those that another of them covers; of equal ones, the first stays."""
    found: list[Object] = []
    for at, one in enumerate(tolerations):
        if not any(_covers(other, one) for other in found) and not any(
                other != one and _covers(other, one) for other in tolerations[at + 1:]):
            found.append(one)
    return found


def _covers(wide: Object, one: Object) -> bool:
    """Tell whether a toleration tolerates all that another does."""
    if wide == one:
        return True
    exists = wide.get("operator") == "Exists"
    if one.get("key", "") != wide.get("key", "") and not (exists and not wide.get("key")):
        return False
    if wide.get("effect", "") not in ("", one.get("effect", "")):
        return False
    if wide.get("effect") == "NoExecute" and wide.get("tolerationSeconds") is not None:
        seconds = one.get("tolerationSeconds")
        if seconds is None or seconds > wide["tolerationSeconds"]:
            return False
    return exists or (wide.get("operator") in (None, "", "Equal") and one.get("operator") == "Equal"
                      and one.get("value", "") == wide.get("value", ""))
