"""PUT, and what PUT and PATCH share: read, change, check, write if nobody was faster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from netlab.api.meta import Object
from netlab.apiserver import render, status
from netlab.apiserver.admission.base import Attempt
from netlab.apiserver.audit import REVISION
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.managed import track
from netlab.apiserver.validation.errors import invalid, invalid_object
from netlab.apiserver.verbs.create import must_create, place, store_new
from netlab.errors import ApiError
from netlab.store import Conflict, KeyExists, KeyMissing, KeyValue

Change = Callable[[Object], Awaitable[tuple[Object, bool]]]
"""The stored object → the wanted one, and whether its managedFields are up to date already."""

_APART = ("binding", "scale")
"""Admission was asked about what was sent, a Binding or a Scale, and not about the object that this changes."""
_KEPT = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_DELETION = ("deletionTimestamp", "deletionGracePeriodSeconds")
_RETRIES = 100


async def update(call: Call) -> Reply:
    """Replace an object (or its status) and answer the result.

    Raises:
        ApiError: 400, 403, 404, 409 Conflict, 422.
    """
    obj = await call.read_object()
    metadata, resource = obj["metadata"], call.endpoint.resource
    status.check_name(metadata.get("name", ""), call.name)
    place(call, obj)
    strategy = call.endpoint.strategy
    unconditional = not metadata.get("resourceVersion")

    sent, uid = orjson.dumps(obj), metadata.get("uid")
    unused = [obj]

    async def change(_old: Object) -> tuple[Object, bool]:
        if call.misfit is not None:
            raise call.misfit
        if unconditional and not strategy.unconditional_update:
            raise invalid_object(replace(resource, kind=resource.plural), call.name, [  # upstream has no better word
                invalid("metadata.resourceVersion", 0, "must be specified for an update")])
        return unused.pop() if unused else orjson.loads(sent), False  # each try changes what it works on

    try:
        return await modify(call, change)
    except ApiError as error:
        if error.code != 404 or call.target.subresource or not strategy.create_on_update or "name" not in error.details:
            if error.code == 404 and uid and "name" in error.details:
                raise _another(call, uid, "") from None
            raise
    obj = orjson.loads(sent)
    obj["metadata"].pop("resourceVersion", None)
    must_create(call)
    try:
        kv, result = await store_new(call, obj, dry_run=call.dry_run())
    except KeyExists:
        raise status.conflict(resource, call.name, status.MODIFIED) from None
    return render.one(call, kv, 201) if kv is not None else render.one_object(call, result, 201)


async def modify(call: Call, change: Change) -> Reply:
    """Write what `change` makes of the stored object and answer it; start again when somebody else wrote meanwhile.

    Raises:
        ApiError: 404; 409 when `change` insists on a revision that is no more; what admission and checks say.
    """
    kv, obj = await rewrite(call, change)
    return render.one(call, kv) if kv is not None else render.one_object(call, obj)


async def rewrite(call: Call, change: Change, *, dry_run: bool | None = None) -> tuple[KeyValue | None, Object]:
    """Do what `modify` does, and return the stored object (None in a dry run, or when it is gone) and its content."""
    endpoint, strategy, resource = call.endpoint, call.endpoint.strategy, call.endpoint.resource
    folder = endpoint.folder
    key = folder.key(call.namespace, call.name)
    dry_run = call.dry_run() if dry_run is None else dry_run
    certain, since, said = dry_run, 0, len(call.request.warnings)
    for _ in range(_RETRIES):
        current, certain = (await folder.store.get(key), True) if certain else await folder.store.recent(key, since)
        if current is None:
            raise status.not_found(resource, call.name)
        del call.request.warnings[said:]
        await endpoint.ready((current,))
        old = endpoint.view(current)
        try:
            obj, tracked = await change(old)
            _check_identity(call, obj, old)
            obj = await _prepare(call, obj, old, tracked=tracked)
        except ApiError:
            if certain:
                raise
            certain = True  # it may be all right with what is there now
            continue
        if not certain and same(obj, old):
            certain = True
            continue
        undo = None
        try:
            if call.target.subresource == "":
                undo = strategy.allocate(obj, old, dry_run=dry_run)
            if obj["metadata"].get("deletionTimestamp") and strategy.gone(obj) and not strategy.gone(old):
                result = await _remove(call, current, obj, dry_run=dry_run)
            else:
                result = await _write(call, current, obj, old, dry_run=dry_run)
        except KeyMissing:
            _undo(undo)
            raise status.not_found(resource, call.name) from None
        except Conflict as error:
            _undo(undo)
            certain, since = False, error.current.mod_revision
            continue
        except BaseException:
            _undo(undo)
            raise
        if undo is not None:
            undo.commit()
        return result
    raise status.conflict(resource, call.name, status.MODIFIED)


async def _write(call: Call, current: KeyValue, obj: Object, old: Object, *, dry_run: bool,
                 ) -> tuple[KeyValue | None, Object]:
    endpoint = call.endpoint
    if dry_run:
        return None, obj | {"metadata": obj["metadata"] | {"resourceVersion": old["metadata"]["resourceVersion"]}}
    if same(obj, old):
        return current, old
    kv = await endpoint.folder.store.update(current.key, await endpoint.stored(obj), current.mod_revision,
                                            ttl=endpoint.strategy.ttl)
    call.request.note(REVISION, str(kv.mod_revision))
    await endpoint.ready((kv,))
    return kv, obj


async def _remove(call: Call, current: KeyValue, obj: Object, *, dry_run: bool) -> tuple[KeyValue | None, Object]:
    """The write took the last finalizer off an object that waits for its deletion."""
    if not dry_run:
        await call.endpoint.folder.store.delete(current.key, current.mod_revision)
        call.endpoint.strategy.release(obj)
    return None, obj


def _check_identity(call: Call, obj: Object, old: Object) -> None:
    metadata, before = obj["metadata"], old["metadata"]
    wanted = metadata.get("uid")
    if wanted and wanted != before.get("uid"):
        if call.request.method == "PATCH":
            raise invalid_object(call.endpoint.resource, call.name, [
                invalid("metadata.uid", wanted, "field is immutable")])
        raise _another(call, wanted, before.get("uid", ""))
    revision = metadata.get("resourceVersion")
    if revision not in (None, "", "0") and revision != before.get("resourceVersion"):
        raise status.conflict(call.endpoint.resource, call.name, status.MODIFIED)


def _another(call: Call, wanted: str, found: str) -> ApiError:
    """Return the error of a write that names by its uid another object than the one that is there ("": none is)."""
    key = call.endpoint.folder.key(call.namespace, call.name).decode()
    return status.conflict(call.endpoint.resource, call.name, f"StorageError: invalid object, Code: 4, Key: {key}, "
                           f"ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: "
                           f"{wanted}, UID in object meta: {found}")


async def _prepare(call: Call, obj: Object, old: Object, *, tracked: bool) -> Object:
    endpoint, strategy, subresource = call.endpoint, call.endpoint.strategy, call.target.subresource
    metadata, before = obj["metadata"], old["metadata"]
    strategy.default(obj)
    for part in _KEPT:
        if part not in _DELETION or part in before:  # who writes of a deletion that has not begun is told
            _keep(metadata, before, part)
    metadata.setdefault("name", before.get("name", ""))
    if "generateName" in before:
        metadata["generateName"] = before["generateName"]
    if not tracked and subresource == "":  # before admission, whose additions nobody owns
        obj, tracked = obj | {"metadata": track(call, old, endpoint.complete(obj))["metadata"]}, True
    attempt = Attempt(call, "UPDATE", obj, old, endpoint.resource, call.namespace, call.name, subresource)
    asked = subresource not in _APART
    if asked:
        await call.api.admission.mutate(attempt)
    metadata = obj["metadata"]
    if subresource == "status":
        strategy.prepare_status(obj, old)
        if endpoint.custom is None:
            _complete(obj)
        errors = strategy.validate_status(obj, old)
    elif subresource not in ("", "scale"):
        strategy.prepare_part(subresource, obj, old)
        errors = strategy.validate_part(subresource, obj, old)
        if strategy.generation and strategy.changed(obj, old):
            metadata["generation"] = before.get("generation", 0) + 1
    else:
        strategy.prepare_update(obj, old)
        if strategy.generation and strategy.changed(obj, old):
            metadata["generation"] = before.get("generation", 0) + 1
        errors = strategy.validate_update(obj, old)
        call.request.warnings += strategy.warnings(obj, old)
    if errors:
        raise invalid_object(endpoint.resource, call.name, errors)
    if asked:
        await call.api.admission.validate(attempt)
    obj = endpoint.complete(obj)
    if not tracked:
        obj = track(call, old, obj, subresource=subresource)
    return obj


def _complete(obj: Object) -> None:
    """Write down what Go writes even when it is empty: readers go by the type and the status of every condition."""
    state = obj.get("status")
    conditions = state.get("conditions") if isinstance(state, dict) else None
    for condition in conditions if isinstance(conditions, list) else ():
        if isinstance(condition, dict):
            condition.setdefault("type", "")
            condition.setdefault("status", "")


def same(obj: Object, old: Object) -> bool:
    """Tell whether a write would change nothing but the times in managedFields."""
    if len(obj) != len(old) or any(obj.get(part) != old.get(part) for part in old if part != "metadata"):
        return False
    new_meta, old_meta = obj["metadata"], old["metadata"]
    skip = ("managedFields", "resourceVersion")
    if {k: v for k, v in new_meta.items() if k not in skip} != {k: v for k, v in old_meta.items() if k not in skip}:
        return False
    new_owners, old_owners = _untimed(new_meta), _untimed(old_meta)
    return new_owners == old_owners or (
        len(new_owners) == len(old_owners) and sorted(new_owners, key=_who) == sorted(old_owners, key=_who))


def _untimed(metadata: Object) -> list[Object]:
    return [{k: v for k, v in entry.items() if k != "time"} for entry in metadata.get("managedFields") or []]


def _who(entry: Object) -> tuple[str, ...]:
    """Return whose entry it is: a later time alone puts it behind the others."""
    return tuple(str(entry.get(part, "")) for part in ("manager", "operation", "apiVersion", "subresource"))


def copy_of(value: Any) -> Any:
    """Return a copy of a JSON value that may be changed."""
    return orjson.loads(orjson.dumps(value))


def _keep(obj: Object, old: Object, part: str) -> None:
    if part in old:
        obj[part] = old[part]
    else:
        obj.pop(part, None)


def _undo(undo: Any) -> None:
    if undo is not None:
        undo.undo()
