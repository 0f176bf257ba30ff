"""ResourceQuota: a namespace uses no more than its quotas say. What a write uses is booked before it is stored.

The quota's status holds what is used; it is changed by compare and swap, so that two writes at once cannot both have
the last of something. A write that fails after its booking is put right by the controller, which counts anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netlab.api import quantity, quota
from netlab.api.meta import Object
from netlab.api.quota import Usage
from netlab.apiserver import status
from netlab.apiserver.admission.base import Attempt, Step
from netlab.errors import ApiError
from netlab.store import Conflict, KeyMissing

if TYPE_CHECKING:
    from netlab.store import KeyValue

_TRIES = 100
_SKIPPED = frozenset(("status", "binding", "eviction", "ephemeralcontainers", "approval", "finalize", "token"))


class ResourceQuota(Step):
    """Upstream's plugin of the same name; the last of all, so that only what will be stored is booked."""

    name = "ResourceQuota"

    async def validate(self, attempt: Attempt) -> None:
        """Book what the write uses, or refuse it."""
        if attempt.operation not in ("CREATE", "UPDATE") or not attempt.namespace or attempt.subresource in _SKIPPED:
            return
        for tries in range(_TRIES):
            try:
                await self._book(attempt, ask=tries > 0)
            except (Conflict, KeyMissing):
                continue  # somebody else booked meanwhile
            except ApiError:
                if not tries:
                    continue  # another server may have freed something a moment ago
                raise
            return
        raise status.conflict(attempt.resource, attempt.name, status.MODIFIED)

    async def _book(self, attempt: Attempt, *, ask: bool) -> None:
        api = attempt.call.api
        endpoint = api.endpoints["", "v1", "resourcequotas"]
        prefix = endpoint.folder.within(attempt.namespace)
        stored = (await api.store.list(prefix)).kvs if ask else api.store.known_under(prefix)
        if not stored:
            return
        change = _change(attempt)
        if not change:
            return
        booked: list[tuple[KeyValue, Object]] = []
        for kv in stored:
            found = endpoint.view(kv)
            if not quota.concerns(found, attempt.resource, attempt.obj):
                continue
            new = _with(found, change, attempt)
            if new is not None:
                booked.append((kv, new))
        if attempt.call.dry_run():
            return
        for kv, new in booked:
            await api.store.update(kv.key, endpoint.encode(new), kv.mod_revision)


def _change(attempt: Attempt) -> Usage:
    """Return what a write uses more (or, negative, less) than what is stored."""
    after = quota.used(attempt.resource, attempt.obj)
    before = quota.used(attempt.resource, attempt.old) if attempt.old is not None else {}
    found = {name: after.get(name, quantity.ZERO) - before.get(name, quantity.ZERO) for name in {*after, *before}}
    return {name: amount for name, amount in found.items() if amount}


def _with(found: Object, change: Usage, attempt: Attempt) -> Object | None:
    """Return the quota with the write booked; None when that changes nothing.

    Raises:
        ApiError: 403, it does not fit; or a Pod does not say what it uses of something that is limited.
    """
    state = found.get("status") or {}
    hard = {name: quantity.parse(text) for name, text in (state.get("hard") or {}).items()}
    used = {name: quantity.parse(text) for name, text in (state.get("used") or {}).items()}
    name = found["metadata"]["name"]
    if attempt.resource.group_resource == "pods" and attempt.operation == "CREATE":
        lacking = quota.missing(hard, attempt.obj)
        if lacking:
            said = "; ".join(f"{key} for: {','.join(silent)}" for key, silent in lacking.items())
            raise _refused(attempt, f"failed quota: {name}: must specify {said}")
    ours = {key: amount for key, amount in change.items() if key in hard}
    if not ours:
        return None
    over = sorted(key for key, amount in ours.items()
                  if amount > quantity.ZERO and used.get(key, quantity.ZERO) + amount > hard[key])
    if over:
        asked = ",".join(f"{key}={ours[key]}" for key in over)
        now = ",".join(f"{key}={used.get(key, quantity.ZERO)}" for key in over)
        limited = ",".join(f"{key}={hard[key]}" for key in over)
        raise _refused(attempt, f"exceeded quota: {name}, requested: {asked}, used: {now}, limited: {limited}")
    after = {**{key: str(amount) for key, amount in used.items()},
             **{key: str(used.get(key, quantity.ZERO) + amount) for key, amount in ours.items()}}
    return {**found, "status": {**state, "used": after}}


def _refused(attempt: Attempt, said: str) -> ApiError:
    return status.forbidden(attempt.resource, attempt.name or attempt.obj["metadata"].get("name", ""), said)
