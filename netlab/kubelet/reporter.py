"""Statuses on their way to the API server: one write at a time per Pod, only what differs, the newest only.

What the server holds (its answers, or a newer watch event) is what the next status is compared with, so a status that
somebody else has changed is put right, and a restarted kubelet writes nothing that is there already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import ApiError, NetlabError
from netlab.kubelet.status import changes

log = logging.getLogger(__name__)

GATHER = 0.1
"""Seconds that the first "being created" of a new Pod waits: mostly it runs by then, and one write tells it all."""
_AT_ONCE = 8
"""Writes under way at once, over all Pods."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0


@dataclass
class _Row:
    wanted: Object
    seen: int = 0
    written: Object | None = None
    revision: int = 0
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    clean: asyncio.Event = field(default_factory=asyncio.Event)


class Reporter:
    """The statuses by Pod uid. `find(uid)` returns the API object to write to: the Pod, or a static Pod's mirror."""

    def __init__(self, client: Client | None, find: Callable[[str], Object | None]) -> None:
        self._client, self._find = client, find
        self._rows: dict[str, _Row] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)

    def last(self, uid: str) -> Object | None:
        """Return the last status that was given, None when there was none yet."""
        row = self._rows.get(uid)
        return row.wanted if row else None

    def put(self, uid: str, status: Object) -> None:
        """Give a Pod's present status. Returns at once."""
        row, seen = self._rows.get(uid), meta.revision(self._find(uid) or {})
        if row is None:
            row = self._rows[uid] = _Row(status)
        elif row.wanted == status and row.seen == seen and seen:
            return  # nothing new on either side
        row.wanted, row.seen = status, seen
        if self._pending(uid, row):
            row.clean.clear()
            row.changed.set()
            if row.task is None or row.task.done():
                row.task = asyncio.create_task(self._keep_writing(uid, row), name=f"status of {uid}")
        elif row.task is None or row.task.done():
            row.clean.set()

    async def flush(self, uid: str) -> None:
        """Wait until the API server has a Pod's last status, or the Pod is gone from it."""
        row = self._rows.get(uid)
        if row is not None and self._client is not None:
            row.changed.set()
            await row.clean.wait()

    def drop(self, uid: str) -> None:
        """Forget a Pod."""
        row = self._rows.pop(uid, None)
        if row is not None:
            row.clean.set()
            if row.task is not None:
                row.task.cancel()

    def _base(self, row: _Row, target: Object) -> Object:
        """Return the status that the server has, as far as known."""
        if row.written is not None and row.revision >= meta.revision(target):
            return row.written
        return target.get("status") or {}

    def _pending(self, uid: str, row: _Row) -> bool:
        target = self._find(uid)
        return self._client is not None and target is not None and bool(changes(self._base(row, target), row.wanted))

    async def _keep_writing(self, uid: str, row: _Row) -> None:
        try:
            await self._write(uid, row)
        except Exception:  # a status that can't be written must not hold up its Pod's end
            log.exception("status of %s", uid)
        finally:
            row.clean.set()

    async def _write(self, uid: str, row: _Row) -> None:
        sent: Object = {}
        delay = _FIRST_DELAY
        while True:
            target = self._find(uid)
            if target is None:
                return
            if not self._base(row, target).get("startTime") and _being_created(row.wanted):
                row.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER):
                        await row.changed.wait()
            async with self._gate:  # whoever waits here tells the newer news afterwards, in one write
                row.changed.clear()
                patch = changes(self._base(row, target), row.wanted)
                if not patch or patch == sent:  # said and acknowledged: a server that keeps it differently is right
                    return
                trouble = await self._send(row, target, patch)
            if trouble is None:
                delay, sent = _FIRST_DELAY, patch
                continue
            if isinstance(trouble, ApiError) and (trouble.code == 404 or self._find(uid) is not target):
                if self._find(uid) is None or trouble.code == 404:
                    return
                continue
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    async def _send(self, row: _Row, target: Object, patch: Object) -> NetlabError | None:
        """Write one patch; return what went wrong."""
        if self._client is None:
            return None
        body = {"metadata": {"uid": meta.uid(target)}, "status": patch}
        try:
            answer = await self._client.patch("pods", meta.name(target), body, meta.namespace(target),
                                              type="strategic", subresource="status")
        except ApiError as error:
            if error.code != 404:
                log.warning("status of %s was refused: %s", meta.key(target), error)
            return error
        except NetlabError as error:
            log.debug("status of %s waits: %s", meta.key(target), error)
            return error
        row.written, row.revision = answer.get("status") or {}, meta.revision(answer)
        return None


def _being_created(status: Object) -> bool:
    """Tell whether a status says only that a Pod's containers are about to start."""
    if status.get("phase") != "Pending":
        return False
    rows = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return all((row["state"].get("waiting") or {}).get("reason") in ("ContainerCreating", "PodInitializing")
               for row in rows)
