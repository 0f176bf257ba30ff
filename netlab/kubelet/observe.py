"""What the runtime has, kept current by its events: the kubelet's only picture of what runs.

An event says which id to look at; what is there is then read. After a break everything is listed anew, so nothing
that happened meanwhile is missed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from netlab.errors import NetlabError, NotFound
from netlab.kubelet.records import Container, PodRecord, Sandbox, ordered
from netlab.runtime import cri
from netlab.runtime.shimclient import ShimClient

log = logging.getLogger(__name__)

POD_UID, POD_NAME, POD_NAMESPACE = "io.kubernetes.pod.uid", "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"
CONTAINER_NAME, CONTAINER_HASH = "io.kubernetes.container.name", "io.kubernetes.container.hash"
GRACE = "io.kubernetes.pod.terminationGracePeriod"
MESSAGE_PATH, MESSAGE_POLICY = ("io.kubernetes.container.terminationMessagePath",
                                "io.kubernetes.container.terminationMessagePolicy")
"""Labels and annotations as upstream's CRI clients set them; MESSAGE_PATH is the file's place on the node."""

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 5.0
_MESSAGE_BYTES, _LOG_BYTES = 4096, 2048


class Observer:
    """The records of all Pods, by uid."""

    def __init__(self, shim: ShimClient, root: Path, wake: Callable[[str], None]) -> None:
        """Make an observer; `wake(uid)` is called when a Pod's record has changed, `root` keeps the Pods' addresses."""
        self.listed = asyncio.Event()
        self._shim, self._root, self._wake = shim, root, wake
        self._sandboxes: dict[str, cri.Sandbox] = {}
        self._containers: dict[str, cri.Container] = {}
        self._of_pod: dict[str, set[str]] = {}
        self._ips: dict[str, tuple[str, ...]] = {}
        self._messages: dict[str, str] = {}
        self._records: dict[str, PodRecord] = {}

    def record(self, uid: str) -> PodRecord:
        """Return what the runtime has of a Pod, an empty record when it has nothing."""
        return self._records.get(uid) or PodRecord(uid)

    def uids(self) -> list[str]:
        """Return the uids of all Pods that the runtime has something of."""
        return list(self._records)

    def find(self, container_id: str) -> tuple[str, Container] | None:
        """Return (Pod's uid, container) of a container's id."""
        found = self._containers.get(container_id)
        sandbox = self._sandboxes.get(found.sandbox_id) if found else None
        if found is None or sandbox is None:
            return None
        return sandbox.uid, next(c for c in self.record(sandbox.uid).containers if c.id == container_id)

    def sandbox_info(self, sandbox_id: str) -> cri.Sandbox | None:
        """Return the runtime's own description of a sandbox."""
        return self._sandboxes.get(sandbox_id)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the runtime's events until `stop` is set; reconnect as long as it takes."""
        delay = _FIRST_DELAY
        while not stop.is_set():
            following: asyncio.Task[None] | None = None
            try:
                await self._shim.connect()
                listed = asyncio.Event()
                following = asyncio.create_task(self._follow(listed), name="runtime events")
                await asyncio.sleep(0)  # it has asked for events now, ahead of the list that they go on from
                await self.relist()
                listed.set()
                delay = _FIRST_DELAY
                await following
            except NetlabError as error:
                log.warning("the container runtime does not answer: %s", error)
            finally:
                if following is not None:
                    following.cancel()
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    async def _follow(self, listed: asyncio.Event) -> None:
        """Look at what events name, once the list is in; until the connection breaks."""
        async for event in self._shim.events():
            await listed.wait()
            await self._look(event)

    async def relist(self) -> None:
        """Read everything anew."""
        sandboxes = await self._shim.list_pod_sandboxes()
        containers = await self._shim.list_containers()
        before = set(self._records)
        self._sandboxes = {s.id: s for s in sandboxes}
        self._containers = {c.id: c for c in containers if c.sandbox_id in self._sandboxes}
        self._of_pod = {}
        for sandbox in sandboxes:
            self._of_pod.setdefault(sandbox.uid, set()).add(sandbox.id)
        for uid in before | set(self._of_pod):
            self._rebuild(uid)
        self.listed.set()
        for uid in before | set(self._of_pod):
            self._wake(uid)

    async def look_at_sandbox(self, sandbox_id: str) -> None:
        """Read one sandbox anew."""
        try:
            self.put_sandbox(await self._shim.pod_sandbox_status(sandbox_id))
        except NotFound:
            self._forget_sandbox(sandbox_id)

    async def look_at_container(self, container_id: str) -> None:
        """Read one container anew."""
        try:
            found = await self._shim.container_status(container_id)
        except NotFound:
            gone = self._containers.pop(container_id, None)
            self._messages.pop(container_id, None)
            if gone and gone.sandbox_id in self._sandboxes:
                self._rebuild(self._sandboxes[gone.sandbox_id].uid)
            return
        self._containers[container_id] = found
        if found.sandbox_id in self._sandboxes:
            self._rebuild(self._sandboxes[found.sandbox_id].uid)
        else:
            await self.look_at_sandbox(found.sandbox_id)

    def put_sandbox(self, sandbox: cri.Sandbox) -> None:
        """Take in a sandbox that was just made or read."""
        self._sandboxes[sandbox.id] = sandbox
        self._of_pod.setdefault(sandbox.uid, set()).add(sandbox.id)
        self._rebuild(sandbox.uid)

    def set_ips(self, uid: str, sandbox_id: str, ips: tuple[str, ...]) -> None:
        """Note a sandbox's addresses, on disk too: the runtime does not know them, the next kubelet must."""
        place = self._address_file(uid, sandbox_id)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_suffix(".new")
        temporary.write_text(json.dumps({"ips": ips}))
        temporary.replace(place)
        self._ips[sandbox_id] = ips
        self._rebuild(uid)

    async def _look(self, event: cri.Event) -> None:
        """Look at what an event names, unless whoever caused it has told us; wake the Pod if its record changes."""
        known = self._sandboxes.get(event.sandbox_id)
        before = self._records.get(known.uid) if known else None
        if event.type == "container_created":
            return  # nothing to see yet
        if event.type == "container_removed":
            self._containers.pop(event.container_id, None)
            self._messages.pop(event.container_id, None)
            if known is not None:
                self._rebuild(known.uid)
        elif event.type == "container_started":
            if event.container_id not in self._containers:
                await self.look_at_container(event.container_id)
        elif event.container_id:
            await self.look_at_container(event.container_id)
        elif event.type == "sandbox_removed":
            self._forget_sandbox(event.sandbox_id)
        elif event.type != "sandbox_ready" or known is None:
            await self.look_at_sandbox(event.sandbox_id)
        now = self._sandboxes.get(event.sandbox_id) or known
        if now is not None and self._records.get(now.uid) != before:
            self._wake(now.uid)

    def _forget_sandbox(self, sandbox_id: str) -> None:
        gone = self._sandboxes.pop(sandbox_id, None)
        self._ips.pop(sandbox_id, None)
        for container_id in [c.id for c in self._containers.values() if c.sandbox_id == sandbox_id]:
            del self._containers[container_id]
            self._messages.pop(container_id, None)
        if gone is not None:
            self._of_pod.get(gone.uid, set()).discard(sandbox_id)
            self._rebuild(gone.uid)

    def _rebuild(self, uid: str) -> None:
        ids = self._of_pod.get(uid, set())
        if not ids:
            self._of_pod.pop(uid, None)
            self._records.pop(uid, None)
            return
        sandboxes = [self._sandboxes[i] for i in ids]
        containers = [c for c in self._containers.values() if c.sandbox_id in ids]
        one = sandboxes[0]
        self._records[uid] = ordered(uid, one.name, one.namespace, [self._sandbox(s) for s in sandboxes],
                                     [self._container(c) for c in containers])

    def _sandbox(self, found: cri.Sandbox) -> Sandbox:
        if found.id not in self._ips and not found.host_network:
            try:
                saved = json.loads(self._address_file(found.uid, found.id).read_text())
                self._ips[found.id] = tuple(saved["ips"])
            except (OSError, ValueError, KeyError):
                self._ips[found.id] = ()
        return Sandbox(found.id, found.attempt, found.state == "ready", found.created_at / 1e9, found.netns_path,
                       self._ips.get(found.id, ()))

    def _container(self, found: cri.Container) -> Container:
        made = Container(id=found.id, name=found.name, sandbox_id=found.sandbox_id, attempt=found.attempt,
                         state=found.state, image=found.image, image_id=found.image_id,
                         hash=found.annotations.get(CONTAINER_HASH, ""), created_at=found.created_at / 1e9,
                         started_at=found.started_at / 1e9, finished_at=found.finished_at / 1e9,
                         exit_code=found.exit_code, reason=found.reason, message=found.message,
                         log_path=found.log_path)
        if found.state != "exited":
            return made
        if found.id not in self._messages:
            self._messages[found.id] = _last_words(found)
        return replace(made, message=self._messages[found.id] or found.message)

    def _address_file(self, uid: str, sandbox_id: str) -> Path:
        return self._root / "pods" / uid / f"sandbox-{sandbox_id}.json"


def _last_words(found: cri.Container) -> str:
    """Return the termination message: the file that the container wrote, or by its policy the end of its log."""
    text = ""
    path = found.annotations.get(MESSAGE_PATH)
    if path:
        try:
            with open(path, "rb") as file:
                text = file.read(_MESSAGE_BYTES).decode(errors="replace")
        except OSError:
            text = ""
    if not text and found.exit_code and found.annotations.get(MESSAGE_POLICY) == "FallbackToLogsOnError":
        try:
            with open(found.log_path, "rb") as file:
                file.seek(max(0, Path(found.log_path).stat().st_size - 4 * _LOG_BYTES))
                lines = file.read().decode(errors="replace").splitlines()[-80:]
        except OSError:
            return text
        text = "\n".join(line.split(" ", 3)[-1] for line in lines)[-_LOG_BYTES:]
    return text
