"""What the commands print: as etcdctl does, in plain lines, JSON or a table."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from netlab.errors import UsageError
from netlab.store.etcdctl.fields import ALARMS
from netlab.store.etcdctl.fields import lines as fields_of
from netlab.store.rpc import admin as admin_pb
from netlab.store.rpc import messages as pb

Reply = TypeVar("Reply")
_SIZES = ("B", "kB", "MB", "GB")


@dataclass
class EndpointRow:
    """What one endpoint said; `took` is in seconds."""

    url: str
    status: admin_pb.StatusResponse | None = None
    took: float = 0.0
    hash: int = 0
    header: pb.ResponseHeader | None = None
    error: str = ""


class Printer:
    """Prints in one form: simple, fields, json or table; `hex` shows the bytes of keys and values in the first."""

    def __init__(self, form: str, *, hex: bool = False) -> None:
        if form not in ("simple", "fields", "json", "table", ""):
            raise UsageError(f"--write-out={form}: this etcdctl writes simple, fields, json and table")
        self.json, self.table, self.fields, self.hex = form == "json", form == "table", form == "fields", hex

    def _whole(self, message: Any, *, table: bool = False) -> bool:
        """Print a message as JSON or fields, if that is asked for; tell whether that was all."""
        if self.json:
            _json(_flat(message))
        elif self.fields:
            _fields(message)
        elif self.table and not table:
            raise UsageError("table not supported as output format")
        return self.json or self.fields

    def _pair(self, kv: pb.KeyValue) -> None:
        self._raw(kv.key)
        self._raw(kv.value)

    def _raw(self, data: bytes) -> None:
        _raw("".join(f"\\x{byte:02x}" for byte in data).encode() if self.hex else data)

    def range(self, found: pb.RangeResponse, *, keys_only: bool, values_only: bool, count_only: bool) -> None:
        """Print what a get found."""
        if self._whole(found):
            return
        if count_only:
            print(found.count)
        for kv in () if count_only else found.kvs:
            if not values_only:
                self._raw(kv.key)
            self._raw(kv.value if not keys_only else b"")

    def put(self, done: pb.PutResponse) -> None:
        """Print that a put is done."""
        if self._whole(done):
            return
        print("OK")
        if done.prev_kv is not None:
            self._pair(done.prev_kv)

    def deleted(self, done: pb.DeleteRangeResponse) -> None:
        """Print how much was deleted."""
        if self._whole(done):
            return
        print(done.deleted)
        for kv in done.prev_kvs:
            self._pair(kv)

    def txn(self, done: pb.TxnResponse) -> None:
        """Print what a transaction did."""
        if self._whole(done):
            return
        print("SUCCESS" if done.succeeded else "FAILURE")
        for row in done.responses:
            print()
            if row.response_put is not None:
                self.put(row.response_put)
            elif row.response_range is not None:
                self.range(row.response_range, keys_only=False, values_only=False, count_only=False)
            elif row.response_delete_range is not None:
                self.deleted(row.response_delete_range)

    def events(self, response: pb.WatchResponse) -> None:
        """Print what a watch saw."""
        if response.created:
            return
        if not response.events and response.header is not None:
            print(f"progress notify: {response.header.revision}")
        if self.json:  # the one answer that etcdctl writes by its client's names
            print(json.dumps({"Header": plain(response.header), "Events": plain(response.events), "CompactRevision": 0,
                              "Canceled": False, "Created": False}, separators=(",", ":")))
        elif not self._whole(response):
            for event in response.events:
                assert event.kv is not None
                print("DELETE" if event.type else "PUT")
                if event.prev_kv is not None:
                    self._pair(event.prev_kv)
                self._pair(event.kv)
        sys.stdout.flush()

    def granted(self, done: pb.LeaseGrantResponse) -> None:
        """Print a new lease."""
        if not self._whole(done):
            print(f"lease {done.ID:016x} granted with TTL({done.TTL}s)")

    def leases(self, done: pb.LeaseLeasesResponse) -> None:
        """Print all leases."""
        if self._whole(done):
            return
        print(f"found {len(done.leases)} leases")
        for row in done.leases:
            print(f"{row.ID:016x}")

    def time_to_live(self, done: pb.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        """Print how long a lease lives."""
        if self._whole(done):
            return
        if done.TTL < 0:
            print(f"lease {done.ID:016x} already expired")
        else:
            names = " ".join(key.decode(errors="replace") for key in done.keys)
            attached = f", attached keys([{names}])" if keys else ""
            print(f"lease {done.ID:016x} granted with TTL({done.grantedTTL}s), remaining({done.TTL}s){attached}")

    def alarms(self, done: admin_pb.AlarmResponse) -> None:
        """Print what is wrong with members."""
        if not self._whole(done):
            for row in done.alarms:
                print(f"memberID:{row.memberID} alarm:{ALARMS.get(row.alarm, row.alarm)} ")

    def kept_alive(self, done: pb.LeaseKeepAliveResponse) -> None:
        """Print that a lease has its whole time again."""
        if not self._whole(done):
            print(f"lease {done.ID:016x} keepalived with TTL({done.TTL})")

    def auth(self, done: admin_pb.AuthStatusResponse) -> None:
        """Print whether users have to show who they are."""
        if not self._whole(done):
            print(f"Authentication Status: {str(done.enabled).lower()}\nAuthRevision: {done.authRevision}")

    def members(self, done: admin_pb.MemberListResponse) -> None:
        """Print the members."""
        rows = [[f"{row.ID:x}", "started" if row.name else "unstarted", row.name, ",".join(row.peerURLs),
                 ",".join(row.clientURLs), str(row.isLearner).lower()] for row in done.members]
        if self._whole(done, table=True):
            return
        if self.table:
            _table(["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"], rows)
        else:
            for row in rows:
                print(", ".join(row))

    def endpoints(self, word: str, rows: Sequence[EndpointRow]) -> None:
        """Print what was asked about each endpoint."""
        if self.json:
            print(json.dumps([_endpoint(word, row) for row in rows], separators=(",", ":")))
        elif self.fields:
            for row in rows:
                if word == "health":
                    print(f'"Endpoint" : "{row.url}"\n"Health" : {str(not row.error).lower()}\n'
                          f'"Took" : {_took(row)}\n"Error" : {row.error}\n')
                else:
                    _fields(row.status if row.status is not None else row.header)
                    print(f'"Endpoint" : "{row.url}"' + (f'\n"Hash" : {row.hash}' if word == "hashkv" else "") + "\n")
        elif self.table:
            _table(_HEADS[word], [_cells(word, row) for row in rows])
        elif word == "health":
            for row in rows:
                print(f"{row.url} is unhealthy: failed to commit proposal: {row.error}" if row.error else
                      f"{row.url} is healthy: successfully committed proposal: took = {_took(row)}")
        else:
            for row in rows:
                print(", ".join(_cells(word, row)))


_HEADS = {"health": ["ENDPOINT", "HEALTH", "TOOK", "ERROR"], "hashkv": ["ENDPOINT", "HASH"],
          "status": ["ENDPOINT", "ID", "VERSION", "DB SIZE", "IS LEADER", "IS LEARNER", "RAFT TERM", "RAFT INDEX",
                     "RAFT APPLIED INDEX", "ERRORS"]}


def _endpoint(word: str, row: EndpointRow) -> dict[str, Any]:
    if word == "status":
        return {"Endpoint": row.url, "Status": plain(row.status)}
    if word == "hashkv":
        return {"Endpoint": row.url, "HashKV": {"header": plain(row.header), "hash": row.hash}}
    return {"endpoint": row.url, "health": not row.error, "took": _took(row)} | (
        {"error": row.error} if row.error else {})


def _cells(word: str, row: EndpointRow) -> list[str]:
    if word == "health":
        return [row.url, str(not row.error).lower(), _took(row), row.error]
    return [row.url, str(row.hash)] if word == "hashkv" else _status(row)


def _took(row: EndpointRow) -> str:
    return f"{row.took * 1000:.6f}ms"


def _status(row: EndpointRow) -> list[str]:
    status = row.status
    assert status is not None
    assert status.header is not None
    return [row.url, f"{status.header.member_id:x}", status.version, _size(status.dbSize),
            str(status.leader == status.header.member_id).lower(), str(status.isLearner).lower(),
            str(status.raftTerm), str(status.raftIndex), str(status.raftAppliedIndex), ", ".join(status.errors)]


def _size(count: int) -> str:
    size, at = float(count), 0
    while size >= 1000 and at < len(_SIZES) - 1:
        size, at = size / 1000, at + 1
    return f"{size:.0f} {_SIZES[at]}" if size >= 10 or not at else f"{size:.1f} {_SIZES[at]}"


def _raw(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def _flat(message: Any) -> Any:
    """Return an answer about leases as etcdctl's client has it: the header's rows among the others."""
    head = plain(getattr(message, "header", None)) or {}
    match message:
        case pb.LeaseGrantResponse():
            return {**head, "ID": message.ID, "TTL": message.TTL, "Error": message.error}
        case pb.LeaseLeasesResponse():
            return {**head, "leases": [{"id": row.ID} for row in message.leases]}
        case pb.LeaseTimeToLiveResponse():
            return {**head, "id": message.ID, "ttl": message.TTL, "granted-ttl": message.grantedTTL,
                    "keys": plain(message.keys) or None}
        case pb.LeaseKeepAliveResponse():
            return {**head, "ID": message.ID, "TTL": message.TTL}
    return plain(message)


def _fields(message: Any) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in fields_of(message)))


def _json(value: Any) -> None:
    print(json.dumps(value, separators=(",", ":")))


def plain(message: Any) -> Any:
    """Return a message as JSON has it: bytes in base64, nothing that is zero."""
    if is_dataclass(message):
        found = {field.name: plain(getattr(message, field.name)) for field in fields(message)}
        return {name: value for name, value in found.items() if value not in (None, 0, "", [], False)}
    if isinstance(message, bytes):
        return base64.b64encode(message).decode()
    return [plain(item) for item in message] if isinstance(message, list) else message


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(head), *(len(row[at]) for row in rows)) if rows else len(head) for at, head in enumerate(heads)]
    line = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    print(line)
    print("|" + "|".join(f" {head:^{width}} " for head, width in zip(heads, widths, strict=True)) + "|")
    print(line)
    for row in rows:
        print("|" + "|".join(f" {cell:>{width}} " for cell, width in zip(row, widths, strict=True)) + "|")
    print(line)
