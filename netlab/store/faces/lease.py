"""etcd's service Lease."""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from netlab.store.errors import LeaseMissing
from netlab.store.faces.face import Face
from netlab.store.rpc import messages as pb

if TYPE_CHECKING:
    from grpclib.server import Stream

SHORTEST = 2
"""Seconds; etcd grants no less with its default election timeout."""
LONGEST = 9_000_000_000


async def grant(face: Face, request: pb.LeaseGrantRequest) -> pb.LeaseGrantResponse:
    """Answer LeaseGrant."""
    if request.TTL > LONGEST:
        raise GRPCError(Status.OUT_OF_RANGE, "etcdserver: too large lease TTL")
    identity = request.ID or secrets.randbits(62) | 1
    lease = await face.store.grant(max(request.TTL, SHORTEST), identity)
    return pb.LeaseGrantResponse(face.header(), lease.id, lease.ttl)


async def revoke(face: Face, request: pb.LeaseRevokeRequest) -> pb.LeaseRevokeResponse:
    """Answer LeaseRevoke."""
    await face.store.revoke(request.ID)
    return pb.LeaseRevokeResponse(face.header())


async def keep_alive(face: Face, stream: Stream[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) -> None:
    """Answer LeaseKeepAlive; a lease that is gone gets a TTL of 0."""
    async for request in stream:
        try:
            ttl = (await face.store.renew(request.ID)).ttl
        except LeaseMissing:
            ttl = 0
        await stream.send_message(pb.LeaseKeepAliveResponse(face.header(), request.ID, ttl))


async def time_to_live(face: Face, request: pb.LeaseTimeToLiveRequest) -> pb.LeaseTimeToLiveResponse:
    """Answer LeaseTimeToLive; a lease that is gone has a TTL of -1."""
    leases = face.store.leases()
    lease = leases.get(request.ID)
    if lease is None:
        return pb.LeaseTimeToLiveResponse(face.header(), request.ID, -1)
    left = max(math.floor(lease.expires - face.store.now), 0)
    return pb.LeaseTimeToLiveResponse(face.header(), lease.id, left, lease.ttl,
                                      leases.keys(lease.id) if request.keys else [])


async def leases(face: Face, _: pb.LeaseLeasesRequest) -> pb.LeaseLeasesResponse:
    """Answer LeaseLeases: first what ends first."""
    rows = sorted(face.store.leases().all(), key=lambda lease: lease.expires)
    return pb.LeaseLeasesResponse(face.header(), [pb.LeaseStatus(lease.id) for lease in rows])
