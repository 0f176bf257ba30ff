"""Events: what a component tells people about an object, as `kubectl describe` and `kubectl get events` show it.

Repeats are counted in one Event, as client-go's tools/record does; a component that repeats itself too much about one
object is muted. Telling never waits and never fails: a component must not stumble over its own words.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)

_REMEMBERED = 4096   # distinct events, and distinct objects, that are kept in mind
_WAITING = 2000      # events that wait for the API server; more are dropped
_BURST, _REFILL = 25.0, 1 / 300.0  # client-go's spam filter: tokens per object, and per second
_LONGEST_MESSAGE = 1024


@dataclass
class _Told:
    name: str
    namespace: str
    count: int


class Recorder:
    """Tells events in the name of one component. `host` is the node it runs on, "" where that means nothing."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client, self._component, self._host = client, component, host
        self._queue: asyncio.Queue[tuple[tuple[str, ...], Object]] = asyncio.Queue(_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._told: OrderedDict[tuple[str, ...], _Told] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._last_name = 0

    def event(self, obj: Object, type: str, reason: str, message: str, *, action: str = "",
              field_path: str = "") -> None:
        """Tell one event about `obj`.

        Args:
            obj: the object, with apiVersion, kind and metadata; or an ObjectReference.
            type: Normal or Warning.
            reason: one CamelCase word.
            message: a sentence.
            action: what was being done, one CamelCase word (events.k8s.io).
            field_path: the part of the object meant, e.g. `spec.containers{web}`.
        """
        reference = _reference(obj, field_path)
        now = time.time()
        if not self._allowed(f"{reference.get('kind')}/{reference.get('namespace')}/{reference.get('name')}/"
                             f"{reference.get('uid')}", now):
            return
        space = reference.get("namespace") or "default"
        self._last_name = max(self._last_name + 1, int(now * 1e9))
        stamp = meta.timestamp(now)
        event: Object = {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": f"{str(reference.get('name', ''))[:230]}.{self._last_name:x}", "namespace": space},
            "involvedObject": reference, "type": type, "reason": reason, "message": message[:_LONGEST_MESSAGE],
            "source": {"component": self._component} | ({"host": self._host} if self._host else {}),
            "reportingComponent": self._component, "reportingInstance": self._host,
            "firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1}
        if action:
            event["action"] = action
        try:
            self._queue.put_nowait((_sameness(event), event))
        except asyncio.QueueFull:
            log.debug("too many events wait: dropped %s about %s", reason, reference.get("name"))
            return
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send_all())

    async def close(self, seconds: float = 1.0) -> None:
        """Send what waits, for at most `seconds`, and end."""
        if self._task is not None:
            try:
                async with asyncio.timeout(seconds):
                    await self._queue.join()
            except TimeoutError:
                pass
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _allowed(self, about: str, now: float) -> bool:
        tokens, at = self._tokens.pop(about, (_BURST, now))
        tokens = min(_BURST, tokens + (now - at) * _REFILL)
        self._tokens[about] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self._tokens) > _REMEMBERED:
            self._tokens.popitem(last=False)
        return tokens >= 1

    async def _send_all(self) -> None:
        while True:
            same, event = await self._queue.get()
            try:
                for delay in (0.1, 0.5, 2.0, None):
                    try:
                        await self._send(same, event)
                        break
                    except NetlabError as error:
                        if delay is None or (isinstance(error, ApiError) and error.code < 500 and error.code != 429):
                            log.debug("event not written: %s", error)
                            break
                        await asyncio.sleep(delay)
            except Exception:  # telling never fails its caller, and goes on
                log.exception("an event was lost")
            finally:
                self._queue.task_done()

    async def _send(self, same: tuple[str, ...], event: Object) -> None:
        told = self._told.get(same)
        if told is not None:
            change = {"count": told.count + 1, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._client.patch("events", told.name, change, told.namespace, type="strategic")
                told.count += 1
                self._told.move_to_end(same)
                return
            except ApiError as error:
                if error.code != 404:
                    raise
        await self._client.create("events", event)
        self._told[same] = _Told(meta.name(event), meta.namespace(event), 1)
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)


def _reference(obj: Object, field_path: str) -> Object:
    if "metadata" not in obj:
        return {**obj, "fieldPath": field_path} if field_path else dict(obj)
    reference: Object = {"kind": obj.get("kind", ""), "apiVersion": obj.get("apiVersion", ""),
                         "name": meta.name(obj), "uid": meta.uid(obj)}
    if meta.namespace(obj):
        reference["namespace"] = meta.namespace(obj)
    if obj["metadata"].get("resourceVersion"):
        reference["resourceVersion"] = obj["metadata"]["resourceVersion"]
    if field_path:
        reference["fieldPath"] = field_path
    return reference


def _sameness(event: Object) -> tuple[str, ...]:
    about = event["involvedObject"]
    return (*(str(about.get(k, "")) for k in ("kind", "namespace", "name", "uid", "fieldPath")),
            event["type"], event["reason"], event["message"])
