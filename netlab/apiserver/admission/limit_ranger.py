"""LimitRanger: a namespace's LimitRanges give containers defaults, and refuse what is too small or too large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step
from netlab.apiserver.mirror import Mirror

_NOTE = "kubernetes.io/limit-ranger"
_SKIPPED = frozenset(("status", "ephemeralcontainers", "binding", "eviction"))


class LimitRanger(Step):
    """Upstream's plugin of the same name."""

    name = "LimitRanger"
    kinds = frozenset(("Pod", "PersistentVolumeClaim"))

    def __init__(self) -> None:
        self._mirror: Mirror[Mapping[str, Sequence[Object]]] | None = None

    async def mutate(self, attempt: Attempt) -> None:
        """Set the defaults of a new Pod's containers."""
        if attempt.resource.kind != "Pod" or attempt.operation != "CREATE" or attempt.subresource:
            return
        for found in await self._ranges(attempt):
            _defaults(attempt.obj, found)

    async def validate(self, attempt: Attempt) -> None:
        """Refuse what is out of range."""
        if attempt.resource.kind not in ("Pod", "PersistentVolumeClaim") or attempt.operation not in (
                "CREATE", "UPDATE") or attempt.subresource in _SKIPPED:
            return
        if attempt.operation == "UPDATE" and attempt.resource.kind == "Pod" and attempt.subresource != "resize":
            return
        said = [text for found in await self._ranges(attempt) for text in _complaints(attempt, found)]
        if said:
            raise status.forbidden(attempt.resource, attempt.name or attempt.obj["metadata"].get("name", ""),
                                   said[0] if len(said) == 1 else f"[{', '.join(said)}]")

    async def _ranges(self, attempt: Attempt) -> Sequence[Object]:
        if self._mirror is None:
            self._mirror = Mirror(attempt.call.api.endpoints["", "v1", "limitranges"], _by_namespace)
        return (await self._mirror.now()).get(attempt.namespace, ())


def _by_namespace(ranges: Sequence[Object]) -> Mapping[str, Sequence[Object]]:
    found: dict[str, list[Object]] = {}
    for one in ranges:
        found.setdefault(one["metadata"].get("namespace", ""), []).append(one)
    return found


def limits_of(found: Object) -> Sequence[Mapping[str, Any]]:
    """Return the items of a LimitRange."""
    return (found.get("spec") or {}).get("limits") or ()


def _containers(spec: Object) -> Iterator[tuple[str, Object]]:
    for container in spec.get("containers") or ():
        yield "container", container
    for container in spec.get("initContainers") or ():
        yield "init container", container


def _defaults(pod: Object, found: Object) -> None:
    items = [item for item in limits_of(found) if item.get("type") == "Container"]
    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for item in items:
        requests |= item.get("defaultRequest") or {}
        limits |= item.get("default") or {}
    notes = []
    for word, container in _containers(pod["spec"]):
        resources = container.setdefault("resources", {})
        for part, values, kind in (("requests", requests, "request"), ("limits", limits, "limit")):
            own = resources.get(part) or {}
            added = sorted(set(values) - set(own))
            if added:
                resources[part] = {**own, **{name: values[name] for name in added}}
                notes.append(f"{', '.join(added)} {kind} for {word} {container.get('name', '')}")
    if notes:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[_NOTE] = "LimitRanger plugin set: " + "; ".join(notes)


def _complaints(attempt: Attempt, found: Object) -> Iterator[str]:
    obj = attempt.obj
    for item in limits_of(found):
        kind = item.get("type")
        if attempt.resource.kind == "PersistentVolumeClaim":
            if kind == "PersistentVolumeClaim":
                wanted = ((obj.get("spec") or {}).get("resources") or {}).get("requests") or {}
                yield from _bounds(item, wanted, wanted, str(kind))
        elif kind == "Container":
            for _, container in _containers(obj["spec"]):
                resources = container.get("resources") or {}
                yield from _bounds(item, resources.get("requests") or {}, resources.get("limits") or {}, str(kind))
        elif kind == "Pod":
            yield from _bounds(item, _total(obj["spec"], "requests"), _total(obj["spec"], "limits"), str(kind))


def _total(spec: Object, part: str) -> dict[str, str]:
    """Return what a Pod asks for in all: the sum of its containers, more where an init container needs more."""
    total: dict[str, quantity.Quantity] = {}
    for container in spec.get("containers") or ():
        for name, text in ((container.get("resources") or {}).get(part) or {}).items():
            total[name] = total.get(name, quantity.ZERO) + quantity.parse(text)
    for container in spec.get("initContainers") or ():
        for name, text in ((container.get("resources") or {}).get(part) or {}).items():
            total[name] = max(total.get(name, quantity.ZERO), quantity.parse(text))
    return {name: str(amount) for name, amount in total.items()}


def _bounds(item: Mapping[str, Any], requests: Mapping[str, Any], limits: Mapping[str, Any],
            kind: str) -> Iterator[str]:
    for name, least in sorted((item.get("min") or {}).items()):
        if name not in requests:
            yield f"minimum {name} usage per {kind} is {least}. No request is specified"
        elif quantity.parse(requests[name]) < quantity.parse(least):
            yield f"minimum {name} usage per {kind} is {least}, but request is {requests[name]}"
        elif name in limits and quantity.parse(limits[name]) < quantity.parse(least):
            yield f"minimum {name} usage per {kind} is {least}, but limit is {limits[name]}"
    for name, most in sorted((item.get("max") or {}).items()):
        if name not in limits:
            yield f"maximum {name} usage per {kind} is {most}. No limit is specified"
        elif quantity.parse(most) < quantity.parse(limits[name]):
            yield f"maximum {name} usage per {kind} is {most}, but limit is {limits[name]}"
        elif name in requests and quantity.parse(most) < quantity.parse(requests[name]):
            yield f"maximum {name} usage per {kind} is {most}, but request is {requests[name]}"
    for name, most in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        if name not in requests or name not in limits:
            missing = "request" if name not in requests else "limit"
            yield (f"{name} max limit to request ratio per {kind} is {most}, but no {missing} is specified or "
                   f"{missing} is 0")
            continue
        request, limit = quantity.parse(requests[name]), quantity.parse(limits[name])
        if not request or limit.amount / request.amount > quantity.parse(most).amount:
            ratio = float(limit.amount / request.amount) if request else 0.0
            yield f"{name} max limit to request ratio per {kind} is {most}, but provided ratio is {ratio:f}"
