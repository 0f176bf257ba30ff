"""A cluster's objects as they were at a revision that the store still keeps.

The API server's list with resourceVersionMatch=Exact reads the store's own history: it costs nothing while nothing
changes, is as long as the store's retention allows (--etcd-compaction-interval, --store-retention-revisions), and goes
with the lab.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import ApiError, NotFound

KINDS: Mapping[str, str] = {"services": "Service", "endpointslices.discovery.k8s.io": "EndpointSlice",
                            "nodes": "Node", "pods": "Pod"}
"""What packets' ways depend on."""

_GONE = 410
_PROBE = "namespaces"
"""A short list: compaction is the whole store's."""


async def objects(client: Client, revision: str = "") -> tuple[Object, ...]:
    """Return Services, EndpointSlices, Nodes and Pods, of now or of a revision.

    Raises:
        NotFound: the revision is compacted, names the oldest that is kept; or it is still to come.
    """
    try:
        lists = await asyncio.gather(*(client.list(resource, revision=revision, exact=bool(revision))
                                       for resource in KINDS))
    except ApiError as error:
        if not revision:
            raise
        if error.code != _GONE:
            raise NotFound(f"revision {revision}: {error}") from None
        oldest = await oldest_kept(client, int(revision))
        raise NotFound(f"revision {revision} is compacted: the oldest that is kept is {oldest}",
                       hint="the store keeps some minutes; kubectl get -o yaml tells resourceVersions") from None
    return tuple({**item, "kind": kind} for kind, (items, _) in zip(KINDS.values(), lists, strict=True)
                 for item in items)


async def oldest_kept(client: Client, compacted: int) -> int:
    """Return the oldest revision that the store can still tell of, by halving what is between: about ten questions."""
    _, newest = await client.list(_PROBE)
    low, high = compacted, int(newest)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            await client.list(_PROBE, revision=str(middle), exact=True)
            high = middle
        except ApiError as error:
            if error.code != _GONE:
                raise
            low = middle
    return high
