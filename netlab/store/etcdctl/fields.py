"""Answers as lines of `"Name" : value`, which is what etcdctl's --write-out=fields prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.store.rpc import admin as admin_pb
from netlab.store.rpc import messages as pb

ALARMS = {1: "NOSPACE", 2: "CORRUPT"}
_ESCAPES = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 34: r"\"", 92: r"\\"}


def lines(message: Any) -> Iterator[str]:
    """Yield the lines of a message; none for one that etcdctl has no fields for."""
    match message:
        case pb.ResponseHeader():
            yield from _rows(ClusterID=message.cluster_id, MemberID=message.member_id, Revision=message.revision,
                             RaftTerm=message.raft_term)
        case pb.RangeResponse():
            yield from lines(message.header or pb.ResponseHeader())
            for kv in message.kvs:
                yield from _kv("", kv)
            yield from _rows(More=message.more, Count=message.count)
        case pb.PutResponse():
            yield from lines(message.header or pb.ResponseHeader())
            yield from _kv("Prev", message.prev_kv)
        case pb.DeleteRangeResponse():
            yield from lines(message.header or pb.ResponseHeader())
            yield from _rows(Deleted=message.deleted)
            for kv in message.prev_kvs:
                yield from _kv("Prev", kv)
        case pb.TxnResponse():
            yield from lines(message.header or pb.ResponseHeader())
            yield from _rows(Succeeded=message.succeeded)
            for row in message.responses:
                yield from lines(row.response_put or row.response_range or row.response_delete_range)
        case pb.WatchResponse():
            yield from lines(message.header or pb.ResponseHeader())
            for event in message.events:
                yield f'"Type" : {"DELETE" if event.type else "PUT"}'
                yield from _kv("Prev", event.prev_kv)
                yield from _kv("", event.kv)
        case _:
            yield from _others(message)


def _others(message: Any) -> Iterator[str]:
    match message:
        case pb.LeaseGrantResponse() | pb.LeaseKeepAliveResponse():
            yield from lines(message.header)
            yield from _rows(ID=message.ID, TTL=message.TTL)
        case pb.LeaseTimeToLiveResponse():
            yield from lines(message.header)
            yield from _rows(ID=message.ID, TTL=message.TTL, GrantedTTL=message.grantedTTL)
            yield from (f'"Key" : {_quoted(key)}' for key in message.keys)
        case pb.LeaseLeasesResponse():
            yield from lines(message.header)
            yield from (f'"ID" : {row.ID}' for row in message.leases)
        case admin_pb.MemberListResponse():
            yield from lines(message.header)
            for row in message.members:
                yield from _rows(ID=row.ID, Name=row.name)
                yield from (f'"PeerURL" : {_quoted(url.encode())}' for url in row.peerURLs)
                yield from (f'"ClientURL" : {_quoted(url.encode())}' for url in row.clientURLs)
                yield from _rows(IsLearner=row.isLearner)
                yield ""
        case admin_pb.StatusResponse():
            yield from lines(message.header)
            yield from _rows(Version=message.version, DBSize=message.dbSize, Leader=message.leader,
                             IsLearner=message.isLearner, RaftIndex=message.raftIndex, RaftTerm=message.raftTerm,
                             RaftAppliedIndex=message.raftAppliedIndex)
            yield f'"Errors" : [{" ".join(_quoted(words.encode()) for words in message.errors)}]'
        case admin_pb.AlarmResponse():
            yield from lines(message.header)
            for alarm in message.alarms:
                yield from _rows(MemberID=alarm.memberID)
                yield f'"AlarmType" : {ALARMS.get(alarm.alarm, "NONE")}'
                yield ""
        case _:
            return


def _kv(before: str, kv: pb.KeyValue | None) -> Iterator[str]:
    if kv is not None:
        yield from _rows(**{f"{before}Key": kv.key, f"{before}CreateRevision": kv.create_revision,
                            f"{before}ModRevision": kv.mod_revision, f"{before}Version": kv.version,
                            f"{before}Value": kv.value, f"{before}Lease": kv.lease})


def _rows(**values: object) -> Iterator[str]:
    for name, value in values.items():
        shown = _quoted(value if isinstance(value, bytes) else str(value).encode()) if isinstance(value, (bytes, str)) \
            else str(value).lower()
        yield f'"{name}" : {shown}'


def _quoted(data: bytes) -> str:
    """Return bytes as Go quotes a string (%q): what is text stays, the rest is escaped."""
    found = []
    for letter in data.decode(errors="surrogateescape"):
        code = ord(letter)
        if code in _ESCAPES:
            found.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is no part of a letter
            found.append(f"\\x{code - 0xDC00:02x}")
        elif letter.isprintable():
            found.append(letter)
        else:
            found.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f'"{"".join(found)}"'
