"""The commands of API version 3."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from grpclib.exceptions import GRPCError

from netlab.errors import NetlabError, TemporaryError, UsageError
from netlab.store.etcdctl import show, txn
from netlab.store.etcdctl.show import Printer
from netlab.store.model import prefix_end
from netlab.store.rpc import admin as admin_pb
from netlab.store.rpc import messages as pb
from netlab.store.rpc.client import UNREACHABLE, Client
from netlab.store.rpc.tls import tls

if TYPE_CHECKING:
    from netlab.store.etcdctl.main import Access

HELP = """netlab's own etcdctl, for a machine without etcd-client.

Usage:
  etcdctl [--endpoints URL,…] [--cacert FILE --cert FILE --key FILE] [-w simple|fields|json|table] [--hex] COMMAND

Commands:
  get KEY [END] [--prefix] [--from-key] [--keys-only] [--print-value-only] [--count-only] [--limit N] [--rev N]
      [--order ASCEND|DESCEND] [--sort-by KEY|VERSION|CREATE|MODIFY|VALUE]
  put KEY [VALUE] [--lease ID] [--prev-kv] [--ignore-value] [--ignore-lease]     (no VALUE: standard input)
  del KEY [END] [--prefix] [--from-key] [--prev-kv]
  watch KEY [END] [--prefix] [--rev N] [--prev-kv] [--progress-notify]
  txn                                    compares, operations, operations if not; an empty line after each
  lease grant SECONDS | revoke ID | timetolive ID [--keys] | list | keep-alive ID [--once]
  compaction REVISION     defrag         alarm list            snapshot save FILE      auth status
  endpoint status|health|hashkv          member list           version
  ls [PATH] [--recursive]                API version 2 (ETCDCTL_API=2)
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}")


class Session:
    """What a command has at hand."""

    def __init__(self, access: Access) -> None:
        self.access = access
        context = tls(ca=access.cacert, certificate=access.cert, key=access.key, insecure=access.insecure) \
            if any(text.startswith("https") for text in access.endpoints) else None
        self.client = Client(access.endpoints, context)
        self.printer = Printer(access.output, hex=access.hex)

    async def call(self, method: str, request: object, kind: type[show.Reply]) -> show.Reply:
        """Call a method; the answer to it is what is returned."""
        return await self.client.call(method, request, kind, timeout=self.access.timeout)


async def run(command: str, access: Access, rest: Sequence[str]) -> int:
    """Run one command. Returns the exit code."""
    session = Session(access)
    try:
        return await COMMANDS[command](session, rest) or 0
    except GRPCError as error:
        raise NetlabError(error.message or error.status.name.lower()) from None
    except UNREACHABLE as error:
        raise TemporaryError(f"{session.client.endpoint}: {error or 'no answer'}") from None
    finally:
        session.client.close()


def _range_parser(name: str) -> _Parser:
    parser = _Parser(f"etcdctl {name}", add_help=False)
    parser.add_argument("key", nargs="?")
    parser.add_argument("end", nargs="?")
    parser.add_argument("--prefix", action="store_true")
    parser.add_argument("--from-key", action="store_true")
    parser.add_argument("--rev", type=int, default=0)
    parser.add_argument("--prev-kv", action="store_true")
    return parser


def span(args: argparse.Namespace) -> tuple[bytes, bytes]:
    """Return the first key, and the end of the range that key, END, --prefix or --from-key mean."""
    if args.key is None:
        raise UsageError("this command needs a key")
    key = os.fsencode(args.key)
    if args.prefix:
        return key or b"\0", prefix_end(key)
    if args.from_key:
        return key or b"\0", b"\0"
    return key, os.fsencode(args.end) if args.end is not None else b""


async def _get(session: Session, rest: Sequence[str]) -> None:
    parser = _range_parser("get")
    for flag in ("--keys-only", "--print-value-only", "--count-only"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--order", type=str.upper, choices=("", "ASCEND", "DESCEND"), default="")
    parser.add_argument("--sort-by", type=str.upper, choices=("", *_SORT), default="")
    parser.add_argument("--consistency", choices=("l", "s"), default="l")
    args = parser.parse_intermixed_args(flat(rest))
    key, end = span(args)
    found = await session.call("KV/Range", pb.RangeRequest(
        key, end, args.limit, args.rev, {"": 0, "ASCEND": 1, "DESCEND": 2}[args.order],
        _SORT.index(args.sort_by) if args.sort_by else 0, args.consistency == "s", args.keys_only, args.count_only),
        pb.RangeResponse)
    session.printer.range(found, keys_only=args.keys_only, values_only=args.print_value_only,
                          count_only=args.count_only)


_SORT = ("KEY", "VERSION", "CREATE", "MODIFY", "VALUE")


async def _put(session: Session, rest: Sequence[str]) -> None:
    parser = _Parser("etcdctl put", add_help=False)
    parser.add_argument("key")
    parser.add_argument("value", nargs="?")
    parser.add_argument("--lease", type=lambda text: int(text, 16), default=0)
    for flag in ("--prev-kv", "--ignore-value", "--ignore-lease"):
        parser.add_argument(flag, action="store_true")
    args = parser.parse_intermixed_args(flat(rest))
    value = b"" if args.ignore_value else sys.stdin.buffer.read() if args.value is None else os.fsencode(args.value)
    done = await session.call("KV/Put", pb.PutRequest(
        os.fsencode(args.key), value, args.lease, args.prev_kv, args.ignore_value, args.ignore_lease), pb.PutResponse)
    session.printer.put(done)


async def _del(session: Session, rest: Sequence[str]) -> None:
    args = _range_parser("del").parse_intermixed_args(flat(rest))
    key, end = span(args)
    session.printer.deleted(await session.call(
        "KV/DeleteRange", pb.DeleteRangeRequest(key, end, args.prev_kv), pb.DeleteRangeResponse))


async def _txn(session: Session, rest: Sequence[str]) -> None:
    if sys.stdin.isatty() and not set(rest) <= {"-i", "--interactive", "--interactive=true"}:
        raise UsageError("etcdctl txn takes its lines from standard input")
    request = txn.read(sys.stdin, prompt=sys.stdin.isatty())
    session.printer.txn(await session.call("KV/Txn", request, pb.TxnResponse))


async def _watch(session: Session, rest: Sequence[str]) -> None:
    parser = _range_parser("watch")
    parser.add_argument("--progress-notify", action="store_true")
    args = parser.parse_intermixed_args(flat(rest))
    key, end = span(args)
    create = pb.WatchCreateRequest(key, end, args.rev, args.progress_notify, prev_kv=args.prev_kv)
    async with session.client.stream("Watch/Watch", pb.WatchRequest, pb.WatchResponse) as stream:
        await stream.send_message(pb.WatchRequest(create_request=create))
        async for response in stream:
            if response.canceled:
                raise NetlabError("etcdserver: mvcc: required revision has been compacted" if response.compact_revision
                                  else response.cancel_reason or "watch was canceled by the server")
            session.printer.events(response)
    raise TemporaryError(f"{session.client.endpoint}: the server ended the watch")


async def _lease(session: Session, rest: Sequence[str]) -> None:
    words = [word for word in rest if not word.startswith("-")]
    if not words:
        raise UsageError("etcdctl lease: want grant, revoke, timetolive, list or keep-alive")
    if words[0] == "list":
        session.printer.leases(await session.call("Lease/LeaseLeases", pb.LeaseLeasesRequest(),
                                                  pb.LeaseLeasesResponse))
        return
    if len(words) < 2:
        raise UsageError(f"lease {words[0]} command needs an argument")
    base = 10 if words[0] == "grant" else 16
    try:
        number = int(words[1], base)
    except ValueError:
        raise UsageError(f'lease {words[0]}: "{words[1]}" is no number to the base {base}') from None
    if words[0] == "grant":
        session.printer.granted(await session.call("Lease/LeaseGrant", pb.LeaseGrantRequest(number),
                                                   pb.LeaseGrantResponse))
    elif words[0] == "revoke":
        await session.call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(number), pb.LeaseRevokeResponse)
        print(f"lease {number:016x} revoked")
    elif words[0] == "timetolive":
        session.printer.time_to_live(await session.call(
            "Lease/LeaseTimeToLive", pb.LeaseTimeToLiveRequest(number, "--keys" in rest),
            pb.LeaseTimeToLiveResponse), keys="--keys" in rest)
    elif words[0] == "keep-alive":
        await _keep_alive(session, number, once="--once" in rest)
    else:
        raise UsageError(f'unknown command "lease {words[0]}" for "etcdctl"')


async def _keep_alive(session: Session, number: int, *, once: bool) -> None:
    async with session.client.stream("Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest,
                                     pb.LeaseKeepAliveResponse) as stream:
        while True:
            await stream.send_message(pb.LeaseKeepAliveRequest(number), end=once)
            answer = await stream.recv_message()
            if answer is None or not answer.TTL:
                print(f"lease {number:016x} expired or revoked.")
                return
            session.printer.kept_alive(answer)
            if once:
                return
            await asyncio.sleep(answer.TTL / 3)


async def _compaction(session: Session, rest: Sequence[str]) -> None:
    words = [word for word in rest if not word.startswith("-")]
    if len(words) != 1 or not words[0].isdigit():
        raise UsageError("compaction command needs 1 argument: a revision")
    await session.call("KV/Compact", pb.CompactionRequest(int(words[0]), "--physical" in rest), pb.CompactionResponse)
    print(f"compacted revision {words[0]}")


async def _endpoint(session: Session, rest: Sequence[str]) -> int:
    word = rest[0] if rest else ""
    if word not in ("status", "health", "hashkv"):
        raise UsageError("etcdctl endpoint: want status, health or hashkv")
    rows: list[show.EndpointRow] = []
    for url in session.access.endpoints:
        one = Session(_only(session.access, url))
        try:
            rows.append(await _look(one, url, word))
        except (GRPCError, NetlabError) as error:
            if word != "health":
                raise
            rows.append(show.EndpointRow(url, error=str(getattr(error, "message", "") or error)))
        finally:
            one.client.close()
    session.printer.endpoints(word, rows)
    return 1 if any(row.error for row in rows) else 0


def _only(access: Access, url: str) -> Access:
    return replace(access, endpoints=(url,))


async def _look(session: Session, url: str, word: str) -> show.EndpointRow:
    begun = time.perf_counter()
    if word == "health":
        await session.call("KV/Range", pb.RangeRequest(b"health"), pb.RangeResponse)
        return show.EndpointRow(url, took=time.perf_counter() - begun)
    if word == "hashkv":
        done = await session.call("Maintenance/HashKV", admin_pb.HashKVRequest(), admin_pb.HashKVResponse)
        return show.EndpointRow(url, hash=done.hash, header=done.header)
    return show.EndpointRow(url, status=await session.call("Maintenance/Status", admin_pb.StatusRequest(),
                                                           admin_pb.StatusResponse))


async def _member(session: Session, rest: Sequence[str]) -> None:
    if list(rest[:1]) != ["list"]:
        raise UsageError("etcdctl member: only `member list` is here: the store has one member")
    session.printer.members(await session.call("Cluster/MemberList", admin_pb.MemberListRequest(),
                                               admin_pb.MemberListResponse))


async def _alarm(session: Session, rest: Sequence[str]) -> None:
    if list(rest[:1]) != ["list"]:
        raise UsageError("etcdctl alarm: only `alarm list` is here")
    session.printer.alarms(await session.call("Maintenance/Alarm", admin_pb.AlarmRequest(), admin_pb.AlarmResponse))


async def _defrag(session: Session, _: Sequence[str]) -> None:
    await session.call("Maintenance/Defragment", admin_pb.DefragmentRequest(), admin_pb.DefragmentResponse)
    print(f"Finished defragmenting etcd member[{session.client.endpoint}]")


async def _snapshot(session: Session, rest: Sequence[str]) -> None:
    if list(rest[:1]) == ["restore"]:
        raise UsageError("etcdctl snapshot restore makes the directory of a real etcd: install etcd-client for it",
                         hint="for netlab's own store: python -m netlab.store.restore FILE DIRECTORY")
    if len(rest) != 2 or rest[0] != "save":
        raise UsageError("etcdctl snapshot: want save FILE")
    path = Path(rest[1])
    part = path.with_name(f"{path.name}.part")
    digest, last = hashlib.sha256(), b""
    try:
        with part.open("wb") as file:
            async with session.client.stream("Maintenance/Snapshot", admin_pb.SnapshotRequest,
                                             admin_pb.SnapshotResponse) as stream:
                await stream.send_message(admin_pb.SnapshotRequest(), end=True)
                async for chunk in stream:
                    digest.update(last)
                    last = chunk.blob
                    file.write(last)
        if digest.digest() != last:
            raise NetlabError("the snapshot came damaged: its checksum does not fit")
        part.rename(path)
    except OSError as error:
        raise NetlabError(f"{path}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    print(f"Snapshot saved at {path}")


async def _auth(session: Session, rest: Sequence[str]) -> None:
    if list(rest) != ["status"]:
        raise UsageError("etcdctl auth: only `auth status` is here")
    session.printer.auth(await session.call("Auth/AuthStatus", admin_pb.Anything(), admin_pb.AuthStatusResponse))


async def _version(_: Session, __: Sequence[str]) -> None:
    print("etcdctl version: netlab's own\nAPI version: 3.5")


def flat(rest: Sequence[str]) -> list[str]:
    """Return the words with switches as argparse wants them: `--prefix=true` without a value."""
    words: list[str] = []
    for word in rest:
        name, equals, value = word.partition("=")
        if word.startswith("--") and equals and value in ("true", "false"):
            if value == "true":
                words.append(name)
        else:
            words.append(word)
    return words


COMMANDS: dict[str, Callable[[Session, Sequence[str]], Awaitable[int | None]]] = {
    "get": _get, "put": _put, "del": _del, "txn": _txn, "watch": _watch, "lease": _lease, "compaction": _compaction,
    "endpoint": _endpoint, "member": _member, "alarm": _alarm, "defrag": _defrag, "snapshot": _snapshot, "auth": _auth,
    "version": _version,
}
"""Name → what runs it."""
