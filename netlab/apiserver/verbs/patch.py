"""PATCH: strategic merge, merge, JSON patch and server-side apply."""

from __future__ import annotations

from typing import Any

import orjson

from netlab.api import schema, validate
from netlab.api.meta import Object
from netlab.api.patch import apply, jsonpatch, merge, shape, strategic, typed_check
from netlab.apiserver import negotiate, render, status, write_options
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.verbs.create import must_create, place, store_new
from netlab.apiserver.verbs.update import Change, copy_of, modify
from netlab.errors import ApiError
from netlab.store import KeyExists

JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_KINDS = (JSON_PATCH, MERGE, STRATEGIC, APPLY)
_CUSTOM = (JSON_PATCH, MERGE, APPLY)


async def patch(call: Call) -> Reply:
    """Change an object by a patch and answer the result; an apply of an absent object creates it (201).

    Raises:
        ApiError: 400, 403, 404, 409, 415, 422.
    """
    if _content_type(call) == APPLY:
        write_options.check(call.request, "PatchOptions", applying=True)
        return await _apply(call, await call.request.body())
    kind, body = await read(call)
    return await modify(call, patcher(call, kind, body, await call.request.body()))


async def read(call: Call) -> tuple[str, Any]:
    """Return the kind and the body of a patch that is no apply.

    Raises:
        ApiError: 400, 415, 422.
    """
    kind = _content_type(call)
    taken = _KINDS if call.endpoint.custom is None else _CUSTOM
    if kind not in taken:
        raise status.unsupported_media_type(taken)
    write_options.check(call.request, "PatchOptions")
    return kind, negotiate.load_json(await call.request.body())


def _content_type(call: Call) -> str:
    return call.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def patcher(call: Call, kind: str, body: Any, raw: bytes) -> Change:
    """Return the change that a patch makes; `raw` is the patch's text.

    Raises:
        ApiError: 400 for a body of the wrong form.
    """
    resource = call.endpoint.resource
    if kind == JSON_PATCH:
        if not isinstance(body, list):
            raise status.bad_request("error decoding patch: json: cannot unmarshal object into Go value of type "
                                     "jsonpatch.Patch")
    elif not isinstance(body, dict):
        raise status.bad_request(f"json: cannot unmarshal {negotiate.go_kind(body)} into Go value of type "
                                 "map[string]interface {}")

    async def change(old: Object) -> tuple[Object, bool]:
        shown = ""
        if kind == JSON_PATCH:
            new = jsonpatch.apply(old, body)
        elif kind == MERGE:
            new = merge.apply(old, body)
        else:
            struct = schema.table().kind(resource.api_version, resource.kind)
            new = strategic.apply(old, body, struct) if struct is not None else merge.apply(old, body)
            shown = strategic.shown(body)
        made = _own(new)
        if made is None:
            raise status.bad_request("the patch makes something that is no object, or one that is nested too deeply")
        return accept(call, raw, made, shown), False

    return change


def _own(new: Any) -> Object | None:
    """Return a copy of what a patch made, which shares parts with what is stored; None if that is no good object."""
    if not isinstance(new, dict):
        return None
    try:
        text = orjson.dumps(new)
    except TypeError:  # it is nested more deeply than orjson likes
        return None
    if not negotiate.shallow(text) and not validate.depth(new, negotiate.MAX_DEPTH):
        return None
    made: Object = orjson.loads(text)
    return made


def accept(call: Call, raw: bytes, new: Object, shown: str = "") -> Object:
    """Check what a patch made as if it had been sent whole; `shown` is how errors show the patch.

    Raises:
        ApiError: 400, 422.
    """
    resource = call.endpoint.resource
    if new.get("kind") != resource.kind or new.get("apiVersion") != resource.api_version:
        raise status.bad_request("the patch may not change kind or apiVersion")
    if not isinstance(new.get("metadata"), dict):
        raise status.bad_request("the patch may not remove metadata")
    checked = call.checked(raw if raw.lstrip()[:1] == b"{" else b"", new, patched=True, shown=shown)
    metadata = checked["metadata"]
    status.check_name(metadata.get("name", ""), call.name)
    if call.endpoint.resource.namespaced and metadata.get("namespace") not in (None, "", call.namespace):
        raise status.bad_request(f"the namespace of the object ({metadata['namespace']}) does not match the namespace "
                                 f"on the request ({call.namespace})")
    place(call, checked)
    return checked


async def _apply(call: Call, raw: bytes) -> Reply:
    resource = call.endpoint.resource
    manager, force = call.request.arg("fieldManager"), call.request.flag("force")
    applied = negotiate.load_yaml(raw) if raw[:1] != b"{" else negotiate.load_json(raw)
    if not isinstance(applied, dict):
        raise status.bad_request("error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot "
                                 f"unmarshal {negotiate.go_kind(applied)} into Go value of type "
                                 "map[string]interface {}")
    if applied.get("apiVersion") != resource.api_version:
        raise status.bad_request("Incorrect version specified in apply patch. Specified patch version: "
                                 f"{applied.get('apiVersion') or ''}, expected: {resource.api_version}")
    if applied.get("kind") != resource.kind:
        raise status.bad_request(f"the patch is of kind {applied.get('kind') or ''}, expected: {resource.kind}")
    metadata = applied.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise status.bad_request("metadata: expected an object")
    if metadata.get("managedFields"):
        raise status.bad_request("metadata.managedFields must be nil")
    named, where = "name" in metadata, metadata.get("namespace") or ""
    status.check_name(metadata.setdefault("name", call.name), call.name)
    place(call, applied)
    said = call.doubled(raw, "error converting YAML to JSON: ") if raw[:1] != b"{" or validate.duplicates(raw) else ""
    if said and call.strictness() == "Strict":
        raise status.bad_request(f"error strict decoding YAML: {said}")

    def merged(live: Object | None) -> Object:
        if problems := typed_check.problems(applied, shape.root(resource.api_version, resource.kind)):
            which = f"{where}/{call.name}; {resource.api_version}, Kind={resource.kind}"
            said = problems[0] if len(problems) == 1 else "errors:" + "".join(f"\n  {problem}" for problem in problems)
            raise status.bad_request(f"failed to create typed patch object ({which}): {said}")
        call.checked(b"", copy_of(applied))  # whose nulls and zeros are its manager's, too
        made = apply.apply(live, applied, manager=manager, force=force, api_version=resource.api_version,
                           kind=resource.kind, subresource=call.target.subresource, now=call.time(),
                           ignored=call.endpoint.strategy.resets(call.target.subresource))
        return call.as_written(copy_of(made))

    async def change(old: Object) -> tuple[Object, bool]:
        return merged(old), True

    while True:
        try:
            return await modify(call, change)
        except ApiError as error:
            if error.code != 404 or call.target.subresource or error.details.get("name") != call.name:
                raise
        if metadata.get("uid"):
            raise status.conflict(resource, call.name, "uid mismatch: the provided object specified uid "
                                  f"{metadata['uid']}, and no existing object was found")
        status.check_name(call.name if named else "", call.name)
        must_create(call)
        try:
            kv, obj = await store_new(call, merged(None), dry_run=call.dry_run(), manage=False)
        except KeyExists:
            continue  # made by somebody else since we looked: apply to that
        return render.one(call, kv, 201) if kv is not None else render.one_object(call, obj, 201)
