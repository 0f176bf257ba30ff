"""How many seats a request takes: more than one for lists, by how much is read for them.

k8s:staging/src/k8s.io/apiserver/pkg/util/flowcontrol/request/list_work_estimator.go
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.http import Request
from netlab.errors import NetlabError

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

_BYTES_A_SEAT = 100_000
_BYTES_AT_ONCE = 1_000_000
"""More than that is not in memory at once: a large list is sent piece by piece."""
_SAMPLE = 16


class Sizes:
    """What the collections that are listed hold, as it was some seconds ago."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[tuple[str, str], tuple[int, int]] = {}
        self._measuring: set[asyncio.Task[None]] = set()

    def width(self, asked: Attributes, request: Request, most: int) -> int:
        """Return the seats of a list, or of a watch that begins with one; `most`: what one request may take."""
        if asked.verb == "watch" and not request.flag("sendInitialEvents"):
            return 1
        key = asked.group, asked.resource
        found = self._known.get(key)
        if found is None:
            self._known[key] = 0, 0
            task = asyncio.ensure_future(self._measure(key))
            self._measuring.add(task)
            task.add_done_callback(self._measuring.discard)
            return 1
        if asked.name:
            return 1
        count, size = found
        limit = request.arg("limit")
        if limit and limit.isascii() and limit.isdigit() and 0 < len(limit) < 10 and int(limit):
            count = min(count, int(limit))
        return max(min(-(-min(count * size, _BYTES_AT_ONCE) // _BYTES_A_SEAT), most), 1)

    async def measure(self) -> None:
        """Look again at all that has been listed."""
        for key in tuple(self._known):
            await self._measure(key)

    async def _measure(self, key: tuple[str, str]) -> None:
        endpoint = next((one for (group, _, plural), one in self._api.endpoints.items()
                         if (group, plural) == key), None)
        if endpoint is None:
            self._known.pop(key, None)
            return
        with contextlib.suppress(NetlabError):
            part = await self._api.store.list(endpoint.folder.prefix, limit=_SAMPLE)
            size = sum(len(kv.value) for kv in part.kvs) // max(len(part.kvs), 1)
            self._known[key] = len(part.kvs) + part.remaining, size
