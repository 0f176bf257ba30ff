"""The scheduler at work: it watches Pods and nodes, decides one Pod at a time, and binds in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.client.events import Recorder
from netlab.client.informer import Informer
from netlab.errors import ApiError, NetlabError
from netlab.scheduler.cycle import Profile, Verdict, schedule
from netlab.scheduler.model import Cluster, Pod, pod
from netlab.scheduler.preemption import Preemption, preempt
from netlab.scheduler.queue import Entry, Event, SchedulingQueue

log = logging.getLogger(__name__)


class Scheduler:
    """All profiles of one process; they share the queue and the view of the cluster."""

    def __init__(self, client: Client, profiles: Sequence[Profile], queue: SchedulingQueue) -> None:
        self.client, self.queue, self.cluster = client, queue, Cluster()
        self.profiles = {profile.name: profile for profile in profiles}
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.seconds = 0.0
        self._recorders = {name: Recorder(client, name) for name in self.profiles}
        self._last = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self.nodes, self.pods = Informer(client, "nodes"), Informer(client, "pods")
        self.namespaces = Informer(client, "namespaces")
        self.nodes.add_handler(self._node_changed)
        self.namespaces.add_handler(self._namespace_changed)
        self.pods.add_handler(self._pod_changed)

    async def watch(self, stop: asyncio.Event) -> None:
        """Keep the view of the cluster current until `stop` is set; a stand-by does that too."""
        await asyncio.gather(*(informer.run(stop) for informer in (self.nodes, self.namespaces, self.pods)))

    async def run(self, stop: asyncio.Event) -> None:
        """Schedule until `stop` is set."""
        for informer in (self.nodes, self.namespaces, self.pods):
            await informer.synced.wait()
        log.info("scheduling for %s", ", ".join(self.profiles))
        loop = asyncio.ensure_future(self._loop())
        ended = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({loop, ended}, return_when=asyncio.FIRST_COMPLETED)
            if loop.done():
                loop.result()
        finally:
            loop.cancel()
            ended.cancel()
            await asyncio.gather(loop, ended, *self._tasks, return_exceptions=True)
            await asyncio.gather(*(recorder.close() for recorder in self._recorders.values()))

    # -- what happens in the cluster -----------------------------------------------------------------------------

    def _node_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            self.cluster.remove_node(key)
            return
        self.cluster.set_node(new)
        if old is None:
            self.queue.happened(Event.NODE_ADDED)
            return
        for part, event in ((("status", "allocatable"), Event.NODE_ALLOCATABLE),
                            (("metadata", "labels"), Event.NODE_LABELS), (("spec", "taints"), Event.NODE_TAINTS),
                            (("spec", "unschedulable"), Event.NODE_TAINTS)):
            if old.get(part[0], {}).get(part[1]) != new.get(part[0], {}).get(part[1]):
                self.queue.happened(event)

    def _namespace_changed(self, key: str, _old: Object | None, new: Object | None) -> None:
        if new is None:
            self.cluster.namespaces.pop(key, None)
        else:
            self.cluster.namespaces[key] = meta.labels(new)

    def _pod_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        if new is None or new.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            uid = meta.uid(new or old or {})
            self.queue.remove(uid)
            if self.cluster.place(uid):
                self.cluster.drop(uid)
                self.queue.happened(Event.POD_DELETED)
        elif new["spec"].get("nodeName"):
            self._bound(old, new)
        else:
            self._unbound(old, new)

    def _bound(self, old: Object | None, new: Object) -> None:
        was_bound = old is not None and bool(old["spec"].get("nodeName"))
        if was_bound and old is not None and old["spec"] == new["spec"] and meta.labels(old) == meta.labels(new) \
                and meta.deleting(old) == meta.deleting(new):
            return
        self.queue.remove(meta.uid(new))
        self.cluster.put(pod(new), new["spec"]["nodeName"])
        self.queue.happened(Event.POD_UPDATED if was_bound else Event.POD_ADDED)

    def _unbound(self, old: Object | None, new: Object) -> None:
        uid = meta.uid(new)
        if self.cluster.place(uid):  # we have decided already; the binding is under way
            return
        one = pod(new)
        if meta.deleting(new) or one.scheduler not in self.profiles or new["spec"].get("schedulingGates"):
            self.queue.remove(uid)
        elif old is None or old["spec"] != new["spec"] or meta.labels(old) != meta.labels(new):
            self.queue.add(one)
        else:
            self.queue.update(one)

    # -- decisions -----------------------------------------------------------------------------------------------

    async def _loop(self) -> None:
        while True:
            entry = await self.queue.pop()
            try:
                self._try(entry)
            except Exception:  # one Pod that we can't make sense of must not stop all others
                log.exception("scheduling %s failed", entry.pod.key)
                self.queue.fail(entry)
            await asyncio.sleep(0)

    def _try(self, entry: Entry) -> None:
        started = time.perf_counter()
        one, profile = entry.pod, self.profiles[entry.pod.scheduler]
        verdict = schedule(one, self.cluster, profile, last=self._last, nominated=self._nominated())
        self.seconds += time.perf_counter() - started
        if verdict.node:
            self._last = verdict.node
            self.cluster.put(one, verdict.node)  # assumed: the next decision has to count it
            self._start(self._bind(entry, verdict))
        else:
            log.info("unable to schedule %s: %s", one.key, verdict.message)
            self.attempts["unschedulable", one.scheduler] += 1
            plan = preempt(one, self.cluster, profile, verdict.refusals) if verdict.refusals else Preemption()
            self.queue.refuse(entry, verdict.events)
            self._start(self._explain(one, f"{verdict.message} {plan.message}".strip(), plan))

    def _nominated(self) -> Mapping[str, Sequence[Pod]]:
        found: dict[str, list[Pod]] = {}
        for one in self.queue.waiting():
            if one.nominated:
                found.setdefault(one.nominated, []).append(one)
        return found

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bind(self, entry: Entry, verdict: Verdict) -> None:
        one = entry.pod
        body = {"apiVersion": "v1", "kind": "Binding",
                "metadata": {"name": meta.name(one.obj), "namespace": one.namespace, "uid": one.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": verdict.node}}
        try:
            await self.client.create("pods", body, one.namespace, name=meta.name(one.obj), subresource="binding")
        except NetlabError as error:
            seen = self.pods.get(one.key)
            if seen is None or meta.uid(seen) != one.uid or not seen["spec"].get("nodeName"):
                self.cluster.drop(one.uid)
                self.queue.happened(Event.POD_DELETED)
            if isinstance(error, ApiError) and error.code == 404:
                self.queue.remove(one.uid)
                return
            self.attempts["error", one.scheduler] += 1
            log.warning("binding %s to %s: %s", one.key, verdict.node, error)
            self._tell(one, "Warning", "FailedScheduling", f"binding rejected: {error}", "Binding")
            self.queue.fail(entry)
            return
        self.queue.remove(one.uid)
        self.attempts["scheduled", one.scheduler] += 1
        log.info("successfully bound %s to %s (%d of %d nodes fit)", one.key, verdict.node, len(verdict.scores),
                 len(verdict.scores) + len(verdict.refusals))
        self._tell(one, "Normal", "Scheduled", f"Successfully assigned {one.key} to {verdict.node}", "Binding")

    async def _explain(self, one: Pod, message: str, plan: Preemption) -> None:
        """Say on the Pod why it waits, and make room for it where that is possible."""
        self._tell(one, "Warning", "FailedScheduling", message, "Scheduling")
        status: Object = {}
        rows = one.obj.get("status", {}).get("conditions") or []
        old: Object = next((row for row in rows if row.get("type") == "PodScheduled"), {})
        if (old.get("status"), old.get("reason"), old.get("message")) != ("False", "Unschedulable", message):
            since = old.get("lastTransitionTime") if old.get("status") == "False" else None
            status["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                     "message": message,
                                     "lastTransitionTime": since or meta.timestamp(time.time())}]
        try:
            for victim in plan.victims:
                await self._evict(victim, one, plan.node)
            if plan.node and one.nominated != plan.node:
                status["nominatedNodeName"] = plan.node
            if status:
                await self.client.patch("pods", meta.name(one.obj), {"metadata": {"uid": one.uid}, "status": status},
                                        one.namespace, type="strategic", subresource="status")
        except NetlabError as error:
            if not isinstance(error, ApiError) or error.code not in (404, 409):
                log.warning("telling about %s: %s", one.key, error)

    async def _evict(self, victim: Pod, one: Pod, node: str) -> None:
        if meta.deleting(victim.obj):
            return
        log.info("preempting %s on %s for %s", victim.key, node, one.key)
        row = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
               "message": f"{one.scheduler}: preempting to accommodate a higher priority pod",
               "lastTransitionTime": meta.timestamp(time.time())}
        name = meta.name(victim.obj)
        try:
            await self.client.patch("pods", name, {"metadata": {"uid": victim.uid}, "status": {"conditions": [row]}},
                                    victim.namespace, type="strategic", subresource="status")
            await self.client.delete("pods", name, victim.namespace, uid=victim.uid)
        except ApiError as error:
            if error.code != 404:
                raise
            return
        self._recorders[one.scheduler].event(victim.obj, "Normal", "Preempted",
                                             f"Preempted by pod {one.uid} on node {node}", action="Preempting")

    def _tell(self, one: Pod, kind: str, reason: str, message: str, action: str) -> None:
        self._recorders[one.scheduler].event(one.obj, kind, reason, message, action=action)
