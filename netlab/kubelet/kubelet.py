"""The kubelet put together: where Pods come from, a worker for each, and the loops that keep all of it going."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client import config as client_config
from netlab.client.client import Client
from netlab.client.events import Recorder
from netlab.client.informer import Informer
from netlab.errors import NetlabError, TemporaryError
from netlab.kernel.inotify import Inotify
from netlab.kubelet import addresses, admission, machine, mirrors, node, spec
from netlab.kubelet.backoff import Backoff
from netlab.kubelet.config import Config
from netlab.kubelet.containers import Means
from netlab.kubelet.housekeeping import Housekeeping
from netlab.kubelet.images import Images
from netlab.kubelet.network import NOT_READY, Network
from netlab.kubelet.observe import GRACE, Observer
from netlab.kubelet.probers import Probers
from netlab.kubelet.references import References
from netlab.kubelet.registration import Registration
from netlab.kubelet.reporter import Reporter
from netlab.kubelet.sandboxes import Sandboxes
from netlab.kubelet.shared import Node
from netlab.kubelet.static_pods import StaticPods
from netlab.kubelet.tokens import Tokens
from netlab.kubelet.volumes.setup import Volumes
from netlab.kubelet.worker import Stage, Worker
from netlab.runtime.shimclient import ShimClient

log = logging.getLogger(__name__)

_EVENTS_PER_SECOND, _EVENT_BURST = 50.0, 100.0
"""Upstream's eventRecordQPS and eventBurst."""
_REST_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0


class Kubelet:
    """One node's kubelet."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.workers: dict[str, Worker] = {}
        self.shim = ShimClient(config.runtime)
        self.machine = machine.read(config.root, config.node_name, config.max_pods)
        self.client = (Client(client_config.load(config.kubeconfig), "kubelet") if config.kubeconfig else None)
        self.observer = Observer(self.shim, config.root, self._wake)
        self.network = Network(config.cni_conf, config.cni_bin, config.cni_cache, self.shim.list_pod_sandboxes)
        self.static = StaticPods(Path(config.manifests), config.node_name, self._static_changed)
        self.probers = Probers()
        self._mirrors: dict[str, Object] = {}
        self._addresses = addresses.of_node(config.node_ips)
        self._recorder = Recorder(self.client, "kubelet", config.node_name) if self.client else None
        self._tokens_left, self._tokens_at = _EVENT_BURST, time.monotonic()
        self._images: tuple[Object, ...] = ()
        references = References(self.client, self._refresh)
        self._references = references
        self.services = Informer(self.client, "services") if self.client else None
        if self.services is not None:
            self.services.add_index("namespace", lambda obj: [meta.namespace(obj)])
        self.pods = (Informer(self.client, "pods", fields=f"spec.nodeName={config.node_name}") if self.client else None)
        self.means = Means(config, self.shim, self.observer, Images(self.shim), references, self.probers, self.tell,
                           self._services_of, self.machine.memory)
        self.reporter = Reporter(self.client, self._api_object)
        self.node = Node(
            means=self.means, sandboxes=Sandboxes(config, self.shim, self.observer, self.network),
            volumes=Volumes(config.root, references, Tokens(self.client)), reporter=self.reporter, client=self.client,
            crashes=Backoff(min(10.0, config.backoff_limit), config.backoff_limit), host_ips=lambda: self._addresses,
            allocatable=lambda: self.machine.allocatable(config.reserved),
            services_known=self._services_known, admit=self._admit,
            may_start=self._may_start)
        self.registration = (Registration(self.client, config, self.machine, lambda: self._addresses, self._health,
                                          self._tell_node) if self.client else None)
        self._mirroring = (mirrors.Mirrors(self.client, self._node_object, self._plan_mirrors)
                           if self.client else None)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. What runs then goes on running."""
        self.node.volumes.prepare()
        inotify = Inotify()
        housekeeping = Housekeeping(self)
        loops: list[Callable[[], Awaitable[None]]] = [
            lambda: self.observer.run(stop), lambda: self._follow_static(stop, inotify),
            lambda: self._follow_network(stop, inotify), lambda: housekeeping.run(stop)]
        registration, mirroring = self.registration, self._mirroring
        if self.pods is not None and registration is not None and mirroring is not None:
            self.pods.add_handler(self._pod_changed)
            loops += [lambda: registration.run(stop), lambda: mirroring.run(stop), lambda: self._follow_api(stop)]
        tasks = [asyncio.create_task(_again_and_again(loop, stop)) for loop in loops]
        try:
            await stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(worker.close() for worker in self.workers.values()))
            await self._references.close()
            await self.probers.close()
            if self._recorder is not None:
                await self._recorder.close()
            if self.client is not None:
                await self.client.close()
            await self.shim.close()
            inotify.close()

    # -- where Pods come from ------------------------------------------------------------------------------------

    async def _follow_static(self, stop: asyncio.Event, inotify: Inotify) -> None:
        await self.observer.listed.wait()  # what runs already is adopted, so it has to be known first
        if self.config.manifests:
            await self.static.run(stop, inotify)
        else:
            self.static.read.set()

    async def _follow_api(self, stop: asyncio.Event) -> None:
        if self.pods is None or self.services is None or self.registration is None:
            return
        await self.observer.listed.wait()
        await self.registration.answered.wait()
        await asyncio.gather(self.pods.run(stop), self.services.run(stop), self._look_after_registration())

    async def _look_after_registration(self) -> None:
        if self.registration is not None and self.pods is not None and self._mirroring is not None:
            await self.registration.registered.wait()
            await self.pods.synced.wait()
            self._mirroring.wake()

    async def _follow_network(self, stop: asyncio.Event, inotify: Inotify) -> None:
        """Notice at once when the node gets its network configuration: Pods wait for it, and the node's readiness."""
        looked, watched, before = asyncio.Event(), False, NOT_READY
        while not stop.is_set():
            if not watched and self.config.cni_conf.is_dir():
                inotify.watch(self.config.cni_conf, looked.set)
                watched = True
            looked.clear()
            now = self.network.ready()
            if now != before:
                before = now
                if self.registration is not None:
                    self.registration.wake()
                for worker in self.workers.values():
                    worker.retry()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25 if now else 5.0):
                    await looked.wait()

    def _pod_changed(self, _key: str, old: Object | None, new: Object | None) -> None:
        pod = new or old
        if pod is None:
            return
        if spec.is_mirror(pod):
            if new is not None:
                self._mirrors[spec.full_name(pod)] = new
            elif meta.uid(self._mirrors.get(spec.full_name(pod), {})) == meta.uid(pod):
                del self._mirrors[spec.full_name(pod)]
            if self._mirroring is not None:
                self._mirroring.wake()
            self._wake(meta.annotations(pod).get(spec.CONFIG_HASH, ""))
            return
        worker = self.workers.get(meta.uid(pod))
        if new is None:
            if worker is not None:
                worker.remove()
        elif worker is not None:
            worker.update(new)
        else:
            self._take_in(new)

    def _static_changed(self) -> None:
        for uid, worker in list(self.workers.items()):
            if spec.is_static(worker.pod) and uid not in self.static.pods:
                worker.remove()
        for uid, pod in self.static.pods.items():
            if uid not in self.workers:
                self._take_in(pod)
        if self._mirroring is not None:
            self._mirroring.wake()

    def _take_in(self, pod: Object) -> Worker:
        worker = self.workers[meta.uid(pod)] = Worker(self.node, pod, self._gone)
        if meta.deleting(pod):
            worker.update(pod)
        return worker

    def adopt_orphan(self, uid: str) -> None:
        """End what still runs of a Pod that nobody wants any more."""
        record = self.observer.record(uid)
        log.info("pod %s_%s(%s) runs and is not wanted: ending it", record.name, record.namespace, uid)
        found = [info for s in record.sandboxes if (info := self.observer.sandbox_info(s.id)) is not None]
        grace = next((info.annotations[GRACE] for info in found if GRACE in info.annotations), "30")
        self._take_in({"apiVersion": "v1", "kind": "Pod", "spec": {"terminationGracePeriodSeconds": int(grace)},
                       "metadata": {"name": record.name, "namespace": record.namespace, "uid": uid}}).remove()

    def sources_known(self) -> bool:
        """Tell whether every source of Pods has been read: only then is an unknown Pod an orphan."""
        return self.static.read.is_set() and (self.pods is None or self.pods.synced.is_set())

    def _gone(self, uid: str) -> None:
        worker = self.workers.pop(uid, None)
        if self._mirroring is not None:
            self._mirroring.wake()
        if worker is not None and uid in self.static.pods:
            self._take_in(self.static.pods[uid])  # its file went and came back meanwhile
        for other in self.workers.values():
            if worker is not None and spec.full_name(other.pod) == spec.full_name(worker.pod):
                other.wake()

    # -- answers that workers ask for ----------------------------------------------------------------------------

    def _wake(self, uid: str) -> None:
        worker = self.workers.get(uid)
        if worker is not None:
            worker.wake()

    def _refresh(self, uid: str) -> None:
        worker = self.workers.get(uid)
        if worker is not None:
            worker.refresh()

    async def _services_known(self) -> None:
        if self.services is not None:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self.services.synced.wait()
            except TimeoutError:
                raise TemporaryError("services have not yet been read at least once, cannot construct envs") from None

    def _services_of(self, namespace: str) -> list[Object]:
        return self.services.by_index("namespace", namespace) if self.services is not None else []

    def _api_object(self, uid: str) -> Object | None:
        """Return the object whose status shows a Pod: itself, or a static Pod's mirror."""
        worker = self.workers.get(uid)
        if worker is None:
            return None
        if not spec.is_static(worker.pod):
            return worker.pod if meta.revision(worker.pod) else None
        mirror = self._mirrors.get(spec.full_name(worker.pod))
        return mirror if mirror is not None and meta.annotations(mirror).get(spec.CONFIG_HASH) == uid else None

    def _admit(self, pod: Object) -> tuple[str, str] | None:
        others = [w.demand for w in self.workers.values() if w.uid != meta.uid(pod) and w.admitted
                  and w.stage in (Stage.RUNNING, Stage.ENDING)]
        return admission.refuse(pod, others, self._node_object(), self.machine.allocatable(self.config.reserved))

    def _may_start(self, pod: Object) -> bool:
        return not spec.is_static(pod) or not any(
            w.uid != meta.uid(pod) and spec.is_static(w.pod) and spec.full_name(w.pod) == spec.full_name(pod)
            and w.stage is not Stage.GONE for w in self.workers.values())

    def _node_object(self) -> Object | None:
        return self.registration.node if self.registration is not None else None

    def _plan_mirrors(self) -> mirrors.Plan:
        if self.pods is None or not self.pods.synced.is_set() or not self.static.read.is_set():
            return mirrors.Plan()
        ending = {uid for uid, w in self.workers.items() if spec.is_static(w.pod) and w.stage is not Stage.RUNNING}
        return mirrors.plan(self.static.pods.values(), self._mirrors.values(), ending)

    def _health(self) -> node.Health:
        troubles = [self.network.ready()] if self.observer.listed.is_set() else ["container runtime is down"]
        return node.Health(now=time.time(), troubles=tuple(t for t in troubles if t), images=self._images,
                           port=self.config.port)

    async def look_at_images(self) -> None:
        """Read the node's images anew, for its status."""
        with contextlib.suppress(NetlabError):
            found = await self.shim.list_images()
            self._images = tuple({"names": list(image.tags), "sizeBytes": image.size} for image in found[:50])

    # -- events --------------------------------------------------------------------------------------------------

    def tell(self, pod: Object, kind: str, reason: str, message: str, container: str = "") -> None:
        """Write an event about a Pod, or one of its containers; never waits and never fails."""
        about = pod
        if spec.is_static(pod):  # what people look at is the mirror
            about = self._mirrors.get(spec.full_name(pod)) or pod
        self._tell(about, kind, reason, message, spec.field_path(pod, container) if container else "")

    def _tell_node(self, kind: str, reason: str, message: str) -> None:
        name = self.config.node_name
        self._tell({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}, kind, reason, message)

    def _tell(self, about: Object, kind: str, reason: str, message: str, field_path: str = "") -> None:
        now = time.monotonic()
        self._tokens_left = min(_EVENT_BURST, self._tokens_left + (now - self._tokens_at) * _EVENTS_PER_SECOND)
        self._tokens_at = now
        if self._recorder is None or self._tokens_left < 1:
            return
        self._tokens_left -= 1
        self._recorder.event(about, kind, reason, message, field_path=field_path)


async def _again_and_again(loop: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Run a loop that is never to end; a bug in it is told, and it begins anew."""
    while not stop.is_set():
        try:
            await loop()
        except Exception:  # whatever it is, Pods run on and are looked after
            log.exception("a loop of the kubelet broke off")
            await asyncio.sleep(_REST_SECONDS)
