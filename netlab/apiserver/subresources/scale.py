"""…/scale: the replicas of a workload as autoscaling/v1 Scale, the same for every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from netlab.api import schema, selector, validate
from netlab.api.meta import Object
from netlab.api.patch import jsonpatch, merge, strategic
from netlab.apiserver import negotiate, status, write_options
from netlab.apiserver.admission.base import Attempt
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.strategies.base import ScalePaths
from netlab.apiserver.validation.errors import FieldError, invalid
from netlab.apiserver.verbs import patch as patches
from netlab.apiserver.verbs.get import current
from netlab.apiserver.verbs.update import copy_of, rewrite
from netlab.errors import ApiError

_NAMED: dict[str, dict[str, Any]] = {
    "deployments": {"plural": "deployments/scale"}, "replicasets": {"plural": "replicasets/scale"},
    "replicationcontrollers": {"plural": "replicationcontrollers/scale", "group": "autoscaling"}}
"""What upstream says was not found, when a Scale was asked for; of the other kinds it names the resource itself."""
_USUAL = ScalePaths(("spec", "replicas"), ("status", "replicas"))


def scale_of(obj: Object, paths: ScalePaths | None = None) -> Object:
    """Return the Scale of a workload."""
    metadata = obj["metadata"]
    where = paths or _USUAL
    wanted = _at(obj, where.wanted) or 0
    scale_status: Object = {"replicas": _at(obj, where.present) or 0}
    chosen = _at(obj, ("spec", "selector")) if paths is None else None
    if where.selector:
        scale_status |= {"selector": str(found)} if (found := _at(obj, where.selector)) else {}
    elif chosen:
        is_map = "matchLabels" not in chosen and "matchExpressions" not in chosen
        scale_status["selector"] = str(selector.from_object({"matchLabels": chosen} if is_map else chosen))
    shown = {part: metadata[part] for part in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
             if part in metadata}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": shown,
            "spec": {"replicas": wanted} if wanted else {}, "status": scale_status}


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


async def get(call: Call) -> Reply:
    """Answer the Scale."""
    try:
        found = await current(call)
    except ApiError as error:
        if error.code == 404 and (named := _NAMED.get(call.endpoint.resource.plural)):
            raise status.not_found(replace(call.endpoint.resource, **named), call.name) from None
        raise
    return _reply(scale_of(call.endpoint.view(found), call.endpoint.strategy.scale_paths))


async def update(call: Call) -> Reply:
    """Set the replicas from a Scale.

    Raises:
        ApiError: 400, 404, 409, 422.
    """
    wanted = await call.read_part()
    return await _write(call, lambda _scale: wanted)


async def patch(call: Call) -> Reply:
    """Set the replicas by a patch of the Scale.

    Raises:
        ApiError: 400, 404, 409, 415, 422.
    """
    kind = call.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    raw = await call.request.body()
    write_options.check(call.request, "PatchOptions", applying=kind == patches.APPLY)
    if kind == patches.APPLY:
        body = negotiate.load_yaml(raw)
        kind = patches.MERGE
    else:
        body = negotiate.load_json(raw)

    def changed(scale: Object) -> Any:
        if kind == patches.JSON_PATCH:
            return jsonpatch.apply(scale, body)
        if kind == patches.MERGE:
            return merge.apply(scale, body)
        if kind == patches.STRATEGIC:
            struct = schema.table().kind("autoscaling/v1", "Scale")
            return strategic.apply(scale, body, struct) if struct is not None else merge.apply(scale, body)
        raise status.unsupported_media_type((patches.JSON_PATCH, patches.MERGE, patches.STRATEGIC))

    return await _write(call, changed)


async def _write(call: Call, change: Callable[[Object], Any]) -> Reply:
    resource, paths = call.endpoint.resource, call.endpoint.strategy.scale_paths

    async def apply(old: Object) -> tuple[Object, bool]:
        before = scale_of(old, paths)
        scale = change(copy_of(before))
        if not isinstance(scale, dict) or scale.get("kind") != "Scale":
            raise status.bad_request("want a Scale of autoscaling/v1")
        validate.handle(b"", scale, "autoscaling/v1", "Scale", mode="Ignore")
        scale["metadata"] = scale.get("metadata") or {}
        await call.api.admission.admit(Attempt(call, "UPDATE", scale, before, resource, call.namespace, call.name,
                                               "scale"))
        replicas = (scale.get("spec") or {}).get("replicas") or 0
        if replicas < 0 and paths is None:
            raise _invalid_scale(call.name, invalid("spec.replicas", replicas, "must be greater than or equal to 0"))
        metadata = scale["metadata"]
        status.check_name(metadata.get("name", call.name), call.name)
        new: Object = copy_of(old)
        *folders, last = (paths or _USUAL).wanted
        at = new
        for name in folders:
            at = at.setdefault(name, {})
        at[last] = replicas
        new["metadata"]["resourceVersion"] = metadata.get("resourceVersion") or ""
        if metadata.get("uid"):
            new["metadata"]["uid"] = metadata["uid"]
        return new, False

    kv, obj = await rewrite(call, apply)
    if kv is not None:
        obj = call.endpoint.view(kv)
    if not obj:
        raise status.not_found(resource, call.name)
    return _reply(scale_of(obj, paths))


def _invalid_scale(name: str, error: FieldError) -> ApiError:
    return ApiError(422, "Invalid", f'Scale.autoscaling "{name}" is invalid: {error}', details={
        "name": name, "group": "autoscaling", "kind": "Scale",
        "causes": [{"reason": error.reason, "message": error.body, "field": error.field}]})


def _reply(scale: Object) -> Reply:
    return Reply(orjson.dumps(scale))
