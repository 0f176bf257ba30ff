"""The messages of etcd's services Cluster, Maintenance and Auth: numbers of etcdserverpb/rpc.proto."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from netlab.store.rpc.codec import UNSIGNED
from netlab.store.rpc.messages import ResponseHeader


@dataclass(slots=True)
class Member:
    """etcd's Member."""

    ID: Annotated[int, 1, UNSIGNED] = 0
    name: Annotated[str, 2] = ""
    peerURLs: Annotated[list[str], 3] = field(default_factory=list)  # noqa: N815
    clientURLs: Annotated[list[str], 4] = field(default_factory=list)  # noqa: N815
    isLearner: Annotated[bool, 5] = False  # noqa: N815


@dataclass(slots=True)
class MemberListRequest:
    """etcd's MemberListRequest."""

    linearizable: Annotated[bool, 1] = False


@dataclass(slots=True)
class MemberListResponse:
    """etcd's MemberListResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    members: Annotated[list[Member], 2] = field(default_factory=list)


@dataclass(slots=True)
class DefragmentRequest:
    """etcd's DefragmentRequest."""


@dataclass(slots=True)
class DefragmentResponse:
    """etcd's DefragmentResponse."""

    header: Annotated[ResponseHeader | None, 1] = None


@dataclass(slots=True)
class AlarmMember:
    """etcd's AlarmMember."""

    memberID: Annotated[int, 1, UNSIGNED] = 0  # noqa: N815
    alarm: Annotated[int, 2] = 0


@dataclass(slots=True)
class AlarmRequest:
    """`action`: 0 get, 1 activate, 2 deactivate; `alarm`: 0 any, 1 no space, 2 corrupt."""

    action: Annotated[int, 1] = 0
    memberID: Annotated[int, 2, UNSIGNED] = 0  # noqa: N815
    alarm: Annotated[int, 3] = 0


@dataclass(slots=True)
class AlarmResponse:
    """etcd's AlarmResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    alarms: Annotated[list[AlarmMember], 2] = field(default_factory=list)


@dataclass(slots=True)
class StatusRequest:
    """etcd's StatusRequest."""


@dataclass(slots=True)
class StatusResponse:
    """etcd's StatusResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    version: Annotated[str, 2] = ""
    dbSize: Annotated[int, 3] = 0  # noqa: N815
    leader: Annotated[int, 4, UNSIGNED] = 0
    raftIndex: Annotated[int, 5, UNSIGNED] = 0  # noqa: N815
    raftTerm: Annotated[int, 6, UNSIGNED] = 0  # noqa: N815
    raftAppliedIndex: Annotated[int, 7, UNSIGNED] = 0  # noqa: N815
    errors: Annotated[list[str], 8] = field(default_factory=list)
    dbSizeInUse: Annotated[int, 9] = 0  # noqa: N815
    isLearner: Annotated[bool, 10] = False  # noqa: N815
    storageVersion: Annotated[str, 11] = ""  # noqa: N815
    dbSizeQuota: Annotated[int, 12] = 0  # noqa: N815


@dataclass(slots=True)
class HashRequest:
    """etcd's HashRequest."""


@dataclass(slots=True)
class HashResponse:
    """etcd's HashResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    hash: Annotated[int, 2, UNSIGNED] = 0


@dataclass(slots=True)
class HashKVRequest:
    """etcd's HashKVRequest."""

    revision: Annotated[int, 1] = 0


@dataclass(slots=True)
class HashKVResponse:
    """etcd's HashKVResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    hash: Annotated[int, 2, UNSIGNED] = 0
    compact_revision: Annotated[int, 3] = 0
    hash_revision: Annotated[int, 4] = 0


@dataclass(slots=True)
class SnapshotRequest:
    """etcd's SnapshotRequest."""


@dataclass(slots=True)
class SnapshotResponse:
    """etcd's SnapshotResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    remaining_bytes: Annotated[int, 2, UNSIGNED] = 0
    blob: Annotated[bytes, 3] = b""
    version: Annotated[str, 4] = ""


@dataclass(slots=True)
class MemberRequest:
    """etcd's MemberRemoveRequest, MemberUpdateRequest, MemberPromoteRequest, MoveLeaderRequest: whom they are about."""

    ID: Annotated[int, 1, UNSIGNED] = 0


@dataclass(slots=True)
class NameRequest:
    """etcd's AuthUserAddRequest, AuthRoleAddRequest: the name."""

    name: Annotated[str, 1] = ""


@dataclass(slots=True)
class HeaderResponse:
    """An answer that says no more than that it was done."""

    header: Annotated[ResponseHeader | None, 1] = None


@dataclass(slots=True)
class AuthStatusResponse:
    """etcd's AuthStatusResponse."""

    header: Annotated[ResponseHeader | None, 1] = None
    enabled: Annotated[bool, 2] = False
    authRevision: Annotated[int, 3, UNSIGNED] = 0  # noqa: N815


@dataclass(slots=True)
class Anything:
    """A request that is answered alike whatever it says."""
