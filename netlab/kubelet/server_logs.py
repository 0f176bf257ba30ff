"""/containerLogs: which file a request means, and its text on the way to the client."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from netlab.api import meta
from netlab.kernel.inotify import Inotify
from netlab.kubelet import logs, spec
from netlab.kubelet.records import Container
from netlab.kubelet.worker import Worker

if TYPE_CHECKING:
    from netlab.kubelet.kubelet import Kubelet


class Logs:
    """Serves logs."""

    def __init__(self, kubelet: Kubelet, inotify: Inotify) -> None:
        self._kubelet, self._inotify = kubelet, inotify

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /containerLogs/NAMESPACE/POD/CONTAINER with the options of core/v1 PodLogOptions."""
        namespace, name, container = (request.match_info[key] for key in ("namespace", "pod", "container"))
        worker = find(self._kubelet, namespace, name)
        if worker is None:
            return web.Response(status=404, text=f'pod "{name}" not found\n')
        if spec.container(worker.pod, container) is None:
            return web.Response(status=404, text=f'container "{container}" not found in pod "{name}"\n')
        try:
            wish = _wish(request)
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        found = self._choose(worker, container, previous=_flag(request, "previous"))
        if isinstance(found, str):
            return web.Response(status=400, text=f"{found}\n")
        path = Path(found.log_path)
        if not found.log_path or not path.exists():
            return web.Response(status=500, text=f"failed to try resolving symlinks in path \"{path}\": no such file\n")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)

        def alive() -> bool:
            now = self._kubelet.observer.find(found.id)
            return now is not None and now[1].state in ("running", "created")

        with contextlib.suppress(ConnectionError):
            async with contextlib.aclosing(logs.read(path, wish, alive, self._inotify)) as pieces:
                async for piece in pieces:
                    await response.write(piece)
            await response.write_eof()
        return response

    def _choose(self, worker: Worker, container: str, *, previous: bool) -> Container | str:
        """Return the run of the container whose log is meant, or upstream's words for why there is none."""
        record = self._kubelet.observer.record(worker.uid)
        where = f'container "{container}" in pod "{meta.name(worker.pod)}"'
        latest = record.latest(container)
        if previous:
            ended = [c for c in record.containers if c.name == container and c.state == "exited"]
            ended = [c for c in ended if c is not latest or self._waits(worker, container)]
            return ended[0] if ended else f"previous terminated {where} not found"
        if latest is not None and latest.state in ("running", "exited"):
            return latest
        reason = self._waits(worker, container)
        if reason in ("ErrImagePull", "ImagePullBackOff"):
            return f"{where} is waiting to start: trying and failing to pull image"
        return f"{where} is waiting to start: {reason or 'ContainerCreating'}"

    def _waits(self, worker: Worker, container: str) -> str:
        status = self._kubelet.reporter.last(worker.uid) or {}
        for row in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
            if row.get("name") == container:
                return str(((row.get("state") or {}).get("waiting") or {}).get("reason", ""))
        return ""


def find(kubelet: Kubelet, namespace: str, name: str) -> Worker | None:
    """Return the Pod of that name; of several (an old one may still end) the newest."""
    found = [w for w in kubelet.workers.values()
             if meta.name(w.pod) == name and meta.namespace(w.pod) == namespace]
    return found[-1] if found else None


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


def _wish(request: web.Request) -> logs.Wish:
    query = request.query
    since = 0.0
    if query.get("sinceSeconds"):
        since = time.time() - int(query["sinceSeconds"])
    elif query.get("sinceTime"):
        since = meta.parse_timestamp(query["sinceTime"])
    return logs.Wish(follow=_flag(request, "follow"), tail=int(query.get("tailLines") or -1), since=since,
                     timestamps=_flag(request, "timestamps"), limit=int(query.get("limitBytes") or -1),
                     stream=query.get("stream") or "All")
