"""The table of etcd's gRPC methods, and the server that serves it."""

from __future__ import annotations

import logging
from asyncio import BaseTransport
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream
from h2.settings import SettingCodes

from netlab.store.errors import StoreError
from netlab.store.faces import admin, kv, lease, members, refusal, watch
from netlab.store.faces.face import Face
from netlab.store.rpc import admin as admin_pb
from netlab.store.rpc import codec
from netlab.store.rpc import messages as pb

Wire: TypeAlias = Stream[Any, Any]
Unary: TypeAlias = Callable[[Face, Any], Awaitable[Any]]
Streaming: TypeAlias = Callable[[Face, Wire], Awaitable[None]]

UNARY: dict[str, tuple[Unary, type, type]] = {
    "KV/Range": (kv.range_, pb.RangeRequest, pb.RangeResponse),
    "KV/Put": (kv.put, pb.PutRequest, pb.PutResponse),
    "KV/DeleteRange": (kv.delete_range, pb.DeleteRangeRequest, pb.DeleteRangeResponse),
    "KV/Txn": (kv.txn, pb.TxnRequest, pb.TxnResponse),
    "KV/Compact": (kv.compact, pb.CompactionRequest, pb.CompactionResponse),
    "Lease/LeaseGrant": (lease.grant, pb.LeaseGrantRequest, pb.LeaseGrantResponse),
    "Lease/LeaseRevoke": (lease.revoke, pb.LeaseRevokeRequest, pb.LeaseRevokeResponse),
    "Lease/LeaseTimeToLive": (lease.time_to_live, pb.LeaseTimeToLiveRequest, pb.LeaseTimeToLiveResponse),
    "Lease/LeaseLeases": (lease.leases, pb.LeaseLeasesRequest, pb.LeaseLeasesResponse),
    "Cluster/MemberList": (members.member_list, admin_pb.MemberListRequest, admin_pb.MemberListResponse),
    "Cluster/MemberRemove": (members.member_remove, admin_pb.MemberRequest, admin_pb.Anything),
    "Cluster/MemberUpdate": (members.member_update, admin_pb.MemberRequest, admin_pb.Anything),
    "Cluster/MemberPromote": (members.member_promote, admin_pb.MemberRequest, admin_pb.Anything),
    "Maintenance/Status": (admin.status, admin_pb.StatusRequest, admin_pb.StatusResponse),
    "Maintenance/Alarm": (admin.alarm, admin_pb.AlarmRequest, admin_pb.AlarmResponse),
    "Maintenance/Defragment": (admin.defragment, admin_pb.DefragmentRequest, admin_pb.DefragmentResponse),
    "Maintenance/Hash": (admin.hash_, admin_pb.HashRequest, admin_pb.HashResponse),
    "Maintenance/HashKV": (admin.hash_kv, admin_pb.HashKVRequest, admin_pb.HashKVResponse),
    "Maintenance/MoveLeader": (members.move_leader, admin_pb.MemberRequest, admin_pb.HeaderResponse),
    "Auth/AuthStatus": (members.auth_status, admin_pb.Anything, admin_pb.AuthStatusResponse),
    "Auth/AuthDisable": (members.nothing, admin_pb.Anything, admin_pb.HeaderResponse),
    "Auth/UserList": (members.nothing, admin_pb.Anything, admin_pb.HeaderResponse),
    "Auth/RoleList": (members.nothing, admin_pb.Anything, admin_pb.HeaderResponse),
    "Auth/UserAdd": (members.user_add, admin_pb.NameRequest, admin_pb.Anything),
    "Auth/RoleAdd": (members.role_add, admin_pb.NameRequest, admin_pb.Anything),
}
"""Service and method → what answers, its request, its response."""

STREAMING: dict[str, tuple[Streaming, Cardinality, type, type]] = {
    "Watch/Watch": (watch.serve, Cardinality.STREAM_STREAM, pb.WatchRequest, pb.WatchResponse),
    "Lease/LeaseKeepAlive": (lease.keep_alive, Cardinality.STREAM_STREAM, pb.LeaseKeepAliveRequest,
                             pb.LeaseKeepAliveResponse),
    "Maintenance/Snapshot": (admin.snapshot, Cardinality.UNARY_STREAM, admin_pb.SnapshotRequest,
                             admin_pb.SnapshotResponse),
}


_STREAMS = 1 << 20


class Codec(CodecBase):
    """Messages to bytes and back, for grpclib."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """Return a message's bytes."""
        assert isinstance(message, message_type)
        return codec.encode(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Return the message in some bytes. Raises GRPCError in the words of Go's gRPC."""
        try:
            return codec.decode(data, message_type)
        except codec.Malformed as error:
            raise GRPCError(Status.INTERNAL, f"grpc: failed to unmarshal the received message: {error}") from None


class V3:
    """Makes the protocol of each HTTP/2 connection."""

    def __init__(self, face: Face) -> None:
        logging.getLogger("grpclib").setLevel(logging.ERROR)
        self._server = Server([_Services(face)], codec=Codec(), config=Configuration(
            http2_connection_window_size=16 * 1024 * 1024, http2_stream_window_size=4 * 1024 * 1024))

    def protocol(self) -> H2Protocol:
        """Return the protocol of a new connection."""
        made = self._server._protocol_factory()  # noqa: SLF001 - its own `start` would listen by itself
        return _Protocol(made.handler, made.config, made.h2_config)


class _Protocol(H2Protocol):
    """Lets a client have as many streams as it likes, as etcd does: the usual 100 are few where each is a watch."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.connection._connection.update_settings(  # noqa: SLF001 - grpclib has no setting for it
            {SettingCodes.MAX_CONCURRENT_STREAMS: _STREAMS})
        self.connection.flush()


class _Services:
    def __init__(self, face: Face) -> None:
        self._face = face

    def __mapping__(self) -> dict[str, Handler]:
        rows: dict[str, Handler] = {}
        for name, (unary, request, response) in UNARY.items():
            rows[_path(name)] = Handler(self._unary(unary), Cardinality.UNARY_UNARY, request, response)
        for name, (streaming, cardinality, request, response) in STREAMING.items():
            rows[_path(name)] = Handler(self._streaming(streaming), cardinality, request, response)
        refused = {name: GRPCError(status, f"etcdserver: {words}")
                   for name, (status, words) in members.REFUSED.items()}
        refused |= {name: refusal.unsupported(name.rpartition("/")[2], why)
                    for name, why in members.UNSUPPORTED.items()}
        for name, error in refused.items():
            rows[_path(name)] = Handler(_refuse(error), Cardinality.UNARY_UNARY, admin_pb.Anything, admin_pb.Anything)
        return rows

    def _unary(self, method: Unary) -> Callable[[Wire], Awaitable[None]]:
        async def serve(stream: Wire) -> None:
            request = await stream.recv_message()
            if request is None:
                return
            try:
                response = await method(self._face, request)
            except StoreError as error:
                raise refusal.translated(error) from None
            await stream.send_message(response)

        return serve

    def _streaming(self, method: Streaming) -> Callable[[Wire], Awaitable[None]]:
        async def serve(stream: Wire) -> None:
            try:
                await method(self._face, stream)
            except StoreError as error:
                raise refusal.translated(error) from None

        return serve


def _refuse(error: GRPCError) -> Callable[[Wire], Awaitable[None]]:
    async def serve(_: Wire) -> None:
        raise GRPCError(error.status, error.message)

    return serve


def _path(name: str) -> str:
    return f"/etcdserverpb.{name}"
