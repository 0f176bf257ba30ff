"""What the commands print: as etcdctl does, in plain lines, JSON or a table."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from netlab.errors import UsageError
from netlab.store.rpc import admin as admin_pb
from netlab.store.rpc import messages as pb

Reply = TypeVar("Reply")
ALARMS = {1: "NOSPACE", 2: "CORRUPT"}
_SIZES = ("B", "kB", "MB", "GB")


@dataclass
class EndpointRow:
    """What one endpoint said; `took` is in seconds."""

    url: str
    status: admin_pb.StatusResponse | None = None
    took: float = 0.0
    hash: int = 0
    error: str = ""


class Printer:
    """Prints in one form: simple, json or table."""

    def __init__(self, form: str) -> None:
        if form not in ("simple", "json", "table", ""):
            raise UsageError(f"--write-out={form}: this etcdctl writes simple, json and table")
        self.json, self.table = form == "json", form == "table"

    def range(self, found: pb.RangeResponse, *, keys_only: bool, values_only: bool, count_only: bool) -> None:
        """Print what a get found."""
        if self.json:
            _json(found)
        elif count_only:
            print(found.count)
        else:
            for kv in found.kvs:
                if not values_only:
                    _raw(kv.key)
                _raw(kv.value if not keys_only else b"")

    def put(self, done: pb.PutResponse) -> None:
        """Print that a put is done."""
        if self.json:
            _json(done)
            return
        print("OK")
        if done.prev_kv is not None:
            _pair(done.prev_kv)

    def deleted(self, done: pb.DeleteRangeResponse) -> None:
        """Print how much was deleted."""
        if self.json:
            _json(done)
            return
        print(done.deleted)
        for kv in done.prev_kvs:
            _pair(kv)

    def txn(self, done: pb.TxnResponse) -> None:
        """Print what a transaction did."""
        if self.json:
            _json(done)
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
        if self.json:
            if not response.created:
                _json(response)
        elif not response.events and not response.created and response.header is not None:
            print(f"progress notify: {response.header.revision}")
        for event in () if self.json else response.events:
            assert event.kv is not None
            print("DELETE" if event.type else "PUT")
            if event.prev_kv is not None:
                _pair(event.prev_kv)
            _raw(event.kv.key)
            _raw(event.kv.value)
        sys.stdout.flush()

    def granted(self, done: pb.LeaseGrantResponse) -> None:
        """Print a new lease."""
        if self.json:
            _json(done)
        else:
            print(f"lease {done.ID:016x} granted with TTL({done.TTL}s)")

    def leases(self, done: pb.LeaseLeasesResponse) -> None:
        """Print all leases."""
        if self.json:
            _json(done)
            return
        print(f"found {len(done.leases)} leases")
        for row in done.leases:
            print(f"{row.ID:016x}")

    def time_to_live(self, done: pb.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        """Print how long a lease lives."""
        if self.json:
            _json(done)
        elif done.TTL < 0:
            print(f"lease {done.ID:016x} already expired")
        else:
            names = " ".join(key.decode(errors="replace") for key in done.keys)
            attached = f", attached keys([{names}])" if keys else ""
            print(f"lease {done.ID:016x} granted with TTL({done.grantedTTL}s), remaining({done.TTL}s){attached}")

    def members(self, done: admin_pb.MemberListResponse) -> None:
        """Print the members."""
        rows = [[f"{row.ID:x}", "started" if row.name else "unstarted", row.name, ",".join(row.peerURLs),
                 ",".join(row.clientURLs), str(row.isLearner).lower()] for row in done.members]
        if self.json:
            _json(done)
        elif self.table:
            _table(["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"], rows)
        else:
            for row in rows:
                print(", ".join(row))

    def endpoints(self, word: str, rows: Sequence[EndpointRow]) -> None:
        """Print what was asked about each endpoint."""
        if word == "health":
            for row in rows:
                print(f"{row.url} is unhealthy: failed to commit proposal: {row.error}" if row.error else
                      f"{row.url} is healthy: successfully committed proposal: took = {row.took * 1000:.6f}ms")
        elif word == "hashkv":
            for row in rows:
                print(f"{row.url}, {row.hash}")
        elif self.json:
            print(json.dumps([{"Endpoint": row.url, "Status": plain(row.status)} for row in rows]))
        else:
            cells = [_status(row) for row in rows]
            if self.table:
                _table(["ENDPOINT", "ID", "VERSION", "DB SIZE", "IS LEADER", "IS LEARNER", "RAFT TERM", "RAFT INDEX",
                        "RAFT APPLIED INDEX", "ERRORS"], cells)
            else:
                for cell in cells:
                    print(", ".join(cell))


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


def _pair(kv: pb.KeyValue) -> None:
    _raw(kv.key)
    _raw(kv.value)


def _raw(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def _json(message: Any) -> None:
    print(json.dumps(plain(message), separators=(",", ":")))


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
