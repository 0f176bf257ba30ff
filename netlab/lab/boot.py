"""The boot, seen from outside: wait for the API server, apply what is to run, wait until all of it does.

What kubeadm does after its static Pods are up: add-ons, the control plane's label, and for us the scenario's objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.client.informer import Informer
from netlab.errors import ApiError, ManifestError, NetlabError, NotFound, TemporaryError
from netlab.kubelet.network import IPS
from netlab.lab import manifests
from netlab.lab.documents import Document
from netlab.lab.plan import Lab
from netlab.lab.progress import Progress
from netlab.netd.plan import DYNAMIC_FROM

_FIRST = ("Namespace", "CustomResourceDefinition", "ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding",
          "RoleBinding", "ConfigMap", "Secret", "Service")
_POLL = 0.02


@dataclass(frozen=True)
class Limits:
    """Seconds to wait for the API server, and then for everything to be ready."""

    api: float = 30.0
    ready: float = 60.0


@dataclass(frozen=True)
class _Cluster:
    """What is waited for, as informers see it: this lab's nodes, and the Pods that are or will be on them.

    In an external etcd the nodes and Pods of an earlier lab say of themselves that they are ready: nothing that is
    older than `since` (Unix seconds, 0 where the store begins empty) counts, nor what is on nodes of other labs.
    """

    lab: Lab
    seen: dict[str, Informer]
    since: float

    def nodes(self) -> list[Object]:
        """Return the Nodes that have reported in this lab, and are Ready."""
        return [node for node in self._own() if condition(node, "Ready") and not self._old(next(
            row.get("lastHeartbeatTime") for row in node["status"]["conditions"] if row.get("type") == "Ready"))]

    def strangers(self) -> set[str]:
        """Return the names of Nodes that are no nodes of this lab."""
        return {meta.name(node) for node in self.seen["nodes"].all()} - {node.name for node in self.lab.nodes}

    def pods(self) -> list[Object]:
        """Return the Pods of all but the strangers."""
        strangers = self.strangers()
        return [pod for pod in self.seen["pods"].all() if pod["spec"].get("nodeName") not in strangers]

    def fine(self, pod: Object) -> bool:
        """Tell whether a Pod is as it should be, by what this lab's kubelets say."""
        status = pod.get("status") or {}
        if status.get("phase") == "Succeeded":
            return True
        starts = [((row.get("state") or {}).get("running") or {}).get("startedAt")
                  for row in status.get("containerStatuses") or []]
        return condition(pod, "Ready") and not any(map(self._old, starts))

    def _own(self) -> list[Object]:
        return [node for one in self.lab.nodes if (node := self.seen["nodes"].get(one.name)) is not None]

    def _old(self, stamp: str | None) -> bool:
        return bool(self.since and stamp and stamp < meta.timestamp(self.since))


async def run(client: Client, lab: Lab, objects: Sequence[Object], progress: Progress, limits: Limits, *,
              since: float = 0.0) -> list[str]:
    """Bring a lab whose nodes have started to the point where all its Pods are ready.

    What nodes and Pods said before `since` (Unix seconds) counts for nothing: it is about an earlier lab.

    Returns:
        What is not as it was asked for though the lab is up: Pods whose image has to be loaded first, which can be
        done only now.

    Raises:
        TemporaryError: it takes too long; the message says what is not ready and why.
        ManifestError, ApiError: the API server refuses an object.
    """
    progress.step("Starting the control plane")
    await api_ready(client, limits.api)
    progress.mark("API server ready")
    progress.step("Applying the add-ons")
    seen = {kind: Informer(client, kind) for kind in ("nodes", "pods", "deployments.apps", "daemonsets.apps")}
    cluster = _Cluster(lab, seen, since)
    stop = asyncio.Event()
    changed = asyncio.Event()
    for informer in seen.values():
        informer.add_handler(lambda *_: changed.set())
    watching = [asyncio.create_task(informer.run(stop)) for informer in seen.values()]
    try:
        await apply_all(client, manifests.addons(lab))
        labels = asyncio.create_task(_label_roles(client, lab, seen["nodes"]))
        watching.append(labels)
        if lab.nodes[0].pod_cidrs:
            watching.append(asyncio.create_task(_give_ranges(client, lab, seen["nodes"])))
        progress.step("Waiting for the nodes")
        try:
            async with asyncio.timeout(limits.ready):
                await _nodes_schedulable(cluster, changed, progress)
                if objects:  # not before: whoever comes first would have all Pods on the first node
                    if any(IPS in meta.annotations(obj) for obj in objects):  # before others may take those addresses
                        await _all_ready(cluster, changed, progress)
                    progress.step("Applying the scenario")
                    await apply_all(client, objects)
                    await _give_ingress(client, objects)
                progress.step("Waiting for the Pods")
                waiting = await _all_ready(cluster, changed, progress)
                await labels
        except TimeoutError:
            raise TemporaryError(f"not ready after {limits.ready:g} s: {'; '.join(_missing(cluster))}",
                                 hint="netlab up --keep leaves the lab as it is, to look inside") from None
    finally:
        stop.set()
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    progress.done()
    return waiting


async def api_ready(client: Client, seconds: float) -> None:
    """Wait until the API server says that it is ready.

    Raises:
        TemporaryError: it does not within that time.
    """
    said = "it does not listen"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                try:
                    status, _, body = await client.raw("GET", "/readyz")
                    if status == 200:
                        return
                    said = f"it answers {status} {body[:200].decode(errors='replace')}"
                except TemporaryError as error:
                    said = str(error)
                except ApiError as error:
                    said = f"it answers {error.code} {error}"
                await asyncio.sleep(_POLL)
    raise TemporaryError(f"the API server is not ready after {seconds:g} s: {said}",
                         hint="its log, and the kubelet's, are in the control-plane node's /var/log: "
                              "try `netlab up --keep`")


async def apply_all(client: Client, objects: Iterable[Object]) -> None:
    """Apply objects: what others need first, then the rest side by side.

    Raises:
        ManifestError: the API server knows no such kind, or refuses the object.
    """
    ordered = list(objects)
    for kind in _FIRST:
        await asyncio.gather(*(_apply(client, obj) for obj in ordered if obj["kind"] == kind))
    await asyncio.gather(*(_apply(client, obj) for obj in ordered if obj["kind"] not in _FIRST))


async def _apply(client: Client, obj: Object) -> None:
    while True:
        try:
            await client.apply(obj, strict=isinstance(obj, Document))
        except ApiError as error:
            if _account_missing(obj, error):
                await asyncio.sleep(_POLL)  # a new namespace's default service account is made by a controller
                continue
            raise _refused(obj, error, error.details.get("causes") or []) from None
        except NotFound as error:
            raise _refused(obj, error, []) from None
        return


def _refused(obj: Object, error: NetlabError, causes: list[Object]) -> ManifestError:
    """Say where the object, or its first wrong field, was written down, as far as that is known."""
    what, words = f"{obj['kind']} {meta.key(obj)}", f"the API server refuses it: {error}"
    if not isinstance(obj, Document):
        return ManifestError(words, file=what)
    unknown = re.search(r'unknown field "([^"]+)"', str(error))
    field = str(causes[0].get("field", "")) if causes else unknown[1] if unknown else ""
    return ManifestError(words, file=obj.file, line=obj.line_of(field), field=what)


def _account_missing(obj: Object, error: ApiError) -> bool:
    return obj["kind"] == "Pod" and error.code == 403 and "serviceaccount" in str(error).lower().replace(" ", "")


async def _label_roles(client: Client, lab: Lab, nodes: Informer) -> None:
    """Do kubeadm's phase mark-control-plane as soon as the node has registered, and give others their roles."""
    for node in lab.nodes:
        labels = dict(node.given_labels)
        while labels and nodes.get(node.name) is None:
            arrived = asyncio.Event()
            nodes.add_handler(lambda *_, arrived=arrived: arrived.set())
            await arrived.wait()
        if labels:
            patch: Object = {"metadata": {"labels": labels}}
            await client.patch("nodes", node.name, patch)


async def _give_ranges(client: Client, lab: Lab, nodes: Informer) -> None:
    """Give the nodes the Pod ranges that they are to have, as they register; the controller manager then gives none."""
    for node in lab.nodes:
        while nodes.get(node.name) is None:
            arrived = asyncio.Event()
            nodes.add_handler(lambda *_, arrived=arrived: arrived.set())
            await arrived.wait()
        patch: Object = {"spec": {"podCIDR": node.pod_cidrs[0], "podCIDRs": list(node.pod_cidrs)}}
        if node.dynamic_from:
            patch["metadata"] = {"annotations": {DYNAMIC_FROM: node.dynamic_from}}
        await client.patch("nodes", node.name, patch)


async def _give_ingress(client: Client, objects: Iterable[Object]) -> None:
    """Give Services the load balancer addresses that their manifests have, as a cloud's controller would."""
    for obj in objects:
        ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress")
        if obj["kind"] == "Service" and ingress:
            await client.patch("services", meta.name(obj), {"status": {"loadBalancer": {"ingress": ingress}}},
                               meta.namespace(obj) or "default", subresource="status")


async def _nodes_schedulable(cluster: _Cluster, changed: asyncio.Event, progress: Progress) -> None:
    while True:
        changed.clear()
        ready = sum(not _not_ready_taint(node) for node in cluster.nodes())
        if ready == len(cluster.lab.nodes):
            progress.mark("all nodes Ready")
            return
        progress.note(f"{ready}/{len(cluster.lab.nodes)}")
        await changed.wait()


async def _all_ready(cluster: _Cluster, changed: asyncio.Event, progress: Progress) -> list[str]:
    while True:
        changed.clear()
        waiting = _without_image(cluster)
        if waiting or not _missing(cluster):
            progress.mark("all Pods ready")
            return waiting
        pods = cluster.pods()
        progress.note(f"{sum(map(cluster.fine, pods))}/{len(pods)}")
        await changed.wait()


def _not_ready_taint(node: Object) -> bool:
    return any(taint.get("key") == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints") or [])


def _without_image(cluster: _Cluster) -> list[str]:
    """Return the Pods that have no image, in words, if nothing else is to be waited for."""
    seen = cluster.seen
    unfinished = [pod for pod in cluster.pods() if not cluster.fine(pod)]
    if any(trouble(pod)[0] not in ("ErrImagePull", "ImagePullBackOff") for pod in unfinished):
        return []
    for row in (*seen["deployments.apps"].all(), *seen["daemonsets.apps"].all()):
        status = row.get("status") or {}
        wanted = status.get("desiredNumberScheduled") or row["spec"].get("replicas", 1)
        if not _observed(row) or max(status.get("replicas", 0), status.get("currentNumberScheduled", 0)) < wanted:
            return []
    return [f"Pod {meta.key(pod)} waits for its image: {trouble(pod)[1]}" for pod in unfinished]


def _missing(cluster: _Cluster) -> list[str]:
    """Return what is not as it should be, in words; nothing when all is well."""
    lab, seen, words = cluster.lab, cluster.seen, list[str]()
    ready = {meta.name(node) for node in cluster.nodes()}
    words += [f"node {node.name} is not Ready" for node in lab.nodes if node.name not in ready]
    for static in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        for node in lab.control_planes:
            if seen["pods"].get(f"kube-system/{static}-{node.name}") is None:
                words.append(f"Pod {static}-{node.name} is not there")
    for row in seen["daemonsets.apps"].all():
        status = row.get("status") or {}
        lacking = status.get("desiredNumberScheduled", 0) - status.get("numberReady", 0)
        if not _observed(row) or lacking > len(cluster.strangers()) or status.get("desiredNumberScheduled", 0) == 0:
            words.append(f"DaemonSet {meta.key(row)} has {status.get('numberReady', 0)} of "
                         f"{status.get('desiredNumberScheduled', 0)} Pods ready")
    for row in seen["deployments.apps"].all():
        wanted, have = row["spec"].get("replicas", 1), (row.get("status") or {}).get("availableReplicas", 0)
        if not _observed(row) or have < wanted:
            words.append(f"Deployment {meta.key(row)} has {have} of {wanted} Pods available")
    words += [f"Pod {meta.key(pod)}: {': '.join(filter(None, trouble(pod)))}" for pod in cluster.pods()
              if not cluster.fine(pod)]
    return words


def _observed(obj: Object) -> bool:
    return bool((obj.get("status") or {}).get("observedGeneration", 0) >= obj["metadata"].get("generation", 0))


def condition(obj: Object, kind: str) -> bool:
    """Tell whether a condition of an object is True."""
    return any(row.get("type") == kind and row.get("status") == "True"
               for row in (obj.get("status") or {}).get("conditions") or [])


def trouble(pod: Object) -> tuple[str, str]:
    """Return why a Pod is not ready: a word, and more words where there are any."""
    status = pod.get("status") or {}
    for row in (*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])):
        waiting = (row.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return str(waiting["reason"]), str(waiting.get("message", ""))
        ended = (row.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return str(ended.get("reason", "Error")), f"{row.get('name')} ended with exit code {ended['exitCode']}"
    for row in status.get("conditions") or []:
        if row.get("type") == "PodScheduled" and row.get("status") == "False":
            return str(row.get("reason", "Unscheduled")), str(row.get("message", ""))
    phase = str(status.get("phase", "Pending"))
    return ("NotReady" if phase == "Running" else phase), ""
