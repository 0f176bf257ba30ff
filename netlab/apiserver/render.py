"""Answers in the form that the client asked for: whole objects, tables, or only metadata; one or many."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from netlab.api import pack
from netlab.api.meta import Object
from netlab.api.protobuf import CONTENT_TYPE
from netlab.apiserver import negotiate, status, table
from netlab.apiserver.call import Call
from netlab.apiserver.endpoint import Endpoint
from netlab.apiserver.http import Large, Reply
from netlab.apiserver.negotiate import Form
from netlab.store import KeyValue

_PORTION = 56 * 1024
"""Bytes of a long list that are made at once."""
_AT_ONCE = 40
"""Objects of a list that are made protobuf at once: a few milliseconds."""
_INCLUDE = ("None", "Metadata", "Object")


def include_object(call: Call) -> str:
    """Return what a table's rows are to carry: None, Metadata or Object.

    Raises:
        ApiError: 400 for another word.
    """
    given = call.request.arg("includeObject") or "Metadata"
    if given not in _INCLUDE:
        raise status.bad_request(f'includeObject: Unsupported value: "{given}": supported values: "Metadata", "None", '
                                 '"Object"')
    return given


def one(call: Call, kv: KeyValue, code: int = 200) -> Reply:
    """Answer one stored object."""
    if call.form.shape == "object" and not call.form.protobuf:
        return _reply(call.form, call.endpoint.wire(kv), code)
    return one_object(call, call.endpoint.view(kv), code)


def one_object(call: Call, obj: Object, code: int = 200) -> Reply:
    """Answer one object that need not be stored; it is shown as if it had been."""
    form = call.form
    if call.endpoint.custom is not None and call.endpoint.conversion is not None:
        obj = call.endpoint.conversion.outward(call.endpoint.conversion.inward(obj))
    if form.shape == "table":
        shown: Object = table_of(call.endpoint, form, [obj], now=call.now, include=include_object(call),
                                 revision=obj["metadata"].get("resourceVersion", ""))
    elif form.shape == "partial":
        shown = partial(obj, form)
    else:
        shown = obj
    if form.protobuf:
        return Reply(negotiate.packed(shown), code, CONTENT_TYPE)
    return _reply(form, orjson.dumps(shown), code)


def many(call: Call, kvs: Sequence[KeyValue], list_meta: dict[str, Any]) -> Reply:
    """Answer a list of stored objects; `list_meta` is its metadata (resourceVersion, continue, remainingItemCount)."""
    form, endpoint = call.form, call.endpoint
    if form.shape == "object":
        kind = endpoint.resource.list_kind or f"{endpoint.resource.kind}List"
        head = orjson.dumps({"kind": kind, "apiVersion": endpoint.resource.api_version, "metadata": list_meta})
        head = head[:-1] + b',"items":['
        if not form.yaml and sum(len(kv.value) for kv in kvs) > 2 * _PORTION and endpoint.plain(kvs):
            return Large(pieces=lambda: _pieces(endpoint, head, kvs))
        return _reply(form, head + b",".join(map(endpoint.item, kvs)) + b"]}")
    views = [endpoint.view(kv) for kv in kvs]
    if form.shape == "table":
        shown = table_of(endpoint, form, views, now=call.now, include=include_object(call))
        shown["metadata"] = list_meta
        return _reply(form, orjson.dumps(shown))
    shown = {"kind": "PartialObjectMetadataList", "apiVersion": f"meta.k8s.io/{form.version}", "metadata": list_meta,
             "items": [partial(obj, form) for obj in views]}
    return _reply(form, orjson.dumps(shown))


async def packed(call: Call, kvs: Sequence[KeyValue], list_meta: dict[str, Any]) -> Reply:
    """Answer a list as `many` does, in protobuf: it is made in portions, and between two of them others have a turn.

    Raises:
        ApiError: 500, what is stored does not fit its kind.
    """
    partial_ = call.form.shape == "partial"
    resource = call.endpoint.resource
    version = f"meta.k8s.io/{call.form.version}" if partial_ else resource.api_version
    kind = "PartialObjectMetadata" if partial_ else resource.kind
    pieces = [pack.list_head(version, f"{kind}List", list_meta)]
    try:
        for start in range(0, len(kvs), _AT_ONCE):
            views = map(call.endpoint.view, kvs[start:start + _AT_ONCE])
            pieces.append(b"".join([pack.chunk(2, pack.message(version, kind, view)) for view in views]))
            await asyncio.sleep(0)
    except pack.Unpackable as error:
        raise status.internal(str(error)) from None
    pieces.insert(0, pack.head(version, f"{kind}List", sum(map(len, pieces))))
    return Large(content_type=CONTENT_TYPE, pieces=lambda: iter([*pieces, pack.TAIL]))


def _pieces(endpoint: Endpoint, head: bytes, kvs: Sequence[KeyValue]) -> Iterator[bytes]:
    size, items = 0, []
    for kv in kvs:
        items.append(endpoint.item(kv))
        size += len(kv.value)
        if size > _PORTION:
            yield head + b",".join(items)
            head, size, items = b",", 0, []
    yield (head if items else b"") + b",".join(items) + b"]}"


def table_of(endpoint: Endpoint, form: Form, objects: list[Object], *, now: float, include: str = "Metadata",
             revision: str = "", headers: bool = True) -> Object:
    """Return a meta.k8s.io Table of these objects, one row each."""
    kind = table.columns(endpoint.resource) if endpoint.custom is None else endpoint.custom.columns
    rows = []
    for obj in objects:
        row: Object = {"cells": kind.cells(obj, now)}
        if include == "Metadata":
            row["object"] = partial(obj, form)
        elif include == "Object":
            row["object"] = {"kind": endpoint.resource.kind, "apiVersion": endpoint.resource.api_version} | obj
        rows.append(row)
    definitions = kind.definitions if headers else []
    return {"kind": "Table", "apiVersion": f"meta.k8s.io/{form.version}",
            "metadata": {"resourceVersion": revision} if revision else {}, "columnDefinitions": definitions,
            "rows": rows}


def partial(obj: Object, form: Form) -> Object:
    """Return an object's metadata as meta.k8s.io PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{form.version}", "metadata": obj["metadata"]}


def _reply(form: Form, body: bytes, code: int = 200) -> Reply:
    body, content_type = negotiate.dump(form, body)
    return Reply(body, code, content_type)
