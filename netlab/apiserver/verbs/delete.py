"""DELETE of one object: at once, after a grace, or when its finalizers are gone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver import negotiate, render, status
from netlab.apiserver.admission.base import Attempt
from netlab.apiserver.audit import REVISION
from netlab.apiserver.call import Call, encoded, is_dry_run
from netlab.apiserver.http import Reply
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.verbs import listing
from netlab.apiserver.verbs.update import copy_of
from netlab.errors import ApiError
from netlab.store import Conflict, KeyMissing, KeyValue

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_POLICIES = ("Orphan", "Background", "Foreground")
_RETRIES = 100


@dataclass(frozen=True, slots=True)
class Options:
    """DeleteOptions. `grace` and `propagation` are None when not given; `uid` and `revision` are preconditions."""

    grace: int | None = None
    propagation: str | None = None
    uid: str = ""
    revision: str = ""
    dry_run: bool = False


async def delete(call: Call) -> Reply:
    """Delete the object, or mark it; answers the object or a Status.

    Raises:
        ApiError: 400, 403, 404, 409 (a precondition), 422.
    """
    options = await options_of(call)
    warn(call, options)
    kv, obj, gone = await remove(call, options)
    if gone and not call.endpoint.strategy.returns_deleted:
        resource = call.endpoint.resource
        details: dict[str, Any] = {"name": call.name} | ({"group": resource.group} if resource.group else {})
        details |= {"kind": resource.plural, "uid": obj["metadata"].get("uid", "")}
        return Reply(encoded(status.success(details=details)))
    return render.one(call, kv) if kv is not None else render.one_object(call, obj)


def warn(call: Call, options: Options) -> None:
    """Tell the client what its silence about the propagation policy leaves behind."""
    said = call.endpoint.strategy.orphans_warning
    if said and options.propagation is None:
        call.request.warnings.append(said)


async def options_of(call: Call) -> Options:
    """Read DeleteOptions from the body and from the query.

    Raises:
        ApiError: 400, 422.
    """
    raw = await call.request.body()
    body: Object = {}
    if raw.strip():
        body = negotiate.decode(raw, call.request.headers)
        if body.get("kind", "DeleteOptions") != "DeleteOptions":
            raise status.bad_request(f"decoded object cannot be converted to DeleteOptions: {body.get('kind')}")
    grace = body.get("gracePeriodSeconds")
    if grace is None:
        grace = listing.number(call.request, "gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise status.bad_request("gracePeriodSeconds: Invalid value: want a number")
    propagation = body.get("propagationPolicy") or call.request.arg("propagationPolicy") or None
    orphan = body.get("orphanDependents")
    if propagation is not None and propagation not in _POLICIES:
        words = ", ".join(f'"{word}"' for word in ("Foreground", "Background", "Orphan", "nil"))
        raise _bad("propagationPolicy", "NotSupported",
                   f'Unsupported value: "{propagation}": supported values: {words}')
    if propagation is not None and orphan is not None:
        raise _bad("propagationPolicy", "Invalid", f'Invalid value: "{propagation}": orphanDependents and '
                                                   "deletionPropagation cannot be both set")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    preconditions = body.get("preconditions") or {}
    if not isinstance(preconditions, dict):
        raise status.bad_request("preconditions: Invalid value: want an object")
    dry_run = body.get("dryRun") or call.request.query.get("dryRun") or []
    if not isinstance(dry_run, list):
        raise status.bad_request("dryRun: Invalid value: want a list")
    return Options(grace, propagation, preconditions.get("uid") or "", preconditions.get("resourceVersion") or "",
                   is_dry_run(dry_run, "DeleteOptions"))


async def remove(call: Call, options: Options, *, admitted: bool = False) -> tuple[KeyValue | None, Object, bool]:
    """Delete or mark. Returns the stored object if it is still there, its content, and whether it is gone.

    `admitted`: nobody is asked any more, as an eviction was.

    Raises:
        ApiError: 404, 409.
    """
    endpoint, strategy, resource = call.endpoint, call.endpoint.strategy, call.endpoint.resource
    folder = endpoint.folder
    key = folder.key(call.namespace, call.name)
    certain, since = options.dry_run, 0
    for _ in range(_RETRIES):
        current, certain = (await folder.store.get(key), True) if certain else await folder.store.recent(key, since)
        if current is None:
            raise status.not_found(resource, call.name)
        await endpoint.ready((current,))
        old = endpoint.view(current)
        try:
            _preconditions(call, options, old)
            if not admitted:
                await call.api.admission.admit(Attempt(call, "DELETE", {}, old, resource, call.namespace, call.name))
        except ApiError:
            if certain:
                raise
            certain = True  # it may be all right with what is there now
            continue
        obj, goes = marked(strategy, copy_of(old), options, now=call.now)
        if obj == old and not goes and not certain:
            certain = True
            continue
        try:
            if options.dry_run or (obj == old and not goes):
                return (None if options.dry_run else current), obj, goes
            if obj != old:  # even when it goes at once: watchers see by which grace it went
                current = await folder.store.update(key, await endpoint.stored(obj), current.mod_revision,
                                                    ttl=strategy.ttl)
                await endpoint.ready((current,))
            if not goes:
                return current, obj, False
            deleted = await folder.store.delete(key, current.mod_revision)
            strategy.release(old)
            call.request.note(REVISION, str(deleted.revision))
            obj["metadata"]["resourceVersion"] = str(deleted.revision)
            return None, obj, True
        except KeyMissing:
            raise status.not_found(resource, call.name) from None
        except Conflict as error:
            certain, since = False, error.current.mod_revision
    raise status.conflict(resource, call.name, status.MODIFIED)


def marked(strategy: Strategy, obj: Object, options: Options, *, now: float) -> tuple[Object, bool]:
    """Return the object as a deletion leaves it, and whether it goes at once.

    What has a grace is marked first even when that is 0; what has none and no finalizers goes as it is.
    """
    metadata = obj["metadata"]
    before = copy_of(obj)
    _propagate(metadata, options.propagation, orphans=strategy.orphans)
    grace = strategy.grace(obj, options.grace) if strategy.graceful else 0
    if "deletionTimestamp" in metadata:
        running = metadata.get("deletionGracePeriodSeconds") or 0
        if strategy.graceful and options.grace is not None and grace < running:
            at = meta.parse_timestamp(metadata["deletionTimestamp"]) - running + grace
            metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"] = meta.timestamp(at), grace
        return obj, strategy.gone(obj)
    metadata["deletionTimestamp"] = meta.timestamp(now + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    goes = strategy.gone(obj)
    if goes and not strategy.graceful:
        return before, True
    if metadata.get("generation"):
        metadata["generation"] += 1
    strategy.mark(obj)
    return obj, strategy.gone(obj)


def _propagate(metadata: Object, policy: str | None, *, orphans: bool) -> None:
    """Set the finalizers that carry the policy to the garbage collector.

    Without a policy those count that are there, and without them the kind's own (`orphans`) does.
    """
    if policy is None:
        if not orphans or {ORPHAN, FOREGROUND} & set(metadata.get("finalizers") or ()):
            return
        policy = "Orphan"
    wanted = {"Orphan": ORPHAN, "Foreground": FOREGROUND}.get(policy, "")
    finalizers = [name for name in metadata.get("finalizers") or [] if name not in (ORPHAN, FOREGROUND)]
    if wanted:
        finalizers.append(wanted)
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def _preconditions(call: Call, options: Options, old: Object) -> None:
    metadata = old["metadata"]
    if options.uid and options.uid != metadata.get("uid"):
        raise _unmet(call, f"the UID in the precondition ({options.uid}) does not match the UID in record "
                           f"({metadata.get('uid', '')}). The object might have been deleted and then recreated")
    if options.revision and options.revision != metadata.get("resourceVersion"):
        raise _unmet(call, f"the ResourceVersion in the precondition ({options.revision}) does not match the "
                           f"ResourceVersion in record ({metadata['resourceVersion']}). The object might have been "
                           "modified")


def _unmet(call: Call, why: str) -> ApiError:
    """Return the error of a precondition, in which upstream names the kind where the resource is meant."""
    resource = call.endpoint.resource
    return status.conflict(replace(resource, plural=resource.kind), call.name, why)


def _bad(field: str, reason: str, said: str) -> ApiError:
    return status.bad_options("DeleteOptions", field, f"FieldValue{reason}", said)
