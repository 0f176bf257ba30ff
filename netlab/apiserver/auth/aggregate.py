"""ClusterRoles with an aggregationRule: their rules are those of the ClusterRoles that their selectors choose.

Upstream has a controller for it; here the API server does it, before it serves and after each change of a ClusterRole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netlab.api import selector
from netlab.api.meta import Object
from netlab.apiserver.auth.policy import RBAC
from netlab.errors import NetlabError
from netlab.store import Conflict, KeyMissing, WatchCut

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

log = logging.getLogger(__name__)

_ROUNDS = 20
_AGAIN = 1.0


def gathered(role: Object, roles: Sequence[Object]) -> list[Any] | None:
    """Return the rules that an aggregating ClusterRole should have, None for one that does not aggregate."""
    chosen = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if not chosen:
        return None
    selectors = [selector.from_object(each) for each in chosen]
    rules: list[Any] = []
    for other in sorted(roles, key=lambda each: str(each["metadata"]["name"])):
        labels = other["metadata"].get("labels") or {}
        if other["metadata"]["name"] != role["metadata"]["name"] and any(each.matches(labels) for each in selectors):
            rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


async def settle(api: Api) -> None:
    """Write the rules of every aggregating ClusterRole, again and again until nothing changes."""
    endpoint = api.endpoints[(RBAC, "v1", "clusterroles")]
    folder = endpoint.folder
    for _ in range(_ROUNDS):
        kvs = (await api.store.list(folder.prefix)).kvs
        roles = [endpoint.view(kv) for kv in kvs]
        changed = False
        for kv, role in zip(kvs, roles, strict=True):
            try:
                rules = gathered(role, roles)
            except ValueError as error:
                log.warning("clusterrole %s: %s", role["metadata"]["name"], error)
                continue
            if rules is not None and rules != (role.get("rules") or []):
                changed = True
                try:
                    await api.store.update(kv.key, endpoint.encode({**role, "rules": rules}), kv.mod_revision)
                except (Conflict, KeyMissing):
                    continue  # seen again in the next round
        if not changed:
            return
    log.warning("the aggregation of ClusterRoles does not come to rest: do some select each other?")


async def keep(api: Api) -> None:
    """Settle after every change of a ClusterRole, for ever."""
    prefix = api.endpoints[(RBAC, "v1", "clusterroles")].folder.prefix
    while True:
        try:
            with api.store.watch(prefix) as watch:
                await settle(api)
                async for _ in watch:
                    await settle(api)
        except WatchCut:
            if api.stopping:
                return
        except NetlabError as error:
            log.warning("cannot aggregate ClusterRoles: %s", error)
        await asyncio.sleep(_AGAIN)
