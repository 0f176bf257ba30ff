"""etcd's services Cluster and Auth, as a cluster of one member without users answers them, in etcd's words."""

from __future__ import annotations

from typing import NoReturn

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from netlab.store.faces import refusal
from netlab.store.faces.face import Face
from netlab.store.rpc import admin as pb

_ALONE = "it has one member, and no raft"
_USERS = "client certificates say who may come in"
_NO_USER, _NO_ROLE = "user name not found", "role name not found"
REFUSED: dict[str, tuple[Status, str]] = {
    "Auth/AuthEnable": (Status.FAILED_PRECONDITION, "root user does not exist"),
    "Auth/Authenticate": (Status.FAILED_PRECONDITION, "authentication is not enabled"),
    **{f"Auth/User{name}": (Status.FAILED_PRECONDITION, _NO_USER)
       for name in ("Get", "Delete", "ChangePassword", "GrantRole", "RevokeRole")},
    **{f"Auth/Role{name}": (Status.FAILED_PRECONDITION, _NO_ROLE)
       for name in ("Get", "Delete", "GrantPermission", "RevokePermission")},
}
"""Methods that an etcd refuses whose users and roles are as many as ours: none."""
UNSUPPORTED = {"Cluster/MemberAdd": _ALONE, "Maintenance/Downgrade": _ALONE}
"""Methods that an etcd would serve, and why they are refused here."""


async def member_list(face: Face, _: pb.MemberListRequest) -> pb.MemberListResponse:
    """Answer MemberList."""
    header = face.header()
    header.revision = 0  # an etcd's answer is about the cluster, and has none
    return pb.MemberListResponse(header, [
        pb.Member(face.member, face.name, list(face.peer_urls), list(face.client_urls))])


async def member_remove(face: Face, request: pb.MemberRequest) -> NoReturn:
    """Refuse MemberRemove: the last member stays."""
    _known(face, request)
    raise _failed("re-configuration failed due to not enough started members")


async def member_promote(face: Face, request: pb.MemberRequest) -> NoReturn:
    """Refuse MemberPromote: the one member votes already."""
    _known(face, request)
    raise _failed("can only promote a learner member")


async def member_update(face: Face, request: pb.MemberRequest) -> NoReturn:
    """Refuse MemberUpdate: there is no peer to tell."""
    _known(face, request)
    raise refusal.unsupported("MemberUpdate", _ALONE)


async def move_leader(face: Face, request: pb.MemberRequest) -> pb.HeaderResponse:
    """Answer MoveLeader: to the one who leads it is done."""
    if face.member != request.ID:
        raise _failed("bad leader transferee")
    return pb.HeaderResponse(face.header())


async def auth_status(face: Face, _: pb.Anything) -> pb.AuthStatusResponse:
    """Answer AuthStatus: client certificates are all there is."""
    return pb.AuthStatusResponse(face.header(), False, 1)


async def nothing(face: Face, _: pb.Anything) -> pb.HeaderResponse:
    """Answer AuthDisable, UserList and RoleList: it is off, and there are none."""
    return pb.HeaderResponse(face.header())


async def user_add(_: Face, request: pb.NameRequest) -> NoReturn:
    """Refuse UserAdd."""
    if not request.name:
        refusal.invalid("user name is empty")
    raise refusal.unsupported("UserAdd", _USERS)


async def role_add(_: Face, request: pb.NameRequest) -> NoReturn:
    """Refuse RoleAdd."""
    if not request.name:
        refusal.invalid("role name is empty")
    raise refusal.unsupported("RoleAdd", _USERS)


def _known(face: Face, request: pb.MemberRequest) -> None:
    if face.member != request.ID:
        raise GRPCError(Status.NOT_FOUND, "etcdserver: member not found")


def _failed(words: str) -> GRPCError:
    return GRPCError(Status.FAILED_PRECONDITION, f"etcdserver: {words}")
