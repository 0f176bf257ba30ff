"""The messages of etcd's KV, Watch and Lease: numbers of etcdserverpb/rpc.proto and mvccpb/kv.proto."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from netlab.store.rpc.codec import UNSIGNED

Reply = TypeVar("Reply")
"""The message that answers a call."""


@dataclass(slots=True)
class KeyValue:
    """One key at one revision."""

    key: Annotated[bytes, 1] = b""
    create_revision: Annotated[int, 2] = 0
    mod_revision: Annotated[int, 3] = 0
    version: Annotated[int, 4] = 0
    value: Annotated[bytes, 5] = b""
    lease: Annotated[int, 6] = 0


@dataclass(slots=True)
class Event:
    """One change: `type` 0 is a put, 1 a deletion."""

    type: Annotated[int, 1] = 0
    kv: Annotated[KeyValue | None, 2] = None
    prev_kv: Annotated[KeyValue | None, 3] = None


@dataclass(slots=True)
class ResponseHeader:
    """etcd's ResponseHeader."""

    cluster_id: Annotated[int, 1, UNSIGNED] = 0
    member_id: Annotated[int, 2, UNSIGNED] = 0
    revision: Annotated[int, 3] = 0
    raft_term: Annotated[int, 4, UNSIGNED] = 0


@dataclass(slots=True)
class RangeRequest:
    """Read keys.

    `sort_order`: 0 none, 1 ascending, 2 descending; `sort_target`: 0 key, 1 version, 2 create, 3 mod, 4 value.
    """

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    limit: Annotated[int, 3] = 0
    revision: Annotated[int, 4] = 0
    sort_order: Annotated[int, 5] = 0
    sort_target: Annotated[int, 6] = 0
    serializable: Annotated[bool, 7] = False
    keys_only: Annotated[bool, 8] = False
    count_only: Annotated[bool, 9] = False
    min_mod_revision: Annotated[int, 10] = 0
    max_mod_revision: Annotated[int, 11] = 0
    min_create_revision: Annotated[int, 12] = 0
    max_create_revision: Annotated[int, 13] = 0


@dataclass(slots=True)
class RangeResponse:
    """etcd's RangeResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    kvs: Annotated[list[KeyValue], 2] = field(default_factory=list)
    more: Annotated[bool, 3] = False
    count: Annotated[int, 4] = 0


@dataclass(slots=True)
class PutRequest:
    """etcd's PutRequest."""

    key: Annotated[bytes, 1] = b""
    value: Annotated[bytes, 2] = b""
    lease: Annotated[int, 3] = 0
    prev_kv: Annotated[bool, 4] = False
    ignore_value: Annotated[bool, 5] = False
    ignore_lease: Annotated[bool, 6] = False


@dataclass(slots=True)
class PutResponse:
    """etcd's PutResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    prev_kv: Annotated[KeyValue | None, 2] = None


@dataclass(slots=True)
class DeleteRangeRequest:
    """etcd's DeleteRangeRequest."""

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    prev_kv: Annotated[bool, 3] = False


@dataclass(slots=True)
class DeleteRangeResponse:
    """etcd's DeleteRangeResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    deleted: Annotated[int, 2] = 0
    prev_kvs: Annotated[list[KeyValue], 3] = field(default_factory=list)


@dataclass(slots=True)
class RequestOp:
    """etcd's RequestOp."""

    request_range: Annotated[RangeRequest | None, 1] = None
    request_put: Annotated[PutRequest | None, 2] = None
    request_delete_range: Annotated[DeleteRangeRequest | None, 3] = None
    request_txn: Annotated[TxnRequest | None, 4] = None


@dataclass(slots=True)
class ResponseOp:
    """etcd's ResponseOp."""

    response_range: Annotated[RangeResponse | None, 1] = None
    response_put: Annotated[PutResponse | None, 2] = None
    response_delete_range: Annotated[DeleteRangeResponse | None, 3] = None
    response_txn: Annotated[TxnResponse | None, 4] = None


@dataclass(slots=True)
class Compare:
    """A condition. `result`: 0 =, 1 >, 2 <, 3 !=; `target`: 0 version, 1 create, 2 mod, 3 value, 4 lease."""

    result: Annotated[int, 1] = 0
    target: Annotated[int, 2] = 0
    key: Annotated[bytes, 3] = b""
    version: Annotated[int, 4] = 0
    create_revision: Annotated[int, 5] = 0
    mod_revision: Annotated[int, 6] = 0
    value: Annotated[bytes, 7] = b""
    lease: Annotated[int, 8] = 0
    range_end: Annotated[bytes, 64] = b""


@dataclass(slots=True)
class TxnRequest:
    """etcd's TxnRequest."""

    compare: Annotated[list[Compare], 1] = field(default_factory=list)
    success: Annotated[list[RequestOp], 2] = field(default_factory=list)
    failure: Annotated[list[RequestOp], 3] = field(default_factory=list)


@dataclass(slots=True)
class TxnResponse:
    """etcd's TxnResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    succeeded: Annotated[bool, 2] = False
    responses: Annotated[list[ResponseOp], 3] = field(default_factory=list)


@dataclass(slots=True)
class CompactionRequest:
    """etcd's CompactionRequest."""

    revision: Annotated[int, 1] = 0
    physical: Annotated[bool, 2] = False


@dataclass(slots=True)
class CompactionResponse:
    """etcd's CompactionResponse."""

    header: Annotated[ResponseHeader | None, 1] = None


@dataclass(slots=True)
class WatchCreateRequest:
    """Begin a watch. `filters`: 0 leaves out puts, 1 deletions."""

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    start_revision: Annotated[int, 3] = 0
    progress_notify: Annotated[bool, 4] = False
    filters: Annotated[list[int], 5] = field(default_factory=list)
    prev_kv: Annotated[bool, 6] = False
    watch_id: Annotated[int, 7] = 0
    fragment: Annotated[bool, 8] = False


@dataclass(slots=True)
class WatchCancelRequest:
    """etcd's WatchCancelRequest."""

    watch_id: Annotated[int, 1] = 0


@dataclass(slots=True)
class WatchProgressRequest:
    """etcd's WatchProgressRequest."""


@dataclass(slots=True)
class WatchRequest:
    """etcd's WatchRequest."""

    create_request: Annotated[WatchCreateRequest | None, 1] = None
    cancel_request: Annotated[WatchCancelRequest | None, 2] = None
    progress_request: Annotated[WatchProgressRequest | None, 3] = None


@dataclass(slots=True)
class WatchResponse:
    """etcd's WatchResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    watch_id: Annotated[int, 2] = 0
    created: Annotated[bool, 3] = False
    canceled: Annotated[bool, 4] = False
    compact_revision: Annotated[int, 5] = 0
    cancel_reason: Annotated[str, 6] = ""
    fragment: Annotated[bool, 7] = False
    events: Annotated[list[Event], 11] = field(default_factory=list)


@dataclass(slots=True)
class LeaseGrantRequest:
    """etcd's LeaseGrantRequest."""

    TTL: Annotated[int, 1] = 0
    ID: Annotated[int, 2] = 0


@dataclass(slots=True)
class LeaseGrantResponse:
    """etcd's LeaseGrantResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    ID: Annotated[int, 2] = 0
    TTL: Annotated[int, 3] = 0
    error: Annotated[str, 4] = ""


@dataclass(slots=True)
class LeaseRevokeRequest:
    """etcd's LeaseRevokeRequest."""

    ID: Annotated[int, 1] = 0


@dataclass(slots=True)
class LeaseRevokeResponse:
    """etcd's LeaseRevokeResponse."""

    header: Annotated[ResponseHeader | None, 1] = None


@dataclass(slots=True)
class LeaseKeepAliveRequest:
    """etcd's LeaseKeepAliveRequest."""

    ID: Annotated[int, 1] = 0


@dataclass(slots=True)
class LeaseKeepAliveResponse:
    """etcd's LeaseKeepAliveResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    ID: Annotated[int, 2] = 0
    TTL: Annotated[int, 3] = 0


@dataclass(slots=True)
class LeaseTimeToLiveRequest:
    """etcd's LeaseTimeToLiveRequest."""

    ID: Annotated[int, 1] = 0
    keys: Annotated[bool, 2] = False


@dataclass(slots=True)
class LeaseTimeToLiveResponse:
    """etcd's LeaseTimeToLiveResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    ID: Annotated[int, 2] = 0
    TTL: Annotated[int, 3] = 0
    grantedTTL: Annotated[int, 4] = 0  # noqa: N815
    keys: Annotated[list[bytes], 5] = field(default_factory=list)


@dataclass(slots=True)
class LeaseLeasesRequest:
    """etcd's LeaseLeasesRequest."""


@dataclass(slots=True)
class LeaseStatus:
    """etcd's LeaseStatus."""

    ID: Annotated[int, 1] = 0


@dataclass(slots=True)
class LeaseLeasesResponse:
    """etcd's LeaseLeasesResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    leases: Annotated[list[LeaseStatus], 2] = field(default_factory=list)
