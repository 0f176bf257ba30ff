"""GET of a collection: one consistent snapshot, in pages if asked for."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

from netlab.apiserver import render, status
from netlab.apiserver.call import Call
from netlab.apiserver.http import Reply
from netlab.apiserver.selection import Selection, key_prefix, selection
from netlab.apiserver.verbs import listing
from netlab.errors import ApiError
from netlab.store import Compacted, KeyValue

_EXPIRED = ("The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results. Continuing with the provided token results in an inconsistent list - objects that were "
            "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
            "list.")
_PORTION = 500


@dataclass(frozen=True, slots=True)
class Page:
    """Where a list starts: `revision` 0 is now, `after` the last key of the page before."""

    revision: int = 0
    after: bytes = b""
    limit: int = 0
    match: str = ""


async def list_(call: Call) -> Reply:
    """Answer the collection.

    Raises:
        ApiError: 400 for words that do not go together; 410 for a revision that is compacted; 504 for one to come.
    """
    chosen = selection(call)
    page = await page_of(call)
    prefix = key_prefix(call, chosen)
    kvs, revision, remaining, last = await collect(call, chosen, prefix, page)
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    if remaining:
        metadata["continue"] = _token(revision, prefix, last)
        if chosen.empty:
            metadata["remainingItemCount"] = remaining
    if call.form.protobuf:
        return await render.packed(call, kvs, metadata)
    return render.many(call, kvs, metadata)


async def page_of(call: Call) -> Page:
    """Read resourceVersion, resourceVersionMatch, limit and continue.

    Raises:
        ApiError: 400; 504 for a revision that is not reached yet.
    """
    listing.check(call.request, watch=False)
    wanted, match = call.request.arg("resourceVersion"), call.request.arg("resourceVersionMatch")
    token = call.request.arg("continue")
    limit = _limit(call.request.arg("limit"))
    revision = _number(wanted, "resourceVersion")
    if token:
        if wanted not in ("", "0"):
            raise status.bad_request("specifying resource version is not allowed when using continue")
        revision, after = _start(token, key_prefix(call, selection(call)))
        return Page(revision, after, limit, "Exact")
    exact = match == "Exact" or (limit > 0 and revision > 0 and not match)
    store = call.endpoint.folder.store
    if not await store.reach(revision):
        raise status.too_large_resource_version(revision, store.revision)
    return Page(revision if exact else 0, b"", limit, match)


async def collect(call: Call, chosen: Selection, prefix: bytes, page: Page,
                  ) -> tuple[list[KeyValue], int, int, bytes]:
    """Return the selected objects of a page, the snapshot's revision, how many keys follow, and the last key seen.

    Raises:
        ApiError: 410, with a token to go on with, when the snapshot is compacted.
    """
    folder, endpoint = call.endpoint.folder, call.endpoint
    found: list[KeyValue] = []
    revision, after = page.revision, page.after
    while True:
        want = page.limit - len(found) if page.limit and chosen.empty else _PORTION if page.limit else 0
        try:
            part = await folder.store.list(prefix, revision=revision, limit=want, after=after)
        except Compacted:
            if page.after:
                raise _expired(prefix, page.after) from None
            raise status.Expired(f"The resourceVersion for the provided list is too old: {revision}") from None
        revision = part.revision
        await endpoint.ready(part.kvs)
        for position, kv in enumerate(part.kvs):
            if chosen.empty or chosen.matches(endpoint.view(kv)):
                found.append(kv)
                if page.limit and len(found) == page.limit:
                    return found, revision, part.remaining + len(part.kvs) - position - 1, kv.key
        if not part.remaining:
            return found, revision, 0, b""
        after = part.kvs[-1].key


def _limit(text: str) -> int:
    """Return how many are wanted at once; 0 is all, and so is less."""
    digits = text.removeprefix("-")
    if text and (not (digits.isascii() and digits.isdigit()) or len(digits) > 18):
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return max(int(text or 0), 0)


def _number(text: str, name: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise status.bad_request(f'{name}: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid '
                                 'syntax')
    return int(text)


def _token(revision: int, prefix: bytes, last: bytes) -> str:
    start = last[len(prefix):].decode("utf-8", "surrogateescape") + "\0"
    return base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})).rstrip(
        b"=").decode()


def _start(token: str, prefix: bytes) -> tuple[int, bytes]:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, revision, start = value["v"], value["rv"], value["start"]
        if version != "meta.k8s.io/v1":
            raise ValueError(version)
        if not isinstance(revision, int) or not isinstance(start, str) or not start or revision == 0:
            raise ValueError(token)
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise status.bad_request("invalid continue token: continue key is not valid: encoded start key could not be "
                                 "read") from None
    return max(revision, 0), prefix + start.encode("utf-8", "surrogateescape").removesuffix(b"\0")


def _expired(prefix: bytes, after: bytes) -> ApiError:
    return status.Expired(_EXPIRED, token=_token(-1, prefix, after))
