"""What a Deployment does next with its ReplicaSets: pure (k8s:pkg/controller/deployment/{rolling,recreate,sync}.go)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from netlab.api import meta
from netlab.api.meta import Object

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = {"kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAXIMUM,
               "deprecated.deployment.rollback.to"}
_SAFE = "bcdfghjklmnpqrstvwxz2456789"  # k8s.io/apimachinery/util/rand: no vowels, so no words


@dataclass(frozen=True)
class Plan:
    """One step: at most one of `create` and `scale`, in upstream's order.

    `create` is the size of a new ReplicaSet, None for none. `scale` has (ReplicaSet, size). `delete` is history.
    """

    create: int | None = None
    scale: tuple[tuple[Object, int], ...] = ()
    delete: tuple[Object, ...] = ()


def size(replicaset: Object) -> int:
    """Return spec.replicas."""
    found = replicaset["spec"].get("replicas")
    return 1 if found is None else int(found)


def counted(replicaset: Object, field: str) -> int:
    """Return a number from the status."""
    return int(replicaset.get("status", {}).get(field) or 0)


def is_rolling(deployment: Object) -> bool:
    """Tell whether the strategy is RollingUpdate, the default."""
    return bool((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def fraction(value: int | str | None, total: int, *, up: bool) -> int:
    """Return a count or percentage (`1`, `"25%"`) of `total`, rounded up or down."""
    if isinstance(value, str) and value.endswith("%"):
        exact = total * int(value[:-1]) / 100
        return math.ceil(exact) if up else math.floor(exact)
    return int(value or 0)


def fences(deployment: Object) -> tuple[int, int]:
    """Return (maxSurge, maxUnavailable) in Pods. Not both are 0: then nothing could ever move."""
    if not is_rolling(deployment):
        return 0, 0
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    surge = fraction(rolling.get("maxSurge", "25%"), size(deployment), up=True)
    unavailable = fraction(rolling.get("maxUnavailable", "25%"), size(deployment), up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, size(deployment))


def same_template(one: Object, other: Object) -> bool:
    """Tell whether two Pod templates are equal but for the hash label."""
    return canonical(one) == canonical(other)


def canonical(template: Object) -> bytes:
    """Return a template as text that is equal for equal templates: without the hash label, nulls and empty maps."""
    found = {**template, "metadata": {**(template.get("metadata") or {})}}
    found["metadata"]["labels"] = {k: v for k, v in (found["metadata"].get("labels") or {}).items() if k != HASH}
    return orjson.dumps(_filled(found), option=orjson.OPT_SORT_KEYS)


def template_hash(template: Object, collisions: int) -> str:
    """Return the pod-template-hash: FNV-1a (32 bit) of the template, in letters that make no words."""
    value = 0x811C9DC5
    for byte in canonical(template) + (str(collisions).encode() if collisions else b""):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return "".join(_SAFE[ord(digit) % len(_SAFE)] for digit in str(value))


def find_new(deployment: Object, replicasets: Iterable[Object]) -> Object | None:
    """Return the ReplicaSet of the current template: the oldest, where there are several."""
    wanted = canonical(deployment["spec"]["template"])
    return next((row for row in sorted(replicasets, key=_born) if canonical(row["spec"]["template"]) == wanted), None)


def revision(obj: Object) -> int:
    """Return the revision annotation as a number, 0 when absent."""
    text = meta.annotations(obj).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def new_annotations(deployment: Object, new: Object | None, olds: Sequence[Object]) -> dict[str, str]:
    """Return the annotations that the ReplicaSet of the current template (`new`, or one to be made) should have.

    A ReplicaSet that comes back into use (rollback) gets the next revision and remembers the one it had.
    """
    found = dict(meta.annotations(new)) if new else {}
    found |= {k: v for k, v in meta.annotations(deployment).items() if k not in _NOT_COPIED}
    had, wanted = revision(new) if new else 0, max(map(revision, olds), default=0) + 1
    if had < wanted:
        if had:
            history = [part for part in found.get(HISTORY, "").split(",") if part]
            found[HISTORY] = ",".join([*history, str(had)])[-2000:]
        found[REVISION] = str(wanted)
    if new is None:
        found |= size_annotations(deployment)
    return found


def size_annotations(deployment: Object) -> dict[str, str]:
    """Return the annotations from which a later sync sees that the Deployment was scaled, and from what."""
    return {DESIRED: str(size(deployment)), MAXIMUM: str(size(deployment) + fences(deployment)[0])}


def decide(deployment: Object, new: Object | None, olds: Sequence[Object], *, old_pods_run: bool) -> Plan:
    """Return the next step.

    Args:
        deployment: the Deployment.
        new: the ReplicaSet of its current template, if there is one.
        olds: its other ReplicaSets.
        old_pods_run: whether any Pod of those is not over yet.
    """
    olds = sorted(olds, key=_born)
    existing = [*olds, new] if new else olds
    if deployment["spec"].get("paused") or _was_scaled(deployment, existing):
        history = _history(deployment, olds) if deployment["spec"].get("paused") else ()
        return Plan(scale=_resize(deployment, new, olds), delete=history)
    step = _rolling(deployment, new, olds) if is_rolling(deployment) else _recreate(deployment, new, olds, old_pods_run)
    if step.create is None and not step.scale and new is not None and complete(deployment, new, existing):
        return Plan(delete=_history(deployment, olds))
    return step


def complete(deployment: Object, new: Object | None, replicasets: Sequence[Object]) -> bool:
    """Tell whether exactly the wanted Pods run, all of the current template and available."""
    wanted = size(deployment)
    return (wanted == sum(counted(row, "replicas") for row in replicasets)
            and wanted == (counted(new, "replicas") if new else 0)
            and wanted == sum(counted(row, "availableReplicas") for row in replicasets))


def _was_scaled(deployment: Object, replicasets: Iterable[Object]) -> bool:
    return any(size(row) and meta.annotations(row).get(DESIRED, str(size(deployment))) != str(size(deployment))
               for row in replicasets)


def _grown(deployment: Object, new: Object | None, replicasets: Sequence[Object]) -> int:
    """Return how large the new ReplicaSet may be now (NewRSNewReplicas)."""
    wanted, current = size(deployment), size(new) if new else 0
    if not is_rolling(deployment):
        return wanted
    room = wanted + fences(deployment)[0] - sum(map(size, replicasets))
    return current if room <= 0 else current + min(room, wanted - current)


def _rolling(deployment: Object, new: Object | None, olds: Sequence[Object]) -> Plan:
    if new is None:
        return Plan(create=_grown(deployment, None, olds))
    everyone = [*olds, new]
    target = size(deployment) if size(new) > size(deployment) else _grown(deployment, new, everyone)
    if target != size(new):
        return Plan(scale=((new, target),))
    wanted, unavailable = size(deployment), fences(deployment)[1]
    minimum = wanted - unavailable
    sizes = {meta.name(row): size(row) for row in olds}
    spare = sum(map(size, everyone)) - minimum - max(0, size(new) - counted(new, "availableReplicas"))
    if not any(sizes.values()) or spare <= 0:
        return Plan()
    for row in olds:  # Pods that don't work anyway are nobody's loss
        loss = min(spare, size(row) - counted(row, "availableReplicas"))
        if loss > 0:
            sizes[meta.name(row)] -= loss
            spare -= loss
    loss = sum(counted(row, "availableReplicas") for row in everyone) - minimum
    for row in olds:
        step = min(sizes[meta.name(row)], loss)
        if step > 0:
            sizes[meta.name(row)] -= step
            loss -= step
    return Plan(scale=tuple((row, sizes[meta.name(row)]) for row in olds if sizes[meta.name(row)] != size(row)))


def _recreate(deployment: Object, new: Object | None, olds: Sequence[Object], old_pods_run: bool) -> Plan:
    down = tuple((row, 0) for row in olds if size(row))
    if down:
        return Plan(scale=down)
    if old_pods_run:
        return Plan()
    if new is None:
        return Plan(create=size(deployment))
    return Plan(scale=((new, size(deployment)),)) if size(new) != size(deployment) else Plan()


def _resize(deployment: Object, new: Object | None, olds: Sequence[Object]) -> tuple[tuple[Object, int], ...]:
    """Spread a changed spec.replicas over the ReplicaSets, in the middle of a rollout too (sync.go, scale)."""
    wanted, everyone = size(deployment), [*olds, new] if new else list(olds)
    active = [row for row in everyone if size(row)]
    if len(active) <= 1:
        only = active[0] if active else new or max(olds, key=_born, default=None)
        return ((only, wanted),) if only and _needs(deployment, only, wanted) else ()
    if new is not None and size(new) == wanted and counted(new, "availableReplicas") == wanted \
            and meta.annotations(new).get(DESIRED) == str(wanted):
        return tuple((row, 0) for row in olds if size(row))
    if not is_rolling(deployment):
        return ()
    change = (wanted + fences(deployment)[0] if wanted else 0) - sum(map(size, active))
    active.sort(key=_born, reverse=change > 0)
    active.sort(key=size, reverse=True)
    sizes, given = [], 0
    for row in active:
        share = _share(deployment, row)
        part = 0 if change == 0 else min(share, change - given) if change > 0 else max(share, change - given)
        sizes.append(size(row) + part)
        given += part
    if change:
        sizes[0] = max(0, sizes[0] + change - given)
    return tuple((row, count) for row, count in zip(active, sizes, strict=True) if _needs(deployment, row, count))


def _share(deployment: Object, replicaset: Object) -> int:
    """Return by how much a ReplicaSet should change to keep its part of the whole."""
    if size(deployment) == 0:
        return -size(replicaset)
    before = int(meta.annotations(replicaset).get(MAXIMUM) or 0) or counted(deployment, "replicas") or size(deployment)
    after = size(deployment) + fences(deployment)[0]
    return math.floor(size(replicaset) * after / before + 0.5) - size(replicaset)


def _needs(deployment: Object, replicaset: Object, count: int) -> bool:
    notes: Mapping[str, str] = meta.annotations(replicaset)
    return size(replicaset) != count or any(notes.get(k) != v for k, v in size_annotations(deployment).items())


def _history(deployment: Object, olds: Sequence[Object]) -> tuple[Object, ...]:
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None:
        limit = 10
    alive = sorted((row for row in olds if not meta.deleting(row)), key=revision)
    return tuple(row for row in alive[:max(0, len(alive) - limit)] if not size(row) and not counted(row, "replicas")
                 and row["metadata"].get("generation", 0) <= counted(row, "observedGeneration"))


def _born(obj: Object) -> tuple[str, str]:
    return str(obj["metadata"].get("creationTimestamp") or ""), meta.name(obj)


def _filled(value: object) -> object:
    if isinstance(value, dict):
        inner = {key: _filled(part) for key, part in value.items()}
        return {key: part for key, part in inner.items() if part is not None and part != {}}
    return [_filled(part) for part in value] if isinstance(value, list) else value
