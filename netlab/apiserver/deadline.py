"""How long a request may take: the parameter `timeout`, which kubectl sends for --request-timeout.

k8s:staging/src/k8s.io/apiserver/pkg/endpoints/filters/request_deadline.go
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from netlab import flags
from netlab.apiserver import status
from netlab.apiserver.http import Request, Response
from netlab.apiserver.route import Target
from netlab.errors import ApiError, UsageError

_LONGEST = 60.0
"""Upstream's --request-timeout: whoever asks for more, or for 0, gets this, which here nothing comes near."""
_LASTING = frozenset(("attach", "exec", "log", "portforward", "proxy"))


def seconds(request: Request, asked: Target | None) -> float:
    """Return how long a request may take; 0.0 for one that says nothing of that, or that may last.

    Raises:
        ApiError: 400 for what is no duration.
    """
    text = request.arg("timeout")
    lasting = asked.verb == "watch" or asked.subresource in _LASTING if asked is not None else request.flag("watch")
    if not text or lasting:
        return 0.0
    try:
        found = flags.parse_duration(text)
    except UsageError:
        raise status.bad_request("invalid timeout specified in the request URL - time: invalid duration "
                                 f"{json.dumps(text)}") from None
    return found if 0 < found < _LONGEST else 0.0


async def within(limit: float, request: Request, work: Coroutine[Any, Any, Response], *, whole: bool) -> Response:
    """Return what a request is answered, if in time (`limit` in s).

    `whole`: what is begun is brought to its end, once its body has come.

    Raises:
        ApiError: 504: it takes longer; what the work raises.
    """
    task = asyncio.ensure_future(work)
    try:
        async with asyncio.timeout(limit) as left:
            return await (asyncio.shield(task) if whole else task)
    except TimeoutError:
        if not left.expired():
            raise
        if getattr(request.body, "waiting", False):  # for what the client has not sent yet
            task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise ApiError(504, "Timeout", "Timeout: request did not complete within requested timeout - context deadline "
                       "exceeded") from None
