"""The loop of those in the API server who follow a part of its own store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from netlab.errors import NetlabError
from netlab.store import StoreError, WatchCut

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


async def forever(api: Api, what: str, follow: Callable[[], Awaitable[None]]) -> None:
    """Run `follow`, which takes stock and then goes on with a watch, until the server stops.

    It begins anew when its watch is cut off, and a second after trouble, which the log tells about `what`.
    """
    while not api.stopping:
        try:
            await follow()
        except WatchCut:
            continue
        except (NetlabError, StoreError) as error:
            log.warning("%s: %s; looking again", what, error)
            await asyncio.sleep(_AGAIN_SECONDS)
        except Exception:  # one object that nobody thought of must not end the service of all others
            log.exception("%s: looking again", what)
            await asyncio.sleep(_AGAIN_SECONDS)
