"""ReplicaSet and ReplicationController: keep a number of equal Pods (k8s:pkg/controller/replicaset/replica_set.go)."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.placement import selects
from netlab.controllers.base import Context, Controller, all_of, slow_start
from netlab.controllers.claim import claim, index_by_namespace
from netlab.controllers.pods import (
    available_in,
    deletion_rank,
    from_template,
    is_active,
    is_ready,
    node_of,
    owner_uids,
    set_condition,
)
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)

_BURST = 500  # Pods made or deleted in one go


@dataclass(frozen=True)
class Plan:
    """What one sync does: make `create` Pods, or delete these."""

    create: int = 0
    delete: tuple[Object, ...] = ()


def decide(wanted: int, pods: Sequence[Object], neighbours: Sequence[Object], now: float) -> Plan:
    """Compare counts, never events: a missed event changes when we act, not what we do.

    Args:
        wanted: spec.replicas.
        pods: the owner's Pods.
        neighbours: Pods of all ReplicaSets of the same Deployment, these included; one on a crowded node goes first.
        now: Unix seconds.
    """
    alive = [pod for pod in pods if is_active(pod)]
    surplus = len(alive) - wanted
    if surplus <= 0:
        return Plan(create=min(-surplus, _BURST))
    crowd = Counter(node_of(pod) for pod in neighbours if is_active(pod))
    ranked = sorted(alive, key=lambda pod: deletion_rank(pod, crowd, now))
    return Plan(delete=tuple(ranked[:min(surplus, _BURST)]))


def status(owner: Object, pods: Sequence[Object], trouble: Object | None, now: float) -> Object:
    """Return the owner's status; `trouble` is {reason, message} of a failed sync."""
    spec = owner["spec"]
    alive = [pod for pod in pods if is_active(pod)]
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    min_ready = float(spec.get("minReadySeconds") or 0)
    conditions = list(owner.get("status", {}).get("conditions") or [])
    if trouble:
        conditions = set_condition(conditions, {"type": "ReplicaFailure", "status": "True", **trouble}, now)
    else:
        conditions = [row for row in conditions if row.get("type") != "ReplicaFailure"]
    found: Object = {
        "replicas": len(alive), "observedGeneration": owner["metadata"].get("generation", 0),
        "fullyLabeledReplicas": sum(selects({"matchLabels": labels}, meta.labels(pod)) for pod in alive),
        "readyReplicas": sum(map(is_ready, alive)),
        "availableReplicas": sum(available_in(pod, min_ready, now) == 0 for pod in alive),
        "conditions": conditions}
    if owner["kind"] == "ReplicaSet":
        found["terminatingReplicas"] = sum(meta.deleting(pod) for pod in pods)
    return {key: value for key, value in found.items() if value or key in ("replicas", "terminatingReplicas")}


class ReplicaSets(Controller):
    """The loop for ReplicaSets."""

    name: ClassVar[str] = "replicaset-controller"
    resource: ClassVar[str] = "replicasets.apps"
    kind: ClassVar[str] = "ReplicaSet"
    component: ClassVar[str] = "replicaset-controller"
    workers: ClassVar[int] = 5

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.owners = self.source(self.resource, self.enqueue)
        self.owners.add_index("controller", owner_uids)
        self.owners.add_index("namespace", index_by_namespace)
        self.pods = self.source("pods", self._pod_changed)
        self.pods.add_index("controller", owner_uids)
        self.pods.add_index("namespace", index_by_namespace)
        self.recorder = context.recorder(self.component)
        self._doomed: dict[str, set[str]] = {}

    def selector(self, owner: Object) -> Object:
        """Return the owner's LabelSelector."""
        return dict(owner["spec"].get("selector") or {})

    def _pod_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            reference = meta.controller_of(pod)
            if reference is not None:
                if reference["kind"] == self.kind:
                    self.queue.add(f"{meta.namespace(pod)}/{reference['name']}")
            elif pod is new or (new is not None and meta.labels(old or {}) != meta.labels(new)):
                for owner in self.owners.by_index("namespace", meta.namespace(pod)):
                    if selects(self.selector(owner), meta.labels(pod)):
                        self.queue.add(meta.key(owner))

    async def reconcile(self, key: str) -> float | None:
        """Make or delete Pods until their number is right, then write the status."""
        owner = self.owners.get(key)
        if owner is None:  # deleted while its key waited in the queue
            self._doomed.pop(key, None)
            return None
        mine = await claim(self.client, self.pods, owner, self.selector(owner))
        doomed = self._doomed.get(key, set())
        doomed &= {meta.uid(pod) for pod in mine if not meta.deleting(pod)}
        trouble, failure = None, None
        pods = [pod for pod in mine if meta.uid(pod) not in doomed]  # what we deleted may still look alive in the copy
        if not meta.deleting(owner):
            plan = decide(self._wanted(owner), pods, self._neighbours(owner), time.time())
            try:
                await self._act(key, owner, plan)
            except NetlabError as error:
                failure = error
                trouble = {"reason": "FailedCreate" if plan.create else "FailedDelete", "message": str(error)}
        await self._write_status(key, owner, pods, trouble)
        if failure is not None:
            raise failure
        return self._next_available(owner, pods)

    def _wanted(self, owner: Object) -> int:
        wanted = owner["spec"].get("replicas")
        return 1 if wanted is None else int(wanted)

    def _neighbours(self, owner: Object) -> list[Object]:
        above = meta.controller_of(owner)
        owners = self.owners.by_index("controller", above["uid"]) if above else [owner]
        return [pod for row in owners for pod in self.pods.by_index("controller", meta.uid(row))]

    async def _act(self, key: str, owner: Object, plan: Plan) -> None:
        if plan.create:
            log.info("%s %s: too few replicas, creating %d", self.kind, key, plan.create)
            pod = from_template(owner["spec"]["template"], owner)

            async def create(_: int) -> None:
                await self._create(key, owner, pod)

            await slow_start(range(plan.create), create)
        if plan.delete:
            log.info("%s %s: too many replicas, deleting %d", self.kind, key, len(plan.delete))

            async def delete(victim: Object) -> None:
                await self._delete(key, owner, victim)

            await all_of(plan.delete, delete)

    async def _create(self, key: str, owner: Object, pod: Object) -> None:
        try:
            made = await self.client.create("pods", pod)
        except ApiError as error:
            if error.code == 403 and any(cause.get("reason") == "NamespaceTerminating"
                                         for cause in error.details.get("causes") or []):
                return
            self.recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self.wrote(key, self.pods, made)
        self.recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(made)}")

    async def _delete(self, key: str, owner: Object, pod: Object) -> None:
        self._doomed.setdefault(key, set()).add(meta.uid(pod))
        try:
            await self.client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except NetlabError as error:
            if isinstance(error, ApiError) and error.code in (404, 409):  # gone, or a namesake
                return
            self._doomed[key].discard(meta.uid(pod))
            self.recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise
        self.recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")

    async def _write_status(self, key: str, owner: Object, pods: Sequence[Object], trouble: Object | None) -> None:
        found = status(owner, pods, trouble, time.time())
        if found == owner.get("status"):
            return
        try:
            made = await self.client.update(self.owners.resource, {**owner, "status": found}, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
        else:
            self.wrote(key, self.owners, made)

    def _next_available(self, owner: Object, pods: Sequence[Object]) -> float | None:
        min_ready, now = float(owner["spec"].get("minReadySeconds") or 0), time.time()
        waits = [wait for pod in pods if 0 < (wait := available_in(pod, min_ready, now)) < math.inf]
        return min(waits) + 0.01 if waits else None


class ReplicationControllers(ReplicaSets):
    """The same loop for the older kind, whose selector is a plain map."""

    name: ClassVar[str] = "replicationcontroller-controller"
    resource: ClassVar[str] = "replicationcontrollers"
    kind: ClassVar[str] = "ReplicationController"
    component: ClassVar[str] = "replication-controller"

    def selector(self, owner: Object) -> Object:
        """Return the owner's selector as a LabelSelector."""
        return {"matchLabels": owner["spec"].get("selector") or {}}
