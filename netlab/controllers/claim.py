"""Whose dependents are these: adopt what matches a selector and has no owner, let go what no longer matches.

The rules are those of k8s:pkg/controller/controller_ref_manager.go. An owner that is being deleted adopts nothing,
which is checked with the API server at the last moment: otherwise it could adopt what the garbage collector orphans.
"""

from __future__ import annotations

from collections.abc import Iterable

from netlab.api import meta
from netlab.api.meta import Object
from netlab.api.placement import selects
from netlab.client.client import Client
from netlab.client.informer import Informer
from netlab.controllers.pods import is_active
from netlab.errors import ApiError


def decide(owner: Object, selector: Object, candidates: Iterable[Object], *,
           pods: bool) -> tuple[list[Object], list[Object], list[Object]]:
    """Return (ours, to adopt, to let go) among the candidates."""
    ours, adopt, release = [], [], []
    for candidate in candidates:
        fits = selects(selector, meta.labels(candidate))
        reference = meta.controller_of(candidate)
        if reference is not None:
            if reference["uid"] != meta.uid(owner):
                continue
            if fits or meta.deleting(owner):
                ours.append(candidate)
            elif not meta.deleting(candidate):
                release.append(candidate)
        elif fits and not meta.deleting(owner) and not meta.deleting(candidate) and (not pods or is_active(candidate)):
            adopt.append(candidate)
    return ours, adopt, release


async def claim(client: Client, informer: Informer, owner: Object, selector: Object) -> list[Object]:
    """Return the owner's dependents among the objects of `informer`, after adopting and letting go."""
    candidates = informer.by_index("namespace", meta.namespace(owner))
    ours, adopt, release = decide(owner, selector, candidates, pods=informer.resource.plural == "pods")
    if adopt:
        resource = await client.resource_of(owner["apiVersion"], owner["kind"])
        fresh = await client.get(resource, meta.name(owner), meta.namespace(owner))
        if meta.uid(fresh) != meta.uid(owner) or meta.deleting(fresh):
            adopt = []
    for obj in adopt:
        references = [*(obj["metadata"].get("ownerReferences") or []), meta.owner_reference(owner)]
        ours += await _own(client, informer, obj, references)
    for obj in release:
        references = [row for row in obj["metadata"]["ownerReferences"] if row["uid"] != meta.uid(owner)]
        await _own(client, informer, obj, references)
    return ours


def index_by_namespace(obj: Object) -> list[str]:
    """Return the namespace, as an index for `claim`."""
    return [meta.namespace(obj)]


async def _own(client: Client, informer: Informer, obj: Object, references: list[Object]) -> list[Object]:
    body = {"metadata": {"uid": meta.uid(obj), "resourceVersion": obj["metadata"]["resourceVersion"],
                         "ownerReferences": references or None}}
    try:
        return [await client.patch(informer.resource, meta.name(obj), body, meta.namespace(obj))]
    except ApiError as error:
        if error.code in (404, 422):  # gone, or a namesake with another uid
            return []
        raise
