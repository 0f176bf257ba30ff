"""Deployment: move Pods from one template to the next through ReplicaSets, one step a sync."""

from __future__ import annotations

import logging
import time
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.placement import selects
from netlab.controllers import rollout
from netlab.controllers.base import Context, Controller, all_of
from netlab.controllers.claim import claim, index_by_namespace
from netlab.controllers.deployment_status import status, until_deadline
from netlab.controllers.pods import condition, is_over, owner_uids
from netlab.controllers.rollout import HASH, REVISION, size
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)


class Deployments(Controller):
    """The loop for Deployments."""

    name: ClassVar[str] = "deployment-controller"
    workers: ClassVar[int] = 5

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.deployments = self.source("deployments.apps", self.enqueue)
        self.deployments.add_index("namespace", index_by_namespace)
        self.replicasets = self.source("replicasets.apps", self._replicaset_changed)
        self.replicasets.add_index("namespace", index_by_namespace)
        self.pods = self.source("pods", self._pod_changed)
        self.pods.add_index("controller", owner_uids)
        self.recorder = context.recorder("deployment-controller")

    def _replicaset_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is None:
                continue
            owner = meta.controller_of(obj)
            if owner is not None:
                if owner["kind"] == "Deployment":
                    self.queue.add(f"{meta.namespace(obj)}/{owner['name']}")
            elif obj is new:
                for deployment in self.deployments.by_index("namespace", meta.namespace(obj)):
                    if selects(deployment["spec"].get("selector"), meta.labels(obj)):
                        self.queue.add(meta.key(deployment))

    def _pod_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        """A Recreate Deployment waits for its old Pods to end, which no ReplicaSet's status tells."""
        pod = new or old
        if pod is None or (new is not None and not is_over(new)):
            return
        owner = meta.controller_of(pod)
        if owner is None or owner["kind"] != "ReplicaSet":
            return
        above = meta.controller_of(self.replicasets.get(f"{meta.namespace(pod)}/{owner['name']}") or {})
        if above is not None:
            key = f"{meta.namespace(pod)}/{above['name']}"
            deployment = self.deployments.get(key)
            if deployment is not None and not rollout.is_rolling(deployment):
                self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        """Take the next step of the rollout, then write the status."""
        found = self.deployments.get(key)
        if found is None:
            return None
        deployment = {**found}  # _mark renews its metadata on the way
        selector = deployment["spec"].get("selector") or {}
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            self.recorder.event(deployment, "Warning", "SelectingAll",
                                "This deployment is selecting all pods. A non-empty selector is required.")
            return None
        owned = await claim(self.client, self.replicasets, deployment, selector)
        new = rollout.find_new(deployment, owned)
        olds = [row for row in owned if new is None or meta.uid(row) != meta.uid(new)]
        found_new, trouble, failure = "", None, None
        if not meta.deleting(deployment):
            if new is not None:
                found_new = "" if condition(deployment, "Progressing") else "FoundNewReplicaSet"
                new = await self._revise(key, deployment, new, olds)
            plan = rollout.decide(deployment, new, olds, old_pods_run=self._run(olds))
            try:
                if plan.create is not None:
                    new = await self._create(key, deployment, olds, plan.create)
                    found_new = "NewReplicaSetCreated"
                fresh = {meta.uid(row): await self._scale(key, deployment, row, count) for row, count in plan.scale}
                new = fresh.get(meta.uid(new), new) if new else None
                olds = [fresh.get(meta.uid(row), row) for row in olds]
                await all_of(plan.delete, self._delete)
            except NetlabError as error:
                failure = error
                if plan.create is not None and _is_refusal(error):
                    trouble = {"reason": "ReplicaSetCreateError", "message": str(error)}
        await self._write_status(key, deployment, new, olds, found_new, trouble)
        if failure is not None:
            raise failure
        return until_deadline(self.deployments.get(key) or deployment, time.time())

    def _run(self, olds: list[Object]) -> bool:
        return any(not is_over(pod) for row in olds for pod in self.pods.by_index("controller", meta.uid(row)))

    async def _revise(self, key: str, deployment: Object, new: Object, olds: list[Object]) -> Object:
        """Bring revision, copied annotations and minReadySeconds of the current ReplicaSet up to date."""
        notes = rollout.new_annotations(deployment, new, olds)
        seconds = int(deployment["spec"].get("minReadySeconds") or 0)
        if notes != meta.annotations(new) or seconds != int(new["spec"].get("minReadySeconds") or 0):
            new = await self._update(key, {**new, "metadata": {**new["metadata"], "annotations": notes},
                                           "spec": {**new["spec"], "minReadySeconds": seconds}})
        await self._mark(key, deployment, new)
        return new

    async def _mark(self, key: str, deployment: Object, new: Object) -> None:
        revision = meta.annotations(new).get(REVISION, "")
        if revision and meta.annotations(deployment).get(REVISION) != revision:
            made = await self.client.patch("deployments.apps", meta.name(deployment),
                                           {"metadata": {"annotations": {REVISION: revision}}},
                                           meta.namespace(deployment), subresource="status")  # no new generation
            self.wrote(key, self.deployments, made)
            deployment["metadata"] = made["metadata"]

    async def _create(self, key: str, deployment: Object, olds: list[Object], count: int) -> Object:
        template = deployment["spec"]["template"]
        collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
        word = rollout.template_hash(template, collisions)
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH: word}
        selector = deployment["spec"]["selector"]
        body: Object = {
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": f"{meta.name(deployment)}-{word}", "namespace": meta.namespace(deployment),
                         "labels": labels, "annotations": rollout.new_annotations(deployment, None, olds),
                         "ownerReferences": [meta.owner_reference(deployment)]},
            "spec": {"replicas": count,
                     "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH: word}},
                     "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}}}}
        if deployment["spec"].get("minReadySeconds"):
            body["spec"]["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
        try:
            made = await self.client.create("replicasets.apps", body)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return await self._namesake(key, deployment, meta.name(body))
            if not _terminating(error):
                self.recorder.event(deployment, "Warning", "ReplicaSetCreateError",
                                    f'Failed to create new replica set "{meta.name(body)}": {error}')
            raise
        self.wrote(key, self.replicasets, made)
        if count:
            self._tell(deployment, made, 0, count)
        await self._mark(key, deployment, made)
        return made

    async def _namesake(self, key: str, deployment: Object, name: str) -> Object:
        """A ReplicaSet of that name is there: ours, unseen so far, or another template with the same hash."""
        found = await self.client.get("replicasets.apps", name, meta.namespace(deployment))
        owner = meta.controller_of(found)
        if owner is not None and owner["uid"] == meta.uid(deployment) and rollout.same_template(
                found["spec"]["template"], deployment["spec"]["template"]):
            self.wrote(key, self.replicasets, found)
            return found
        state = dict(deployment.get("status") or {})
        state["collisionCount"] = int(state.get("collisionCount") or 0) + 1
        made = await self.client.update("deployments.apps", {**deployment, "status": state}, subresource="status")
        self.wrote(key, self.deployments, made)
        raise ApiError(409, "AlreadyExists", f"{name} has another template: trying another hash")

    async def _scale(self, key: str, deployment: Object, replicaset: Object, count: int) -> Object:
        notes = {**meta.annotations(replicaset), **rollout.size_annotations(deployment)}
        made = await self._update(key, {**replicaset, "metadata": {**replicaset["metadata"], "annotations": notes},
                                        "spec": {**replicaset["spec"], "replicas": count}})
        if size(replicaset) != count:
            self._tell(deployment, replicaset, size(replicaset), count)
        return made

    async def _update(self, key: str, replicaset: Object) -> Object:
        made = await self.client.update("replicasets.apps", replicaset)
        self.wrote(key, self.replicasets, made)
        return made

    async def _delete(self, replicaset: Object) -> None:
        try:
            await self.client.delete("replicasets.apps", meta.name(replicaset), meta.namespace(replicaset),
                                     uid=meta.uid(replicaset))
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def _tell(self, deployment: Object, replicaset: Object, before: int, after: int) -> None:
        log.info("deployment %s: %s from %d to %d", meta.key(deployment), meta.name(replicaset), before, after)
        self.recorder.event(deployment, "Normal", "ScalingReplicaSet",
                            f"Scaled {'up' if after > before else 'down'} replica set {meta.name(replicaset)} "
                            f"from {before} to {after}")

    async def _write_status(self, key: str, deployment: Object, new: Object | None, olds: list[Object],
                            found_new: str, trouble: Object | None) -> None:
        found = status(deployment, new, olds, time.time(), found_new=found_new, trouble=trouble)
        if found == deployment.get("status"):
            return
        try:
            made = await self.client.update("deployments.apps", {**deployment, "status": found}, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
        else:
            self.wrote(key, self.deployments, made)


def _is_refusal(error: NetlabError) -> bool:
    return isinstance(error, ApiError) and error.reason not in ("Conflict", "AlreadyExists") and not _terminating(error)


def _terminating(error: ApiError) -> bool:
    return any(cause.get("reason") == "NamespaceTerminating" for cause in error.details.get("causes") or [])
