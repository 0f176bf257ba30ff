"""POST to a collection."""

from __future__ import annotations

import random
import uuid
from dataclasses import replace

from netlab.api.meta import Object
from netlab.apiserver import render, status
from netlab.apiserver.admission.base import Attempt
from netlab.apiserver.audit import REVISION
from netlab.apiserver.auth.refuse import attributes, refused
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.managed import track
from netlab.apiserver.validation.errors import invalid_object
from netlab.errors import ApiError
from netlab.store import KeyExists, KeyValue

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_STEM = 58
_TRIES = 8


async def create(call: Call) -> Reply:
    """Store a new object and answer it with 201.

    Raises:
        ApiError: 400, 403, 409 AlreadyExists, 422.
    """
    obj = await call.read_object()
    dry_run = call.dry_run()
    metadata = obj["metadata"]
    place(call, obj)
    generated = bool(metadata.get("generateName")) and not metadata.get("name")
    if str(metadata.get("resourceVersion") or "").strip("0").isdigit():
        raise status.bad_request("resourceVersion should not be set on objects to be created")
    if call.misfit is not None:
        raise call.misfit
    for attempt in range(_TRIES):
        if generated:
            metadata["name"] = metadata["generateName"][:_STEM] + "".join(random.choices(_SUFFIX, k=5))
        try:
            stored, result = await store_new(call, obj, dry_run=dry_run)
            break
        except KeyExists as taken:
            if not generated or attempt == _TRIES - 1:
                raise _taken(call, metadata["name"], taken.current) from None
    return render.one(call, stored, 201) if stored is not None else render.one_object(call, result, 201)


def _taken(call: Call, name: str, there: KeyValue) -> ApiError:
    """Return the error of a name that is taken, and tell when that will not last."""
    error = status.already_exists(call.endpoint.resource, name)
    if "deletionTimestamp" not in call.endpoint.folder.view(there)["metadata"]:
        return error
    return ApiError(error.code, error.reason, f"object is being deleted: {error}", details=error.details)


def place(call: Call, obj: Object) -> None:
    """Give the object the path's namespace; one of the whole cluster has none, whatever it says.

    Raises:
        ApiError: 400 when it names another.
    """
    metadata = obj["metadata"]
    if call.endpoint.resource.namespaced:
        if not call.namespace:
            raise status.bad_request("an empty namespace may not be set during creation")
        if metadata.setdefault("namespace", call.namespace) != call.namespace:
            if metadata["namespace"]:
                raise status.bad_request("the namespace of the provided object does not match the namespace sent on "
                                         "the "
                                         "request")
            metadata["namespace"] = call.namespace
    else:
        metadata.pop("namespace", None)


def must_create(call: Call) -> None:
    """Ask again before a PUT or an apply makes an object: to update or patch is not yet to create.

    Raises:
        ApiError: 403.
    """
    asked = replace(attributes(call.request, call.target), verb="create")
    decision = call.api.authorizer.authorize(asked)
    if not decision.allowed:
        raise refused(asked, decision.reason)


async def store_new(call: Call, obj: Object, *, dry_run: bool, manage: bool = True,
                    ) -> tuple[KeyValue | None, Object]:
    """Admit, complete, check and store a new object. Returns what is stored (None in a dry run) and the object.

    Raises:
        ApiError: refused.
        KeyExists: the name is taken.
    """
    endpoint, resource = call.endpoint, call.endpoint.resource
    strategy, metadata = endpoint.strategy, obj["metadata"]
    strategy.default(obj)
    if manage:  # by what the client sent: nobody owns what admission and the allocators add
        obj = obj | {"metadata": track(call, None, endpoint.complete(obj))["metadata"]}
    attempt = Attempt(call, "CREATE", obj, None, resource, call.namespace, metadata.get("name", ""))
    await call.api.admission.mutate(attempt)
    metadata = obj["metadata"]
    for part in ("selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "generation"):
        metadata.pop(part, None)
    metadata["uid"], metadata["creationTimestamp"] = str(uuid.uuid4()), call.time()
    if strategy.generation:
        metadata["generation"] = 1
    call.request.object_name = metadata.get("name", "")
    strategy.ask(obj, call.user)
    strategy.prepare_create(obj)
    errors = strategy.validate(obj)
    if errors:
        raise invalid_object(resource, metadata.get("name", ""), errors)
    call.request.warnings += strategy.warnings(obj)
    await call.api.admission.validate(attempt)
    obj = endpoint.complete(obj)
    undo = strategy.allocate(obj, None, dry_run=dry_run)
    try:
        if dry_run:
            there = await endpoint.folder.store.get(
                endpoint.folder.key(metadata.get("namespace", ""), metadata["name"]))
            if there is not None:
                raise KeyExists(there)
            return None, obj
        kv = await endpoint.folder.store.create(
            endpoint.folder.key(metadata.get("namespace", ""), metadata["name"]), await endpoint.stored(obj),
            ttl=strategy.ttl)
    except BaseException:
        if undo is not None:
            undo.undo()
        raise
    if undo is not None:
        undo.commit()
    call.request.note(REVISION, str(kv.mod_revision))
    await endpoint.ready((kv,))
    return kv, obj
