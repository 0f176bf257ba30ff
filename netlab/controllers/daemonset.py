"""DaemonSet: one Pod on each node that wants one, and ControllerRevisions as the history of its template."""

from __future__ import annotations

import logging
import time
from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.placement import selects
from netlab.controllers import daemons
from netlab.controllers.base import Context, Controller, all_of, slow_start
from netlab.controllers.claim import claim, index_by_namespace
from netlab.controllers.pods import owner_uids
from netlab.controllers.rollout import canonical, template_hash
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)

_GENERATION = "deprecated.daemonset.template.generation"


class DaemonSets(Controller):
    """The loop for DaemonSets."""

    name: ClassVar[str] = "daemonset-controller"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.daemonsets = self.source("daemonsets.apps", self.enqueue)
        self.daemonsets.add_index("namespace", index_by_namespace)
        self.revisions = self.source("controllerrevisions.apps")
        self.revisions.add_index("controller", owner_uids)
        self.revisions.add_index("namespace", index_by_namespace)
        self.pods = self.source("pods", self._pod_changed)
        self.pods.add_index("controller", owner_uids)
        self.pods.add_index("namespace", index_by_namespace)
        self.nodes = self.source("nodes", self._node_changed)
        self.recorder = context.recorder("daemonset-controller")
        self._doomed: dict[str, set[str]] = {}
        self._failures: dict[str, int] = {}  # failed Pods by DaemonSet and node

    def _pod_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        for pod in (old, new):
            if pod is None:
                continue
            owner = meta.controller_of(pod)
            if owner is not None:
                if owner["kind"] == "DaemonSet":
                    self.queue.add(f"{meta.namespace(pod)}/{owner['name']}")
            elif pod is new:
                for daemonset in self.daemonsets.by_index("namespace", meta.namespace(pod)):
                    if selects(daemonset["spec"].get("selector"), meta.labels(pod)):
                        self.queue.add(meta.key(daemonset))

    def _node_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        """Only labels, taints and the existence of a node decide; its heartbeats are no reason to look."""
        if old is not None and new is not None and meta.labels(old) == meta.labels(new) \
                and old["spec"].get("taints") == new["spec"].get("taints"):
            return
        for key in self.daemonsets.keys():  # noqa: SIM118 - not a dict
            self.queue.add(key)

    async def reconcile(self, key: str) -> float | None:
        """Make and delete Pods, keep the history, write the status."""
        daemonset = self.daemonsets.get(key)
        if daemonset is None:
            self._doomed.pop(key, None)
            return None
        mine = await claim(self.client, self.pods, daemonset, daemonset["spec"].get("selector") or {})
        doomed = self._doomed.get(key, set())
        doomed &= {meta.uid(pod) for pod in mine if not meta.deleting(pod)}
        pods = [_going(pod) if meta.uid(pod) in doomed else pod for pod in mine]
        nodes, now = sorted(self.nodes.all(), key=meta.name), time.time()
        revision = meta.labels(await self._revision(key, daemonset, pods)).get(daemons.HASH, "")
        wait, failure = None, None
        if not meta.deleting(daemonset):
            plan = daemons.decide(daemonset, nodes, pods, revision, now)
            try:
                wait = await self._act(key, daemonset, plan, revision)
                await self._trim(daemonset, pods, revision)
            except NetlabError as error:
                failure = error
        found = daemons.status(daemonset, nodes, pods, revision, now)
        if found != daemonset.get("status"):
            made = await self.client.update("daemonsets.apps", {**daemonset, "status": found}, subresource="status")
            self.wrote(key, self.daemonsets, made)
        if failure is not None:
            raise failure
        waits = [w for w in (wait, daemons.next_available(daemonset, pods, now)) if w is not None]
        return min(waits) if waits else None

    async def _act(self, key: str, daemonset: Object, plan: daemons.Plan, revision: str) -> float | None:
        """Do what was decided; return the seconds until a Pod that keeps failing may be replaced."""
        labels = {daemons.HASH: revision}
        if meta.annotations(daemonset).get(_GENERATION):
            labels[daemons.GENERATION] = meta.annotations(daemonset)[_GENERATION]
        template, wait = daemonset["spec"]["template"], None
        delete = list(plan.delete)
        for pod in plan.failed:
            node = f"{meta.uid(daemonset)}/{daemons.target_node(pod)}"
            age = time.time() - meta.parse_timestamp(pod["metadata"]["creationTimestamp"])
            pause = min(2.0 ** self._failures.get(node, 0), 900.0) - age
            if pause > 0:
                delete.remove(pod)
                wait = pause if wait is None else min(wait, pause)
                continue
            self._failures[node] = min(self._failures.get(node, 0) + 1, 10)
            self.recorder.event(daemonset, "Warning", "FailedDaemonPod",
                                f"Found failed daemon pod {meta.key(pod)} on node {daemons.target_node(pod)}, "
                                "will try to kill it")

        async def create(node: str) -> None:
            try:
                made = await self.client.create("pods", daemons.pinned_pod(template, daemonset, node, labels))
            except ApiError as error:
                self.recorder.event(daemonset, "Warning", "FailedCreate", f"Error creating: {error}")
                raise
            self.wrote(key, self.pods, made)
            self.recorder.event(daemonset, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(made)}")

        async def remove(pod: Object) -> None:
            await self._delete(key, daemonset, pod)

        if plan.create or delete:
            log.info("daemonset %s: creating %d, deleting %d", key, len(plan.create), len(delete))
        await all_of(delete, remove)
        await slow_start(plan.create, create)
        return wait

    async def _delete(self, key: str, daemonset: Object, pod: Object) -> None:
        self._doomed.setdefault(key, set()).add(meta.uid(pod))
        try:
            await self.client.delete("pods", meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except NetlabError as error:
            if isinstance(error, ApiError) and error.code in (404, 409):
                return
            self._doomed[key].discard(meta.uid(pod))
            raise
        self.recorder.event(daemonset, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")

    async def _revision(self, key: str, daemonset: Object, pods: list[Object]) -> Object:
        """Return the ControllerRevision of the current template; make it, or give it the highest number.

        Of several that mean the same (other controllers spell templates differently) the newest stays; the others'
        Pods, also in `pods`, become its own.
        """
        history = self.revisions.by_index("controller", meta.uid(daemonset))
        wanted = canonical(daemonset["spec"]["template"])
        same = sorted((row for row in history if canonical(_template_of(row)) == wanted), key=_number)
        top = max((_number(row) for row in history if row not in same), default=0)
        if same:
            *spare, row = same
            for other in spare:
                await self._merge(key, other, row, pods)
            if _number(row) <= top:
                row = await self.client.patch("controllerrevisions.apps", meta.name(row), {"revision": top + 1},
                                              meta.namespace(row))
                self.wrote(key, self.revisions, row)
            return row
        word = template_hash(daemonset["spec"]["template"], 0)
        body: Object = {
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": top + 1,
            "metadata": {"name": f"{meta.name(daemonset)}-{word}", "namespace": meta.namespace(daemonset),
                         "labels": {**((daemonset["spec"]["template"].get("metadata") or {}).get("labels") or {}),
                                    daemons.HASH: word},
                         "annotations": {k: v for k, v in meta.annotations(daemonset).items()
                                         if k == "kubernetes.io/change-cause" or k == _GENERATION},
                         "ownerReferences": [meta.owner_reference(daemonset)]},
            "data": {"spec": {"template": {**daemonset["spec"]["template"], "$patch": "replace"}}}}
        try:
            made = await self.client.create("controllerrevisions.apps", body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            made = await self.client.get("controllerrevisions.apps", meta.name(body), meta.namespace(daemonset))
        self.wrote(key, self.revisions, made)
        return made

    async def _merge(self, key: str, spare: Object, kept: Object, pods: list[Object]) -> None:
        """Give the Pods of one revision to another that means the same, and delete it."""
        word, doomed = meta.labels(kept).get(daemons.HASH, ""), meta.labels(spare).get(daemons.HASH)
        for at, pod in enumerate(pods):
            if meta.labels(pod).get(daemons.HASH) == doomed and not meta.deleting(pod):
                change = {"metadata": {"labels": {daemons.HASH: word}}}
                pods[at] = await self.client.patch("pods", meta.name(pod), change, meta.namespace(pod))
                self.wrote(key, self.pods, pods[at])
        await self._drop(spare)

    async def _drop(self, revision: Object) -> None:
        try:
            await self.client.delete("controllerrevisions.apps", meta.name(revision), meta.namespace(revision),
                                     uid=meta.uid(revision))
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _trim(self, daemonset: Object, pods: list[Object], revision: str) -> None:
        """Delete the oldest revisions beyond the limit that no Pod is of."""
        limit = daemonset["spec"].get("revisionHistoryLimit")
        used = {meta.labels(pod).get(daemons.HASH) for pod in pods} | {revision}
        history = [row for row in self.revisions.by_index("controller", meta.uid(daemonset))
                   if meta.labels(row).get(daemons.HASH) not in used]
        history.sort(key=_number)
        for row in history[:max(0, len(history) - (10 if limit is None else int(limit)))]:
            await self._drop(row)


def _number(revision: Object) -> int:
    return int(revision.get("revision") or 0)


def _template_of(revision: Object) -> Object:
    template = dict(((revision.get("data") or {}).get("spec") or {}).get("template") or {})
    template.pop("$patch", None)
    return template


def _going(pod: Object) -> Object:
    """A Pod that we deleted and whose copy does not say so yet."""
    return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": meta.timestamp(time.time())}}
