"""Which resources the API server has, asked of the server: what namespace deletion and garbage collection go over."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import TemporaryError


async def resources(client: Client, *verbs: str) -> list[Resource]:
    """Return every resource that has these verbs, each in the preferred version of its group.

    Raises:
        TemporaryError: a group did not answer, so the list would have holes.
    """
    groups = await _get(client, "/apis")
    versions = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups["groups"])]
    found: list[Resource] = []
    for path, reply in zip(versions, await asyncio.gather(*(_get(client, path) for path in versions)), strict=True):
        group, _, version = path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")
        found += [Resource(group, version, row["kind"], row["name"], bool(row["namespaced"]))
                  for row in reply.get("resources") or []
                  if "/" not in row["name"] and set(verbs) <= set(row.get("verbs") or [])]
    return found


async def _get(client: Client, path: str) -> Object:
    status, _, body = await client.raw("GET", path)
    if status != 200:
        raise TemporaryError(f"discovery: GET {path} gave {status}")
    reply: Any = orjson.loads(body)
    return dict(reply)
