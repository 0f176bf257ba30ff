"""DELETE of a collection: every selected object, each as if deleted alone."""

from __future__ import annotations

from dataclasses import replace

from netlab.apiserver import render
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.selection import key_prefix, selection
from netlab.apiserver.verbs.delete import options_of, remove, warn
from netlab.apiserver.verbs.list import Page, collect, page_of
from netlab.errors import ApiError


async def deletecollection(call: Call) -> Reply:
    """Delete what is selected and answer the list of it.

    Raises:
        ApiError: 400, 403, 409 (a precondition), 422.
    """
    chosen = selection(call)
    options = await options_of(call)
    warn(call, options)
    prefix = key_prefix(call, chosen)
    page = await page_of(call)
    kvs, revision, _, _ = await collect(call, chosen, prefix, Page(limit=page.limit))
    for kv in kvs:
        metadata = call.endpoint.view(kv)["metadata"]
        one = replace(call, target=replace(call.target, verb="delete", name=metadata["name"],
                                           namespace=metadata.get("namespace", "")))
        try:
            await remove(one, options)
        except ApiError as error:
            if error.code != 404:
                raise
    if call.form.protobuf:
        return await render.packed(call, kvs, {"resourceVersion": str(revision)})
    return render.many(call, kvs, {"resourceVersion": str(revision)})
